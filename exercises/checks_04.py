"""Checks of the exercises in 04_custom_datasets.ipynb."""

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from exercises import Calls, Wrong, capstone, exercise
from going_modular.archives import unpack

SIDEWAYS = 0x0112  # the note in a file that says how it is to be turned


def _tensor(
    value: object, shape: tuple[int, ...], dtype: torch.dtype, case: str
) -> torch.Tensor:
    """Return ``value``; raise ``Wrong`` unless it has this shape and dtype."""
    if not isinstance(value, torch.Tensor):
        raise Wrong(
            f"{case} you returned {type(value).__name__}, not a tensor",
            hint="a tensor is wanted; does the last line begin with `return`?",
        )
    if tuple(value.shape) != shape:
        raise Wrong(
            f"{case} your result has shape {tuple(value.shape)}, wanted is {shape}",
            hint="print the shape after each step, and compare it with the one you "
            "expect.",
        )
    if value.dtype != dtype:
        raise Wrong(
            f"{case} your result is {value.dtype}, wanted is {dtype}",
            hint="in which step does the dtype change, and where should it?",
        )
    return value


def _no_loop(function: Callable, few: tuple, many: tuple) -> None:
    """Raise ``Wrong`` if a function calls torch more often for more pictures."""
    counts = []
    for arguments in (few, many):
        with Calls() as calls:
            function(*arguments)
        counts.append(calls.names.total())
    if counts[1] > counts[0] + 4:
        raise Wrong(
            f"for few pictures you call torch {counts[0]} times, for many "
            f"{counts[1]}: that is a loop",
            hint="broadcast: give the smaller tensor axes of size 1 where the other "
            "one has more.",
        )


def _make_classes(folder: Path, names: list[str]) -> None:
    """Write small pictures of several sizes and kinds into a folder for each class."""
    for name in names:
        (folder / name).mkdir()
        for place, number in enumerate(random.sample(range(100), 4)):
            size = random.randint(5, 9), random.randint(5, 9), 3
            picture = Image.fromarray(
                np.random.default_rng().integers(0, 256, size, np.uint8)
            )
            kind = ("RGB", "L", "RGB", "P")[number % 4]  # P: a palette of colors
            ending = "bmp" if place == 0 else "png"
            picture.convert(kind).save(folder / name / f"{number:03}.{ending}")
    (folder / "README.txt").write_text("about these pictures")


def _what(item: object) -> str:
    """Say in a few words what was returned, and not thirty lines of pixels."""
    if isinstance(item, torch.Tensor):
        return f"one tensor {tuple(item.shape)}"
    if isinstance(item, tuple | list):
        return f"a {type(item).__name__} of {len(item)}"
    return "None" if item is None else f"one {type(item).__name__}"


def _check_items(dataset: Any, folder: Path, transform: Callable) -> None:
    """Compare all items with those of torchvision's ImageFolder."""
    reference = ImageFolder(str(folder), transform)
    if getattr(dataset, "classes", None) != reference.classes:
        found = getattr(dataset, "classes", "missing")
        raise Wrong(
            f"your attribute classes is {found}, the class folders are "
            f"{reference.classes}",
            hint="a list of the folders' names, in alphabetical order. Files beside "
            "them are no classes: `path.is_dir()` tells.",
        )
    if len(dataset) != len(reference):
        raise Wrong(
            f"len gives {len(dataset)}, there are {len(reference)} pictures",
            hint="the length is the number of pictures of all classes together, "
            "whatever their names end in.",
        )
    order = list(range(len(reference)))
    random.shuffle(order)
    for index in order:
        item, (image, label) = dataset[index], reference[index]
        path = Path(reference.samples[index][0]).relative_to(folder).as_posix()
        case = f"item {index} is the picture {path}, label {label}; you return"
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise Wrong(
                f"{case} {_what(item)}", hint="a pair is wanted: (image, label)."
            )
        if not isinstance(item[0], torch.Tensor):
            raise Wrong(
                f"{case} a {type(item[0]).__name__} as the image",
                hint="call the transform with the picture, and return its result.",
            )
        if not isinstance(item[1], int) or item[1] != label:
            raise Wrong(
                f"{case} the label {item[1]!r}",
                hint="labels are Python integers from 0 on, in the order of classes; "
                "pictures are sorted within each class.",
            )
        if item[0].shape[0] != 3:
            raise Wrong(
                f"{case} an image {tuple(item[0].shape)}",
                hint="gray pictures, and those with a palette, are to be RGB too: "
                '`picture.convert("RGB")`.',
            )
        if item[0].shape != image.shape or not torch.equal(item[0], image):
            raise Wrong(
                f"{case} an image {tuple(item[0].shape)}; the transform makes "
                f"{tuple(image.shape)} with other numbers of this file",
                hint="is the list of files sorted within each class, and does the "
                "transform you were given get the whole picture in RGB?",
            )


