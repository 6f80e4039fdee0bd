"""Lesson 10: several processes train as one, and outlive the loss of one of them."""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from subprocess import PIPE

import psutil
import pytest
import torch

from going_modular import utils
from going_modular.__main__ import command_line
from going_modular.performance import Group, check_sizes, mean_row
from tests.folders import write_pictures
from tests.test_command import rows_of, weights_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    counts = {"train": 35, "valid": 9}  # of each class: no batch size divides these
    return write_pictures(tmp_path_factory.mktemp("own"), ("night", "day"), counts)


def arguments(pictures, out, more=""):
    small = "--model vit --image-size 16 --patch-size 4 --embed-dim 16 --depth 2 --lr 5e-4 --epochs 3 --seed 1"
    return ["train", "--data", str(pictures), "--out", str(out), *small.split(), *more.split()]


def torchrun(processes, arguments):
    """Start the command with torchrun, as a user does."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", "going_modular"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*start, *arguments], stdout=PIPE, stderr=PIPE, text=True, env=environment)


def one_of_several(variables, arguments):
    os.environ |= variables
    sys.exit(command_line(arguments))


def train_with(processes, arguments):
    """Run the command in so many processes, told of each other as torchrun does it, which would import all anew."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    sizes = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    context.set_forkserver_preload(["tests.test_distributed"])
    ranks = [place | sizes | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    children = [context.Process(target=one_of_several, args=(rank, arguments)) for rank in ranks]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * processes


def test_two_processes_are_one_with_twice_the_batch(pictures, tmp_path, capsys):
    run = torchrun(2, arguments(pictures, tmp_path / "two", "--batch-size 8"))
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert command_line(arguments(pictures, tmp_path / "one", "--batch-size 16")) == 0
    assert printed == capsys.readouterr().out.replace(str(tmp_path / "one"), str(tmp_path / "two"))
    for row, wanted in zip(rows_of(tmp_path / "two"), rows_of(tmp_path / "one"), strict=True):
        assert row == pytest.approx(wanted, abs=1e-5, rel=0)
    torch.testing.assert_close(weights_of(tmp_path / "two"), weights_of(tmp_path / "one"), rtol=0, atol=1e-4)
    assert (tmp_path / "two" / "config.json").read_bytes() == (tmp_path / "one" / "config.json").read_bytes()
    assert sorted(os.listdir(tmp_path / "two")) == ["best.pt", "config.json", "last.pt", "metrics.jsonl"]


def test_a_killed_process_ends_the_run_with_a_message_and_any_number_goes_on(pictures, tmp_path):
    place = tmp_path / "killed"
    run = torchrun(2, arguments(pictures, place, "--batch-size 6 --epochs 20"))
    while not (place / "last.pt").exists():
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    second = next(child for child in psutil.Process(run.pid).children() if child.environ().get("RANK") == "1")
    second.kill()
    _, errors = run.communicate(timeout=60)
    epochs = utils.read_checkpoint(place / "last.pt")["epoch"]
    messages = [line for line in errors.splitlines() if line.startswith("error: ")]
    told = f"error: another process of the group ended; epochs kept in {place}: {epochs}; go on with --resume"
    assert run.returncode == 1 and messages == [told] and 1 <= epochs < 20, errors
    for processes in (1, 2, 3):
        out = shutil.copytree(place, tmp_path / str(processes))
        train_with(processes, ["train", "--out", str(out), "--resume"])
        rows = rows_of(out)
        assert len(rows) == 20 and rows[:epochs] == rows_of(place)[:epochs]
        assert json.loads((out / "config.json").read_text())["batch_size"] == 12  # as the first two processes had it
        assert rows[-1] == pytest.approx(rows_of(tmp_path / "1")[-1], abs=1e-3)


def test_a_mistake_is_told_once(pictures, tmp_path):
    run = torchrun(3, arguments(pictures, tmp_path / "run", "--batch-size 23"))  # of 70 pictures 69 make a batch
    _, errors = run.communicate(timeout=120)
    told = [line for line in errors.splitlines() if line.startswith("error")]
    assert run.returncode == 1 and len(told) == 1 and "last batch has 1 pictures" in told[0], errors
    assert not (tmp_path / "run").exists()


def test_rows_are_averaged_over_samples():
    row = {"epoch": 3, "train_loss": 0.5, "train_acc": 0.25, "valid_loss": 1.5, "valid_acc": 0.75}
    assert mean_row(row, Group(0, 1), {"train": 7, "valid": 3}, "cpu") == pytest.approx(row)


@pytest.mark.parametrize(("batch_size", "train_size", "valid_size"), [(4, 9, 5), (4, 8, 1)])
def test_a_process_without_pictures_is_refused(batch_size, train_size, valid_size):
    check_sizes(Group(0, 1), batch_size, train_size, valid_size)
    with pytest.raises(ValueError, match="too few for 2 processes"):
        check_sizes(Group(0, 2), batch_size, train_size, valid_size)
