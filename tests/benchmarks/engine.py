"""How fast is the engine beside a training loop written by hand?

    python tests/benchmarks/engine.py

Runs both in many short rounds over the same pictures of Fashion-MNIST with TinyVGG, and
prints the ratio of the median speeds for batches of 32 and 128. The hand-written loop
keeps account too: loss and right answers, exact. It runs twice a round: how far its
ratio to itself lies from 1 is the noise of this machine.
"""

import random
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from going_modular import datasets, engine, model_builder, utils  # noqa: E402

PICTURES, ROUNDS = 1_280, 60  # short rounds: what disturbs them disturbs all alike


def by_hand(model, batches, loss_fn, optimizer, device):
    loss_sum, right, count = 0.0, 0, 0
    model.train()
    for X, y in batches:
        X, y = X.to(device), y.to(device)
        logits = model(X)
        loss = loss_fn(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(y)
        right += (logits.argmax(dim=1) == y).sum().item()
        count += len(y)
    return loss_sum / count, right / count


def seconds(step, batches, device):
    """Train a fresh model for an epoch with ``step``; return the seconds it took."""
    utils.set_seeds(0)
    model = model_builder.TinyVGG(1, 10, 10, image_size=28).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    start = time.perf_counter()
    step(model, batches, nn.CrossEntropyLoss(), optimizer, device)
    # It ends by fetching numbers: nothing is still running.
    return time.perf_counter() - start


def main():
    device = utils.get_device()
    images = datasets.FashionMNISTTensors(ROOT / "data", train=True)
    print(
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{ROUNDS} interleaved rounds"
    )
    for batch_size in (32, 128):
        starts = range(0, PICTURES, batch_size)
        batches = [
            images.__getitems__(list(range(start, start + batch_size)))
            for start in starts
        ]
        loops = {
            "by hand": by_hand,
            "by hand again": by_hand,
            "engine": engine.train_step,
        }
        times = {name: [] for name in loops}
        for round_number in range(ROUNDS + 2):
            for name in random.sample(
                list(loops), len(loops)
            ):  # none always comes first
                elapsed = seconds(loops[name], batches, device)
                if round_number > 1:  # the first rounds warm up
                    times[name].append(elapsed)
        speeds = {
            name: PICTURES / statistics.median(values) for name, values in times.items()
        }
        listing = ", ".join(
            f"{name} {speed:,.0f} ({speed / speeds['by hand']:.3f})"
            for name, speed in speeds.items()
        )
        print(f"batch {batch_size:3}, pictures a second (ratio): {listing}")


if __name__ == "__main__":
    main()
