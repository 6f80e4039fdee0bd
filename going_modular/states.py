# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""All that a training needs to go on: saved, read, restored."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from going_modular.checkpoints import check_fit, read_plain, whole_file


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
    kinds = {"parts": dict, "epoch": int, "rows": list, "config": dict, "random": dict}
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), kind) for name, kind in kinds.items()
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
            nothing is changed then. Or if a part takes no such state.
    """
    states = content["parts"]
    if parts.keys() != states.keys():
        raise ValueError(
            f"{path} holds {sorted(states)}, but {sorted(parts)} are to be restored"
        )
    check_fit(states["model"], parts["model"], path)
    try:
        for name, part in parts.items():
            part.load_state_dict(states[name])
        restore_random_states(content["random"])
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is of another kind of training ({error}): choose another --out"
        ) from None
