"""Checks of notebook 05 · Going modular."""

import contextlib
import dataclasses
import io
import json
import pickle
import random
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from unittest import mock

import torch
from PIL import Image
from torch import nn

from exercises import Wrong, capstone, exercise


@exercise("05.1", "Random, and nobody notices")
def check_quiet_rand(quiet_rand):
    for _ in range(5):
        n, seed = random.randint(2, 9), random.randint(1, 10_000)
        torch.rand(random.randint(1, 9))
        before = torch.get_rng_state()
        got = quiet_rand(n, seed)
        unchanged = torch.equal(before, torch.get_rng_state())
        expected = torch.rand(n, generator=torch.Generator().manual_seed(seed))
        if not isinstance(got, torch.Tensor) or got.shape != (n,):
            raise Wrong(
                f"for n = {n} you returned "
                f"{got if not isinstance(got, torch.Tensor) else tuple(got.shape)}",
                f"a tensor of the shape ({n},) is asked for",
            )
        if not torch.equal(got, expected):
            raise Wrong(
                f"for seed {seed} these are other numbers than torch's",
                "seed the generator that you draw from",
            )
        if not unchanged:
            raise Wrong(
                "the numbers are right, but torch's own generator is no longer where "
                "it was",
                "draw from a generator of your own, or put the state back at the end",
            )


@exercise("05.2", "Your own exporter")
def check_export_cells(export_cells):
    names = random.sample(["utils", "plots", "engine", "data_setup"], 3)
    number = random.randint(10, 99)
    sources = [
        "import math",
        f"#| export {names[0]}\ndef a():\n    return {number}",
        f"print('#| export {names[0]}')\n#| export {names[2]}\nB = 2",
        f"#| hide\nprint({number})",
        "#| echo: false\nimport torch",
        f"# export {names[2]}\nB = 3",
        f"#| export {names[1]}\nC = {number}",
        f"#| export {names[0]}\n\nD = a()\nE = D\n",
        "",
    ]
    expected = {
        names[0]: f"def a():\n    return {number}\n\n\nD = a()\nE = D\n",
        names[1]: f"C = {number}",
    }
    try:
        got = export_cells(list(sources))
    except IndexError as error:
        raise Wrong(
            f"your function raised IndexError: {error}",
            "one of the cells is empty, and `#| hide` has no third word",
        ) from None
    if not isinstance(got, dict):
        raise Wrong(
            f"you returned a {type(got).__name__}",
            "a dictionary from module to text is asked for",
        )
    if got.keys() != expected.keys():
        raise Wrong(
            f"the modules are {sorted(map(str, got))}, expected {sorted(expected)}",
            "only a cell's first line decides whether it is exported, and the module "
            "is the word after 'export'",
        )
    for name, text in expected.items():
        if got[name] != text:
            raise Wrong(
                f"the text of {name} is {got[name]!r}",
                f"expected {text!r}: without the first line, and nothing else "
                "taken away; the cells in order, with one empty line between two",
            )


@exercise("05.3", "Your own checkpoint")
def check_checkpoint(functions):
    save, load = functions
    X, y = torch.randn(24, 5), torch.randint(3, (24,))

    def fresh():
        layers = nn.Linear(5, 16), nn.Dropout(0.5), nn.BatchNorm1d(16), nn.Linear(16, 3)
        model = nn.Sequential(*layers)
        return model, torch.optim.AdamW(model.parameters(), lr=0.05)

    def steps(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), y).backward()
            optimizer.step()

    with tempfile.TemporaryDirectory() as folder:
        path, epoch = Path(folder) / "last.pt", random.randint(2, 50)
        model, optimizer = fresh()
        steps(model, optimizer, 3)
        save(path, model, optimizer, epoch)
        weight = model.state_dict()["0.weight"].clone()
        if not path.exists():
            raise Wrong("there is no file at the path", "torch.save(kept, path)")
        try:
            torch.load(path, weights_only=True)
        except pickle.UnpicklingError:
            raise Wrong(
                "the file cannot be read with weights_only=True",
                "keep state_dicts and plain values, not the objects themselves",
            ) from None
        steps(model, optimizer, 4)
        torch.rand(random.randint(1, 9))  # another process is somewhere else
        other, other_optimizer = fresh()
        with mock.patch.object(torch, "load", wraps=torch.load) as reading:
            got = load(path, other, other_optimizer)
        if any(call.kwargs.get("weights_only") is False for call in reading.mock_calls):
            raise Wrong(
                "load reads with weights_only=False, which runs whatever code a file "
                "holds",
                "torch.load(path, weights_only=True)",
            )
        if got != epoch:
            raise Wrong(
                f"saved in epoch {epoch}, but load returned {str(got)[:60]}",
                "keep the epoch in the file, and return it",
            )
        if not torch.equal(other.state_dict()["0.weight"], weight):
            raise Wrong(
                "the loaded model has other weights than the saved one",
                "model.load_state_dict puts them back",
            )
        moments = other_optimizer.state_dict()["state"]
        if not moments:
            raise Wrong(
                "the optimizer of the loaded training remembers nothing",
                "AdamW keeps moving averages: optimizer.state_dict() has them",
            )
        if int(moments[0]["step"]) != 3:
            raise Wrong(
                f"the optimizer was saved after 3 steps and came back at "
                f"{int(moments[0]['step'])}",
                "save the state as it is when save is called",
            )
        steps(other, other_optimizer, 4)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    difference = max((a - b).abs().max().item() for a, b in pairs)
    if difference:
        raise Wrong(
            f"four steps later a parameter differs by {difference:.3g}",
            "dropout draws from torch's generator: is its state in the file too?",
        )


