# Written by tools/export.py from 01_workflow.ipynb, 02_classification.ipynb,
# 03_computer_vision.ipynb: edit there, not here.
"""Figures of data and results."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch


def new_axes(
    width: float, height: float, count: int = 1, columns: int = 1, title: str = ""
) -> list[plt.Axes]:
    """Return ``count`` axes of a new figure, each of this size in inches."""
    rows = -(-count // columns)  # rounded up
    columns = min(count, columns)
    size = (width * columns, height * rows + 0.5)
    fig = plt.figure(figsize=size, layout="constrained")
    fig.suptitle(title)
    return [fig.add_subplot(rows, columns, place + 1) for place in range(count)]


def plot_curves(results: dict[str, list[float]], title: str = "") -> plt.Figure:
    """Draw {"train_loss": [...], ...}, a panel for the loss and for each metric."""
    names = [key.removeprefix("train_") for key in results if key.startswith("train_")]
    for name, ax in zip(names, new_axes(5, 3, len(names), 8, title), strict=True):
        for part in ("train", "valid", "test"):
            if values := results.get(f"{part}_{name}"):
                ax.plot(range(1, len(values) + 1), values, marker=".", label=part)
        ax.set(xlabel="epoch", ylabel="accuracy" if name == "acc" else name)
        ax.legend()
    return plt.gcf()


def plot_confusion_matrix(
    matrix: torch.Tensor, class_names: Sequence[str], title: str = ""
) -> plt.Axes:
    """Draw a confusion matrix: counts, colored by their share of the true class.

    The matrix is a tensor or an array (K, K), row = true, column = predicted class.

    Raises:
        ValueError: if it does not have a row and a column for each class name.
    """
    matrix, K = torch.as_tensor(matrix).cpu(), len(class_names)
    if matrix.shape != (K, K):
        raise ValueError(f"the matrix is {tuple(matrix.shape)}, but {K} class names")
    shares = torch.nn.functional.normalize(
        matrix.float(), p=1
    )  # rows sum to 1, or to 0
    ax = new_axes(4 + 0.5 * K, 2.5 + 0.5 * K)[0]
    image = ax.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix.numpy()):
        color = "white" if shares[row, column] > 0.5 else "black"
        ax.text(column, row, f"{count:g}", ha="center", va="center", color=color)
    ax.set_xticks(range(K), class_names, rotation=45 * (K > 4))
    ax.set_yticks(range(K), class_names)
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    ax.figure.colorbar(image, label="share of the true class", shrink=0.8)
    return ax


def plot_images(
    images: torch.Tensor,
    labels: Sequence | None = None,
    title: str = "",
    columns: int = 8,
    **style: object,
) -> plt.Figure:
    """Draw images in a grid, each below its label.

    Args:
        images: (N, C, H, W), float in 0..1 or uint8, with C = 1 (gray) or 3 (RGB).
        labels: N of them, or None.
        title: of the figure.
        columns: images per row.
        **style: instead of gray from 0 to the brightest, for ``Axes.imshow``.

    Raises:
        ValueError: if images has another shape, or labels another length.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(
            "images must be (N, C, H, W) with 1 or 3 channels and N > 0, got "
            f"{tuple(images.shape)}"
        )
    labels = [""] * len(images) if labels is None else labels
    if len(labels) != len(images):
        raise ValueError(f"there are {len(images)} images but {len(labels)} labels")
    brightest = 255 if images.dtype == torch.uint8 else 1
    look: Any = {"cmap": "gray", "vmin": 0, "vmax": brightest} | style
    height = 1.15 + 0.15 * max(len(str(label).splitlines()) for label in labels)
    axes = new_axes(1.15, height, len(images), columns, title)
    for ax, image, label in zip(axes, images.detach().cpu(), labels, strict=True):
        ax.axis("off")
        ax.imshow(image.permute(1, 2, 0).numpy(), **look)  # (C, H, W) -> (H, W, C)
        ax.set_title(label, fontsize=8)
    return plt.gcf()
