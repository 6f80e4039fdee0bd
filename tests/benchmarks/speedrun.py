"""Fashion-MNIST from nothing to 93 % of the test pictures right: how many seconds?

    python tests/benchmarks/speedrun.py [--seeds 5] [--cpu]
    python tests/benchmarks/speedrun.py --tiny          # seconds, on any CPU

A run reads the archives, builds lesson 03's CNNModel, trains it and tests it; imports
and compiling come before. On a CPU lesson 03's own recipe takes turns with it.
"""

import argparse
import datetime
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from going_modular import datasets, engine, model_builder, utils  # noqa: E402

RECIPES = {  # shift: by how many pixels a picture may be moved
    "cuda": dict(widths=(32, 64, 128), batch_size=512, epochs=8, lr=0.01, shift=1),
    "cpu": dict(widths=(16, 32, 64), batch_size=128, epochs=4, lr=0.015, shift=0),
}
LESSON_EPOCHS = 5  # that lesson 03's recipe needs for 93 %


def prepare(pictures, shift=0):
    """Return uint8 pictures moved at random, with mean 0 and spread 1."""
    X = (pictures.float() / 255 - 0.286) / 0.353
    if shift:  # choose among all windows, (B, 1, 2 shift + 1, 2 shift + 1, 28, 28)
        windows = F.pad(X, [shift] * 4, value=-0.81).unfold(2, 28, 1).unfold(3, 28, 1)
        y, x = torch.randint(2 * shift + 1, (2, len(X)), device=X.device)
        X = windows[torch.arange(len(X), device=X.device), :, y, x]
    return X.contiguous(memory_format=torch.channels_last)


class Speedrun:
    """A network, the pictures on the device, and a step that is compiled once."""

    def __init__(self, device, count, *, widths, batch_size, epochs, lr, shift):
        self.device, self.count, self.widths, self.shift = device, count, widths, shift
        self.batch_size, self.epochs, self.lr = batch_size, epochs, lr
        on_gpu = device.type == "cuda"
        self.model = self.build().to(device, memory_format=torch.channels_last)
        self.forward = torch.compile(self.model) if on_gpu else self.model
        rate = torch.zeros((), device=device)  # a tensor: a recorded step reads it anew
        parameters = self.model.parameters()
        self.optimizer = torch.optim.AdamW(
            parameters, rate, weight_decay=0.02, fused=True, capturable=on_gpu
        )
        self.images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8, device=device)
        self.labels = torch.zeros(count, dtype=torch.long, device=device)
        self.batch = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.train_batch = self.record() if on_gpu else self.step

    def build(self):
        """Return a new network."""
        return model_builder.CNNModel(widths=self.widths)

    def step(self):
        """Learn from the pictures whose numbers are in ``batch``."""
        self.optimizer.zero_grad()
        X, y = self.images[self.batch], self.labels[self.batch]
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.forward(prepare(X, self.shift)).float()
        F.cross_entropy(logits, y, label_smoothing=0.05).backward()
        self.optimizer.step()

    def record(self):
        """Return a function that starts all kernels of a step with one call."""
        side = torch.cuda.Stream()  # where CUDA wants the first steps
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad()
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay

    def run(self, seed):
        """Train from nothing; return the share of test pictures that are right."""
        utils.set_seeds(seed)
        data = datasets.FashionMNISTTensors(ROOT / "data")
        self.images.copy_(data.images[: self.count])
        self.labels.copy_(data.labels[: self.count])
        self.model.load_state_dict(self.build().state_dict())
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()
        steps = self.count // self.batch_size
        orders = [torch.randperm(self.count) for _ in range(self.epochs)]
        orders = [order[: steps * self.batch_size] for order in orders]
        batches = torch.cat(orders).to(self.device).split(self.batch_size)
        self.model.train()
        for number, batch in enumerate(batches):
            done = number / len(batches)
            rate = self.lr * min(done / 0.2, (1 - done) / 0.8)
            self.optimizer.param_groups[0]["lr"].fill_(rate)
            self.batch.copy_(batch)
            self.train_batch()
        return self.test()

    @torch.inference_mode()
    def test(self):
        """Return the share of the 10,000 test pictures that are named right."""
        self.model.eval()
        data = datasets.FashionMNISTTensors(ROOT / "data", train=False)
        images, labels = data.images.to(self.device), data.labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = [self.model(prepare(part)) for part in images.split(1000)]
        return (torch.cat(logits).argmax(dim=1) == labels).float().mean().item()


def lesson(seed, device, epochs):
    """Train as lesson 03 does; return the share of test pictures that are right."""
    utils.set_seeds(seed)
    loaders = datasets.create_fashion_mnist_dataloaders(ROOT / "data", seed=seed)[:2]
    model = model_builder.CNNModel().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR
    steps = epochs * len(loaders[0])
    scheduler = one_cycle(
        optimizer, 1e-2, steps, pct_start=0.2, anneal_strategy="linear"
    )
    parts = model, *loaders, optimizer, torch.nn.CrossEntropyLoss(), epochs, device
    return list(engine.train_epochs(*parts, scheduler=scheduler))[-1]["test_acc"]


def main(arguments=None):
    """Print a table in Markdown and return {name: [(accuracy, seconds)]}."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs of each")
    parser.add_argument("--cpu", action="store_true", help="even if there is a GPU")
    parser.add_argument("--tiny", action="store_true", help="two steps on the CPU")
    options = parser.parse_args(arguments)
    device = torch.device("cpu" if options.cpu or options.tiny else utils.get_device())
    recipe = RECIPES["cuda" if device.type == "cuda" else "cpu"]
    if options.tiny:
        recipe = recipe | {"epochs": 1}
    speedrun = Speedrun(device, 256 if options.tiny else 60_000, **recipe)
    runners = {"speedrun": speedrun.run}
    if device.type == "cpu" and not options.tiny:
        runners["lesson 03"] = lambda seed: lesson(seed, device, LESSON_EPOCHS)
    found = {name: [] for name in runners}
    for seed in range(1 if options.tiny else options.seeds):
        for name, run in runners.items():
            start = time.perf_counter()
            accuracy = run(seed)  # ends with a number: nothing is still running
            found[name].append((accuracy, time.perf_counter() - start))
    print(f"{datetime.date.today()}, {device}, torch {torch.__version__}, {recipe}\n")
    print("| | accuracy, mean | lowest | runs above 0.925 | seconds, median |")
    print("|---|---|---|---|---|")
    for name, runs in found.items():
        scores, seconds = zip(*runs, strict=True)
        high = f"{sum(score > 0.925 for score in scores)} of {len(scores)}"
        row = f"{statistics.mean(scores):.4f} | {min(scores):.4f} | {high}"
        print(f"| {name} | {row} | {statistics.median(seconds):.2f} |")
    return found


if __name__ == "__main__":
    main()
