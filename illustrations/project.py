"""Diagrams of a project: from cells to a command, its files, and a training killed."""

from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import Image, display
from matplotlib.patches import FancyBboxPatch

INK, SOFT, STRONG = "#1f3a5f", "#e8f0f8", "#f6c667"


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
        curves: the values by the line's name; the first belongs to epoch 1.
        ylabel: what the value is.
        title: of the figure.
        interrupted_after: the last epoch before an interruption, if there is one.
    """
    _, ax = plt.subplots(figsize=(6.5, 3.3), layout="constrained")
    for name, values in curves.items():
        ax.plot(range(1, len(values) + 1), values, "o-", label=name)
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


def draw_parts(sizes: dict[str, int], title: str) -> None:
    """Draw the parts of a checkpoint as bars, with their sizes.

    Args:
        sizes: bytes by the name of each part.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(8, 0.42 * len(sizes) + 1.1), layout="constrained")
    kilobytes = [size / 1000 for size in sizes.values()]
    bars = ax.barh(list(sizes), kilobytes, color=[STRONG, "C0", "C2", "C4", "C5"])
    ax.bar_label(bars, [f"{size:,.1f} kB" for size in kilobytes], padding=4)
    ax.invert_yaxis()
    ax.set(xlabel="kilobytes", title=title, xlim=(0, 1.2 * max(kilobytes)))
    ax.spines[["top", "right"]].set_visible(False)


def draw_interruption(epochs: int, killed_in: int, title: str) -> None:
    """Draw a training that is killed within an epoch and resumed, epoch by epoch.

    Args:
        epochs: of the whole training.
        killed_in: the epoch, from 1, that was not finished.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(9, 1.8), layout="constrained")
    rows = {
        "uninterrupted": [(epoch, 1.0) for epoch in range(1, epochs + 1)],
        "killed": [(e, 1.0) for e in range(1, killed_in)] + [(killed_in, 0.55)],
        "resumed": [(epoch, 1.0) for epoch in range(killed_in, epochs + 1)],
    }
    for y, (name, parts) in enumerate(rows.items()):
        for epoch, share in parts:
            lost = share < 1
            ax.barh(
                y, share - 0.04, left=epoch - 1, color="lightgray" if lost else "C0"
            )
            note = "lost" if lost else f"epoch {epoch}"
            color = "black" if lost else "white"
            ax.text(
                epoch - 0.52 - (1 - share) / 2,
                y,
                note,
                ha="center",
                va="center",
                color=color,
            )
        ax.text(-0.05, y, name, ha="right", va="center")
    x = killed_in - 1 + 0.55
    ax.plot([x], [1], "x", color="C3", markersize=11, mew=3)
    ax.set(xlim=(-0.7, epochs), ylim=(2.6, -0.6), title=title)
    ax.axis("off")
