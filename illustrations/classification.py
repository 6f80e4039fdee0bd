"""Pictures of lesson 02: how a network folds the plane, and how its answers are cut."""

import copy
import math

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import FancyArrowPatch
from torch import nn

from illustrations.results import plot_decision_boundary, plot_lines


def plot_points(
    X: torch.Tensor, y: torch.Tensor, names: list[str], title: str
) -> plt.Axes:
    """Draw points (N, 2), colored by their labels y, (N,) or (N, 1), in 0..K-1."""
    _, ax = plt.subplots(figsize=(4.6, 3.5), layout="constrained")
    for label, name in enumerate(names):
        points = X[y.flatten() == label]
        ax.scatter(points[:, 0], points[:, 1], s=8, label=name)
    ax.set(xlabel="feature 1", ylabel="feature 2", aspect="equal", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_line_loss(confidence: torch.Tensor, losses: list[float]) -> plt.Axes:
    """Draw the loss of a line over its confidence, and that of "fifty-fifty"."""
    _, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    ax.plot(confidence, losses, label="the line with the best accuracy")
    name = '"fifty-fifty" everywhere: log 2'
    ax.axhline(math.log(2), label=name, color="C3", linestyle="dashed")
    ax.set(xlabel="confidence", ylabel="cross-entropy")
    ax.set_title("The best line's loss is worse than that of no opinion")
    ax.legend()
    return ax


def plot_line_task(model: nn.Module, X: torch.Tensor, y: torch.Tensor) -> plt.Axes:
    """Draw a model's boundary, and lesson 01's line, which labeled the points."""
    title = "Where a line is the answer, the model finds it"
    _, ax = plt.subplots(figsize=(4.2, 3.8), layout="constrained")
    plot_decision_boundary(model, X, y, title, ax)
    ax.axline((0, 0.3), slope=0.7, color="C3", ls="--", label="the true line")
    ax.legend(loc="lower left")
    return ax


def plot_boundaries(
    panels: dict[str, tuple[nn.Module, torch.Tensor, torch.Tensor]],
) -> plt.Figure:
    """Draw decision boundaries side by side, with the first 200 points at most.

    Args:
        panels: a model, points (N, 2) and their labels, by the panel's title.
    """
    fig, axes = plt.subplots(
        1, len(panels), figsize=(3.5 * len(panels), 3.3), layout="constrained"
    )
    for ax, (title, (model, X, y)) in zip(axes, panels.items(), strict=True):
        plot_decision_boundary(model, X[:200], y[:200], title, ax)
    return fig


def plot_functions(x: torch.Tensor, functions: dict[str, torch.Tensor]) -> plt.Figure:
    """Draw functions side by side: their values at x (N,), by the panel's title."""
    fig, axes = plt.subplots(
        1, len(functions), figsize=(3.3 * len(functions), 3), layout="constrained"
    )
    for ax, (title, values) in zip(axes, functions.items(), strict=True):
        ax.plot(x, values)
        ax.set(xlabel="x", ylabel="output", title=title)
    return fig


def plot_snapshots(
    copies: dict[int, nn.Module], X: torch.Tensor, y: torch.Tensor, title: str
) -> plt.Figure:
    """Draw the decision boundaries of a model's copies, one panel an epoch.

    Args:
        copies: of the model, by the number of epochs that it was trained.
        X: points (N, 2) float.
        y: their labels, (N,) or (N, 1).
        title: of the figure.
    """
    fig, axes = plt.subplots(
        1, len(copies), figsize=(2.3 * len(copies), 2.7), layout="constrained"
    )
    for ax, (epoch, model) in zip(axes, copies.items(), strict=True):
        plot_decision_boundary(model, X, y, f"epoch {epoch}", ax)
        ax.get_legend().remove()
        for dots in ax.collections:
            if hasattr(dots, "set_sizes"):  # points, no border
                dots.set(sizes=[6], linewidth=0)
        ax.set(xlabel="", ylabel="", xticks=[], yticks=[], aspect="equal")
    fig.suptitle(title)
    return fig


def plot_network(sizes: list[int], title: str) -> plt.Axes:
    """Draw a network of linear layers: a column of circles a layer, a line a weight.

    Args:
        sizes: how many numbers there are before the first layer and after each.
        title: of the figure.
    """
    names = [f"{size} units, ReLU\n(B, {size})" for size in sizes]
    names[0], names[-1] = f"features\n(B, {sizes[0]})", f"logit\n(B, {sizes[-1]})"
    _, ax = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    heights = [torch.linspace(-1, 1, n) * min(1, n / 8) for n in sizes]
    for left, (before, after) in enumerate(zip(heights, heights[1:], strict=False)):
        for start in before.tolist():
            for end in after.tolist():
                style = {"color": "lightgray", "lw": 0.5, "antialiased": False}
                ax.plot([left, left + 1], [start, end], zorder=1, **style)
        label = f"nn.Linear({sizes[left]}, {sizes[left + 1]})"
        ending = "bias" if sizes[left + 1] == 1 else "biases"
        weights = f"{len(before) * len(after)} weights, {len(after)} {ending}"
        ax.text(left + 0.5, 1.2, label, ha="center", family="monospace", fontsize=9)
        ax.text(left + 0.5, 1.09, weights, ha="center", fontsize=8, color="dimgray")
    last = len(sizes) - 1
    for column, ys in enumerate(heights):
        color = "C0" if column in (0, last) else "C1"
        xs = torch.full_like(ys, column)
        ax.scatter(xs, ys, s=70, color=color, edgecolor="white", zorder=2)
        ax.text(column, -1.18, names[column], ha="center", va="top", fontsize=9)
    ax.set(xlim=(-0.4, last + 0.4), ylim=(-1.62, 1.32))
    ax.set_title(title)
    ax.axis("off")
    return ax


def _plane(X: torch.Tensor) -> tuple[torch.Tensor, list[float], torch.Tensor]:
    """Return a grid's ticks (G,), its ends for imshow, and its points (G * G, 2)."""
    end = X.abs().max().item() + 0.2
    ticks = torch.linspace(-end, end, 121)
    points = torch.cartesian_prod(ticks, ticks).flip(1)  # row by row
    return ticks, [-end, end, -end, end], points


@torch.no_grad()
def plot_folds(model: nn.Sequential, X: torch.Tensor, title: str) -> plt.Figure:
    """Draw what each hidden unit adds to the logit, and the sum so far below it.

    Args:
        model: nn.Sequential(nn.Linear(2, H), nn.ReLU(), nn.Linear(H, 1)).
        X: points (N, 2); the picture covers them.
        title: of the figure.
    """
    hidden, relu, out = copy.deepcopy(model).cpu()
    ticks, extent, points = _plane(X.cpu())
    added = relu(hidden(points)) * out.weight  # (G * G, H), one column a unit
    added = added[:, added.std(dim=0).argsort(descending=True)]
    sums = out.bias + added.cumsum(dim=1)
    count, side = added.shape[1], len(ticks)
    fig, axes = plt.subplots(2, count, figsize=(1.2 * count, 2.9), layout="constrained")
    limit = sums[:, -1].abs().max().item()
    colors = ["C0", "white", "C1"]  # as everywhere: class 0, neither, class 1
    cmap = LinearSegmentedColormap.from_list("classes", colors)
    style = {"cmap": cmap, "vmin": -limit, "vmax": limit}
    for row, (values, name) in enumerate([(added, "unit"), (sums, "sum of")]):
        for unit in range(count):
            ax, grid = axes[row, unit], values[:, unit].reshape(side, side)
            ax.imshow(grid, extent=extent, origin="lower", **style)
            if row and grid.min() < 0 < grid.max():
                ax.contour(ticks, ticks, grid, levels=[0], colors="black")
            ax.set_title(f"{name} {unit + 1}", fontsize=9)
            ax.set(xticks=[], yticks=[])
    fig.suptitle(title)
    return fig


@torch.no_grad()
def plot_polygon(
    model: nn.Sequential, X: torch.Tensor, y: torch.Tensor, title: str
) -> plt.Axes:
    """Draw a network's boundary, and each hidden unit's fold as a dashed line.

    The arguments are those of ``plot_folds``, and the labels y (N, 1).
    """
    _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    plot_decision_boundary(model, X, y, title, ax)
    limits = ax.axis()
    ticks, _, points = _plane(X.cpu())
    folds = copy.deepcopy(model[0]).cpu()(
        points
    )  # (G * G, H): where one is 0, its unit bends
    for fold in folds.T:
        grid = fold.reshape(len(ticks), len(ticks))
        if grid.min() < 0 < grid.max():
            ax.contour(
                *(ticks, ticks, grid),
                levels=[0],
                colors="black",
                linestyles="dashed",
                linewidths=0.9,
            )
    ax.axis(limits)
    ax.set(aspect="equal")
    ax.get_legend().remove()
    return ax


def plot_chain(logits: list[float], threshold: float, title: str) -> plt.Axes:
    """Draw how logits become probabilities by the sigmoid, and labels by a threshold.

    Args:
        logits: some examples.
        threshold: a probability.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    x = torch.linspace(-6, 6, 200)
    ax.plot(x, x.sigmoid(), color="black")
    ax.axhline(threshold, color="gray", linestyle="dashed")
    ax.axhspan(threshold, 1.05, color="C1", alpha=0.15)
    ax.axhspan(-0.05, threshold, color="C0", alpha=0.15)
    ax.text(5.9, threshold + 0.04, f"above {threshold}: label 1", ha="right")
    ax.text(5.9, threshold - 0.09, "else: label 0", ha="right")
    for logit in logits:
        prob = torch.tensor(logit).sigmoid().item()
        color = "C1" if prob > threshold else "C0"
        for start, end in (
            ((logit, -0.05), (logit, prob)),
            ((logit, prob), (-6, prob)),
        ):
            arrow = {"arrowstyle": "->", "mutation_scale": 10, "color": color}
            ax.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **arrow))
    ax.set(xlabel="logit", ylabel="probability of class 1", title=title)
    ax.set(xlim=(-6, 6), ylim=(-0.05, 1.05))
    return ax


def plot_price(probs: torch.Tensor) -> plt.Axes:
    """Draw the cross-entropy of the probability of the right class, and examples."""
    right = torch.linspace(0.005, 1, 200)
    _, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    ax.plot(right, -right.log())
    ax.plot(probs, -probs.log(), "o")
    undecided, arrow = (0.5, math.log(2)), {"arrowstyle": "->"}
    ax.annotate("undecided: log 2", undecided, (0.55, 1.6), arrowprops=arrow)
    ax.set(xlabel="probability given to the right class", ylabel="loss")
    ax.set_title("Doubt costs a little, being sure and wrong costs a lot")
    return ax


def plot_scores(
    thresholds: torch.Tensor, scores: dict[str, list[float]], title: str
) -> plt.Axes:
    """Draw scores over the threshold, a line each."""
    labels = {"xlabel": "threshold (probability)", "ylabel": "score (0 to 1)"}
    return plot_lines(thresholds, scores, title, height=3.6, **labels)


def plot_thresholds(
    probs: torch.Tensor, labels: torch.Tensor, thresholds: list[float]
) -> plt.Figure:
    """Draw the probabilities of both classes as histograms, cut at each threshold.

    Args:
        probs: probabilities of class 1, faulty, (N,) or (N, 1).
        labels: 1 faulty, 0 fine, of the same shape.
        thresholds: a panel each, falling.
    """
    fig, axes = plt.subplots(
        2,
        len(thresholds),
        figsize=(4.8 * len(thresholds), 4),
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    edges = torch.linspace(0, 1, 51).tolist()
    for column, threshold in zip(axes.T, thresholds, strict=True):
        for ax, truth in zip(column, (1, 0), strict=True):
            part = probs[labels == truth]
            below, above = part[part <= threshold], part[part > threshold]
            names = [("missed", "found"), ("left alone", "false alarms")][1 - truth]
            colors = [("C3", "C2"), ("lightgray", "C4")][1 - truth]
            for values, name, color in zip((below, above), names, colors, strict=True):
                label = f"{len(values)} {name}"
                ax.hist(values.tolist(), bins=edges, color=color, label=label)
            ax.axvline(threshold, color="black", linestyle="dashed")
            ax.set(ylabel=["fine parts", "faulty parts"][truth])
            ax.legend(loc="upper center")
        column[0].set_title(f"threshold {threshold}")
        column[1].set(xlabel="probability of being faulty", yscale="log")
    fig.suptitle("A lower threshold: more faults found, more false alarms")
    return fig