@exercise("05.4", "A log that was cut off")
def check_read_log(read_log):
    rows = [
        {"epoch": epoch, "loss": round(random.random(), 4)}
        for epoch in range(1, random.randint(4, 7))
    ]
    lines = [json.dumps(row) for row in rows]
    whole, torn = (
        "\n".join(lines) + "\n",
        "\n".join([*lines, lines[-1][: random.randint(1, 8)]]),
    )
    for text, expected, case in (
        (whole, rows, "a whole file"),
        (torn, rows, "a file whose last line was cut off"),
        ("", [], "an empty file"),
        (
            whole.rstrip("\n"),
            rows[:-1],
            "a last line without its newline, so perhaps unfinished,",
        ),
    ):
        try:
            got = read_log(text)
        except Exception as error:
            raise Wrong(
                f"{case} was refused: {type(error).__name__}: {error}",
                "leave out what follows the last newline",
            ) from None
        if got != expected:
            raise Wrong(
                f"{case} gave {got!r}, expected {expected!r}",
                "what ends a finished line?",
            )
    for mark in ("\u2028", "\x85"):  # breaks a line, but not a line of JSON
        row = {"epoch": 1, "note": f"slower{mark}than before"}
        text = json.dumps(row, ensure_ascii=False) + "\n"
        try:
            got = read_log(text)
        except Exception as error:
            got = type(error).__name__
        if got != [row]:
            raise Wrong(
                f"{text!r} is one line, and gave {got!r}",
                'only "\\n" ends a line here: text.split("\\n"), not splitlines',
            )
    for case, line in (("a broken", lines[1][:6]), ("an empty", "")):
        try:
            read_log("\n".join([lines[0], line, *lines[2:]]) + "\n")
        except ValueError:
            continue
        raise Wrong(
            f"{case} line in the middle was passed over",
            "only the unfinished last line may be left out",
        )


@exercise("05.5", "A config as arguments")
def check_to_arguments(to_arguments):
    from going_modular.__main__ import build_parser
    from going_modular.config import Config

    options = {field.name for field in dataclasses.fields(Config)} - {"channels"}
    for switch in (True, False):
        config = Config(
            data="data/my_own pictures",
            model=random.choice(["tinyvgg", "cnn"]),
            compile=switch,
            deterministic=not switch,
            epochs=random.randint(1, 9),
            lr=random.random() + 0.001,
            batch_size=random.randint(1, 99),
            seed=random.randint(0, 999),
        )
        arguments = to_arguments(config)
        if not isinstance(arguments, list):
            raise Wrong(
                f"you returned {textwrap.shorten(repr(arguments), 60)}",
                "a list of strings is asked for",
            )
        for argument in arguments:
            if not isinstance(argument, str):
                raise Wrong(
                    f"{argument!r} in your list is no string",
                    "a list of strings is asked for, numbers as text too",
                )
        message = io.StringIO()
        try:
            with contextlib.redirect_stderr(message):
                found = vars(build_parser().parse_args(["train", *arguments]))
        except SystemExit:
            told = textwrap.shorten(message.getvalue(), 90, placeholder=" ...")
            told = told.removeprefix("error: ")
            # A value of a switch is named there without its option:
            named = told.rpartition("arguments: ")[2].split()[0]
            if named in arguments and not named.startswith("--"):
                place = arguments.index(named)
                told += f" (at {' '.join(arguments[place - 1 : place + 1])!r})"
            raise Wrong(
                f"the command says: {told}",
                "compare with the options that --help shows, dashes and switches",
            ) from None
        given = {name: value for name, value in found.items() if name in options}
        missing = sorted(options - given.keys())
        if missing:
            names = ", ".join(missing[:3]) + " ..." * (len(missing) > 3)
            raise Wrong(
                f"your arguments leave out {names}",
                "every field, also one that has its default value",
            )
        wrong = {
            name: (value, getattr(config, name))
            for name, value in given.items()
            if value != getattr(config, name)
        }
        if wrong:
            name, (value, asked) = wrong.popitem()
            raise Wrong(
                f"your arguments give {name} = {value!r}, asked for was {asked!r}",
                "dashes belong to the option's name, not to its value",
            )


