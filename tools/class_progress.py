"""Show what a class has solved, in one table.

    python tools/class_progress.py homework --csv class.csv

A file is a learner's .progress.json, under any name. A folder with such a file is a
learner's; any other holds a file or a folder for each learner. What cannot be read is
named and left out. Exit status 1: something was left out; 2: no table.
"""

import argparse
import csv
import io
import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = ".progress.json"
CHECK = re.compile(r'^@(exercise|capstone)\("([\d.]+)"', re.MULTILINE)
States = dict[str, dict[str, bool]]  # learner -> exercise -> is it solved?


def exercises(root: Path = ROOT) -> list[str]:
    """Return the numbers of all exercises and challenges, such as "00.challenge"."""
    texts = [p.read_text("utf-8") for p in (root / "exercises").glob("checks_*.py")]
    found = [match for text in texts for match in CHECK.findall(text)]
    return sorted(n + ".challenge" * (kind == "capstone") for kind, n in found)


def learners(path: Path) -> dict[Path, list[Path]]:
    """Return each learner in ``path``, with the progress files that belong to them."""
    if not path.is_dir() or (path / NAME).is_file():
        return {path: [path / NAME if path.is_dir() else path]}
    found = {}
    for item in sorted(path.iterdir()):
        if item.is_dir() and not item.name.startswith("."):
            files = [sorted(item.glob(p)) for p in (NAME, "*.json", f"*/{NAME}")]
            found[item] = next(filter(None, files), [])
        elif item.suffix == ".json":
            found[item] = [item]
    return found


def read(path: Path) -> dict[str, bool]:
    """Return which exercises were tried, and whether they are solved."""
    state = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(state, dict) or {*map(type, state.values())} - {bool}:
        raise ValueError("no progress file: exercises with true or false")
    return state


def collect(paths: list[Path]) -> tuple[States, list[str]]:
    """Return what each learner has tried, and what could not be read."""
    states, faults = {}, []
    for place, files in [pair for path in paths for pair in learners(path).items()]:
        whole = place.resolve().parent if place.name == NAME else place.resolve()
        name = whole.name.removesuffix(".json")
        name = str(place) if name in states else name
        faults += [] if files else [f"{place}: no {NAME} in it"]
        for file in files:
            try:
                state = read(file)
            except (OSError, ValueError) as error:
                faults.append(f"{file}: {getattr(error, 'strerror', None) or error}")
                continue
            mine = states.setdefault(name, {})
            for number, solved in state.items():
                mine[number] = solved or mine.get(number, False)
    return states, faults


def table(states: States, numbers: list[str]) -> list[list]:
    """Return a header, a row of counts for each learner, and the class's shares."""
    sizes = Counter(number[:2] for number in numbers)
    rows: list[list] = [["learner", *(f"{k} of {size}" for k, size in sizes.items())]]
    for name, state in states.items():
        solved = Counter(number[:2] for number in numbers if state.get(number))
        rows.append([name, *(solved[lesson] for lesson in sizes)])
    sums = [sum(column) for column in list(zip(*rows[1:], strict=True))[1:]]
    shares = [n / len(states) / m for n, m in zip(sums, sizes.values(), strict=True)]
    return [*rows, ["the class", *(f"{share:.2f}" for share in shares)]]


def hardest(states: States, numbers: list[str]) -> str:
    """Name the three exercises that fewest have solved, of lessons that are begun."""
    begun = {number[:2] for state in states.values() for number in state}
    ours = [n for n in numbers if n[:2] in begun and not n.endswith("challenge")]
    solved = {n: sum(state.get(n, False) for state in states.values()) for n in ours}
    three = sorted(ours, key=lambda number: (solved[number], number))[:3]
    return ", ".join(f"{n} ({solved[n]} of {len(states)})" for n in three) or "none"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="progress files or folders")
    parser.add_argument("--csv", type=Path, help="write the table here, to a new file")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may be none of its encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        states, faults = collect(options.paths)
        for fault in faults:
            print(f"left out: {fault}", file=sys.stderr)
        if not states:
            raise FileNotFoundError("no learner's progress was found; see --help")
        header, *rows = table(states, numbers := exercises())
        if options.csv:
            with options.csv.open("x", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([header, *rows])
    except OSError as error:
        return print(f"error: {error}", file=sys.stderr) or 2
    for row in [header, ["---"] * len(header), *rows]:
        print("|", " | ".join(str(cell).replace("|", r"\|") for cell in row), "|")
    print("\nFewest have solved:", hardest(states, numbers))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
