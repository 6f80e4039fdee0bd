# Written by tools/export.py from 10_performance.ipynb: edit there, not here.
"""Processes that train together."""

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import torch
from torch import distributed

from going_modular.utils import get_device


class Group(NamedTuple):
    """This process among those that train together: its rank, 0 to size - 1."""

    rank: int
    size: int

    def sum(self, values: list, device: torch.device | str) -> torch.Tensor:
        """Return the sums of numbers over all processes, (N,) float64."""
        tensor = torch.tensor(values, dtype=torch.float64)
        if self.size > 1:
            tensor = tensor.to(device)
            distributed.all_reduce(tensor)
        return tensor

    def share(self, count: int, device: torch.device | str) -> torch.Tensor:
        """Return ``count``, this process's part of a batch, divided by the mean part.

        DistributedDataParallel averages gradients over processes; with losses weighted
        so, that is the mean over all samples.
        """
        return count * self.size / self.sum([count], device)[0].float()


ALONE = Group(rank=0, size=1)


def raise_lost(*_: object) -> NoReturn:
    """Raise ConnectionAbortedError: torchrun's SIGTERM says that a process died."""
    raise ConnectionAbortedError("another process of the group ended")


def watch_parent() -> None:
    """End this process as SIGTERM does once torchrun is gone, which would send one."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
    os._exit(1)  # it hangs in a sum with a process that ended already


@contextlib.contextmanager
def process_group() -> Iterator[Group]:
    """Join the processes that torchrun started and yield this one's Group.

    Without torchrun that is ALONE. With a GPU for each process they talk by NCCL, else
    by Gloo.

    Raises:
        ConnectionAbortedError: if another process ended.
        ValueError: if the environment describes no group.
    """
    names = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "RANK", "MASTER_PORT")
    given = {name: os.environ.get(name, "") for name in names}
    if given["WORLD_SIZE"] in ("", "1"):
        yield ALONE
        return
    numbers = [int(text) if text.isdecimal() else -1 for text in given.values()]
    size, local_size, local_rank, rank, _ = numbers
    if min(numbers) < 0 or rank >= size or local_rank >= local_size:
        raise ValueError(f"the environment has {given}: let torchrun set all, or none")
    is_cuda = get_device().type == "cuda"
    has_gpus = is_cuda and torch.cuda.device_count() >= local_size
    if has_gpus:
        torch.cuda.set_device(local_rank)
    signal.signal(signal.SIGTERM, raise_lost)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=watch_parent, daemon=True).start()
    distributed.init_process_group("nccl" if has_gpus else "gloo")
    try:
        yield Group(rank, size)
        gc.collect()  # a model that outlives its group can crash Python's way out
        distributed.barrier()
    except Exception as error:
        is_gloos = isinstance(error, RuntimeError) and "gloo" in str(error).lower()
        if isinstance(error, distributed.DistError) or is_gloos:
            raise_lost()
        if rank > 0 and not isinstance(error, ConnectionAbortedError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(5)  # the first one says what all have to say, torchrun ends us
        raise
    finally:
        gc.collect()
        distributed.destroy_process_group()


def check_batch_split(
    group: Group, batch_size: int, train_size: int, valid_size: int
) -> None:
    """Raise ValueError if a process would have no picture of some training batch.

    Also if it would have none to validate on.
    """
    batches, last = divmod(train_size, batch_size)
    smallest = last if last > 1 or not batches else batch_size
    if batches == last == 1:  # a lone last picture joins the only batch
        smallest = train_size
    if min(smallest, valid_size) < group.size:
        raise ValueError(
            f"an epoch's smallest batch has {smallest} pictures, valid has "
            f"{valid_size}: too few for {group.size} processes. Choose another "
            "--batch-size, or fewer processes."
        )
