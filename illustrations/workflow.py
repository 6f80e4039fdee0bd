"""Diagrams of the workflow: its six steps, a loss as a landscape, paths downhill."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Circle, FancyArrowPatch

from going_modular.plots import new_axes

GRAY = "0.5"  # readable on white and on black
STEPS = (
    "data",
    "model",
    "loss and\noptimizer",
    "training\nloop",
    "evaluation",
    "saving",
)


def plot_cycle() -> plt.Figure:
    """Draw the six steps of a project as a circle, with the way back."""
    ax = new_axes(5.5, 5, title="Six steps, and evaluation sends you back")[0]
    angles = torch.pi / 2 - torch.arange(6) * torch.pi / 3  # clockwise from the top
    places = torch.stack([angles.cos(), angles.sin()], dim=1)  # (6, 2)
    for number, (place, name) in enumerate(zip(places.tolist(), STEPS, strict=True)):
        ax.add_patch(Circle(place, 0.34, facecolor=f"C{number}", alpha=0.25))
        ax.add_patch(Circle(place, 0.34, fill=False, edgecolor=f"C{number}", lw=2))
        ax.text(*place, f"{number + 1}\n{name}", ha="center", va="center", fontsize=11)
    for start, end in zip(places[:-1], places[1:], strict=True):
        _arrow(ax, start, end, GRAY, "-")
    for end, label, where in (
        (places[0], "more data?", (0.06, 0.42)),
        (places[1], "another model?", (0.36, -0.06)),
        (places[2], "another learning rate?", (0.02, -0.4)),
    ):
        _arrow(ax, places[4], end, "C3", "--")
        ax.text(*where, label, color="C3", ha="center", fontsize=9)
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.4, 1.4), aspect="equal")
    ax.axis("off")
    return plt.gcf()


def _arrow(
    ax: plt.Axes, start: torch.Tensor, end: torch.Tensor, color: str, style: str
) -> None:
    """Draw an arrow from one circle's edge to another's."""
    way = (end - start) / (end - start).norm()
    ends: Any = ((start + 0.38 * way).tolist(), (end - 0.38 * way).tolist())
    look = {"arrowstyle": "-|>", "mutation_scale": 16, "color": color, "ls": style}
    ax.add_patch(FancyArrowPatch(*ends, lw=1.5, **look))


def plot_learning_line(
    x: torch.Tensor, y: torch.Tensor, lines: Sequence[torch.Tensor], epochs: Sequence
) -> plt.Figure:
    """Draw points and the line that a model predicts after each of some epochs.

    Args:
        x: (N, 1).
        y: (N, 1).
        lines: the predictions (N, 1) of every epoch.
        epochs: which of them to draw.
    """
    title = f"{epochs[-1]} steps turn a random line into the price list"
    ax = new_axes(7, 3.8, title=title)[0]
    ax.scatter(x, y, s=14, color=GRAY, label="receipts")
    colors = plt.colormaps["plasma"](torch.linspace(0.85, 0.1, len(epochs)).numpy())
    for epoch, color in zip(epochs, colors, strict=True):
        ax.plot(x, lines[epoch], color=color, lw=2, label=f"after {epoch} steps")
    ax.set(xlabel="kilometers", ylabel="price")
    ax.legend()
    return plt.gcf()


def plot_errors(
    x: torch.Tensor, y: torch.Tensor, predictions: torch.Tensor
) -> plt.Figure:
    """Draw each error as a stick from the prediction to its target; all are (N, 1)."""
    x, y, guess = (each.detach().flatten() for each in (x, y, predictions))
    mean = (guess - y).abs().mean()
    ax = new_axes(7, 3.5, title=f"The sticks are {mean:.2f} long on average")[0]
    ax.vlines(x, guess, y, color="C3", lw=2, label="errors")
    ax.scatter(x, y, s=24, color="C1", label="targets", zorder=3)
    ax.scatter(x, guess, s=30, marker="x", color="C2", label="predictions", zorder=3)
    ax.set(xlabel="x", ylabel="y", ylim=(0, None))
    ax.legend(loc="lower center", ncols=3)
    return plt.gcf()


def plot_slope(
    loss_at: Callable[[float], float], here: float, slope: float
) -> plt.Figure:
    """Draw the loss over one parameter, and the tangent where we stand.

    Args:
        loss_at: parameter -> loss.
        here: the parameter's value.
        slope: of the loss there.
    """
    title = f"Where we stand, the loss changes by {slope:.0f} per unit of the bias"
    ax = new_axes(7, 3.5, title=title)[0]
    values = torch.linspace(here - 0.3, here + 1, 200).tolist()
    ax.plot(values, [loss_at(value) for value in values], label="loss")
    ends = [here - 0.25, here + 0.25]
    heights = [loss_at(here) + slope * (end - here) for end in ends]
    ax.plot(ends, heights, "--", color="C3", lw=2, label=f"tangent, slope {slope:.0f}")
    ax.plot([here], [loss_at(here)], "o", color="C3", ms=8, label="we stand here")
    ax.set(xlabel="bias", ylabel="loss", ylim=(0, None))
    ax.legend()
    return plt.gcf()


def plot_rates(runs: dict[float, list[float]]) -> plt.Figure:
    """Draw the losses of trainings with several learning rates, a panel each.

    Args:
        runs: learning rate -> the loss of every epoch. A panel whose loss grows without
            end is cut at twenty times the first loss.
    """
    title = "One arrives, one is thrown out, one crawls"
    axes = new_axes(3.4, 3.2, len(runs), len(runs), title)
    for ax, (lr, losses) in zip(axes, runs.items(), strict=True):
        ax.plot(losses, lw=2)
        share = losses[-1] / losses[0]
        words = f"{share:.1%} of the loss is left" if share < 1 else "no end in sight"
        ax.set_title(f"lr {lr}: {words}", fontsize=10)
        ax.set(xlabel="epoch", ylim=(0, min(1.1 * max(losses), 20 * losses[0])))
        if share > 1:
            ax.set_xlim(0, 8)
    axes[0].set_ylabel("loss")
    return plt.gcf()


def plot_landscape(
    loss_at: Callable[[float, float], float],
    paths: dict[float, list[tuple[float, float]]],
    goal: tuple[float, float],
) -> plt.Figure:
    """Draw the loss over weight and bias as a map, with the path of each training.

    Args:
        loss_at: (weight, bias) -> loss.
        paths: learning rate -> the (weight, bias) of every epoch, drawn until it
            leaves the map.
        goal: the (weight, bias) where the loss is smallest.
    """
    title = "The loss is a valley; the learning rate is how far each step goes"
    axes = new_axes(3.6, 3.6, len(paths), len(paths), title)
    weights, biases = torch.linspace(-0.5, 1.9, 60), torch.linspace(-0.9, 1.5, 60)
    heights = [[loss_at(w, b) for w in weights.tolist()] for b in biases.tolist()]
    levels = [0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.7, 1.5, 3, 6]
    for ax, (lr, path) in zip(axes, paths.items(), strict=True):
        ax.contourf(weights, biases, heights, levels, cmap="Blues", norm="log")
        away = [max(abs(w - goal[0]), abs(b - goal[1])) > 1.2 for w, b in path]
        inside = path[: away.index(True) + 1] if any(away) else path
        ax.plot(*zip(*inside, strict=True), ".-", color="C3", lw=1.2, ms=6)
        ax.plot(*path[0], "o", color="black", ms=7, label="start")
        ax.plot(*goal, "*", color="gold", mec="black", ms=12, label="goal")
        ax.set(xlim=(-0.5, 1.9), ylim=(-0.9, 1.5), xlabel="weight")
        ax.set_title(f"lr {lr}", fontsize=10)
    axes[0].set_ylabel("bias")
    axes[0].legend(loc="upper right")
    return plt.gcf()


def plot_forgotten(right: list[float], forgotten: list[float]) -> plt.Figure:
    """Draw two trainings' losses, one of which never zeroed its gradients."""
    late = sum(forgotten[50:]) / len(forgotten[50:]) / forgotten[0]
    title = f"Without zero_grad, {late:.0%} of the first loss is left, on average"
    ax = new_axes(7.5, 3.5, title=title)[0]
    ax.plot(forgotten, color="C3", label="without zero_grad")
    ax.plot(right, color="C0", lw=2, label="with zero_grad")
    ax.set(xlabel="epoch", ylabel="mean squared error")
    ax.set_ylim(0, 1.3 * max(forgotten))
    ax.legend(loc="upper right", ncols=2)
    return plt.gcf()


def plot_unknown(x: torch.Tensor, y: torch.Tensor, line: torch.Tensor) -> plt.Figure:
    """Draw the challenge's noisy points (N, 1) and the best straight line's values."""
    error = (y - line).pow(2).mean().sqrt()
    title = f"The best straight line is off by {error:.2f}; the noise by only 0.10"
    ax = new_axes(7, 3.5, title=title)[0]
    order = x.flatten().argsort()
    ax.scatter(x, y, s=12, color=GRAY, label="training data")
    ax.plot(x[order], line[order], color="C3", lw=2, label="the best straight line")
    ax.set(xlabel="x", ylabel="y")
    ax.legend()
    return plt.gcf()
