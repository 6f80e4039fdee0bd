"""How fast is the engine beside a training loop written by hand?

    python tests/benchmarks/engine.py

Runs both in many short rounds, in turn, over the same pictures of Fashion-MNIST with TinyVGG, and prints the ratio of
the median speeds for batches of 32 and 128. The hand-written loop keeps account too: loss and right answers, exact.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from going_modular import data_setup, engine, model_builder, utils  # noqa: E402

PICTURES, ROUNDS = 3_840, 24


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
    """Train a fresh model for one epoch with ``step`` and return the seconds that it took."""
    utils.set_seeds(0)
    model = model_builder.TinyVGG(1, 10, 10, image_size=28).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    start = time.perf_counter()
    step(model, batches, nn.CrossEntropyLoss(), optimizer, device)  # ends by fetching numbers: nothing is still running
    return time.perf_counter() - start


def main():
    device = utils.get_device()
    images = data_setup.FashionMNISTTensors(ROOT / "data", train=True)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {ROUNDS} interleaved rounds")
    for batch_size in (32, 128):
        starts = range(0, PICTURES, batch_size)
        batches = [images.__getitems__(list(range(start, start + batch_size))) for start in starts]
        times = {"by hand": [], "engine": []}
        steps = [("by hand", by_hand), ("engine", engine.train_step)]
        for round_number in range(ROUNDS + 2):
            steps.reverse()  # neither always comes first
            for name, step in steps:
                elapsed = seconds(step, batches, device)
                if round_number > 1:  # the first rounds warm up
                    times[name].append(elapsed)
        speeds = {name: PICTURES / statistics.median(values) for name, values in times.items()}
        ratio = speeds["engine"] / speeds["by hand"]
        listing = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
        print(f"batch {batch_size:3}: {listing} pictures a second, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
