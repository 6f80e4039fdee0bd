"""What every test session needs: one thread a worker, no way outside, and the data unpacked before two workers ask."""

import os
import runpy
from pathlib import Path

import matplotlib
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # two workers with one thread each beat one worker with two
    os.environ.setdefault("OMP_NUM_THREADS", "1")
matplotlib.use("agg")  # for this process alone: an environment variable would reach the notebooks' kernels

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = Path(__file__).with_name("offline")
runpy.run_path(str(OFFLINE / "sitecustomize.py"))  # here, and in every process that is started from here, kernels too
os.environ["PYTHONPATH"] = os.pathsep.join([str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])])


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        from torchvision.datasets import FashionMNIST

        FashionMNIST(ROOT / "data", download=True)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
