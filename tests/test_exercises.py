"""The exercises and their checks.

Solutions pass, starters are "not attempted", wrong answers fail with a hint.
"""

import io
import json
import pickle
import random
import re
import shutil
import subprocess
import symtable
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import nbformat
import numpy as np
import pytest
import torch

import exercises
from exercises import __main__ as own
from exercises import checks_08
from tests.folders import finds
from tests.notebooks import (
    CHALLENGES,
    EXERCISES,
    answers,
    namespace,
    read,
    statements,
)

WRONG, RIGHT = answers("WRONG"), answers("RIGHT")


def each_of(sources):
    """Parametrize a test with every exercise or challenge and each of its answers."""
    cases = [
        pytest.param(e, source, id=f"{e.number}-{k}")
        for e in EXERCISES + CHALLENGES
        for k, source in enumerate(sources.get(e.number, []))
    ]
    return pytest.mark.parametrize(("exercise", "source"), cases)


every_exercise = pytest.mark.parametrize(
    "exercise", EXERCISES + CHALLENGES, ids=lambda exercise: exercise.number
)


@pytest.fixture(autouse=True)
def state_file(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_PROGRESS", raising=False)
    monkeypatch.setattr(exercises, "STATE_FILE", tmp_path / "progress.json")
    return exercises.STATE_FILE


def answer(exercise, source):
    """Run an answer as the notebook would and return what its check line prints."""
    names = namespace(exercise.path)
    graded = {}
    names["check"] = lambda number, value: graded.update(
        result=exercises.grade(number, value)
    )
    names["challenge"] = lambda number, value: names["check"](
        f"{number}.challenge", value
    )
    exec(source, names)
    exec(exercise.check_line, names)
    return graded["result"]


SLOW = {"09.1", "09.4", "10.6"}  # each try starts a page, exports or trains networks


def tries(exercise):
    """Return how often an answer is tried; a challenge trains a model each time."""
    return 1 if exercise in CHALLENGES or exercise.number in SLOW else 5


@every_exercise
def test_the_solution_passes(exercise):
    for _ in range(tries(exercise)):
        status, message = answer(exercise, exercise.solution)
        assert status == "solved", message


def bound(source):
    """Return the names that a source text gives to values, functions and modules."""
    table = symtable.symtable(source, "source", "exec")
    return {each.get_name() for each in table.get_symbols() if each.is_local()}


@every_exercise
def test_the_solution_takes_no_name_of_the_lessons(exercise):
    starters = [each.starter.source for each in EXERCISES + CHALLENGES]
    names = set()
    for cell in read(exercise.path).cells:
        if statements(cell) and cell.source not in starters:
            names |= bound(cell.source)
    assert not bound(exercise.solution) & names - {"_"}


@every_exercise
def test_the_starter_is_not_attempted(exercise):
    starter = exercise.starter.source.replace(exercise.check_line, "")
    assert answer(exercise, starter) == ("not attempted", "not attempted yet")


def test_every_exercise_has_two_wrong_answers():
    numbers = {exercise.number for exercise in EXERCISES + CHALLENGES}
    assert numbers == WRONG.keys()
    assert all(len(set(sources)) >= 2 for sources in WRONG.values())


@each_of(RIGHT)
def test_an_unusual_right_answer_passes(exercise, source):
    for _ in range(tries(exercise)):
        status, message = answer(exercise, source)
        assert status == "solved", message


def test_a_vit_may_cut_its_patches_by_a_convolution():
    class Attending(torch.nn.Module):
        def __init__(self, stride, **options):
            super().__init__()
            self.cut = torch.nn.Conv2d(1, 8, 7, stride, **options)
            self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = torch.nn.Linear(8, 10)

        def forward(self, images):
            tokens = self.cut(images).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(dim=1))

    images, labels = torch.rand(500, 1, 28, 28), torch.zeros(500)
    for stride in (7, (7, 7)):
        assert 0 <= checks_08._score(Attending(stride), images, labels) <= 1
    for stride, options in (
        (1, {}),
        (3, {}),
        ((7, 6), {}),
        (2, {"padding": 3}),
        (7, {"dilation": 2}),
    ):
        with pytest.raises(exercises.Wrong, match="your network calls `conv2d`"):
            checks_08._score(Attending(stride, **options), images, labels)


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax"])
def test_a_softmax_of_logits_attends_to_nothing(last):
    layers = torch.nn.Flatten(), torch.nn.Linear(784, 10), getattr(torch.nn, last)(1)
    images, labels = torch.rand(500, 1, 28, 28), torch.zeros(500)
    with pytest.raises(exercises.Wrong, match="no token attends"):
        checks_08._score(torch.nn.Sequential(*layers), images, labels)


