"""Diagrams and figures of lesson 10: time, bits, memory, processes and patients."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

Spans = Sequence[tuple[str, float, float]]
BLUE, ORANGE, GREEN, GRAY = "#2e6da4", "#e67e22", "#1b7f3b", "#8a8a8a"


def plot_timelines(runs: Mapping[str, Spans], title: str = "") -> plt.Figure:
    """Draw when the parts of several runs ran, a panel a run, on one axis of time.

    Args:
        runs: what a run is -> [(part, start, duration), ...] in milliseconds.
        title: of the figure.
    """
    parts = list(dict.fromkeys(name for spans in runs.values() for name, _, _ in spans))
    fig, axes = plt.subplots(
        len(runs),
        figsize=(8, 1 + 0.42 * len(parts) * len(runs)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, (name, spans) in zip(axes[:, 0], runs.items(), strict=True):
        for part, start, duration in spans:
            color = f"C{parts.index(part)}"
            ax.barh(part, duration, left=start, color=color, edgecolor="white")
        ax.invert_yaxis()
        ax.set_ylabel(name)
    axes[-1, 0].set_xlabel("milliseconds")
    fig.suptitle(title)
    return fig


def plot_clocks(runs: dict[str, Sequence[float]]) -> plt.Figure:
    """Draw when several runs loaded and when they learned, from readings of a clock.

    Args:
        runs: what a run is -> seconds: at its beginning, when the first batch was
            loaded, when the network had learned from it, and so on.
    """
    spans: dict[str, list] = {name: [] for name in runs}
    for name, readings in runs.items():
        times = [1000 * (reading - readings[0]) for reading in readings]
        for k, (start, end) in enumerate(itertools.pairwise(times)):
            spans[name].append((("load", "learn")[k % 2], start, end - start))
    lasts = [f"{1000 * (times[-1] - times[0]):.0f} ms" for times in runs.values()]
    return plot_timelines(spans, f"Four batches: {', and '.join(lasts)}")


def plot_ratios(ratios: Sequence[float]) -> plt.Axes:
    """Draw ratios of two equal functions' times as dots, on a logarithmic axis."""
    _, ax = plt.subplots(figsize=(8, 1.9), layout="constrained")
    heights = [(7 * k) % 10 for k in range(len(ratios))]
    ax.scatter(ratios, heights, color=BLUE, alpha=0.7)
    ax.axvline(1, color=GRAY)
    ax.set_xscale("log", base=2)
    edge = max(2.0, *ratios, *[1 / ratio for ratio in ratios]) * 1.1
    ticks = [2.0**k for k in range(-4, 5) if 1 / edge <= 2.0**k <= edge]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set(xlim=(1 / edge, edge), yticks=[])
    ax.set_title(f"'Gains' of nothing: {min(ratios):.2f} to {max(ratios):.2f}")
    ax.set_xlabel("time of the first / time of the second")
    return ax


def plot_roofline(
    rate: float, bandwidth: float, points: dict[str, tuple[float, float]]
) -> plt.Axes:
    """Draw a machine's roofline, and how far below it some pieces of work are.

    Args:
        rate: operations a second that matrix products reach.
        bandwidth: bytes a second between memory and processor.
        points: name -> (operations per byte, operations a second).
    """
    _, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
    lows = [speed for _, speed in points.values()]
    reaches = [intensity for intensity, _ in points.values()]
    left, right = min(reaches) / 4, max(*reaches, rate / bandwidth) * 8
    corner = rate / bandwidth
    ax.plot([left, corner, right], [left * bandwidth, rate, rate], color=GRAY, lw=2.5)
    ax.fill_between(
        [left, corner], min(lows) / 6, [left * bandwidth, rate], color=BLUE, alpha=0.1
    )
    ax.fill_between([corner, right], min(lows) / 6, rate, color=ORANGE, alpha=0.12)
    style: Any = {"fontsize": 9, "color": GRAY}
    ax.text(
        left * 1.3, rate * 1.3, "the roof on the left: memory", va="bottom", **style
    )
    ax.text(right / 1.2, rate * 1.3, "on the right: arithmetic", ha="right", **style)
    for k, (name, (intensity, speed)) in enumerate(points.items()):
        ax.scatter(intensity, speed, color=f"C{k}", zorder=3, s=45)
        far = intensity > corner / 4
        shift = (-8, -12) if far else (8, -4)
        place: Any = {"xytext": shift, "textcoords": "offset points"}
        side = "right" if far else "left"
        ax.annotate(name, (intensity, speed), ha=side, fontsize=9, **place)
    ax.set(xscale="log", yscale="log", xlim=(left, right))
    ax.set_ylim(min(lows) / 6, rate * 6)
    ax.set(xlabel="operations per byte", ylabel="operations a second")
    ax.set_title("Large products reach the roof; a tiny call is far below it")
    return ax


