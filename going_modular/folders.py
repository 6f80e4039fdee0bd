# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""Data sets of pictures: where their parts are, and what is wrong."""

import collections
import hashlib
import itertools
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import DataLoader
from tqdm import tqdm

from going_modular.archives import missing, unpack
from going_modular.config import Config
from going_modular.data_setup import create_dataloaders
from going_modular.image_folder import ImageFolderDataset, pixel_hash, refuse_broken
from going_modular.pictures import HIDDEN, MAX_PIXELS, count_endings, scan_folder

SPLITS = {  # how folders are called -> what they are
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
}


def name_split(folder: Path) -> str | None:
    """Return "train", "valid" or "test" if a folder is called so, as test_set is."""
    words = {*re.split(r"[\W_]+", folder.name.lower())}
    words -= {"set", "images", "seg", "data"}
    return SPLITS.get(*words) if len(words) == 1 else None


def find_splits(data: str | Path) -> dict[str, Path]:
    """Return where the parts of a data set are, by name: train, valid and test.

    Known are the names in SPLITS, in capitals and as in test_set too; without any, a
    folder of class folders is train. They may be in a folder inside, or a zip, data or
    data.zip.

    Raises:
        OSError: as ``unpack``; FileNotFoundError if there is neither folder nor zip.
        ValueError: as ``unpack``; or if the folder holds none of these, or one twice.
    """
    folder = Path(data).expanduser()
    if not folder.is_dir():
        is_zip = folder.suffix.lower() == ".zip"
        archive = folder if is_zip else Path(f"{folder}.zip")
        if not archive.is_file():
            raise missing("folder", folder)
        folder = unpack(archive, archive.with_suffix(""))
    for _ in range(9):  # of folders in folders; a link may lead in a circle
        inside = [path for path in folder.iterdir() if not HIDDEN.match(path.name)]
        places = [path for path in sorted(inside) if path.is_dir()]
        splits: dict[str, Path] = {}
        for place in places:  # which may be a class, without folders in it
            name = name_split(place)
            if name and any(map(Path.is_dir, place.iterdir())):
                if twin := splits.get(name):
                    raise ValueError(f"{twin} and {place} are both {name}: rename one")
                splits[name] = place
        if splits or len(places) > 1:
            names = ("train", "valid", "test") if splits else ()
            return {n: splits[n] for n in names if n in splits} or {"train": folder}
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
        ValueError: if a class has one picture.
    """
    rng, held = random.Random(seed), set()
    for _, group in itertools.groupby(samples, key=lambda sample: sample[1]):
        own = list(group)
        if len(own) < 2:
            raise ValueError(
                f"{own[0][0]} is the only picture of its class: validation takes one"
            )
        count = min(max(round(share * len(own)), 1), len(own) - 1)
        held.update(rng.sample(own, count))
    kept = [sample for sample in samples if sample not in held]
    return kept, [sample for sample in samples if sample in held]


def open_folders(
    config: Config,
    transforms: tuple[Callable, Callable, Callable],
) -> Folders:
    """Return loaders to train and validate with, of what ``find_splits`` finds.

    Where there is no valid, a share of train is held out, the same of each class,
    decided by the seed. A test is for the end, and left alone.

    Args:
        config: which data, and how it is loaded; valid_share 0 is 0.2 if it has to be.
        transforms: what ``create_transforms`` returned.

    Raises:
        OSError, ValueError: as ``find_splits``, ``create_dataloaders`` and, for all
            pictures, ``refuse_broken``; ValueError also if there is no train, one class
            only, or valid_share beside a valid.
    """
    data, splits, notes = config.data, find_splits(config.data), []
    names = ", ".join(path.name for path in splits.values())
    if "train" not in splits:
        raise ValueError(f"{data} holds {names}, but no train: rename what it is")
    if "valid" in splits and config.valid_share:
        raise ValueError(f"{data} holds {names}: leave out valid_share")
    prepare, *changes = transforms
    places = splits["train"], splits.get("valid", splits["train"])
    train, valid = datasets = [
        ImageFolderDataset(place, change, max_pixels=config.max_pixels)
        for place, change in zip(places, changes, strict=True)
    ]
    if "valid" not in splits:
        share, valid.skipped = config.valid_share or 0.2, []
        train.samples, valid.samples = hold_out(train.samples, share, config.seed)
        notes.append(
            f"{train.folder} has no valid beside it: {len(valid)} of its pictures, "
            f"{share:.0%} of each class, are held out to validate with"
        )
    if len(train.classes) < 2:
        raise ValueError(f"{data} has one class, {train.classes[0]}: it takes two")
    numbers = (config.batch_size, config.num_workers)
    loaders = create_dataloaders(train, valid, None, *numbers, seed=config.seed)
    errors = []
    for dataset in datasets:
        if dataset.skipped:
            notes.append(
                f"{dataset.folder}: {len(dataset.skipped)} files are skipped, "
                f"{count_endings(dataset.skipped)}, such as {dataset.skipped[0]}"
            )
        errors += dataset.keep(prepare, config.num_workers)
    refuse_broken(errors)
    return Folders(*loaders, notes)


def fingerprint(dataset: ImageFolderDataset) -> dict[str, list]:
    """Return {class: [number of pictures, hash of their bytes]}, in their order."""
    prints = {}
    for label, group in itertools.groupby(dataset.samples, key=lambda each: each[1]):
        each = [hashlib.blake2b(Path(path).read_bytes()).digest() for path, _ in group]
        whole = hashlib.blake2b(b"".join(each), digest_size=16).hexdigest()
        prints[dataset.classes[label]] = [len(each), whole]
    return prints


def check_folder(
    data: str | Path, max_pixels: int = MAX_PIXELS
) -> tuple[list[str], dict[str, list[str]]]:
    """Read every picture of a data set: what is in it, and what is wrong.

    Args:
        data: as for ``find_splits``.
        max_pixels: see ``read_picture``.

    Returns:
        (a line for each split and one for the sizes of the pictures, findings): these
        are "broken", "skipped" (no pictures, or in no class), "in two splits" and
        "twice in one" -> what is so, each with its path.

    Raises:
        OSError, ValueError: as ``find_splits``.
    """
    lines, findings = [], collections.defaultdict(list)
    places = collections.defaultdict(list)  # of each picture
    for split, folder in find_splits(data).items():
        found, others = scan_folder(folder)
        findings["skipped"] += others + found.pop("")
        counts = ", ".join(f"{name} {len(found[name]):,}" for name in found)
        pictures = [*itertools.chain(*found.values())]
        lines.append(f"{split}: {len(pictures):,} pictures: {counts}")
        for path in tqdm(pictures, split, leave=False, disable=None):
            try:
                places[pixel_hash(path, max_pixels)].append((split, path))
            except (OSError, ValueError) as error:
                findings["broken"].append(str(error))
    for twins in places.values():
        if len(twins) > 1:
            is_leak = len({split for split, _ in twins}) > 1
            title = "in two splits" if is_leak else "twice in one"
            findings[title].append(" = ".join(path for _, path in twins))
    sizes = [size for (size, _), twins in places.items() for _ in twins]
    sizes.sort(key=math.prod)
    if sizes:
        shown = (sizes[0], sizes[len(sizes) // 2], sizes[-1])
        shown = ", ".join(f"{width} × {height}" for width, height in shown)
        lines.append(f"smallest, median and largest: {shown} pixels")
    return lines, findings
