"""Diagrams of tensors: their numbers, and how axes are stretched and reduced."""

from typing import Any

import matplotlib.pyplot as plt
import torch


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
