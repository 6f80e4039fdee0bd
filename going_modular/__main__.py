# Written by tools/export.py from 05_going_modular.ipynb, 09_deployment.ipynb,
# 10_performance.ipynb: edit there, not here.
"""The course as one command, ``python -m going_modular``."""

import argparse
import contextlib
import inspect
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import going_modular
from going_modular.commands import (
    export_command,
    predict_command,
    profile_command,
    serve_command,
)
from going_modular.config import Config, read_config

COMMANDS = {}  # name -> function; its docstring is the command's help


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a wrong argument in one line; exit status 2."""

    def error(self, message: str) -> None:
        """Print ``message`` and exit."""
        self.exit(2, f"error: {message}; --help lists the options\n")


OPTIONS = {  # kind of a parameter -> how it is parsed
    bool: {"action": argparse.BooleanOptionalAction},
    int: {"type": int},
    float: {"type": float},
    list: {"nargs": "+"},
    list | None: {"nargs": "+"},
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all COMMANDS, made of their signatures and docstrings.

    A command that takes settings has the fields of Config as options.
    """
    parser = OneLineParser(
        prog="going-modular", description="The course as one command. In this order:"
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {going_modular.__version__}"
    )
    parsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, command in COMMANDS.items():
        about, _, described = (inspect.getdoc(command) or "").partition("\n\nArgs:")
        added = parsers.add_parser(
            name,
            help=about.partition("\n")[0],
            description=about,
            argument_default=argparse.SUPPRESS,  # an option that is not given is absent
        )
        options = list(inspect.signature(command).parameters.values())
        if options[-1].name == "settings":
            described = f"{inspect.getdoc(Config)}{described}"
            options[-1:] = inspect.signature(Config).parameters.values()
        found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", described, re.MULTILINE)
        texts = {name: " ".join(text.split()) for name, text in found}
        for option in options:
            name, default = option.name, option.default
            if name in texts:
                is_needed = default is option.empty
                flag = name if is_needed else f"--{name.replace('_', '-')}"
                shown = (
                    ""
                    if is_needed or default in (None, "")
                    else f" (default: {default})"
                )
                settings = OPTIONS.get(option.annotation, {})
                added.add_argument(flag, help=texts[name] + shown, **settings)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        The exit status: 0, 1 if a training became NaN, 2 for bad input, 130 for Ctrl-C.
    """
    is_first = int(os.environ.get("RANK", 0)) == 0  # it speaks for all of a group
    with contextlib.redirect_stderr(sys.stderr if is_first else io.StringIO()):
        options = vars(build_parser().parse_args(arguments))
    try:
        COMMANDS[options.pop("command")](**options)
        return 0
    except KeyboardInterrupt as interruption:
        status, text = 130, f"interrupted: {str(interruption) or 'nothing had begun'}"
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        kind = type(error).__name__
        if isinstance(error, RuntimeError) and kind != "OutOfMemoryError":  # torch's
            raise
        status = 1 if isinstance(error, FloatingPointError) else 2
        lines = (str(error).strip() or kind).splitlines()
        text = f"error: {lines[-1]}"  # before it stand a loader's own
    if is_first or status != 130:  # of Ctrl-C the first speaks for all
        print(text, file=sys.stderr)
    return status


def summary(rows: list[dict], out: str, num_classes: int) -> str:
    """Return what a finished training has to say."""
    from going_modular.runs import best_row

    best = best_row(rows)
    text = (
        f"{out}: epoch {best['epoch']} of {len(rows)} is the best, valid accuracy "
        f"{best['valid_acc']:.3f}, valid loss {best['valid_loss']:.3f}; its weights "
        "are in best.pt"
    )
    if best["valid_acc"] * num_classes < 1.2:
        text += (
            f"\nWith {num_classes} classes that is no better than guessing: try "
            "--model effnet_lite0 --image-size 160"
        )
    return text


def train_command(
    out: str = "runs/first", resume: bool = False, **settings: Any
) -> None:
    """Train a classifier on a folder of pictures.

    DATA holds train/CLASS/*.png and valid/CLASS/*.png, a folder for each class; jpg and
    others do as well. The best answers from few pictures: --model effnet_lite0
    --image-size 160. Two processes, which train as one with twice the batch: torchrun
    --nproc-per-node 2 -m going_modular train ... Ctrl-C keeps the finished epochs,
    --resume goes on with them. The results are in --out: then predict, export, serve.

    Args:
        out: folder for the results
        resume: go on with the training in --out, with its config
        **settings: of a Config.

    Raises:
        ConnectionAbortedError: if another process of the group ended.
    """
    from going_modular import experiment
    from going_modular.distributed import process_group
    from going_modular.trackers import Tracker

    folder = Path(out)
    kept = {}
    if resume and (folder / "config.json").exists():
        kept = vars(read_config(folder)[0])
    else:
        experiment.check_free(folder)
        settings.setdefault("batch_size", Config.batch_size)
    try:
        with process_group() as group, contextlib.ExitStack() as stack:
            if "batch_size" in settings:  # a config's counts all processes'
                settings["batch_size"] *= group.size
            config = Config(**kept | settings)
            made = experiment.setup(config, group=group)
            rows = (
                experiment.resume(made, folder) if (folder / "last.pt").exists() else []
            )
            trackers = []
            if config.tracker != "none" and group.rank == 0:
                tracker = Tracker(config.tracker, folder, config, rows=rows)
                trackers = [stack.enter_context(tracker)]
            rows += experiment.run(made, folder, rows=rows, observers=trackers)
            if group.rank == 0:
                print(summary(rows, out, len(made.class_names)))
    except ConnectionAbortedError as error:
        log = folder / "metrics.jsonl"
        epochs = log.read_text().count("\n") if log.exists() else 0
        raise ConnectionAbortedError(
            f"{error}; epochs kept in {out}: {epochs}; go on with --resume"
        ) from None


COMMANDS["train"] = train_command


COMMANDS["predict"] = predict_command


COMMANDS["serve"] = serve_command


COMMANDS["export"] = export_command


COMMANDS["profile"] = profile_command


if __name__ == "__main__" and "__file__" in globals():
    sys.exit(main())