@exercise("04.1", "A dataset of your own")
def check_picture_folder(PictureFolder: Any) -> None:
    names = random.sample(["ant", "bee", "cat", "dog", "eel", "fox", "gnu"], 4)
    transform = v2.Compose([v2.PILToTensor(), v2.RandomInvert(1.0)])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _make_classes(folder, names)
        try:
            dataset = PictureFolder(folder, transform)
        except NotADirectoryError as error:
            raise Wrong(
                "beside the class folders lies a file, README.txt, and your dataset "
                "takes it for a folder",
                hint="`path.is_dir()` tells folders from files.",
            ) from error
        _check_items(dataset, folder, transform)
        path, _ = ImageFolder(str(folder)).samples[5]
        Image.new("RGB", (12, 12), "white").save(path)
        if tuple(dataset[5][0].shape) != (3, 12, 12):
            raise Wrong(
                "a file was replaced after your dataset was made, and item 5 is still "
                "the old picture",
                hint="keep a list of paths in __init__, and open a picture when its "
                "item is asked for: a large data set does not fit into memory.",
            )


class _Script:
    """A model whose valid losses are known before: its weights count the epochs."""

    def __init__(self, losses: list[float]):
        self.losses, self.ran = losses, 0
        self.model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        for name, value in self.model.state_dict().items():
            if name != "1.num_batches_tracked":
                value.zero_()

    def one_epoch(self) -> None:
        self.ran += 1
        for value in self.model.state_dict().values():
            value += 1

    def measure(self) -> float:
        if not self.ran:
            raise Wrong(
                "you measure before the first epoch",
                hint="train for an epoch, then measure: epochs count from 1.",
            )
        if self.ran > len(self.losses):
            raise Wrong(
                f"you train for more than {len(self.losses)} epochs, the most allowed",
                hint="the last argument, `epochs`, says after how many the loop ends.",
            )
        return self.losses[self.ran - 1]


def _stop(losses: list[float], patience: int) -> tuple[int, int]:
    """Return (how many epochs run, the best of them), counted from 1."""
    best = ran = 1
    for ran in range(1, len(losses) + 1):
        if losses[ran - 1] < losses[best - 1]:
            best = ran
        if ran - best == patience:
            break
    return ran, best


LOSSES = [
    ([1.0, 0.8, 0.9, 0.85, 0.7, 0.6], 2),  # stops although a better epoch would come
    ([0.9, 0.8, 0.7, 0.6], 2),  # improves to the end
    ([1.0, 0.5, 0.6, 0.7], 5),  # too short for the patience
    ([0.5, 0.6, 0.7, 0.4], 2),  # the first is the best
    ([1.0, 0.7, 0.7, 0.7, 0.6], 2),  # an equal loss is no improvement
    ([1.0, 0.9, 1.1, 0.8, 0.9, 1.0, 0.95, 0.1], 3),  # waiting begins anew
    ([9.0, 8.9999, 8.9998, 8.9997, 8.9996], 2),  # a tiny improvement is one
    ([30.0, 20.0, 25.0, 10.0], 1),  # the shortest patience, and large losses
]


@exercise("04.2", "Early stopping")
def check_fit_with_patience(fit_with_patience: Callable) -> None:
    drawn = [
        ([round(random.uniform(0.2, 1.5), 2) for _ in range(12)], random.randint(1, 4))
        for _ in range(20)
    ]
    for losses, patience in LOSSES + drawn:
        script = _Script(losses)
        answer = fit_with_patience(
            script.model, script.one_epoch, script.measure, patience, len(losses)
        )
        last, best = _stop(losses, patience)
        case = f"for valid losses {losses} and patience {patience} you"
        if script.ran != last:
            raise Wrong(
                f"{case} train for {script.ran} epochs, wanted are {last}",
                hint=_patience_hint(script.ran, last, losses),
            )
        if not isinstance(answer, int | np.integer) or answer != best:
            raise Wrong(
                f"{case} return {answer!r}, the best epoch was number {best}",
                hint="the first of those, up to the stop, with the lowest loss; the "
                "first epoch is number 1.",
            )
        counts = {
            value.flatten()[0].item() for value in script.model.state_dict().values()
        }
        if counts != {best}:
            held = int(max(counts, key=lambda count: abs(count - best)))
            if len(counts) > 1:
                raise Wrong(
                    f"{case} restore a part of the model: some numbers are those "
                    f"of epoch {held}, wanted are all of epoch {best}",
                    hint="a state dict holds the statistics of batch norms, too; "
                    "load_state_dict puts all of it back.",
                )
            raise Wrong(
                f"{case} leave the model with weights of epoch {held}, wanted are "
                f"those of epoch {best}",
                hint="state_dict() returns the tensors themselves, which go on to "
                "change as the model learns: keep a copy, `copy.deepcopy`, of the best "
                "epoch. In the end load it into this model (`model = ...` would only "
                "give the name to another), even if nothing was stopped.",
            )


