"""Start a program in processes that train together, where there is no torchrun.

    python tools/launch.py --nproc-per-node 2 -m going_modular train --data ...

PyTorch for Windows is built without libuv, which torchrun asks for. This tells each
process what torchrun would: its rank, their number, and where they meet. It knows one
machine only. Exit status 1: a process failed; the others were ended.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

PATIENCE = 15  # seconds in which processes may say what they have kept


def free_port() -> int:
    """Return a port that no program listens at."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def variables(rank: int, size: int, port: int) -> dict[str, str]:
    """Return what a process finds in its environment, under torchrun's names."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
    numbers |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    found = {name: str(number) for name, number in numbers.items()}
    threads = os.environ.get("OMP_NUM_THREADS", "1")  # as torchrun does
    place = {"MASTER_ADDR": "127.0.0.1", "USE_LIBUV": "0", "OMP_NUM_THREADS": threads}
    return found | place


def ended(children: list[subprocess.Popen], seconds: float) -> bool:
    """Wait for all processes, so long at most; say whether all have ended."""
    until = time.monotonic() + seconds
    while any(child.poll() is None for child in children):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def launch(size: int, words: list[str]) -> int:
    """Run a Python program in ``size`` processes.

    Args:
        size: how many.
        words: what stands behind ``python``.

    Returns:
        0, or 1 if a process failed.
    """
    port = free_port()
    children = [
        subprocess.Popen(
            [sys.executable, *words], env=os.environ | variables(rank, size, port)
        )
        for rank in range(size)
    ]
    try:
        while not ended(children, 0.1):
            if any(child.returncode for child in children):
                ended(children, PATIENCE)  # the others notice that one is gone
                return 1
        return int(any(child.returncode for child in children))
    except KeyboardInterrupt:  # the console sent it to the processes, too
        ended(children, PATIENCE)
        return 1
    finally:
        for child in children:
            child.terminate()
        if not ended(children, PATIENCE):
            for child in children:
                child.kill()


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nproc-per-node", type=int, default=1, help="processes")
    rest = argparse.REMAINDER
    parser.add_argument("-m", nargs=rest, help="a module, and words for it")
    parser.add_argument("script", nargs=rest, help="else a file, and words for it")
    options = parser.parse_args(arguments)
    words = ["-m", *options.m] if options.m else options.script
    if not words or options.nproc_per_node < 1:
        parser.error("name a program, and one process at least")
    signal.signal(signal.SIGTERM, stop)
    return launch(options.nproc_per_node, words)


if __name__ == "__main__":
    sys.exit(main())
