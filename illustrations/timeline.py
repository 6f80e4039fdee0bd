"""What a trace tells lesson 10: when the parts of a program ran, and its memory."""

import itertools
import json
import os
from pathlib import Path

import matplotlib.pyplot as plt


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


def read_spans(path: str | os.PathLike) -> list[tuple[str, float, float]]:
    """Return the blocks that ``record_function`` named in a trace, in order.

    Args:
        path: of a trace that ``measure.profile_model`` wrote.

    Returns:
        [(name, start, duration), ...] in milliseconds; the earliest starts at 0.
    """
    spans = sorted(
        (event["ts"], event["dur"] / 1000, event["name"])
        for event in _events(path)
        if event.get("cat") == "user_annotation" and "#" not in event["name"]
    )
    return [(name, (ts - spans[0][0]) / 1000, ms) for ts, ms, name in spans]


def plot_spans(spans: list[tuple[str, float, float]], title: str = "") -> plt.Axes:
    """Draw when each span ran, a row a name.

    Args:
        spans: (name, start, duration) in milliseconds, as ``read_spans`` gives them.
        title: of the figure.
    """
    names = list(dict.fromkeys(name for name, _, _ in spans))
    _, ax = plt.subplots(figsize=(8, 0.5 * len(names) + 1.2), layout="constrained")
    for name, start, duration in spans:
        ax.barh(name, duration, left=start, color=f"C{names.index(name)}")
    ax.invert_yaxis()
    ax.set(xlabel="milliseconds", title=title)
    return ax
