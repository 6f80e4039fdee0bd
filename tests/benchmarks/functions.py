"""Count the library's functions that one epoch, and one prediction, pass through.

    python tests/benchmarks/functions.py

Each is done by the command, in this process, on pictures drawn for it; a function
counts once, however often it is called. Comprehensions are part of their function.
"""

import contextlib
import io
import sys
import tempfile
import threading
from collections.abc import Callable
from inspect import CO_OPTIMIZED
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.folders import write_pictures

PACKAGE = Path(__file__).resolve().parents[2] / "going_modular"
PARTS_OF_OTHERS = {"<module>", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}


def functions_passed(action: Callable[[], object]) -> dict[str, list[str]]:
    """Return {module: names of its functions that ``action`` calls}."""
    passed: dict[str, set[str]] = {}

    def see(frame, event, argument):
        code = frame.f_code  # of a function: a class body has other flags
        path = Path(code.co_filename)
        own = code.co_flags & CO_OPTIMIZED and code.co_name not in PARTS_OF_OTHERS
        if event == "call" and path.parent == PACKAGE and own:
            passed.setdefault(path.stem, set()).add(code.co_qualname)

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        action()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {module: sorted(passed[module]) for module in sorted(passed)}


def count_both(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return what an epoch of TinyVGG and a prediction pass through.

    Args:
        folder: an empty one, for pictures and results.
    """
    from going_modular.__main__ import main

    data = write_pictures(folder / "data", ("a", "b"), {"train": 8, "valid": 4})
    picture, out = data / "valid" / "a" / "0.png", folder / "out"
    options = ["--model", "tinyvgg", "--epochs", "1", "--image-size", "16"]
    commands = {
        "epoch": ["train", "--data", str(data), "--out", str(out), *options],
        "prediction": ["predict", str(out), str(picture)],
    }
    found = {}
    for name, arguments in commands.items():
        with contextlib.redirect_stdout(io.StringIO()):
            found[name] = functions_passed(lambda: main(arguments))  # noqa: B023
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for name, modules in count_both(Path(temporary)).items():
            total = sum(map(len, modules.values()))
            print(f"{name}: {total} functions in {len(modules)} modules")
            for module, functions in modules.items():
                print(f"    {module}: {', '.join(functions)}")