def _patience_hint(ran: int, last: int, losses: list[float]) -> str:
    """Return what to think of, after a wrong number of epochs."""
    if 0 < ran < last and min(losses[:ran]) > 1:
        return (
            "you stop too soon: every loss below the best one is an improvement, "
            'however little. And does the best one start high enough, at float("inf")?'
        )
    if ran < last:
        return (
            "you stop too soon: wait until the best loss is `patience` epochs ago, and "
            "begin the waiting anew after an improvement. Does the loop reach the last "
            "epoch, and does `return` stand behind it?"
        )
    if ran == len(losses):
        return (
            "after each epoch: how long ago was the best one (an equal loss is not "
            "better)? At patience, break."
        )
    return "you wait too long: count the epochs since the best; equal is not better."


def _slope(C: int, H: int, W: int) -> torch.Tensor:
    """Return a picture (H, W, C) uint8 that is brighter to the right, below, and so on.

    It is smooth, so that all ways to resize it agree; each channel differs.
    """
    rows = torch.linspace(0, 1, H)[:, None, None]  # (H, 1, 1)
    columns = torch.linspace(0, 1, W)[:, None]  # (W, 1)
    weights = torch.linspace(0.15, 0.85, C)  # (C,)
    values = 200 * (weights * rows + (1 - weights) * columns) + 20 * weights
    return values.round().to(torch.uint8)


def _check_square(
    answer: torch.Tensor, shape: tuple[int, ...], height: int, case: str
) -> None:
    """Raise ``Wrong`` for two frequent mistakes that show in the shape."""
    found = tuple(answer.shape)
    if found[1] in (height, shape[2]):
        raise Wrong(
            f"{case} your result has shape {found}, wanted is {shape}",
            hint="resize takes the last two axes for height and width: move the "
            "channels to the front before.",
        )
    if shape[2] in found[2:] and found[2] != found[3]:
        raise Wrong(
            f"{case} your result has shape {found}, wanted is {shape}",
            hint="one number is the length of the shorter side; the list [size, size] "
            "sets both.",
        )


@exercise("04.3", "Fit the picture to the model")
def check_fit_picture(fit_picture: Callable) -> None:
    for C, H, W, size in ((3, 60, 90, 32), (1, 96, 48, 24), (3, 66, 42, 16)):
        image = _slope(C, H, W)
        given = image.clone()
        case = f"for a picture {(H, W, C)} and size {size}"
        answer = fit_picture(given, size)
        if isinstance(answer, torch.Tensor) and tuple(answer.shape) == (C, size, size):
            raise Wrong(
                f"{case} your result has shape {(C, size, size)}",
                hint="a model reads batches, also of one.",
            )
        if isinstance(answer, torch.Tensor) and answer.ndim == 4:
            _check_square(answer, (1, C, size, size), H, case)
        answer = _tensor(answer, (1, C, size, size), torch.float32, case)
        if not torch.equal(given, image):
            raise Wrong(f"{case} you changed the picture", hint="make a new tensor.")
        if answer.max() > 1.05:
            raise Wrong(
                f"{case} your largest number is {answer.max():.0f}",
                hint="the range wanted is 0 to 1.",
            )
        moved = image.permute(2, 0, 1)  # (C, H, W)
        resized = v2.functional.resize(moved, [size, size])[None] / 255
        if not torch.allclose(answer, resized, atol=0.05):
            raise Wrong(
                f"{case} shape and range are right, the pixels are not",
                hint=_pixel_hint(answer, moved, size),
            )
        white = fit_picture(torch.full_like(image, 255), size)
        if not torch.allclose(white, torch.ones(()), atol=1e-4):
            raise Wrong(
                f"a white picture, all 255, becomes {white.flatten()[0]:.4f}",
                hint="white is 1: by which number do you divide?",
            )


