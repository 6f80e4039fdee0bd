"""What every test session needs: one thread a worker, and the data unpacked before two workers reach for it."""

import os
from pathlib import Path

import matplotlib
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # two workers with one thread each beat one worker with two
    os.environ.setdefault("OMP_NUM_THREADS", "1")
matplotlib.use("agg")  # for this process alone: an environment variable would reach the notebooks' kernels

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        from torchvision.datasets import FashionMNIST

        FashionMNIST(ROOT / "data", download=True)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
