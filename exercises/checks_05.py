"""Checks of notebook 05 · Going modular."""

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
            "only a cell's first line decides: it begins with '#| export ', bar "
            "included, and the module is the word after that",
        )
    for name, text in expected.items():
        if got[name] != text:
            raise Wrong(
                f"the text of {name} is {got[name]!r}",
                f"expected {text!r}: without the first line, and nothing else "
                "taken away; the cells in order, joined by two newlines",
            )


def refuse_careless(reading):
    """Raise Wrong if the spied torch.load was ever called with weights_only=False."""
    if any(call.kwargs.get("weights_only") is False for call in reading.mock_calls):
        raise Wrong(
            "you read with weights_only=False, which runs whatever code a file holds",
            "torch.load(path, weights_only=True)",
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
        saved = copied(model.state_dict())
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
        refuse_careless(reading)
        if got != epoch:
            raise Wrong(
                f"saved in epoch {epoch}, but load returned {str(got)[:60]}",
                "keep the epoch in the file, and return it",
            )
        loaded = other.state_dict()
        for name, tensor in saved.items():
            if not torch.equal(loaded[name], tensor):
                raise Wrong(
                    f"in the loaded model {name} is not what it was in the saved one",
                    "model.state_dict() has all of it, load_state_dict puts it back",
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


def small_state():
    """Return the state dict of a new network with a batch norm, and one NaN in it."""
    layers = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
    state = nn.Sequential(*layers).state_dict()
    state["1.running_mean"][1] = float("nan")
    state["2.bias"][:] = torch.arange(2.0)
    return state


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


@exercise("05.4", "What has changed?")
def check_changed(changed):
    state = small_state()
    name = random.choice(["0.weight", "1.running_var", "2.weight"])
    tiny, early, sign, counted, other_nan = (copied(state) for _ in range(5))
    tiny[name].view(-1)[-1] += 1e-6
    early["0.bias"][0] += 1.0
    early["2.bias"] = state["2.bias"].flip(0)  # its sum stays
    sign["2.weight"] *= -1
    counted["1.num_batches_tracked"] += 1
    other_nan["1.running_mean"][2] = float("nan")
    flat = copied(state) | {"0.weight": state["0.weight"].reshape(-1)}
    short = copied(state) | {"2.bias": state["2.bias"][:1]}
    row = copied(state) | {"2.bias": state["2.bias"].repeat(2, 1)}
    wide = copied(state) | {name: state[name].double()}
    less = copied(state)
    del less["2.bias"]
    more = copied(state) | {"3.weight": torch.ones(1), "0.extra": torch.ones(2)}
    for other, expected, case in (
        (copied(state), [], "two equal state dicts, a NaN at the same place in both,"),
        (dict(reversed(state.items())), [], "the same tensors in another order"),
        (tiny, [name], f"one number of {name} is larger by 0.000001: this"),
        (early, ["0.bias", "2.bias"], "two tensors with other numbers"),
        (sign, ["2.weight"], "a tensor with all its signs turned"),
        (counted, ["1.num_batches_tracked"], "a count that is larger by 1"),
        (other_nan, ["1.running_mean"], "a NaN where the other has a number"),
        (flat, ["0.weight"], "the same numbers in another shape"),
        (short, ["2.bias"], "a shorter tensor"),
        (row, ["2.bias"], "a tensor with one more axis, whose rows are the other's,"),
        (wide, [name], f"{name} as float64"),
        (less, ["2.bias"], "a state dict without 2.bias"),
        (more, ["0.extra", "3.weight"], "a state dict with two more names"),
    ):
        for first, second in ((state, other), (other, state)):
            kept = copied(first), copied(second)
            try:
                got = changed(first, second)
            except Exception as error:
                raise Wrong(
                    f"{case} ended in {type(error).__name__}: {str(error)[:70]}",
                    "look at names, shapes and dtypes before you compare numbers; "
                    "`.all()` or `.any()` makes one truth of many",
                ) from None
            if got != expected:
                raise Wrong(
                    f"{case} gave {textwrap.shorten(repr(got), 80)}, "
                    f"expected {expected}",
                    "a sorted list of names; NaN is the one number that is not equal "
                    "to itself",
                )
            for before, after in zip(kept, (first, second), strict=True):
                if list(before) != list(after) or not all(
                    torch.equal(before[key].nan_to_num(), after[key].nan_to_num())
                    for key in before
                ):
                    raise Wrong(
                        "your function changed a state dict that it was given",
                        "a state dict shares its numbers with the model: only read",
                    )


@exercise("05.5", "The mean of weights")
def check_average(average):
    for count in (2, 3, 5):
        states = [small_state() for _ in range(count)]
        for number, state in enumerate(states):
            state["1.running_mean"] = torch.randn(4)
            state["1.num_batches_tracked"] += random.randint(1, 9) + 10 * (-1) ** number
            state["2.weight"] = torch.randn(2, 4, dtype=torch.float64)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"epoch_{k}.pt" for k in range(count)]
            for path, state in zip(paths, states, strict=True):
                torch.save(state, path)
            with mock.patch.object(torch, "load", wraps=torch.load) as reading:
                got = average(paths)
            for path, state in zip(paths, states, strict=True):
                kept = torch.load(path, weights_only=True)
                if not all(torch.equal(kept[name], state[name]) for name in state):
                    raise Wrong(f"{path.name} holds other numbers now", "only read")
        refuse_careless(reading)
        if not isinstance(got, dict) or got.keys() != states[0].keys():
            raise Wrong(
                f"you returned {textwrap.shorten(repr(got), 60)}",
                "a dictionary with the names of the state dicts is asked for",
            )
        for name, tensor in got.items():
            values = [state[name] for state in states]
            last = values[-1]
            if not isinstance(tensor, torch.Tensor) or tensor.shape != last.shape:
                raise Wrong(
                    f"{name} is {textwrap.shorten(repr(tensor), 60)}",
                    f"a tensor of the shape {tuple(last.shape)} is asked for",
                )
            if tensor.dtype != last.dtype:
                raise Wrong(
                    f"{name} became {tensor.dtype}, in the files it is {last.dtype}",
                    "average what is_floating_point(), in its own dtype; take counts "
                    "as they are",
                )
            if not last.is_floating_point():
                if not torch.equal(tensor, last):
                    raise Wrong(
                        f"{name} is {tensor.item()}, in the files in order "
                        f"{[value.item() for value in values]}",
                        "a count is not averaged: take that of the last path",
                    )
                continue
            mean = torch.stack(values).mean(dim=0)
            if not torch.allclose(tensor, mean, atol=1e-5):
                raise Wrong(
                    f"of {count} files, {name} begins with "
                    f"{tensor.flatten()[0].item():.4f}; its mean is "
                    f"{mean.flatten()[0].item():.4f}",
                    "add up all files, then divide by how many there are",
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
        if len(lines) != epochs:
            raise Wrong(
                f"a run of {epochs} epochs printed {len(lines)} lines",
                "one line after each epoch, and no other: print(..., flush=True)",
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
    if not any(
        isinstance(value, torch.Tensor) and value.numel() > 9
        for value in weights.values()
    ):
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
            "does each run begin with the same torch.manual_seed? And model, "
            "optimizer, schedule, random state: which of them is not kept?",
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
