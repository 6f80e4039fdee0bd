# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""All that a training needs to go on: saved, read, restored."""

import contextlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from going_modular.checkpoints import (
    check_fit,
    read_plain,
    save_plain,
    to_json,
    whole_file,
)
from going_modular.config import Config, read_config
from going_modular.engine import predict, train_step
from going_modular.networks import blueprint
from going_modular.runs import best_row
from going_modular.utils import save_model


def random_states() -> dict[str, Any]:
    """Return the states of the random generators as plain values and tensors.

    They are Python's, NumPy's and torch's: the CPU's, and that of the current GPU.
    """
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
    save_plain(content, path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` wrote: parts, epoch, rows, config, random.

    Raises:
        FileNotFoundError, PermissionError: as ``read_plain``.
        ValueError: if the file is damaged or no checkpoint.
    """
    content = read_plain(path)
    kinds = {"parts": dict, "epoch": int, "rows": list, "config": dict, "random": dict}
    found = content.items() if isinstance(content, dict) else ()
    is_whole = kinds == {name: type(value) for name, value in found}
    if not is_whole or content["epoch"] != len(content["rows"]):
        raise ValueError(
            f"{path} is no checkpoint: give it the file last.pt of a training's folder"
        )
    return content


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Raise ValueError in place of whatever odd values in a checkpoint lead to."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as e:
        if isinstance(e, RuntimeError) and re.search(r"(of|ate|enough) memory", str(e)):
            raise  # there is too little, which is no fault of the file's
        raise ValueError(
            f"the checkpoint is of another kind of training ({e}): choose another --out"
        ) from None


@understood()
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
    for name, part in parts.items():
        part.load_state_dict(states[name])
    restore_random_states(content["random"])


def load_weights(config: Config, model: torch.nn.Module, names: list[str]) -> list[str]:
    """Load config.weights into a model; return what is to be said about it.

    The head stays as it is if the weights are of other classes, such as ImageNet's.

    Raises:
        FileNotFoundError, ValueError: as ``load_model``.
    """
    path = Path(config.weights)
    path = path / "best.pt" if path.is_dir() else path
    others, own, notes = names, model.state_dict(), []
    state = check_fit(read_plain(path), model, path, compare=False)
    with contextlib.suppress(OSError, ValueError):  # there are weights alone
        others = read_config(path)[1]
    found = blueprint(config, len(names) + 1)[1].state_dict().items()
    head = {name for name, value in found if value.shape != own[name].shape}
    fits = all(name in state and state[name].shape == own[name].shape for name in head)
    if others != names or not fits:
        kept = head | {name for name in own if name.endswith("batches_tracked")}
        body = {name for name in state.keys() - head if name[:3].lower() != "aux"}
        state = {
            name: state[name] if name in body else own[name] for name in kept | body
        }
        notes = [f"{path} knows other classes: the last layer begins anew"]
    model.load_state_dict(check_fit(state, model, path))
    return notes


def write_log(out: Path, rows: list[dict]) -> None:
    """Write metrics.jsonl."""
    with whole_file(out / "metrics.jsonl") as file:
        file.writelines(to_json(row) + b"\n" for row in rows)


def kept_rows(out: Path) -> list[dict]:
    """Return the rows that the checkpoint in a folder holds, if there is one."""
    last = out / "last.pt"
    return read_checkpoint(last)["rows"] if last.exists() else []


def write_epoch(out: Path, made: Any, rows: list[dict]) -> None:
    """Write what an epoch brought; the checkpoint last, since it says "finished"."""
    if best_row(rows, made.config.class_weights) is rows[-1]:
        save_model(made.model, out, "best.pt")
    try:
        write_log(out, rows)
        save_checkpoint(out / "last.pt", made.parts, rows, made.described)
    except BaseException:  # a signal: the log tells no more than the checkpoint
        write_log(out, kept_rows(out))
        raise


def train_epoch(made: Any, epoch: int) -> dict:
    """Train one epoch; return its row over all processes.

    Returns:
        {"epoch", "train_loss", "train_acc", "valid_loss", "valid_acc",
        "valid_balanced", "lr"}
    """
    group, device, train_data = made.group, made.device, made.train_dataloader
    batches = tqdm(
        train_data,
        f"epoch {epoch} of {made.config.epochs}",
        unit="batch",
        leave=False,
        disable=group.rank > 0 or None,  # None: if there is no terminal
    )
    parts = made.model, batches, made.loss_fn, made.optimizer, device
    try:
        means = train_step(*parts, scheduler=made.scheduler, update=made.update)
    except FloatingPointError as error:
        raise FloatingPointError(f"epoch {epoch}: {error}") from None
    logits, labels = predict(made.model, made.valid_dataloader, device)
    loss = made.loss_fn(logits.to(device), labels.to(device)).item()
    right, K = labels[logits.argmax(dim=1) == labels], len(made.class_names)
    counts = [*right.bincount(minlength=K), *labels.bincount(minlength=K)]
    # Each process knows its own samples: what is summed over all is no mean.
    seen = train_data.batch_sampler.count if group.size > 1 else 1
    sums = [seen, *(mean * seen for mean in means), loss * len(labels), *counts]
    sums = group.sum(sums, device)  # float64
    seen, train_loss, train_acc, valid_loss = sums[:4].tolist()
    right, total = sums[4:].view(2, K)  # of each class
    return {
        "epoch": epoch,
        "train_loss": train_loss / seen,
        "train_acc": train_acc / seen,
        "valid_loss": valid_loss / total.sum().item(),
        "valid_acc": (right.sum() / total.sum()).item(),
        "valid_balanced": (right / total)[total > 0].mean().item(),
        "lr": made.scheduler.get_last_lr()[0],
    }
