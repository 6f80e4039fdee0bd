# Written by tools/export.py from 10_performance.ipynb: edit there, not here.
"""Measuring speed, and the changes that improve it."""

import contextlib
import copy
import functools
import gc
import json
import math
import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import distributed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from going_modular.engine import check_labels, model_mode, update_weights
from going_modular.utils import get_device


def synchronize(device):
    """Wait until ``device`` has done all that it was asked; an accelerator still works when Python goes on."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


class Timing(NamedTuple):
    """How long something takes, in seconds: half of all rounds lie between low and high; rounds holds every one."""

    median: float
    low: float
    high: float
    rounds: list


def quartiles(values):
    """Return (median, lower quartile, upper quartile) of a list of numbers, as floats."""
    low, median, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75]).double())
    return median.item(), low.item(), high.item()


def benchmark(functions, *, repeats=7, warmup=2, device=None):
    """Measure functions without arguments against each other and return {name: Timing}.

    functions: {name: function}.  Each is called ``warmup`` times, then once in each of ``repeats`` rounds, in another
    order every round, so that what slows the machine down meanwhile meets all alike.  device: where they compute, by
    default the best one; it is waited for before and after each call.  Raises ValueError for no function, no round.
    """
    if not functions or repeats < 1 or warmup < 0:
        raise ValueError(f"{len(functions)} functions, {repeats} repeats, {warmup} warm-ups: need at least 1, 1 and 0")
    device, shuffler = device or get_device(), random.Random(0)
    for function in functions.values():
        for _ in range(warmup):
            function()
    rounds = {name: [] for name in functions}
    for _ in range(repeats):
        for name in shuffler.sample(list(functions), len(functions)):
            synchronize(device)
            start = time.perf_counter()
            functions[name]()
            synchronize(device)
            rounds[name].append(time.perf_counter() - start)
    return {name: Timing(*quartiles(seconds), seconds) for name, seconds in rounds.items()}


def speedup(before, after):
    """Return (median, low, high) of how many times faster ``after`` is, two Timings of one ``benchmark``.

    A round's two times are divided by each other, which takes out what slowed both; low and high are the quartiles.
    """
    return quartiles([b / a for b, a in zip(before.rounds, after.rounds, strict=True)])


def profile_model(step, *, steps=5, warmup=2, trace=None):
    """Return what the operations within ``step()`` cost: rows {"operation", "calls", "ms", "share"}, the dearest first.

    step: a function without arguments.  calls and ms are those of one step; ms is an operation's own time, without the
    operations that it calls, on the GPU where there is one, else on the CPU; the shares, 0..1, add up to 1.
    trace: a path; the timeline is written there as JSON, for https://ui.perfetto.dev.  Raises ValueError for no steps.
    """
    if steps < 1 or warmup < 0:
        raise ValueError(f"{steps} steps after {warmup} warm-ups: need at least 1 and 0")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes lines of its own to stderr
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    for _ in range(warmup):
        step()
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        synchronize(get_device())
    if trace is not None:
        Path(trace).parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    events = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CPU]
    on_gpu = any(event.self_device_time_total for event in events)
    costs = [event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events]  # microseconds
    rows = [
        {"operation": event.key, "calls": event.count / steps, "ms": cost / steps / 1000, "share": cost / sum(costs)}
        for event, cost in zip(events, costs, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["ms"])


def read_spans(path):
    """Return the blocks that ``record_function`` named in a trace: [(name, start, duration), ...] in milliseconds.

    path: of a trace that ``profile_model`` wrote.  The earliest starts at 0.
    """
    events = json.loads(Path(path).read_text(encoding="utf-8"))["traceEvents"]
    spans = [event for event in events if event.get("cat") == "user_annotation" and "#" not in event["name"]]
    first = min((event["ts"] for event in spans), default=0)
    return sorted(
        ((event["name"], (event["ts"] - first) / 1000, event["dur"] / 1000) for event in spans), key=lambda s: s[1]
    )


def compile_model(model, device):
    """Return ``model`` compiled, sharing its weights; the work is done at its first call, which takes long.

    Raises ValueError where this machine cannot compile; that is tried on one multiplication.
    """
    try:
        torch.compile(lambda x: x * 2)(torch.ones(8, device=device))
    except Exception as error:  # no C++ compiler, no Triton, another Python than PyTorch knows, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"this machine cannot compile models ({reason}): leave it out, or install what it lacks"
        ) from None
    return torch.compile(model)


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_part(forward, X, labels, loss_fn, precision):
    """Return (outputs in float32, loss) of the model ``forward`` for a part of a batch; precision: of PRECISIONS."""
    with torch.autocast(X.device.type, PRECISIONS[precision], enabled=precision != "fp32"):
        outputs = forward(X)
    outputs = outputs.float()
    check_labels(labels, outputs)
    return outputs, loss_fn(outputs, labels.to(X.device))


def in_sync(forward, is_last):
    """Return a context in which DistributedDataParallel averages the gradients only after a batch's last part."""
    waits = isinstance(forward, DistributedDataParallel) and not is_last
    return forward.no_sync() if waits else contextlib.nullcontext()


