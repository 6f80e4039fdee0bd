# Written by tools/export.py from 01_workflow.ipynb, 04_custom_datasets.ipynb,
# 05_going_modular.ipynb: edit there, not here.
"""Whole files, and weights read without running code."""

import contextlib
import glob
import io
import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn


def sweep(folder: Path, pattern: str) -> None:
    """Remove what killed processes left unfinished of files or folders, NAME.PID.tmp.

    Args:
        folder: where it stands.
        pattern: of the name.
    """
    for path in folder.glob(f"{pattern}.*.tmp"):
        try:
            if found := re.search(r"\.(\d{1,9})\.tmp$", path.name):
                os.getpgid(int(found[1]))
        except (ProcessLookupError, AttributeError):  # Windows deletes no open file
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()


def unfinished(path: str | Path) -> Path:
    """Return where a file or folder is made before it becomes ``path``.

    Its folder is made if it is missing, and swept of what killed processes left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, glob.escape(path.name))
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces ``path`` atomically, on the disk, on success.

    Args:
        path: where the file shall stand; its folder is made if it is missing.

    Raises:
        OSError: if it cannot be written; the message names the path.
    """
    temporary = None
    try:
        temporary = unfinished(path)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave an empty file
        os.replace(temporary, path)
    except ConnectionError:  # a signal that another process of the training sent
        raise
    except OSError as error:
        raise OSError(
            f"cannot write {path}: {error}. Choose a folder that you may write to, "
            "with space left."
        ) from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def save_plain(content: Any, path: str | Path) -> None:
    """Write what ``read_plain`` reads: tensors and plain values, whole or not at all.

    Raises:
        OSError: as ``whole_file``.
    """
    memory = io.BytesIO()  # a file that a signal closes under torch.save ends Python
    torch.save(content, memory)
    with whole_file(path) as file:
        file.write(memory.getbuffer())


def read_plain(path: str | Path) -> Any:
    """Read what torch.save wrote, without ever running code from the file.

    Args:
        path: a file of tensors and plain values.

    Returns:
        What was saved, with its tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        PermissionError: if it may not be read.
        ValueError: if it is damaged or holds anything else. (A file in the format from
            before PyTorch 1.6 has no checksum: there a changed weight is not seen.)
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file: check the path, or save it first")
    try:
        with open(path, "rb") as file, warnings.catch_warnings(action="ignore"):
            if file.read(2) == b"PK":  # torch.load itself compares no checksum
                archive = zipfile.ZipFile(file)
                # and takes for empty whatever is marked as a folder
                marked = any(each.external_attr & 16 for each in archive.infolist())
                if marked or archive.testzip():
                    raise ValueError("damaged")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make it stumble anywhere
        if "DefaultCPUAllocator" in str(error):  # PyTorch's MemoryError
            raise
        raise ValueError(
            f"{path} holds no plain weights: it is damaged, or it holds a pickled "
            "object, which is refused because loading one can run any code. Save the "
            "weights again, with save_model."
        ) from None


WRAPPERS = (
    r"\b(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
    r"|(?<=\.norm|\.conv)\.(?=[12]\.)"  # in torchvision's files of DenseNets
)


def check_fit(
    state: Any, model: nn.Module, path: object, compare: bool = True
) -> dict[str, torch.Tensor]:
    """Return a state dict for ``load_state_dict``, or raise ValueError.

    Names, shapes, dtypes and layouts must be the model's. Names from before a model was
    wrapped come back: by DataParallel, torch.compile, AveragedModel, or several.

    Args:
        state: name -> tensor; anything else is refused.
        model: the model that it is for.
        path: where it comes from, for the message.
        compare: if False, the names alone are seen to.
    """
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) and not value.is_nested and not value.is_meta
        for value in state.values()
    ):
        raise ValueError(
            f"{path} holds a {type(state).__name__}, not named tensors with values; "
            "save it with save_model"
        )
    own = model.state_dict()
    if state.keys() != own.keys():
        names = {re.sub(WRAPPERS, "", name): name for name in own}  # some look wrapped
        state = {re.sub(WRAPPERS, "", str(name)): each for name, each in state.items()}
        if "n_averaged" not in names:
            state.pop("n_averaged", None)
        state = {names.get(name, name): value for name, value in state.items()}
    if not compare:
        return state
    facts, wanted = (
        {
            name: f"{tuple(value.shape)} {value.dtype} {value.layout}"
            for name, value in each.items()
        }
        for each in (state, own)
    )
    if differing := {name for name, _ in facts.items() ^ wanted.items()}:
        name = min(differing, key=str)
        raise ValueError(
            f"{path} holds the weights of another model: {len(differing)} entries "
            f"differ, first {name!r}, which is {facts.get(name, 'missing')} in the "
            f"file and {wanted.get(name, 'missing')} in the model"
        )
    return state


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``path`` on success and vanishes on failure.

    Args:
        path: where the folder shall stand; an empty folder there is replaced.

    Raises:
        OSError: if it cannot be made, or if ``path`` has content by then.
    """
    path, temporary = Path(path), unfinished(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            path.rmdir()  # it is empty, and not every system would replace it
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def to_json(content: object, indent: int | None = None) -> bytes:
    """Return plain values as valid JSON: null for NaN and infinity, which it lacks."""
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return json.dumps(finite, indent=indent, allow_nan=False).encode()


def write_json(path: str | Path, content: object) -> None:
    """Write plain values as a JSON file, whole or not at all."""
    with whole_file(path) as file:
        file.write(to_json(content, indent=2))


@contextlib.contextmanager
def lock_folder(path: str | Path) -> Iterator[None]:
    """Keep a folder, made if it is missing, for this process within the block.

    The system ends that with the process, however it ends. What a killed process left
    half written of NAME.pt is removed; of other files, when they are written anew.

    Raises:
        OSError: if another process has the folder, or it cannot be written.
    """
    from filelock import FileLock, Timeout  # here: a demo does not need it

    folder = Path(path)
    is_new = not folder.exists()
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except OSError as error:
        reason = f"cannot write into {folder}: {error}. Choose"
        if isinstance(error, Timeout):
            reason = f"{folder} is in use by another training: wait for it, or choose"
        raise OSError(f"{reason} another folder") from None
    try:
        sweep(folder, "*.pt")
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)  # while it is held; Windows does it afterwards
        lock.release()
        with contextlib.suppress(OSError):
            if is_new:
                folder.rmdir()  # if nothing was written