def _pixel_hint(answer: torch.Tensor, moved: torch.Tensor, size: int) -> str:
    """Return what to think of, after a picture whose pixels are wrong."""
    resize = v2.functional.resize
    short = size / min(moved.shape[1:])
    cropped = v2.functional.center_crop(
        resize(moved, [round(length * short) for length in moved.shape[1:]]),
        [size, size],
    )
    others = {
        "you cut a part out of the picture; here the whole of it is squeezed into "
        "the square.": cropped,
        "the channels come in another order than in the picture: keep RGB.": (
            resize(moved.flip(0), [size, size])
        ),
        "rows and columns are exchanged: the height comes first.": (
            resize(moved.transpose(1, 2), [size, size])
        ),
        "it is mirrored left to right.": resize(moved.flip(2), [size, size]),
        "it stands on its head.": resize(moved.flip(1), [size, size]),
    }
    for hint, wrong in others.items():
        if torch.allclose(answer, wrong[None] / 255, atol=0.05):
            return hint
    if answer.max() < 0.1:
        return "your numbers are tiny: do you scale twice?"
    return (
        "reshape keeps the order of the numbers, whatever axis they belong to: which "
        "function moves axes? And white is 1, black is 0, whatever the picture holds."
    )


NEAR_HINTS = [  # for the first of these that is in the picture's description
    (
        "white",
        "black and white are 255 apart: int8 and uint8 have no room for that, and "
        "-255 needs its absolute value.",
    ),
    ("darker by", "what is 3 - 5 in uint8? And at most the limit includes the limit."),
    ("by exactly", "at most the limit includes the limit itself."),
    (
        "one more",
        "the mean absolute difference to each training picture is above the limit.",
    ),
    (
        "almost twice",
        "the mean absolute difference counts: no squares, and not the largest.",
    ),
    ("one half", "first the absolute differences, number by number, then their mean."),
    ("upside down", "differences above and below 0 cancel: absolute values first."),
    ("unchanged", "each test picture against every training picture; one is enough."),
    ("", "it is near to none: do differences above and below 0 cancel?"),
]


def _near(
    train: torch.Tensor, limit: int
) -> tuple[torch.Tensor, list[bool], list[str]]:
    """Return test pictures (M, C, H, W), which are near copies, and what they are."""
    exact = train[-1].clone()
    brighter = train[0] + limit  # train stays below 200, so that nothing wraps around
    too_bright = train[1] + limit + 1
    darker = train[2] - limit
    checkered = train[3].clone().flatten()  # at half the places, by more than the limit
    checkered[::2] += 2 * limit - 1
    turned = train[4].flip(dims=[2]).flip(dims=[1])
    stranger = torch.randint_like(train[0], 40, 200)
    opposite = train[5].clone().flatten()  # up and down: the sum stays
    half = len(opposite) // 2
    opposite[:half] += 3 * limit
    opposite[half : 2 * half] -= 3 * limit
    rows = {
        "a training picture, unchanged": (exact, True),
        f"a training picture, brighter by exactly the limit, {limit}": (brighter, True),
        "a training picture, brighter by one more than the limit": (too_bright, False),
        f"a training picture, darker by exactly the limit, {limit}": (darker, True),
        "a training picture that differs by almost twice the limit, at half of its "
        "pixels": (checkered.reshape(exact.shape), True),
        "a training picture upside down": (turned, False),
        "a picture of its own": (stranger, False),
        "a white picture, where one of the training pictures is black": (
            torch.full_like(exact, 255),
            False,
        ),
        "a training picture, one half brighter and one darker": (
            opposite.reshape(exact.shape),
            False,
        ),
    }
    order = random.sample(list(rows), len(rows))
    images = torch.stack([rows[name][0] for name in order])
    return images, [rows[name][1] for name in order], order


