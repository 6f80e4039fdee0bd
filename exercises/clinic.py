"""Trainings that are ill: the patients of lesson 10's clinic.

The notebook shows them as A to H, without their names: reading on spoils the exercise.
"""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from going_modular.datasets import FashionMNISTTensors


@functools.cache
def _clothes() -> FashionMNISTTensors:
    return FashionMNISTTensors("data")


class Patient:
    """A training of a small network on pictures of clothes, with all that it needs.

    Each part may be replaced: ``model``, ``optimizer``, ``batch_size``, ``images`` and
    ``labels`` to learn from, ``valid_images`` and ``valid_labels`` to be judged by,
    ``load`` (numbers of pictures -> X, y) and ``before_judging`` (called without
    arguments).
    """

    def __init__(self, seed: int = 0):
        draw = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model: nn.Module = nn.Sequential(
                nn.Flatten(),
                *[nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.2)],
                *[nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2)],
                *[nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)],
            )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=4e-3)
        self.batch_size = 100
        data = _clothes()
        chosen = torch.randperm(len(data), generator=draw)[:2_500].tolist()
        X, y = data.__getitems__(chosen)
        self.images, self.valid_images = X[:2_000], X[2_000:]  # (N, 1, 28, 28), 0..1
        self.labels, self.valid_labels = y[:2_000], y[2_000:]
        self.load: Callable = self.load_batch
        self.before_judging: Callable = self.stop_learning

    def load_batch(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the pictures with these numbers, normalized, and their labels."""
        return (self.images[numbers] - 0.286) / 0.353, self.labels[numbers]

    def stop_learning(self) -> None:
        """Switch the model to evaluation mode."""
        self.model.eval()

    def step(self, numbers: torch.Tensor) -> float:
        """Learn from the pictures with these numbers and return the loss."""
        self.model.train()
        X, y = self.load(numbers)
        loss = F.cross_entropy(self.model(X), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def train(self, epochs: int = 5) -> list[float]:
        """Train in batches and return the loss of each."""
        losses = []
        for _ in range(epochs):
            order = torch.randperm(len(self.labels))
            for numbers in order.split(self.batch_size):
                losses.append(self.step(numbers))
        return losses

    @torch.no_grad()
    def judge(self) -> float:
        """Return the accuracy on the valid pictures."""
        self.before_judging()
        found = self.logits().argmax(dim=1)
        return (found == self.valid_labels).float().mean().item()

    @torch.no_grad()
    def logits(self) -> torch.Tensor:
        """Return the answers on the valid pictures, in the mode the model is in."""
        return self.model((self.valid_images - 0.286) / 0.353)

    def linears(self) -> list[nn.Linear]:
        """Return the model's linear layers, first to last."""
        return [part for part in self.model.modules() if isinstance(part, nn.Linear)]


def _raise_rate(patient: Patient, k: int) -> None:
    patient.optimizer.param_groups[0]["lr"] = (0.3, 0.5)[k]


def _kill_units(patient: Patient, k: int) -> None:
    nn.init.constant_(patient.linears()[1 + k].bias, -40.0)


def _enlarge_weights(patient: Patient, k: int) -> None:
    with torch.no_grad():
        for layer in patient.linears():
            layer.weight.mul_(8 + 2 * k)


def _shift_labels(patient: Patient, k: int) -> None:
    patient.labels = (patient.labels + 1 + k) % 10


def _forget_eval(patient: Patient, k: int) -> None:
    patient.before_judging = patient.model.train


def _leak(patient: Patient, k: int) -> None:
    places = torch.randperm(2_000)[:500]
    patient.images[places] = patient.valid_images
    patient.labels[places] = patient.valid_labels


def _load_slowly(patient: Patient, k: int) -> None:
    def load(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pictures, labels = [], []
        for number in numbers:
            pictures.append((patient.images[number] - 0.286) / 0.353)
            labels.append(patient.labels[number])
        return torch.stack(pictures), torch.stack(labels)

    patient.load = load


def _freeze_layer(patient: Patient, k: int) -> None:
    patient.linears()[k].requires_grad_(False)


MAKE_ILL: dict[str, Callable] = {
    "dead units": _kill_units,
    "eval forgotten": _forget_eval,
    "exploding weights": _enlarge_weights,
    "frozen layer": _freeze_layer,
    "leak": _leak,
    "learning rate too large": _raise_rate,
    "shifted labels": _shift_labels,
    "slow loader": _load_slowly,
}
OTHERS = ["batches too large", "learning rate too small"]  # which nobody has
ILLNESSES = sorted([*MAKE_ILL, *OTHERS])
_ORDER = [sorted(MAKE_ILL)[(5 * n + 3) % 8] for n in range(8)]
WARD = dict(zip("ABCDEFGH", _ORDER, strict=True))


def fall_ill(illness: str, seed: int = 0, k: int = 0) -> Patient:
    """Return a patient with an illness, in one of its two forms, 0 or 1."""
    patient = Patient(seed)
    MAKE_ILL[illness](patient, k)
    return patient


def admit(letter: str = "") -> Patient:
    """Return the patient of that letter, A to H; without a letter a healthy one."""
    return fall_ill(WARD[letter]) if letter else Patient()
