# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""Data sets of pictures: where their parts are, and what is wrong."""

import collections
import hashlib
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import DataLoader
from tqdm import tqdm

from going_modular.archives import missing, unpack
from going_modular.data_setup import create_dataloaders
from going_modular.image_folder import BrokenPictures, ImageFolderDataset, pixel_hash
from going_modular.pictures import HIDDEN, MAX_PIXELS, count_endings, scan_folder

SPLITS = {  # how folders are called -> what they are
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}


def find_splits(data: str | Path) -> dict[str, Path]:
    """Return where the parts of a data set are, by name: train, valid and test.

    Known are the names in SPLITS, in capitals too; without any, a folder of class
    folders is train. They may be in a folder inside, or a zip, data or data.zip.

    Raises:
        OSError: as ``unpack``; FileNotFoundError if there is neither folder nor zip.
        ValueError: as ``unpack``; or if the folder holds none of these.
    """
    folder = Path(data).expanduser()
    if not folder.is_dir():
        archive = Path(f"{str(folder).removesuffix('.zip')}.zip")
        if not archive.is_file():
            raise missing("folder", folder)
        folder = unpack(archive, archive.with_suffix(""))
    for _ in range(9):  # of folders in folders; a link may lead in a circle
        inside = [path for path in folder.iterdir() if not HIDDEN.match(path.name)]
        places = [path for path in sorted(inside) if path.is_dir()]
        splits = {
            SPLITS[name]: place
            for name in SPLITS
            for place in places  # which may be a class, such as trains
            if place.name.lower() == name and any(map(Path.is_dir, place.iterdir()))
        }
        if splits or len(places) > 1:
            return splits or {"train": folder}
        if not places:
            break
        folder = places[0]
    raise ValueError(
        f"{data} holds no class folders, but {count_endings(inside) or 'nothing'} in "
        f"{folder}: it needs train/CLASS/1.png and valid/CLASS/2.png, or CLASS/1.png"
    )


class Folders(NamedTuple):
    """What ``open_folders`` found; notes are lines worth printing."""

    train: DataLoader
    valid: DataLoader
    class_names: list[str]
    notes: list[str]


