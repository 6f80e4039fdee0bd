"""How fast do small models train on a GPU, change by change?

    python tests/benchmarks/small.py [--epochs 5] [--seconds 60]
    python tests/benchmarks/small.py --tiny             # seconds, on any CPU

Small models wait for the processor that starts their kernels, one by one. Prints a
table in Markdown: pictures a second of lesson 03's TinyVGG and CNNModel on
Fashion-MNIST, trained by ``engine.train_step`` and by a loop written by hand, the same
work in both, with one change after the other: pictures kept on the device as uint8,
torch.compile, compiled with CUDA graphs, and the whole step in one CUDA graph. The
contestants take turns, an epoch each, in random order; medians. The first batches,
which compile, are left out. A row that fails is named, and the others go on. A CPU
leaves out the rows that need CUDA.
"""

import argparse
import datetime
import itertools
import math
import random
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from going_modular import datasets, engine, model_builder, updates, utils  # noqa: E402

MODELS = {
    "TinyVGG": lambda: model_builder.TinyVGG(1, 10, 10, image_size=28),
    "CNNModel": model_builder.CNNModel,
}
LOOPS = ("engine", "by hand")
CHANGES = {  # name -> (data on the device, torch.compile's mode, CUDA graph)
    "loader in host memory": (False, None, False),
    "data on the device": (True, None, False),
    "+ the step in one CUDA graph": (True, None, True),
    "+ compile": (True, "default", False),
    "+ compile, reduce-overhead": (True, "reduce-overhead", False),
}


class DeviceBatches:
    """Shuffled batches (X, y) of pictures that lie on the device as uint8.

    The last batch is left out unless it is whole, so that all have one shape.
    """

    def __init__(self, images, labels, batch_size, device):
        self.images, self.labels = images.to(device), labels.to(device)
        self.batch_size = batch_size

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __iter__(self):
        order = torch.randperm(len(self.labels), device=self.labels.device)
        for batch in order.split(self.batch_size)[: len(self)]:
            yield self.images[batch].float() / 255, self.labels[batch]


