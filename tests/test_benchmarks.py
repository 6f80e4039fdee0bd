"""The benchmarks run on a CPU, in seconds, and do what they say."""

import pytest
import torch

from going_modular.datasets import FashionMNISTTensors
from tests.benchmarks import small, speedrun


def test_the_table_of_small_models(capsys):
    tables = small.main(["--tiny"])
    assert {model for model, _ in tables} == {"TinyVGG", "CNNModel"}
    speeds = [
        speed
        for table in tables.values()
        for row in table.values()
        for speed in row.values()
    ]
    assert len(speeds) >= 8 and min(speeds) > 0
    assert capsys.readouterr().out.count("| CNNModel |") == len(tables["CNNModel", 8])


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_pictures_on_the_device_come_whole_and_once(batch_size):
    data = FashionMNISTTensors("data", train=False)
    images, labels = data.images[:30], data.labels[:30]
    batches = small.DeviceBatches(images, labels, batch_size, torch.device("cpu"))
    found = list(batches)
    assert len(found) == len(batches) == 30 // batch_size
    assert all(len(X) == len(y) == batch_size for X, y in found)
    sums = torch.cat([X.sum(dim=(1, 2, 3)) for X, _ in found])
    known = (images.float() / 255).sum(dim=(1, 2, 3))
    assert len(set(sums.tolist())) == len(sums)
    assert all((known - value).abs().min() < 1e-3 for value in sums)


def test_the_speedrun_on_a_cpu(capsys):
    found = speedrun.main(["--tiny"])
    ((accuracy, seconds),) = found["speedrun"]
    assert 0 <= accuracy <= 1 and seconds > 0
    assert "| speedrun |" in capsys.readouterr().out


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_pictures_are_moved_whole_by_up_to_so_many_pixels(shift):
    torch.manual_seed(0)
    pictures = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    pictures[:, :, 10, 15] = 255
    X = speedrun.prepare(pictures, shift)
    assert X.shape == pictures.shape
    y, x = X.flatten(1).argmax(dim=1) // 28, X.flatten(1).argmax(dim=1) % 28
    steps = set(range(-shift, shift + 1))
    assert set((y - 10).tolist()) == set((x - 15).tolist()) == steps
    dark = (0 - 0.286) / 0.353
    assert (dark + 0.01 < X).sum() == 200 and abs(X.min().item() - dark) < 1e-3


def test_the_speedrun_learns():
    device = torch.device("cpu")
    recipe = speedrun.RECIPES["cpu"] | {"epochs": 3}
    accuracy = speedrun.Speedrun(device, 2560, **recipe).run(seed=0)
    assert accuracy > 0.7  # one in ten by guessing
