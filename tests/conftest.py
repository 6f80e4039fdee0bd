"""What every test session needs.

One thread a worker, no way outside, and the data unpacked before two workers ask.
"""

import os
import runpy
from pathlib import Path

import matplotlib
import pytest

# Two workers with one thread each beat one worker with two.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# For this process alone: an environment variable would reach the notebooks' kernels.
matplotlib.use("agg")

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = Path(__file__).with_name("offline")
# Here, and in every process that is started from here, kernels too.
runpy.run_path(str(OFFLINE / "sitecustomize.py"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        from torchvision.datasets import FashionMNIST

        FashionMNIST(ROOT / "data", download=True)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
