# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""Zips, unpacked completely or not at all."""

import lzma
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path

from going_modular.checkpoints import whole_folder


def missing(kind: str, path: str | Path) -> FileNotFoundError:
    """Return the error for a path where a file or folder should be."""
    return FileNotFoundError(
        f"there is no {kind} {path}: check the path, and the folder you run this in"
    )


def check_members(
    archive: Path, members: list[zipfile.ZipInfo], max_bytes: int
) -> None:
    """Raise ValueError if a member is not safe, or all would have above max_bytes."""
    for member in members:
        name = member.orig_filename  # as stored; ``filename`` is adapted to this system
        kind = stat.S_IFMT(member.external_attr >> 16)
        is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
        if not is_plain or re.search(r"^/|[\\\0]|(^|/)(\.\.(/|$)|.:)", name):
            raise ValueError(
                f"{archive} is refused: its member {name!r} is a link or a device, or "
                "could be written outside the folder"
            )
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise ValueError(
            f"{archive} is refused: it has {total:,} bytes, unpacked; the limit is "
            f"{max_bytes:,}. Pass a larger max_bytes if you trust it"
        )


def unpack(
    archive: str | Path, folder: str | Path, *, max_bytes: int = 2_000_000_000
) -> Path:
    """Unpack a zip into a folder, completely or not at all, and return its path.

    Args:
        archive: path of the zip.
        folder: made if it is missing, so not "."; one with content is left alone.
        max_bytes: limit for the members' total size, unpacked.

    Raises:
        OSError: if there is no archive, it is damaged, or the folder cannot be written.
        ValueError: if it has a member that would leave the folder, a link or a device,
            or is larger than max_bytes.
    """
    archive, folder = Path(archive), Path(folder)
    if any(folder.glob("*")):
        return folder
    if not archive.is_file():
        raise missing("file", archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            check_members(archive, members, max_bytes)
            with open(archive, "rb") as file:
                file.seek(-min(2**16 + 22, archive.stat().st_size), os.SEEK_END)
                end = file.read().rpartition(b"PK\5\6")[2]  # the zip's last record
            told = int.from_bytes(end[6:8], "little")  # 2**16 - 1: too many to tell
            if told not in (len(members) % 2**16, 2**16 - 1):
                raise zipfile.BadZipFile("members are missing")
            with whole_folder(folder) as temporary:
                opened.extractall(temporary)
    except (
        OSError,
        EOFError,
        RuntimeError,
        UnicodeError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        if not any(folder.glob("*")):  # else another process was faster
            raise OSError(
                f"cannot unpack {archive} into {folder} ({error}): fetch it again, or "
                "choose a folder that you may write to, with space left"
            ) from None
    return folder
