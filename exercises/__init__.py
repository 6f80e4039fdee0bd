"""Answer checks for the exercises of the course.

``check("03.2", answer)`` tells a learner whether an answer holds, ``challenge("03",
answer)`` which score it reaches and which it has to beat; ``progress()`` shows what is
solved. The checks of notebook 03 stand in ``checks_03.py`` and draw fresh random inputs
on every call, so a remembered number does not pass.
"""

import importlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

STATE_FILE = Path(__file__).parent.parent / ".progress.json"
_exercises: dict[str, tuple[str, Callable]] = {}


class Wrong(Exception):
    """Raised by a check: an answer does not hold.

    Args:
        what: what is wrong with the answer.
        hint: what to think of next; it does not give the answer away.
    """

    def __init__(self, what: str, hint: str):
        super().__init__(what)
        self.what, self.hint = what, hint


class Calls(TorchFunctionMode):
    """Counts by name the functions of torch that run inside, ``backward`` too."""

    def __init__(self):
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names[getattr(func, "__name__", str(func))] += 1
        return func(*args, **(kwargs or {}))


def call(function: Callable, *inputs: object, hint: str = "") -> Any:
    """Call an answer on copies of ``inputs``, which it must leave as they are.

    Args:
        function: the answer.
        inputs: tensors, lists of tensors, or anything else, which is not copied.
        hint: if given, an error of the answer becomes ``Wrong`` with it.
    """
    copies = [_copy(item) for item in inputs]
    try:
        answer = function(*copies)
    except Wrong:
        raise
    except Exception as error:  # the learner's own code may raise anything
        if not hint:
            raise
        tensors = [item for item in inputs if isinstance(item, torch.Tensor)]
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
        given = f" for inputs of shape {shapes}" if shapes else ""
        first_line = (str(error).splitlines() or [""])[0]
        raise Wrong(
            f"your function raised {type(error).__name__}{given}: {first_line}", hint
        ) from None
    for place, (copy, item) in enumerate(zip(copies, inputs, strict=True), 1):
        require_untouched(copy, item, f"argument {place}")
    if answer is None:
        raise Wrong(
            "your function returned None", "does its last line begin with `return`?"
        )
    return answer


def _copy(item: object) -> Any:
    if isinstance(item, list):
        return [_copy(part) for part in item]
    return item.clone() if isinstance(item, torch.Tensor) else item


def require_untouched(copy: Any, item: object, name: str = "") -> None:
    """Raise ``Wrong`` if an answer changed what belongs to its caller.

    Args:
        copy: what the answer was given: a tensor, or a list or a dictionary of them.
        item: the same, as it was before.
        name: of the argument; a dictionary's entries are called by their keys.
    """
    if isinstance(item, dict):
        for key, old in item.items():
            require_untouched(copy[key], old, f"the {key}")
    elif isinstance(item, list):
        if len(copy) != len(item):
            raise Wrong(
                f"{name}, a list of {len(item)}, has {len(copy)} items after your call",
                "make a list or tensor of your own; the caller needs the old one.",
            )
        for number, (part, old) in enumerate(zip(copy, item, strict=True)):
            require_untouched(part, old, f"item {number} of {name}")
    elif isinstance(item, torch.Tensor):
        if copy.requires_grad and not item.requires_grad:
            raise Wrong(
                f"{name} still requires its gradient after your call",
                "it belongs to the caller: take a .detach().clone() of it first.",
            )
        if copy.shape != item.shape or not torch.equal(copy, item):
            raise Wrong(
                f"your function overwrote {name}, which its caller still needs",
                "`a -= b`, `a[...] = b` and names ending in _ change a itself.",
            )


def exercise(number: str, title: str) -> Callable:
    """Register the decorated function as the check of an exercise.

    Args:
        number: the exercise, such as "03.2".
        title: what it is called when it is solved.

    Returns:
        The decorator; what it decorates returns quietly or raises ``Wrong``.
    """

    def register(function: Callable) -> Callable:
        _exercises[number] = (title, function)
        return function

    return register


