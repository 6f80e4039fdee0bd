"""Diagrams and figures of lesson 06: networks that others have trained."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyBboxPatch, Rectangle

from going_modular.plots import new_axes

FROZEN, TRAINED, NEUTRAL = "#aed6f1", "#f5b041", "#eeeeee"
CLASS_COLORS = ("#e67e22", "#2471a3", "#1e8449")
MARKERS = ("o", "s", "^")


def _blank(width: float, height: float, title: str) -> tuple[plt.Figure, plt.Axes]:
    """Return a figure in inches and axes in the same units, without frame."""
    fig, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    ax.set_title(title, fontsize=11)
    return fig, ax


def _box(
    ax: plt.Axes, place: tuple[float, float, float, float], text: str, color: str
) -> None:
    """Draw a box (x, y, width, height) with text in its middle."""
    x, y, width, height = place
    style: Any = {"boxstyle": "round,pad=0.02", "facecolor": color, "edgecolor": "gray"}
    ax.add_patch(FancyBboxPatch((x, y), width, height, **style))
    middle: Any = {"ha": "center", "va": "center", "fontsize": 9, "color": "black"}
    ax.text(x + width / 2, y + height / 2, text, **middle)


def _arrow(ax: plt.Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "gray"})


def draw_transfer() -> plt.Figure:
    """Draw a network trained on ImageNet, and the same body with a new head."""
    title = "The body is kept as it is; only a new head is trained"
    fig, ax = _blank(9, 3.2, title)
    rows = [
        (1.85, "1.3 million\nphotographs", "1,000 logits", "old head", NEUTRAL),
        (
            0.35,
            "our cats,\ndogs, horses",
            "3 logits",
            "new head\n3,843 numbers",
            TRAINED,
        ),
    ]
    for y, photographs, logits, head, color in rows:
        _box(ax, (0.1, y, 1.35, 0.8), photographs, "white")
        _box(ax, (2.0, y, 3.1, 0.8), "body (backbone)\n3.4 million numbers", FROZEN)
        _box(ax, (6.0, y, 1.35, 0.8), head, color)
        ax.text(7.85, y + 0.4, logits, va="center", fontsize=9)
        ax.text(5.55, y + 0.55, "1,280\nfeatures", ha="center", fontsize=7.5)
        for start, end in ((1.5, 1.97), (5.13, 5.97), (7.4, 7.8)):
            _arrow(ax, (start, y + 0.4), (end, y + 0.4))
    _arrow(ax, (3.55, 1.8), (3.55, 1.2))
    ax.text(3.65, 1.5, "the same weights, frozen", va="center", fontsize=9)
    return fig


def draw_strategies(cut: int) -> plt.Figure:
    """Draw which of Lite0's 18 parts and its head each strategy trains.

    Args:
        cut: the number of the first part that fine-tuning trains.
    """
    fig, ax = _blank(9, 2.3, "What is trained (orange), what stays frozen (blue)")
    rows = [
        ("from scratch", 0, "all of another network, from random numbers"),
        ("feature extraction", 18, "the head alone"),
        ("fine-tuning", cut, "the last parts and a fresh head, together"),
    ]
    for row, (name, first, words) in enumerate(rows):
        y = 1.65 - 0.65 * row
        ax.text(1.55, y + 0.13, name, ha="right", va="center", fontsize=9.5)
        for k in range(19):
            color = TRAINED if k >= first else FROZEN
            where = (1.7 + 0.2 * k + (0.1 if k == 18 else 0), y - 0.05)
            edge: Any = {"facecolor": color, "edgecolor": "white"}
            ax.add_patch(Rectangle(where, 0.2, 0.36, **edge))
        ax.text(5.8, y + 0.13, words, va="center", fontsize=9)
    ax.text(3.5, 0.03, "18 parts", ha="center", fontsize=8.5)
    ax.text(5.5, 0.03, "head", ha="center", fontsize=8.5)
    return fig


def draw_lite0() -> plt.Figure:
    """Draw what each group of Lite0's parts gives for a photograph of 160 pixels.

    A block's height is the map's side, its width grows with the channels.
    """
    title = "From many places with few numbers to few places with many"
    fig, ax = _blank(9, 3.0, title)
    steps = [  # side, channels, which parts give it
        (160, 3, "photograph"),
        (80, 16, "parts\n0 and 1"),
        (40, 24, "2 and 3"),
        (20, 40, "4 and 5"),
        (10, 112, "6 to 11"),
        (5, 320, "12 to 16"),
        (5, 1280, "part 17"),
    ]
    x = 0.1
    for number, (side, channels, parts) in enumerate(steps):
        height, width = 1.9 * (side / 160) ** 0.7, 0.1 + 0.016 * channels**0.5
        left = x + (0.95 - width) / 2
        color = "white" if number == 0 else FROZEN
        style: Any = {"facecolor": color, "edgecolor": "#1a5276"}
        ax.add_patch(Rectangle((left, 1.75 - height / 2), width, height, **style))
        words: Any = {"ha": "center", "va": "top", "fontsize": 8.5}
        ax.text(x + 0.475, 0.72, f"{side} × {side}\n× {channels:,}", **words)
        ax.text(x + 0.475, 0.32, parts, fontsize=8, ha="center", va="top", color="gray")
        _arrow(ax, (left + width + 0.05, 1.75), (x + 1.05, 1.75))
        x += 1.05
    _box(ax, (x, 1.4, 0.95, 0.7), "head:\n1,000 logits", TRAINED)
    return fig


def draw_block() -> plt.Figure:
    """Draw an inverted residual block as rows of channels, with its shortcut."""
    title = "An inverted residual block: expand, filter each channel, project, add"
    fig, ax = _blank(9, 3.0, title)
    columns = [
        (0.6, 0.8, "(B, 40, H, W)"),
        (2.9, 1.9, "(B, 240, H, W)"),
        (5.2, 1.9, "(B, 240, H, W)"),
        (7.5, 0.8, "(B, 40, H, W)"),
    ]
    for x, height, shape in columns:
        style: Any = {"facecolor": FROZEN, "edgecolor": "#1a5276"}
        ax.add_patch(Rectangle((x, 1.5 - height / 2), 0.45, height, **style))
        ax.text(x + 0.22, 0.25, shape, ha="center", fontsize=8.5)
    steps = [
        (1.1, 2.85, "1 × 1: expand\nsixfold"),
        (3.4, 5.15, "3 × 3 depthwise:\none kernel a channel"),
        (5.7, 7.45, "1 × 1: project\nto few"),
    ]
    for start, end, words in steps:
        _arrow(ax, (start, 1.5), (end, 1.5))
        ax.text((start + end) / 2, 1.58, words, ha="center", va="bottom", fontsize=8.5)
    arch: Any = {"arrowstyle": "->", "color": "#c0392b", "lw": 1.6}
    arch["connectionstyle"] = "arc3,rad=-0.22"
    ax.annotate("", (7.72, 1.95), (0.82, 1.95), arrowprops=arch)
    ax.text(4.3, 2.55, "+ input, where the shape stays", ha="center", fontsize=9)
    return fig


def draw_padding() -> plt.Figure:
    """Draw where kernels of 3 with stride 2 begin in a row of 8 pixels, both ways."""
    title = "Stride 2: PyTorch's padding=1 looks at pixels shifted by one"
    fig, ax = _blank(9, 2.6, title)
    rows = [("TensorFlow: 0 left, 1 right", 0, 1.5), ("PyTorch: 1 and 1", 1, 0.3)]
    for name, before, y in rows:
        ax.text(3.0, y + 0.25, name, ha="right", va="center", fontsize=9.5)
        for k in range(-1, 9):
            inside = 0 <= k < 8
            if k < -before:
                continue
            x = 3.7 + 0.5 * k
            color = NEUTRAL if inside else "white"
            style: Any = {"facecolor": color, "edgecolor": "gray"}
            ax.add_patch(Rectangle((x, y), 0.5, 0.5, **style))
            mark = str(k) if inside else "0"
            words: Any = {"ha": "center", "va": "center", "fontsize": 9}
            shade = "black" if inside else "#999999"
            ax.text(x + 0.25, y + 0.25, mark, color=shade, **words)
        for n in range(4):
            left = 3.7 + 0.5 * (2 * n - before) + 0.06
            height = y + 0.6 + 0.09 * (n % 2)
            ax.plot([left, left + 1.38], [height, height], color=TRAINED, lw=3)
    return fig


def draw_top_five(
    photograph: Any, probs: torch.Tensor, names: Sequence[str], title: str = ""
) -> plt.Figure:
    """Draw a photograph and the five most probable of the names, probs (K,)."""
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(8, 3.2), width_ratios=[2, 3], layout="constrained"
    )
    left.imshow(photograph)
    left.axis("off")
    best, places = (part.tolist() for part in probs.topk(min(5, len(probs))))
    right.barh(range(len(best)), best, color=[TRAINED] + [FROZEN] * 4)
    right.set_yticks(range(len(best)), [names[place] for place in places])
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="probability")
    fig.suptitle(title, fontsize=11)
    return fig


def _widest(points: torch.Tensor) -> torch.Tensor:
    """Return the places (N, 2) of points (N, D) along their two widest directions."""
    centered = points - points.mean(dim=0)
    _, _, directions = torch.linalg.svd(centered, full_matrices=False)
    return centered @ directions[:2].T  # (N, D) @ (D, 2) -> (N, 2)


def plot_maps(
    points: dict[str, torch.Tensor],
    labels: torch.Tensor,
    class_names: Sequence[str],
    title: str = "300 photographs: pixels mix the classes, features sort them",
) -> plt.Figure:
    """Draw points (N, D) by PCA, a panel each, colored by their labels (N,)."""
    fig, axes = plt.subplots(
        1, len(points), figsize=(4.4 * len(points), 4), layout="constrained"
    )
    for ax, (caption, high) in zip(axes, points.items(), strict=True):
        places = _widest(high)
        for k, name in enumerate(class_names):
            own = places[labels == k].numpy()
            style: Any = {"s": 9, "color": CLASS_COLORS[k], "alpha": 0.6}
            ax.scatter(own[:, 0], own[:, 1], marker=MARKERS[k], label=name, **style)
        ax.set(title=caption, xticks=[], yticks=[])
        ax.set(xlabel="first direction", ylabel="second direction")
    axes[-1].legend(markerscale=2)
    fig.suptitle(title, fontsize=11)
    return fig


def plot_lines(
    lines: dict[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    title: str = "",
    ax: plt.Axes | None = None,
) -> plt.Axes:
    """Draw accuracies against something, a line for each name: (xs, accuracies)."""
    ax = ax or new_axes(6.5, 3.2)[0]
    styles = ("o-", "s--", "^:", "d-.")
    for (name, (xs, ys)), style in zip(lines.items(), styles, strict=False):
        ax.plot(xs, ys, style, label=name)
    ax.axhline(1 / 3, color="gray", linestyle=":", label="guessing")
    ax.set(xlabel=xlabel, ylabel="accuracy", ylim=(0.28, 1.02), title=title)
    if xlabel == "epoch":
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(fontsize=9)
    return ax


def plot_history(rows: Sequence[dict[str, float]], title: str = "") -> plt.Axes:
    """Draw the accuracies of a training's rows, epoch by epoch."""
    epochs = [row["epoch"] for row in rows]
    keys = {"train": "train_acc", "valid": "test_acc"}
    lines: Any = {
        name: (epochs, [row[key] for row in rows]) for name, key in keys.items()
    }
    return plot_lines(lines, "epoch", title)


