"""Diagrams and figures of lesson 09: a page, its visitors, its files, its days.

And what its cells need beside the idea: to stop a page, to start a folder's.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from IPython import display
from IPython.core.getipython import get_ipython
from matplotlib.patches import FancyBboxPatch
from PIL import Image, ImageFilter

INK, SOFT, STRONG, GRAY = "#1f3a5f", "#e8f0f8", "#f6c667", "#7f7f7f"
GREEN, RED = "#1b7f3b", "#c0392b"


def draw_box(
    ax: plt.Axes, x: float, y: float, width: float, text: str, color: str = SOFT
) -> None:
    """Draw a box with a text into axes; (x, y) is the middle of its left side."""
    box = FancyBboxPatch((x, y - 0.22), width, 0.44, "round,pad=0.04", fc=color, ec=INK)
    ax.add_patch(box)
    ax.text(x + width / 2, y, text, ha="center", va="center", color="black", size=10)


def show_page(path: str, alt: str) -> None:
    """Show the stored picture of a page, with an alternative text."""
    picture = display.Image(path, width=640)
    display.display(picture, metadata={"image/jpeg": {"alt": alt}})


def shows_pages() -> bool:
    """Tell whether this front end, JupyterLab or Colab, shows a page below a cell."""
    return "JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules


def close_page(page: Any) -> None:
    """Stop a gradio page's server, and let figures appear below their cells again."""
    page.close(verbose=False)
    if get_ipython():  # gradio took another backend for its own threads
        plt.switch_backend("module://matplotlib_inline.backend_inline")


def start_app(folder: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """Run app.py of a folder as another process, and wait until its page answers.

    Args:
        folder: as ``build_demo`` writes it.
        log: the file that gets what the process prints.

    Returns:
        the process and the page's address.

    Raises:
        RuntimeError: if the process ends before it answers; the message is its log.
    """
    with socket.socket() as probe:  # port 0: the system chooses a free one
        probe.bind(("127.0.0.1", 0))
        _, port = probe.getsockname()
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
    }
    environment.pop("PYTHONPATH", None)  # nothing is imported from this course
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=file,
        )
    url = f"http://127.0.0.1:{port}"
    while server.poll() is None:  # None: it still runs
        try:
            urllib.request.urlopen(url + "/config", timeout=5).close()
            return server, url
        except OSError:  # nobody listens yet
            time.sleep(0.2)
    raise RuntimeError(log.read_text(encoding="utf-8"))


def photograph(path: str, day: int) -> Image.Image:
    """Return a picture as the camera at the farm's gate takes it on a day."""
    picture = Image.open(path).convert("RGB")
    return picture.filter(ImageFilter.GaussianBlur(max(0, day - 6) * 0.5))


def draw_request(parts: Mapping[str, torch.Tensor], title: str) -> plt.Figure:
    """Draw the way of a visitor's picture, and below it how long each part takes.

    Args:
        parts: seconds of each station, by its name, in the order of the way.
        title: of the figure.
    """
    # On a busy machine the first, which is a difference, may come out below zero.
    milliseconds = {name: 1000 * max(s.item(), 0.0) for name, s in parts.items()}
    fig, (way, bar) = plt.subplots(
        2, 1, figsize=(8, 2.9), height_ratios=[1.2, 1], layout="constrained"
    )
    for x, name in enumerate(milliseconds):
        draw_box(way, x + 0.06, 0.4, 0.72, name, STRONG if name == "model" else SOFT)
        if x:
            arrow = {"arrowstyle": "->", "color": GRAY}
            way.annotate("", (x + 0.02, 0.4), (x - 0.18, 0.4), arrowprops=arrow)
    way.set(xlim=(0, len(milliseconds) - 0.16), ylim=(0, 0.8), title=title)
    way.axis("off")
    left = 0.0
    for name, value in milliseconds.items():
        color = STRONG if name == "model" else SOFT
        bar.barh(0, value, left=left, color=color, edgecolor=INK)
        if value > 0.06 * sum(milliseconds.values()):
            text = f"{name}\n{value:.0f} ms"
            bar.text(
                left + value / 2, 0, text, ha="center", va="center", size=9, c="black"
            )
        left += value
    bar.set(yticks=[], xlabel="milliseconds of one visit", xlim=(0, left))
    for side in ("left", "top", "right"):
        bar.spines[side].set_visible(False)
    return fig