def scaled_step(model, optimizer, scaler, max_norm):
    """Take the optimizer's step, with the gradients at their true size and clipped; none where they overflowed."""
    if max_norm is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    if scaler.get_scale() < scale:  # the step was left out
        optimizer.zero_grad()
        optimizer.step()  # without gradients it does nothing, but a scheduler wants to see it called


class Updater:
    """``engine.update_weights``, faster or in less memory; pass it to the engine as ``update``.

    precision: one of PRECISIONS, in which the forward pass computes what it may (autocast); the loss is float32, and
    in fp16 it is scaled, so that small gradients survive; a step whose gradients overflow is left out (``scaler``).
    accumulate: parts that a batch is worked through in; their gradients add up to the whole batch's.  forward: called
    in place of the model (compiled, in DistributedDataParallel).  group: the processes that train together, or None.
    Raises ValueError for an unknown precision and for accumulate below 1.
    """

    def __init__(self, precision="fp32", accumulate=1, device="cpu", *, forward=None, group=None):
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
        if accumulate < 1:
            raise ValueError(f"accumulate is {accumulate}: a batch has at least 1 part")
        self.precision, self.accumulate, self.forward, self.group = precision, accumulate, forward, group
        self.scaler = torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")

    def __call__(self, model, X, labels, loss_fn, optimizer, device, max_norm=None):
        """Let the model learn from one batch; arguments and result as those of ``engine.update_weights``."""
        share = self.group.share(len(labels), device) if self.group else 1
        forward = model if self.forward is None else self.forward
        optimizer.zero_grad()
        outputs, losses, parts = [], [], X.chunk(self.accumulate)
        for X_part, labels_part in zip(parts, labels.chunk(self.accumulate), strict=True):
            weight = len(labels_part) / len(labels)  # the last part may be smaller
            with in_sync(forward, is_last=len(losses) == len(parts) - 1):
                found, loss = compute_part(forward, X_part.to(device), labels_part, loss_fn, self.precision)
                self.scaler.scale(loss * weight * share).backward()  # adds to the gradients of the parts before
            outputs.append(found.detach())
            losses.append(loss.detach() * weight)
        scaled_step(model, optimizer, self.scaler, max_norm)
        return torch.cat(outputs), labels.to(device), torch.stack(losses).sum()

    def state_dict(self):  # what a checkpoint keeps: the scaler's state, empty unless in fp16
        return self.scaler.state_dict()

    def load_state_dict(self, state):
        self.scaler.load_state_dict(state)


def count_flops(model, images):
    """Return the floating-point operations of one forward pass over ``images`` (B, C, H, W), an int.

    A multiplication with its addition counts as two.  Matrix products and convolutions are counted, which is nearly
    all there is.  A training step takes about three times as many: the gradients of inputs and of weights each cost
    as much as the pass forward.  The model, on the device of the images, is in evaluation mode meanwhile.
    """
    counter = FlopCounterMode(display=False)
    with model_mode(model, training=False), torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        model(images)  # MATH: attention as plain matrix products, since not every device's fused one is counted
    return counter.get_total_flops()


def matmul_rate(device, dtype=torch.float32, size=None):
    """Return how many floating-point operations a second ``device`` reaches in its favorite work, a matrix product.

    size: rows and columns of the two matrices; by default doubled from 512 until one product takes 5 ms.
    """
    for side in [size] if size else [512, 1024, 2048, 4096, 8192, 16384]:
        left, right = torch.randn(2, side, side, device=device).to(dtype)  # (2, N, N) -> two (N, N)
        product = functools.partial(torch.mm, left, right)
        seconds = benchmark({"product": product}, repeats=5, device=device)["product"].median
        if seconds > 5e-3:
            break
    return 2 * side**3 / seconds


