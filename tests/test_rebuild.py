"""tools/rebuild.py folds, describes figures, runs cleanly; install_missing.py."""

import copy
import subprocess
import sys
import tomllib

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.notebooks import PATHS, read
from tools import install_missing, rebuild

HIDDEN_CODE = {"jupyter": {"source_hidden": True}, "cellView": "form"}
HIDDEN_CODE |= {"tags": ["hide-input"]}
HIDDEN_ANSWER = {"jupyter": {"outputs_hidden": True}, "tags": ["hide-output"]}
BOTH = {"jupyter": {"source_hidden": True, "outputs_hidden": True}, "cellView": "form"}
BOTH |= {"tags": ["hide-input", "hide-output"]}
DRAWING = "\n".join(["plt.plot([1, 2])"] * rebuild.DRAWING + ["plt.show()"])


def code(source, output=None, **metadata):
    outputs = [new_output("stream", name="stdout", text=output)] if output else []
    return new_code_cell(source, outputs=outputs, metadata=metadata)


def folded(*cells):
    """Fold a notebook of a setup cell and ``cells`` and return what each cell got."""
    notebook = new_notebook(cells=[code("# Setup"), *cells])
    rebuild.fold(notebook)
    return [cell.metadata for cell in notebook.cells[1:]]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("import os\nfrom pathlib import Path", HIDDEN_CODE),
        ("import warnings\nwarnings.simplefilter('ignore')", HIDDEN_CODE),
        ("x = 1\nimport os", {}),
        ("import os\n%matplotlib inline", {}),
        ("# nothing yet", {}),
    ],
)
def test_the_import_cell_is_folded(source, wanted):
    assert folded(code(source)) == [wanted]


def test_imports_alone_are_folded_anywhere_and_other_code_is_not():
    cells = [code("x = 1"), code("import os"), code("import os\nprint(os.name)")]
    assert folded(*cells) == [{}, HIDDEN_CODE, {}]


def test_long_drawing_code_is_folded():
    short = DRAWING.split("\n", 1)[1]
    cells = [code("x = 1"), code(DRAWING), code(short), code(DRAWING + "\nx = 1")]
    assert folded(*cells) == [{}, HIDDEN_CODE, {}, {}]


def test_the_workshop_is_folded_but_for_its_exercises():
    task = "def double(x):\n    ...  # your code\n\n\ncheck('01.6', double)"
    heading = new_markdown_cell("## Workshop: what the library adds")
    cells = [code("x = 1"), heading, code("y = 1"), code(task), code("# z\nz = 1")]
    assert folded(*cells) == [{}, {}, HIDDEN_CODE, {}, HIDDEN_CODE]


def test_the_answer_to_a_predict_is_hidden():
    predict = new_markdown_cell("What comes?\n\n**Predict:** the shape?")
    cells = [predict, code("x = 1"), code("print(x)", "1\n"), code("print(x)", "1\n")]
    assert folded(*cells) == [{}, {}, HIDDEN_ANSWER, {}]
    workshop = new_markdown_cell("## Workshop\n\n**Predict:** what?")
    assert folded(workshop, code("print(x)", "1\n")) == [{}, BOTH]


def test_jupyterlab_shows_no_line_of_a_hidden_answer():
    """It shows the first line of the first output, and an empty output has none."""
    predict, cell = new_markdown_cell("**Predict:** what?"), code("print(1)", "1\n")
    for _ in range(2):
        folded(predict, cell)
        assert [output.get("data") for output in cell.outputs] == [{}, None]
    assert cell.outputs[1].text == "1\n"
    folded(cell)  # asked no more
    assert [output.text for output in cell.outputs] == ["1\n"]


def test_a_predict_is_not_answered_in_the_next_section_nor_by_an_exercise():
    predict = new_markdown_cell("**Predict:** what?")
    heading, task = new_markdown_cell("## 2 · More"), code("x = 1  # your code", "1\n")
    assert folded(predict, heading, code("print(1)", "1\n")) == [{}, {}, {}]
    assert folded(predict, task, code("print(1)", "1\n")) == [{}, {}, HIDDEN_ANSWER]


def test_a_line_that_asks_to_wait_is_no_answer():
    predict = new_markdown_cell("**Predict:** how many?")
    cells = predict, code("train()", "8 trainings ...\n"), code("print(1)", "1\n")
    assert folded(*cells) == [{}, {}, HIDDEN_ANSWER]


