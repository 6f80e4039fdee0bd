"""Diagrams and figures of lesson 08: patches, attention, the Vision Transformer."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import FancyBboxPatch, Rectangle

from illustrations.results import plot_lines

BLUE, GREEN, ORANGE, PURPLE = "#aed6f1", "#abebc6", "#f5cba7", "#d7bde2"
EDGE = "#34495e"


def to_numpy(image: torch.Tensor) -> Any:
    """Return an image (C, H, W) as matplotlib wants it."""
    image = image.detach().cpu()
    return image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()


def draw_box(
    ax: plt.Axes, x: float, y: float, size: tuple[float, float], text: str, color: str
) -> None:
    """Draw a rounded box around the point (x, y) with a text in it."""
    width, height = size
    corner = x - width / 2, y - height / 2
    shape: Any = {"boxstyle": "round,pad=0,rounding_size=0.12"}
    box = FancyBboxPatch(corner, width, height, fc=color, ec=EDGE, lw=1, **shape)
    ax.add_patch(box)
    ax.text(x, y, text, ha="center", va="center", fontsize=10, color="black")


def draw_arrow(ax: plt.Axes, start: tuple, end: tuple) -> None:
    """Draw an arrow from one point to another."""
    style: Any = {"arrowstyle": "-|>", "color": "gray", "lw": 1.3}
    ax.annotate("", end, start, arrowprops=style)


def draw_plus(ax: plt.Axes, x: float, y: float) -> None:
    """Draw the sign of a sum."""
    style: Any = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": EDGE}
    ax.text(x, y, "+", ha="center", va="center", color="black", bbox=style)


def draw_vit(image: torch.Tensor, label: str, title: str = "") -> plt.Figure:
    """Draw figure 1 of the ViT paper anew: the whole left, one encoder block right.

    Args:
        image: (C, H, W); it is cut into nine patches.
        label: its class.
        title: of the figure.
    """
    fig, (ax, right) = plt.subplots(
        1, 2, figsize=(9.6, 6.4), width_ratios=(1.75, 1), layout="constrained"
    )
    draw_whole(ax, image, label)
    draw_encoder_block(right)
    fig.suptitle(title, fontsize=12)
    return fig


def draw_whole(ax: plt.Axes, image: torch.Tensor, label: str) -> None:
    """Draw the way of an image through a ViT, from the bottom up."""
    pixels, side = to_numpy(image), image.shape[1] // 3
    style: Any = {"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "auto"}
    for k in range(9):
        row, column = divmod(k, 3)
        patch = pixels[row * side :, column * side :][:side, :side]
        left, bottom = 0.35 + 0.42 * column, 1.62 - 0.42 * row
        ax.imshow(patch, extent=(left, left + 0.38, bottom, bottom + 0.38), **style)
        x = 2.55 + 0.62 * k
        ax.imshow(patch, extent=(x - 0.22, x + 0.22, 1.0, 1.44), **style)
        frame: Any = {"fill": False, "ec": "#7f8c8d", "lw": 0.7}
        ax.add_patch(Rectangle((left, bottom), 0.38, 0.38, **frame))
        ax.add_patch(Rectangle((x - 0.22, 1.0), 0.44, 0.44, **frame))
        draw_arrow(ax, (x, 1.47), (x, 1.92))
        draw_arrow(ax, (x, 2.48), (x, 2.98))
        draw_box(ax, x, 3.22, (0.5, 0.42), str(k + 1), BLUE)
    draw_arrow(ax, (1.72, 1.22), (2.25, 1.22))
    draw_box(ax, 5.03, 2.2, (5.5, 0.5), "linear projection E of flat patches", ORANGE)
    draw_box(ax, 1.75, 3.22, (0.5, 0.42), "0", PURPLE)
    ax.text(1.4, 3.22, "class\ntoken", ha="right", va="center", fontsize=9)
    for k in range(10):
        x = 1.75 if k == 0 else 1.93 + 0.62 * k
        draw_arrow(ax, (x, 3.48), (x, 3.98))
    draw_box(ax, 4.7, 4.4, (6.2, 0.75), "encoder block, L times", GREEN)
    draw_arrow(ax, (1.75, 4.8), (1.75, 5.28))
    draw_box(ax, 1.75, 5.55, (1.3, 0.5), "norm, head", ORANGE)
    draw_arrow(ax, (2.43, 5.55), (3.1, 5.55))
    ax.text(3.2, 5.55, label, fontsize=11, va="center", weight="bold")
    where: Any = {"fontsize": 10, "color": "#c0392b", "va": "center"}
    ax.text(
        2.3,
        0.6,
        r"(1)  $z_0=[x_{class};\,x_p^1E;\dots;\,x_p^NE]+E_{pos}$",
        **where,
    )
    ax.text(4.35, 5.55, r"(4)  $y=\mathrm{LN}(z_L^0)$", **where)
    ax.text(8.2, 3.22, r"$z_0$", **where)
    ax.text(8.2, 4.95, r"$z_L$", **where)
    ax.text(8.2, 4.4, "(2, 3)", **where)
    ax.set(xlim=(0, 8.9), ylim=(0.3, 6.1))
    ax.set_title("the whole network", fontsize=10)
    ax.axis("off")


def draw_encoder_block(ax: plt.Axes) -> None:
    """Draw one encoder block, from the bottom up, each equation beside its part."""
    x = 1.6
    boxes = [
        (1.35, "norm", BLUE),
        (2.15, "multi-head\nattention", GREEN),
        (4.0, "norm", BLUE),
        (4.8, "MLP", GREEN),
    ]
    for y, text, color in boxes:
        draw_box(ax, x, y, (1.5, 0.62 if "\n" in text else 0.45), text, color)
    for y in (2.95, 5.5):
        draw_plus(ax, x, y)
    heights = [(0.75, 1.12), (1.58, 1.83), (2.47, 2.78), (3.12, 3.76), (4.23, 4.56)]
    for low, high in [*heights, (5.03, 5.33), (5.67, 6.0)]:
        draw_arrow(ax, (x, low), (x, high))
    for low, high in ((0.92, 2.95), (3.45, 5.5)):  # the residual goes around
        ax.plot([x, x - 1.15, x - 1.15], [low, low, high], color="gray", lw=1.3)
        draw_arrow(ax, (x - 1.15, high), (x - 0.18, high))
    where: Any = {"fontsize": 10, "color": "#c0392b", "va": "center", "ha": "left"}
    ax.text(x + 0.15, 0.75, r"$z_{\ell-1}$", **where)
    ax.text(x + 0.25, 3.3, r"$z'_\ell$", **where)
    ax.text(x + 0.2, 5.9, r"$z_\ell$", **where)
    first = "(2)\n" + r"$z'_\ell=\mathrm{MSA}(\mathrm{LN}(z_{\ell-1}))$"
    ax.text(x + 0.9, 1.9, first + "\n" + r"$\quad+\;z_{\ell-1}$", **where)
    second = "(3)\n" + r"$z_\ell=\mathrm{MLP}(\mathrm{LN}(z'_\ell))$"
    ax.text(x + 0.9, 4.6, second + "\n" + r"$\quad+\;z'_\ell$", **where)
    ax.set(xlim=(0, 5.0), ylim=(0.3, 6.1))
    ax.set_title("one encoder block", fontsize=10)
    ax.axis("off")


def draw_patches(image: torch.Tensor, patch_size: int, title: str = "") -> plt.Figure:
    """Draw an image (C, H, W), its grid of patches, and the patches as a sequence."""
    count = image.shape[1] // patch_size
    fig = plt.figure(figsize=(9, 5.2), layout="constrained")
    parts: Any = fig.subfigures(2, 1, height_ratios=(2.6, 1.2))
    top, bottom = parts
    left, right = top.subplots(1, 2)
    for ax in (left, right):
        ax.imshow(to_numpy(image), cmap="gray", vmin=0, vmax=1)
        ax.axis("off")
    left.set_title("the picture", fontsize=10)
    right.set_title(f"cut into {count} × {count} patches", fontsize=10)
    for k in range(count**2):
        row, column = divmod(k, count)
        corner = column * patch_size - 0.5, row * patch_size - 0.5
        edge: Any = {"fill": False, "ec": "#7f8c8d", "lw": 1.5}
        right.add_patch(Rectangle(corner, patch_size, patch_size, **edge))
        label: Any = {"color": "white", "fontsize": 9, "va": "top"}
        box = {"fc": "black", "alpha": 0.55, "pad": 1.5, "lw": 0}
        right.text(corner[0] + 0.5, corner[1] + 0.5, str(k + 1), bbox=box, **label)
    axes = bottom.subplots(1, count**2)
    for k, ax in enumerate(axes):
        row, column = divmod(k, count)
        patch = image[:, row * patch_size :, column * patch_size :]
        ax.imshow(to_numpy(patch[:, :patch_size, :patch_size]), vmin=0, vmax=1)
        ax.set_title(str(k + 1), fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("#7f8c8d")
    fig.suptitle(title, fontsize=12)
    return fig


def draw_attention(
    images: torch.Tensor,
    grids: torch.Tensor,
    captions: Sequence[str],
    title: str = "",
) -> plt.Figure:
    """Draw images (N, 1, H, W), and below each, dimmed, what attention it gets.

    The grids are (N, h, w) shares, all on one scale: the more, the brighter a patch.
    """
    N, side = len(images), images.shape[2]
    width = min(1.8, 9 / N)  # inches of a picture
    size = width * N + 0.8, 2 * width + 0.8
    fig, axes = plt.subplots(2, N, figsize=size, layout="constrained")
    glow = LinearSegmentedColormap.from_list("glow", [(1, 0.6, 0, 0), (1, 0.6, 0, 1)])
    style: Any = {"extent": (-0.5, side - 0.5, side - 0.5, -0.5), "cmap": glow}
    limit = grids.max().item()
    for column, (image, grid, caption) in enumerate(
        zip(images, grids.detach().cpu(), captions, strict=True)
    ):
        top, below = axes[:, column]
        top.imshow(to_numpy(image), cmap="gray", vmin=0, vmax=1)
        top.set_title(caption, fontsize=9)
        below.imshow(to_numpy(image), cmap="gray", vmin=0, vmax=1.6)
        drawn = below.imshow(grid.numpy(), vmin=0, vmax=limit, **style)
        top.axis("off")
        below.axis("off")
    fig.colorbar(drawn, ax=axes[1], label="share")
    fig.suptitle(title, fontsize=11)
    return fig


def draw_temperature(weights: dict[str, torch.Tensor], title: str = "") -> plt.Figure:
    """Draw sets of attention weights (N,) side by side as bars, by their caption."""
    fig, axes = plt.subplots(
        1, len(weights), figsize=(7.5, 2.6), sharey=True, layout="constrained"
    )
    for ax, (name, values) in zip(axes, weights.items(), strict=True):
        ax.bar(range(len(values)), values.numpy(), color="#5dade2")
        ax.set_title(name, fontsize=10)
        ax.set(xlabel="key", ylim=(0, 1))
    axes[0].set_ylabel("weight")
    fig.suptitle(title, fontsize=11)
    return fig


def plot_activations(
    x: torch.Tensor, curves: dict[str, torch.Tensor], title: str = ""
) -> plt.Axes:
    """Draw activation functions' outputs (N,) over their input x (N,), by name."""
    labels = {"xlabel": "input", "ylabel": "output"}
    return plot_lines(x, curves, title, height=3.4, **labels)