def hold_out(
    samples: list[tuple[str, int]], share: float, seed: int
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Split samples, (path, label) by label, in two: a share of each class is held out.

    Raises:
        ValueError: if the share is not between 0 and 1, or a class has one picture.
    """
    if not 0 < share < 1:
        raise ValueError(f"valid_share is {share}: choose a number between 0 and 1")
    rng = random.Random(seed)
    held: set[tuple[str, int]] = set()
    for _, group in itertools.groupby(samples, key=lambda sample: sample[1]):
        own = list(group)
        if len(own) < 2:
            raise ValueError(
                f"{own[0][0]} is the only picture of its class: validation takes one"
            )
        count = max(round(share * len(own)), 1)
        held.update(rng.sample(own, min(count, len(own) - 1)))
    return (
        [sample for sample in samples if sample not in held],
        [sample for sample in samples if sample in held],
    )


def open_folders(
    data: str | Path,
    transforms: tuple[Callable, Callable, Callable],
    batch_size: int,
    num_workers: int = 0,
    *,
    valid_share: float = 0.0,
    max_pixels: int = MAX_PIXELS,
    seed: int = 42,
    rank: int = 0,
    size: int = 1,
) -> Folders:
    """Return loaders to train and validate with, of what ``find_splits`` finds.

    Where there is no valid, a share of train is held out, the same of each class,
    decided by the seed. A test is for the end, and left alone.

    Args:
        data: a folder, or a zip.
        transforms: what ``create_transforms`` returned.
        batch_size: as for ``create_dataloaders``, like all that is short here.
        num_workers: processes that load.
        valid_share: how much of train to hold out; 0 is 0.2 where it has to be.
        max_pixels: see ``read_picture``.
        seed: also of what is held out.
        rank: of this process.
        size: of its group.

    Raises:
        BrokenPictures: if there are some; all are listed.
        OSError, ValueError: as ``find_splits`` and ``create_dataloaders``; ValueError
            also if there is no train, one class only, or valid_share beside a valid.
    """
    splits, notes, errors = find_splits(data), [], []
    names = ", ".join(path.name for path in splits.values())
    if "train" not in splits:
        raise ValueError(f"{data} holds {names}, but no train: rename what it is")
    if "valid" in splits and valid_share:
        raise ValueError(f"{data} holds {names}: leave out valid_share")
    prepare, change, plain = transforms
    train = ImageFolderDataset(splits["train"], change, max_pixels=max_pixels)
    place = splits.get("valid", train.folder)
    valid = ImageFolderDataset(place, plain, max_pixels=max_pixels)
    if "valid" not in splits:
        share, valid.skipped = valid_share or 0.2, []
        train.samples, valid.samples = hold_out(train.samples, share, seed)
        notes.append(
            f"{place} has no valid beside it: {len(valid)} of its pictures, "
            f"{share:.0%} of each class, are held out to validate with"
        )
    loaders = create_dataloaders(
        train, valid, None, batch_size, num_workers, seed=seed, rank=rank, size=size
    )
    if len(train.classes) < 2:
        raise ValueError(f"{data} has one class, {train.classes[0]}: it takes two")
    for dataset in (train, valid):
        if dataset.skipped:
            notes.append(
                f"{dataset.folder}: {len(dataset.skipped)} files are skipped, "
                f"{count_endings(dataset.skipped)}, such as {dataset.skipped[0]}"
            )
        try:
            dataset.keep(prepare, num_workers)
        except BrokenPictures as error:
            errors += error.errors
    if errors:
        raise BrokenPictures(errors)
    return Folders(*loaders, notes)


def fingerprint(dataset: ImageFolderDataset) -> dict[str, list]:
    """Return {class: [number of pictures, hash of their bytes]}, in their order."""
    hashes = {name: hashlib.blake2b(digest_size=16) for name in dataset.classes}
    counts = dict.fromkeys(hashes, 0)
    for path, label in dataset.samples:
        name = dataset.classes[label]
        counts[name] += 1
        hashes[name].update(hashlib.blake2b(Path(path).read_bytes()).digest())
    return {name: [counts[name], hashes[name].hexdigest()] for name in hashes}


@dataclass
class Report:
    """What ``check_folder`` found; as a text it has a line for each finding.

    Attributes:
        counts: split -> class -> number of pictures.
        sizes: (width, height) of those that can be read.
        findings: "broken", "skipped" (no pictures, or in no class), "in two splits" and
            "twice in one" -> what is so, each with its path.
    """

    counts: dict[str, dict[str, int]]
    sizes: list[tuple[int, int]]
    findings: dict[str, list[str]]

    def __str__(self) -> str:
        lines = []
        for split, counts in self.counts.items():
            shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            lines.append(f"{split}: {sum(counts.values()):,} pictures: {shown}")
        if self.sizes:
            sizes = [f"{x} × {y}" for x, y in sorted(self.sizes, key=math.prod)]
            shown = ", ".join((sizes[0], sizes[len(sizes) // 2], sizes[-1]))
            lines.append(f"smallest, median and largest: {shown} pixels")
        for title, items in self.findings.items():
            lines += [f"{title}: {len(items)}", *(f"    {item}" for item in items)]
        return "\n".join(lines)


def check_folder(data: str | Path, max_pixels: int = MAX_PIXELS) -> Report:
    """Read every picture of a data set, and report what is in it and what is wrong.

    Args:
        data: as for ``find_splits``.
        max_pixels: see ``read_picture``.

    Raises:
        OSError, ValueError: as ``find_splits``.
    """
    report = Report({}, [], collections.defaultdict(list))
    places = collections.defaultdict(list)  # of each picture
    for split, folder in find_splits(data).items():
        classes, pictures, others = scan_folder(folder)
        counts = report.counts[split] = dict.fromkeys(classes, 0)
        report.findings["skipped"] += others
        for path in tqdm(pictures, split, leave=False, disable=None):
            try:
                counts[Path(path).parts[len(folder.parts)]] += 1
                key = pixel_hash(path, max_pixels)
            except KeyError:
                report.findings["skipped"].append(path)  # it is in no class
            except (OSError, ValueError) as error:
                report.findings["broken"].append(str(error))
            else:
                report.sizes.append(key[0])
                places[key].append((split, path))
    for twins in places.values():
        if len(twins) > 1:
            is_leak = len({split for split, _ in twins}) > 1
            title = "in two splits" if is_leak else "twice in one"
            report.findings[title].append(" = ".join(path for _, path in twins))
    return report
