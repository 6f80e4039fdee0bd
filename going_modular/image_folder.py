# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""The image-folder data set, and pictures that two folders share."""

import collections
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from going_modular.pictures import MAX_PIXELS, list_pictures, read_picture, scan_folder


def pixel_hash(
    path: str | Path, max_pixels: int = MAX_PIXELS
) -> tuple[tuple[int, int], str]:
    """Return a picture's size and the SHA-256 of its RGB pixels, whatever its file."""
    picture = read_picture(path, max_pixels=max_pixels)
    return picture.size, hashlib.sha256(picture.tobytes()).hexdigest()


def find_leaks(
    train_folder: str | Path, test_folder: str | Path
) -> list[tuple[str, str]]:
    """Return (train_path, test_path) of each picture that is in both folders.

    Pictures count as the same if all pixels are. Folders within are searched too.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no picture, or one that cannot be read.
    """
    known = collections.defaultdict(list)
    for path in list_pictures(train_folder):
        known[pixel_hash(path)].append(path)
    return [
        (twin, path)
        for path in list_pictures(test_folder)
        for twin in known[pixel_hash(path)]
    ]


KEPT_BYTES = 4 * 2**30  # images of up to so many bytes in all are kept in memory


class ImageFolderDataset(Dataset):
    """Pictures in class folders, such as folder/cat/1.png; items are (image, label).

    An index may be a pair (index, seed): what torch draws for the item then comes
    from that seed, and torch's random state is left as it was. So an image is the same
    in whichever process, and in whichever batch, it is made, unless its transform
    draws from elsewhere, such as ``random`` or NumPy.

    Args:
        folder: the folder that holds one folder per class.
        transform: run at each access, on what ``prepare`` made or on the PIL image.
        prepare: see ``keep``, which is called with it.
        classes: their names in the order of the labels; by default the folders'.
        num_workers: see ``keep``.
        max_pixels: see ``read_picture``.

    Attributes:
        classes, class_to_idx, samples: as in torchvision's ImageFolder.
        folder: its path.
        skipped: paths of the files that are no pictures, or in no class.

    Raises:
        FileNotFoundError: if the folder is missing.
        ValueError: if there are no class folders, one is empty or not in classes; as
            ``refuse_broken``, if ``prepare`` is given.
    """

    def __init__(
        self,
        folder: str | Path,
        transform: Callable | None = None,
        *,
        prepare: Callable | None = None,
        classes: list[str] | None = None,
        num_workers: int = 0,
        max_pixels: int = MAX_PIXELS,
    ):
        self.folder = Path(folder).expanduser()
        found, self.skipped = scan_folder(self.folder)
        self.skipped += found.pop("")
        self.classes = classes or [*found]
        if not found or not {*found} <= {*self.classes}:
            raise ValueError(
                f"{self.folder} holds {', '.join(found) or 'no folders'}: it needs one "
                f"for each class, such as {', '.join(self.classes or ['cat'])}"
            )
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples = [
            (path, self.class_to_idx[name])
            for name in found
            for path in found[name] or list_pictures(self.folder / name)  # raises
        ]
        self.transform, self.prepare = transform, prepare
        self.max_pixels = max_pixels
        self.kept: Any = None
        if prepare:
            refuse_broken(self.keep(prepare, num_workers))

    def keep(self, prepare: Callable, num_workers: int = 0) -> list[str]:
        """Read all pictures and keep what ``prepare`` makes of them in memory.

        If the first is a tensor, and all of its size would be more than KEPT_BYTES,
        ``prepare`` runs at each access instead, and the others are not looked at here.

        Args:
            prepare: from PIL image to, most often, a tensor; run once per picture.
            num_workers: processes that do it.

        Returns:
            What is wrong with the pictures that cannot be used, for ``refuse_broken``.
        """
        self.prepare, self.kept = prepare, None
        paths: Any = [path for path, _ in self.samples]
        read: Any = self.try_read
        items = DataLoader(
            paths,
            None,
            num_workers=num_workers,
            collate_fn=read,
            generator=torch.Generator(),  # from which it draws, not from torch's own
        )
        kept: Any = [None] * len(paths)
        errors = []
        bar: Any = tqdm(items, "pictures", leave=False, disable=None)
        for index, item in enumerate(bar):
            if isinstance(item, Exception):
                errors.append(str(item))
                continue
            if errors:
                continue  # all that is left to do is to find the others
            if index == 0 and isinstance(item, torch.Tensor):
                if item.nbytes * len(paths) > KEPT_BYTES:
                    return []
                kept = item.new_empty((len(paths), *item.shape))  # (N, C, H, W)
            if isinstance(kept, torch.Tensor) and item.shape != kept.shape[1:]:
                kept = [*kept]  # of several shapes
            kept[index] = item
        self.kept = kept
        return errors

    def try_read(self, path: str) -> Any:
        """Return what ``read`` does, or the error if the picture is broken."""
        try:
            return self.read(path)
        except (OSError, ValueError) as error:
            return error

    def read(self, path: str) -> Any:
        """Return what ``prepare`` makes of a picture."""
        picture = read_picture(path, max_pixels=self.max_pixels)
        return self.prepare(picture) if self.prepare else picture

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
                image = self.read(path) if self.kept is None else self.kept[index]
                if isinstance(image, torch.Tensor):
                    image = image.clone()  # a transform may change it in place
                items.append(
                    (self.transform(image) if self.transform else image, label)
                )
        return items


def refuse_broken(errors: list[str]) -> None:
    """Raise ValueError with all that is wrong with pictures, if there is anything."""
    if errors:
        text = "; ".join(errors)
        more = ", or raise the limit with --max-pixels" if " pixels, " in text else ""
        raise ValueError(f"pictures that cannot be used, {len(errors)}: {text}{more}")
