"""Diagrams of a project: from cells to a module, its files, and a training killed."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import Image, display
from matplotlib.patches import FancyBboxPatch

INK, SOFT = "#1f3a5f", "#e8f0f8"


def show_picture(path: Path, alt: str) -> None:
    """Show a picture from a file, with a text for people who cannot see it."""
    display(Image(path, width=700), metadata={"image/png": {"alt": alt}})


def draw_way(stations: dict[str, str], title: str) -> None:
    """Draw stations from left to right, an arrow between two.

    Args:
        stations: what is gained there, by the name of each station.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(9, 1.9), layout="constrained")
    for x, (name, gain) in enumerate(stations.items()):
        box = FancyBboxPatch(
            (x + 0.08, 0.3), 0.68, 0.5, "round,pad=0.04", fc=SOFT, ec=INK
        )
        ax.add_patch(box)
        ax.text(x + 0.42, 0.55, name, ha="center", va="center", color=INK, size=12)
        ax.text(x + 0.42, 0.08, gain, ha="center", va="center", size=9)
        if x:
            ax.annotate(
                "", (x + 0.03, 0.55), (x - 0.19, 0.55), arrowprops={"arrowstyle": "->"}
            )
    ax.set(xlim=(0, len(stations) - 0.16), ylim=(-0.1, 0.95), title=title)
    ax.axis("off")


def draw_tree(folder: str, notes: dict[str, str], title: str) -> None:
    """Draw a folder and what is in it, with a note beside each.

    Args:
        folder: its name, with a ``/`` at the end.
        notes: a note by each path in the folder, from top to bottom; a path that ends
            in ``/`` is a folder, and a ``/`` before moves it one step to the right.
        title: of the figure.
    """
    lines = [(folder, ""), *((folder + path, note) for path, note in notes.items())]
    height = 0.32 * len(lines) + 0.5
    _, ax = plt.subplots(figsize=(7.5, height), layout="constrained")
    last: dict[int, float] = {}
    for row, (path, note) in enumerate(lines):
        *parents, name = path.rstrip("/").split("/")
        depth = len(parents)
        if depth:
            x = depth - 0.75
            ax.plot([x, x, x + 0.5], [last[depth - 1] + 0.3, row, row], color="gray")
        last[depth] = row
        is_folder = path.endswith("/")
        weight = "bold" if is_folder else "normal"
        label = name + "/" * is_folder
        ax.text(depth - 0.2, row, label, va="center", family="monospace", weight=weight)
        ax.text(4, row, note, va="center", color="dimgray", size=10)
    ax.set(xlim=(-0.3, 8.6), ylim=(len(lines) - 0.5, -0.6), title=title)
    ax.axis("off")


def draw_curves(
    curves: dict[str, list[float]],
    ylabel: str,
    title: str,
    interrupted_after: int | None = None,
) -> None:
    """Draw a value after each epoch, a line each.

    Args:
        curves: the values by the line's name; the first belongs to epoch 1. A line
            that lies on another is dashed.
        ylabel: what the value is.
        title: of the figure.
        interrupted_after: the last epoch before an interruption, if there is one.
    """
    _, ax = plt.subplots(figsize=(6.5, 3.3), layout="constrained")
    drawn: list[list[float]] = []
    for name, values in curves.items():
        line = "kx--" if values in drawn else "o-"  # seen where it lies on another
        ax.plot(range(1, len(values) + 1), values, line, label=name)
        drawn.append(values)
    if interrupted_after is not None:
        x = interrupted_after + 0.5
        ax.axvline(x, color="gray", linestyle=":", label="interruption")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel=ylabel, title=title)
    ax.legend()


def draw_rates(curves: dict[str, list[float]], title: str) -> None:
    """Draw learning rates step by step, a line each.

    Args:
        curves: the rates by the line's name.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(6.5, 3.3), layout="constrained")
    for (name, values), color in zip(curves.items(), ("C0", "C1"), strict=False):
        ax.plot(values, color=color, label=name)
    ax.set(xlabel="step", ylabel="learning rate", title=title)
    ax.legend()


def draw_lives(finished: list[int], epochs: int, title: str) -> None:
    """Draw a training that is killed and resumed, a row for each of its lives.

    Args:
        finished: how many epochs there were at the end of each life but the last.
        epochs: of the whole training.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(9, 0.5 * len(finished) + 1.3), layout="constrained")
    style: Any = {"ha": "center", "va": "center"}
    begins, ends = [0, 0, *finished], [epochs, *finished, epochs]
    for y, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        name = f"life {y}" if y else "never killed"
        ax.text(-0.05, y, name, ha="right", va="center")
        for epoch in range(begin, end):
            ax.barh(y, 0.96, left=epoch, align="center", color="C0")
            ax.text(epoch + 0.48, y, f"epoch {epoch + 1}", color="white", **style)
        if end < epochs:
            ax.barh(y, 0.51, left=end, color="lightgray")
            ax.text(end + 0.25, y, "lost", **style)
            ax.plot([end + 0.55], [y], "x", color="C3", markersize=11, mew=3)
    ax.set(xlim=(-0.7, epochs), ylim=(len(begins) - 0.4, -0.6), title=title)
    ax.axis("off")
