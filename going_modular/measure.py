# Written by tools/export.py from 10_performance.ipynb: edit there, not here.
"""Speed and cost of a training, measured."""

import functools
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from going_modular.utils import get_device, model_mode


def synchronize(device: torch.device | str) -> None:
    """Wait until ``device`` has finished; an accelerator executes asynchronously."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


class Timing(NamedTuple):
    """How long something takes, in seconds: half of all rounds are from low to high."""

    median: float
    low: float
    high: float
    rounds: list[float]


def quartiles(values: list[float] | np.ndarray) -> tuple[float, float, float]:
    """Return (median, lower quartile, upper quartile)."""
    return tuple(np.quantile(values, [0.5, 0.25, 0.75]).tolist())


def benchmark(
    functions: dict[str, Callable],
    *,
    repeats: int = 7,
    warmup: int = 2,
    device: torch.device | str | None = None,
) -> dict[str, Timing]:
    """Time functions without arguments against each other: {name: Timing}.

    Every round calls each once, in a new random order, so that whatever slows the
    machine down meanwhile affects all alike.

    Args:
        functions: name -> function.
        repeats: rounds.
        warmup: calls of each function before the first round, not timed.
        device: where they compute, by default the best one.

    Raises:
        ValueError: if there is no function or no round, or warmup is negative.
    """
    if not functions or repeats < 1 or warmup < 0:
        raise ValueError("functions and repeats need at least 1, warmup at least 0")
    device = device or get_device()
    shuffler = random.Random(0)
    rounds = {name: [] for name in functions}
    for _ in range(warmup + repeats):
        for name in shuffler.sample(list(functions), len(functions)):
            synchronize(device)
            start = time.perf_counter()
            functions[name]()
            synchronize(device)
            rounds[name].append(time.perf_counter() - start)
    kept = {name: times[warmup:] for name, times in rounds.items()}
    return {name: Timing(*quartiles(times), times) for name, times in kept.items()}


def speedup(before: Timing, after: Timing) -> tuple[float, float, float]:
    """Return how many times faster ``after`` is: (median, lower, upper quartile).

    Both are of one ``benchmark``: the two times of each round are divided, which
    cancels what slowed both.
    """
    return quartiles(np.divide(before.rounds, after.rounds))


def list_costs(averages: list, events: list[dict], steps: int) -> list[dict]:
    """Return ``profile_model``'s rows, from what the profiler recorded of some steps.

    The averages hold more than operations: a GPU driver's calls (cudaLaunchKernel), the
    profiler's own work. They do not say which is which; the trace's events do.
    """
    names = {event["name"] for event in events if event.get("cat") == "cpu_op"}
    found = [
        e
        for e in averages
        if e.device_type.name == "CPU" and (e.is_user_annotation or e.key in names)
    ]
    has_gpu = any(e.self_device_time_total for e in found)
    time_of = attrgetter(f"self_{'device' if has_gpu else 'cpu'}_time_total")  # in us
    total = sum(map(time_of, found))
    return [
        {
            "operation": e.key,
            "calls": e.count / steps,
            "ms": time_of(e) / steps / 1000,
            "share": time_of(e) / total,
        }
        for e in sorted(found, key=time_of, reverse=True)
    ]


def profile_model(
    step: Callable,
    *,
    steps: int = 5,
    warmup: int = 2,
    trace: str | Path | None = None,
) -> list[dict]:
    """Return what the operations within ``step()`` cost, most expensive first.

    Args:
        step: a function without arguments.
        steps: calls that are recorded.
        warmup: calls before them.
        trace: where to write the timeline, as JSON for https://ui.perfetto.dev.

    Returns:
        Rows {"operation", "calls", "ms", "share"}: calls and milliseconds of one step.
        An operation's time is its own, without the operations that it calls, on the
        GPU if kernels were recorded there, else on the CPU. The shares, 0..1, add up
        to 1.

    Raises:
        ValueError: if steps is below 1, or trace is to be compressed.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps are none to measure: take at least 1")
    if str(trace).endswith(".gz"):
        raise ValueError(f"{trace} would be compressed: choose a name in .json")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes to stderr
    device = get_device()  # asks the device, which is no part of a step
    for _ in range(warmup):
        step()
    with profile() as profiler:
        for _ in range(steps):
            step()
        synchronize(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(trace or f"{folder}/trace.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        return list_costs(profiler.key_averages(), events, steps)


def count_flops(model: nn.Module, images: torch.Tensor) -> int:
    """Return the floating-point operations of one forward pass.

    A multiplication with its addition counts as two. Only matrix products and
    convolutions are counted, which is nearly everything. A training step takes about
    three times as many, as the gradients of inputs and weights each cost as much.

    Args:
        model: is in evaluation mode meanwhile.
        images: (B, C, H, W), on the model's device.
    """
    counter, mha = FlopCounterMode(display=False), torch.backends.mha
    was_fast = mha.get_fastpath_enabled()
    try:
        mha.set_fastpath_enabled(False)  # it is one operation, which is not counted
        with (
            model_mode(model, training=False),
            torch.inference_mode(),
            sdpa_kernel(SDPBackend.MATH),  # fused attention is not always counted
            counter,
        ):
            model(images)
    finally:
        mha.set_fastpath_enabled(was_fast)
    return counter.get_total_flops()


def matmul_rate(
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    size: int | None = None,
) -> float:
    """Return the floating-point operations per second in a matrix product.

    Args:
        device: what to measure.
        dtype: of the two matrices.
        size: their rows and columns; by default doubled until a product takes 5 ms.
    """
    side = size or 512
    while True:
        matrices = torch.randn(2, side, side, device=device).to(dtype)
        product = functools.partial(torch.mm, *matrices)  # (2, N, N) -> two (N, N)
        seconds = benchmark({"": product}, repeats=5, device=device)[""].median
        if size or seconds > 5e-3:
            return 2 * side**3 / seconds
        side *= 2