def _near_hint(
    answer: torch.Tensor,
    train: torch.Tensor,
    test: torch.Tensor,
    limit: int,
    name: str,
) -> str:
    """Return what to think of, after a wrong answer for a picture of this name."""
    rows, others = train.flatten(1)[None], test.flatten(1)[:, None]
    apart = (others.float() - rows.float()).abs()  # (M, N, D)
    uint8 = "what is 3 - 5 in uint8? Make floats of both before you subtract."
    wrongs = [
        (uint8, (others - rows).float().mean(dim=2) <= limit),
        (uint8, (rows - others).float().mean(dim=2) <= limit),
        ("at most the limit includes the limit itself.", apart.mean(dim=2) < limit),
        (
            "the mean of the absolute differences counts: not their sum, no squares, "
            "and not exact copies alone.",
            apart.square().mean(2) <= limit,
        ),
        (
            "the mean of the absolute differences counts: no squares, no root of "
            "their mean, and not the largest difference.",
            apart.amax(2) <= limit,
        ),
    ]
    for hint, near in wrongs:
        if torch.equal(answer, near.any(dim=1)):
            return hint
    if not answer.any():
        return "one near copy is enough: near to *some* training picture, not to all."
    return next(hint for part, hint in NEAR_HINTS if part in name)


@exercise("04.4", "Near copies")
def check_near_copies(near_copies: Callable) -> None:
    for N, limit, C in ((10, 3, 3), (7, 5, 1), (8, 2, 2)):
        shape = (C, random.randint(4, 6), random.randint(4, 6))
        train = torch.randint(40, 200, (N, *shape), dtype=torch.uint8)
        train[-1] = torch.randint(2, shape)  # black
        test, expected, names = _near(train, limit)
        given = train.clone(), test.clone()
        case = (
            f"for train {tuple(train.shape)}, test {tuple(test.shape)}, limit {limit}"
        )
        answer = near_copies(*given, limit)
        if not (torch.equal(given[0], train) and torch.equal(given[1], test)):
            raise Wrong(f"{case} you changed the pictures", hint="make new tensors.")
        M = len(test)
        if isinstance(answer, torch.Tensor) and answer.shape == (M, N):
            raise Wrong(
                f"{case} you returned shape {(M, N)}",
                hint="one answer per test picture: is there *some* near copy?",
            )
        answer = _tensor(answer, (M,), torch.bool, case)
        for found, wanted, name in zip(answer.tolist(), expected, names, strict=True):
            if found != wanted:
                raise Wrong(
                    f"{case} you answer {found} for {name}; wanted is {wanted}",
                    hint=_near_hint(answer, train, test, limit, name),
                )
    few, many = (
        (*torch.randint(0, 256, (2, N, 3, 4, 4), dtype=torch.uint8), 3) for N in (6, 60)
    )
    _no_loop(near_copies, few, many)


@exercise("04.5", "A coin for each")
def check_flip_some(flip_some: Callable) -> None:
    for shape, dtype in (
        ((4, 3, 5, 7), torch.float32),
        ((6, 1, 4, 4), torch.uint8),
        ((7, 2, 6, 3), torch.float32),
    ):
        B = shape[0]
        images = (256 * torch.rand(shape)).to(dtype)
        coins = torch.arange(B) % random.choice([2, 3]) == 0
        coins = coins[torch.randperm(B)]
        given = images.clone()
        case = f"for images {shape} {dtype} and coins {coins.tolist()}"
        try:
            answer = flip_some(given, coins.clone())
        except RuntimeError as error:
            if "must match" not in str(error):
                raise
            raise Wrong(
                f"{case} the shapes do not fit: {error}",
                hint="coins is (B,), images (B, C, H, W): give coins three axes of "
                "size 1, and `torch.where` whole batches.",
            ) from None
        if not torch.equal(given, images):
            raise Wrong(
                f"{case} the images you were given changed",
                hint="work on a copy, or make a new tensor.",
            )
        answer = _tensor(answer, shape, dtype, case)
        lined = coins[:, None, None, None]
        mirrored = images.flip(dims=[3])
        if not torch.equal(answer, torch.where(lined, mirrored, images)):
            raise Wrong(
                f"{case} your pictures differ from those wanted",
                hint=_flip_hint(answer, images, lined),
            )
    few, many = ((torch.rand(B, 3, 4, 4), torch.rand(B) < 0.5) for B in (8, 80))
    _no_loop(flip_some, few, many)


def _flip_hint(answer: torch.Tensor, images: torch.Tensor, lined: torch.Tensor) -> str:
    """Return what to think of, after pictures that are flipped in a wrong way."""
    mirrored = images.flip(dims=[3])
    if torch.equal(answer, mirrored) or torch.equal(answer, images):
        return (
            "all pictures are treated alike: line up `coins` with the axis B, and keep "
            "what `flip` returns: it changes nothing in place."
        )
    if torch.equal(answer, torch.where(lined, images, mirrored)):
        return "those whose coin is False are mirrored."
    for dim, what in (
        (0, "reverse the order of the batch"),
        (1, "reverse the channels"),
        (2, "swap top and bottom"),
    ):
        if torch.equal(answer, torch.where(lined, images.flip(dims=[dim]), images)):
            return f"you {what}; left to right is the axis W of (B, C, H, W)."
    return "compare your first picture with the one you were given, and its coin."


