# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""An experiment: set up from a config, run, kept, resumed."""

import json
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from going_modular.archives import unpack
from going_modular.checkpoints import whole_file, write_json
from going_modular.config import MAY_CHANGE, Config, renewed
from going_modular.data_setup import create_dataloaders, create_transforms
from going_modular.distributed import ALONE, Group, check_batch_split, mean_row
from going_modular.engine import train_epochs
from going_modular.networks import Network, blueprint
from going_modular.runs import best_row
from going_modular.schedules import SCHEDULES
from going_modular.states import read_checkpoint, restore_checkpoint, save_checkpoint
from going_modular.updates import Updater, compile_model
from going_modular.utils import get_device, save_model, set_seeds


@dataclass
class Experiment:
    """All that one training is made of; ``setup`` makes it from a Config."""

    config: Config
    device: Any
    train_dataloader: Any
    valid_dataloader: Any
    class_names: list
    model: Any
    optimizer: Any
    scheduler: Any
    update: Updater
    group: Group

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, by name."""
        names = ["model", "optimizer", "scheduler"]
        if self.update.scaler.is_enabled():
            names.append("update")
        return {name: getattr(self, name) for name in names}


def load_folders(
    config: Config, network: Network, group: Group
) -> tuple[Any, Any, list[str]]:
    """Return the loaders and class names of the folder config.data.

    If the folder is missing and its name with .zip is there, that is unpacked first.

    Raises:
        FileNotFoundError, ValueError: as ``create_dataloaders``; or if there is one
            class only, or too few pictures for the group.
    """
    data = Path(config.data)
    if not data.exists() and Path(f"{data}.zip").exists():
        unpack(f"{data}.zip", data)
    prepare, transform, valid_transform = create_transforms(
        config.image_size,
        config.augment,
        network.mean,
        network.std,
        resize=config.resize,
    )
    loaders: Any = create_dataloaders(
        data / "train",
        data / "valid",
        transform,
        config.batch_size,
        config.num_workers,
        test_transform=valid_transform,
        prepare=prepare,
        seed=config.seed,
        **group._asdict(),
    )
    if group.size > 1:
        sizes = [len(each.dataset) for each in loaders[:2]]
        check_batch_split(group, config.batch_size, *sizes)
    if len(loaders[2]) < 2:
        raise ValueError(f"{data} has one class, {loaders[2][0]}: it takes two or more")
    return loaders


def setup(
    config: Config,
    device: torch.device | str | None = None,
    *,
    loaders: tuple[Any, Any, list[str]] | None = None,
    group: Group = ALONE,
) -> Experiment:
    """Return the Experiment that a config describes.

    Args:
        config: what to train, and how.
        device: where to train; by default the best device.
        loaders: (train, valid, class_names), by default of the folder config.data.
        group: the processes that train together.

    Raises:
        FileNotFoundError, ValueError: as ``load_folders``, or if sizes do not fit.
    """
    device = torch.device(device or get_device())
    network, _ = blueprint(config)  # a mistake is found before pictures are read
    schedule = SCHEDULES[config.schedule]
    share = group.share if group.size > 1 else None
    update = Updater(config.precision, config.accumulate, device, share=share)
    loaders = loaders or load_folders(config, network, group)
    set_seeds(config.seed)
    model = (network.pretrained or network.build)(config, len(loaders[2])).to(device)
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, config.lr, weight_decay=config.weight_decay
    )
    scheduler = schedule(optimizer, config.lr, config.epochs * len(loaders[0]))
    update.forward = compile_model(model, device) if config.compile else model
    if group.size > 1:
        update.forward = DistributedDataParallel(update.forward)
    return Experiment(
        config, device, *loaders, model, optimizer, scheduler, update, group
    )


def resume(experiment: Experiment, out: str | Path) -> list[dict]:
    """Put an experiment into the state of the last checkpoint in a folder.

    Returns:
        The rows of results so far, one an epoch, for ``run``.

    Raises:
        ValueError: if the folder's training has another config or other classes.
        FileNotFoundError, ValueError: as ``read_checkpoint``.
    """
    last = Path(out) / "last.pt"
    checkpoint = read_checkpoint(last)
    kept = renewed(checkpoint["config"])
    for name, value in described(experiment).items():
        if kept.get(name, value) != value and name not in MAY_CHANGE:
            raise ValueError(
                f"{last} was trained with {name} {kept[name]}, not {value}: keep "
                f"{kept[name]}, or choose another --out"
            )
    restore_checkpoint(last, checkpoint, experiment.parts())
    experiment.train_dataloader.batch_sampler.epoch = checkpoint["epoch"]
    return checkpoint["rows"]


def described(experiment: Experiment) -> dict[str, Any]:
    """Return what config.json says: config, class names and versions."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    others = {"class_names": experiment.class_names, "versions": versions}
    return vars(experiment.config) | others