def plot_norms(
    frozen: Sequence[dict[str, float]], free: Sequence[dict[str, float]]
) -> plt.Figure:
    """Draw fine-tuning with batch norms frozen and free: the rows of two trainings."""
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    titles = ("train: the ends agree", "valid: free batch norms are worse")
    runs = {"norms frozen": frozen, "norms free": free}
    for ax, key, title in zip(axes, ("train_acc", "test_acc"), titles, strict=True):
        lines: Any = {
            name: ([row["epoch"] for row in rows], [row[key] for row in rows])
            for name, rows in runs.items()
        }
        plot_lines(lines, "epoch", title, ax)
        ax.set(ylim=(0.3, 1), ylabel="accuracy")
    return fig


def plot_learning(
    counts: Sequence[int], scores: dict[str, Sequence[float]]
) -> plt.Axes:
    """Draw accuracies (one for each count of photographs a class) for each name."""
    title = "A few photographs a class beat hundreds without the body"
    lines: Any = {name: (counts, values) for name, values in scores.items()}
    ax = plot_lines(lines, "photographs a class (log scale)", title)
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    return ax


def plot_strategies(
    scores: dict[str, float],
    errors: dict[str, float],
    title: str = "The pretrained body makes the jump, not the way to train it",
) -> Any:
    """Draw a bar for each strategy's accuracy, with its standard error."""
    ax = new_axes(7, 0.5 * len(scores) + 1)[0]
    names = list(scores)
    colors = [TRAINED if name.startswith("scratch") else "#5dade2" for name in names]
    style: Any = {"color": colors, "ecolor": "black", "capsize": 3}
    values = [scores[name] for name in names]
    ax.barh(names, values, xerr=[errors[name] for name in names], **style)
    for row, value in enumerate(values):
        ax.text(0.02, row, f"{value:.3f}", va="center", fontsize=9, color="black")
    ax.axvline(1 / 3, color="gray", linestyle=":")
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="test accuracy (dotted: guessing)", title=title)
    return ax.figure


