"""The script for a machine with a GPU, on this one."""

import json
import subprocess
import sys

import pytest

from tests import gpu


def run_cells(*cells, must_raise=()):
    """Execute cells as the script does; return what it reported."""
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "source": [source],
                "metadata": {"tags": ["raises-exception"] if k in must_raise else []},
            }
            for k, source in enumerate(cells)
        ]
    }
    return notebook


@pytest.fixture
def report(tmp_path):
    """Return a function: cells -> [(cell, kind, message)], in a fresh process."""

    def run(*cells, must_raise=()):
        path = tmp_path / "made_up.ipynb"
        path.write_text(json.dumps(run_cells(*cells, must_raise=must_raise)))
        row = gpu.run_notebook(path, tmp_path, 1, gpu.time.perf_counter() + 60)
        kinds = "failed", "left out"
        return [(cell, kind, text) for kind in kinds for cell, text in row[kind]]

    return run


def test_a_notebook_that_runs_to_its_end_has_nothing_to_tell(report):
    cells = (
        "import pickle\nclass A:\n    x = 1",
        "assert pickle.loads(pickle.dumps(A)).x",
    )
    assert report(*cells, "0 / 0", "print(A.x)", must_raise=[2]) == []


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["x = 1", "assert x == 2", "y = 3"], [(1, "failed", "AssertionError")]),
        (
            ["import not_there as n\nx = 1", "n.run()", "y = n.x", "print(y)", "x + 1"],
            [(k, "left out", "needs not_there") for k in range(4)],
        ),
        (
            ["x = [][0]", "y = x + 1", "print(y)"],
            [
                (0, "failed", "IndexError"),
                (1, "left out", "follows cell 0, which failed"),
                (2, "left out", "follows cell 0, which failed"),
            ],
        ),
        (["raise SystemExit(3)"], [(0, "failed", "SystemExit: 3")]),
        (["import os", "os._exit(7)"], [("1", "failed", "it ended with status 7")]),
    ],
)
def test_what_does_not_run_is_told_with_its_reason(report, cells, wanted):
    found = report(*cells)
    assert len(found) == len(wanted)
    for told, (cell, kind, text) in zip(found, wanted, strict=True):
        assert told[:2] == (cell, kind) and text in told[2]


def test_an_exception_that_does_not_come_is_a_failure(report):
    ((cell, kind, text),) = report("x = 1", "x", must_raise=[1])
    assert (cell, kind) == (1, "failed") and "did not" in text


def test_a_notebook_is_stopped_when_time_is_up(tmp_path):
    path = tmp_path / "slow.ipynb"
    path.write_text(json.dumps(run_cells("import time\ntime.sleep(60)")))
    row = gpu.run_notebook(path, tmp_path, 1, gpu.time.perf_counter() + 1)
    assert row["seconds"] < 30 and "time was up" in row["failed"][0][1]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("nothing", []),
        ("so:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", [{"a": "1", "b": 2.0}]),
        (
            "| | x |\n|---|---|\n| r | |\n\nthen\n| y | z |\n|---|---|\n| 5 | 1,200 |",
            [{"name": "r", "x": ""}, {"y": "5", "z": 1200.0}],
        ),
        (
            "| | a | b |\n|---|---|---|\n| r | 0.98 (0.9 to 1.1) | 5 of 6 |",
            [{"name": "r", "a": 0.98, "b": "5 of 6"}],
        ),
    ],
)
def test_tables_are_read_back(text, rows):
    assert gpu.read_table(text) == rows


def test_all_of_it_in_small_on_a_cpu(root, tmp_path):
    path = tmp_path / "gpu.json"
    command = [sys.executable, str(root / "tests" / "gpu.py"), "--cpu", "--json", path]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in gpu.PARTS:
        assert f"({part}: " in done.stdout
    assert "- 00_tensors: " in done.stdout and "equal in every bit" in done.stdout
    found = json.loads(path.read_text())
    assert found["date"] in done.stdout and len(found["determinism"]) == 3
    assert all(row["engine"] > 0 for row in found["small"])
