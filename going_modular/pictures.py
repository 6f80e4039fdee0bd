# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""Pictures: read safely, found in folders, unpacked from archives."""

import collections
import contextlib
import glob
import hashlib
import io
import os
import re
import stat
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS

from going_modular.checkpoints import whole_folder

ROTATION_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # of info


def as_rgb(picture: Image.Image) -> Image.Image:
    """Return a decoded picture upright and in RGB, with 8 bits per channel.

    Transparent parts become white, 16 bits are scaled to 8.
    """
    if picture.info.keys() & ROTATION_KEYS:
        with contextlib.suppress(Exception):  # unreadable notes must not cost a picture
            picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 0 to 65535; Pillow's convert clips at 255
        values = np.asarray(picture).clip(0, 65_535) / 257
        picture = Image.fromarray(values.round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def pixel_hash(path: str | Path) -> tuple[tuple[int, int], str]:
    """Return a picture's size and the SHA-256 of its RGB pixels, whatever its file."""
    picture = read_picture(path)
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


def missing(kind: str, path: str | Path) -> FileNotFoundError:
    """Return the error for a path where a file or folder should be."""
    return FileNotFoundError(
        f"there is no {kind} {path}: check the path, and the folder you run this in"
    )


def check_zip_member(archive: Path, member: zipfile.ZipInfo) -> None:
    """Raise ValueError unless member is a file or folder that stays where it is put."""
    name = member.orig_filename  # as stored; ``filename`` is adapted to this system
    if re.search(r"^/|[\\\0]|(^|/)(\.\.(/|$)|.:)", name):
        raise ValueError(
            f"{archive} is refused: its member {name!r} could be written outside the "
            "folder"
        )
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ValueError(
            f"{archive} is refused: its member {name!r} is a link or a device, not a "
            "file or folder"
        )


def check_members(
    archive: Path, members: list[zipfile.ZipInfo], max_bytes: int
) -> None:
    """Raise ValueError if a member is not safe, or all would have above max_bytes."""
    for member in members:
        check_zip_member(archive, member)
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        largest = max(members, key=lambda member: member.file_size).orig_filename
        raise ValueError(
            f"{archive} is refused: unpacked it has {total:,} bytes, its largest "
            f"member is {largest!r}; the limit is {max_bytes:,}. "
            "Pass a larger max_bytes if you trust it."
        )


def unpack(
    archive: str | Path, folder: str | Path, *, max_bytes: int = 2_000_000_000
) -> Path:
    """Unpack a zip into a folder, completely or not at all, and return its path.

    Args:
        archive: path of the zip.
        folder: made if it is missing; one that has content is left alone.
        max_bytes: limit for the members' total size, unpacked.

    Raises:
        OSError: if there is no archive, or the folder cannot be written.
        ValueError: if it is not a zip or damaged, has a member that would leave the
            folder, a link or a device, or is larger than max_bytes.
    """
    archive, folder = Path(archive), Path(folder)
    if any(folder.glob("*")):
        return folder
    if not archive.is_file():
        raise missing("file", archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            check_members(archive, opened.infolist(), max_bytes)
            with whole_folder(folder) as temporary:
                opened.extractall(temporary)
    except OSError as error:
        if not any(folder.glob("*")):  # else another process was faster
            raise OSError(
                f"cannot unpack {archive} into {folder}: {error}. Choose a folder that "
                "you may write to, with space left."
            ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{archive} is not a zip that can be unpacked: {error}. Fetch it again."
        ) from None
    return folder


MAX_PIXELS = 50_000_000  # the largest picture that is decoded, such as 8,000 by 6,250


def problem_with(source: BinaryIO | Image.Image, error: Exception) -> str:
    """Say why Pillow could not decode a picture, and what to do."""
    if isinstance(error, Image.DecompressionBombError):  # above Pillow's higher limit
        return f"has too many pixels, the limit is {MAX_PIXELS:,}: make it smaller"
    if not isinstance(error, UnidentifiedImageError):
        return (
            f"cannot be decoded ({error}): fetch it again, or take it out of the folder"
        )
    if source.seek(0, os.SEEK_END):
        return "is not a picture: replace it, or take it out of the folder"
    return "is empty, 0 bytes: replace it, or take it out of the folder"


def read_picture(
    source: str | Path | BinaryIO | bytes | bytearray | Image.Image,
    *,
    name: str | None = None,
) -> Image.Image:
    """Return a new picture: RGB, upright, decoded; of an animation the first frame.

    Args:
        source: a path, a file object opened in binary mode, bytes or a PIL image.
        name: what messages call the picture, instead of its path.

    Raises:
        FileNotFoundError, TypeError: if there is no file, if source is anything else.
        ValueError: if it is empty, not a picture, damaged, or above MAX_PIXELS.
    """
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            raise missing("picture", source)
        with open(source, "rb") as file:
            return read_picture(file, name=name)
    if isinstance(source, bytes | bytearray):
        source = io.BytesIO(source)
    given = isinstance(source, Image.Image)
    if not (given or hasattr(source, "read")):
        raise TypeError(
            "a picture is a path, a file object, bytes or a PIL image, not a "
            f"{type(source).__name__}"
        )
    name = name or getattr(source, "name", "the picture")
    try:
        with warnings.catch_warnings(action="ignore"):  # of many pixels
            picture = source if given else Image.open(source)  # reads the beginning
        if picture.width * picture.height <= MAX_PIXELS:
            picture.load()
            picture = picture.copy() if given else picture
            is_plain = picture.mode == "RGB" and not picture.info
            return picture if is_plain else as_rgb(picture)
    except Exception as error:  # a damaged file makes decoders stumble in many ways
        raise ValueError(f"{name} {problem_with(source, error)}") from None
    raise ValueError(
        f"{name} has {picture.width:,} × {picture.height:,} pixels, the limit is "
        f"{MAX_PIXELS:,}: make it smaller first"
    )


def list_pictures(folder: str | Path) -> list[str]:
    """Return the sorted paths of all pictures in and below a folder, none hidden.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no picture.
    """
    if not os.path.isdir(folder):
        raise missing("folder", folder)
    found = [
        path
        for path in glob.glob(f"{glob.escape(str(folder))}/**", recursive=True)
        if path.lower().endswith(IMG_EXTENSIONS) and not os.path.isdir(path)
    ]
    if not found:
        raise ValueError(
            f"{folder} holds no picture, nothing that ends in "
            f"{', '.join(IMG_EXTENSIONS)}"
        )
    return sorted(found, key=os.path.split)  # folder by folder


def find_classes(folder: str | Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there are none in it.
    """
    if not os.path.isdir(folder):
        raise missing("folder", folder)
    classes = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise ValueError(
            f"{folder} holds no folders: it needs one for each class, such as "
            f"{folder}/cat"
        )
    return classes
