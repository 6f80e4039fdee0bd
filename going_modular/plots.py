# Written by tools/export.py from 00_tensors.ipynb, 01_workflow.ipynb, 02_classification.ipynb,
# 03_computer_vision.ipynb, 06_transfer_learning.ipynb, 07_experiment_tracking.ipynb, 10_performance.ipynb: edit there,
# not here.
"""Every figure that the course draws twice."""

import copy

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import to_rgb


def plot_grids(grids: dict[str, torch.Tensor], title: str = "") -> plt.Figure:
    """Draw small tensors side by side as grids of numbers; a cell that broadcasting repeats is pale.

    grids: {caption: tensor of one or two axes}; a vector is drawn as one row. `tensor.expand(...)` shows how it is
    stretched: along such an axis the stride is 0. Returns the matplotlib Figure.
    Raises ValueError for a tensor of another number of axes.
    """
    if bad := {caption: grid.ndim for caption, grid in grids.items() if grid.ndim not in (1, 2)}:
        raise ValueError(f"plot_grids draws tensors of one or two axes, got {bad}; index or flatten them first")
    sizes = [torch.atleast_2d(grid).shape for grid in grids.values()]
    widths, height = [max(columns, 3) + 0.6 for _, columns in sizes], max(rows for rows, _ in sizes) + 0.6
    figsize = (0.5 * sum(widths), 0.5 * height + 0.8)
    fig, axes = plt.subplots(1, len(grids), figsize=figsize, squeeze=False, width_ratios=widths, layout="constrained")
    for ax, (caption, grid), width in zip(axes[0], grids.items(), widths, strict=True):
        _draw_grid(ax, grid.detach())
        ax.set(aspect="equal", xlim=(-0.6, width - 0.6), ylim=(height, 0))  # the same scale in all
        ax.set_title(caption, fontsize=9, loc="left")
        ax.axis("off")
    fig.suptitle(title, fontsize=11)
    return fig


def _draw_grid(ax: plt.Axes, grid: torch.Tensor) -> None:
    cells = torch.atleast_2d(grid)  # (D,) -> (1, D)
    rows, columns = cells.shape
    shade = torch.full((rows, columns), 0.4)
    if cells.stride(0) == 0:
        shade[1:] = 0.1
    if cells.stride(1) == 0:
        shade[:, 1:] = 0.1
    ax.pcolormesh(shade.numpy(), cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=2)
    for i, numbers in enumerate(cells.tolist()):
        for j, number in enumerate(numbers):
            ax.text(j + 0.5, i + 0.5, f"{number:.4g}", ha="center", va="center")
    ax.text(columns / 2, rows + 0.3, f"dim {grid.ndim - 1}", ha="center", va="center", fontsize=9)
    if grid.ndim == 2:
        ax.text(-0.3, rows / 2, "dim 0", ha="center", va="center", rotation=90, fontsize=9)


def plot_predictions(train_data, train_labels, test_data, test_labels, predictions=None, title=""):
    """Draw training points, test points and, where given, the predictions for the test points.

    Every argument but the title: a tensor (N, 1) on any device.  Returns the matplotlib Axes.
    """
    _, ax = plt.subplots(figsize=(7, 4))
    ax.scatter(train_data.cpu(), train_labels.cpu(), s=12, label="training data")
    ax.scatter(test_data.cpu(), test_labels.cpu(), s=12, label="test data")
    if predictions is not None:
        ax.scatter(test_data.cpu(), predictions.detach().cpu(), s=12, marker="x", label="predictions")
    ax.set(xlabel="x", ylabel="y", title=title)
    ax.legend()
    return ax


def plot_curves(results, title=""):
    """Draw the curves of a training, one panel for the loss and one for each metric.

    results: {"train_loss": [...], "test_loss": [...], "train_acc": [...], "test_acc": [...]}, one number an epoch,
    as ``engine.train`` returns them.  Returns the matplotlib Figure.
    """
    names = [key.removeprefix("train_") for key in results if key.startswith("train_")]
    fig, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.5), squeeze=False, layout="constrained")
    for name, ax in zip(names, axes[0], strict=True):
        for part in ("train", "test"):
            values = results[f"{part}_{name}"]
            ax.plot(range(1, len(values) + 1), values, label=part)
        ax.set(xlabel="epoch", ylabel="accuracy" if name == "acc" else name)
        ax.legend()
    fig.suptitle(title)
    return fig


