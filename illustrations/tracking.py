"""Diagrams and figures of lesson 07: logs, schedules, searches, the winner's luck."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from going_modular.plots import new_axes

GRAY = "0.4"


def _box(ax: plt.Axes, place: tuple, size: tuple, text: str, color: str) -> None:
    """Draw a rounded box, its text in the middle."""
    style: Any = {"boxstyle": "round,pad=0.05", "lw": 1.8}
    for look in ({"fc": color, "alpha": 0.18}, {"fc": "none", "ec": color}):
        ax.add_patch(FancyBboxPatch(place, *size, **style, **look))
    middle = place[0] + size[0] / 2, place[1] + size[1] / 2
    ax.text(*middle, text, ha="center", va="center", fontsize=10, color=GRAY)


def _arrow(ax: plt.Axes, start: tuple, end: tuple) -> None:
    """Draw an arrow."""
    look = {"arrowstyle": "-|>", "mutation_scale": 16, "color": GRAY, "lw": 1.5}
    ax.add_patch(FancyArrowPatch(start, end, **look))


def _one_scale(axes: Sequence[plt.Axes]) -> None:
    """Give axes the same range of heights."""
    ends = [ax.get_ylim() for ax in axes]
    lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
    for ax in axes:
        ax.set_ylim(lowest, highest)


def plot_log() -> Any:
    """Draw what a run's record keeps together, and what it answers later."""
    title = "A number answers nothing; a number with its settings does"
    ax = new_axes(7.5, 3, title=title)[0]
    _box(ax, (0, 1.1), (1.5, 0.8), "settings, seed,\nversions", "C0")
    _box(ax, (2.2, 1.1), (1.5, 0.8), "training", "C1")
    _box(ax, (4.4, 1.1), (1.5, 0.8), "a row of numbers\nafter each epoch", "C2")
    _box(ax, (1.1, -0.5), (3.7, 0.8), "the record: one folder for one run", "C4")
    _box(ax, (6.6, -0.5), (1.6, 2.4), "later:\nwhich was best?\nwhy? again?", "C3")
    _arrow(ax, (1.56, 1.5), (2.14, 1.5))
    _arrow(ax, (3.76, 1.5), (4.34, 1.5))
    _arrow(ax, (0.8, 1.04), (1.6, 0.36))
    _arrow(ax, (5.1, 1.04), (4.3, 0.36))
    _arrow(ax, (4.86, -0.1), (6.54, -0.1))
    ax.set(xlim=(-0.15, 8.4), ylim=(-0.7, 2.1))
    ax.axis("off")
    return ax.figure


def plot_trackers() -> Any:
    """Draw the one interface, and the three trackers behind it."""
    title = "The training knows one interface; what stands behind it may change"
    ax = new_axes(8, 3.2, title=title)[0]
    _box(ax, (0, 1.2), (1.5, 0.8), "training:\na row an epoch", "C1")
    _box(ax, (2.5, 1.2), (1.3, 0.8), "Tracker", "C4")
    _arrow(ax, (1.56, 1.6), (2.44, 1.6))
    places = {
        "TensorBoard: files beside your code": "C0",
        "W&B: a website for the team": "C2",
        "MLflow: a database of your own": "C3",
    }
    for height, (text, color) in zip((2.3, 1.3, 0.3), places.items(), strict=True):
        _box(ax, (4.9, height), (3.3, 0.6), text, color)
        _arrow(ax, (3.86, 1.6), (4.84, height + 0.3))
    _box(ax, (0, -0.2), (3.8, 0.6), "metrics.jsonl, whatever happens", GRAY)
    _arrow(ax, (0.75, 1.14), (0.75, 0.46))
    ax.set(xlim=(-0.15, 8.4), ylim=(-0.4, 3.1))
    ax.axis("off")
    return ax.figure


def open_dashboard(log_dir: Path) -> None:
    """Open TensorBoard's page below the cell, or print how to open it elsewhere.

    Here it takes two magics: %load_ext tensorboard, %tensorboard --logdir FOLDER.
    """
    if "JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules:
        from IPython import get_ipython

        get_ipython().run_line_magic("load_ext", "tensorboard")
        get_ipython().run_line_magic("tensorboard", f"--logdir {log_dir}")
    else:
        print(f"tensorboard --logdir {log_dir.as_posix()}")
        print("then open http://localhost:6006")