def vital_signs(model, X, y, loss_fn, optimizer, device):
    """Return rows {"layer", "gradient", "step"}, one for each weight (of two axes or more), from first to last.

    gradient: its norm for the batch X, y.  step: how far one step of the optimizer moves the weight, divided by the
    weight's norm, infinite for one that was 0; some 1e-4 to 1e-1 is healthy, 0 is not.  Model and optimizer stay as
    they are: copies are used.
    """
    copied, optimizer = copy.deepcopy((model, optimizer))  # together, so that the one still belongs to the other
    copied.zero_grad()
    update_weights(copied.train(), X, y, loss_fn, optimizer, device)
    rows = []
    for (name, before), after in zip(model.named_parameters(), copied.parameters(), strict=True):
        if before.ndim > 1:
            gradient = 0.0 if after.grad is None else after.grad.norm().item()
            moved, size = (after - before).norm().item(), before.norm().item()
            step = 0.0 if moved == 0 else moved / size if size else math.inf
            rows.append({"layer": name.removesuffix(".weight"), "gradient": gradient, "step": step})
    return rows


class Group(NamedTuple):
    """This process among those that train together: its rank, from 0 to size - 1."""

    rank: int
    size: int

    def share(self, count, device):
        """Return this process's part of a batch, ``count`` samples, divided by the mean part: 0-d tensor, or 1."""
        if self.size == 1:
            return 1
        return count * self.size / self.sum([count], device)[0].float()

    def sum(self, values, device):
        """Return the sums of numbers over all processes, (N,) float64; each gives as many, on ``device``."""
        if self.size == 1:
            return torch.tensor(values, dtype=torch.float64)
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(tensor)
        return tensor


ALONE = Group(rank=0, size=1)


LOST = "another process of the group ended"


def raise_lost(*_):
    """Raise ConnectionAbortedError: for torchrun's SIGTERM, which it sends to the others when one process has died."""
    raise ConnectionAbortedError(LOST)


@contextlib.contextmanager
def process_group():
    """Join the processes that torchrun started, and give this one's Group: ALONE where torchrun did not start it.

    With a GPU for each process they talk by NCCL, else by Gloo.  Raises ConnectionAbortedError where another ended.
    """
    size, local_size = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if size == 1:
        yield ALONE
        return
    if get_device().type not in ("cpu", "cuda"):
        raise ValueError(
            f"{size} processes cannot share this machine's {get_device().type} GPU: train without torchrun"
        )
    has_gpus = torch.cuda.device_count() >= local_size
    if has_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    signal.signal(signal.SIGTERM, raise_lost)
    distributed.init_process_group("nccl" if has_gpus else "gloo")
    try:
        yield Group(int(os.environ["RANK"]), size)
        gc.collect()  # a model that lives on when its group ends can crash Python on its way out
        distributed.barrier()
    except Exception as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise_lost()
        if int(os.environ["RANK"]) > 0 and not isinstance(error, ConnectionAbortedError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(5)  # what all processes have to say, the first one says; torchrun then ends the others
        raise
    finally:
        gc.collect()
        distributed.destroy_process_group()


class Shard:
    """The part of a dataloader that is this process's: of every batch each size-th sample, from its rank on.

    count: the samples it gave in its last pass.  All load the whole batch, so that its random changes are the same.
    """

    def __init__(self, dataloader, group):
        self.dataloader, self.group, self.count = dataloader, group, 0
        self.batch_sampler = dataloader.batch_sampler

    def __len__(self):
        return len(self.dataloader)

    def __iter__(self):
        self.count = 0
        for X, y in self.dataloader:
            mine = slice(self.group.rank, None, self.group.size)
            X, y = X[mine], y[mine]  # (B, ...) -> about (B / size, ...)
            if len(y):
                self.count += len(y)
                yield X, y


def mean_row(row, group, counts, device):
    """Return an epoch's row of results over all processes, each exact over their samples.

    row: this process's.  counts: how many samples it had, {"train": ..., "valid": ...}, by how the names begin.
    """
    names = [name for name in row if name != "epoch"]
    weights = [counts[name.partition("_")[0]] for name in names]
    sums = group.sum([row[name] * weight for name, weight in zip(names, weights, strict=True)] + weights, device)
    means = sums[: len(names)] / sums[len(names) :]
    return row | dict(zip(names, means.tolist(), strict=True))


def check_sizes(group, batch_size, train_size, valid_size):
    """Raise ValueError where a process would have no picture of the training's last batch, or none to validate on."""
    last = train_size % batch_size or batch_size
    if min(last, valid_size) < group.size:
        raise ValueError(
            f"an epoch's last batch has {last} pictures, valid has {valid_size}: too few for {group.size} processes. "
            "Choose another --batch-size, or fewer processes."
        )