def plot_where(
    images: torch.Tensor,
    maps: torch.Tensor,
    captions: Sequence[str],
    title: str = "",
) -> plt.Figure:
    """Draw images (N, 3, H, W) in a row and below each how much every place speaks.

    The maps are (N, h, w); each is colored by its own range.
    """
    fig, axes = plt.subplots(
        2, len(images), figsize=(1.15 * len(images), 2.9), layout="constrained"
    )
    height, width = images.shape[2:]
    style: Any = {"extent": (0, width, height, 0), "interpolation": "bicubic"}
    pictures = images.permute(0, 2, 3, 1).cpu()  # (N, 3, H, W) -> (N, H, W, 3)
    for k, (top, bottom) in enumerate(axes.T):
        top.imshow(pictures[k].numpy())
        bottom.imshow(pictures[k].numpy())
        grid = maps[k].detach().cpu().numpy()
        bottom.imshow(grid, cmap="inferno", alpha=0.6, **style)
        top.set_title(captions[k], fontsize=8)
        top.axis("off")
        bottom.axis("off")
    fig.suptitle(title, fontsize=11)
    return fig


def plot_candidates(
    rows: Sequence[tuple[str, float, float, float]], title: str = ""
) -> Any:
    """Draw networks' accuracy against their work; the area is the file's size.

    Args:
        rows: (name, billions of multiplications a picture, accuracy on ImageNet in
            percent, megabytes).
        title: of the figure.
    """
    ax = new_axes(7.5, 4)[0]
    for name, work, accuracy, size in rows:
        ax.scatter(work, accuracy, s=2 * size, color="#5dade2", alpha=0.6)
        place: Any = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center"}
        ax.annotate(name, (work, accuracy), fontsize=8, **place)
    ax.set(
        xscale="log",
        xlabel="billions of multiplications for a picture (log scale)",
        ylabel="accuracy on ImageNet, %",
        title=title,
    )
    ax.margins(0.12)
    return ax.figure