def show_dashboard() -> None:
    """Show a picture of TensorBoard's page with the lesson's first three runs."""
    from IPython.display import Image, display

    alt = (
        "TensorBoard in a browser: at the left the three runs lr=0.0001, lr=0.003 and "
        "lr=0.03 with their colors, at the right a card for final/valid_acc and one "
        "for valid_acc with three curves and a table of their last values"
    )
    picture = Image("docs/dashboard.jpg", width=760)
    display(picture, metadata={"image/jpeg": {"alt": alt}})


def plot_three(runs: dict[str, list[dict]], seen: int) -> Any:
    """Draw the valid loss of three runs over the epochs.

    Args:
        runs: run -> rows of results.
        seen: the epoch after which the runs went on.
    """
    title = "One still falls, one has arrived, one is thrown about"
    ax = new_axes(6.5, 3.2, title=title)[0]
    for name, rows in runs.items():
        epochs, values = zip(
            *((row["epoch"], row["valid_loss"]) for row in rows), strict=True
        )
        ax.plot(epochs, values, marker="o", ms=4, label=name)
    ax.axvline(seen, color=GRAY, ls=":", label=f"epoch {seen}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel="valid loss", ylim=(0, None))
    ax.legend()
    return ax.figure


def plot_spread(groups: dict[str, list[float]], label: str, title: str) -> Any:
    """Draw each group's numbers as dots, and their mean as a bar across.

    Args:
        groups: name -> numbers, one for each seed.
        label: what the numbers are.
        title: the finding.
    """
    ax = new_axes(6.5, 0.55 * len(groups) + 1.2, title=title)[0]
    for place, values in enumerate(groups.values()):
        ax.plot(values, [place] * len(values), "o", color=f"C{place}", alpha=0.6)
        ax.plot([mean(values)] * 2, [place - 0.3, place + 0.3], color=f"C{place}", lw=3)
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set(xlabel=label, ylim=(len(groups) - 0.5, -0.5))
    return ax.figure


def plot_schedules(scores: dict[str, list[float]]) -> plt.Figure:
    """Draw each schedule's accuracies over seeds."""
    title = "A constant rate ends lower, and scatters most"
    return plot_spread(scores, "valid accuracy, a dot for each seed", title)


def plot_tested(tested: dict[str, list[float]]) -> plt.Figure:
    """Draw two settings' test accuracies over seeds."""
    title = "The gain is larger than the spread over seeds"
    return plot_spread(tested, "test accuracy", title)


def plot_nine_points(seed: int = 3) -> Any:
    """Draw nine runs as a grid and at random; the ticks below are the values tried."""
    title = "Nine runs: a grid tries three learning rates, a random search nine"
    axes = new_axes(3.6, 3.2, 2, 2, title)
    side = torch.tensor([0.15, 0.5, 0.85])
    drawn = torch.rand(9, 2, generator=torch.Generator().manual_seed(seed))  # (9, 2)
    both = {"grid": torch.cartesian_prod(side, side), "random": drawn}
    values = torch.linspace(0, 1, 100)
    hill = 1.1 + 0.3 * torch.exp(-(((values - 0.66) / 0.13) ** 2))
    for ax, (name, points) in zip(axes, both.items(), strict=True):
        ax.fill_between(values, 1.1, hill, color="C2", alpha=0.4)
        ax.scatter(*points.T, s=45, color="C0", zorder=3)
        ax.vlines(points[:, 0], -0.12, -0.02, color="C3", lw=2)
        ax.vlines(points[:, 0], 0, 1.1, color=GRAY, lw=0.6, ls=":")
        ax.set(xlabel="learning rate (matters)", ylabel="weight decay (hardly)")
        ax.set(xticks=[], yticks=[], ylim=(-0.14, 1.45), title=name)
    return axes[0].figure


def plot_searches(searches: dict[str, list], epochs: int, budget: int) -> Any:
    """Draw the best accuracy so far against the epochs spent, a line for each search.

    Args:
        searches: method -> Optuna's studies, one for each repetition.
        epochs: of a whole run; only such runs count as a result.
        budget: epochs of a search.
    """
    title = "Three ways to search, each line a search: most end close together"
    axes = new_axes(2.9, 3, len(searches), len(searches), title)
    for number, (ax, (name, studies)) in enumerate(
        zip(axes, searches.items(), strict=True)
    ):
        for study in studies:
            spent, best, xs, ys = 0, 0.0, [], []
            for trial in study.trials:
                spent += len(trial.intermediate_values)
                if len(trial.intermediate_values) == epochs:
                    best = max(best, trial.intermediate_values[epochs])
                    xs, ys = [*xs, spent], [*ys, best]
            ax.step([*xs, budget], [*ys, best], where="post", color=f"C{number}")
        ax.set(xlabel="epochs spent", title=name)
        ax.set(ylim=(0.7, 0.83))  # what lies below is over after a few trials
        ax.grid(alpha=0.3)
    axes[0].set(ylabel="best valid accuracy so far")
    return axes[0].figure


def plot_tried(searches: dict[str, list]) -> Any:
    """Draw where searches looked: each run's learning rate and last accuracy.

    Args:
        searches: method -> Optuna's studies; the first of each is drawn.
    """
    title = "A grid repeats its learning rates; the others try a new one each time"
    axes = new_axes(2.9, 3, len(searches), len(searches), title)
    for ax, (name, studies) in zip(axes, searches.items(), strict=True):
        for state, marker, color in (("COMPLETE", "o", "C0"), ("PRUNED", "x", "C3")):
            trials = [each for each in studies[0].trials if each.state.name == state]
            rates = [each.params["lr"] for each in trials]
            last = [list(each.intermediate_values.values())[-1] for each in trials]
            ax.scatter(rates, last, marker=marker, color=color, label=state.lower())
        ax.set(xscale="log", xlabel="learning rate", title=name)
    _one_scale(axes)
    axes[0].set(ylabel="last valid accuracy")
    axes[-1].legend(loc="lower center")
    return axes[0].figure


def plot_falls(winners: list[dict]) -> Any:
    """Draw each winner's number in its search, and its mean over fresh seeds.

    Args:
        winners: dicts with the method, and the accuracies claimed and fresh.
    """
    methods = list(dict.fromkeys(each["method"] for each in winners))
    title = "Measured again, the winners fall"
    axes = new_axes(2.6, 3.2, len(methods), len(methods), title)
    for number, (ax, method) in enumerate(zip(axes, methods, strict=True)):
        pairs = [
            (each["claimed"], each["fresh"])
            for each in winners
            if each["method"] == method
        ]
        for pair in pairs:
            ax.plot([0, 1], pair, "o-", color=f"C{number}", alpha=0.5, ms=4)
        ends = [mean(values) for values in zip(*pairs, strict=True)]
        ax.plot([0, 1], ends, "s-", color="0.25", lw=3, label="mean")
        ax.set_xticks([0, 1], ["in the\nsearch", "fresh\nseeds"])
        ax.set(xlim=(-0.3, 1.3), title=f"{method}: {ends[1] - ends[0]:+.3f}")
    _one_scale(axes)
    axes[0].set_ylabel("valid accuracy")
    axes[-1].legend(loc="lower left")
    return axes[0].figure


def plot_luck(measured: torch.Tensor, best: torch.Tensor, title: str) -> Any:
    """Draw how one number scatters, and how the best of many does.

    Args:
        measured: (R,) errors of one measurement.
        best: (R,) the largest of many.
        title: the finding.
    """
    ax = new_axes(6.5, 2.8, title=title)[0]
    spread = measured.std().item()
    edges = torch.linspace(-4 * spread, 5 * spread, 61).tolist()
    for values, label in ((measured, "one setting"), (best, "best of 16 equal ones")):
        ax.hist(values.tolist(), bins=edges, alpha=0.55, label=label, density=True)
    ax.axvline(0, color=GRAY, lw=2, ls="--", label="the truth")
    ax.set(xlabel="measured accuracy − true accuracy", ylabel="density", yticks=[])
    ax.legend()
    return ax.figure


def plot_rates(
    new_schedule: Callable, names: Sequence[str], lr: float, steps: int
) -> dict[str, list[float]]:
    """Draw the learning rate of every step, a line for each schedule.

    Args:
        new_schedule: called with a name, an optimizer, the largest rate and the steps.
        names: of the schedules.
        lr: the largest rate.
        steps: of the whole training.

    Returns:
        the learning rates, a list for each schedule.
    """
    title = "All but the constant one end small"
    ax = new_axes(6.5, 2.8, title=title)[0]
    rates: dict[str, list[float]] = {}
    for number, name in enumerate(names):
        weight = torch.nn.Parameter(torch.zeros(1))  # an optimizer wants one
        optimizer = torch.optim.AdamW([weight], lr)
        scheduler = new_schedule(name, optimizer, lr, steps)
        rates[name] = []
        for _ in range(steps):
            rates[name] += scheduler.get_last_lr()
            optimizer.step()
            scheduler.step()
        style = ("-", "--", "-.", ":")[number % 4]
        ax.plot(rates[name], style, lw=2, label=name)
    ax.set(xlabel="step", ylabel="learning rate")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return rates
