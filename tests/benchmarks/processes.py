"""Two processes that train together beside one: how many times as fast is an epoch?

    python tests/benchmarks/processes.py

Every process has one thread. A small network waits for its loader, which decodes large
photographs anew in each epoch; a larger one, whose pictures are in memory, waits for
its arithmetic. One process and two take turns, after a first epoch that is not timed.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import v2

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from going_modular import data_setup, experiment  # noqa: E402
from going_modular.config import Config  # noqa: E402
from going_modular.distributed import Group, process_group  # noqa: E402
from going_modular.states import train_epoch  # noqa: E402
from tools.launch import launch  # noqa: E402

KINDS = {
    "loader": Config(model="tinyvgg", image_size=32, batch_size=50, epochs=2),
    "arithmetic": Config(
        model="cnn", hidden_units=32, image_size=64, batch_size=100, epochs=2
    ),
}


def write_photographs(folder: Path, count: int, width: int) -> None:
    """Write smooth random JPEGs of two classes, ``count`` of each to train with."""
    draw = np.random.default_rng(0)
    for split, number in (("train", count), ("valid", 2)):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                spots = draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)
                large = Image.fromarray(spots).resize((width, width * 3 // 4))
                large.save(folder / split / name / f"{index}.jpg", quality=90)


def loaders_that_decode(config: Config, group: Group) -> tuple:
    """Return (train, valid, class_names): every access reads and decodes the file."""
    prepare, *changes = data_setup.create_transforms(config.image_size, config.augment)
    transforms = [v2.Compose([prepare, change]) for change in changes]
    folders = Path(config.data) / "train", Path(config.data) / "valid"
    *loaders, names = data_setup.create_dataloaders(
        *folders, transforms[0], config.batch_size, test_transform=transforms[1]
    )
    for loader in loaders:
        loader.batch_sampler.rank, loader.batch_sampler.size = group
    return *loaders, names


def train(kind: str, data: str, out: Path) -> None:
    """Train as one of a group; its first process writes the second epoch's time."""
    config = Config(**vars(KINDS[kind]) | {"data": data})
    with process_group() as group:
        loaders = loaders_that_decode(config, group) if kind == "loader" else None
        made = experiment.setup(config, "cpu", loaders=loaders, group=group)
        train_epoch(made, 1)  # it ends with a sum over all processes
        start = time.perf_counter()
        train_epoch(made, 2)
        if group.rank == 0:
            out.write_text(str(time.perf_counter() - start))


def seconds(kind: str, processes: int, data: Path) -> float:
    """Return how long an epoch takes in so many processes."""
    out = data.parent / "seconds"
    words = [__file__, "--train", kind, "--data", str(data), "--out", str(out)]
    if launch(processes, words):
        raise RuntimeError(f"{kind}: one of {processes} processes failed")
    return float(out.read_text())


def compare(rounds: int, counts: dict[str, int], width: int) -> dict[str, list[float]]:
    """Print a table in Markdown; return {kind: time of one / time of two, by round}."""
    print("| an epoch waits for | pictures | one process | two | times as fast |")
    print("|---|---|---|---|---|")
    gains = {}
    for kind, count in counts.items():
        with tempfile.TemporaryDirectory() as place:
            data = Path(place) / "data"
            write_photographs(data, count, width if kind == "loader" else 64)
            pairs = [
                [seconds(kind, processes, data) for processes in (1, 2)]
                for _ in range(rounds)
            ]
        gains[kind] = [one / two for one, two in pairs]
        one, two = (statistics.median(times) for times in zip(*pairs, strict=True))
        low, high = min(gains[kind]), max(gains[kind])
        gain = f"{statistics.median(gains[kind]):.2f} ({low:.2f} to {high:.2f})"
        print(f"| its {kind} | {2 * count} | {one:.2f} s | {two:.2f} s | {gain} |")
    return gains


def main(arguments: list[str] | None = None) -> dict[str, list[float]] | None:
    """Compare, or be one of the processes that are compared."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="a few small pictures")
    for name in ("train", "data", "out"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.train:
        return train(options.train, options.data, Path(options.out))
    os.environ["OMP_NUM_THREADS"] = "1"
    counts = {kind: 8 if options.tiny else 300 for kind in KINDS}
    return compare(options.rounds, counts, 64 if options.tiny else 1280)


if __name__ == "__main__":
    main()
