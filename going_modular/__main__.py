# Written by tools/export.py from 05_going_modular.ipynb, 09_deployment.ipynb,
# 10_performance.ipynb: edit there, not here.
"""The course as one command, ``python -m going_modular``."""

import argparse
import contextlib
import difflib
import inspect
import io
import os
import re
import signal
import sys
from glob import glob
from pathlib import Path
from typing import Any, NoReturn

import going_modular
from going_modular.commands import (
    check_command,
    evaluate_command,
    predict_command,
    profile_command,
    serve_command,
)
from going_modular.config import Config
from going_modular.exports import export_command
from going_modular.training import say, train_command

COMMANDS = {}  # name -> function; its docstring is the command's help


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a wrong argument in one line; exit status 2.

    Attributes:
        known: commands and options, of which an unknown one is meant perhaps.
    """

    known: list = []

    def error(self, message: str) -> None:
        """Print ``message`` and exit."""
        wrong = re.search(r"--[\w-]+|(?<=')\w+", message)
        word = wrong[0] if wrong else ""
        near = difflib.get_close_matches(word, self.known, 1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.exit(2, f"error: {message}{hint}; --help lists the options\n")


OPTIONS = {  # kind of a parameter -> how it is parsed
    bool: {"action": argparse.BooleanOptionalAction},
    int: {"type": int},
    **dict.fromkeys([float, float | None], {"type": float}),
    **dict.fromkeys([list, list | None], {"nargs": "+"}),
    Path | None: {"nargs": "?", "type": Path, "default": None},  # needs no flag
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
    with contextlib.suppress(ImportError):
        import shtab  # which few have

        shtab.add_argument_to(parser)
    parser.known = [*COMMANDS]
    parsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, command in COMMANDS.items():
        about, _, described = (inspect.getdoc(command) or "").partition("\n\nArgs:")
        added = parsers.add_parser(
            name,
            help=about.partition("\n")[0],
            description=about,
            argument_default=argparse.SUPPRESS,  # an option that is not given is absent
        )
        options = dict(inspect.signature(command).parameters)
        kept = added.add_argument_group("settings, kept in config.json")
        settings: Any = {}
        if options.pop("settings", None):
            described = f"{inspect.getdoc(Config)}{described}"
            settings = inspect.signature(Config).parameters
            options |= settings
        found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", described, re.MULTILINE)
        texts = {name: " ".join(text.split()) for name, text in found}
        for name in filter(texts.get, options):
            default = options[name].default
            kind = OPTIONS.get(options[name].annotation, {})
            is_first = default is inspect.Parameter.empty or "default" in kind
            flag = name if is_first else f"--{name.replace('_', '-')}"
            is_told = not is_first and default not in (None, "")
            shown = f" (default: {default})" if is_told else ""
            place = kept if name in settings else added
            place.add_argument(flag, help=texts[name] + shown, **kind)
            parser.known.append(flag)
    return parser


SPELLINGS = {  # of other tools -> ours
    f"--{theirs}": f"--{ours}"
    for ours, *others in map(
        str.split,
        """\
num-workers workers dataloader-num-workers
image-size imgsz img-size input-size
batch-size batch per-device-train-batch-size
epochs num-train-epochs
lr learning-rate lr0
schedule lr-scheduler-type sched
schedule=cosine cos-lr
weight-decay wd
label-smoothing smoothing label-smoothing-factor
early-stopping patience
model arch model-name-or-path
data data-dir
out output output-dir save-dir
tracker report-to
compile torch-compile
precision=bf16 amp bf16
precision=fp16 fp16
augment=none no-augment""".splitlines(),
    )
    for theirs in others
}


class Ended(KeyboardInterrupt):
    """SIGTERM, by which a scheduler ends a program, ends a command as Ctrl-C does."""


def end(*_: object) -> NoReturn:
    """Raise Ended."""
    raise Ended


NO_MEMORY = r"alloc|out of memory|overflow|worker \(pid"  # in torch's RuntimeErrors


def verdict(error: BaseException) -> tuple[int, str]:
    """Return the exit status of what ended a command, and the line that says it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # In a loader's process the message comes last.
    line = lines[-1 if lines[0].startswith("Caught") else 0]
    if isinstance(error, KeyboardInterrupt):
        line = line if error.args else "before its end"
        return 143 if isinstance(error, Ended) else 130, f"interrupted: {line}"
    is_torchs = isinstance(error, RuntimeError) and re.search(NO_MEMORY, str(error))
    if is_torchs or isinstance(error, MemoryError):
        return 3, (
            f"error: there is too little memory, or a process was killed for it "
            f"({line}): choose a smaller --batch-size, --image-size or model; or, to "
            "go on with finished epochs, --resume with a larger --accumulate or fewer "
            "--num-workers"
        )
    if isinstance(error, FloatingPointError | ValueError | OSError):
        return 4 if isinstance(error, FloatingPointError) else 2, f"error: {line}"
    raise error


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: by default those of this program, which SIGTERM then ends as Ctrl-C.

    Returns:
        The exit status: 0; 2 for bad input, 3 if memory ran out, 4 if a training became
        NaN, 130 for Ctrl-C, 143 for SIGTERM.

    Raises:
        SystemExit: 2 for words that are no command or option, 0 after --help.
        Exception: what nobody foresaw, as it is; the program then ends with 1.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        signal.signal(signal.SIGTERM, end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may be none of its encoding
            stream.reconfigure(errors="backslashreplace")
    words = []
    for word in arguments:
        flag, *value = word.split("=", 1)
        if flag.startswith("--"):
            flag = flag.replace("_", "-")
            word = "=".join([SPELLINGS.get(flag, flag), *value])
        words.append(word)
    is_first = not re.match("[1-9]", os.environ.get("RANK", ""))  # it speaks for all
    with contextlib.redirect_stderr(sys.stderr if is_first else io.StringIO()):
        options = vars(build_parser().parse_args(words))
    options.pop("print_completion", None)
    for name, value in options.items():
        if isinstance(value, list):  # a Windows shell passes *.png as it is
            options[name] = [
                path
                for word in value
                for path in (not Path(word).exists() and sorted(glob(word)) or [word])
            ]
    try:
        if signal.getsignal(signal.SIGINT) is going_modular.stop:
            from going_modular import experiment  # noqa: F401 - it takes seconds

            signal.signal(signal.SIGINT, signal.default_int_handler)
        COMMANDS[options.pop("command")](**options)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        status, text = verdict(error)
    if is_first or status not in (130, 143):  # of Ctrl-C the first speaks for all
        say(text, sys.stderr)
    return status


COMMANDS["check"] = check_command


COMMANDS["train"] = train_command


COMMANDS["evaluate"] = evaluate_command


COMMANDS["predict"] = predict_command


COMMANDS["serve"] = serve_command


COMMANDS["export"] = export_command


COMMANDS["profile"] = profile_command


if __name__ == "__main__" and "__file__" in globals():
    sys.exit(main())