def draw_waits(waits: torch.Tensor, slow: float, title: str) -> plt.Figure:
    """Draw seconds that visitors waited, as a histogram, with the 95th percentile."""
    fig, ax = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
    ax.hist(1000 * waits.numpy(), bins=24, color="tab:blue", alpha=0.8)
    half = 1000 * waits.median().item()
    ax.axvline(half, color=RED, linestyle=":", label=f"half wait at most {half:.0f} ms")
    most = f"19 of 20 wait at most {1000 * slow:.0f} ms"
    ax.axvline(1000 * slow, color=RED, label=most)
    ax.set(xlabel="milliseconds from click to answer", ylabel="visits", title=title)
    ax.legend()
    return fig


def draw_candidates(
    table: dict[str, dict[str, float]], criteria: dict[str, float], title: str
) -> plt.Figure:
    """Draw what each candidate has of accuracy, seconds and MB, beside the criteria."""
    fig, axes = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained")
    units = {
        "accuracy": "accuracy on valid",
        "wait": "seconds that 19 of 20 wait at most",
        "size": "file in MB",
    }
    for ax, (key, label) in zip(axes, units.items(), strict=True):
        values = [row[key] for row in table.values()]
        bar = criteria[key]
        met = [v >= bar if key == "accuracy" else v <= bar for v in values]
        colors = [GREEN if ok else RED for ok in met]
        bars = ax.barh(list(table), values, color=colors, alpha=0.8)
        ax.bar_label(bars, [f"{value:.2g}" for value in values], padding=3)
        ax.axvline(bar, color=GRAY, linestyle="--")
        side = "at least" if key == "accuracy" else "at most"
        ax.set_title(f"{side} {bar:g}", fontsize=10)
        ax.set(xlabel=label, xlim=(0, 1.25 * max(*values, bar)))
        ax.invert_yaxis()
    fig.suptitle(title, fontsize=11)
    return fig


def draw_answers(
    pictures: Sequence[Image.Image],
    answers: Sequence[Mapping[str, float] | Sequence[tuple[str, float]]],
    title: str,
    below: float = 0.0,
) -> plt.Figure:
    """Draw pictures, and below each the ranking as bars.

    Args:
        pictures: N of them.
        answers: for each {class name: probability}, or those as pairs.
        title: of the figure.
        below: a page's limit: an answer below it is headed "not sure".
    """
    fig, axes = plt.subplots(
        2,
        len(pictures),
        figsize=(1.75 * len(pictures), 3.4),
        height_ratios=[2, 1],
        squeeze=False,
        layout="constrained",
    )
    for column, (picture, answer) in enumerate(zip(pictures, answers, strict=True)):
        ranked = sorted(dict(answer).items(), key=itemgetter(1), reverse=True)
        top, bars = axes[:, column]
        top.imshow(picture.convert("RGB"))
        top.set_title(ranked[0][0] if ranked[0][1] >= below else "not sure", size=10)
        top.axis("off")
        names, probs = zip(*ranked, strict=True)
        found = bars.barh(names, probs, color="tab:blue", alpha=0.7)
        bars.bar_label(found, [f"{prob:.2f}" for prob in probs], padding=2, size=8)
        bars.set(xlim=(0, 1.45), xticks=[])
        bars.tick_params(length=0, labelsize=8)
        bars.invert_yaxis()
        for side in bars.spines.values():
            side.set_visible(False)
    fig.suptitle(title, fontsize=11)
    return fig


def draw_loading(title: str) -> plt.Figure:
    """Draw what is done with a model's file in two ways of reading it."""
    fig, ax = plt.subplots(figsize=(8.5, 2.7), layout="constrained")
    draw_box(ax, 0.05, 0.95, 1.5, "a stranger's file:\na list of instructions")
    arrow = {"arrowstyle": "->", "color": GRAY}
    for y, option, outcome, color in (
        (1.5, "weights_only=False", "does what they say:\nanything you may do", RED),
        (
            0.4,
            "weights_only=True",
            "makes tensors and texts;\nrefuses the rest",
            GREEN,
        ),
    ):
        ax.annotate("", (2.25, y), (1.62, 0.95), arrowprops=arrow)
        draw_box(ax, 2.3, y, 1.7, f"torch.load(…,\n{option})")
        ax.annotate("", (4.65, y), (4.07, y), arrowprops=arrow)
        draw_box(ax, 4.7, y, 2.2, outcome, "white")
        ax.patches[-1].set_edgecolor(color)
        ax.patches[-1].set_linewidth(2)
    ax.set(xlim=(0, 7), ylim=(0, 1.9), title=title)
    ax.axis("off")
    return fig


