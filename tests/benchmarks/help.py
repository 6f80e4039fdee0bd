"""How long ``going-modular --help`` takes: seconds, the median of five runs.

    python tests/benchmarks/help.py

Each run is a fresh process, ``python -m going_modular --help``, after one that warms
the disk's cache up.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def seconds_of_help() -> float:
    """Return how long one run takes, in seconds."""
    command = [sys.executable, "-m", "going_modular", "--help"]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the median of five runs, in seconds."""
    seconds_of_help()
    print(f"{statistics.median(seconds_of_help() for _ in range(5)):.2f}")


if __name__ == "__main__":
    main()