def print_rows(rows: Sequence[dict]) -> None:
    """Print rows of ``measure.profile_model``: share, time, calls and name."""
    for row in rows:
        name = row["operation"]
        short = name if len(name) <= 36 else f"{name[:18]}…{name[-17:]}"
        cost = f"{row['share']:6.1%} {row['ms']:8.2f} ms"
        print(f"{cost} {row['calls']:6.0f} calls  {short}")


def plot_costs(profiles: dict[str, list[dict]]) -> plt.Figure:
    """Draw the most expensive operations of profiles side by side, on one axis.

    Args:
        profiles: name -> rows of ``measure.profile_model``.
    """
    fig, axes = plt.subplots(
        1, len(profiles), figsize=(9, 2.6), sharex=True, layout="constrained"
    )
    for ax, (name, rows) in zip(axes, profiles.items(), strict=True):
        top = rows[:6]
        names = [row["operation"].removeprefix("aten::").strip("_") for row in top]
        short = [n if len(n) < 24 else f"{n[:9]}…{n[-12:]}" for n in names]
        ax.barh(range(len(top)), [row["ms"] for row in top], color=BLUE)
        ax.set_yticks(range(len(top)), short, fontsize=8)
        ax.invert_yaxis()
        ax.set(title=name, xlabel="ms a step")
    costs = [
        f"{sum(row['ms'] for row in rows):.0f} ms in {name}"
        for name, rows in profiles.items()
    ]
    fig.suptitle(f"A step of the ViT takes {', '.join(costs)}")
    return fig


def plot_gains(
    gains: dict[str, tuple[float, float, float]], kept: Sequence[str]
) -> plt.Axes:
    """Draw gains as dots with bars, one a row; those that are kept are green.

    Args:
        gains: change -> (median, lower, upper quartile).
        kept: the changes that won twice.
    """
    _, ax = plt.subplots(figsize=(8, 0.42 * len(gains) + 1.2), layout="constrained")
    for row, (change, (median, low, high)) in enumerate(gains.items()):
        color = GREEN if change in kept else GRAY
        ax.plot([low, high], [row, row], color=color, lw=3, solid_capstyle="round")
        ax.scatter(median, row, color=color, s=50, zorder=3)
        ax.annotate(
            f"{median:.2f}",
            (high, row),
            xytext=(6, -4),
            textcoords="offset points",
            fontsize=9,
        )
    ax.axvline(1, color=GRAY, lw=1)
    ax.set_yticks(range(len(gains)), list(gains))
    ax.invert_yaxis()
    ax.set(xlabel="times as fast as without (first match)")
    ax.set_title(f"{len(kept)} of {len(gains)} switches pay here")
    ax.margins(x=0.12)
    return ax


def draw_formats() -> plt.Figure:
    """Draw how four formats divide their bits: sign, exponent, digits."""
    formats = {
        "float32": (8, 23),
        "TF32": (8, 10),
        "bfloat16": (8, 7),
        "float16": (5, 10),
    }
    colors = {"sign": GRAY, "exponent: how large": ORANGE, "digits: how exact": BLUE}
    fig, ax = plt.subplots(figsize=(8, 2.7), layout="constrained")
    for row, (name, (exponent, digits)) in enumerate(formats.items()):
        kinds = ["sign"] + ["exponent: how large"] * exponent
        kinds += ["digits: how exact"] * digits
        for place, kind in enumerate(kinds):
            style: Any = {"facecolor": colors[kind], "edgecolor": "white"}
            ax.add_patch(Rectangle((place, row + 0.12), 1, 0.76, **style))
        ax.text(-0.4, row + 0.5, name, ha="right", va="center")
        text = f"1 + {exponent} + {digits}"
        ax.text(len(kinds) + 0.3, row + 0.5, text, va="center", fontsize=9)
    for kind, color in colors.items():
        ax.scatter([], [], marker="s", s=70, color=color, label=kind)
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, 0), ncols=3, frameon=False)
    ax.set(xlim=(-5, 37), ylim=(4, 0))
    ax.set_title("Each format divides its bits in its own way: sign, exponent, digits")
    ax.axis("off")
    return fig