def draw_thresholds(
    thresholds: torch.Tensor,
    answered: torch.Tensor,
    right: torch.Tensor,
    wanted: float,
    title: str,
) -> plt.Figure:
    """Draw over thresholds which share is answered, and which of those is right."""
    fig, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    ax.plot(thresholds, right, color=GREEN, label="right, of the answers given")
    ax.plot(thresholds, answered, color="tab:blue", label="answered, of all pictures")
    ax.axhline(wanted, color=GRAY, linestyle="--", label=f"wanted: {wanted:g}")
    ax.set(xlabel='threshold: below it the page says "not sure"', ylabel="share")
    ax.set(ylim=(0, 1.05), title=title)
    ax.legend(loc="lower left")
    return fig


def draw_container(title: str) -> plt.Figure:
    """Draw a host, the container on it, and the folder in that."""
    fig, ax = plt.subplots(figsize=(8.5, 3), layout="constrained")
    for x, y, width, height, text in (
        (1.9, 0.1, 5.0, 2.5, "the host: any computer with a container runtime"),
        (2.2, 0.3, 4.4, 1.9, "container: Python, pinned packages, no administrator"),
    ):
        box = FancyBboxPatch(
            (x, y), width, height, "round,pad=0.03", fc="none", ec=INK, ls="--"
        )
        ax.add_patch(box)
        ax.text(x + 0.1, y + height - 0.12, text, size=9, va="center", color=GRAY)
    draw_box(ax, 0.1, 1.1, 1.1, "a visitor's\nbrowser")
    draw_box(ax, 2.5, 1.1, 1.2, "app.py\nport 7860", STRONG)
    draw_box(ax, 4.3, 1.5, 2.1, "best.pt, config.json")
    draw_box(ax, 4.3, 0.7, 2.1, "going_modular/")
    for start, end in (
        ((1.27, 1.1), (2.42, 1.1)),
        ((4.24, 1.5), (3.78, 1.15)),
        ((4.24, 0.7), (3.78, 1.05)),
    ):
        style = "<->" if start[0] < 2 else "->"
        arrow = {"arrowstyle": style, "color": GRAY}
        ax.annotate("", end, start, arrowprops=arrow)
    ax.set(xlim=(0, 7), ylim=(0, 2.8), title=title)
    ax.axis("off")
    return fig


@torch.inference_mode()
def race_runtimes(
    model: Callable, path: str | Path, images: torch.Tensor, rounds: int = 20
) -> tuple[dict[str, float], dict[str, int]]:
    """Time PyTorch and three ways of onnxruntime, each of which may rearrange more.

    All take turns, with as many threads.

    Args:
        model: what PyTorch runs.
        path: the model's ONNX file, from "images" to "logits".
        images: (B, C, H, W), what goes in.
        rounds: turns that each takes.

    Returns:
        each way's median of seconds, and how many operations each of the runtime's has.
    """
    import onnx
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    steps = {
        "the list as it is": levels.ORT_DISABLE_ALL,
        "neighbors merged": levels.ORT_ENABLE_EXTENDED,
        "everything": levels.ORT_ENABLE_ALL,
    }
    sessions, operations = {}, {}
    for name, level in steps.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.graph_optimization_level = level
        options.log_severity_level = 3  # a warning says that a list fits one processor
        with tempfile.TemporaryDirectory() as folder:
            options.optimized_model_filepath = f"{folder}/rearranged.onnx"
            sessions[name] = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            rearranged = onnx.load(options.optimized_model_filepath)
        operations[name] = len(rearranged.graph.node)
    seconds = {name: [] for name in ("PyTorch", *sessions)}
    feed = {"images": images.numpy()}
    for _ in range(rounds):
        for name in seconds:
            begin = time.perf_counter()
            if name == "PyTorch":
                model(images)
            else:
                sessions[name].run(["logits"], feed)
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds[name]) for name in seconds}, operations


