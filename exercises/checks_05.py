"""Checks of notebook 05 · Going modular."""

import contextlib
import dataclasses
import io
import json
import random

import torch

from exercises import Wrong, exercise


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
        f"#| export {names[1]}\nC = {number}",
        f"#| export {names[0]}\nD = a()\nE = D",
        "",
    ]
    expected = {
        names[0]: f"def a():\n    return {number}\n\nD = a()\nE = D",
        names[1]: f"C = {number}",
    }
    got = export_cells(list(sources))
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
                "without the directive's line; the cells in order, with one empty "
                "line between two",
            )


@exercise("05.3", "What did I change?")
def check_changed(changed):
    @dataclasses.dataclass(frozen=True)
    class Settings:
        lr: float
        epochs: int
        name: str
        flip: bool

    Settings.__qualname__ = "Settings"  # shown to the learner
    for _ in range(5):
        old = Settings(random.random(), random.randint(1, 9), "a", True)
        new = dataclasses.replace(
            old, epochs=old.epochs + random.randint(1, 5), flip=False
        )
        for first, second in ((old, new), (new, old), (old, dataclasses.replace(old))):
            pairs = {
                name: (getattr(first, name), getattr(second, name))
                for name in ("lr", "epochs", "name", "flip")
            }
            expected = {
                name: pair for name, pair in pairs.items() if pair[0] != pair[1]
            }
            got = changed(first, second)
            if not isinstance(got, dict):
                raise Wrong(
                    f"you returned a {type(got).__name__}",
                    "a dictionary from name to a pair is asked for",
                )
            if got.keys() != expected.keys():
                raise Wrong(
                    f"of {first} and {second} you name {sorted(map(str, got))}",
                    "those fields, and only those, whose two values differ",
                )
            if got != expected:
                raise Wrong(
                    f"you returned {got} for {first} and {second}",
                    "a tuple: the old value, then the new one",
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
        got = read_log(text)
        if got != expected:
            count = len(got) if isinstance(got, list) else type(got).__name__
            raise Wrong(
                f"{case} gave {count}, expected a list of {len(expected)}",
                "what ends a finished line?",
            )
    broken = "\n".join([lines[0], lines[1][:6], *lines[2:]]) + "\n"
    try:
        read_log(broken)
    except ValueError:
        return
    raise Wrong(
        "a broken line in the middle was passed over",
        "only the unfinished last line may be left out",
    )


@exercise("05.5", "A config as arguments")
def check_to_arguments(to_arguments):
    from going_modular.__main__ import build_parser
    from going_modular.config import Config

    options = {field.name for field in dataclasses.fields(Config)} - {"channels"}
    for switch in (True, False):
        config = Config(
            data="data/my pictures",
            model=random.choice(["tinyvgg", "cnn"]),
            compile=switch,
            deterministic=not switch,
            epochs=random.randint(1, 9),
            lr=random.random() + 0.001,
            batch_size=random.randint(1, 99),
            seed=random.randint(0, 999),
        )
        arguments = to_arguments(config)
        if not isinstance(arguments, list) or not all(
            isinstance(argument, str) for argument in arguments
        ):
            raise Wrong(
                f"you returned {arguments!r}",
                "a list of strings is asked for, numbers as text too",
            )
        message = io.StringIO()
        try:
            with contextlib.redirect_stderr(message):
                found = vars(build_parser().parse_args(["train", *arguments]))
        except SystemExit:
            raise Wrong(
                f"the command does not understand {arguments}: "
                f"{message.getvalue().strip()}",
                "compare with the options that --help shows, dashes and switches",
            ) from None
        given = {name: value for name, value in found.items() if name in options}
        missing = sorted(options - given.keys())
        if missing:
            raise Wrong(
                f"your arguments leave out {missing}",
                "every field, also one that has its default value",
            )
        if Config(**given) != config:
            raise Wrong(
                f"{arguments} gives {Config(**given)}", f"asked for was {config}"
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
    for name, mutant in mutants.items():
        try:
            test_accuracy(mutant)
        except AssertionError:
            continue
        raise Wrong(
            f"a function that {name} passes your test",
            "add a case in which it would give another number than the right one",
        )