def check_free(out: Path) -> None:
    """Raise FileExistsError if a folder holds a training."""
    if (out / "last.pt").exists():
        raise FileExistsError(
            f"{out} holds a training: add --resume to go on, or choose another --out"
        )


def write_epoch(out: Path, experiment: Experiment, rows: list[dict]) -> None:
    """Write what an epoch brought; the checkpoint last, since it says "finished"."""
    if best_row(rows) is rows[-1]:
        save_model(experiment.model, out, "best.pt")
    with whole_file(out / "metrics.jsonl") as file:
        file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
    save_checkpoint(out / "last.pt", experiment.parts(), rows, described(experiment))


def finish_row(row: dict, experiment: Experiment) -> dict:
    """Return an epoch's row over all processes, with valid for test, and the rate."""
    if experiment.group.size > 1:
        counts = {
            "train": experiment.train_dataloader.batch_sampler.count,
            "test": experiment.valid_dataloader.batch_sampler.count,
        }
        row = mean_row(row, experiment.group, counts, experiment.device)
    row = {name.replace("test_", "valid_"): value for name, value in row.items()}
    return row | {"lr": experiment.scheduler.get_last_lr()[0]}


def run(
    experiment: Experiment,
    out: str | Path,
    *,
    rows: list[dict] | None = None,
    observers: Iterable[Callable[[dict], object]] = (),
) -> Iterator[dict]:
    """Train, keep everything in the folder ``out``, and yield a row after each epoch.

    Written are config.json, metrics.jsonl, best.pt and last.pt, by the first process
    of a group. Interrupted by Ctrl-C, it writes the weights to interrupted.pt.

    Args:
        experiment: what ``setup`` returned.
        out: a folder; made if it is missing.
        rows: of the epochs before, if ``resume`` returned them.
        observers: called with each row, after it is written, such as trackers.

    Yields:
        {"epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "lr"}

    Raises:
        FileExistsError: if ``out`` holds a training that is not resumed.
        ValueError, FloatingPointError: as ``train_epochs``.
    """
    out, rows = Path(out), list(rows or [])
    if not rows:
        check_free(out)
    epochs, is_main = experiment.config.epochs, experiment.group.rank == 0
    if is_main:
        write_json(out / "config.json", described(experiment))
    loss_fn = torch.nn.CrossEntropyLoss()
    others = (experiment.valid_dataloader, experiment.optimizer, loss_fn)
    options: dict[str, Any] = {"scheduler": experiment.scheduler, "per_batch": True}
    options["update"] = experiment.update
    try:
        for epoch in range(len(rows) + 1, epochs + 1):
            batches = tqdm(
                experiment.train_dataloader,
                f"epoch {epoch} of {epochs}",
                unit="batch",
                leave=False,
                disable=None if is_main else True,  # None: if there is no terminal
            )
            arguments = (experiment.model, batches, *others, epoch, experiment.device)
            (row,) = train_epochs(*arguments, first_epoch=epoch, **options)
            row = finish_row(row, experiment)
            if is_main:
                write_epoch(out, experiment, [*rows, row])
                for observer in observers:
                    observer(row)
            rows.append(row)
            yield row
    except KeyboardInterrupt:
        if is_main:
            save_model(experiment.model, out, "interrupted.pt")
        raise KeyboardInterrupt(
            f"{len(rows)} of {epochs} epochs are kept in {out}, go on with --resume"
        ) from None
