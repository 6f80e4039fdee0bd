"""The benchmarks run on a CPU, in seconds, and do what they say."""

import dataclasses

import pytest
import torch

from going_modular.datasets import FashionMNISTTensors
from tests.benchmarks import processes, small, speedrun


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


@pytest.mark.parametrize("turn", [0, 1])
def test_a_row_that_fails_is_named_and_the_others_go_on(turn, monkeypatch, capsys):
    monkeypatch.setattr(small, "MODELS", {"TinyVGG": small.MODELS["TinyVGG"]})
    turns, known = [], small.Contestant.turn

    def fail(self, first=None):
        if self.loop is small.by_hand and isinstance(self.batches, small.DeviceBatches):
            turns.append(first)
            if len(turns) > turn:
                raise RuntimeError("no such kernel\nmore")
        return known(self, first)

    monkeypatch.setattr(small.Contestant, "turn", fail)
    (table,) = small.main(["--tiny"]).values()
    assert {change: set(row) for change, row in table.items()} == {
        "loader in host memory": {"engine", "by hand"},
        "data on the device": {"engine"},
    }
    (line,) = [line for line in capsys.readouterr().out.split("\n") if "ERROR" in line]
    assert "('data on the device', 'by hand'): RuntimeError: no such kernel" in line


def test_no_row_begins_after_the_limit(capsys):
    assert not any(small.main(["--tiny", "--limit", "-1"]).values())
    assert capsys.readouterr().out.count("no time was left for") == 8


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


@pytest.mark.parametrize("more", [[], ["--without"]])
def test_the_table_of_the_speedrun(more, monkeypatch, capsys):
    monkeypatch.setenv("GOING_MODULAR_DEVICE", "cpu")
    monkeypatch.setattr(speedrun.Speedrun, "run", lambda self, seed: 0.92 + seed / 100)
    found = speedrun.main(["--seeds", "2", *more])
    without = {"without smoothing", "without bfloat16"} if more else set()
    assert found.keys() == {"speedrun", "lesson 03"} | without
    assert capsys.readouterr().out.count("| 0.9250 | 0.9200 | 1 |") == len(found)


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
    assert (X > 0).sum() == 200 and X.max() == 1


@pytest.mark.parametrize("change", [{}, {"shift": 1}, {"bfloat16": False}])
def test_the_speedrun_learns(change):
    recipe = dataclasses.replace(speedrun.CPU, epochs=3, **change)
    run = speedrun.Speedrun(recipe, torch.device("cpu"), pictures=2560).run
    assert run(seed=0) > 0.65


def test_a_run_of_the_speedrun_begins_anew(monkeypatch):
    monkeypatch.setattr(speedrun.Speedrun, "test", lambda self: None)
    recipe = dataclasses.replace(speedrun.CPU, epochs=1)
    one = speedrun.Speedrun(recipe, torch.device("cpu"), pictures=300)
    found = []
    for seed in (0, 1, 0):
        one.run(seed)
        found.append(torch.cat([p.detach().flatten() for p in one.model.parameters()]))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_one_process_and_two_take_turns(capsys):
    gains = processes.main(["--tiny", "--rounds", "1"])
    assert gains is not None and set(gains) == set(processes.KINDS)
    assert min(min(each) for each in gains.values()) > 0
    assert capsys.readouterr().out.count("| 16 |") == len(processes.KINDS)
