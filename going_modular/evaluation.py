# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""What a trained model is worth on pictures that it has not seen."""

import csv
import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from PIL import ImageOps
from torchmetrics.functional import classification
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from going_modular.checkpoints import whole_file, write_json
from going_modular.image_folder import ImageFolderDataset
from going_modular.pictures import read_picture
from going_modular.plots import new_axes, plot_confusion_matrix, plot_images
from going_modular.predictions import Predictor


def write_csv(path: str | Path, rows: Iterable[Iterable]) -> None:
    """Write rows as a CSV file, whole or not at all."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with whole_file(path) as file:  # a name may hold bytes that are no letters
        file.write(text.getvalue().encode(errors="surrogateescape"))


@dataclass(frozen=True)
class Evaluation:
    """What a model says of N pictures whose classes are known.

    Attributes:
        class_names: K of them.
        paths: of the pictures.
        labels: (N,) int64, their classes.
        probs: (N, K), the probabilities of all classes.
        broken: what is wrong with pictures that could not be read.
    """

    class_names: list[str]
    paths: list[str]
    labels: torch.Tensor
    probs: torch.Tensor
    broken: list[str]

    def summary(self) -> dict[str, Any]:
        """Return the measures, as evaluation.json keeps them.

        Classes without pictures are left out. Precision, recall, F1 and the expected
        calibration error, over 10 bins, are those of torchmetrics.
        """
        facts = (self.probs, self.labels, len(self.class_names))
        columns = {"pictures": self.labels.bincount(minlength=facts[2])} | {
            name: getattr(classification, f"multiclass_{name}")(*facts, average="none")
            for name in ("precision", "recall", "f1_score")
        }
        seen = self.labels.unique()
        right = (self.probs.argmax(dim=1) == self.labels).double().mean().item()
        error = classification.multiclass_calibration_error(*facts, n_bins=10)
        return {
            "pictures": len(self.paths),
            "accuracy": right,
            "standard_error": (right * (1 - right) / len(self.paths)) ** 0.5,
            "balanced_accuracy": columns["recall"][seen].mean().item(),
            "calibration_error": error.item(),
            "classes": {
                self.class_names[k]: {name: columns[name][k].item() for name in columns}
                for k in seen
            },
            "broken": self.broken,
        }

    def save(self, folder: Path) -> None:
        """Write evaluation.json, pictures.csv and three figures, as .png."""
        names = self.class_names
        answers = zip(self.paths, self.labels, self.probs, strict=True)
        rows = [
            [path, names[label], names[probs.argmax()], *probs.tolist()]
            for path, label, probs in answers
        ]
        write_csv(
            folder / "pictures.csv", [["path", "true", "predicted", *names], *rows]
        )
        plain = plt.rc_context({"text.parse_math": False})  # a $ in a name stays one
        with plain, warnings.catch_warnings(action="ignore"):  # letters without a font
            for draw in (plot_confusion, plot_reliability, plot_mistakes):
                path = folder / f"{draw.__name__[5:]}.png"
                path.unlink(missing_ok=True)
                if figure := draw(self):
                    figure.savefig(path, bbox_inches="tight")
                    plt.close(figure)
        write_json(folder / "evaluation.json", self.summary())


def plot_confusion(evaluation: Evaluation) -> Any:
    """Draw the confusion matrix, of up to 30 classes with the most mistakes."""
    names = evaluation.class_names
    matrix = classification.multiclass_confusion_matrix(
        evaluation.probs, evaluation.labels, len(names)
    )
    wrong = matrix.sum(dim=1) - matrix.diagonal()
    shown = wrong.argsort(descending=True)[:30].sort().values
    title = f"{wrong.sum()} mistakes in {matrix.sum()} pictures"
    labels = [names[label] for label in shown]
    ax = plot_confusion_matrix(matrix[shown][:, shown], labels, title)
    # Colors are shares of all pictures of the class, also of those in no column.
    shares = (matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1))[shown][:, shown]
    ax.images[0].set_data(shares.numpy())
    for text, share in zip(ax.texts, shares.flatten(), strict=True):
        text.set_color("white" if share > 0.5 else "black")
    return ax.figure


def plot_reliability(evaluation: Evaluation) -> Any:
    """Draw how often answers are right, over the probability that they come with."""
    probs, predicted = evaluation.probs.max(dim=1)
    right = (predicted == evaluation.labels).double()
    tenths = (probs * 10).int().clamp(max=9)
    counts = tenths.bincount(minlength=10)
    ax = new_axes(4, 4)[0]
    shares = tenths.bincount(right, 10) / counts.clamp(min=1)
    bars = ax.bar(torch.arange(10) / 10 + 0.05, shares, 0.09)
    ax.bar_label(bars, counts.tolist())
    ax.axline((0, 0), (1, 1), color="gray")
    ax.set(
        xlabel="probability of the answer",
        ylabel="share of right answers (gray: as often as it says)",
        title=f"It says {probs.mean():.2f}, and is right in {right.mean():.2f}",
    )
    return ax.figure


def plot_mistakes(evaluation: Evaluation) -> Any:
    """Draw the pictures of the wrong answers with the highest probabilities, if any."""
    names, (probs, predicted) = evaluation.class_names, evaluation.probs.max(dim=1)
    wrong = (predicted != evaluation.labels).nonzero()[:, 0]
    images, texts = [], []
    for i in wrong[probs[wrong].argsort(descending=True)][:24]:
        picture = read_picture(evaluation.paths[i], max_pixels=2**31)
        images.append(pil_to_tensor(ImageOps.pad(picture, (128, 128))))
        truth = names[evaluation.labels[i]]
        texts.append(f"{truth}, not\n{names[predicted[i]]} {probs[i]:.2f}")
    title = "Most confident mistakes"
    return plot_images(torch.stack(images), texts, title) if images else None


def evaluate(
    predictor: Predictor, folder: str | Path, *, batch_size: int = 32
) -> Evaluation:
    """Ask a predictor about all pictures of a folder of class folders.

    Args:
        predictor: what answers.
        folder: one with a folder for each class, or for some of them.
        batch_size: pictures that the model answers at once.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has a class that the predictor does not know, or no picture
            that can be read.
    """
    names = predictor.class_names
    samples = ImageFolderDataset(folder, classes=names).samples
    answers = predictor.probs([path for path, _ in samples], batch_size)
    answers = tqdm(answers, "evaluate", len(samples), leave=False, disable=None)
    read, broken = [], []
    for (path, label), probs in zip(samples, answers, strict=True):
        if isinstance(probs, BaseException):
            broken.append(str(probs))
        else:
            read.append((path, label, probs))
    if not read:
        raise ValueError(f"no picture in {folder} can be read: {broken[0]}")
    paths, labels, rows = zip(*read, strict=True)
    return Evaluation(names, [*paths], torch.tensor(labels), torch.tensor(rows), broken)