def capstone(number: str, title: str) -> Callable:
    """Register the decorated function as the check of a notebook's challenge.

    Args:
        number: the notebook, such as "03".
        title: what it is called when it is solved.

    Returns:
        The decorator; what it decorates returns a message with the score that was
        reached and the score to beat, or raises ``Wrong`` with both.
    """
    return exercise(f"{number}.challenge", title)


def check(number: str, answer: object) -> None:
    """Print whether an answer solves an exercise, and remember it for ``progress()``.

    Args:
        number: the exercise, such as "03.2".
        answer: what the exercise asks for, often a function.

    Raises:
        ValueError: if there is no such exercise; the message names those there are.
    """
    status, message = grade(number, answer)
    print(f"{number.replace('.challenge', ' challenge')} · {message}")
    if status != "not attempted":
        _remember(number, solved=status == "solved")


def challenge(number: str, answer: object) -> None:
    """Print the score of an answer to a notebook's challenge, and remember it.

    Args:
        number: the notebook, such as "03".
        answer: what the challenge asks for.

    Raises:
        ValueError: if the notebook has no challenge.
    """
    check(f"{number}.challenge", answer)


def grade(number: str, answer: object) -> tuple[str, str]:
    """Return how an answer does, without printing or remembering it.

    Random states are left as they were found.

    Args:
        number: the exercise, such as "03.2", or the challenge, "03.challenge".
        answer: what the exercise asks for, often a function.

    Returns:
        "solved", "wrong" or "not attempted", and a message.

    Raises:
        ValueError: as ``check``.
    """
    title, verify = _find(number)
    if not attempted(answer):
        return "not attempted", "not attempted yet"
    with torch.random.fork_rng(devices=[]):
        torch.seed()
        try:
            score = verify(answer)
        except Wrong as wrong:
            return "wrong", f"not yet: {wrong.what}\n  Hint: {wrong.hint}"
        except Exception as error:  # the learner's own code may raise anything
            return "wrong", (
                f"not yet: your answer raised {type(error).__name__}: {error}\n"
                "  Hint: call it by hand on a small example, and print the shapes on "
                "the way."
            )
    return "solved", f"right! {title} is solved." + (f" {score}" if score else "")


def attempted(answer: object) -> bool:
    """Tell whether there is an answer at all.

    ``...``, and a function or class whose bodies are all ``...``, are none.
    """
    if isinstance(answer, tuple | list):
        return all(attempted(part) for part in answer)
    if isinstance(answer, type):
        methods = [
            value for value in vars(answer).values() if isinstance(value, FunctionType)
        ]
        return not methods or any(map(attempted, methods))
    if isinstance(answer, FunctionType):
        stubs = {_code_of(body) for body in ("...", "'''doc'''\n    ...")}
        code = answer.__code__  # `return 0` runs as a stub with a docstring does
        others = {*code.co_consts} - {None, ..., answer.__doc__}
        return code.co_code not in stubs or bool(others)
    return answer is not ...


def _code_of(body: str) -> bytes:
    namespace: dict = {}
    exec(f"def stub():\n    {body}\n", namespace)
    return namespace["stub"].__code__.co_code


def progress() -> None:
    """Print which exercises are solved, in every notebook with one that was tried."""
    state = _read_state()
    tried = {number[:2] for number in state}
    for path in sorted(Path(__file__).parent.glob("checks_*.py")):
        if path.stem[-2:] in tried:  # others may need what is not installed
            importlib.import_module(f"exercises.{path.stem}")
    begun = tried & {number[:2] for number in _exercises}
    if not begun:
        print("Nothing is solved yet. check and challenge remember what you solve.")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    can_tick = "✓".encode(encoding, "replace") != b"?"  # a Windows pipe cannot
    yes, no = "✓·" if can_tick else "x-"
    for notebook in sorted(begun):
        numbers = sorted(number for number in _exercises if number[:2] == notebook)
        marks = "  ".join(
            f"{yes if state.get(number) else no} {number.replace('.ch', ' ch')}"
            for number in numbers
        )
        solved = sum(bool(state.get(number)) for number in numbers)
        print(f"{solved} of {len(numbers)} in notebook {notebook}:  {marks}")


