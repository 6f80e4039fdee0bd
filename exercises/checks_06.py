"""Checks of the exercises in 06_transfer_learning.ipynb."""

import functools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from exercises import Wrong, capstone, exercise


def _tensor(got: object, shape: tuple[int, ...], case: str, hint: str) -> torch.Tensor:
    """Return ``got``, or raise ``Wrong`` where it is no tensor of this shape."""
    if not isinstance(got, torch.Tensor):
        raise Wrong(f"{case} your function returned {type(got).__name__}", hint)
    if got.shape != shape:
        raise Wrong(
            f"{case} your result has shape {tuple(got.shape)}, wanted is {shape}", hint
        )
    return got


def _unchanged(given: torch.Tensor, before: torch.Tensor, name: str) -> None:
    """Raise ``Wrong`` where an answer has changed the tensor that it was given."""
    if not torch.equal(given, before):
        raise Wrong(
            f"your function changed {name} itself",
            "calculate new tensors; `clone()` gives a copy that you may change.",
        )


@exercise("06.1", "Normalize")
def check_normalize(normalize: Callable) -> None:
    for B in (4, 1, 3):
        images = torch.randint(0, 256, (B, 3, 6, 5), dtype=torch.uint8)
        mean = (torch.rand(3) * 0.5 + 0.2).tolist()
        std = (torch.rand(3) * 0.3 + 0.2).tolist()
        given, means, stds = images.clone(), list(mean), list(std)
        case = f"for pictures {tuple(images.shape)}"
        try:
            answer = normalize(given, means, stds)
        except RuntimeError as error:
            if "must match the size of tensor" not in str(error):
                raise
            raise Wrong(
                f"{case} your function raised RuntimeError: {error}",
                "mean and standard deviation must meet the channel axis, no other: "
                "reshape both to (3, 1, 1). (3,) meets the last axis, the columns.",
            ) from None
        got = _tensor(
            answer,
            tuple(images.shape),
            case,
            "mean and std must become (3, 1, 1), so that they meet the channel axis.",
        )
        if got.dtype != torch.float32:
            raise Wrong(
                f"{case} the result is {got.dtype}",
                "float32 is asked for: convert before you calculate.",
            )
        _unchanged(given, images, "the pictures")
        if (means, stds) != (mean, std):
            raise Wrong("your function changed the lists", "work on copies.")
        m, s = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        if torch.allclose(got, (images / 255 - m) / s, atol=1e-4):
            continue
        if torch.allclose(got, (images - m) / s, rtol=1e-3):
            raise Wrong(
                f"{case} the pixels still run from 0 to 255",
                "the mean is that of pictures scaled to 0 to 1.",
            )
        right = (images / 255 - m) / s
        b, c, i, j = (~torch.isclose(got, right, atol=1e-4)).nonzero()[0].tolist()
        raise Wrong(
            f"{case} the pixel at {(b, c, i, j)}, {images[b, c, i, j]} with mean "
            f"{mean[c]:.3f} and standard deviation {std[c]:.3f}, became "
            f"{got[b, c, i, j]:.3f}, not {right[b, c, i, j]:.3f}",
            "scale to 0 to 1, subtract each channel's own mean, divide by its own "
            "standard deviation, in this order.",
        )