def test_other_metadata_and_stale_folds_go_and_the_authors_tags_stay():
    stale = {"tags": ["hide-output", "raises-exception", "hide-input"]}
    stale |= {"cellView": "form", "jupyter": {"source_hidden": True}, "execution": {}}
    text = new_markdown_cell("Text.", metadata={"collapsed": True})
    assert folded(code("1 / 0", **stale), text) == [{"tags": ["raises-exception"]}, {}]
    both = folded(code("import os", **stale))[0]
    assert both.tags == ["raises-exception", "hide-input"]
    assert both.jupyter == {"source_hidden": True} and "execution" not in both


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_committed_notebooks_are_folded_as_rebuild_does(path):
    notebook = read(path)
    wanted = copy.deepcopy(notebook)
    rebuild.fold(wanted)
    for cell, other in zip(notebook.cells, wanted.cells, strict=True):
        assert cell == other, cell.source


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_committed_figures_have_alternative_texts(path):
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).get("text/plain", "").startswith("<Figure"):
                assert output.metadata["image/png"]["alt"], cell.source


PANELS = """\
fig, axes = plt.subplots(1, 2)
fig.suptitle(f"{1 + 1} panels")
axes[0].set_title("left\\none")
axes[1].set_title("right", loc="right")
plt.show()"""
DIAGRAM = """\
fig = plt.figure()
fig.gca().set_title("not this")
fig.set_label("A diagram")
plt.close()
fig"""
SOURCES = [
    "# Setup\nimport matplotlib.pyplot as plt",
    PANELS,
    '_ = plt.title("at the end of a cell")',
    "plt.plot([1, 2])\nplt.show()",
    DIAGRAM,
    "1 / 0",
    '"_add_alt_texts" in globals()',
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A small notebook after its run."""
    folder = tmp_path_factory.mktemp("executed")
    notebook = new_notebook(cells=[code(source) for source in SOURCES])
    notebook.cells[5].metadata.tags = ["raises-exception"]
    rebuild.execute(notebook, folder)
    rebuild.fold(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, folder / "figures.ipynb")
    return notebook, folder / "figures.ipynb"


def test_figures_are_described_by_their_titles_or_their_label(executed):
    found = [
        output.metadata.get("image/png", {}).get("alt")
        for cell in executed[0].cells
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    wanted = ["2 panels; left one; right", "at the end of a cell", None, "A diagram"]
    assert found == wanted


def test_describing_leaves_no_trace(executed):
    cells = executed[0].cells
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [cell.source for cell in cells] == SOURCES
    assert cells[-1].outputs[0].data == {"text/plain": "False"}
    assert set().union(*(cell.metadata for cell in cells[1:])) == {"tags"}


def test_nbconvert_finds_the_alternative_text(executed):
    """By its classic template; the lab template looks for none."""
    exporter = HTMLExporter(template_name="classic")
    page, _ = exporter.from_notebook_node(executed[0])
    assert 'alt="2 panels; left one; right"' in page


def test_nbval_compares_neither_alternative_texts_nor_what_hides_an_answer(executed):
    notebook = copy.deepcopy(executed[0])
    notebook.cells.insert(1, new_markdown_cell("**Predict:** what?"))
    rebuild.fold(notebook)
    assert notebook.cells[2].outputs[0].data == {}
    nbformat.write(notebook, executed[1])
    command = "-m pytest -q -p no:cacheprovider -p no:xdist --nbval figures.ipynb"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=executed[1].parent,
        capture_output=True,
        text=True,
    )
    assert f"{len(SOURCES)} passed" in done.stdout, done.stdout


def test_all_extras_but_benchmarks_are_installed_and_in_requirements(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = install_missing.requirements_of(project)
    for extra, needs in project["optional-dependencies"].items():
        assert (set(needs) <= set(wanted)) == (extra != "benchmarks")
    assert {"gradio", "onnx", "tensorboard", "optuna", "pytest"} <= set(wanted)
    assert set(wanted) <= set((root / "requirements.txt").read_text().splitlines())


@pytest.mark.parametrize("links_only", [False, True])
def test_a_rebuilt_notebook_is_linked_formatted_exported_and_folded(
    root, tmp_path, links_only
):
    (tmp_path / "pyproject.toml").write_text((root / "pyproject.toml").read_text())
    export = (
        '#| module utils: Things.\n#| export utils\ndef one():\n  "One."\n  return 1'
    )
    cells = [new_markdown_cell("# 00\n\n[Open in Colab]()"), code("# setup")]
    cells += [code("import os"), code(export), new_markdown_cell("## Workshop")]
    cells += [code("print( one() )", **{"collapsed": True})]
    path = tmp_path / "00_lesson.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    rebuild.rebuild([path], tmp_path, links_only=links_only)
    rebuilt = read(path).cells
    assert rebuild.colab_link(tmp_path, path.name) in rebuilt[0].source
    assert rebuilt[1].source == rebuild.setup_source(tmp_path, path.name)
    assert rebuilt[5].source == "print(one())"
    assert "def one()" in (tmp_path / "going_modular" / "utils.py").read_text()
    assert [cell.metadata for cell in rebuilt[1:3]] == [HIDDEN_CODE] * 2
    assert [cell.metadata for cell in rebuilt[3:]] == [{}, {}, HIDDEN_CODE]
    assert [output.text for output in rebuilt[5].outputs] == ["1\n"] * (not links_only)