@each_of(WRONG)
def test_a_wrong_answer_fails_with_a_hint(exercise, source):
    for _ in range(tries(exercise)):
        status, message = answer(exercise, source)
        assert status == "wrong", source
        assert message.startswith("not yet: ") and "\n  Hint: " in message


@exercises.exercise("99.1", "Double")
def check_double(double):
    value = int(torch.randint(1, 100, ()))
    if double(value) != 2 * value:
        raise exercises.Wrong(
            f"double({value}) gave {double(value)}", "add the number to itself"
        )


def test_check_prints_and_remembers(capsys, state_file):
    def stub(x): ...

    exercises.check("99.1", stub)
    assert not state_file.exists()
    exercises.check("99.1", lambda x: x + x)
    assert json.loads(state_file.read_text()) == {"99.1": True}
    exercises.check("99.1", lambda x: 3 * x)
    assert json.loads(state_file.read_text()) == {"99.1": True}  # a later try
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "99.1 · not attempted yet"
    assert printed[1] == "99.1 · right! Double is solved."
    assert printed[2].startswith("99.1 · not yet: double(")
    assert printed[3] == "  Hint: add the number to itself"


@exercises.capstone("99", "Guess")
def check_guess(guess):
    if abs(guess - 7) > 2:
        raise exercises.Wrong(
            f"off by {abs(guess - 7)}, to beat: 2", "think of a prime number"
        )
    return f"Off by {abs(guess - 7)}, to beat: 2."


def test_a_challenge_prints_the_score_and_the_one_to_beat(capsys, state_file):
    exercises.challenge("99", ...)
    assert not state_file.exists()
    exercises.challenge("99", 3)
    exercises.challenge("99", 6)
    assert json.loads(state_file.read_text()) == {"99.challenge": True}
    assert capsys.readouterr().out.splitlines() == [
        "99 challenge · not attempted yet",
        "99 challenge · not yet: off by 4, to beat: 2",
        "  Hint: think of a prime number",
        "99 challenge · right! Guess is solved. Off by 1, to beat: 2.",
    ]
    exercises.progress()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "1 of 2 in notebook 99:  · 99.1  ✓ 99 challenge"


def test_check_survives_the_learners_exception(capsys):
    def broken(x):
        raise KeyError("oh")

    exercises.check("99.1", broken)
    assert "not yet: your answer raised KeyError: 'oh'" in capsys.readouterr().out


@pytest.mark.parametrize("value", [..., (1, ...), [...]])
def test_dots_are_no_answer(value):
    assert exercises.grade("99.1", value)[0] == "not attempted"


def test_classes_of_dots_are_no_answer():
    class Stub:
        def forward(self, x): ...

    class Attempt:
        def forward(self, x):
            return x

    assert not exercises.attempted(Stub) and exercises.attempted(Attempt)


def test_an_unknown_number_names_the_known_ones():
    message = r"no exercise '01.9'; the ones known in this notebook: 01\.1, 01\.2"
    with pytest.raises(ValueError, match=message):
        exercises.check("01.9", 1)


def test_checking_leaves_the_random_states_alone():
    numbers = random.getstate(), pickle.dumps(np.random.get_state())
    state = torch.get_rng_state()
    exercises.grade("99.1", lambda x: x + x)
    assert torch.equal(torch.get_rng_state(), state)
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == numbers


@pytest.mark.parametrize("content", ["", "{half", "[1, 2]"])
def test_a_damaged_state_file_is_begun_anew(capsys, state_file, content):
    state_file.write_text(content)
    exercises.check("99.1", lambda x: x + x)
    assert json.loads(state_file.read_text()) == {"99.1": True}


@pytest.mark.parametrize("notebooks", [2, 5, 9])
def test_notebooks_that_check_at_once_lose_nothing(state_file, monkeypatch, notebooks):
    read = exercises._read_state

    def read_slowly():
        state = read()
        time.sleep(0.02)
        return state

    monkeypatch.setattr(exercises, "_read_state", read_slowly)
    with ThreadPoolExecutor(notebooks) as pool:
        numbers = [f"{notebook:02}.1" for notebook in range(notebooks)]
        list(pool.map(exercises._remember, numbers, [True] * notebooks))
    assert json.loads(state_file.read_text()) == dict.fromkeys(numbers, True)