def plot_memory(runs: dict[str, list[float]], weights: float) -> plt.Figure:
    """Draw a training step's memory by kind, and how it grows and shrinks.

    Args:
        runs: name -> MB allocated since the step began, event after event.
        weights: MB of the weights; the gradients need as much, AdamW's states twice.
    """
    kinds = {"weights": weights, "optimizer's states": 2 * weights}
    kinds["gradients"] = weights
    kinds["activations, at most"] = max(next(iter(runs.values())))
    fig, (ax, right) = plt.subplots(
        1, 2, figsize=(9, 3.2), width_ratios=[1, 2], layout="constrained"
    )
    below = 0.0
    for color, (kind, size) in zip(
        [GRAY, GREEN, ORANGE, "#7fb3d5"], kinds.items(), strict=True
    ):
        ax.bar(0, size, bottom=below, color=color, label=f"{kind}: {size:.1f}")
        below += size
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], fontsize=8, loc="center right")
    ax.set(xticks=[], xlim=(-0.5, 3.4), ylabel="MB", title="all of a step, by kind")
    for (name, sizes), color in zip(runs.items(), (BLUE, ORANGE), strict=True):
        share = [k / (len(sizes) - 1) for k in range(len(sizes))]
        label = f"{name}: {max(sizes):.1f} MB at most"
        right.plot(share, sizes, color=color, lw=1)
        right.fill_between(share, sizes, color=color, alpha=0.25, label=label)
    right.set(xticks=[], xlabel="forward, then backward: one allocation after another")
    right.set(ylabel="MB more than at its start", title="one step, over time")
    right.set_ylim(0, 1.3 * max(map(max, runs.values())))
    right.legend(fontsize=8)
    fig.suptitle("Activations pile up on the way forward and go on the way back")
    return fig


def plot_gpu(figures: dict, ours: dict[str, float] | None = None) -> plt.Figure:
    """Draw the stored figures of a GPU: pictures a second, change after change.

    Args:
        figures: what tests/benchmarks/gpu.json holds.
        ours: name -> pictures a second of another machine, another model's.
    """
    rows = figures["precision"]
    panels = 2 if ours else 1
    fig, axes = plt.subplots(
        1,
        panels,
        figsize=(9, 0.33 * len(rows) + 1.3),
        width_ratios=[2.2, 1][:panels],
        squeeze=False,
        layout="constrained",
    )
    ax = axes[0, 0]
    speeds = [row["pictures_per_second"] for row in rows]
    ax.barh(range(len(rows)), speeds, color=BLUE)
    for k, row in enumerate(rows):
        text = f"{speeds[k]:,.0f}"
        if row.get("share"):
            text += f", {row['share']:.0f} % of its limit"
        ax.text(speeds[k] + max(speeds) * 0.01, k, text, va="center", fontsize=8)
    names = [f"{row['name']} ({row['batch']})" for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=8.5)
    ax.invert_yaxis()
    ax.set(xlim=(0, max(speeds) * 1.8), xlabel="pictures a second (batch in brackets)")
    ax.set_title(f"ViT-B/16, 224 pixels: {figures['device']}", fontsize=10)
    if ours:
        ax = axes[0, 1]
        ax.barh(range(len(ours)), list(ours.values()), color=ORANGE)
        for k, speed in enumerate(ours.values()):
            ax.text(max(ours.values()) * 0.03, k, f"{speed:,.0f}", va="center")
        ax.set_yticks(range(len(ours)), list(ours), fontsize=8.5)
        ax.invert_yaxis()
        ax.set_xlabel("pictures a second")
        ax.set_title("our ViT, this machine", fontsize=10)
    gain = max(speeds) / speeds[0]
    fig.suptitle(f"On the GPU all changes together give {gain:.0f} times float32")
    return fig


