"""Fashion-MNIST from nothing to 93 % of the test pictures right: how many seconds?

A run reads the archives, builds lesson 03's CNNModel, trains it and tests it; imports
and compiling come before. Lesson 03's own recipe, to the same accuracy, takes turns
with it; and with --without the recipe without each of its tricks.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from going_modular import datasets, model_builder, utils  # noqa: E402


@dataclass
class Recipe:
    batch_size: int = 128  # the numbers written here are lesson 03's
    epochs: int = 7  # that they need for 93 %
    lr: float = 0.01  # the highest, after a fifth of the steps
    widths: tuple[int, ...] = (16, 32, 64)  # here the tricks begin
    shift: int = 0  # pictures are moved by up to so many pixels
    smoothing: float = 0.0  # of the labels
    bfloat16: bool = False
    compiled: bool = False
    graph: bool = False  # all kernels of a step, recorded, start with one call


CPU = Recipe(epochs=5, lr=0.015, smoothing=0.05, bfloat16=True)
GPU = Recipe(512, 8, 0.01, (32, 64, 128), 1, 0.05, True, True, True)


def prepare(pictures, shift=0):
    """Return uint8 pictures as numbers from 0 to 1, moved at random."""
    X = pictures.float() / 255
    if shift:  # choose among all windows, (B, 1, 2 shift + 1, 2 shift + 1, 28, 28)
        windows = nn.functional.pad(X, [shift] * 4).unfold(2, 28, 1).unfold(3, 28, 1)
        y, x = torch.randint(2 * shift + 1, (2, len(X)), device=X.device)
        X = windows[torch.arange(len(X), device=X.device), :, y, x]
    return X.contiguous(memory_format=torch.channels_last)


class Speedrun:
    """A network, the pictures on the device, and a step that is compiled once."""

    def __init__(self, recipe, device, pictures=60_000):
        self.recipe, self.device = recipe, device
        self.model = self.build().to(device, memory_format=torch.channels_last)
        self.forward = torch.compile(self.model, disable=not recipe.compiled)
        self.rate = torch.zeros((), device=device)  # a recorded step reads it anew
        how = {"weight_decay": 0.02, "fused": True, "capturable": recipe.graph}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), self.rate, **how)
        self.loss_fn = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
        self.images = torch.zeros(pictures, 1, 28, 28, dtype=torch.uint8, device=device)
        self.labels = torch.zeros(pictures, dtype=torch.long, device=device)
        self.batch = torch.arange(recipe.batch_size, device=device)
        self.train_batch = self.record() if recipe.graph else self.step

    def build(self):
        return model_builder.CNNModel(widths=self.recipe.widths)

    def step(self):
        """Learn from the pictures whose numbers are in ``batch``."""
        self.optimizer.zero_grad()
        X = prepare(self.images[self.batch], self.recipe.shift)
        with torch.autocast(X.device.type, torch.bfloat16, self.recipe.bfloat16):
            logits = self.forward(X).float()
        self.loss_fn(logits, self.labels[self.batch]).backward()
        self.optimizer.step()

    def record(self):
        """Return a function that starts all kernels of a step with one call."""
        side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):  # where CUDA wants the first steps
            for _ in range(3):
                self.step()
        side.synchronize()
        self.optimizer.zero_grad()
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay

    def run(self, seed):
        """Train from nothing; return the share of test pictures that are right."""
        utils.set_seeds(seed)
        data, count = datasets.FashionMNISTTensors(ROOT / "data"), len(self.labels)
        self.images.copy_(data.images[:count])
        self.labels.copy_(data.labels[:count])
        self.model.load_state_dict(self.build().state_dict())
        for state in self.optimizer.state.values():
            torch._foreach_zero_(list(state.values()))
        whole = count - count % len(self.batch)  # the graph has batches of one size
        orders = [torch.randperm(count)[:whole] for _ in range(self.recipe.epochs)]
        batches = torch.cat(orders).to(self.device).split(len(self.batch))
        self.model.train()
        for number, batch in enumerate(batches):
            done = number / len(batches)
            self.rate.fill_(self.recipe.lr * min(done / 0.2, (1 - done) / 0.8))
            self.batch.copy_(batch)
            self.train_batch()
        return self.test()

    @torch.inference_mode()
    def test(self):
        self.model.eval()
        data = datasets.FashionMNISTTensors(ROOT / "data", train=False)
        images, labels = data.images.to(self.device), data.labels.to(self.device)
        found = [self.model(prepare(part)).argmax(dim=1) for part in images.split(1000)]
        return (torch.cat(found) == labels).float().mean().item()


def main(arguments=None):
    """Print a table in Markdown and return {name: [(accuracy, seconds)]}."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs of each")
    parser.add_argument("--without", action="store_true", help="each of the tricks")
    options, device = parser.parse_args(arguments), utils.get_device()
    recipe = CPU if device.type == "cpu" else GPU
    recipes = {"speedrun": recipe, "lesson 03": Recipe()}
    for trick in fields(Recipe)[3:] if options.without else ():
        less = replace(recipe, **{trick.name: trick.default})
        if less != recipe:
            recipes[f"without {trick.name}"] = less
    runners = {name: Speedrun(one, device).run for name, one in recipes.items()}
    found = {name: [] for name in runners}
    for seed in range(options.seeds):
        for name, run in runners.items():
            start = time.perf_counter()
            accuracy = run(seed)  # a number: nothing is still running
            found[name].append((accuracy, time.perf_counter() - start))
    print(f"{device}, torch {torch.__version__}, {recipe}\n")
    print("| | accuracy | lowest | above 0.925 | seconds |\n|---|---|---|---|---|")
    for name, runs in found.items():
        scores, seconds = zip(*runs, strict=True)
        above = sum(score > 0.925 for score in scores)
        row = f"{statistics.mean(scores):.4f} | {min(scores):.4f} | {above}"
        print(f"| {name} | {row} | {statistics.median(seconds):.2f} |")
    return found


if __name__ == "__main__":
    main()
