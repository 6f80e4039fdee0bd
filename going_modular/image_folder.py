# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""The image-folder data set, and pictures that two folders share."""

import collections
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
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


class BrokenPictures(ValueError):
    """Pictures that cannot be used, all of them in one message.

    Args:
        errors: what is wrong with each, beginning with its path.
    """

    def __init__(self, errors: list[str]):
        self.errors = errors
        text = "; ".join(errors)
        if len(errors) > 1:
            text = f"{len(errors)} pictures cannot be used: {text}"
        if "pixels, the limit is" in text:
            text += ", or raise the limit with --max-pixels"
        super().__init__(text)


def try_prepare(prepare: Callable, max_pixels: int, path: Any) -> Any:
    """Return what ``prepare`` makes of a picture, or the error if it is broken."""
    try:
        picture = read_picture(path, max_pixels=max_pixels)
    except (OSError, ValueError) as error:
        return error
    return prepare(picture)


KEPT_BYTES = 4 * 2**30  # images of up to so many bytes in all are kept in memory


class ImageFolderDataset(Dataset):
    """Pictures in class folders, such as folder/cat/1.png; items are (image, label).

    An index may be a pair (index, seed): the item's random changes are then drawn
    from that seed, and torch's random state is left as it was. So an image is the same
    in whichever process, and in whichever batch, it is made.

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
        ValueError: if there are no class folders, or one is empty or not in classes.
        BrokenPictures: as ``keep``.
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
        self.folder = folder = Path(folder).expanduser()
        found, pictures, self.skipped = scan_folder(folder)
        if not found:
            raise ValueError(
                f"{folder} holds no folders: it needs one for each class, such as "
                f"{folder}/cat"
            )
        self.classes = classes or found
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        if not set(found) <= set(self.classes):
            raise ValueError(f"{folder} holds {found}, but the classes are {classes}")
        paths: dict[str, list[str]] = {name: [] for name in found}
        for path in pictures:
            name = Path(path).parts[len(folder.parts)]
            paths.get(name, self.skipped).append(path)
        self.samples = [
            (path, self.class_to_idx[name])
            for name in found
            for path in paths[name] or list_pictures(folder / name)  # raises if empty
        ]
        self.transform = transform
        self.max_pixels = max_pixels
        self.kept: Any = None
        if prepare is not None:
            self.keep(prepare, num_workers)

    def keep(self, prepare: Callable, num_workers: int = 0) -> None:
        """Read all pictures and keep what ``prepare`` makes of them in memory.

        If that would be more than KEPT_BYTES, ``prepare`` runs at each access instead.

        Args:
            prepare: from PIL image to, most often, a tensor; run once per picture.
            num_workers: processes that do it.

        Raises:
            BrokenPictures: if there are some, which are all listed.
        """
        paths: Any = [path for path, _ in self.samples]
        work: Any = functools.partial(try_prepare, prepare, self.max_pixels)
        items: Any = map(work, paths)
        if num_workers:
            own = torch.Generator()  # from which it draws, not from torch's own
            items = DataLoader(
                paths, None, num_workers=num_workers, collate_fn=work, generator=own
            )
        kept: Any = [None] * len(paths)
        errors = []
        bar: Any = tqdm(items, "pictures", len(paths), leave=False, disable=None)
        for index, item in enumerate(bar):
            if isinstance(item, Exception):
                errors.append(str(item))
                continue
            if errors:
                continue  # all that is left to do is to find the others
            if index == 0 and getattr(item, "nbytes", 0) * len(paths) > KEPT_BYTES:
                steps = [prepare, self.transform] if self.transform else [prepare]
                self.transform = v2.Compose(steps)
                return
            if index == 0 and isinstance(item, torch.Tensor):
                kept = item.new_empty((len(paths), *item.shape))  # (N, C, H, W)
            elif isinstance(kept, torch.Tensor) and item.shape != kept.shape[1:]:
                kept = [*kept]  # of several shapes
            kept[index] = item
        if errors:
            raise BrokenPictures(errors)
        self.kept = kept

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
                if self.kept is None:
                    image = read_picture(path, max_pixels=self.max_pixels)
                else:
                    image = self.kept[index]
                if self.transform:
                    image = self.transform(image)
                items.append((image, label))
        return items
