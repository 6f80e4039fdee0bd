# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""An experiment: set up from a config, run, kept, resumed."""

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from going_modular.checkpoints import write_json
from going_modular.config import MAY_CHANGE, Config
from going_modular.data_setup import create_transforms
from going_modular.distributed import ALONE, Group, check_batch_split
from going_modular.folders import Folders, fingerprint, open_folders
from going_modular.networks import Network, blueprint
from going_modular.runs import best_row, check_free
from going_modular.schedules import SCHEDULES
from going_modular.states import (
    check_pictures,
    kept_rows,
    load_weights,
    prolong,
    read_checkpoint,
    restore_checkpoint,
    train_epoch,
    write_epoch,
)
from going_modular.updates import Updater, choose_loss, compile_model
from going_modular.utils import check_memory, get_device, save_model, set_seeds


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
    loss_fn: Any
    pictures: dict  # split -> class -> [how many, digest]
    notes: list  # what is worth saying before it begins

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, by name."""
        names = ["model", "optimizer", "scheduler"]
        if self.update.scaler.is_enabled():
            names.append("update")
        return {name: getattr(self, name) for name in names}

    @property
    def described(self) -> dict[str, Any]:
        """What config.json says: config, class names, versions and pictures."""
        versions = {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        }
        names = {"class_names": self.class_names, "versions": versions}
        return vars(self.config) | names | {"pictures": self.pictures}


def load_folders(config: Config, network: Network, group: Group) -> Folders:
    """Return the loaders and class names of config.data, and notes on it.

    Raises:
        OSError, ValueError: as ``open_folders`` and ``check_batch_split``.
    """
    numbers = (config.image_size, config.augment, network.mean, network.std)
    folders: Any = open_folders(
        config.data,
        create_transforms(*numbers, resize=config.resize),
        config.batch_size,
        config.num_workers,
        valid_share=config.valid_share,
        max_pixels=config.max_pixels,
        seed=config.seed,
        **group._asdict(),
    )
    if group.size > 1:
        sizes = (len(loader.dataset) for loader in folders[:2])
        check_batch_split(group, config.batch_size, *sizes)
    return folders


def setup(
    config: Config,
    device: torch.device | str | None = None,
    *,
    loaders: tuple[Any, Any, list[str]] | None = None,
    group: Group = ALONE,
    weights: bool = True,
) -> Experiment:
    """Return the Experiment that a config describes.

    Args:
        config: what to train, and how.
        device: where to train; by default the best device.
        loaders: (train, valid, class_names), by default of the folder config.data.
        group: the processes that train together.
        weights: begin from config.weights; a training that goes on has its own.

    Raises:
        OSError, ValueError: as ``load_folders`` and ``load_weights``; ValueError also
            if there is no such name or device, or sizes fit no model or memory.
    """
    device = get_device(device)
    network, model = blueprint(config)  # a mistake is found before pictures are read
    check_memory(model)
    schedule = SCHEDULES[config.schedule]
    share = group.share if group.size > 1 else None
    update = Updater(config.precision, config.accumulate, device, share=share)
    pictures, notes, found = {}, [], loaders or ()
    if not found:
        data: Any = load_folders(config, network, group)
        found, notes = data[:3], data.notes
        parts = {"train": data.train, "valid": data.valid}
        pictures = {name: fingerprint(parts[name].dataset) for name in parts}
    names = found[2]
    counts = [pictures["train"][name][0] for name in names] if pictures else []
    set_seeds(config.seed, config.deterministic)
    model = (network.pretrained or network.build)(config, len(names))
    if weights and config.weights:
        notes += load_weights(config, model, names)
    model.to(device)
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    decay = config.weight_decay
    optimizer = torch.optim.AdamW(trainable, config.lr, weight_decay=decay)
    scheduler = schedule(optimizer, config.lr, config.epochs * len(found[0]))
    update.forward = compile_model(model, device) if config.compile else model
    if group.size > 1:
        update.forward = DistributedDataParallel(update.forward)
    parts = (model, optimizer, scheduler, update, group)
    loss_fn = choose_loss(config, counts, device)
    return Experiment(config, device, *found, *parts, loss_fn, pictures, notes)


def resume(experiment: Experiment, out: str | Path) -> list[dict]:
    """Put an experiment into the state of the last checkpoint in a folder.

    If its config has more epochs, the training is prolonged: its schedule is made for
    them all, and goes on from where it would be by now.

    Returns:
        The rows of results so far, one an epoch, for ``run``.

    Raises:
        FileNotFoundError, ValueError: as ``read_checkpoint``; ValueError also if it
            has another config, or other classes or pictures.
    """
    last = Path(out) / "last.pt"
    checkpoint = read_checkpoint(last)
    kept, parts, rows = (checkpoint[name] for name in ("config", "parts", "rows"))
    for name, value in experiment.described.items():
        before: Any = kept.get(name, value)
        if name == "epochs" and value > before:
            steps = len(rows) * len(experiment.train_dataloader)
            prolong(parts, experiment.optimizer, experiment.scheduler, steps)
            experiment.notes.append(
                f"prolonged from {before} to {value} epochs: the learning rate goes on "
                f"as {kept['schedule']} has it in epoch {len(rows) + 1} of {value}"
            )
        elif name == "pictures":
            check_pictures(before, value, last)
        elif before != value and name not in MAY_CHANGE:
            raise ValueError(
                f"{last} was trained with {name} {before}, not {value}: keep "
                f"{before}, or choose another --out"
            )
    restore_checkpoint(last, checkpoint, experiment.parts())
    experiment.train_dataloader.batch_sampler.epoch = len(rows)
    return rows


def run(
    experiment: Experiment,
    out: str | Path,
    *,
    rows: list[dict] | None = None,
    observers: Iterable[Callable[[dict], object]] = (),
) -> Iterator[dict]:
    """Train, keep everything in the folder ``out``, and yield a row after each epoch.

    The first process of a group writes. At Ctrl-C, it writes interrupted.pt, weights.

    Args:
        experiment: what ``setup`` returned.
        out: a folder; made if it is missing.
        rows: of the epochs before, as ``resume`` returned them; None: it is new.
        observers: called with each row, after it is written, such as trackers.

    Yields:
        A row as ``train_epoch`` returns it.

    Raises:
        FileExistsError: if ``out`` holds files of another training, or of somebody.
        ValueError, FloatingPointError: as ``train_epoch``.
    """
    out = Path(out)
    is_main = experiment.group.rank == 0
    if rows is None and is_main:
        check_free(out)
    rows, config = list(rows or []), experiment.config
    if is_main:
        write_json(out / "config.json", experiment.described)
    try:
        for epoch in range(len(rows) + 1, config.epochs + 1):
            last = config.early_stopping + best_row(rows)["epoch"] if rows else epoch
            if config.early_stopping and epoch > last:
                break
            row = train_epoch(experiment, epoch)
            if is_main:
                write_epoch(out, experiment, [*rows, row])
                for observer in observers:
                    observer(row)
            rows.append(row)
            yield row
    except KeyboardInterrupt as interruption:
        if is_main:
            save_model(experiment.model, out, "interrupted.pt")
        raise type(interruption)(
            f"{len(kept_rows(out))} of {config.epochs} epochs are kept in {out}, go on "
            "with --resume"
        ) from None