def _find(number: str) -> tuple[str, Callable]:
    path = Path(__file__).parent / f"checks_{number[:2]}.py"
    if re.fullmatch(r"\d\d\.(\d|challenge)", number) and path.exists():
        importlib.import_module(f"exercises.{path.stem}")
    if number not in _exercises:
        known = sorted(other for other in _exercises if other[:2] == number[:2])
        raise ValueError(
            f"there is no exercise {number!r}; the ones known in this notebook: "
            f"{', '.join(known) or 'none'}"
        )
    return _exercises[number]


def _state_file() -> Path:
    """Return where results are kept.

    The environment variable COURSE_PROGRESS names another file, or a folder for it: on
    Colab one of your Drive, which stays when the machine goes.
    """
    chosen = os.environ.get("COURSE_PROGRESS")
    path = Path(chosen) if chosen else STATE_FILE
    return path / ".progress.json" if path.is_dir() else path


def _read_state() -> dict[str, bool]:
    try:
        state = json.loads(_state_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no file yet, or one that was damaged: begin anew
        return {}
    return state if isinstance(state, dict) else {}


def _remember(number: str, solved: bool) -> None:
    from filelock import FileLock  # here: exercises imports quickly

    from going_modular.checkpoints import whole_file

    path = _state_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another notebook may be reading the file to change it as well.
        with FileLock(f"{path}.lock", timeout=10):
            state = _read_state()
            state[number] = solved or bool(state.get(number))  # solved stays solved
            with whole_file(path) as file:
                file.write(json.dumps(state, indent=1, sort_keys=True).encode())
    except OSError as error:  # a read-only folder must not stop the lesson
        print(f"  (not remembered: {error})")


def timed(train: Callable, *tensors: torch.Tensor) -> tuple[Any, float]:
    """Return what a training gives, and the seconds that the processor worked.

    Args:
        train: called with copies of the tensors.
        tensors: most often images and labels.
    """
    start = time.process_time()
    model = train(*(tensor.clone() for tensor in tensors))
    return model, time.process_time() - start


def small_network(model: object, limit: int, hint: str) -> int:
    """Return the number of parameters of what a training gave.

    Args:
        model: the answer's result.
        limit: parameters at most.
        hint: for a network that is too large.

    Raises:
        Wrong: if it is no network, or too large.
    """
    if not isinstance(model, torch.nn.Module):
        raise Wrong(
            f"your function returned {type(model).__name__}",
            hint="return the trained network, an nn.Module.",
        )
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > limit:
        raise Wrong(
            f"your network has {size:,} parameters, allowed are {limit:,}", hint
        )
    return size


def ten_logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return a network's logits (N, 10), in evaluation mode and on the CPU.

    Args:
        model: the network.
        images: (N, 1, 28, 28), N a multiple of 500.

    Raises:
        Wrong: if it gives something else.
    """
    model = model.cpu().eval()
    with torch.inference_mode():
        logits: Any = [model(part) for part in images.split(500)]
    shape = tuple(logits[0].shape) if isinstance(logits[0], torch.Tensor) else None
    if shape != (500, 10):
        raise Wrong(
            f"for 500 pictures your network gives {shape or type(logits[0]).__name__}",
            hint="one logit for each of the ten classes: (B, 1, 28, 28) -> (B, 10).",
        )
    return torch.cat(logits)


__all__ = [
    "Calls",
    "Wrong",
    "call",
    "capstone",
    "challenge",
    "check",
    "exercise",
    "grade",
    "progress",
    "require_untouched",
    "small_network",
    "ten_logits",
    "timed",
]