def class_probs(logits):
    """Return the probability of every class, (N, K) float: from K logits (N, K), or from one (N, 1), then K is 2.

    Raises ValueError for logits of another shape.
    """
    if logits.ndim != 2:
        raise ValueError(f"the logits are {tuple(logits.shape)}; need (N, 1) or (N, K)")
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)  # (N, 1) -> (N, 2): the score of class 0 is 0
    return torch.softmax(logits, dim=1)


def grid_probs(model, xs, ys):
    """Ask the model at every point of a grid, xs (W,) by ys (H,): class probabilities (H, W, K) on the CPU.

    A copy of the model is asked, on the CPU and in evaluation mode, so that the model itself stays as it is.
    """
    points = torch.cartesian_prod(ys, xs).flip(dims=[1])  # (H,) and (W,) -> (H * W, 2), row by row
    with torch.inference_mode():
        logits = copy.deepcopy(model).cpu().eval()(points)  # (H * W, 2) -> (H * W, 1) or (H * W, K)
    return class_probs(logits).reshape(len(ys), len(xs), -1)  # (H * W, K) -> (H, W, K)


def plot_decision_boundary(model, X, y, title="", ax=None):
    """Color the plane by the class that ``model`` predicts there, and draw the points X on top, colored by label.

    model: from (B, 2) to one logit (B, 1) or K logits (B, K); its mode and device stay as they are.  X: (N, 2) float.
    y: (N,) or (N, 1) labels 0..K-1.  All on any device.  Returns the matplotlib Axes.  Raises ValueError for other
    shapes, and for labels that the model has no output for.
    """
    X, labels = X.detach().cpu(), y.detach().cpu().reshape(-1).long()
    if X.ndim != 2 or X.shape[1] != 2 or len(X) != len(labels):
        raise ValueError(f"X is {tuple(X.shape)} and y {tuple(y.shape)}; need points (N, 2) and N labels")
    (left, low), (right, high) = (X.amin(dim=0) - 0.2).tolist(), (X.amax(dim=0) + 0.2).tolist()
    xs, ys = torch.linspace(left, right, 150, dtype=X.dtype), torch.linspace(low, high, 150, dtype=X.dtype)
    probs = grid_probs(model, xs, ys).float()  # (H, W, K)
    num_classes = probs.shape[2]
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, but the model knows {num_classes} classes")
    colors = torch.tensor([to_rgb(f"C{k}") for k in range(num_classes)])
    ax = plt.subplots(figsize=(5, 4.5))[1] if ax is None else ax
    image = (0.55 + 0.45 * probs @ colors).numpy()  # (H, W, K) @ (K, 3) -> (H, W, 3)
    ax.imshow(image, extent=(left, right, low, high), origin="lower", aspect="auto")
    for k in range(num_classes):
        lead = probs[..., k] - probs[..., torch.arange(num_classes) != k].amax(dim=2)  # (H, W, K) -> (H, W)
        if lead.min() < 0 < lead.max():  # the class wins here and loses there, so it has a border
            ax.contour(xs, ys, lead, levels=[0], colors="black", linewidths=1)
        marker = "os^Dv<>pP*"[k % 10]
        style = {"marker": marker, "color": f"C{k}", "edgecolor": "white", "linewidth": 0.4}
        ax.scatter(*X[labels == k].T, s=16, label=f"class {k}", **style)
    ax.set(xlabel="feature 1", ylabel="feature 2", title=title)
    ax.legend(loc="upper right")
    return ax


def plot_confusion_matrix(matrix, class_names, title=""):
    """Draw a confusion matrix: counts as text, colored by their share of the true class.

    matrix: (K, K) counts, a tensor on any device or an array; row = true class, column = predicted class.
    class_names: K strings.  Returns the matplotlib Axes.  Raises ValueError where these do not fit together.
    """
    matrix, num_classes = torch.as_tensor(matrix).cpu(), len(class_names)
    if matrix.shape != (num_classes, num_classes):
        raise ValueError(f"the matrix is {tuple(matrix.shape)} but there are {num_classes} class names")
    shares = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)  # (K, K) / (K, 1); a class without items stays 0
    size = 3 + 0.5 * num_classes
    fig, ax = plt.subplots(figsize=(size + 1, size), layout="constrained")
    image = ax.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(num_classes):
        for column in range(num_classes):
            color = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, f"{matrix[row, column]:g}", ha="center", va="center", color=color)
    ax.set_xticks(range(num_classes), class_names, rotation=45 if num_classes > 4 else 0)
    ax.set_yticks(range(num_classes), class_names)
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    fig.colorbar(image, label="share of the true class", shrink=0.8)
    return ax


