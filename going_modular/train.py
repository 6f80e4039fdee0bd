# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""Training from the command line."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from going_modular.data_setup import create_dataloaders, create_transforms, list_pictures, unpack
from going_modular.engine import train_epochs, update_weights
from going_modular.model_builder import CNNModel, TinyVGG
from going_modular.utils import (
    get_device,
    read_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    save_model,
    set_seeds,
    whole_file,
)

MODELS = {
    "tinyvgg": lambda config, num_classes, channels=3: TinyVGG(
        channels, config.hidden_units, num_classes, image_size=config.image_size
    ),
    "cnn": lambda config, num_classes, channels=3: CNNModel(
        channels,
        num_classes,
        widths=[config.hidden_units * factor for factor in (1, 2, 4)],
        image_size=config.image_size,
    ),
}


def option(default, help):
    """Return a dataclass field with its default and the line of help that the command line shows."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainConfig:
    """All that decides what a training computes: equal configs end with equal weights.

    Raises ValueError for an unknown model and for a number out of range.
    """

    data: str = option("data/cat_dog_horse", "folder with train/ and valid/, each a folder of class folders")
    model: str = option("tinyvgg", f"one of {', '.join(MODELS)}")
    hidden_units: int = option(16, "channels of the first layers")
    image_size: int = option(64, "pictures are resized to so many pixels a side")
    augment: bool = option(True, "flip and turn the training pictures at random")
    epochs: int = option(5, "passes over the training pictures")
    batch_size: int = option(32, "pictures a step")
    lr: float = option(3e-3, "learning rate at the top of the one-cycle schedule")
    weight_decay: float = option(0.01, "AdamW's weight decay")
    num_workers: int = option(0, "processes that load pictures: changes the speed, not the results")
    seed: int = option(42, "seed of weights, order and augmentation")

    models = MODELS
    may_change = ("data", "num_workers")  # when a training goes on: the folder may have moved

    def __post_init__(self):
        if self.model not in self.models:
            raise ValueError(f"unknown model {self.model!r}: choose one of {', '.join(self.models)}")
        for name in ("hidden_units", "image_size", "epochs", "batch_size", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a finite number above 0")
        for name in ("weight_decay", "num_workers", "seed"):
            if not 0 <= getattr(self, name) < 2**32:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a number from 0 to {2**32 - 1}")


class Training(NamedTuple):
    """What one training is made of."""

    train_dataloader: DataLoader
    valid_dataloader: DataLoader
    class_names: list
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    update: Callable = update_weights  # lesson 10 has faster ones
    finish_row: Callable = dict  # from an epoch's row of this process to the row of all that train together
    is_main: bool = True  # the one of them that writes the files and shows the bar


def setup_training(config, device):
    """Return the Training that a TrainConfig describes, with its model on ``device``.

    Where the folder config.data is missing and an archive, its name with .zip, is there, that is unpacked first.
    Raises FileNotFoundError and ValueError as ``create_dataloaders`` and the models do.
    """
    train_dataloader, valid_dataloader, class_names = load_folders(config)
    if len(class_names) < 2:
        raise ValueError(f"{config.data} has one class, {class_names[0]}: to tell pictures apart takes two or more")
    set_seeds(config.seed)
    model = config.models[config.model](config, len(class_names)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    steps = config.epochs * len(train_dataloader)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps)
    return Training(train_dataloader, valid_dataloader, class_names, model, optimizer, scheduler)


KEPT_BYTES = 4 * 2**30  # pictures of up to so many bytes in all are kept in memory


def load_folders(config):
    """Return (train_dataloader, valid_dataloader, class_names) for the folder config.data; see ``setup_training``."""
    data = Path(config.data)
    if not data.exists() and Path(f"{data}.zip").exists():
        unpack(f"{data}.zip", data)
    prepare, transform, valid_transform = create_transforms(config.image_size, config.augment)
    if len(list_pictures(data)) * 3 * config.image_size**2 > KEPT_BYTES:
        transform, valid_transform = v2.Compose([prepare, transform]), v2.Compose([prepare, valid_transform])
        prepare = None
    settings = {"test_transform": valid_transform, "prepare": prepare, "seed": config.seed}
    return create_dataloaders(
        data / "train", data / "valid", transform, config.batch_size, config.num_workers, **settings
    )


def parts_of(training):
    """Return the parts of a Training that a checkpoint keeps, by name."""
    parts = {"model": training.model, "optimizer": training.optimizer, "scheduler": training.scheduler}
    has_state = bool(getattr(training.update, "state_dict", dict)())  # lesson 10's has, in one case
    return parts | ({"update": training.update} if has_state else {})


def best_row(rows):
    """Return the row with the highest valid accuracy; among equals the lowest valid loss, then the earliest."""
    return max(rows, key=lambda row: (round(row["valid_acc"], 6), -row["valid_loss"]))  # 6 digits: float32 is no more


def keep_epoch(out, training, rows, config):
    """Write to the folder ``out`` what the epoch just finished brought; the checkpoint last, for it says "finished"."""
    if best_row(rows) is rows[-1]:
        save_model(training.model, out, "best.pt")
    with whole_file(out / "metrics.jsonl") as file:
        file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
    save_checkpoint(out / "last.pt", parts_of(training), rows, dataclasses.asdict(config))


def check_classes(out, class_names):
    """Raise ValueError unless the training in ``out`` knows the same classes, by the same names."""
    path = Path(out) / "config.json"
    kept = json.loads(path.read_text(encoding="utf-8")).get("class_names") if path.exists() else class_names
    if kept != class_names:
        raise ValueError(f"{out} was trained on the classes {kept}, the data have {class_names}: give it the same ones")


def begin(config, out, device, resume, setup=setup_training):
    """Return (training, rows): a new Training and no rows, or, to resume, as the checkpoint in ``out`` has them.

    Raises FileExistsError where ``out`` holds a training and resume is False, ValueError for another config's.
    """
    last = out / "last.pt"
    if not last.exists():
        return setup(config, device), []
    if not resume:
        raise FileExistsError(f"{out} holds a training: add --resume to go on with it, or choose another --out")
    checkpoint = read_checkpoint(last)
    for name, value in dataclasses.asdict(config).items():
        kept = checkpoint["config"].get(name, value)
        if kept != value and name not in config.may_change:
            raise ValueError(
                f"{last} was trained with {name} {kept}, not {value}: keep {kept}, or choose another --out"
            )
    training = setup(config, device)
    check_classes(out, training.class_names)
    restore_checkpoint(last, checkpoint, parts_of(training))
    training.train_dataloader.batch_sampler.epoch = checkpoint["epoch"]
    return training, checkpoint["rows"]


class WithBar:
    """A dataloader that moves a progress bar by one with every batch."""

    def __init__(self, dataloader, bar):
        self.dataloader, self.bar = dataloader, bar

    def __iter__(self):
        for batch in self.dataloader:
            yield batch
            self.bar.update()


def keep_config(out, training, config):
    """Write config.json, the config and the names of the classes, to the folder ``out``."""
    with whole_file(out / "config.json") as file:
        content = dataclasses.asdict(config) | {"class_names": training.class_names}
        file.write(json.dumps(content, indent=2).encode())


def progress_bar(training, config, finished):
    """Return a tqdm bar over all batches of a Training, those of its finished epochs behind it."""
    steps = len(training.train_dataloader)
    hidden = None if training.is_main else True  # None: where no terminal is
    return tqdm(total=config.epochs * steps, initial=finished * steps, unit="batch", disable=hidden)


def kept_sentence(rows, config, out):
    """Return what somebody reads whose training ended early."""
    return f"{len(rows)} of {config.epochs} epochs are kept in {out}, go on with --resume"


def run(config, out, *, resume=False, setup=setup_training):
    """Train as ``config`` says, keep everything in the folder ``out``, and return the rows of results, one an epoch.

    resume: go on after the last epoch that ``out`` holds.  setup: (config, device) -> Training.  Interrupted (Ctrl-C),
    it keeps the weights as they stand in interrupted.pt and raises KeyboardInterrupt with a message.  Errors as
    ``begin``, ``setup_training`` and the engine.
    """
    out, device, loss_fn = Path(out), get_device(), nn.CrossEntropyLoss()
    training, rows = begin(config, out, device, resume, setup)
    if training.is_main:
        keep_config(out, training, config)
    try:
        with progress_bar(training, config, len(rows)) as bar:
            loaders = WithBar(training.train_dataloader, bar), training.valid_dataloader
            options = {"scheduler": training.scheduler, "update": training.update, "first_epoch": len(rows) + 1}
            for row in train_epochs(
                training.model, *loaders, training.optimizer, loss_fn, config.epochs, device, **options
            ):
                row = {name.replace("test", "valid"): value for name, value in row.items()}
                finished = [*rows, training.finish_row(row)]
                if training.is_main:
                    keep_epoch(out, training, finished, config)
                rows = finished
                bar.set_postfix_str(f"valid loss {rows[-1]['valid_loss']:.3f}, accuracy {rows[-1]['valid_acc']:.3f}")
    except KeyboardInterrupt:
        if training.is_main:
            save_model(training.model, out, "interrupted.pt")
        raise KeyboardInterrupt(kept_sentence(rows, config, out)) from None
    return rows


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a wrong argument in one line, and exits with status 2."""

    def error(self, message):
        """Print ``message`` and exit."""
        self.exit(2, f"error: {message}; --help lists the options\n")


