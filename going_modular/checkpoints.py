# Written by tools/export.py from 01_workflow.ipynb, 04_custom_datasets.ipynb,
# 05_going_modular.ipynb: edit there, not here.
"""Whole files, weights read without running code, checkpoints."""

import contextlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces ``path`` atomically on success.

    Args:
        path: where the file shall stand; its folder is made if it is missing.

    Raises:
        OSError: if it cannot be written; the message names the path.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save may report a full disk so
        raise OSError(
            f"cannot write {path}: {error}. Choose a folder that you may write to, "
            "with space left."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_plain(path: str | Path) -> Any:
    """Read what torch.save wrote, without ever running code from the file.

    Args:
        path: a file of tensors and plain values.

    Returns:
        What was saved, with its tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        PermissionError: if it may not be read.
        ValueError: if it is damaged or holds anything else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path} does not exist; check the path, or save it first"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception:  # a damaged file can make the reader stumble anywhere
        raise ValueError(
            f"{path} holds no plain weights: it is damaged, or it holds a pickled "
            "object, which is refused because loading one can run any code. Save the "
            "weights again, with save_model."
        ) from None


def check_fit(state: Any, model: nn.Module, path: object) -> None:
    """Raise ValueError unless a state dict has the model's names and shapes.

    Args:
        state: name -> tensor; anything else is refused.
        model: the model that it is for.
        path: where it comes from, for the message.
    """
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise ValueError(
            f"{path} holds a {type(state).__name__}, not named tensors; save it with "
            "save_model"
        )
    shapes, wanted = (
        {name: tuple(value.shape) for name, value in each.items()}
        for each in (state, model.state_dict())
    )
    differing = {name for name, _ in shapes.items() ^ wanted.items()}
    if differing:
        name = min(differing, key=str)
        raise ValueError(
            f"{path} holds the weights of another model: {len(differing)} entries "
            f"differ, first {name!r}, which is {shapes.get(name, 'missing')} in the "
            f"file and {wanted.get(name, 'missing')} in the model"
        )


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``path`` on success and vanishes on failure.

    Args:
        path: where the folder shall stand; an empty folder there is replaced.

    Raises:
        OSError: if it cannot be made, or if ``path`` has content by then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{path.name}.", dir=path.parent))
    try:
        temporary.chmod(0o755)  # a temporary folder is its owner's alone
        yield temporary
        if path.is_dir():
            path.rmdir()  # it is empty, and not every system would replace it
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, content: object) -> None:
    """Write plain values as a JSON file, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=2).encode())


def random_states() -> dict[str, Any]:
    """Return the states of all random generators as plain values and tensors."""
    name, keys, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys), *rest),
        "torch": torch.get_rng_state(),
    }
    if kind := torch.accelerator.current_accelerator(check_available=True):
        states[kind.type] = torch.get_device_module(kind).get_rng_state()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the random generators back into the states of ``random_states``."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind and kind.type in states:
        torch.get_device_module(kind).set_rng_state(states[kind.type])


def save_checkpoint(
    path: str | Path, parts: dict[str, Any], rows: list[dict], config: dict
) -> None:
    """Write all that a training needs to go on after its last finished epoch.

    Args:
        path: the file; it is written whole or not at all.
        parts: name -> object with a state dict, such as model and optimizer.
        rows: the results, one row an epoch.
        config: plain values.

    Raises:
        OSError: as ``whole_file``.
    """
    content = {
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "epoch": len(rows),
        "rows": rows,
        "config": config,
        "random": random_states(),
    }
    with whole_file(path) as file:
        torch.save(content, file)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` wrote: parts, epoch, rows, config, random.

    Raises:
        FileNotFoundError, PermissionError: as ``read_plain``.
        ValueError: if the file is damaged or no checkpoint.
    """
    content = read_plain(path)
    if not isinstance(content, dict) or not (
        {"parts", "epoch", "rows", "config", "random"} <= content.keys()
    ):
        raise ValueError(
            f"{path} is no checkpoint: give it the file last.pt of a training's folder"
        )
    return content


def restore_checkpoint(
    path: str | Path, content: dict[str, Any], parts: dict[str, Any]
) -> None:
    """Put parts and random generators into the state that a checkpoint holds.

    Args:
        path: where ``content`` was read, for messages.
        content: what ``read_checkpoint`` returned.
        parts: name -> object with a state dict; "model" must be among them.

    Raises:
        ValueError: if the parts are others, or the model has another architecture;
            nothing is changed then.
    """
    states = content["parts"]
    if parts.keys() != states.keys():
        raise ValueError(
            f"{path} holds {sorted(states)}, but {sorted(parts)} are to be restored"
        )
    check_fit(states["model"], parts["model"], path)
    for name, part in parts.items():
        part.load_state_dict(states[name])
    restore_random_states(content["random"])
