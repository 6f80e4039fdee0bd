# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""An experiment: set up from a config, run, kept, resumed."""

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from going_modular.checkpoints import to_json, write_json
from going_modular.config import MAY_CHANGE, Config
from going_modular.data_setup import create_transforms
from going_modular.distributed import ALONE, Group, check_batch_split
from going_modular.folders import fingerprint, open_folders
from going_modular.networks import Network, blueprint
from going_modular.runs import best_row
from going_modular.schedules import SCHEDULES
from going_modular.states import (
    load_weights,
    read_checkpoint,
    restore_checkpoint,
    train_epoch,
    understood,
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

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint keeps, by name."""
        names = ("model", "optimizer", "scheduler", "update")
        return {name: getattr(self, name) for name in names}

    @property
    def described(self) -> dict[str, Any]:
        """What config.json says: config, class names, versions, pictures and more."""
        return vars(self.config) | {
            "class_names": self.class_names,
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
            },
            "pictures": self.pictures,
            "trainable": sum(each.requires_grad for each in self.model.parameters()),
        }


def load_folders(config: Config, network: Network, group: Group) -> Any:
    """Return the Folders of config.data, whose loaders give this process its part.

    Raises:
        OSError, ValueError: as ``open_folders`` and ``check_batch_split``.
    """
    numbers = (config.image_size, config.augment, network.mean, network.std)
    transforms = create_transforms(*numbers, resize=config.resize)
    folders: Any = open_folders(config, transforms)
    for loader in folders[:2]:
        loader.batch_sampler.rank, loader.batch_sampler.size = group
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
            if there is no such name or device, sizes fit no model or memory, unfreeze
            is too high, or the machine cannot compile.
    """
    device = get_device(device)
    network, model = blueprint(config)  # a mistake is found before pictures are read
    check_memory(model)
    schedule = SCHEDULES[config.schedule]
    share = group.share if group.size > 1 else None
    update = Updater(config.precision, config.accumulate, device, share=share)
    found, pictures, notes, counts = loaders, {}, [], []
    if not found:
        *found, notes = load_folders(config, network, group)
        train, valid = (fingerprint(loader.dataset) for loader in found[:2])
        pictures = {"train": train, "valid": valid}
        counts = [count for count, _ in train.values()]
    names = found[2]
    set_seeds(config.seed, config.deterministic)
    model = (network.pretrained or network.build)(config, len(names))
    if weights and config.weights:
        notes += load_weights(config, model, names)
    model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.lr, weight_decay=config.weight_decay
    )
    scheduler = schedule(optimizer, config.lr, config.epochs * len(found[0]))
    update.forward = compile_model(model, device) if config.compile else model
    if group.size > 1:
        update.forward = DistributedDataParallel(update.forward)
    learns = model, optimizer, scheduler, update, group
    loss_fn = choose_loss(config, counts, device)
    return Experiment(config, device, *found, *learns, loss_fn, pictures, notes)


ROW = "epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "valid_balanced"


@understood()
def resume(experiment: Experiment, out: str | Path) -> list[dict]:
    """Put an experiment into the state of the last checkpoint in a folder.

    If its config has more epochs, the training is prolonged: its schedule is made for
    them all, and goes on from where it would be by now.

    Returns:
        The rows of results so far, one an epoch, for ``run``.

    Raises:
        FileNotFoundError, ValueError: as ``read_checkpoint``; if best.pt is missing;
            if the checkpoint has another config, or other classes or pictures.
    """
    made, last = experiment, Path(out) / "last.pt"
    checkpoint = read_checkpoint(last)
    kept, parts, rows = (checkpoint[name] for name in ("config", "parts", "rows"))
    if not (best := last.with_name("best.pt")).exists():
        raise FileNotFoundError(
            f"{best} (the best weights) is gone: restore it or choose another --out"
        )
    changes = []
    for name, value in made.described.items():
        before: Any = kept.get(name, value)
        if name == "pictures":
            changes += [
                f"pictures in {split}/{each} ({old[0]} then, {new[0]} now)"
                for split, classes in value.items()
                for each, new in classes.items()
                if (old := before.get(split, classes).get(each, new)) != new
            ]
        elif name == "epochs" and value > before:
            made.optimizer.step()  # does nothing, but a scheduler wants to see it
            for _ in range(len(rows) * len(made.train_dataloader)):
                made.scheduler.step()
            parts["scheduler"] = made.scheduler.state_dict()
            groups = made.optimizer.state_dict()["param_groups"]
            parts["optimizer"]["param_groups"] = groups
            made.notes.append(
                f"prolonged from {before} to {value} epochs: the learning rate goes on "
                f"as {kept['schedule']} has it in epoch {len(rows) + 1} of {value}"
            )
        elif before != value and name not in MAY_CHANGE:
            changes.append(f"{name} ({before} then, {value} now)")
    if changes:
        raise ValueError(
            f"{last} had other {', '.join(changes)}: restore them or use another --out"
        )
    restore_checkpoint(last, checkpoint, made.parts)
    # What is odd shall stumble here, not after an epoch.
    to_json([0.0 + row[name] for row in rows for name in (*ROW, "lr")])
    for weight, state in made.optimizer.state.items():
        torch.stack([weight, state["exp_avg"], state["exp_avg_sq"]])
    made.train_dataloader.batch_sampler.epoch = len(rows)
    return rows


def run(
    experiment: Experiment,
    out: str | Path,
    *,
    rows: Iterable[dict] = (),
    observers: Iterable[Callable[[dict], object]] = (),
) -> Iterator[dict]:
    """Train, keep everything in the folder ``out``, and yield a row after each epoch.

    The first process of a group writes. At Ctrl-C, it writes interrupted.pt, weights.

    Args:
        experiment: what ``setup`` returned.
        out: a folder; made if it is missing.
        rows: of the epochs before, as ``resume`` returned them.
        observers: called with each row, after it is written, such as trackers.

    Yields:
        A row as ``train_epoch`` returns it.

    Raises:
        ValueError, FloatingPointError: as ``train_epochs``.
        OSError: as ``whole_file``, if ``out`` cannot be written.
    """
    out, made, config, rows = Path(out), experiment, experiment.config, [*rows]
    is_main = made.group.rank == 0
    if is_main:
        write_json(out / "config.json", made.described)
    try:
        while len(rows) < config.epochs:
            best = best_row(rows, config.class_weights)["epoch"] if rows else 0
            if rows and 0 < config.early_stopping <= len(rows) - best:
                break
            rows.append(train_epoch(made, len(rows) + 1))
            if is_main:
                write_epoch(out, made, rows)
                for observer in observers:
                    observer(rows[-1])
            yield rows[-1]
    except KeyboardInterrupt:
        if is_main:
            save_model(made.model, out, "interrupted.pt")
        raise
