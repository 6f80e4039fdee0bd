"""Learners' progress files become one table."""

import io
import json
import sys

import pytest

from tools import class_progress


@pytest.fixture
def homework(tmp_path):
    folder = tmp_path / "homework"
    (folder / "bob").mkdir(parents=True)
    (folder / "alice.json").write_text(json.dumps({"00.1": True, "00.2": False}))
    (folder / "bob" / ".progress.json").write_text(json.dumps({"00.1": True}))
    return folder


def test_a_row_a_learner_and_the_share_of_the_class(homework, capsys):
    assert class_progress.main([str(homework)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| learner | 00 of 7 | 01 of 7 |")
    assert [line.split(" | ")[:2] for line in lines[2:5]] == [
        ["| alice", "1"],
        ["| bob", "1"],
        ["| the class", "0.14"],
    ]
    assert lines[-1].endswith("00.2 (0 of 2), 00.3 (0 of 2), 00.4 (0 of 2)")


def test_what_cannot_be_read_is_named_and_left_out(homework, capsys):
    (homework / "carl.json").write_text("{")
    (homework / "dora").mkdir()
    assert class_progress.main([str(homework), str(homework / "eve.json")]) == 1
    printed = capsys.readouterr()
    assert all(name in printed.err for name in ("carl.json", "dora", "eve.json"))
    assert "| alice |" in printed.out and "carl" not in printed.out


def test_a_csv_file_is_not_overwritten(homework, tmp_path, capsys):
    path = tmp_path / "class.csv"
    assert class_progress.main([str(homework), "--csv", str(path)]) == 0
    assert path.read_text().splitlines()[1].startswith("alice,1,0,")
    path.write_text("mine")
    assert class_progress.main([str(homework), "--csv", str(path)]) == 2
    assert path.read_text() == "mine" and "class.csv" in capsys.readouterr().err


def test_an_empty_folder_is_an_error(tmp_path, capsys):
    assert class_progress.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no learner")


def test_a_name_that_the_output_cannot_spell_is_escaped(homework, monkeypatch):
    (homework / "狗.json").write_text(json.dumps({"00.1": True}))
    written = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", written)
    assert class_progress.main([str(homework)]) == 0
    written.flush()
    assert b"| \\u72d7 | 1 |" in written.buffer.getvalue()
