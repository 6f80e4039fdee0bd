"""The course's notebooks, and the exercises in them, as the tests read them."""

import ast
import re
import runpy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
PATHS = sorted(ROOT.glob("[0-9][0-9]_*.ipynb"))
HEADING = re.compile(r"^### Exercise (\d\d\.\d) · (.+?)  \((\d+) min\)$", re.MULTILINE)
CHALLENGE = re.compile(r"^### Challenge: (.+?)(  \(\d+ min\))?$", re.MULTILINE)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def statements(cell: NotebookNode) -> list[ast.stmt]:
    """Return what a cell runs in the notebook: nothing if it writes a file."""
    is_run = cell.cell_type == "code" and not cell.source.startswith("%%")
    return ast.parse(cell.source).body if is_run else []


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook, or its challenge: three cells.

    They are the task, the starter with its check, and hint and solution. The challenge
    of lesson 03 has the number "03.challenge".
    """

    path: Path
    number: str
    task: NotebookNode
    starter: NotebookNode
    answers: NotebookNode

    @property
    def check_line(self) -> str:
        return self.starter.source.strip().splitlines()[-1]

    @property
    def solution(self) -> str:
        details = self.answers.source.split("<summary>Solution</summary>")[1]
        found = re.search(r"```python\n(.*?)\n```", details, re.DOTALL)
        assert found, f"{self.number} has no solution in a Python block"
        return found[1]


def exercises(path: Path) -> list[Exercise]:
    """Return the exercises of a notebook, in its order."""
    cells = read(path).cells
    return [
        Exercise(
            path,
            HEADING.findall(cell.source)[-1][0],
            cell,
            *cells[index + 1 : index + 3],
        )
        for index, cell in enumerate(cells)
        if cell.cell_type == "markdown" and HEADING.search(cell.source)
    ]


def challenges(path: Path) -> list[Exercise]:
    """Return the challenge of a notebook, if it has one."""
    cells = read(path).cells
    return [
        Exercise(
            path, f"{path.stem[:2]}.challenge", cell, *cells[index + 1 : index + 3]
        )
        for index, cell in enumerate(cells)
        if cell.cell_type == "markdown" and CHALLENGE.search(cell.source)
    ]


EXERCISES = [exercise for path in PATHS for exercise in exercises(path)]
CHALLENGES = [challenge for path in PATHS for challenge in challenges(path)]


WRITTEN = re.compile(r"^%%writefile \S*?(\w+)\.py$", re.M)


def namespace(path: Path) -> dict:
    """Return what a notebook imports and exports: the names that an answer may use."""
    names: dict = {}
    cells = read(path).cells
    written = {name for cell in cells for name in WRITTEN.findall(cell.source)}
    for cell in cells:
        if cell.cell_type != "code" or cell.source.startswith("# Setup"):
            continue
        exported = re.match(r"(#\|.*\n)*#\| *export", cell.source)
        for node in statements(cell):
            if isinstance(node, ast.Import) and node.names[0].name in written:
                continue  # a module that the lesson itself makes
            if exported or isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), path.name, "exec"), names)
    return names


def answers(kind: str) -> dict[str, list[str]]:
    """Return {exercise number: answers} of tests/wrong_answers.

    They are plausible wrong ones ("WRONG"), or unusual right ones ("RIGHT").
    """
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests" / "wrong_answers").glob("*.py")):
        found |= runpy.run_path(str(path)).get(kind, {})
    return found


def changed(source: str, *pairs: tuple[str, str]) -> str:
    """Return an answer's source with parts replaced, each of which must be there."""
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source