GOAL = 0.65
ODD = ("sideways", "sixteen", "transparent", *["plain"] * 17)  # in training


def _save(picture: Image.Image, path: Path, kind: str) -> None:
    """Write a picture as a file of some kind: plain, sideways, sixteen, transparent."""
    if kind == "sideways":  # as phones do
        notes = Image.Exif()
        notes[SIDEWAYS] = 6
        lying = picture.transpose(Image.Transpose.ROTATE_90)
        lying.save(path.with_suffix(".jpg"), quality=95, exif=notes)
        return
    if kind == "sixteen":
        numbers = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        picture = Image.fromarray(numbers)
    if kind == "transparent":
        picture = picture.convert("RGBA")
    picture.save(path.with_suffix(".png"))


def _untidy(place: Path) -> tuple[Path, list[tuple[Path, str]]]:
    """Write a folder to learn from, with broken files, and return it.

    Also return other pictures to be named, with their classes.
    """
    source = unpack("data/cat_dog_horse.zip", "data/cat_dog_horse")
    folder, strangers, truths = place / "pictures", place / "strangers", []
    strangers.mkdir()
    for name in ("cat", "dog", "horse"):
        paths = sorted(source.glob(f"*/{name}/*.png"))
        random.shuffle(paths)
        (folder / name).mkdir(parents=True)
        for number, path in enumerate(paths):
            with Image.open(path) as picture:
                kind, where = ODD[number % len(ODD)], folder / name / f"{number:03}"
                if number >= 400:
                    kind = ("plain", "sideways")[number % 2]
                    where = strangers / f"{random.getrandbits(48):012x}"
                    truths.append((where, name))
                _save(picture.convert("RGB"), where, kind)
        (folder / name / "empty.png").write_bytes(b"")
        (folder / name / "page.jpg").write_text("<html>not found</html>")
        (folder / name / "cut.png").write_bytes(paths[0].read_bytes()[:1_200])
        (folder / name / "notes.txt").write_text("pictures of my animals")
    random.shuffle(truths)
    return folder, [(next(strangers.glob(f"{at.name}.*")), name) for at, name in truths]


@capstone("04", "An untidy folder")
def check_learn_folder(learn_folder: Callable) -> str:
    place = Path(tempfile.mkdtemp())
    try:
        folder, strangers = _untidy(place)
        name_picture = learn_folder(folder)
        if not callable(name_picture) or isinstance(name_picture, nn.Module):
            raise Wrong(
                f"you returned {type(name_picture).__name__}",
                hint="return a function that takes the path of a picture and returns "
                "the name of its class.",
            )
        rights = {"plain": [], "sideways": []}
        for path, truth in strangers:
            answer = name_picture(path)
            if answer not in ("cat", "dog", "horse"):
                raise Wrong(
                    f"your function answers {answer!r}",
                    hint="the name of a folder is wanted: 'cat', 'dog' or 'horse'.",
                )
            kind = "sideways" if path.suffix == ".jpg" else "plain"
            rights[kind].append(answer == truth)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    plain, sideways = (sum(right) / len(right) for right in rights.values())
    accuracy = sum(map(sum, rights.values())) / len(strangers)
    scores = (
        f"{accuracy:.1%} of {len(strangers)} strange pictures ({plain:.1%} of the "
        f"upright files, {sideways:.1%} of those stored sideways); to beat: {GOAL:.0%}"
    )
    if accuracy <= GOAL:
        raise Wrong(scores, hint=_score_hint(accuracy, plain, sideways))
    return f"The score: {scores}."


def _score_hint(accuracy: float, plain: float, sideways: float) -> str:
    """Return what to think of, after too low a score."""
    if sideways < plain - 0.12:
        return "files stored sideways fare worse: who turns them upright?"
    if accuracy < 0.45:
        return (
            "that is hardly better than guessing: is the model in evaluation mode, and "
            "are the numbers you predict from made as those you trained on?"
        )
    return (
        "which cures did the lesson's last network get? Several times as many epochs, "
        "and augmentation to make the pictures last."
    )