@exercise("05.6", "A test that catches")
def check_test_accuracy(test_accuracy):
    def right(logits, labels):
        return (logits.argmax(dim=1) == labels).float().mean()

    mutants = {
        "always says 1": lambda logits, labels: torch.tensor(1.0),
        "always says 0": lambda logits, labels: torch.tensor(0.0),
        "looks at the first class only": lambda logits, labels: (
            (labels == 0).float().mean()
        ),
        "counts instead of averaging": lambda logits, labels: (
            (logits.argmax(dim=1) == labels).float().sum()
        ),
        "takes the smallest logit": lambda logits, labels: (
            (logits.argmin(dim=1) == labels).float().mean()
        ),
        "returns the share of mistakes": lambda logits, labels: (
            (logits.argmax(dim=1) != labels).float().mean()
        ),
    }
    try:
        test_accuracy(right)
    except AssertionError as error:
        raise Wrong(
            f"your test fails on the right function {error}".rstrip(),
            "count once more by hand, and compare floats with a margin",
        ) from None
    except Exception as error:
        raise Wrong(
            f"on the right function your test raised {type(error).__name__}: {error}",
            "a test fails through an assert; logits are (B, K), labels (B,) int64",
        ) from None
    for name, mutant in mutants.items():
        try:
            test_accuracy(mutant)
        except AssertionError:
            continue
        except Exception as error:
            raise Wrong(
                f"where a function {name}, your test raised {type(error).__name__}",
                "a test says that something is wrong with an assert",
            ) from None
        raise Wrong(
            f"a function that {name} passes your test",
            "add a case in which it would give another number than the right one",
        )


@capstone("05", "A script that survives three kills")
def check_survivor(script):
    script = Path(script)
    if not script.is_file():
        raise Wrong(f"there is no file {script}", "write it with %%writefile first")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        data = Path(place) / "data"
        draw_pictures(data)
        epochs = 5
        options = ["--data", data, "--epochs", str(epochs), "--out"]
        command = [sys.executable, script, *options]
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        lines = finish([*command, whole])
        if len(lines) < epochs:
            raise Wrong(
                f"a run of {epochs} epochs printed {len(lines)} lines",
                "one line after each epoch: print(..., flush=True)",
            )
        for _ in range(3):
            with subprocess.Popen(
                [*command, killed], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                process.stdout.readline()  # an epoch is finished, the next one begins
                time.sleep(random.random() / 50)
                process.kill()
        lines = finish([*command, killed])
        if len(lines) > epochs - 3:
            raise Wrong(
                f"after three kills, each behind an epoch, it trained {len(lines)} of "
                f"{epochs} epochs again",
                "at its start, look for the checkpoint in --out and go on from there; "
                "print after the checkpoint is written",
            )
        weights, others = (
            torch.load(out / "model.pt", weights_only=True) for out in (whole, killed)
        )
    if not any(value.numel() > 9 for value in weights.values()):
        raise Wrong("model.pt holds no weights", "the state dict of the network")
    if weights.keys() != others.keys():
        raise Wrong("the two files hold other parts", "the same network both times")
    differences = {
        name: (weights[name].double() - others[name].double()).abs().max().item()
        for name in weights
    }
    worst = max(differences, key=lambda name: differences[name])
    if differences[worst]:
        raise Wrong(
            f"to beat: a difference of 0; {worst} differs by {differences[worst]:.2g}",
            "model, optimizer, schedule, random state: which of them is not kept?",
        )
    return "Three kills, and a difference of 0 (to beat: 0)."


def draw_pictures(folder):
    """Write 2 classes of 60 small pictures: bright above, or bright below."""
    for name in ("above", "below"):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            pixels = torch.randint(0, 160, (24, 24, 3), dtype=torch.uint8)
            half = slice(0, 12) if name == "above" else slice(12, 24)
            pixels[half] += random.randint(20, 90)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")


def finish(command):
    """Run a command to its end; return the lines that it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False
    )
    out = Path(command[-1])
    if done.returncode or not (out / "model.pt").exists():
        told = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise Wrong(
            f"it ended with status {done.returncode} and said: {told[0]}"
            + ("" if done.returncode else f"; there is no {out.name}/model.pt"),
            "run it by hand with --data, --epochs and --out",
        )
    return done.stdout.splitlines()
