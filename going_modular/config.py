# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""A training described by one frozen object, and the file that keeps it."""

import json
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FROM_ZERO = {  # other numbers are above 0
    "weight_decay",
    "num_workers",
    "seed",
    "valid_share",
    "label_smoothing",
    "early_stopping",
    "unfreeze",
}


HIGHEST = {
    "image_size": 2048,
    "hidden_units": 16_384,
    "embed_dim": 16_384,
    "mlp_dim": 65_536,
    "depth": 100,
    "num_workers": 256,
    "valid_share": 0.9,
    "label_smoothing": 0.9,
}


WORDS = {  # of the other texts their registries know what there is
    "augment": ("none", "light", "strong"),
    "resize": ("squash", "crop", "pad"),
    "class_weights": ("none", "balanced"),
}


@dataclass(frozen=True)
class Config:
    """All that decides what a training computes: equal configs, equal weights.

    Attributes:
        data: folder with train/ and valid/, or with a folder for each class
        model: network: effnet_lite0 (pretrained, which few pictures need), effnetb2,
            tinyvgg, cnn, mlp, vit, or torchvision:NAME, a classification network
        hidden_units: channels of the first layers
        image_size: resize images to this side length, in pixels
        augment: random changes of the training pictures: none, light (flip and
            rotate) or strong (colors and shapes as well)
        resize: pictures become squares: squash (whole, distorted), crop (the middle)
            or pad (whole, with edges)
        valid_share: share of the training pictures to validate on, such as 0.2, if
            there is no folder valid/
        epochs: passes over the training pictures
        batch_size: pictures per step of all processes; as --batch-size, of each
        lr: the schedule's highest learning rate
        schedule: constant, step, cosine, one_cycle or warmup_cosine
        weight_decay: AdamW's weight decay
        class_weights: none, or balanced: rare classes count more in the loss
        label_smoothing: share of a label that is spread over all classes
        early_stopping: end after so many epochs without a better one; 0: never
        unfreeze: pretrained networks: train so many of the last blocks too
        weights: begin from these weights: best.pt of a training, or its folder; a
            pretrained network learns in its head and the blocks of unfreeze alone
        num_workers: processes that load pictures; results stay the same
        seed: of weights, order and augmentation
        patch_size: vit: side length of a patch, in pixels
        embed_dim: vit: length of a token's vector
        depth: vit: number of encoder blocks
        num_heads: vit: attention heads
        mlp_dim: vit: hidden units of a block's MLP
        precision: fp32, bf16, fp16 or bf16_weights
        accumulate: micro-batches per step: less memory; equal gradients, except with a
            batch norm or dropout in training
        compile: compile the model first; pays in long trainings
        tracker: none, tensorboard, wandb (offline) or mlflow
        max_pixels: pictures that are larger are refused
        deterministic: equal results in every run, also on a GPU

    Raises:
        ValueError: if a value has another type, a number is out of its range, a word is
            none of WORDS, or there are more micro-batches than pictures in a batch.
    """

    data: str = "data/cat_dog_horse"
    model: str = "effnet_lite0"
    hidden_units: int = 16
    image_size: int = 128
    channels: int = 3  # of an image; no option, since a folder's always have 3
    augment: str = "light"
    resize: str = "squash"
    valid_share: float = 0.0
    epochs: int = 5
    batch_size: int = 32
    lr: float = 3e-3
    schedule: str = "one_cycle"
    weight_decay: float = 0.01
    class_weights: str = "none"
    label_smoothing: float = 0.0
    early_stopping: int = 0
    unfreeze: int = 0
    weights: str = ""
    num_workers: int = 0
    seed: int = 42
    patch_size: int = 8
    embed_dim: int = 64
    depth: int = 4
    num_heads: int = 4
    mlp_dim: int = 128
    precision: str = "fp32"
    accumulate: int = 1
    compile: bool = False
    tracker: str = "none"
    max_pixels: int = 50_000_000
    deterministic: bool = True

    def __post_init__(self):
        for name, value in vars(self).items():
            kind, wanted = Config.__annotations__[name], ""
            words, highest = WORDS.get(name, [value]), HIGHEST.get(name, 2**32 - 1)
            lowest = "from 0" if name in FROM_ZERO else "above 0"
            if type(value) not in ({int, float} if kind is float else {kind}):
                wanted = f"it must be of type {kind.__name__}"
            elif kind is str and value not in words:
                wanted = f"choose one of {', '.join(words)}"
            elif kind in (int, float) and not (  # nor NaN
                0 < value <= highest or value == 0 and name in FROM_ZERO
            ):
                wanted = f"choose a number {lowest}, up to {highest}"
            if wanted:
                raise ValueError(f"{name} is {reprlib.repr(value)}: {wanted}")
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}: a batch of {self.batch_size} has no "
                "more micro-batches than pictures"
            )


MAY_CHANGE = {
    "data",
    "num_workers",
    "accumulate",
    "compile",
    "tracker",
    "early_stopping",
    "max_pixels",
    "versions",
}


class Choices(dict):
    """A dict that answers an unknown name with a ValueError that lists those it has.

    Args:
        kind: what is chosen, for the message.
        entries: name -> what it stands for.
    """

    def __init__(self, kind: str, entries: dict[str, Any] | None = None):
        super().__init__(entries or {})
        self.kind = kind

    def __missing__(self, name: str) -> None:
        raise ValueError(
            f"unknown {self.kind} {name!r}: choose one of {', '.join(self)}"
        )


def run_files(run: str | Path) -> tuple[Path, Path]:
    """Return the folder of a training and its weights, for a path to either."""
    path = Path(run)
    return (path.parent, path) if path.is_file() else (path, path / "best.pt")


def check_new(path: str | Path | None, option: str) -> None:
    """Raise FileExistsError if a file that is to be written is there already."""
    if path and Path(path).exists():
        raise FileExistsError(f"{path} is there already: choose another {option}")


# in config.json too
OTHERS = {"class_names", "versions", "pictures", "trainable", "unsure_below"}


def read_config(folder: str | Path) -> tuple[Config, list[str]]:
    """Return the Config and the class names in folder/config.json.

    Args:
        folder: of a training, or the path to a file in it, such as best.pt.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or describes no training.
    """
    path = run_files(folder)[0] / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the folder of a training holds config.json and best.pt"
        )
    try:
        content = json.loads(path.read_bytes())  # in bytes a BOM is understood
        names = content["class_names"]
        is_list = isinstance(names, list) and {*map(type, names)} == {str}
        if not is_list or not 1 < len(names) == len({*names}) or "model" not in content:
            raise ValueError(
                "it needs a model and two or more names of classes, none the same name"
            )
        settings = {name: content[name] for name in content.keys() - OTHERS}
        return Config(**settings), names
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} describes no training ({error}): mend it, or take it from a copy"
        ) from None
