"""The rules for notebooks that a machine can check, budgets aside (test_budgets.py)."""

import re
import subprocess
import sys

import pytest

from tests.notebooks import CHALLENGES, EXERCISES, PATHS, exercises, read
from tools import rebuild

TAGS = {"nbval-ignore-output", "raises-exception", *rebuild.FOLD_TAGS}
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def before_workshop(path):
    """Return a notebook's cells above the heading of its workshop."""
    cells = read(path).cells
    sources = [cell.source for cell in cells]
    workshop = [text.startswith("## Workshop") for text in sources].index(True)
    return cells[:workshop]


def test_the_lessons_are_numbered_without_gaps():
    assert [path.stem[:2] for path in PATHS] == [
        f"{number:02}" for number in range(len(PATHS))
    ]


@every_notebook
def test_opening(path, root):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S.*\n\n\S", first.source), (
        "title, empty line, the outcome in one line"
    )
    assert rebuild.colab_link(root, path.name) in first.source, (
        "run python tools/rebuild.py --links"
    )
    objectives = re.findall(r"^- \*\*\w+\*\*", first.source, re.MULTILINE)
    assert 1 <= len(objectives) <= 4, (
        "one to four objectives that begin with a verb in bold"
    )
    for word in ("**Running time**", "**Builds on**", "**Exports**"):
        assert word in first.source


@every_notebook
def test_setup_cell(path, root):
    assert read(path).cells[1].source == rebuild.setup_source(root, path.name), (
        "run python tools/rebuild.py --links"
    )


@every_notebook
def test_the_workshop_is_printed_small_enough_for_88_columns(path):
    heading = read(path).cells[len(before_workshop(path))]
    rule = ".jp-Cell:has(style) ~ .jp-Cell pre { font-size: 11px !important }"
    assert heading.source.endswith(f"<style>@media print {{ {rule} }}</style>")


@every_notebook
def test_recap(path):
    cells = before_workshop(path)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    recap = text.split("\n## Recap\n")[1]
    assert "mistake to remember" in recap and "xported" in recap and "Next:" in recap
    assert cells[-1].source.endswith("progress()"), "the lesson ends with the score"


@every_notebook
def test_sections_are_numbered_without_gaps(path):
    text = "\n".join(cell.source for cell in before_workshop(path))
    numbers = re.findall(r"^## (\d+) · ", text, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


@every_notebook
def test_cells_have_unique_ids(path):
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)


@every_notebook
def test_prose_comes_in_small_pieces(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(
                r"<details>.*?</details>|\$\$.*?\$\$|^\|.*?$",
                "",
                cell.source,
                flags=re.DOTALL | re.MULTILINE,
            )
            assert len(prose.split()) <= 170, cell.source[:80]


@every_notebook
def test_tags(path):
    cells = code_cells(path)
    tags = [set(cell.metadata.get("tags", [])) for cell in cells]
    assert set().union(*tags) <= TAGS
    assert sum("nbval-ignore-output" in tag for tag in tags) <= 0.3 * len(cells), (
        "at most three in ten"
    )
    for cell, tag in zip(cells, tags, strict=True):
        raised = any(output.output_type == "error" for output in cell.outputs)
        assert raised == ("raises-exception" in tag), cell.source


@every_notebook
def test_stored_outputs_are_of_one_clean_run(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), (
        "run python tools/rebuild.py"
    )
    for cell in cells:
        assert not any(output.get("name") == "stderr" for output in cell.outputs), (
            f"warnings below {cell.source}"
        )


@every_notebook
def test_no_magics_but_the_one_that_writes_a_file(path):
    for cell in code_cells(path):
        source = cell.source.removeprefix("%%writefile ")
        assert not re.search(r"^\s*[%!]", source, re.MULTILINE), cell.source


@every_notebook
def test_size(path):
    assert path.stat().st_size < 1_500_000


@every_notebook
def test_no_path_of_a_machine(path, root):
    found = re.search(
        r"/tmp/|/home/|/root/|/Users/|site-packages|[A-Z]:\\\\",
        path.read_text(encoding="utf-8"),
    )
    assert found is None and str(root) not in path.read_text(encoding="utf-8"), found


@every_notebook
def test_exercises_are_complete(path):
    found = exercises(path)
    assert 4 <= len(found) <= 6
    assert [exercise.number for exercise in found] == [
        f"{path.stem[:2]}.{k}" for k in range(1, len(found) + 1)
    ]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.number)
def test_exercise_has_starter_check_hint_and_solution(exercise):
    starter, answers = exercise.starter, exercise.answers
    assert (
        starter.cell_type == "code"
        and "..." in starter.source
        and "# your code" in starter.source
    )
    assert re.fullmatch(rf'check\("{exercise.number}", .+\)', exercise.check_line)
    assert [output.text for output in starter.outputs] == [
        f"{exercise.number} · not attempted yet\n"
    ]
    assert answers.cell_type == "markdown"
    assert re.search(
        r"<details><summary>Hint</summary>\n\n.+?\n\n</details>",
        answers.source,
        re.DOTALL,
    )
    assert exercise.solution.strip()


@pytest.mark.parametrize("challenge", CHALLENGES, ids=lambda each: each.number)
def test_the_challenge_stands_before_the_recap_with_starter_and_solution(challenge):
    number = challenge.number[:2]
    sources = [cell.source for cell in read(challenge.path).cells]
    after = sources.index(challenge.answers.source) + 1
    assert "## Recap\n" in sources[after] or "## Recap\n" in challenge.answers.source
    starter = challenge.starter
    assert starter.cell_type == "code" and "# your code" in starter.source
    assert re.fullmatch(rf'challenge\("{number}", .+\)', challenge.check_line)
    assert [output.text for output in starter.outputs] == [
        f"{number} challenge · not attempted yet\n"
    ]
    assert challenge.solution.strip()


def test_importing_the_package_costs_nothing(root):
    code = "import going_modular, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
