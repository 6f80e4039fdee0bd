"""Answer checks for the exercises of the course.

``check("03.2", answer)`` tells a learner whether an answer holds; ``progress()`` shows what is solved. The checks of
notebook 03 stand in ``checks_03.py`` and draw fresh random inputs on every call, so a remembered number does not pass.
"""

import importlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import torch

STATE_FILE = Path(os.environ.get("COURSE_PROGRESS", Path(__file__).parent.parent / ".progress.json"))
_exercises: dict[str, tuple[str, Callable]] = {}


class Wrong(Exception):
    """Raised by a check: ``what`` is wrong with the answer, and a ``hint`` that does not give the answer away."""

    def __init__(self, what: str, hint: str):
        super().__init__(what)
        self.what, self.hint = what, hint


def exercise(number: str, title: str) -> Callable:
    """Register the decorated function as the check of exercise ``number``: it returns quietly or raises ``Wrong``."""

    def register(function: Callable) -> Callable:
        _exercises[number] = (title, function)
        return function

    return register


def check(number: str, answer: object) -> None:
    """Print whether ``answer`` solves exercise ``number``, such as "03.2", and remember it for ``progress()``."""
    status, message = grade(number, answer)
    print(f"{number} · {message}")
    if status != "not attempted":
        _remember(number, solved=status == "solved")


def grade(number: str, answer: object) -> tuple[str, str]:
    """Return ("solved" | "wrong" | "not attempted", a message). Random states are left as they were found."""
    title, verify = _find(number)
    if not attempted(answer):
        return "not attempted", "not attempted yet"
    with torch.random.fork_rng(devices=[]):
        torch.seed()
        try:
            verify(answer)
        except Wrong as wrong:
            return "wrong", f"not yet: {wrong.what}\n  Hint: {wrong.hint}"
        except Exception as error:  # the learner's own code may raise anything
            return "wrong", (
                f"not yet: your answer raised {type(error).__name__}: {error}\n"
                "  Hint: call it by hand on a small example, and print the shapes on the way."
            )
    return "solved", f"right! {title} is solved."


def attempted(answer: object) -> bool:
    """Is there an answer at all? ``...``, and a function or class whose bodies are all ``...``, are none."""
    if isinstance(answer, tuple | list):
        return all(attempted(part) for part in answer)
    if isinstance(answer, type):
        methods = [value for value in vars(answer).values() if isinstance(value, FunctionType)]
        return not methods or any(map(attempted, methods))
    if isinstance(answer, FunctionType):
        stubs = {_code_of(body) for body in ("...", "'''doc'''\n    ...")}
        return answer.__code__.co_code not in stubs
    return answer is not ...


def _code_of(body: str) -> bytes:
    namespace: dict = {}
    exec(f"def stub():\n    {body}\n", namespace)
    return namespace["stub"].__code__.co_code


def progress() -> None:
    """Print, notebook by notebook, which exercises are solved."""
    for path in sorted(Path(__file__).parent.glob("checks_*.py")):
        importlib.import_module(f"exercises.{path.stem}")
    state = _read_state()
    for notebook in sorted({number[:2] for number in _exercises}):
        numbers = sorted(number for number in _exercises if number[:2] == notebook)
        marks = "  ".join(f"{'✓' if state.get(number) else '·'} {number}" for number in numbers)
        print(f"{sum(bool(state.get(n)) for n in numbers)} of {len(numbers)} in notebook {notebook}:  {marks}")


def _find(number: str) -> tuple[str, Callable]:
    module = f"checks_{number[:2]}"
    if re.fullmatch(r"\d\d\.\d", number) and (Path(__file__).parent / f"{module}.py").exists():
        importlib.import_module(f"exercises.{module}")
    if number not in _exercises:
        known = ", ".join(sorted(n for n in _exercises if n[:2] == number[:2])) or "none"
        raise ValueError(f"there is no exercise {number!r}; the ones known in this notebook: {known}")
    return _exercises[number]


def _read_state() -> dict[str, bool]:
    try:
        state = json.loads(STATE_FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no file yet, or one that was damaged: begin anew
        return {}
    return state if isinstance(state, dict) else {}


def _remember(number: str, solved: bool) -> None:
    """Write the state whole or not at all: to a temporary file that then takes the old one's place."""
    state = _read_state() | {number: solved}
    temporary = STATE_FILE.with_name(f"{STATE_FILE.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(state, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(temporary, STATE_FILE)
    except OSError as error:  # a read-only folder must not stop the lesson
        print(f"  (not remembered: {error})")


__all__ = ["Wrong", "check", "exercise", "grade", "progress"]
