# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""Transforms, and seeded loaders of image folders."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Sampler
from torchvision.transforms import v2

from going_modular.config import Choices
from going_modular.image_folder import ImageFolderDataset

BILINEAR = Image.Resampling.BILINEAR


def pad_to_square(picture: Image.Image, side: int) -> Image.Image:
    """Return a picture scaled to fit into a square, in the middle of it, on black."""
    scale = side / max(picture.size)
    size = [max(round(length * scale), 1) for length in picture.size]
    return ImageOps.pad(picture.resize(size, BILINEAR), (side, side))


def create_transforms(
    image_size: int = 64,
    augment: str = "light",
    mean: Sequence[float] | None = None,
    std: Any = None,
    *,
    resize: str = "squash",
) -> tuple[v2.Compose, v2.Compose, v2.Compose]:
    """Return (prepare, train_transform, test_transform) for ``ImageFolderDataset``.

    Args:
        image_size: side length of the images, in pixels.
        augment: of training images at random: "none"; "light", flip and rotate by up
            to 30 degrees; "strong", zoom in, flip, and one change of TrivialAugment.
        mean: what to subtract from each channel of 0..1; None for no normalization.
        std: what to divide by afterward; needed if there is a mean.
        resize: "squash" to a square, "crop" its middle, or "pad" it with black.

    Returns:
        prepare: PIL image -> (3, image_size, image_size) uint8; the two others: that
        -> the same shape in float32, 0..1 or normalized.

    Raises:
        ValueError: if augment or resize are unknown.
    """
    size = (image_size, image_size)
    squares = {
        "squash": v2.Resize(size),
        "crop": functools.partial(ImageOps.fit, size=size, method=BILINEAR),
        "pad": functools.partial(pad_to_square, side=image_size),
    }
    flip = v2.RandomHorizontalFlip()
    changes = {
        "none": [],
        "light": [flip, v2.RandomRotation([-30, 30])],
        "strong": [v2.RandomResizedCrop(size, (0.5, 1)), flip, v2.TrivialAugmentWide()],
    }
    squares, changes = Choices("resize", squares), Choices("augment", changes)
    prepare = v2.Compose([squares[resize], v2.PILToTensor()])
    to_float: list = [v2.ToDtype(torch.float32, scale=True)]
    if mean is not None:
        to_float.append(v2.Normalize(mean, std))
    return prepare, v2.Compose(changes[augment] + to_float), v2.Compose(to_float)


@dataclass(eq=False)
class EpochBatches(Sampler):
    """Batches of (index, seed) pairs, decided by (seed, epoch) alone.

    The last may be smaller, but a lone last picture joins the batch before: a batch
    norm cannot learn from one whose maps have shrunk to 1 × 1.

    Where several processes train together, each gets its part of every batch here,
    before any picture is read.

    Args:
        dataset: anything with a length.
        batch_size: pictures in a batch of all processes together.
        seed: of the order, and of every picture's random changes.
        shuffle: take the indices in a new random order each epoch.
        rank, size: this process among those that train together; may be set later.

    Attributes:
        epoch: how many epochs were begun; set it to k to go on after epoch k.
        count: how many pairs this process was given in the current epoch.

    Raises:
        ValueError: if batch_size is below 1.
    """

    dataset: Any
    batch_size: int
    seed: int
    _: KW_ONLY
    shuffle: bool = True
    rank: int = 0
    size: int = 1
    epoch: int = 0
    count: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; take at least 1")

    def starts(self) -> range:
        """Return where all batches but the first begin."""
        last = len(self.dataset) - (self.batch_size > 1)  # no batch begins there
        return range(self.batch_size, last, self.batch_size)

    def __len__(self) -> int:
        return len(self.starts()) + 1

    def __iter__(self) -> Iterator[list[list[int]]]:
        self.epoch += 1  # at the first batch: a DataLoader may ask for unused iterators
        self.count = 0
        total = len(self.dataset)
        mixed = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1).item()
        generator = torch.Generator().manual_seed(mixed)
        order = torch.randperm(total, generator=generator)
        seeds = torch.randint(2**63 - 1, (total,), generator=generator)
        indices = order if self.shuffle else torch.arange(total)
        # (N, 2) -> batches
        pairs = torch.stack([indices, seeds], dim=1)
        for batch in pairs.tensor_split([*self.starts()]):
            part = batch[self.rank :: self.size].tolist()
            self.count += len(part)
            if part:  # a small last batch may have nothing for this process
                yield part


def create_dataloaders(
    train_dir: str | Path | ImageFolderDataset,
    test_dir: str | Path | ImageFolderDataset,
    transform: Callable | None,
    batch_size: int,
    num_workers: int = 0,
    *,
    test_transform: Callable | None = None,
    prepare: Callable | None = None,
    seed: int = 42,
) -> tuple[DataLoader, DataLoader, list[str]]:
    """Return (train_dataloader, test_dataloader, class_names) for two folders.

    Args:
        train_dir: a folder of class folders; or a dataset, which has its transforms.
        test_dir: another one.
        transform: from PIL image, or from what ``prepare`` makes of it, to a tensor.
        batch_size: images in a batch: (B, C, H, W), with labels (B,) int64.
        num_workers: processes that load; they change the speed alone.
        test_transform: for the test images; by default ``transform``.
        prepare: see ``ImageFolderDataset``.
        seed: of the order and the random changes, new in each epoch.

    Raises:
        ValueError: if batch_size is below 1, or the two hold different classes.
        FileNotFoundError, ValueError: as ``ImageFolderDataset``.
    """
    train, test = (
        source
        if isinstance(source, ImageFolderDataset)
        else ImageFolderDataset(
            source, change, prepare=prepare, num_workers=num_workers
        )
        for source, change in (
            (train_dir, transform),
            (test_dir, test_transform or transform),
        )
    )
    if train.classes != test.classes:
        raise ValueError(
            f"{train.folder} and {test.folder} must hold the same classes: only one "
            f"has {sorted({*train.classes} ^ {*test.classes}) or 'another order'}"
        )
    train_dataloader, test_dataloader = (
        DataLoader(
            data,
            batch_sampler=EpochBatches(data, batch_size, seed, shuffle=data is train),
            num_workers=num_workers,
            persistent_workers=num_workers > 0,  # else each epoch starts them anew
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(seed),  # not torch's own
        )
        for data in (train, test)
    )
    return train_dataloader, test_dataloader, train.classes
