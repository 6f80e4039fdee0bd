# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""A training described by one frozen object, and the file that keeps it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FROM_ZERO = {"weight_decay", "num_workers", "seed"}  # other numbers are above 0


HIGHEST = {"image_size": 2048, "depth": 100}


@dataclass(frozen=True)
class Config:
    """All that decides what a training computes: equal configs, equal weights.

    Attributes:
        data: folder with train/ and valid/
        model: network: tinyvgg, cnn, mlp, vit, effnet_lite0 or effnetb2
        hidden_units: channels of the first layers
        image_size: resize images to this side length, in pixels
        augment: flip and rotate the training pictures at random
        epochs: passes over the training pictures
        batch_size: pictures per step, in each process
        lr: the schedule's highest learning rate
        schedule: constant, step, cosine, one_cycle or warmup_cosine
        weight_decay: AdamW's weight decay
        num_workers: processes that load pictures; results stay the same
        seed: of weights, order and augmentation
        patch_size: vit: side length of a patch, in pixels
        embed_dim: vit: length of a token's vector
        depth: vit: number of encoder blocks
        num_heads: vit: attention heads
        mlp_dim: vit: hidden units of a block's MLP
        precision: fp32, bf16 or fp16
        accumulate: micro-batches per step: less memory, equal gradients
        compile: compile the model first; pays in long trainings
        tracker: none, tensorboard, wandb (offline) or mlflow

    Raises:
        ValueError: if a value has another type, or a number is out of its range.
    """

    data: str = "data/cat_dog_horse"
    model: str = "tinyvgg"
    hidden_units: int = 16
    image_size: int = 64
    channels: int = 3  # of an image; no option, since a folder's always have 3
    augment: bool = True
    epochs: int = 5
    batch_size: int = 32
    lr: float = 3e-3
    schedule: str = "one_cycle"
    weight_decay: float = 0.01
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

    def __post_init__(self):
        for name, value in vars(self).items():
            kind = Config.__annotations__[name]
            if type(value) not in ({int, float} if kind is float else {kind}):
                raise ValueError(
                    f"{name} is {value!r}: it must be of type {kind.__name__}"
                )
            from_zero = name in FROM_ZERO
            highest = HIGHEST.get(name) or 2**32 - 1
            if kind in (bool, str) or (value == 0 and from_zero):
                continue
            if not 0 < value <= highest:  # nor NaN
                lowest = "from 0" if from_zero else "above 0"
                raise ValueError(
                    f"{name} is {value}: choose a number {lowest}, up to {highest}"
                )
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}: a batch of {self.batch_size} has no "
                "more micro-batches than pictures"
            )


MAY_CHANGE = {"data", "num_workers", "accumulate", "compile", "tracker", "versions"}


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


def read_config(folder: str | Path) -> tuple[Config, list[str]]:
    """Return the Config and the class names in folder/config.json.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or describes no training.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the folder of a training holds config.json and best.pt"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = content["class_names"]
        is_list = isinstance(names, list) and len(names) > 1 and "model" in content
        if not is_list or not all(isinstance(name, str) for name in names):
            raise ValueError("it needs a model and two or more names of classes")
        known = {name: content[name] for name in vars(Config()) if name in content}
        return Config(**known), names
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} describes no training ({error}): mend it, or take it from a copy"
        ) from None