def draw_all_reduce() -> plt.Figure:
    """Draw two processes that average their gradients and take the same step."""
    fig, ax = plt.subplots(figsize=(8.4, 3), layout="constrained")
    stages = [
        "half of\nthe batch",
        "forward,\nbackward",
        "gradient",
        "the mean",
        "step",
    ]
    numbers = [("0.6", "0.4"), ("0.2", "0.4")]
    for row, (own, mean) in enumerate(numbers):
        y = 1.2 - 1.4 * row
        for k, stage in enumerate(stages):
            shared = k >= 3
            color = "#d5f0dd" if shared else ("#d6e6f5", "#fde3cf")[row]
            box: Any = {"facecolor": color, "edgecolor": GRAY}
            ax.add_patch(Rectangle((2 * k, y), 1.5, 0.9, **box))
            text = {2: f"gradient\n{own}", 3: f"the mean\n{mean}"}.get(k, stage)
            style: Any = {"ha": "center", "va": "center", "fontsize": 9.5}
            ax.text(2 * k + 0.75, y + 0.45, text, color="black", **style)
            if k:
                arrow: Any = {"arrowstyle": "->", "color": GRAY}
                ends = (2 * k, y + 0.45), (2 * k - 0.5, y + 0.45)
                ax.annotate("", *ends, arrowprops=arrow)
        ax.text(-0.2, y + 0.45, f"process {row}", ha="right", va="center")
    cross: Any = {"arrowstyle": "<->", "color": GREEN, "lw": 2}
    ax.annotate("", (5.75, 1.2), (5.75, 0.7), arrowprops=cross)
    ax.text(4.75, 0.95, "all-reduce", ha="center", va="center", color=GREEN)
    ax.set(xlim=(-1.6, 9.7), ylim=(-0.4, 2.3))
    ax.set_title("All-reduce: each brings a gradient, both leave with the mean")
    ax.axis("off")
    return fig


def plot_twins(losses: dict[str, list[float]], scales: Sequence[float]) -> plt.Figure:
    """Draw a training in float32 and one with a scaler, and the scaler's scale.

    Args:
        losses: "float32" and "fp16" -> the loss of each step.
        scales: before the first step, and after each; a skipped step halves it.
    """
    fig, (ax, right) = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
    steps = range(1, len(scales))
    skipped = [after < before for before, after in itertools.pairwise(scales)]
    colors = ["#c0392b" if skips else GREEN for skips in skipped]
    ax.plot(steps, losses["float32"], color=BLUE, marker="o", ms=4, label="float32")
    ax.plot(steps, losses["fp16"], color=GRAY, lw=1)
    ax.scatter(steps, losses["fp16"], c=colors, s=22, zorder=3)
    ax.scatter([], [], color=GREEN, s=22, label="fp16")
    ax.scatter([], [], color="#c0392b", s=22, label="fp16, step skipped")
    ax.set(xlabel="step", ylabel="loss")
    ax.legend(fontsize=8)
    powers = [math.log2(scale) for scale in scales]
    right.step(steps, powers[:-1], where="mid", color=GRAY, lw=1)
    right.scatter(steps, powers[:-1], c=colors, s=22, zorder=3)
    right.set(xlabel="step", ylabel="scale, as a power of 2")
    for axis in (ax.xaxis, right.xaxis):
        axis.get_major_locator().set_params(integer=True)
    fig.suptitle(
        f"fp16 skips {sum(skipped)} steps and learns like float32 in the others"
    )
    return fig


def plot_times(times: dict[str, float], title: str = "") -> plt.Axes:
    """Draw milliseconds as bars, one a row, with their numbers."""
    _, ax = plt.subplots(figsize=(8, 0.45 * len(times) + 1.1), layout="constrained")
    ax.barh(range(len(times)), list(times.values()), color=BLUE)
    for k, value in enumerate(times.values()):
        ax.text(value, k, f" {value:.1f}", va="center", fontsize=9)
    ax.set_yticks(range(len(times)), list(times))
    ax.invert_yaxis()
    ax.set(xlabel="milliseconds", title=title)
    ax.margins(x=0.12)
    return ax


def plot_ward(charts: dict[str, dict]) -> plt.Figure:
    """Draw what the instruments read of several trainings, a panel each.

    Args:
        charts: name -> {"losses": one a batch, "moves": relative, one a layer,
            "judged": accuracies}.
    """
    fig, axes = plt.subplots(3, 3, figsize=(9, 7.2), sharex=True, layout="constrained")
    for ax, (name, chart) in zip(axes.flat, charts.items(), strict=False):
        ax.plot([max(loss, 1e-3) for loss in chart["losses"]], color=BLUE, lw=1)
        ax.set_yscale("log")
        ax.set_ylim(0.2, max(20, 3 * max(chart["losses"])))
        judged = "  ".join(f"{value:.3f}" for value in chart["judged"])
        moves = "  ".join(f"{move:.2g}" for move in chart["moves"])
        text = f"judged: {judged}\nmoves: {moves}"
        style: Any = {"ha": "right", "va": "top", "fontsize": 8}
        ax.text(0.98, 0.97, text, transform=ax.transAxes, **style)
        ax.set_title(name, loc="left", fontsize=10, weight="bold")
    for ax in axes[-1]:
        ax.set_xlabel("batch")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss")
    fig.suptitle("One is healthy, eight are ill: loss, accuracy, and moves by layer")
    return fig