def add_options(parser, kind=TrainConfig, names=None):
    """Give a parser an option for each field of a TrainConfig's class, or for those in ``names``."""
    for field in dataclasses.fields(kind):
        is_switch, value = field.type is bool, field.type.__name__
        settings = {"action": argparse.BooleanOptionalAction} if is_switch else {"type": field.type, "metavar": value}
        text = f"{field.metadata['help']} (default: {field.default})"
        if names is None or field.name in names:
            parser.add_argument(f"--{field.name.replace('_', '-')}", help=text, **settings)


def add_run_options(parser):
    """Give a parser the options that say where a training is kept, and whether it goes on."""
    parser.add_argument(
        "--out", default="runs/first", metavar="str", help="folder for the results (default: runs/first)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the training in --out, with its config")


def build_parser():
    """Return the parser of ``python -m going_modular.train``."""
    parser = OneLineParser(
        prog="python -m going_modular.train",
        description="Train a classifier on a folder of pictures: data/train/CLASS/*.png and data/valid/CLASS/*.png.",
        argument_default=argparse.SUPPRESS,  # an option that is not given is absent
    )
    add_options(parser)
    add_run_options(parser)
    return parser


def read_config(out, kind=TrainConfig):
    """Return the fields of a TrainConfig's class in out/config.json; one that only a subclass has may be missing.

    Raises FileNotFoundError, ValueError if damaged.
    """
    path, needed = Path(out) / "config.json", {field.name for field in dataclasses.fields(TrainConfig)}
    if not path.is_file():
        raise FileNotFoundError(f"{out} holds no training to go on with: leave out --resume to begin one")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        fields = [field for field in dataclasses.fields(kind) if field.name in needed or field.name in settings]
        values = {field.name: field.type(settings[field.name]) for field in fields}
        if values != {name: settings[name] for name in values}:
            raise TypeError  # such as "no" for a switch
        return values
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged: mend it, or begin again with another --out") from None


