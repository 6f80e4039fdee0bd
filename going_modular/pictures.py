# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""Pictures: read safely, whatever they are, and found in folders."""

import collections
import contextlib
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from going_modular.archives import missing


class RefusedPicture(ValueError):
    """What is wrong with a picture: the end of a sentence that its name begins."""


def as_gray(picture: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Return a picture of up to 16 bits, or of floats from 0 to 1, with 8 bits.

    Raises:
        RefusedPicture: if numbers are negative, above white, or it is not known what
            is white: of signed numbers, and of whole numbers with 32 bits.
    """
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    white = 1 if picture.mode == "F" else 2 ** tags.get(258, [16])[0] - 1
    if picture.mode in ("I", "L") or not 0 <= low <= high <= white:
        raise RefusedPicture(
            f"has numbers from {low:g} to {high:g}, which leaves open what "
            "is white: save it with 8 bits, 0 to 255"
        )
    values = np.where(values == picture.info.get("transparency"), white, values)
    if tags.get(262) == 0:  # of some TIFFs: 0 is white
        values = white - values
    return Image.fromarray((values / (white / 255)).round().astype(np.uint8))


def as_rgb(picture: Image.Image) -> Image.Image:
    """Return a decoded picture as a new one: upright, RGB, with 8 bits per channel.

    Transparent parts become white, 16 bits are scaled to 8.
    """
    tags = getattr(picture, "tag_v2", {})
    with contextlib.suppress(Exception):  # unreadable notes must not cost a picture
        picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF" or tags.get(339, [1])[0] == 2:  # 2: signed
        picture = as_gray(picture, tags)  # Pillow's convert clips at 255
    if picture.mode[-1] == "a":  # colors already multiplied by the opacity
        picture = picture.convert(picture.mode.upper())
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


MAX_PIXELS = 50_000_000  # the largest picture that is decoded, such as 8,000 by 6,250
MAX_SCANS = 100  # of a JPEG; honest ones have about 10
SCAN = re.compile(rb"\xff\xda\0[\x08\x0a\x0c\x0e][\x01-\x04]")  # how one begins
START = 2**18  # bytes in which a file must say what it is
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # no others are decoded
EXTENSIONS = tuple(
    ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS
)
SIGNATURES = {  # how a file begins -> what it is
    rb"\Z": "empty, 0 bytes",
    rb".{4}ftyp(he|mif1|msf1)": "a HEIC photo, as phones save them",
    rb".{4}ftypavi": "an AVIF picture, damaged or not known to this Pillow",
    rb".{4}ftypcrx|.{8}CR\x02|FUJIFILMCCD|IIRO|IIU\0": "a camera's raw photograph",
    rb"\xff\x0a|.{4}JXL ": "a JPEG XL picture",
    rb".{4}jP  |\xff\x4f\xff\x51": "a JPEG 2000 picture",
    rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ": "a video",
    rb"%PDF": "a PDF document",
    rb"%!PS|\xc5\xd0\xd3\xc6": "a PostScript drawing",
    rb"\s*(?i:<!doctype html|<html|<head|<body)": "a web page",
    rb"\s*<(\?xml|svg|!--|!DOCTYPE svg)": "an SVG drawing, or a page of text",
    rb"version https://git-lfs": "a pointer of Git LFS (git lfs pull fetches it)",
    rb"II\*\0|MM\0\*": "a TIFF of a kind that is not known",
    rb"\xff\xd8|\x89PNG|GIF8|RIFF.{4}WEBP": "a damaged picture",
    rb"P[1-7]\s|8BPS|DDS |\0\0[\1\2]\0": "a picture of a kind that is not read",
    rb"": "not a picture",
}


def open_picture(file: BinaryIO) -> Image.Image:
    """Open a picture in one of FORMATS, without decoding it.

    Raises:
        RefusedPicture: if it is something else, which is told.
    """
    file.seek(0)
    start = file.read(START)
    file.seek(0)
    try:
        with warnings.catch_warnings(action="ignore"):  # of many pixels
            if start[:3] == b"GIF":  # megabytes of comments would take minutes
                Image.open(io.BytesIO(start), formats=FORMATS)
            return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        kinds = (SIGNATURES[key] for key in SIGNATURES if re.match(key, start, re.S))
        raise RefusedPicture(
            f"is {next(kinds)}: replace it by a PNG or JPEG, or take it out of the "
            "folder"
        ) from None


def decode(picture: Image.Image, max_pixels: int) -> Image.Image:
    """Return an opened picture in RGB.

    Raises:
        RefusedPicture: if it is too large, or would take too long; as ``as_gray``.
    """
    if picture.width * picture.height > max_pixels:
        raise RefusedPicture(
            f"has {picture.width:,} × {picture.height:,} pixels, the limit is "
            f"{max_pixels:,}: make it smaller first"
        )
    tiles = len(getattr(picture, "tile", ()))  # of a TIFF; honest ones have few
    if tiles > 4 * sum(picture.size) + picture.width * picture.height // 64:
        raise RefusedPicture(f"has {tiles:,} strips, more than it needs: save it anew")
    if picture.format in ("JPEG", "MPO") and picture.fp:  # fp: not decoded yet
        picture.fp.seek(0)
        scans = len(SCAN.findall(picture.fp.read()))
        if scans > MAX_SCANS:  # each takes as long as a whole decoding
            raise RefusedPicture(
                f"has {scans:,} scans, the limit is {MAX_SCANS}: save it anew"
            )
    raw = picture.tile[0][3] if tiles else ""  # how its pixels are stored
    picture.load()  # here: as_rgb forgives what goes wrong in notes
    if raw in ("L;2", "L;4") and "transparency" in picture.info:
        picture = picture.copy()  # Pillow scales the pixels of a PNG, not this number
        picture.info["transparency"] *= 85 if raw == "L;2" else 17
    return as_rgb(picture)


def read_picture(
    source: str | Path | BinaryIO | bytes | bytearray | Image.Image,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Return a new picture: RGB, upright, decoded; of an animation the first frame.

    Args:
        source: a path, a file object opened in binary mode, bytes or a PIL image.
        name: what messages call the picture, instead of its path.
        max_pixels: a larger picture is refused before it is decoded.

    Raises:
        FileNotFoundError: if there is no file.
        OSError: if it may not be read.
        ValueError: if a file is none of FORMATS, or damaged, too large or too slow.
    """
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            raise missing("picture", source)
        name, source = name or str(source), Path(source).read_bytes()
    if isinstance(source, bytes | bytearray):
        source = io.BytesIO(source)
    if max_pixels > MAX_PIXELS:  # whoever asks for it; Pillow has a limit as well
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        if not isinstance(source, Image.Image):
            name = name or getattr(source, "name", None)
            source = open_picture(source)
        return decode(source, max_pixels)
    except RefusedPicture as error:
        problem = str(error)
    except Exception as error:  # a damaged file makes decoders stumble in many ways
        problem = (
            f"cannot be decoded ({error}): fetch it again, or take it out of the folder"
        )
    raise ValueError(f"{name or 'the picture'} {problem}") from None


HIDDEN = re.compile(r"\.|(__MACOSX|Thumbs\.db|desktop\.ini)$")


def scan_folder(folder: str | Path) -> tuple[dict[str, list[str]], list[str]]:
    """Look through a folder and all below it, but for what is hidden.

    A link to a folder is followed if it leads elsewhere, to each place once: not to one
    within, visited anyway unless it is hidden, nor to one that holds this folder.

    Returns:
        ({name of a folder directly in it: paths of all pictures there and below},
        paths of all other files, and of links that are not followed), sorted. A
        picture is what has one of EXTENSIONS; those in no folder are at "".

    Raises:
        FileNotFoundError: if there is no such folder.
        OSError: if a folder may not be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise missing("folder", folder)
    root, others, waiting = folder.resolve(), [], [folder]
    seen = {root, *root.parents}
    found: dict[str, list[str]] = {}
    for place in waiting:  # which grows
        top = place.relative_to(folder).parts[:1]
        name = os.fsencode("".join(top)).decode(errors="replace")  # it may be no text
        name = unicodedata.normalize("NFC", name)  # a Mac spells é as e + ´
        pictures = found.setdefault(name, [])
        for path in sorted(place.iterdir()):
            real = path.resolve() if path.is_dir() else root
            leads_within = path.is_symlink() and real.is_relative_to(root)
            if HIDDEN.match(path.name):
                continue
            if real not in seen and not leads_within:
                seen.add(real)
                waiting.append(path)
            elif path.suffix.lower() in EXTENSIONS:
                pictures.append(str(path))
            else:
                others.append(str(path))
    for pictures in found.values():
        pictures.sort(key=os.path.split)  # folder by folder
    return dict(sorted(found.items())), sorted(others)


def count_endings(paths: Iterable[str | Path]) -> str:
    """Say how many files have which ending, such as "20 .heic, 3 .txt"."""
    counts = collections.Counter(Path(path).suffix or str(path) for path in paths)
    return ", ".join(f"{count} {ending}" for ending, count in counts.most_common())


def list_pictures(folder: str | Path) -> list[str]:
    """Return the sorted paths of all pictures in and below a folder, none hidden.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no picture.
    """
    found, others = scan_folder(folder)
    pictures = [path for paths in found.values() for path in paths]
    if not pictures:
        raise ValueError(
            f"{folder} holds no picture, nothing that ends in {', '.join(EXTENSIONS)}; "
            f"there are {count_endings(others) or 'no other files'}"
        )
    return pictures
