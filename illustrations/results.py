"""Results that one lesson draws."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch

from going_modular.plots import new_axes, plot_images


def plot_predictions(
    train_data: torch.Tensor,
    train_labels: torch.Tensor,
    test_data: torch.Tensor,
    test_labels: torch.Tensor,
    predictions: torch.Tensor | None = None,
    title: str = "",
) -> plt.Axes:
    """Draw training points, test points and, if given, the predictions for the latter.

    Every tensor is (N, 1), on any device.
    """
    ax = new_axes(7, 3.5)[0]
    ax.scatter(train_data.cpu(), train_labels.cpu(), s=12, label="training data")
    ax.scatter(test_data.cpu(), test_labels.cpu(), s=12, label="test data")
    if predictions is not None:
        y = predictions.detach().cpu()
        ax.scatter(test_data.cpu(), y, s=12, marker="x", label="predictions")
    ax.set(xlabel="x", ylabel="y", title=title)
    ax.legend()
    return ax


def plot_feature_maps(
    maps: torch.Tensor,
    title: str = "",
    columns: int = 8,
    *,
    labels: Sequence | None = None,
) -> plt.Figure:
    """Draw feature maps in a grid on one color scale: 0 white, red above, blue below.

    Args:
        maps: (C, H, W) float, on any device.
        title: of the figure.
        columns: maps per row.
        labels: C of them; by default the channels' numbers.

    Raises:
        ValueError: if maps has another shape, or labels another length.
    """
    if maps.ndim != 3 or maps.numel() == 0:
        raise ValueError(
            "maps must be (C, H, W), the feature maps of one image, got "
            f"{tuple(maps.shape)}"
        )
    maps = maps.detach().cpu().float()
    limit = maps.abs().max().item() or 1.0
    labels = range(len(maps)) if labels is None else labels
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    fig = plot_images(maps[:, None], labels, title, columns, **style)
    fig.colorbar(fig.axes[0].images[0], ax=fig.axes, label="activation", shrink=0.9)
    return fig


def plot_class_activation(
    images: torch.Tensor,
    maps: torch.Tensor,
    labels: list | None = None,
    title: str = "",
    columns: int = 6,
) -> plt.Figure:
    """Draw images, and over each, in color, how much every place speaks for a class.

    The maps are (N, h, w) float, larger is more, each scaled to its own range; the
    rest is as for ``plot_images``.

    Raises:
        ValueError: as ``plot_images``, and if there are not N maps.
    """
    if len(images) != len(maps) or maps.ndim != 3:
        wanted = f"{len(images)} images need maps ({len(images)}, h, w)"
        raise ValueError(f"{wanted}, got {tuple(maps.shape)}")
    fig = plot_images(images, labels, title, columns)
    height, width = images.shape[2:]
    style = {"extent": (0, width, height, 0), "interpolation": "bicubic", "alpha": 0.5}
    for ax, grid in zip(fig.axes, maps.detach().cpu(), strict=True):
        ax.imshow(grid.numpy(), cmap="inferno", **style)
    return fig


def plot_runs(
    runs: Iterable, metric: str, title: str = "", ax: Any = None
) -> plt.Figure:
    """Draw a metric of several runs over the epochs; a run without it is left out."""
    ax = ax or new_axes(6, 3)[0]
    for run in runs:
        points = [(row["epoch"], row[metric]) for row in run.rows if metric in row]
        if points:
            ax.plot(*zip(*points, strict=True), marker=".", label=run.name)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel=metric, title=title)
    ax.legend()
    return ax.figure