def plot_habits(
    scores: dict[tuple[float, str], list[float]], title: str = ""
) -> plt.Axes:
    """Draw accuracies of short trainings by (learning rate, what was left out)."""
    rates = sorted({rate for rate, _ in scores})
    names = list(dict.fromkeys(name for _, name in scores))
    _, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    for offset, rate in zip((-0.12, 0.12), rates, strict=True):
        for place, name in enumerate(names):
            values = scores[rate, name]
            style: Any = {"color": "C0" if rate == rates[0] else "C1", "ls": "none"}
            label = f"learning rate {rate:g}" if place == 0 else None
            xs = [place + offset] * len(values)
            ax.plot(xs, values, marker="o", label=label, alpha=0.8, **style)
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel="accuracy on valid", title=title)
    ax.grid(axis="y", alpha=0.3)
    ax.legend()
    return ax


def plot_patch_sizes(
    accuracies: dict[int, list[float]], costs: dict[int, float], title: str = ""
) -> plt.Figure:
    """Draw accuracy and cost by patch size.

    Args:
        accuracies: {patch size: the accuracy of each seed}.
        costs: {patch size: multiplications for a picture}.
        title: of the figure.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    counts = {size: (28 // size) ** 2 for size in accuracies}
    names = [f"{size} px\n{n} patch{'es' * (n > 1)}" for size, n in counts.items()]
    places = range(len(names))
    for place, values in enumerate(accuracies.values()):
        left.plot([place] * len(values), values, "o", color="C0", alpha=0.8)
    left.set_xticks(places, names, fontsize=8)
    left.set(ylabel="accuracy on valid")
    left.grid(axis="y", alpha=0.3)
    right.bar(places, [costs[size] / 1e6 for size in accuracies], color="C1")
    right.set_xticks(places, names, fontsize=8)
    right.set(ylabel="million multiplications a picture")
    fig.suptitle(title, fontsize=11)
    return fig


def plot_likeness(
    distance: torch.Tensor, likeness: torch.Tensor, title: str = ""
) -> plt.Axes:
    """Draw how alike the vectors of two places are, over their distance.

    Args:
        distance: (N, N) between places, in patches; 0 on the diagonal.
        likeness: (N, N) cosine similarity of their vectors.
        title: of the figure.
    """
    above = torch.ones_like(distance).triu(diagonal=1) > 0
    far, like = distance[above], likeness[above]  # each pair once
    _, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    ax.axhline(0, color="gray", lw=0.8)
    ax.plot(far, like, "o", alpha=0.35, label="a pair of places")
    steps = far.unique()
    means = [like[far == step].mean().item() for step in steps]
    ax.plot(steps, means, "o-", color="C1", label="mean at this distance")
    ax.set(xlabel="distance (patches)", ylabel="cosine similarity", title=title)
    ax.legend()
    return ax


def plot_data_sizes(scores: dict[str, dict[int, float]], title: str = "") -> plt.Axes:
    """Draw {model: {number of pictures: accuracy}}, the numbers logarithmic."""
    _, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for name, points in scores.items():
        ax.plot(list(points), list(points.values()), "o-", label=name)
    ax.set_xscale("log")
    ax.set_xticks(list(points), [f"{count:,}" for count in points], minor=False)
    ax.minorticks_off()
    ax.set(xlabel="training pictures (logarithmic)", ylabel="test accuracy")
    ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax
