"""What every test session needs, that of a notebook alone too.

Neutral surroundings, one thread a worker, no way outside, a folder for temporary files
that is gone at the end, and the data unpacked before two workers ask.
"""

import os
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))
from tools.surroundings import neutral  # noqa: E402

OFFLINE = ROOT / "tests" / "offline"
device = os.environ.get("GOING_MODULAR_DEVICE")  # is asked for: it stays
surroundings = neutral() | ({"GOING_MODULAR_DEVICE": device} if device else {})
for name in os.environ.keys() - surroundings.keys():
    del os.environ[name]
os.environ.update(surroundings)
# Two workers with one thread each beat one worker with two.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib  # noqa: E402

# For this process alone: an environment variable would reach the notebooks' kernels.
matplotlib.use("agg")

# Here, and in every process that is started from here, kernels too.
runpy.run_path(str(OFFLINE / "sitecustomize.py"))
os.environ["PYTHONPATH"] = str(OFFLINE)


def pytest_configure(config: pytest.Config) -> None:
    """Make a folder for temporary files; unpack the data."""
    if hasattr(config, "workerinput"):
        return  # a worker has the folder of the process that started it
    config.course_temporary = tempfile.mkdtemp(prefix="course-")
    for variable in ("TMPDIR", "TEMP", "TMP"):
        os.environ[variable] = config.course_temporary
    tempfile.tempdir = None  # it is looked up again

    from torchvision.datasets import FashionMNIST

    FashionMNIST(ROOT / "data", download=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the temporary files, those of processes that were killed as well."""
    if folder := getattr(config, "course_temporary", None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the course's folder."""
    return ROOT