def grid_of_axes(count, columns, title, height=1.3):
    """Return (figure, list of ``count`` axes without ticks), in rows of ``columns``; places left over stay empty."""
    columns = min(count, columns)
    rows = -(-count // columns)  # rounded up
    fig, axes = plt.subplots(
        rows, columns, figsize=(1.15 * columns, height * rows + 0.5), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    fig.suptitle(title)
    return fig, list(axes.flat[:count])


def plot_images(images, labels=None, title="", columns=8):
    """Draw pictures in a grid, each below its label.

    images: (N, C, H, W) with C = 1 (gray) or 3 (red, green, blue), float in 0..1 or uint8, on any device.
    labels: N strings.  Returns the matplotlib Figure.  Raises ValueError for other shapes, or another number of labels.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"images must be (N, C, H, W) with 1 or 3 channels and N > 0, got {tuple(images.shape)}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"there are {len(images)} images but {len(labels)} labels")
    lines = 0 if labels is None else max(str(label).count("\n") + 1 for label in labels)
    fig, axes = grid_of_axes(len(images), columns, title, height=1.15 + 0.15 * lines)
    brightest = 255 if images.dtype == torch.uint8 else 1
    for index, (ax, image) in enumerate(zip(axes, images.detach().cpu(), strict=True)):
        ax.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=brightest)  # (C, H, W) -> (H, W, C)
        if labels is not None:
            ax.set_title(labels[index], fontsize=8)
    return fig


def plot_feature_maps(maps, title="", columns=8, *, labels=None):
    """Draw feature maps in a grid on one color scale: white is 0, red above, blue below.

    maps: (C, H, W) float, on any device.  labels: C strings, or None for the channels' numbers.
    Returns the matplotlib Figure.  Raises ValueError for other shapes, or another number of labels.
    """
    if maps.ndim != 3 or maps.numel() == 0:
        raise ValueError(f"maps must be (C, H, W), the feature maps of one picture, got {tuple(maps.shape)}")
    if labels is not None and len(labels) != len(maps):
        raise ValueError(f"there are {len(maps)} maps but {len(labels)} labels")
    maps = maps.detach().cpu().float()
    limit = maps.abs().max().item() or 1.0
    fig, axes = grid_of_axes(len(maps), columns, title, height=1.35)
    for channel, (ax, grid) in enumerate(zip(axes, maps, strict=True)):
        drawn = ax.imshow(grid.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_title(channel if labels is None else labels[channel], fontsize=8)
    fig.colorbar(drawn, ax=fig.axes, label="activation", shrink=0.9)
    return fig


def plot_class_activation(images, maps, labels=None, title="", columns=6):
    """Draw pictures and over each, in color, how much every place speaks for a class.

    images: (N, C, H, W) uint8 or float 0..1.  maps: (N, h, w) float, larger is more; each is scaled to its own range.
    labels, title, columns and errors: as for ``plot_images``; ValueError also where the numbers differ.
    Returns the matplotlib Figure.
    """
    if len(images) != len(maps) or maps.ndim != 3:
        raise ValueError(f"{len(images)} images need maps ({len(images)}, h, w), got {tuple(maps.shape)}")
    fig = plot_images(images, labels, title, columns)
    height, width = images.shape[2:]
    for ax, grid in zip(fig.axes, maps.detach().cpu(), strict=False):  # axes left over in the last row stay empty
        style = {"extent": (0, width, height, 0), "interpolation": "bicubic"}
        ax.imshow(grid.numpy(), cmap="inferno", alpha=0.5, **style)
    return fig


def plot_runs(runs, metric, title="", ax=None):
    """Draw one metric of several runs over the steps.

    runs: with name and metrics {name: [(step, value), ...]} each, as ``tracking.read_runs`` gives them; those without
    the metric are left out.  ax: where to draw, by default on a new figure.  Returns the matplotlib Figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for run in runs:
        if metric in run.metrics:
            ax.plot(*zip(*run.metrics[metric], strict=True), marker=".", label=run.name)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel=metric, title=title)
    ax.legend()
    return ax.figure


def plot_spans(spans, title=""):
    """Draw when each named part of a program ran, one line a name.

    spans: [(name, start, duration), ...] in milliseconds, as ``performance.read_spans`` gives them.
    Returns the matplotlib Axes.
    """
    names = list(dict.fromkeys(name for name, _, _ in spans))
    _, ax = plt.subplots(figsize=(8, 0.5 * len(names) + 1.2), layout="constrained")
    for row, name in enumerate(names):
        ax.broken_barh(
            [(start, length) for other, start, length in spans if other == name], (row - 0.4, 0.8), color=f"C{row}"
        )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="milliseconds", title=title)
    return ax
