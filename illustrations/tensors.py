"""Diagrams of tensors: axes, broadcasting, strides, and how gradients flow back."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from torchvision.models import EfficientNet_B2_Weights

# Grays and mid-tones below keep their contrast on white and on dark pages.
INK, FORWARD, BACK = "#444444", "#1f77b4", "#d62728"
FILLS = ("#9ecae1", "#fdae6b", "#a1d99b", "#bcbddc")
MIDDLE: Any = {"ha": "center", "va": "center"}


def plot_grids(grids: dict[str, torch.Tensor], title: str = "") -> plt.Figure:
    """Draw small tensors side by side as grids of numbers, repeated cells pale.

    ``tensor.expand(...)`` shows how broadcasting stretches a tensor: along a stretched
    axis the stride is 0, and its cells are pale.

    Args:
        grids: tensors of one or two axes by their caption; a vector is drawn as a row.
        title: of the figure.

    Raises:
        ValueError: if a tensor has another number of axes.
    """
    bad = {name: grid.ndim for name, grid in grids.items() if grid.ndim not in (1, 2)}
    if bad:
        raise ValueError(
            f"plot_grids draws tensors of one or two axes, got {bad}; "
            "index or flatten them first"
        )
    sizes = [torch.atleast_2d(grid).shape for grid in grids.values()]
    widths = [max(columns, 3) + 0.6 for _, columns in sizes]
    height = max(rows for rows, _ in sizes) + 0.6
    fig, axes = plt.subplots(
        1,
        len(grids),
        figsize=(0.5 * sum(widths), 0.5 * height + 0.8),
        squeeze=False,
        width_ratios=widths,
        layout="constrained",
    )
    for ax, name, width in zip(axes[0], grids, widths, strict=True):
        _draw_grid(ax, grids[name].detach())
        ax.set(aspect="equal", xlim=(-0.6, width - 0.6), ylim=(height, 0))  # one scale
        ax.set_title(name, fontsize=9, loc="left")
        ax.axis("off")
    fig.suptitle(title, fontsize=11)
    return fig


def plot_broadcast(
    left: torch.Tensor, sign: str, right: torch.Tensor, result: torch.Tensor
) -> plt.Figure:
    """Draw ``left`` and ``right`` stretched to the shape of their result, beside it.

    Args:
        left: one side, a tensor of one or two axes.
        sign: of the operation, as "+".
        right: the other side.
        result: what the operation gives.
    """
    shape = tuple(result.shape)
    grids = {
        f"{tuple(left.shape)}": left.expand(shape),
        f"{sign} {tuple(right.shape)}": right.expand(shape),
        f"= {shape}": result,
    }
    title = f"Pale cells are repeats: both are stretched to {shape}"
    return plot_grids(grids, title)


def plot_sums(table: torch.Tensor) -> plt.Figure:
    """Draw a matrix (N, D) beside its sums along each of its axes."""
    grids = {
        f"votes {tuple(table.shape)}": table,
        "sum(dim=0)": table.sum(dim=0, keepdim=True),  # (N, D) -> (1, D)
        "sum(dim=1)": table.sum(dim=1, keepdim=True),  # (N, D) -> (N, 1)
    }
    return plot_grids(grids, title="dim=0 adds down, dim=1 adds across")


def _draw_grid(ax: plt.Axes, grid: torch.Tensor) -> None:
    """Draw the numbers of a vector or matrix into axes, and name its dimensions."""
    cells = torch.atleast_2d(grid)  # (D,) -> (1, D)
    rows, columns = cells.shape
    shade = torch.full((rows, columns), 0.4)
    if cells.stride(0) == 0:
        shade[1:] = 0.1
    if cells.stride(1) == 0:
        shade[:, 1:] = 0.1
    style = {"vmin": 0, "vmax": 1, "edgecolors": "white", "linewidth": 2}
    ax.pcolormesh(shade.numpy(), cmap="Blues", **style)
    center: Any = {"ha": "center", "va": "center"}
    for i, numbers in enumerate(cells.tolist()):
        for j, number in enumerate(numbers):
            ax.text(j + 0.5, i + 0.5, f"{number:.4g}", **center)
    ax.text(columns / 2, rows + 0.3, f"dim {grid.ndim - 1}", fontsize=9, **center)
    if grid.ndim == 2:
        ax.text(-0.3, rows / 2, "dim 0", rotation=90, fontsize=9, **center)


def _blank(width: float, height: float, title: str) -> tuple[plt.Figure, plt.Axes]:
    """Return a figure with one empty drawing area, one unit an inch."""
    fig, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    fig.suptitle(title, fontsize=11)
    return fig, ax


def _cell(
    ax: plt.Axes, x: float, y: float, size: float, color: str, text: str = ""
) -> None:
    box = plt.Rectangle((x, y), size, size, facecolor=color, edgecolor="white")
    ax.add_patch(box)
    ax.text(x + size / 2, y + size / 2, text, fontsize=9, color=INK, **MIDDLE)


def plot_top_five(photos: Sequence[Any], probs: torch.Tensor) -> plt.Figure:
    """Draw photographs, each with the five most probable names beside it.

    Args:
        photos: N pictures.
        probs: (N, 1000), a probability for each of ImageNet's names.
    """
    names = EfficientNet_B2_Weights.DEFAULT.meta["categories"]
    title = "The network names the striped cat, and mistakes the orange one"
    fig, axes = plt.subplots(
        1,
        2 * len(photos),
        figsize=(5 * len(photos), 2.4),
        width_ratios=[2, 3] * len(photos),
        layout="constrained",
    )
    label = title
    for number, photo in enumerate(photos):
        picture, bars = axes[2 * number : 2 * number + 2]
        picture.imshow(photo)
        picture.axis("off")
        best, places = (part.tolist() for part in probs[number].topk(5))
        bars.barh(range(5), best, color=[FORWARD] + ["#aaaaaa"] * 4)
        bars.set_yticks(range(5), [names[place] for place in places])
        bars.set(xlim=(0, 1), xlabel="probability")
        bars.invert_yaxis()
        label += f"; photograph {number}: {names[places[0]]} {best[0]:.0%}"
    fig.suptitle(title, fontsize=11)
    fig.set_label(label)
    return fig


def plot_channels(photo: Any, image: torch.Tensor) -> plt.Figure:
    """Draw a photograph and, in gray, the three channels of its tensor (C, H, W)."""
    # Matplotlib has another use for the word: its axes are fields to draw in.
    fig, axes = plt.subplots(1, 4, figsize=(9, 2.9), layout="constrained")
    axes[0].imshow(photo)
    axes[0].set(xlabel="W (pixels)", ylabel="H (pixels)")
    colors = ("red", "green", "blue")
    for ax, channel, color in zip(axes[1:], image, colors, strict=True):
        ax.imshow(channel, cmap="gray", vmin=0, vmax=255)
        ax.set(xlabel=f"{color} channel")
    fig.suptitle("The orange cat is bright in red, the wall in blue")
    return fig


def plot_axes_ladder() -> plt.Figure:
    """Draw a scalar, a vector, a matrix, an image and a batch, one axis more each."""
    fig, ax = _blank(9.4, 2.5, "Each step of the ladder adds one axis in front")
    size = 0.2

    def sheet(x: float, y: float, rows: int, columns: int, color: str) -> None:
        for i in range(rows):
            for j in range(columns):
                _cell(ax, x + size * j, y + size * i, size, color)

    sheet(0.5, 1.1, 1, 1, FILLS[0])
    sheet(1.7, 1.1, 1, 4, FILLS[0])
    sheet(3.5, 0.8, 4, 4, FILLS[0])
    colors = ("#9ecae1", "#a1d99b", "#fc9272")  # blue behind green behind red
    for k, color in enumerate(colors):
        sheet(5.5 - 0.13 * k, 0.95 - 0.13 * k, 4, 4, color)
    for b in range(3):
        for k, color in enumerate(colors):
            sheet(8.2 - 0.4 * b - 0.08 * k, 1.2 - 0.25 * b - 0.08 * k, 4, 4, color)
    labels = {
        0.6: "scalar\n()",
        2.1: "vector\n(D,)",
        3.9: "matrix\n(N, D)",
        5.8: "image\n(C, H, W)",
        8.1: "batch of images\n(B, C, H, W)",
    }
    for x, label in labels.items():
        ax.text(x, 0.25, label, fontsize=10, color=INK, **MIDDLE)
    return fig


def plot_learning(
    dark: torch.Tensor, gains: Sequence[float], losses: Sequence[float]
) -> plt.Figure:
    """Draw a photograph times one weight as the weight learns, and the loss.

    Args:
        dark: (C, H, W), 0 to 1.
        gains: the weight before each step.
        losses: the loss before each step.
    """
    fig, axes = plt.subplots(
        1, 5, figsize=(9, 2.3), width_ratios=[2, 2, 2, 2, 3.4], layout="constrained"
    )
    steps = (0, 2, 5, len(gains) - 1)
    for ax, step in zip(axes[:4], steps, strict=True):
        ax.imshow((gains[step] * dark).clamp(0, 1).permute(1, 2, 0))  # -> (H, W, C)
        ax.set_xlabel(f"step {step}: × {gains[step]:.2f}")
        ax.set(xticks=[], yticks=[])
    axes[4].plot(losses, marker=".")
    axes[4].set(xlabel="step", ylabel="loss", ylim=(0, None))
    fig.suptitle("One weight learns: the loss falls, the cat comes into the light")
    return fig


def plot_gains(dark: torch.Tensor, right: float, wrong: float) -> plt.Figure:
    """Draw a darkened photograph undone by 2.5, and by two factors that were learned.

    Args:
        dark: (C, H, W), 0 to 1.
        right: learned from equal shapes.
        wrong: learned from (B, 1) and (B,).
    """
    gains = {"original": 2.5, "equal shapes": right, "(B, 1) and (B,)": wrong}
    size = (2 * len(gains) + 1, 2.6)
    fig, axes = plt.subplots(1, len(gains), figsize=size, layout="constrained")
    for ax, (name, gain) in zip(axes, gains.items(), strict=True):
        ax.imshow((gain * dark).clamp(0, 1).permute(1, 2, 0))  # -> (H, W, C)
        ax.set(xticks=[], yticks=[], xlabel=f"{name}: × {gain:.2f}")
    title = f"Equal shapes: × {right:.2f}. A shape nobody checked: × {wrong:.2f}"
    fig.suptitle(title, fontsize=11)
    return fig


def plot_permuted(permuted: torch.Tensor, reshaped: torch.Tensor) -> plt.Figure:
    """Draw an image (H, W, C) whose axes were permuted beside one cut anew."""
    fig, axes = plt.subplots(1, 2, figsize=(6, 3.3), layout="constrained")
    axes[0].imshow(permuted)
    axes[1].imshow(reshaped)
    axes[0].set(xlabel="W (pixels), permuted", ylabel="H (pixels)")
    axes[1].set(xlabel="W (pixels), reshaped")
    fig.suptitle("Right shape, wrong picture: reshape never moves an axis")
    return fig


def plot_mask(mask: torch.Tensor, cutout: torch.Tensor) -> plt.Figure:
    """Draw a mask (H, W) beside the image (C, H, W) that it has cut out."""
    fig, axes = plt.subplots(1, 2, figsize=(6, 3.3), layout="constrained")
    axes[0].imshow(mask, cmap="gray")
    axes[1].imshow(cutout.permute(1, 2, 0))  # (C, H, W) -> (H, W, C)
    axes[0].set(xlabel="W (pixels), mask: white is True", ylabel="H (pixels)")
    axes[1].set(xlabel="W (pixels), picture")
    fig.suptitle("One comparison cuts the cat out of its picture")
    return fig


def plot_strides(table: torch.Tensor) -> plt.Figure:
    """Draw a (3, 4) table and its transpose above the one memory that both read."""
    title = "One memory, two readings: transposing only swaps the strides"
    fig, ax = _blank(7.6, 4.2, title)
    size = 0.42
    for number, value in enumerate(table.flatten().tolist()):
        i, j = divmod(number, 4)
        _cell(ax, 1.1 + size * number, 0.35, size, FILLS[i], str(value))
        _cell(ax, 1.1 + size * j, 3.1 - size * i, size, FILLS[i], str(value))
        _cell(ax, 4.7 + size * i, 3.1 - size * j, size, FILLS[i], str(value))
    ax.text(0.55, 0.56, "memory", fontsize=10, color=INK, **MIDDLE)
    ax.text(1.94, 3.75, "table (3, 4), strides (4, 1)", fontsize=10, **MIDDLE)
    ax.text(5.33, 3.75, "table.T (4, 3), strides (1, 4)", fontsize=10, **MIDDLE)
    first = 1.1 + size / 2
    for step, bend, color in ((1, -0.9, FORWARD), (4, -0.45, BACK)):
        end, bow = (first + size * step, 0.8), f"arc3,rad={bend}"
        arrow = {"arrowstyle": "->", "color": color, "connectionstyle": bow}
        ax.annotate("", xy=end, xytext=(first, 0.8), arrowprops=arrow)
    text = "along dim 0 of table: 4 places, along dim 1: 1 place"
    ax.text(first + size * 4.3, 1.0, text, fontsize=9, color=INK)
    return fig


def plot_tangent(function: Callable, x: float, slope: float) -> plt.Figure:
    """Draw a function and, at x, the straight line that has its slope."""
    fig, ax = plt.subplots(figsize=(4.6, 3), layout="constrained")
    xs = torch.linspace(x - 2, x + 1, 100)
    ax.plot(xs, function(xs), label="y")
    near = torch.tensor([x - 0.7, x + 0.7])
    ax.plot(near, function(x) + slope * (near - x), color=BACK, label="its slope")
    ax.plot(x, function(x), "o", color=BACK)
    ax.set(xlabel="x", ylabel="y", title=f"At x = {x:g} the slope is {slope:g}")
    ax.legend()
    return fig


def plot_graph(**steps: torch.Tensor) -> plt.Figure:
    """Draw how loss = (w · x - y)² is calculated, and its slopes on their way back.

    Args:
        steps: w, x, y, product, error and loss, after ``loss.backward()``; the slope of
            the loss along each is drawn where it was kept.
    """
    values = {name: step.item() for name, step in steps.items()}
    slopes = {
        name: step.grad.item() for name, step in steps.items() if step.grad is not None
    }
    title = "Values flow to the right, slopes flow back and multiply on the way"
    fig, ax = _blank(9, 3.1, title)
    places = {
        "w": (0.6, 2.3),
        "x": (0.6, 0.7),
        "product": (3.0, 1.5),
        "y": (3.7, 0.3),
        "error": (5.6, 1.5),
        "loss": (8.2, 1.5),
    }
    labels = {"product": "w · x", "error": "w · x - y", "loss": "(w · x - y)²"}
    edges = (
        ("w", "product", f"× x = {values['x']:g}"),
        ("x", "product", ""),
        ("product", "error", "× 1"),
        ("y", "error", ""),
        ("error", "loss", f"× 2 · {values['error']:g}"),
    )
    for start, end, factor in edges:
        (x0, y0), (x1, y1) = places[start], places[end]
        arrow: Any = {"arrowstyle": "->", "shrinkA": 46, "shrinkB": 46}
        up: Any = {"xy": (x1, y1 + 0.1), "xytext": (x0, y0 + 0.1)}
        ax.annotate("", arrowprops=arrow | {"color": FORWARD}, **up)
        if factor:
            down: Any = {"xy": (x0, y0 - 0.1), "xytext": (x1, y1 - 0.1)}
            ax.annotate("", arrowprops=arrow | {"color": BACK, "ls": "--"}, **down)
            middle = ((x0 + x1) / 2, (y0 + y1) / 2 - 0.32)
            ax.text(*middle, factor, fontsize=9, color=BACK, **MIDDLE)
    for name, (x, y) in places.items():
        lines = f"{labels.get(name, name)} = {values[name]:g}"
        box: Any = {"boxstyle": "round,pad=0.35", "fc": "#deebf7", "ec": FORWARD}
        ax.text(x, y, lines, fontsize=10, color=INK, bbox=box, **MIDDLE)
        if name in slopes:
            text = f"slope {slopes[name]:g}"
            ax.text(x, y + 0.42, text, fontsize=10, color=BACK, **MIDDLE)
    told = ", ".join(f"{name} {value:g}" for name, value in values.items())
    back = ", ".join(f"{name} {slope:g}" for name, slope in slopes.items())
    fig.set_label(f"{title}. Values: {told}. Slopes: {back}.")
    return fig


def plot_pairs(before: torch.Tensor, after: torch.Tensor, title: str) -> plt.Figure:
    """Draw two batches (B, C, H, W) of the same photographs, one row each."""
    size = (1.5 * len(before), 3.4)
    fig, axes = plt.subplots(2, len(before), figsize=size, layout="constrained")
    for row, batch, name in zip(
        axes, (before, after), ("before", "after"), strict=True
    ):
        for ax, image in zip(row, batch, strict=True):
            ax.imshow(image.clamp(0, 1).permute(1, 2, 0))  # -> (H, W, C)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    fig.suptitle(title, fontsize=11)
    return fig


def plot_refresher(numbers: torch.Tensor) -> plt.Figure:
    """Draw a slope, the logarithm, and the mean and spread of numbers (N,)."""
    fig, axes = plt.subplots(1, 3, figsize=(9, 2.9), layout="constrained")
    xs = torch.linspace(0, 4, 100)
    axes[0].plot(xs, xs**2)
    axes[0].plot([2, 3, 3], [4, 4, 8], color=INK, ls="--")
    axes[0].plot([1.2, 3.2], [0.8, 8.8], color=BACK)
    axes[0].text(2.5, 2.8, "run 1", fontsize=9, color=INK, **MIDDLE)
    axes[0].text(3.1, 5.5, "rise 4", fontsize=9, color=INK, va="center")
    axes[0].set(title="x² has the slope 4 at 2", xlabel="x")
    xs = torch.linspace(0.02, 4, 200)
    axes[1].plot(xs, xs.log())
    axes[1].plot([1, torch.e], [0, 1], "o", color=BACK)
    axes[1].axhline(0, color="#aaaaaa", lw=0.8)
    axes[1].set(title="log: 0 at 1, 1 at e, deep below near 0", xlabel="x")
    mean, spread = numbers.mean(), numbers.std()
    axes[2].hist(numbers, bins=40, color=FILLS[0])
    axes[2].axvline(mean, color=BACK)
    axes[2].axvspan(mean - spread, mean + spread, color=FILLS[1], alpha=0.4)
    axes[2].set(title="One spread to either side of the mean", xlabel="number")
    for ax in axes:
        ax.title.set_fontsize(10)
    return fig