def _clusters(K: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features and labels of K classes of unequal size, and 300 queries."""
    centers = 4 * torch.randn(K, 6) + 3
    labels = torch.cat([torch.full((5 + 7 * k,), k) for k in range(K)])
    labels = labels[torch.randperm(len(labels))]
    spreads = 1 + 2 * torch.arange(K)[labels, None]  # (N, 1)
    features = centers[labels] + spreads * torch.randn(len(labels), 6)
    return features, labels, 5 * torch.randn(300, 6) + 3


@exercise("06.2", "Nearest class mean")
def check_nearest_mean(nearest_mean: Callable) -> None:
    for K in (3, 2, 5):
        features, labels, queries = _clusters(K)
        given = features.clone(), labels.clone(), queries.clone()
        case = f"for {len(labels)} features of {K} classes and 300 queries"
        got = _tensor(
            nearest_mean(*given),
            (300,),
            case,
            "one answer a query: a tensor (M,) of labels.",
        )
        for value, before, name in zip(
            given,
            (features, labels, queries),
            ("features", "labels", "queries"),
            strict=True,
        ):
            _unchanged(value, before, name)
        if got.is_floating_point() or got.dtype == torch.bool:
            raise Wrong(
                f"{case} the answers are {got.dtype}",
                "labels are whole numbers; which function gives the *place* of the "
                "smallest number?",
            )
        means = torch.stack([features[labels == k].mean(dim=0) for k in range(K)])
        distances = (queries[:, None] - means).square().sum(dim=2)  # (300, K)
        best = distances.sort(dim=1).values
        clear = best[:, 1] - best[:, 0] > 1e-2  # no ties within rounding
        wrong = (got != distances.argmin(dim=1)) & clear
        if not wrong.any():
            continue
        i = int(wrong.nonzero()[0])
        listed = [round(number, 2) for number in distances[i].sqrt().tolist()]
        raise Wrong(
            f"{case} {int(wrong.sum())} answers differ; query {i} is this far from the "
            f"{K} means: {listed}, and you answered {got[i].item()}",
            _mean_hint(got, features, labels, queries, means),
        )


def _mean_hint(
    got: torch.Tensor,
    features: torch.Tensor,
    labels: torch.Tensor,
    queries: torch.Tensor,
    means: torch.Tensor,
) -> str:
    """Return what to think of, after wrong answers."""
    nearest = labels[torch.cdist(queries, features).argmin(dim=1)]
    others = {
        "that is the nearest *photograph*'s class; average each class first.": nearest,
        "the products with the means also grow with a mean's length; the distance is "
        "asked for.": (queries @ means.T).argmax(dim=1),
        "that is the mean farthest away.": torch.cdist(queries, means).argmax(dim=1),
    }
    if int(got.max()) >= len(means):
        return (
            "an answer is a class, the place of a mean and not of a photograph, and "
            "counts from 0; how many classes there are, `labels` says."
        )
    for hint, answers in others.items():
        if (got == answers).float().mean() > 0.99:
            return hint
    return (
        "the mean of a class is over its own photographs alone, and the classes differ "
        "in number; the distance adds up squares over the features."
    )


def _named_model() -> nn.Module:
    """Return a model in which names occur within other names."""
    model = nn.Module()
    model.features = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, random.randint(5, 9), 3)
    )
    model.aux = nn.ModuleDict(
        {"features": nn.Linear(2, 3), "classifier": nn.Linear(3, 2)}
    )
    model.classifier = nn.Linear(8, random.randint(2, 5))
    return model


@exercise("06.3", "Freeze by name")
def check_freeze_except(freeze_except: Callable) -> None:
    cases: list[tuple[list[str], bool]] = [
        (["classifier."], False),
        (["features.2.", "classifier."], True),
        ([], True),
        (["features."], False),
        (["features.", "features.2."], True),  # one within the other
        (["aux.features", "classifier.bias"], True),
    ]
    for prefixes, trainable_before in cases:
        model = _named_model().requires_grad_(trainable_before)
        before = {name: p.clone() for name, p in model.named_parameters()}
        got = freeze_except(model, list(prefixes))
        for name, parameter in model.named_parameters():
            wanted = any(name.startswith(prefix) for prefix in prefixes)
            if parameter.requires_grad != wanted:
                state = "trainable" if parameter.requires_grad else "frozen"
                raise Wrong(
                    f"with the prefixes {prefixes}, {name} is {state}",
                    "what *begins* with a prefix becomes trainable, whatever it was; "
                    "all others become frozen.",
                )
            if not torch.equal(parameter, before[name]):
                raise Wrong(
                    f"{name} has other numbers now", "only freeze; set nothing."
                )
        trainable = [p for p in model.parameters() if p.requires_grad]
        count = sum(p.numel() for p in trainable)
        if isinstance(got, bool) or not isinstance(got, int) or got != count:
            raise Wrong(
                f"with the prefixes {prefixes} you returned {got!r}; {len(trainable)} "
                f"trainable parameters hold {count} numbers",
                "add up `numel()` of every trainable parameter, each once.",
            )


@exercise("06.4", "Two learning rates")
def check_parameter_groups(parameter_groups: Callable) -> None:
    for frozen in (0, 1, 2):
        backbone = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 5))
        head = nn.Linear(5, 2)
        backbone[frozen].requires_grad_(False)
        lr = random.random() / 100 + 1e-4
        names = {id(p): f"backbone.{n}" for n, p in backbone.named_parameters()}
        names |= {id(p): f"head.{n}" for n, p in head.named_parameters()}
        groups = parameter_groups(backbone, head, lr)
        try:
            optimizer = torch.optim.SGD(groups, lr=1.0)
        except (TypeError, ValueError, KeyError) as error:
            raise Wrong(
                f"an optimizer does not take what you returned: {error}",
                'return a list of two dictionaries, {"params": [...], "lr": ...}.',
            ) from None
        if len(optimizer.param_groups) != 2:
            raise Wrong(
                f"there are {len(optimizer.param_groups)} groups",
                "two: the backbone's, then the head's.",
            )
        learners = [p for p in backbone.parameters() if p.requires_grad]
        wanted = [learners, list(head.parameters())]
        for number, parameters in enumerate(wanted):
            group = optimizer.param_groups[number]["params"]
            if {id(p) for p in group} != {id(p) for p in parameters}:
                found = [names.get(id(p), "a copy") for p in group]
                expected = [names[id(p)] for p in parameters]
                raise Wrong(
                    f"with backbone.{frozen} frozen, group {number} holds {found}, "
                    f"expected {expected}",
                    "the backbone first, and only parameters that take a gradient.",
                )
        rates = [group["lr"] for group in optimizer.param_groups]
        if abs(rates[0] - lr / 10) > 1e-9 or abs(rates[1] - lr) > 1e-9:
            raise Wrong(
                f"for lr {lr:.5f} the groups have {rates}",
                "a tenth for the backbone, all of it for the head.",
            )


class _Squares(nn.Module):
    """A network whose logits depend on every place in another way, and on its mode."""

    def __init__(self, C: int, H: int, W: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, C, H, W))
        self.dropout = nn.Dropout(0.5)
        self.called_in: set[bool] = set()  # the modes of its calls

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4:
            raise ValueError(f"needs a batch (B, C, H, W), got {tuple(images.shape)}")
        self.called_in.add(self.training)
        images = self.dropout(images)  # nothing in eval mode
        sums = (images[:, None] * self.weight).sum(dim=(2, 3, 4))  # (B, 3)
        return sums + 0.01 * sums.square()


@exercise("06.5", "Cover and look")
def check_occlusion_map(occlusion_map: Callable) -> None:
    cases = [(3, 2, 3, 4, False), (3, 3, 2, 2, True), (1, 4, 4, 3, False)]
    for C, rows, columns, patch, training in cases:
        H, W = rows * patch, columns * patch
        model = _Squares(C, H, W).train(training)
        image = torch.randn(C, H, W) + 1
        label = random.randint(1, 2)
        given = image.clone()
        case = f"for an image {(C, H, W)}, label {label} and patch {patch}"
        got = _tensor(
            occlusion_map(model, given, label, patch),
            (rows, columns),
            case,
            "one number a square: (H / patch, W / patch).",
        ).detach()
        _unchanged(given, image, "the image")
        if any(module.training != training for module in model.modules()):
            raise Wrong(
                "your function left the model in another mode: it came in "
                f"{'train' if training else 'eval'}()",
                "it calls neither eval() nor train(), or puts back what it found.",
            )
        if training:
            continue  # dropout makes each answer another
        with torch.no_grad():
            expected = _drops(model, image, patch)  # (rows, columns, 3)
        if torch.allclose(got.float(), expected[..., label], atol=1e-3, rtol=1e-3):
            continue
        others = {
            "the sign: a square that speaks for the class has a number above 0.": (
                -expected[..., label]
            ),
            "whose logit do you look at?": expected[..., 0],
            "rows first: number (i, j) belongs to row i, column j.": (
                _exchanged(expected[..., label])
            ),
        }
        hint = (
            "each square is covered alone, in a fresh copy, with 0 in all channels; "
            "the drop is the logit before minus the logit after, no softmax."
        )
        for other_hint, other in others.items():
            if torch.allclose(got.float(), other, atol=1e-3):
                hint = other_hint
        if True in model.called_in:
            hint = "the model came in eval() and was called in train(): leave its mode."
        far = (got - expected[..., label]).abs()
        i, j = divmod(int(far.argmax()), columns)
        raise Wrong(
            f"{case} your number at {(i, j)} is {got[i, j]:.3f}; covering that square "
            f"lowers the logit by {expected[i, j, label]:.3f}",
            hint,
        )


def _drops(model: nn.Module, image: torch.Tensor, patch: int) -> torch.Tensor:
    """Return by how much every logit falls when a square is covered, (h, w, K)."""
    _, H, W = image.shape
    drops = []
    for top in range(0, H, patch):
        for left in range(0, W, patch):
            covered = image.clone()
            covered[:, top : top + patch, left : left + patch] = 0
            drops.append((model(image[None]) - model(covered[None]))[0])
    return torch.stack(drops).reshape(H // patch, W // patch, -1)


def _exchanged(drops: torch.Tensor) -> torch.Tensor:
    """Return drops (h, w) with place (i, j) taken from (j, i), 0 outside the image."""
    h, w = drops.shape
    square = torch.zeros(max(h, w), max(h, w))
    square[:h, :w] = drops
    return square.T[:h, :w]


@exercise("06.6", "Padding, left and right")
def check_same_padding(same_padding: Callable) -> None:
    cases = [(160, 3, 2), (160, 5, 2), (7, 2, 3), (9, 1, 2), (8, 1, 2)]
    for _ in range(40):
        kernel = random.choice([1, 2, 3, 5, 7])
        cases.append((random.randint(8, 300), kernel, random.randint(1, 3)))
    for size, kernel, stride in cases:
        got: Any = same_padding(size, kernel, stride)
        case = f"size {size}, kernel {kernel}, stride {stride}"
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"{case} gave {got!r}", "two numbers are asked for: before and after."
            )
        if not all(isinstance(part, int) for part in got):
            raise Wrong(f"{case} gave {got!r}", "pixels are whole numbers: `//`.")
        before, after = got
        windows = (size + before + after - kernel) // stride + 1
        if min(before, after) < 0:
            raise Wrong(
                f"{case} gave {got}: padding below 0",
                "where the windows fit without padding, there is none.",
            )
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        if before + after != total:
            raise Wrong(
                f"{case} gave {got}, with which {windows} windows fit",
                f"{-(-size // stride)} windows are wanted, size / stride rounded up, "
                "and no pixel more than they need.",
            )
        if before > after:
            raise Wrong(
                f"{case} gave {got}",
                "where the total is odd, the end gets the additional pixel.",
            )
        if after - before > 1:
            raise Wrong(
                f"{case} gave {got}",
                "share the padding between the two ends, as evenly as it goes.",
            )


SHOTS, DRAWS, LEAD = 5, 30, 0.05


@functools.cache
def _pool() -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (600, 1280) of 200 photographs a class at 96 pixels, labels."""
    from going_modular.archives import unpack
    from going_modular.effnet import create_effnet_lite0_model
    from going_modular.image_folder import ImageFolderDataset

    folder = unpack("data/cat_dog_horse.zip", "data/cat_dog_horse")
    model, transform = create_effnet_lite0_model(3, "cpu", image_size=96)
    photographs = ImageFolderDataset(folder / "train", transform)
    picks = torch.cat([400 * k + torch.randperm(400)[:200] for k in range(3)])
    batches = DataLoader(Subset(photographs, picks.tolist()), batch_size=20)
    layout: Any = {"memory_format": torch.channels_last}
    body = model.eval().features.to(**layout)
    with torch.no_grad():
        features = [body(X.to(**layout)).mean(dim=(2, 3)) for X, _ in batches]
    return torch.cat(features), torch.arange(600) // 200


def _lessons_head(features: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """Return the lesson's head, trained for 100 steps on all the features at once."""
    head = nn.Linear(features.shape[1], 3)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(head(features), labels).backward()
        optimizer.step()
    return head


@capstone("06", "Fifteen photographs")
def check_few_labels(answer: Callable) -> str:
    features, labels = _pool()
    yours, lessons = 0.0, 0.0
    for _ in range(DRAWS):
        # other names each time, so that only the fifteen say what a class is
        truth = torch.randperm(3)[labels]
        order = torch.randperm(600)
        few = torch.cat([order[truth[order] == k][:SHOTS] for k in range(3)])
        few = few[torch.randperm(len(few))]
        rest = order[~torch.isin(order, few)]
        given = features[few].clone(), truth[few].clone(), features[rest].clone()
        got = _tensor(
            answer(*given),
            (len(rest),),
            f"for {len(few)} features with labels and {len(rest)} without",
            "one label a photograph: a tensor (M,).",
        )
        if got.is_floating_point():
            raise Wrong(f"your labels are {got.dtype}", "whole numbers are wanted.")
        head = _lessons_head(features[few], truth[few])
        with torch.no_grad():
            theirs = head(features[rest]).argmax(dim=1)
        yours += (got == truth[rest]).float().mean().item() / DRAWS
        lessons += (theirs == truth[rest]).float().mean().item() / DRAWS
    scores = (
        f"{yours:.1%} on average over {DRAWS} draws; to beat: {lessons + LEAD:.1%}, "
        f"the lesson's head with {lessons:.1%} and {100 * LEAD:.0f} points"
    )
    if yours <= lessons + LEAD:
        raise Wrong(
            scores,
            "features of one class point in a similar *direction*, whatever their "
            "length. How would you compare directions?",
        )
    return f"The score: {scores}."
