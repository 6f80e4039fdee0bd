"""A training that is killed and interrupted again and again ends with equal weights."""

import multiprocessing
import os
import random
import signal
import sys
import time

import pytest
import torch

from going_modular import checkpoints
from going_modular.__main__ import main
from going_modular.states import read_checkpoint
from tests.folders import train_arguments, weights_of, write_pictures
from tests.test_saving import Faulty

pytestmark = pytest.mark.skipif(
    os.name == "nt",
    reason="there is no SIGKILL on Windows; lesson 05 kills there too",
)
EPOCHS = 60


def train(arguments):
    """Run the command as a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(arguments))


def train_killed_in_write(arguments, number, part):
    """Run the command until it wrote a part of last.pt, the n-th file of that name."""
    files = 0

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def open_faulty(path, mode):
        nonlocal files
        files += mode == "wb" and path.name.startswith("last.pt")
        if files < number:
            return open(path, mode)
        return Faulty(open(path, mode), part, kill)

    checkpoints.open = open_faulty
    sys.exit(main(arguments))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Start a training in a folder of this name, which resumes; give the process."""
    processes = multiprocessing.get_context("forkserver")
    # Imported once, not in each process.
    processes.set_forkserver_preload(["tests.test_faults", "going_modular.experiment"])
    top = tmp_path_factory.mktemp("faults")
    data = write_pictures(top / "data", ("cat", "dog"), {"train": 16, "valid": 6})

    def start(name, target=train, *more, epochs=EPOCHS):
        options = f"--model cnn --resume --epochs {epochs}"
        given = (train_arguments(data, top / name, options), *more)
        child = processes.Process(target=target, args=given)
        child.start()
        return child

    start.top = top
    return start


@pytest.fixture(scope="module")
def whole(started):
    """The folder of a training that nobody disturbed, and the seconds it took."""
    for name, epochs in (("short", 1), ("whole", EPOCHS)):
        start = time.monotonic()  # the first run waits for the import
        child = started(name, epochs=epochs)
        child.join()
        assert child.exitcode == 0
    return started.top / "whole", time.monotonic() - start


def assert_finishes_as(whole, started, name):
    """Let a disturbed training end; assert that it is the undisturbed one."""
    child = started(name)
    child.join()
    assert child.exitcode == 0
    out = started.top / name
    for file in ("last.pt", "best.pt"):
        found, wanted = weights_of(out, file), weights_of(whole, file)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    for file in ("metrics.jsonl", "config.json"):
        assert (out / file).read_bytes() == (whole / file).read_bytes()
    left = {path.name for path in out.iterdir()} - {
        path.name for path in whole.iterdir()
    }
    assert left <= {"interrupted.pt"}


def test_killed_at_fifteen_random_moments(started, whole):
    out, duration = whole
    for _ in range(15):
        child = started("killed")
        # Fifteen times a 16th at most: never at the end, nor where the whole run,
        # which was timed while another test worked beside it, took twice its time.
        child.join(random.uniform(0, duration / 16))
        assert child.exitcode is None
        child.kill()
        child.join()
        if (started.top / "killed" / "last.pt").exists():
            read_checkpoint(started.top / "killed" / "last.pt")
    assert_finishes_as(out, started, "killed")


def test_killed_in_five_writes_of_a_checkpoint(started, whole):
    last = started.top / "cut" / "last.pt"
    for number, part in ((1, 0), (2, 0.01), (4, 0.5), (3, 0.999), (5, 1)):
        child = started("cut", train_killed_in_write, number, part)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        (half,) = last.parent.glob("last.pt.*.tmp")
        assert half.name == f"last.pt.{child.pid}.tmp"
        if last.exists():
            read_checkpoint(last)
    assert read_checkpoint(last)["epoch"] == 10  # 0 + 1 + 3 + 2 + 4
    assert_finishes_as(whole[0], started, "cut")


def test_interrupted_at_ten_random_moments(started, whole):
    out, duration = whole
    for _ in range(10):
        child = started("interrupted")
        child.join(random.uniform(0.05, duration / 16))  # as above
        assert child.exitcode is None
        os.kill(child.pid, signal.SIGINT)
        child.join()
        assert child.exitcode in (130, 1)  # 1: before the command began
    assert_finishes_as(out, started, "interrupted")
