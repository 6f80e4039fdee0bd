"""A newcomer, with the README alone: clone, first exercise, progress, an update."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from tests.folders import readme_commands
from tests.notebooks import EXERCISES

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
GIT += ["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]


def run(command, folder):
    environment = {k: v for k, v in os.environ.items() if k != "COURSE_PROGRESS"}
    keywords = {"cwd": folder, "env": environment, "text": True, "encoding": "utf-8"}
    done = subprocess.run(command, capture_output=True, timeout=300, **keywords)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def words(root, begin):
    """Return a command of the README, for this Python."""
    (command,) = {line for line in readme_commands(root) if line.startswith(begin)}
    words = command.split()
    return [sys.executable, *words[1:]] if words[0] == "python" else words


@pytest.fixture
def upstream(root, tmp_path):
    """The course's repository, as on GitHub."""
    folder = tmp_path / "upstream" / "pytorch-course"
    skip = shutil.ignore_patterns(
        *["my", "models", "runs", "build", "__pycache__", ".git", ".progress.json*"],
        *["cat_dog_horse", "*-ubyte", ".venv", ".*_cache", "mlruns", "wandb"],
    )
    shutil.copytree(root, folder, ignore=skip)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "1"]):
        run([*GIT, *command], folder)
    return folder


def with_answer(notebook, exercise):
    """Write an exercise's solution into the starter's cell; return the cells to run."""
    for number, cell in enumerate(notebook.cells):
        if cell.source == exercise.starter.source:
            cell.source = f"{exercise.solution}\n\n{exercise.check_line}"
            return notebook.cells[:2] + [
                nbformat.v4.new_code_cell(
                    "import torch\nfrom exercises import check, progress"
                ),
                notebook.cells[number],
                nbformat.v4.new_code_cell("progress()"),
            ]
    raise AssertionError(f"{exercise.number} has no starter")


def printed(notebook):
    return "".join(
        o.get("text", "") for c in notebook.cells for o in c.get("outputs", [])
    )


def test_a_newcomer_begins_solves_updates_and_keeps_the_answers(
    root, upstream, tmp_path
):
    clone = words(root, "git clone")
    clone[2] = upstream.as_uri()
    run([*clone[:2], "-q", *clone[2:]], tmp_path)
    course = tmp_path / words(root, "cd ")[1]
    assert "my/00_tensors.ipynb" in run(words(root, "python -m exercises"), course)
    copy = course / words(root, "jupyter lab my/")[2]

    exercise = next(each for each in EXERCISES if each.path.stem == "00_tensors")
    notebook = nbformat.read(copy, as_version=4)
    few = nbformat.v4.new_notebook(cells=with_answer(notebook, exercise))
    nbformat.write(notebook, copy)
    nbformat.write(few, copy.with_name("few.ipynb"))
    run_notebook = [sys.executable, "-m", "jupyter", "execute", "--inplace"]
    run([*run_notebook, "few.ipynb"], copy.parent)
    output = printed(nbformat.read(copy.with_name("few.ipynb"), as_version=4))
    assert f"{exercise.number} · right!" in output and "✓ 00.1" in output
    answers = copy.read_bytes()

    lesson = upstream / "00_tensors.ipynb"
    text = lesson.read_text(encoding="utf-8")
    lesson.write_text(text.replace("# 00 · Tensors", "# 00 · New", 1), encoding="utf-8")
    run([*GIT, "commit", "-qam", "2"], upstream)
    run([*words(root, "git pull"), "-q"], course)

    assert "# 00 · New" in (course / "00_tensors.ipynb").read_text(encoding="utf-8")
    assert copy.read_bytes() == answers
    assert run(["git", "status", "--porcelain"], course) == ""
    assert json.loads((course / ".progress.json").read_text())[exercise.number]
    shown = run([sys.executable, "-m", "exercises", "progress"], course)
    assert "1 of" in shown and "✓ 00.1" in shown


def test_answers_written_in_the_notebook_itself_come_along(root, upstream):
    lesson = upstream / "00_tensors.ipynb"
    before = lesson.read_bytes()
    text = lesson.read_text(encoding="utf-8")
    lesson.write_text(
        text.replace("# 00 · Tensors", "# 00 · Mine", 1), encoding="utf-8"
    )
    run(words(root, "python -m exercises"), upstream)
    run(["git", "checkout", "-q", "--", lesson.name], upstream)
    assert lesson.read_bytes() == before
    copy = upstream / "my" / lesson.name
    assert "# 00 · Mine" in copy.read_text(encoding="utf-8")