def exit_status(command, *arguments):
    """Run command(*arguments) and return 0, or say in a line what went wrong: 1 NaN, 2 bad input, 130 Ctrl-C."""
    try:
        command(*arguments)
        return 0
    except KeyboardInterrupt as interruption:
        print(f"interrupted: {interruption or 'nothing had begun'}", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, torch.OutOfMemoryError) as error:
        reason = str(error).strip().splitlines()[-1]  # before it stands a traceback where a loader's process failed
        print(f"error: {reason}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2


def config_of(options, kind=TrainConfig):
    """Return the config that a command's options describe, on top of the kept one where the training goes on."""
    settings = dict(options)
    kept = read_config(settings["out"], kind) if settings.pop("resume", False) else {}
    del settings["out"]
    return kind(**kept | settings)


def best_sentence(rows, config, out):
    """Return what a finished training has to say."""
    best = best_row(rows)
    scores = f"valid accuracy {best['valid_acc']:.3f}, valid loss {best['valid_loss']:.3f}"
    return f"{out}: epoch {best['epoch']} of {config.epochs} is the best, {scores}; its weights are in best.pt"


def main(arguments=None):
    """Train as the command line says, and return the exit status."""

    def command(options):
        config = config_of(options)
        rows = run(config, options["out"], resume="resume" in options)
        print(best_sentence(rows, config, options["out"]))

    return exit_status(command, vars(build_parser().parse_args(arguments)))


if __name__ == "__main__" and "__file__" in globals():
    sys.exit(main())
