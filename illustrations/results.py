"""Results that one lesson draws."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_rgb
from torch import nn

from going_modular.metrics import find_inverse
from going_modular.plots import new_axes, plot_images
from going_modular.utils import class_probs, read_outputs


def plot_lines(
    x: torch.Tensor, curves: Mapping[str, Any], title: str, height: float, **labels: str
) -> plt.Axes:
    """Draw curves over x (N,), a line each, by name; labels are those of the axes."""
    _, ax = plt.subplots(figsize=(6, height), layout="constrained")
    for name, values in curves.items():
        ax.plot(x, values, label=name)
    ax.set(title=title, **labels)
    ax.legend()
    return ax


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
    quantity: str = "activation",
) -> plt.Figure:
    """Draw feature maps in a grid on one color scale: 0 white, red above, blue below.

    Args:
        maps: (C, H, W) float, on any device.
        title: of the figure.
        columns: maps per row.
        labels: C of them; by default the channels' numbers.
        quantity: what the colors show.

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
    fig.colorbar(fig.axes[0].images[0], ax=fig.axes, label=quantity, shrink=0.9)
    return fig


def grid_probs(model: nn.Module, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
    """Return class probabilities (H, W, K) at every point of a grid, xs (W,), ys (H,).

    A copy of the model answers, on the CPU and in evaluation mode.
    """
    points = torch.cartesian_prod(ys, xs).flip(1)  # (H * W, 2), row by row
    model = copy.deepcopy(model).cpu().eval()
    with torch.inference_mode():
        outputs = read_outputs(model(points))  # (H * W, 1) or (H * W, K)
    inverse = find_inverse(model, points, outputs)
    logits = inverse(outputs) if inverse else outputs
    return class_probs(logits).reshape(len(ys), len(xs), -1)  # -> (H, W, K)


def empty_axes(width: float, height: float) -> plt.Axes:
    """Return the current axes if nothing is drawn there yet, else new ones."""
    is_free = plt.get_fignums() and not plt.gca().has_data()
    return plt.gca() if is_free else new_axes(width, height)[0]


def plot_decision_boundary(
    model: nn.Module,
    X: torch.Tensor,
    y: torch.Tensor,
    title: str = "",
    ax: plt.Axes | None = None,
) -> plt.Axes:
    """Color the plane by the class that a model predicts, and draw points on top.

    The model goes from (B, 2) to one logit (B, 1) or K logits (B, K); its mode and
    device stay as they are. X is (N, 2) float, y (N,) or (N, 1) with labels 0..K-1.
    Without ax the current axes are taken if they are empty, as after ``plt.subplot``.

    Raises:
        ValueError: if shapes differ from these, or the model does not know a label.
    """
    X = X.detach().cpu()
    labels = y.detach().cpu().flatten().long()
    if X.shape != (len(labels), 2):
        raise ValueError(
            f"X is {tuple(X.shape)} and y {tuple(y.shape)}; need points (N, 2) and N "
            "labels"
        )
    ends = torch.stack([X.amin(0) - 0.2, X.amax(0) + 0.2], dim=1).tolist()
    xs, ys = (torch.linspace(*pair, 150, dtype=X.dtype) for pair in ends)
    probs = grid_probs(model, xs, ys).float()  # (H, W, K)
    classes = range(probs.shape[2])
    if not set(labels.tolist()) <= set(classes):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but the model knows "
            f"{len(classes)} classes"
        )
    ax = ax or empty_axes(5, 4)
    colors = torch.tensor([to_rgb(f"C{k}") for k in classes])
    steps = (20 * probs).round() / 20  # flat areas make a small file
    image = (0.55 + 0.45 * steps @ colors).numpy()  # (H, W, K) @ (K, 3) -> (H, W, 3)
    style: Any = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    ax.imshow(image, extent=ends[0] + ends[1], **style)
    for k in classes:
        lead = probs[..., k] - probs[..., torch.arange(len(classes)) != k].amax(dim=2)
        if lead.min() < 0 < lead.max():  # wins here and loses there: it has a border
            ax.contour(xs, ys, lead, levels=[0], colors="black", linewidths=1)
        style = {"marker": "os^Dv<>pP*"[k % 10], "edgecolor": "white", "linewidth": 0.4}
        ax.scatter(*X[labels == k].T, s=16, color=f"C{k}", label=f"class {k}", **style)
    ax.set(xlabel="feature 1", ylabel="feature 2", title=title or ax.get_title())
    ax.legend(loc="upper right")
    return ax
