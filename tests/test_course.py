"""The course as its users meet it: README's commands, a notebook alone as on Colab, strict outputs, the data."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request

import nbformat
import pytest

from tests.notebooks import PATHS
from tools import install_missing

ARCHIVES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]


def readme_commands(root):
    return re.findall(r"^```\n(.+?)\n```$", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def without_the_course():
    """Return the environment without anything that would let ``going_modular`` be found."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_ci_runs_the_readmes_test_command_word_for_word(root):
    learn, verify = (command for command in readme_commands(root) if command.startswith("pip install"))
    assert learn == "pip install -r requirements.txt && jupyter lab 00_tensors.ipynb"
    assert verify in (root / ".ci" / "run").read_text().splitlines()
    assert f"- run: {verify}\n" in (root / ".github" / "workflows" / "ci.yml").read_text()


def test_readmes_first_command_opens_jupyterlab_on_the_first_notebook(root, tmp_path):
    command = readme_commands(root)[0].split(" && ")[1].split()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--IdentityProvider.token=letmein"]
    if getattr(os, "geteuid", lambda: 1)() == 0:
        options.append("--allow-root")
    environment = without_the_course() | {
        "JUPYTER_CONFIG_DIR": str(tmp_path),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
    }
    server = subprocess.Popen(
        [sys.executable, "-m", *command, *options],
        cwd=root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def get(path):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": "token letmein"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()

    try:
        for _ in range(120):
            try:
                listing = json.loads(get("/api/contents"))
                break
            except OSError:
                assert server.poll() is None, "JupyterLab ended"
                time.sleep(0.5)
        names = {entry["name"] for entry in listing["content"]}
        assert {path.name for path in PATHS} <= names
        assert "JupyterLab" in get("/lab/tree/00_tensors.ipynb")
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_a_notebook_alone_fetches_the_course(root, tmp_path):
    """As on Colab: one notebook file in an empty folder, and the address of a repository."""
    repository, alone = tmp_path / "repository", tmp_path / "alone"
    skip = shutil.ignore_patterns("data", "models", ".*", "__pycache__", "build", "runs")
    shutil.copytree(root, repository, ignore=skip)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "the course"]):
        subprocess.run([*git, *arguments], cwd=repository, check=True)
    alone.mkdir()
    shutil.copy(root / "01_workflow.ipynb", alone)
    environment = without_the_course() | {"COURSE_REPO": repository.as_uri()}
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "01_workflow.ipynb"]
    subprocess.run(command, cwd=alone, env=environment, check=True, timeout=300)
    assert (alone / "pytorch-course" / "going_modular" / "engine.py").exists()
    last = nbformat.read(alone / "01_workflow.ipynb", as_version=4).cells[-1]
    assert "in notebook 01" in last.outputs[0].text


def test_only_missing_packages_are_installed_and_never_another_torch():
    wanted = ["torch>=2.11,!=2.13.0", "numpy", "torchmetrics"]
    have = {"torch": "2.12.0+cu130", "numpy": "2.0.0"}
    assert install_missing.requirements_to_install(wanted, have) == ["torchmetrics", "torch==2.12.0+cu130"]
    assert install_missing.requirements_to_install(wanted, have | {"torchmetrics": "1.0"}) == []
    assert install_missing.requirements_to_install(wanted, {}) == wanted


def run_nbval(root, folder, change):
    """Run nbval on a copy of the first cells of lesson 01, changed by ``change``, and return its report."""
    notebook = nbformat.read(root / "01_workflow.ipynb", as_version=4)
    notebook.cells = notebook.cells[:14]
    change(next(cell for cell in notebook.cells if "to learn from" in cell.source))
    nbformat.write(notebook, folder / "copy.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval"]
    command += [f"--nbval-sanitize-with={root / 'tests' / 'sanitize.cfg'}", "copy.ipynb"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=folder, env=environment, text=True, encoding="utf-8", capture_output=True).stdout


def test_nbval_passes_an_unchanged_copy(root, tmp_path):
    report = run_nbval(root, tmp_path, lambda cell: None)
    assert "failed" not in report and " passed" in report


def test_nbval_notices_one_changed_character(root, tmp_path):
    def change(cell):
        assert cell.outputs[0].text.startswith("40 ")
        cell.outputs[0].text = cell.outputs[0].text.replace("40 ", "41 ", 1)

    report = run_nbval(root, tmp_path, change)
    assert "1 failed" in report and "Cell outputs differ" in report


def test_nbval_notices_a_cell_that_raises(root, tmp_path):
    def change(cell):
        cell.source += "\nraise ValueError('on purpose')"

    report = run_nbval(root, tmp_path, change)
    assert "1 failed" in report and "on purpose" in report


def test_pytest_is_configured_to_run_every_notebook_strictly(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "*.ipynb" in settings["testpaths"]
    assert "--nbval " in settings["addopts"] and "--nbval-lax" not in settings["addopts"]


def test_every_version_is_locked(root):
    lock = (root / "constraints.txt").read_text()
    assert "://" not in lock and "--" not in lock
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    needed = {}
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (root / name).read_text().splitlines()
        assert "-c constraints.txt" in lines
        needed[name] = {re.match(r"[\w-]+", line)[0] for line in lines if re.match(r"\w", line)}
    assert set().union(*needed.values()) <= locked
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["course"]
    assert set(wanted) <= set((root / "requirements.txt").read_text().splitlines())


def test_ruff_is_content(root):
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=root, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout


def test_the_data_is_what_its_readme_says(root):
    rows = re.findall(
        r"^\| `(\S+)` \| `([0-9a-f]{64})` \|$", (root / "data" / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == 5
    for name, checksum in rows:
        assert hashlib.sha256((root / "data" / name).read_bytes()).hexdigest() == checksum, name


def test_fashion_mnist_loads_without_the_network(root, tmp_path):
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(root / "data" / "FashionMNIST" / "raw" / name, raw)
    code = """
import torchvision
sizes = [len(torchvision.datasets.FashionMNIST("data", train=train, download=True)) for train in (True, False)]
assert sizes == [60_000, 10_000], sizes
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_nothing_that_the_tests_start_reaches_outside():
    reach = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    for reach_out in (reach, "import urllib.request; urllib.request.urlopen('https://example.org')"):
        done = subprocess.run([sys.executable, "-c", reach_out], capture_output=True, text=True)
        assert "the tests stay on this machine" in done.stderr
        with pytest.raises(OSError, match="the tests stay on this machine"):
            exec(reach_out)
