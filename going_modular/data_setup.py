# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""Transforms, the image-folder data set, and seeded loaders."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from going_modular.pictures import find_classes, list_pictures, read_picture

KEPT_BYTES = 4 * 2**30  # images of up to so many bytes in all are kept in memory


class ImageFolderDataset(Dataset):
    """Pictures in class folders, such as folder/cat/1.png; items are (image, label).

    An index may be a pair (index, seed): the item's random changes are then drawn
    from that seed, and torch's random state is left as it was. So an image is the same
    in whichever process, and in whichever batch, it is made.

    Args:
        folder: the folder that holds one folder per class.
        transform: run at each access, on what ``prepare`` made or on the PIL image.
        prepare: from PIL image to what is kept in memory, run once per picture, now;
            run at each access if that would be more than KEPT_BYTES.

    Attributes:
        classes, class_to_idx, samples: as in torchvision's ImageFolder.

    Raises:
        FileNotFoundError: if the folder is missing.
        ValueError: if there are no class folders, one is empty, or a picture that
            ``prepare`` needs is broken.
    """

    def __init__(
        self,
        folder: str | Path,
        transform: Callable | None = None,
        *,
        prepare: Callable | None = None,
    ):
        folder = Path(folder).expanduser()
        self.classes = find_classes(folder)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples = [
            (path, label)
            for name, label in self.class_to_idx.items()
            for path in list_pictures(folder / name)
        ]
        self.transform = transform
        self.kept = None
        if prepare is None:
            return
        first = prepare(read_picture(self.samples[0][0]))
        if len(self.samples) * getattr(first, "nbytes", 0) > KEPT_BYTES:
            self.transform = v2.Compose(
                [prepare, transform] if transform else [prepare]
            )
            return
        rest = (prepare(read_picture(path)) for path, _ in self.samples[1:])
        self.kept = [first, *rest]
        with contextlib.suppress(TypeError, RuntimeError):  # no tensors, or two shapes
            self.kept = torch.stack(self.kept)  # N × (C, H, W) -> (N, C, H, W)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int | list[int]) -> tuple[Any, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence) -> list[tuple[Any, int]]:
        items = []
        seeded = isinstance(indices[0], list | tuple)
        with torch.random.fork_rng(devices=[], enabled=seeded):  # of the CPU alone
            for index in indices:
                if seeded:
                    index, seed = index
                    torch.default_generator.manual_seed(seed)
                path, label = self.samples[index]
                image = read_picture(path) if self.kept is None else self.kept[index]
                items.append(
                    (self.transform(image) if self.transform else image, label)
                )
        return items


def create_transforms(
    image_size: int = 64,
    augment: bool = True,
    mean: Sequence[float] | None = None,
    std: Any = None,
) -> tuple[v2.Compose, v2.Compose, v2.Compose]:
    """Return (prepare, train_transform, test_transform) for ``ImageFolderDataset``.

    Args:
        image_size: side length of the images, in pixels.
        augment: flip and rotate training images at random, by up to 30 degrees.
        mean: what to subtract from each channel of 0..1; None for no normalization.
        std: what to divide by afterward.

    Returns:
        prepare: PIL image -> (3, image_size, image_size) uint8; the two others: that
        -> the same shape in float32, 0..1 or normalized.

    Raises:
        ValueError: if image_size is below 1.
    """
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; images need at least 1 pixel")
    prepare = v2.Compose([v2.Resize((image_size, image_size)), v2.PILToTensor()])
    to_float: list = [v2.ToDtype(torch.float32, scale=True)]
    if mean is not None:
        to_float.append(v2.Normalize(mean, std))
    changes = (
        [v2.RandomHorizontalFlip(), v2.RandomRotation([-30, 30])] if augment else []
    )
    return prepare, v2.Compose(changes + to_float), v2.Compose(to_float)


class EpochBatches(Sampler):
    """Batches of (index, seed) pairs, decided by (seed, epoch) alone.

    Where several processes train together, each gets its part of every batch here,
    before any picture is read.

    Args:
        dataset: anything with a length.
        batch_size: pictures in a batch of all processes together.
        seed: of the order, and of every picture's random changes.
        shuffle: take the indices in a new random order each epoch.
        rank, size: this process among those that train together.

    Attributes:
        epoch: how many epochs were begun; set it to k to go on after epoch k.
        count: how many pairs this process was given in the current epoch.

    Raises:
        ValueError: if batch_size is below 1.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        rank: int = 0,
        size: int = 1,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; take at least 1")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.part = slice(rank, None, size)
        self.epoch = self.count = 0

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)  # the last may be smaller

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
        for batch in torch.stack([indices, seeds], dim=1).split(self.batch_size):
            part = batch[self.part].tolist()
            self.count += len(part)
            if part:  # a small last batch may have nothing for this process
                yield part


def create_dataloaders(
    train_dir: str | Path,
    test_dir: str | Path,
    transform: Callable,
    batch_size: int,
    num_workers: int = 0,
    *,
    test_transform: Callable | None = None,
    prepare: Callable | None = None,
    seed: int = 42,
    rank: int = 0,
    size: int = 1,
) -> tuple[DataLoader, DataLoader, list[str]]:
    """Return (train_dataloader, test_dataloader, class_names) for two folders.

    Args:
        train_dir: a folder of class folders.
        test_dir: another one.
        transform: from PIL image, or from what ``prepare`` makes of it, to a tensor.
        batch_size: images in a batch: (B, C, H, W), with labels (B,) int64.
        num_workers: processes that load; they change the speed alone.
        test_transform: for the test images; by default ``transform``.
        prepare: see ``ImageFolderDataset``.
        seed: of the order and the random changes, new in each epoch.
        rank: of this process among those that train together.
        size: how many they are.

    Raises:
        ValueError: if batch_size is below 1, or the two hold different classes.
        FileNotFoundError, ValueError: as ``ImageFolderDataset``.
    """
    train = ImageFolderDataset(train_dir, transform, prepare=prepare)
    test = ImageFolderDataset(test_dir, test_transform or transform, prepare=prepare)
    if train.classes != test.classes:
        first = set(train.classes)
        second = set(test.classes)
        raise ValueError(
            f"{train_dir} and {test_dir} must hold the same classes: only the first "
            f"has {sorted(first - second)}, only the second {sorted(second - first)}"
        )
    train_dataloader, test_dataloader = (
        DataLoader(
            data,
            batch_sampler=EpochBatches(
                data, batch_size, seed, shuffle=data is train, rank=rank, size=size
            ),
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(seed),  # not torch's own
        )
        for data in (train, test)
    )
    return train_dataloader, test_dataloader, train.classes
