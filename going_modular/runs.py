# Written by tools/export.py from 05_going_modular.ipynb, 07_experiment_tracking.ipynb:
# edit there, not here.
"""Runs in folders: a folder of its own for each, read back and compared."""

import contextlib
import itertools
import json
import math
import re
from pathlib import Path
from typing import NamedTuple

from going_modular.config import Config, read_config, run_files


def best_row(rows: list[dict], class_weights: str = "none") -> dict:
    """Return the row with the highest valid accuracy.

    With class weights it is the balanced one. Among equals the lowest valid loss
    decides, then the earliest epoch.
    """
    score = "valid_acc" if class_weights == "none" else "valid_balanced"
    return max(  # 6 digits: the rest is rounding; min and max make numbers of NaN
        rows,
        key=lambda row: (
            round(max(0, row[score]), 6),
            -min(math.inf, row["valid_loss"]),
        ),
    )


WRITTEN = [
    "last.pt",
    "config.json",
    "metrics.jsonl",
    "best.pt",
    "interrupted.pt",
    "curves.png",
    "summary.json",
]


def check_free(out: Path) -> None:
    """Raise FileExistsError if a folder has a file that a training would overwrite."""
    for name in WRITTEN:
        if (out / name).exists():
            raise FileExistsError(
                f"{out} holds {name}: add --resume to go on with its training, if its "
                "config.json is there, or choose another --out"
            )


def new_run_folder(log_dir: str | Path, name: str) -> Path:
    """Make and return log_dir/name or, if that is taken, name-2, name-3, ...

    Two processes never get the same one.

    Raises:
        ValueError: if the name is no plain name of a folder.
        OSError: if no folder can be made; the message names it.
    """
    if not re.fullmatch(r"\w([\w.-]*\w)?", name):
        raise ValueError(
            f"name is {name!r}: it becomes a folder, so use letters, digits, _, and "
            "within it - and ."
        )
    Path(log_dir).mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = Path(log_dir, name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()  # looks and makes at once: nobody can come between
            break
    return folder


class Run(NamedTuple):
    """A run as its folder holds it: its name, its config, and a row per epoch."""

    name: str
    config: Config
    rows: list


def read_run(folder: str | Path) -> Run:
    """Return the Run in a folder, from its config.json and metrics.jsonl.

    What the latter has as null, since JSON has no other word for it, is NaN.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a file of it is damaged.
    """
    config, _ = read_config(folder)
    folder, _ = run_files(folder)
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
        rows = [
            {name: math.nan if value is None else value for name, value in row.items()}
            for row in map(json.loads, lines)
        ]
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): take it from a copy, or run the experiment "
            "again"
        ) from None
    return Run(Path(folder).resolve().name, config, rows)


def read_runs(log_dir: str | Path) -> list[Run]:
    """Return the Runs in a folder of runs, oldest first; none if it is not there.

    Raises:
        ValueError: as ``read_run``.
    """
    paths = Path(log_dir).glob("*/config.json")
    oldest_first = sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path))
    return [read_run(path.parent) for path in oldest_first]
