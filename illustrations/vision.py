"""Diagrams and figures of lesson 03: convolutions and what a network sees."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from going_modular.plots import new_axes, plot_images

RIGHT, WRONG, ORANGE = "#1b7f3b", "#c0392b", "#e67e22"


def draw_answers(
    images: torch.Tensor,
    answers: torch.Tensor,
    truths: torch.Tensor,
    class_names: Sequence[str],
    title: str = "",
    columns: int = 10,
) -> plt.Figure:
    """Draw images (N, H, W) below the answers, wrong ones red with the truth.

    Answers and truths are the numbers of classes, N or more.
    """
    axes = new_axes(1.15, 1.45, len(images), columns, title)
    for ax, image, k, truth in zip(axes, images, answers, truths, strict=False):
        ax.imshow(image.numpy(), cmap="gray", vmin=0)
        right = bool(k == truth)
        caption = class_names[int(k)] + (
            "" if right else f"\nis: {class_names[int(truth)]}"
        )
        ax.set_title(caption, fontsize=8, color=RIGHT if right else WRONG)
        ax.axis("off")
    return plt.gcf()


def draw_classes(
    images: torch.Tensor,
    labels: torch.Tensor,
    class_names: Sequence[str],
    title: str = "",
    rows: int = 3,
) -> plt.Figure:
    """Draw the first images (N, H, W) of each class, a column for each class."""
    classes = range(len(class_names))
    firsts = [(labels == k).nonzero()[:rows, 0].tolist() for k in classes]
    picks = [firsts[k][row] for row in range(rows) for k in classes]
    names = [class_names[k] for k in labels[picks].tolist()]
    columns = len(class_names)
    return plot_images(images[picks].unsqueeze(1), names, title, columns)


def draw_numbers(
    ax: plt.Axes, grid: torch.Tensor, title: str = "", cmap: str = "Blues"
) -> None:
    """Draw a matrix into axes: its numbers, each cell shaded by its value."""
    values = grid.detach().cpu()
    limit = values.abs().max().item() or 1.0
    # Half of the color scale, so that dark digits stay readable.
    low = -2 * limit if cmap == "RdBu_r" else min(0.0, 2 * values.min().item())
    ax.imshow(values.numpy(), cmap=cmap, norm=Normalize(low, 2 * limit))
    rows, columns = values.shape
    for i in range(rows):
        for j in range(columns):
            text = f"{round(values[i, j].item(), 2) + 0.0:g}"
            ax.text(j, i, text, ha="center", va="center", fontsize=9)
    ax.set_xticks([x - 0.5 for x in range(1, columns)], [""] * (columns - 1))
    ax.set_yticks([y - 0.5 for y in range(1, rows)], [""] * (rows - 1))
    ax.grid(color="white", linewidth=1.5)
    ax.tick_params(length=0)
    ax.set_title(title, fontsize=9)


def plot_shaded(
    grids: dict[str, torch.Tensor], title: str = "", cmap: str = "Blues"
) -> plt.Figure:
    """Draw matrices side by side by their caption, each cell shaded by its value."""
    widths = [grid.shape[1] for grid in grids.values()]
    height = max(len(grid) for grid in grids.values())
    fig, axes = plt.subplots(
        1,
        len(grids),
        figsize=(0.46 * sum(widths) + 0.8 * len(grids), 0.46 * height + 1),
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    for ax, (name, grid) in zip(axes[0], grids.items(), strict=True):
        draw_numbers(ax, grid, name, cmap)
    fig.suptitle(title, fontsize=11)
    return fig


def draw_sliding_window(
    image: torch.Tensor,
    kernel: torch.Tensor,
    columns: Sequence[int],
    title: str = "The window slides; where brightness rises, the sum is large",
) -> plt.Figure:
    """Draw a kernel at places of an image's first row, and the sum that it gives there.

    Args:
        image: (H, W), a few pixels.
        kernel: (K, K).
        columns: where the window begins, one panel each.
        title: of the figure.
    """
    K = len(kernel)
    maps = F.conv2d(image[None, None], kernel[None, None])[0, 0]
    fig, axes = plt.subplots(
        2, len(columns), figsize=(2.9 * len(columns), 4.4), layout="constrained"
    )
    for (top, bottom), j in zip(axes.T, columns, strict=True):
        draw_numbers(top, image, f"window at columns {j} to {j + K - 1}")
        frame: Any = {"fill": False, "edgecolor": ORANGE, "linewidth": 3}
        top.add_patch(Rectangle((j - 0.5, -0.5), K, K, **frame))
        for a in range(K):
            for b in range(K):
                weight = f"×{kernel[a, b].item():g}"
                style: Any = {"fontsize": 7.5, "color": "#a04000", "ha": "right"}
                top.text(j + b + 0.46, a + 0.42, weight, **style)
        products = image[:K, j : j + K] * kernel
        draw_numbers(bottom, products, "", "RdBu_r")
        bottom.set_xlabel(f"the nine products, sum {maps[0, j].item():g}", fontsize=10)
    fig.suptitle(title)
    return fig


def draw_network(
    layers: Sequence[tuple[str, Sequence[int]]], title: str = ""
) -> plt.Figure:
    """Draw a network as a row of blocks, one for what each layer gives.

    Args:
        layers: (caption, shape); a shape is (C, H, W) or (numbers,). The first is the
            picture, its caption what it is; another caption is the layer before.
        title: of the figure.
    """
    fig, ax = plt.subplots(figsize=(9, 3.4), layout="constrained")
    x, before = 0.0, 0.0
    for caption, shape in layers:
        C, H, W = shape if len(shape) == 3 else (1, *shape, 1)
        if len(shape) == 3:
            width, height = W / 9, H / 9
            sheets = min(C, 16)
            step = 0.055
            for k in reversed(range(sheets)):
                corner = x + k * step, -height / 2 + k * step
                style: Any = {"facecolor": "#aed6f1", "edgecolor": "#1a5276", "lw": 0.7}
                ax.add_patch(Rectangle(corner, width, height, **style))
            width += (sheets - 1) * step
        else:
            width, height = 0.25, min(3.4, 0.4 + H / 200)
            style: Any = {"facecolor": "#f9e79f", "edgecolor": "#7d6608", "lw": 0.7}
            ax.add_patch(Rectangle((x, -height / 2), width, height, **style))
        name = " × ".join(map(str, shape))
        ax.text(x + width / 2, -2.1, name, ha="center", fontsize=10, weight="bold")
        where = ((before + x) / 2, 0.15) if x else (x + width / 2, 1.7)
        ax.text(*where, caption, ha="center", va="bottom", fontsize=8.5)
        if x:
            arrow: Any = {"arrowstyle": "->", "color": "gray"}
            ends = (x - 0.08, 0), (before + 0.08, 0)
            ax.annotate("", *ends, arrowprops=arrow)
        before = x + width
        x = before + 1.45
    ax.set(xlim=(-0.4, before + 0.4), ylim=(-2.5, 2.5), title=title)
    ax.axis("off")
    return fig


def draw_receptive_fields(
    image: torch.Tensor, sides: Sequence[int], title: str = ""
) -> plt.Figure:
    """Draw on an image (H, W) the square that one number of each stage looks at.

    Args:
        image: (H, W).
        sides: of the square in pixels, stage by stage; padding may stick out.
        title: of the figure.
    """
    axes = new_axes(2.3, 2.6, len(sides), 8, title)
    H, W = image.shape
    for number, (ax, side) in enumerate(zip(axes, sides, strict=True), start=1):
        ax.imshow(image.numpy(), cmap="gray")
        corner = W / 2 - side / 2 - 0.5, H / 2 - side / 2 - 0.5
        style: Any = {"facecolor": ORANGE, "alpha": 0.35, "clip_on": False}
        ax.add_patch(Rectangle(corner, side, side, **style))
        edge: Any = {
            "fill": False,
            "edgecolor": ORANGE,
            "linewidth": 2,
            "clip_on": False,
        }
        ax.add_patch(Rectangle(corner, side, side, **edge))
        ax.set(xlim=(-4.5, W + 3.5), ylim=(H + 3.5, -4.5))
        ax.set_title(f"stage {number}: {side} × {side}", fontsize=9)
        ax.axis("off")
    return plt.gcf()


def draw_moved(
    pictures: Sequence[torch.Tensor], maps: Sequence[torch.Tensor]
) -> plt.Figure:
    """Draw a picture and the same one moved, each (H, W), above their feature maps."""
    title = "Move the picture, and its map moves along"
    axes = new_axes(2.4, 2.4, 4, 2, title)
    limit = max(values.abs().max().item() for values in maps)
    names = "the picture", "moved", "its map", "the moved one's map"
    for ax, values, name in zip(axes, [*pictures, *maps], names, strict=True):
        if name.endswith("map"):
            style: Any = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        else:
            style: Any = {"cmap": "gray"}
        ax.imshow(values.detach().cpu().numpy(), **style)
        ax.set_title(name, fontsize=9)
        ax.axis("off")
    return plt.gcf()


def draw_reliability(
    confidence: torch.Tensor,
    right: torch.Tensor,
    levels: Sequence[tuple[float, float]],
) -> plt.Figure:
    """Draw how often a model is right (N,) at each level of its confidence (N,).

    Args:
        confidence: the probability of the answer, 0 to 1.
        right: whether the answer is right.
        levels: the bounds of each, the lower one left out.
    """
    fig, (ax, below) = plt.subplots(
        2, 1, figsize=(6, 4.6), height_ratios=(3, 1), layout="constrained"
    )
    names = [f"{low:g} to {high:g}" for low, high in levels]
    parts = [(confidence > low) & (confidence <= high) for low, high in levels]
    shares = [right[part].float().mean().item() for part in parts]
    means = [confidence[part].mean().item() for part in parts]
    counts = [int(part.sum()) for part in parts]
    errors = [(p * (1 - p) / n) ** 0.5 for p, n in zip(shares, counts, strict=True)]
    places = range(len(parts))
    ax.bar(places, shares, yerr=errors, capsize=3, color="#5dade2", label="right")
    ax.plot(places, means, "o", color=ORANGE, label="what the model says")
    ax.set(ylim=(0, 1.05), ylabel="share")
    ax.set_title("What the model says is close to how often it is right")
    ax.set_xticks(places, [""] * len(parts))
    ax.legend(loc="lower right")
    below.bar(places, counts, color="#aab7b8")
    below.set_xticks(places, names, fontsize=8)
    below.set(xlabel="confidence", ylabel="pictures")
    return fig


def plot_ladder(ladder: dict[str, dict[str, float]], title: str = "") -> plt.Axes:
    """Draw models' accuracy over their parameters; a row without any is left out."""
    ax = new_axes(7, 3.5)[0]
    for name, row in ladder.items():
        if row["parameters"]:
            point = row["parameters"], 100 * row["accuracy"]
            ax.plot(*point, "o", markersize=9)
            ax.annotate(name, point, xytext=(9, -3), textcoords="offset points")
    ax.set(xscale="log", xlim=(3e3, 4e5), title=title)
    ax.set(xlabel="parameters (logarithmic)", ylabel="test accuracy (%)")
    return ax


def plot_bars(shares: dict[str, float], title: str = "") -> plt.Axes:
    """Draw shares, from 0 to 1, as bars by their names, the first one on top."""
    ax = new_axes(7, 0.6 + 0.4 * len(shares))[0]
    bars = ax.barh(list(shares), list(shares.values()), color="#5dade2")
    ax.bar_label(bars, fmt="%.3f", padding=4)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.1), xlabel="accuracy", title=title)
    return ax
