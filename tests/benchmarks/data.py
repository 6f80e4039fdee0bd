"""How fast do our loaders hand out pictures, beside torchvision's default pipeline?

    python tests/benchmarks/data.py

Prints pictures a second, medians over interleaved rounds: Fashion-MNIST in batches of
128, fetched whole, beside one picture at a time with ToTensor; and 1,200 photographs in
batches of 32, resized to 64 pixels and flipped at random, beside ImageFolder. Our
folder loader decodes everything before its first epoch, so that is timed from the
beginning.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST, ImageFolder
from torchvision.transforms import ToTensor, v2

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from going_modular.archives import unpack  # noqa: E402
from going_modular.data_setup import EpochBatches  # noqa: E402
from going_modular.datasets import create_fashion_mnist_dataloaders  # noqa: E402
from going_modular.image_folder import ImageFolderDataset  # noqa: E402

ROUNDS = 9
RESIZE, FLIP = v2.Resize((64, 64)), v2.RandomHorizontalFlip()
TO_FLOAT = v2.ToDtype(torch.float32, scale=True)


def rate(dataloader, batches=None):
    """Return pictures a second over one epoch, or its first ``batches``."""
    start, count = time.perf_counter(), 0
    for number, (_, labels) in enumerate(dataloader, start=1):
        count += len(labels)
        if number == batches:
            break
    return count / (time.perf_counter() - start)


def folder_rates(folder):
    """Return pictures a second of a fresh folder loader.

    Returns:
        (first epoch with all that is before it, second epoch)
    """
    start = time.perf_counter()
    data = ImageFolderDataset(
        folder,
        v2.Compose([FLIP, TO_FLOAT]),
        prepare=v2.Compose([RESIZE, v2.PILToTensor()]),
    )
    dataloader = DataLoader(
        data, batch_sampler=EpochBatches(data, batch_size=32, seed=0)
    )
    count = sum(len(labels) for _, labels in dataloader)
    return count / (time.perf_counter() - start), rate(dataloader)


def report(title, rates, baseline):
    print(title)
    speeds = {name: statistics.median(values) for name, values in rates.items()}
    for name, speed in speeds.items():
        print(
            f"  {name:32} {speed:12,.0f} pictures a second, ratio "
            f"{speed / speeds[baseline]:6.2f}"
        )


def main():
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ROUNDS} "
        "interleaved rounds"
    )
    single = DataLoader(
        FashionMNIST(ROOT / "data", download=True, transform=ToTensor()),
        batch_size=128,
        shuffle=True,
    )
    batched, _, _ = create_fashion_mnist_dataloaders(ROOT / "data", batch_size=128)
    rates = {"default DataLoader, ToTensor": [], "batched fetch": []}
    for _ in range(ROUNDS):
        rates["default DataLoader, ToTensor"].append(rate(single, batches=60))
        rates["batched fetch"].append(rate(batched))
    report("Fashion-MNIST, batch 128", rates, "default DataLoader, ToTensor")

    folder = (
        unpack(ROOT / "data" / "cat_dog_horse.zip", ROOT / "data" / "cat_dog_horse")
        / "train"
    )
    pipeline = v2.Compose([RESIZE, FLIP, v2.ToImage(), TO_FLOAT])
    rates = {
        "ImageFolder with PIL": [],
        "ours, first epoch": [],
        "ours, later epochs": [],
    }
    for number in range(ROUNDS + 1):
        theirs = rate(
            DataLoader(ImageFolder(folder, pipeline), batch_size=32, shuffle=True)
        )
        first, later = folder_rates(folder)
        if number:  # the first round warms up
            for name, value in zip(rates, (theirs, first, later), strict=True):
                rates[name].append(value)
    report(
        "Photographs, batch 32, resized to 64 and flipped",
        rates,
        "ImageFolder with PIL",
    )


if __name__ == "__main__":
    main()
