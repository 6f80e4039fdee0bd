# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""The command train: from a folder of pictures to results."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from going_modular.config import Config, read_config


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line at once; a closed pipe or a full disk ends no training.

    Args:
        text: the line.
        stream: where to; by default stdout.
    """
    try:
        print(text, file=stream, flush=True)
    except OSError:  # nobody reads what follows, nor what waits to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


RESULT = (  # of an epoch
    "valid accuracy {valid_acc:.3f} (balanced {valid_balanced:.3f}, largest class "
    "{largest:.3f}), valid loss {valid_loss:.3f}"
)


VIEWERS = {  # tracker -> how to look at what it wrote
    "tensorboard": "tensorboard --logdir {0}",
    "wandb": "wandb sync {0}/wandb/offline-run-*",
    "mlflow": "mlflow ui --backend-store-uri sqlite:///{0.parent}/mlflow.db",
}


def finish(made: Any, out: Path, rows: list[dict], largest: float) -> None:
    """Write curves.png and summary.json, and say what a finished training reached.

    Args:
        made: the Experiment.
        out: its folder.
        rows: its results, one row an epoch.
        largest: share of the largest class in the validation pictures.
    """
    import matplotlib.pyplot as plt

    from going_modular.checkpoints import whole_file, write_json
    from going_modular.plots import plot_curves
    from going_modular.runs import best_row

    config, count = made.config, len(made.class_names)
    best = best_row(rows, config.class_weights)
    summary = {"best": best, "epochs": len(rows), "largest_class": largest}
    write_json(out / "summary.json", summary)
    text = f"epoch {best['epoch']} of {len(rows)} is the best, "
    text += RESULT.format(largest=largest, **best)
    figure = plot_curves({name: [row[name] for row in rows] for name in best}, text)
    figure.axes[-1].axhline(largest, color="gray", label="largest class")
    figure.axes[-1].legend()
    with whole_file(out / "curves.png") as file:
        figure.savefig(file)
    plt.close(figure)
    say(f"{out}: {text}; its weights are in best.pt")
    if len(rows) < config.epochs:
        say(f"stopped early: {len(rows) - best['epoch']} epochs without a better one")
    if best["valid_balanced"] * count < 1.2:
        tip = "look at the pictures with check, or bring more of each class"
        if largest * count > 1.5 and config.class_weights == "none":
            tip = "try --class-weights balanced"
        elif all(weight.requires_grad for weight in made.model.parameters()):
            tip = "try --model effnet_lite0 --image-size 160"
        elif not config.unfreeze:
            tip = "try --unfreeze 2 --lr 0.0003"
        say(f"With {count} classes that is hardly better than guessing: {tip}")
    if viewer := VIEWERS.get(config.tracker):
        say(f"look at it: {viewer.format(out)}")


def begin(
    folder: Path, resume: bool, device: str | None, group: Any, settings: dict
) -> tuple[Any, list[dict]]:
    """Return the Experiment of a training, and its rows so far.

    Args:
        folder: of the training.
        resume: take its config, which the settings change.
        device: where to train.
        group: the processes that train together.
        settings: of a Config.
    """
    from going_modular import experiment
    from going_modular.runs import check_free

    kept = {"batch_size": Config.batch_size * group.size}
    if "batch_size" in settings:  # a config's counts all processes'
        settings["batch_size"] *= group.size
    if resume and (folder / "config.json").exists():
        kept = vars(read_config(folder)[0])
    elif group.rank == 0:
        check_free(folder)
    config, goes_on = Config(**kept | settings), (folder / "last.pt").exists()
    made = experiment.setup(config, device, group=group, weights=not goes_on)
    return made, experiment.resume(made, folder) if goes_on else []


def train_command(
    out: str = "runs/first",
    resume: bool = False,
    device: str | None = None,
    **settings: Any,
) -> None:
    """Train a classifier on a folder of pictures.

    DATA holds train/CLASS/*.png and valid/CLASS/*.png, a folder for each class; jpg and
    others do as well. A folder with class folders alone takes --valid-share 0.2. The
    best answers from few pictures, but slower: --image-size 160. Two
    processes, which train as one with twice the batch: torchrun --nproc-per-node 2 -m
    going_modular train ... Ctrl-C keeps the finished epochs, --resume goes on with
    them, and with more --epochs a finished training as well. The results are in --out:
    then evaluate, predict, export, serve. Spellings of other tools, such as --workers
    or --imgsz, are understood.

    Args:
        out: folder for the results
        resume: go on with the training in --out, with its config
        device: such as cpu, cuda, cuda:1 or mps; by default the best there is
        **settings: of a Config.

    Raises:
        KeyboardInterrupt, ConnectionAbortedError: saying what is kept; the latter if
            another process of the group ended.
    """
    from going_modular.checkpoints import lock_folder
    from going_modular.distributed import process_group
    from going_modular.experiment import run
    from going_modular.states import kept_rows
    from going_modular.trackers import Tracker

    folder = Path(out)
    if resume and folder.is_file():  # such as best.pt in it
        folder = folder.parent
    try:
        with process_group() as group, contextlib.ExitStack() as stack:
            is_main = group.rank == 0
            if is_main:
                stack.enter_context(lock_folder(folder))
            made, rows = begin(folder, resume, device, group, settings)
            config, observers = made.config, []
            if is_main and config.tracker != "none":
                tracker = Tracker(config.tracker, folder, config, rows=rows)
                observers = [stack.enter_context(tracker)]
            for note in made.notes if is_main else ():
                say(note)
            counts = [count for count, _ in made.pictures["valid"].values()]
            largest = max(counts) / sum(counts)
            for row in run(made, folder, rows=rows, observers=observers):
                rows = [*rows, row]
                if is_main:
                    text = f"epoch {row['epoch']} of {config.epochs}: train loss "
                    text += f"{row['train_loss']:.3f}, " + RESULT
                    say(text.format(largest=largest, **row))
            if is_main:
                finish(made, folder, rows, largest)
    except (KeyboardInterrupt, ConnectionAbortedError) as error:
        kept = f"epochs kept in {folder}: {len(kept_rows(folder))}"
        hint = "give the same command again"  # there is no config to go on with
        if (folder / "config.json").exists():
            hint = "go on with --resume"
        text = "; ".join([*error.args, kept, hint])
        raise type(error)(text) from None