class GraphUpdate:
    """``engine.update_weights`` for batches of one shape, in one CUDA graph.

    The first batch is trained step by step, on a side stream as CUDA wants it, and then
    the step is recorded. From then on a batch is copied to where the recording reads
    it, and all kernels start with one call.
    """

    def __init__(self):
        self.graph = None

    def __call__(self, model, X, y, loss_fn, optimizer, device, max_norm=None):
        arguments = (loss_fn, optimizer, device, max_norm)
        if self.graph is None:
            self.X, self.y = X.clone(), y.clone()
            return self.record(model, *arguments)
        self.X.copy_(X)
        self.y.copy_(y)
        self.graph.replay()
        return self.outputs, self.y, self.loss.clone()

    def record(self, model, *arguments):
        """Train the first batch; then record a step, which changes no weight."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            found = plain_update(model, self.X, self.y, *arguments)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        arguments[1].zero_grad()
        with torch.cuda.graph(self.graph):
            self.outputs, _, self.loss = plain_update(model, self.X, self.y, *arguments)
        return found


def plain_update(model, X, y, loss_fn, optimizer, device, max_norm=None):
    """Do what ``engine.update_weights`` does, without a look at the labels."""
    optimizer.zero_grad()
    outputs = model(X.to(device))
    y = y.to(device)
    loss = loss_fn(outputs, y)
    loss.backward()
    optimizer.step()
    return outputs.detach(), y, loss.detach()


def by_hand(model, batches, loss_fn, optimizer, device, *, update):
    """Train for an epoch; return the mean loss and accuracy, fetched at the end."""
    losses, right, count = [], [], 0
    model.train()
    for X, labels in batches:
        outputs, y, loss = update(model, X, labels, loss_fn, optimizer, device)
        losses.append(loss * len(y))
        right.append((outputs.argmax(dim=1) == y).sum())
        count += len(y)
    return (
        torch.stack(losses).sum().item() / count,
        torch.stack(right).sum().item() / count,
    )


class Contestant:
    """A model, its batches and a loop; ``turn()`` trains for an epoch."""

    def __init__(self, loop, model_name, change, batch_size, device, pictures):
        on_device, mode, graph = CHANGES[change]
        data = datasets.FashionMNISTTensors(ROOT / "data")
        utils.set_seeds(0)
        self.model = MODELS[model_name]().to(device)
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, fused=on_gpu or None, capturable=graph
        )
        if on_device:
            self.batches = DeviceBatches(
                data.images[:pictures], data.labels[:pictures], batch_size, device
            )
        else:
            part = torch.utils.data.Subset(data, range(pictures))
            self.batches = torch.utils.data.DataLoader(
                part,
                batch_size,
                shuffle=True,
                drop_last=True,
                pin_memory=on_gpu,
                collate_fn=datasets.as_is,
            )
        forward = (
            torch.compile(self.model, mode=mode, dynamic=False) if mode else self.model
        )
        self.update = plain_update if loop == "by hand" else engine.update_weights
        if graph:
            self.update = GraphUpdate()
        elif mode and loop == "by hand":
            self.update = lambda _, *rest: plain_update(forward, *rest)
        elif mode:
            self.update = updates.Updater(device=device, forward=forward)
        self.loop = by_hand if loop == "by hand" else engine.train_step
        self.device = device
        self.batch_size = batch_size

    def turn(self, first=None):
        """Return pictures a second in an epoch, or in its first few batches."""
        batches = self.batches
        if first:
            batches = list(itertools.islice(batches, first))
        start = time.perf_counter()
        loss, _ = self.loop(
            self.model,
            batches,
            nn.CrossEntropyLoss(),
            self.optimizer,
            self.device,
            update=self.update,
        )
        assert loss < 3, f"the loss is {loss}: this loop does not learn"
        # It ends by fetching numbers: nothing is still running.
        return len(batches) * self.batch_size / (time.perf_counter() - start)


def compare(model_name, batch_size, options, device):
    """Return {change: {loop: median pictures a second}}; name what fails."""
    speeds = {}
    contestants = {}

    def attempt(key, action):
        try:
            return action()
        except Exception as error:
            contestants.pop(key, None)
            told = str(error).strip().splitlines() or [""]
            print(f"ERROR: {key}: {type(error).__name__}: {told[0]}", flush=True)

    torch.compiler.reset()  # forget the models of the table before
    for change, (_, mode, graph) in CHANGES.items():
        if (mode or graph) and device.type != "cuda":
            continue
        for loop in LOOPS:
            key = change, loop
            if time.monotonic() > options.end:
                print(f"no time was left for {key}")
                continue
            sizes = batch_size, device, options.pictures
            made = attempt(key, lambda: Contestant(loop, model_name, change, *sizes))  # noqa: B023
            if made and attempt(key, lambda: made.turn(first=10)):  # noqa: B023
                contestants[key] = made
    end = time.monotonic() + options.seconds
    for _ in range(options.epochs):
        for key in random.sample(list(contestants), len(contestants)):
            if speed := attempt(key, contestants[key].turn):
                speeds.setdefault(key, []).append(speed)
        if time.monotonic() > end:
            break
    table = {}
    for change, loop in (key for key in speeds if key in contestants):
        found = statistics.median(speeds[change, loop])
        table.setdefault(change, {})[loop] = found
    return table


def main(arguments=None):
    """Print the tables and return {(model, batch size): table}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=5, help="turns of each")
    parser.add_argument("--seconds", type=float, default=60, help="of turns a table")
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--limit", type=float, default=3600, help="seconds in all")
    parser.add_argument("--tiny", action="store_true", help="two batches, one turn")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.epochs, options.pictures, options.batch_sizes = 1, 16, [8]
    options.end = time.monotonic() + options.limit  # no row begins later
    device = utils.get_device()
    hardware = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{device}, {torch.get_num_threads()} threads"
    )
    print(
        f"{datetime.date.today()}, {hardware}, torch {torch.__version__}, float32, "
        f"{options.epochs} interleaved turns\n"
    )
    print("| model | batch | | engine, pictures/s | by hand | engine / by hand |")
    print("|---|---|---|---|---|---|")
    tables = {}
    for model_name in MODELS:
        for batch_size in options.batch_sizes:
            table = compare(model_name, batch_size, options, device)
            for change, row in table.items():
                ours, by_hand = (row.get(loop, math.nan) for loop in LOOPS)
                print(
                    f"| {model_name} | {batch_size} | {change} | {ours:,.0f} "
                    f"| {by_hand:,.0f} | {ours / by_hand:.3f} |",
                    flush=True,
                )
            tables[model_name, batch_size] = table
    return tables


if __name__ == "__main__":
    main()
