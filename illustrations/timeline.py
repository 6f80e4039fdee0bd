"""What a trace tells lesson 10: how its memory grew and shrank."""

import itertools
import json
import os
from pathlib import Path


def _events(path: str | os.PathLike) -> list[dict]:
    return json.loads(Path(path).read_text(encoding="utf-8"))["traceEvents"]


def read_memory(path: str | os.PathLike) -> list[float]:
    """Return MB allocated since a trace began: 0, then after each change.

    Args:
        path: of a trace that was profiled with ``profile_memory=True``.
    """
    notes = [event for event in _events(path) if event.get("name") == "[memory]"]
    notes.sort(key=lambda event: event["ts"])
    sizes = [event["args"]["Bytes"] / 1e6 for event in notes]
    return list(itertools.accumulate(sizes, initial=0.0))