def draw_race(
    seconds: Mapping[str, float], operations: Mapping[str, int], title: str
) -> plt.Figure:
    """Draw how long each way to run a network takes for one picture.

    Args:
        seconds: of each way, by its name.
        operations: of some ways, how many they carry out.
        title: of the figure.
    """
    fig, ax = plt.subplots(figsize=(7.5, 2.3), layout="constrained")
    names = [
        f"{name}\n({operations[name]} operations)" if name in operations else name
        for name in seconds
    ]
    times = [1000 * value for value in seconds.values()]
    bars = ax.barh(names, times, color=STRONG, edgecolor=INK)
    ax.bar_label(bars, [f"{value:.1f}" for value in times], padding=3)
    ax.set(xlim=(0, 1.15 * max(times)), xlabel="ms for one picture", title=title)
    ax.invert_yaxis()
    return fig


def draw_rounding(weight: torch.Tensor, channels: Sequence[int]) -> plt.Figure:
    """Draw some channels of a weight before and after rounding to 8 bits.

    Left with one scale for the whole weight, right with one for each channel.

    Args:
        weight: (K, C, h, w).
        channels: which to draw.
    """
    flat = weight.detach().flatten(1)
    scales = {
        "one scale for the whole weight": flat.abs().max() / 127,
        "one scale for each channel": flat.abs().amax(1, keepdim=True) / 127,
    }
    fig, axes = plt.subplots(
        len(channels),
        2,
        figsize=(8.5, 1.25 * len(channels) + 0.9),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for column, (name, scale) in enumerate(scales.items()):
        rounded = (flat / scale).round() * scale
        for row, channel in enumerate(channels):
            ax = axes[row, column]
            ax.bar(torch.arange(flat.shape[1]), flat[channel], 0.8, color="#c9d6e6")
            style = {"where": "mid", "color": RED, "linewidth": 1.5}
            ax.step(range(flat.shape[1]), rounded[channel], **style)
            count = len(rounded[channel].unique())
            of = len(flat[channel].unique())
            ax.set_title(f"channel {channel}: {of} values become {count}", size=9)
            ax.margins(y=0.3)
        axes[0, column].set_title(f"{name}\n{axes[0, column].get_title()}", size=10)
        axes[-1, column].set_xlabel("weight of the kernel")
    fig.suptitle("Bars: 32 bits; red: 8 bits. A quiet channel needs its own scale")
    return fig


def draw_differences(
    changes: Mapping[str, float],
    spreads: Mapping[str, float],
    sizes: Mapping[str, float],
    title: str,
) -> plt.Figure:
    """Draw changes of accuracy with their spread, and the size of each file.

    Args:
        changes: of each file, by its name.
        spreads: of each, twice the standard error of its change.
        sizes: of each, in MB.
        title: of the figure.
    """
    fig, ax = plt.subplots(figsize=(7.5, 2.7), layout="constrained")
    for row, (name, difference) in enumerate(changes.items()):
        spread, size = spreads[name], sizes[name]
        clear = abs(difference) > spread
        color = RED if clear else GRAY
        ax.errorbar(difference, row, xerr=spread, fmt="o", color=color, capsize=4)
        text = f"{difference:+.3f} ± {spread:.3f}   {size:.1f} MB"
        ax.text(
            1.02, row, text, va="center", size=9, transform=ax.get_yaxis_transform()
        )
    ax.axvline(0, color=GRAY, linewidth=1)
    ax.set_yticks(range(len(changes)), list(changes))
    ax.set(xlabel="accuracy gained or lost against 32 bits", title=title)
    ax.invert_yaxis()
    return fig


def draw_days(
    unsure: torch.Tensor, accuracy: torch.Tensor, limit: float, title: str
) -> plt.Figure:
    """Draw what a log says of each day, and below it what nobody there can see.

    Args:
        unsure: of each day the share of answers that are not sure.
        accuracy: of each day.
        limit: the share above which there is an alarm.
        title: of the figure.
    """
    fig, (top, low) = plt.subplots(
        2, 1, figsize=(7, 4), sharex=True, layout="constrained"
    )
    x = range(1, len(unsure) + 1)
    colors = [RED if share > limit else "tab:blue" for share in unsure]
    top.bar(x, unsure, color=colors, alpha=0.8)
    top.axhline(limit, color=GRAY, linestyle="--", label=f"alarm above {limit:.2f}")
    top.set(ylabel='share of "not sure"', ylim=(0, 1), title=title)
    top.legend(loc="upper left")
    low.plot(x, accuracy, color=GREEN, marker="o")
    low.set(ylim=(0, 1.05), ylabel="accuracy,\nwhich the log lacks", xlabel="day")
    low.set_xticks(x)
    return fig
