"""The budgets of the lessons: how much a learner meets before the workshop."""

import ast
import re
import statistics

import pytest

from tests.notebooks import PATHS, read, statements

EXPORT = re.compile(r"(#\|.*\n)*#\| *export")
CALLS = "train|train_step|train_epochs|run|tracked"
TRAINING = re.compile(rf"\.backward\(\)|(?<!def )(?<!\.)\b({CALLS})\(")
# What a lesson keeps only after its next edition, with its figure today: empty one day.
NOT_YET: dict[str, dict[str, float]] = {}


def lesson(path):
    """Return a notebook's cells before its workshop, and the number of its recap."""
    cells = read(path).cells

    def first(heading):
        return next(i for i, cell in enumerate(cells) if heading in f"\n{cell.source}")

    return cells[: first("\n## Workshop")], first("\n## Recap\n")


def code_lines(cell):
    """Return how many lines of code a cell has, comments and empty ones left out."""
    lines = [line.strip() for line in cell.source.splitlines()]
    return sum(bool(line) and line[0] != "#" for line in lines)


def is_picture(output):
    """Tell whether an output of a cell is a picture."""
    return bool({"image/png", "image/jpeg"} & output.get("data", {}).keys())


def figures(path):
    """Return how many figures of a notebook are stored."""
    outputs = [
        output for cell in read(path).cells for output in cell.get("outputs", [])
    ]
    return sum(map(is_picture, outputs))


def diagrams(path):
    """Return how many names a notebook imports from the package illustrations."""
    names = set()
    for cell in read(path).cells:
        for node in statements(cell):
            if isinstance(node, ast.ImportFrom) and "illustrations" in (
                node.module or ""
            ):
                names |= {alias.name for alias in node.names}
    return len(names)


def measures(path):
    """Return {budget: (figure, at least or at most, limit)} of a notebook."""
    number = path.stem[:2]
    cells, recap = lesson(path)
    code = [cell for cell in cells[:recap] if cell.cell_type == "code"]
    exported = [cell for cell in code if EXPORT.match(cell.source)]
    share = sum(map(code_lines, exported)) / sum(map(code_lines, code))
    shown = [any(map(is_picture, cell.get("outputs", []))) for cell in cells]
    trained = [
        cell.cell_type == "code" and bool(TRAINING.search(cell.source))
        for cell in cells
    ]
    lengths = [len(cell.source.splitlines()) for cell in code[1:]]
    columns = [
        [
            len(line)
            for cell in part
            if cell.cell_type == "code"
            for line in cell.source.splitlines()
        ]
        for part in (cells, read(path).cells)
    ]
    first = trained.index(True) / len(cells) if any(trained) else 1.0
    many = number in ("00", "01", "02", "03", "04", "06", "08")
    return {
        "exported share": (round(share, 2), "most", 0.3),
        "longest exported cell": (
            max([len(c.source.splitlines()) for c in exported], default=0),
            "most",
            30,
        ),
        "cells before the workshop": (
            len(cells),
            "most",
            130 if number == "10" else 110,
        ),
        "median code cell": (statistics.median(lengths), "most", 8),
        "90th percentile of code cells": (
            round(statistics.quantiles(lengths, n=10)[-1], 1),
            "most",
            20,
        ),
        "longest code cell": (max(lengths), "most", 40),
        "columns of the lesson": (max(columns[0]), "most", 77),  # a printed page's
        "columns": (max(columns[1]), "most", 88),
        "first picture": (shown.index(True) if any(shown) else len(cells), "most", 7),
        "first training": (round(first, 2), "most", 0.33),
        "figures": (figures(path), "least", 10 if many else 8),
        "diagrams": (diagrams(path), "least", 2),
    }


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_lesson_keeps_its_budgets_or_is_listed_with_its_figure(path):
    over = {
        name: figure
        for name, (figure, side, limit) in measures(path).items()
        if (figure > limit if side == "most" else figure < limit)
    }
    assert over == NOT_YET.get(path.stem[:2], {}), "mend the lesson, or the list"


def test_nothing_is_listed_that_is_no_lesson():
    assert NOT_YET.keys() <= {path.stem[:2] for path in PATHS}