def test_a_state_that_cannot_be_written_does_not_stop_the_lesson(
    capsys, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(exercises, "STATE_FILE", tmp_path / "file" / "progress.json")
    exercises.check("99.1", lambda x: x + x)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "99.1 · right! Double is solved."
    assert len(printed) == 2 and printed[1].startswith("  (not remembered: ")


def test_progress_shows_what_is_solved(capsys, state_file):
    state_file.write_text('{"01.1": true, "01.2": false}')
    exercises.progress()
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if "notebook 01" in line)
    assert line.startswith("1 of 7") and "✓ 01.1" in line and "· 01.2" in line


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_progress_is_shown_where_no_tick_can_be_written(
    monkeypatch, state_file, encoding
):
    state_file.write_text('{"01.1": true, "01.2": false}')
    written = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", written)
    exercises.progress()
    written.flush()
    text = written.buffer.getvalue().decode(encoding)
    assert "x 01.1  - 01.2" in text


def test_progress_of_a_course_just_begun_names_no_numbers(capsys):
    """So that what notebooks store of it does not grow stale."""
    exercises.progress()
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing is solved yet.") and not re.search(
        r"\d", printed
    )


def test_progress_counts_what_was_tried_and_is_not_solved(capsys, state_file):
    exercises.check("99.1", lambda x: 3 * x)
    exercises.progress()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "0 of 2 in notebook 99:  · 99.1  · 99 challenge"


@pytest.mark.parametrize("kind", ["file", "folder", "new folder's file"])
def test_results_are_kept_where_course_progress_says(tmp_path, monkeypatch, kind):
    (tmp_path / "drive").mkdir()
    path = {"folder": "drive", "file": "drive/mine.json"}.get(kind, "new/mine.json")
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / path))
    exercises.check("99.1", lambda x: x + x)
    kept = tmp_path / (f"{path}/.progress.json" if kind == "folder" else path)
    assert json.loads(kept.read_text()) == {"99.1": True}


REMEMBER = """
import sys, exercises
number = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
for k in range(10):
    exercises._remember(f"{number}.{k}", True)
"""


def test_processes_that_check_at_once_lose_nothing(tmp_path):
    kept = tmp_path / "progress.json"
    environment = finds(exercises.__path__[0] + "/..") | {"COURSE_PROGRESS": str(kept)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REMEMBER, number], env=environment, **pipes
        )
        for number in ("90", "91")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len(json.loads(kept.read_text())) == 20


# ---- a copy of one's own


@pytest.fixture
def course(root, tmp_path, monkeypatch):
    """A folder with lesson 01, as start sees the course."""
    shutil.copy(root / "01_workflow.ipynb", tmp_path)
    monkeypatch.setattr(own, "ROOT", tmp_path)
    return tmp_path


def test_start_makes_a_clean_copy(course, capsys):
    before = (course / "01_workflow.ipynb").read_bytes()
    assert own.main(["start", "01"]) == 0
    assert "jupyter lab my/01_workflow.ipynb" in capsys.readouterr().out
    copy = nbformat.read(course / "my" / "01_workflow.ipynb", as_version=4)
    nbformat.validate(copy)
    code = [cell for cell in copy.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    original = nbformat.reads(before.decode(), as_version=4)
    for cell, other in zip(copy.cells, original.cells, strict=True):
        assert cell.source.replace("](../", "](") == other.source
    assert (course / "01_workflow.ipynb").read_bytes() == before
    text = "\n".join(cell.source for cell in copy.cells)
    assert "](../00_tensors.ipynb)" in text


def test_start_leaves_a_copy_alone_unless_told(course, capsys):
    assert own.main(["start", "1"]) == 0
    copy = course / "my" / "01_workflow.ipynb"
    copy.write_text("my answers")
    assert own.main(["start", "01"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert copy.read_text() == "my answers"
    for number in (1, 2):
        assert own.main(["start", "01", "--again"]) == 0
        assert (course / "my" / f"01_workflow-{number}.ipynb").exists()
    assert (course / "my" / "01_workflow-1.ipynb").read_text() == "my answers"
    assert "Workflow" in copy.read_text(encoding="utf-8")


def test_start_names_the_lessons_there_are(course, capsys):
    assert own.main(["start", "42"]) == 2
    assert capsys.readouterr().err == "error: there is no lesson '42'; there are 01\n"
