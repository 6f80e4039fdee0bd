"""The pages a visitor reads first: links, tables, and README's commands as they are."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml
from PIL import Image

import going_modular
from going_modular.__main__ import main
from going_modular.predictions import Predictor
from going_modular.runs import WRITTEN
from tests.folders import ask_page, finds, free_port, readme_commands
from tests.notebooks import HEADING, PATHS, read
from tools import pictures, rebuild, results

PAGES = [
    "README.md",
    "INSTRUCTORS.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "data/README.md",
]
COMMANDS = {  # how each of the README's commands begins, and what runs it
    "git clone": "test_newcomer.py",
    "cd pytorch-course": "test_newcomer.py",
    "pip install -r requirements.txt && jupyter lab": "test_course.py",
    "pip install -r requirements.txt\n": "the line above, in two",
    "jupyter lab 00_tensors.ipynb": "the line above, in two",
    "python -m exercises start 00": "test_newcomer.py",
    "jupyter lab my/": "test_newcomer.py",
    "pip install -r requirements.txt --extra-index-url": "the CI's jobs on Linux",
    "git pull": "test_newcomer.py",
    "pip install -r requirements.txt -r requirements-dev.txt && pytest": ".ci/run",
    "python -m going_modular check": "below",
    "python -m going_modular train": "below",
    "python -m going_modular evaluate": "below",
    "python -m going_modular predict": "below",
    "python -m going_modular export": "below",
    "python -m going_modular serve": "below",
    "python -m going_modular profile": "below",
    "torchrun": "below",
    "python tools/launch.py": "below",
    "python -m pip install .": "below",
}


def prose(notebook):
    """Return a notebook's Markdown without code, where brackets are no links."""
    text = "\n".join(
        cell.source for cell in notebook.cells if cell.cell_type == "markdown"
    )
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def relative_links(text):
    text = re.sub(r' (?:src|srcset)="([^"]+)"', r"[](\1)", text)
    return re.findall(r"\]\((?!https?://)([^)#\s]+)", text)


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_of_pages_resolve(root, page):
    text = (root / page).read_text(encoding="utf-8")
    assert [
        target
        for target in relative_links(text)
        if not ((root / page).parent / target).exists()
    ] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_relative_links_of_notebooks_resolve(path):
    assert [
        target
        for target in relative_links(prose(read(path)))
        if not (path.parent / target).exists()
    ] == []


# ---- README's table, picture and citation


def test_table_picture_and_citation_are_up_to_date(root):
    assert results.update(root, check=True) == [], "run python tools/results.py"
    assert (root / results.PICTURE).stat().st_size < 150_000


def test_citation_agrees_with_pyproject(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert (
        cited["cff-version"] == "1.2.0"
        and cited["authors"]
        and cited["title"]
        and cited["message"]
    )
    assert (str(cited["version"]), cited["license"]) == (
        project["version"],
        project["license"],
    )
    assert cited["repository-code"] == rebuild.repository(root)


@pytest.fixture
def small_course(root, tmp_path):
    """A course of lessons 03 and 06, its README, citation and picture up to date."""
    for path in (
        *root.glob("0[36]_*.ipynb"),
        root / "README.md",
        root / "pyproject.toml",
    ):
        shutil.copy(path, tmp_path)
    results.update(tmp_path)
    return tmp_path


def change_output(course, pattern, new):
    """Replace what ``pattern`` finds in the output that is lesson 03's result."""
    path = course / "03_computer_vision.ipynb"
    notebook = read(path)
    cell = results.only_cell(path, notebook, results.RESULTS["03"].cell)
    (output,) = (o for o in cell.outputs if o.output_type == "stream")
    assert re.search(pattern, output.text)
    output.text = re.sub(pattern, new, output.text)
    nbformat.write(notebook, path)


def test_a_changed_output_makes_the_table_stale(small_course, capsys):
    change_output(small_course, r"(?<=CNNModel) +[\d.]+", " 0.987")
    assert results.main(["--check", "--root", str(small_course)]) == 1
    printed = capsys.readouterr().out
    assert "README.md is not up to date" in printed and "test accuracy 0.987" in printed
    assert (
        results.main(["--root", str(small_course)]) == 0
        and "wrote README.md" in capsys.readouterr().out
    )
    assert results.main(["--check", "--root", str(small_course)]) == 0


def test_a_number_that_is_gone_is_named(small_course, capsys):
    before = (small_course / "README.md").read_bytes()
    change_output(small_course, "CNNModel", "TheModel")
    assert results.main(["--root", str(small_course)]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("error: 03_computer_vision.ipynb, output of")
        and "CNNModel" in error
    )
    assert (small_course / "README.md").read_bytes() == before


def test_readme_without_a_place_for_the_table(small_course, capsys):
    (small_course / "README.md").write_text("# A course\n")
    assert results.main(["--root", str(small_course)]) == 2
    assert capsys.readouterr().err.startswith("error: README.md has no table to write")


def test_a_forks_address_reaches_table_and_citation(small_course):
    project = small_course / "pyproject.toml"
    project.write_text(
        project.read_text(encoding="utf-8").replace("your_account", "somebody"),
        encoding="utf-8",
    )
    results.update(small_course)
    assert "colab.research.google.com/github/somebody/" in (
        small_course / "README.md"
    ).read_text(encoding="utf-8")
    assert "github.com/somebody/" in (small_course / "CITATION.cff").read_text(
        encoding="utf-8"
    )


REPORT = """<testsuites><testsuite time="700.5">
<testcase classname="01_workflow.ipynb" name="Cell 0" time="100.25" />
<testcase classname="01_workflow.ipynb" name="Cell 1" time="30" />
<testcase classname="tests.test_app" name="test_a" time="1.5" />
<testcase classname="tests.test_app.TestB" name="test_b" time="2" />
</testsuite></testsuites>"""


def test_times_of_notebooks_and_test_files(tmp_path, capsys):
    (tmp_path / "report.xml").write_text(REPORT)
    assert results.main(["--times", str(tmp_path / "report.xml")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [
        "01_workflow.ipynb 130.2 s ABOVE 120 s",
        "tests/test_app.py 3.5 s",
    ]
    assert lines[2] == "the whole, from begin to end 700.5 s within 720 s"


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "no XML",
        "<testsuites/>",
        '<a><testsuite><testcase name="x"/></testsuite></a>',
    ],
)
def test_a_bad_report_gives_one_line(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "report.xml").write_text(content)
    assert results.main(["--times", str(tmp_path / "report.xml")]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("error: ") and "report.xml" in error and error.count("\n") == 1
    )


def test_the_figures_of_cards_and_strip_are_stored(root):
    """They are found by their titles, which a lesson may change."""
    places = [
        *pictures.CARDS.items(),
        *(each for row in pictures.STRIP for each in row),
    ]
    for number, figure in places:
        assert min(pictures.figure_of(root, number, figure).size) > 100
    assert len({number for row in pictures.STRIP for number, _ in row}) >= 6
    for name in pictures.GROUNDS:
        with Image.open(root / "docs" / f"hero-{name}.png") as strip:
            assert strip.width == pictures.WIDTH


def test_each_lesson_leads_to_the_next_and_back():
    neighbors = zip([None, *PATHS[:-1]], PATHS, [*PATHS[1:], None], strict=True)
    for before, path, after in neighbors:
        cells = [cell.source for cell in read(path).cells]
        ends = [i for i, text in enumerate(cells) if text.startswith("## Workshop")]
        (recap,) = (text for text in cells[: ends[0]] if "**Next:**" in text)
        for other in filter(None, (before, after)):
            assert f"]({other.name})" in recap.rpartition("**Next:**")[2], path.name


# ---- INSTRUCTORS.md


def plan_of(root, path):
    """Return a lesson's part of the page for instructors."""
    page = (root / "INSTRUCTORS.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (?=\d\d · )", page, flags=re.MULTILINE)
    (plan,) = (part for part in parts if part.startswith(path.stem[:2]))
    return plan


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_instructors_page_names_what_the_notebook_has(root, path):
    plan = plan_of(root, path)
    text = "\n".join(
        cell.source for cell in read(path).cells if cell.cell_type == "markdown"
    )
    assert plan.splitlines()[0] == re.match(r"# (.+)", text)[1]
    sections = re.findall(r"^## (\d+ · .+)$", text, re.MULTILINE)
    tasks = [f"{number} · {title}" for number, title, _ in HEADING.findall(text)]
    named = re.findall(r"\*([\d.]+ · [^*]+)\*", plan)
    assert [name for name in named if name not in sections and name not in tasks] == []
    assert {name for name in named if "." in name.split()[0]} == set(tasks), (
        "each exercise: in class, at home or skipped"
    )
    assert sum(map(int, re.findall(r"^\| (\d+) \|", plan, re.MULTILINE))) == 90


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_instructors_page_answers_each_predict(root, path):
    asked, section = [], None
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            marks = re.finditer(r"^## (\d+) · |\*\*Predict:\*\*", cell.source, re.M)
            for mark in marks:
                if mark[1]:
                    section = mark[1]
                else:
                    asked.append(section)
    (rows,) = re.findall(r"<summary>Predicts.*?</details>", plan_of(root, path), re.S)
    assert re.findall(r"^\d+\. §(\d+): \*.+?\?\* \*\*", rows, re.M) == asked


# ---- README's commands, word for word


def test_every_command_of_the_readme_is_run_by_a_test(root):
    commands = readme_commands(root)
    assert len(set(commands)) == len(COMMANDS)
    for command in commands:
        assert sum(f"{command}\n".startswith(begin) for begin in COMMANDS) == 1, (
            f"write a test for: {command}"
        )
    whole, *_ = (line for line in commands if "&& jupyter lab" in line)
    place = commands.index(whole)
    assert whole.split(" && ") == commands[place + 1 : place + 3]


def words_of(root, begin):
    """Return the README's command that begins so, as words for this Python."""
    (command,) = (
        command for command in readme_commands(root) if command.startswith(begin)
    )
    first, *words = shlex.split(command)
    return [
        sys.executable,
        *(["-m", "torch.distributed.run"] if first == "torchrun" else []),
        *words,
    ]


def run(command, folder, packages):
    keywords = {"capture_output": True, "encoding": "utf-8", "timeout": 300}
    done = subprocess.run(command, cwd=folder, env=finds(packages), **keywords)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(command, folder):
    """Run ``python -m going_modular ...``, in this process; return what it prints."""
    assert command[1:3] == ["-m", "going_modular"]
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(command[3:]) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """A folder with what a fresh clone has of data: the archive."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "data").mkdir()
    shutil.copy(root / "data" / "cat_dog_horse.zip", folder / "data")
    return folder


SHORT = ["--epochs", "1", "--image-size", "32"]  # the last word counts


@pytest.fixture(scope="module")
def trained(root, clone):
    run_here([*words_of(root, "python -m going_modular train"), *SHORT], clone)
    return clone


def test_train_as_the_readme_says(trained):
    kept = {path.name for path in (trained / "runs" / "first").iterdir()}
    assert kept == {*WRITTEN} - {"interrupted.pt"}


def test_predict_as_the_readme_says(root, trained):
    printed = run_here(words_of(root, "python -m going_modular predict"), trained)
    assert "horse_004.png" in printed and {"cat", "dog", "horse"} <= set(
        re.findall(r"\w+", printed)
    )


def test_check_as_the_readme_says(root, trained):
    printed = run_here(words_of(root, "python -m going_modular check"), trained)
    assert {"cat", "dog", "horse"} <= set(re.findall(r"\w+", printed))


def test_evaluate_as_the_readme_says(root, trained):
    printed = run_here(words_of(root, "python -m going_modular evaluate"), trained)
    assert "accuracy 0." in printed.splitlines()[-1] and "±" in printed
    out = trained / "runs" / "first" / "evaluation-test"
    assert {"confusion.png", "pictures.csv"} <= {path.name for path in out.iterdir()}


def test_export_as_the_readme_says(root, trained):
    assert "model.onnx" in run_here(
        words_of(root, "python -m going_modular export"), trained
    )
    assert (trained / "runs" / "first" / "model.onnx").stat().st_size > 10_000


def test_serve_as_the_readme_says(root, trained):
    port, picture = free_port(), "data/cat_dog_horse/test/horse/horse_004.png"
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    command = words_of(root, "python -m going_modular serve")
    server = subprocess.Popen(command, cwd=trained, env=finds(root) | settings)
    try:
        found = ask_page(server, port, trained / picture)
    finally:
        server.terminate()
        server.wait(timeout=30)
    wanted = Predictor.load(trained / "runs" / "first")(trained / picture)
    assert found == pytest.approx(dict(wanted), abs=1e-5)


def test_profile_as_the_readme_says(root, clone):
    assert "pictures a second" in run_here(
        words_of(root, "python -m going_modular profile"), clone
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no torchrun")
def test_two_processes_as_the_readme_says(root, trained):
    run([*words_of(root, "torchrun"), *SHORT], trained, root)
    assert (trained / "runs" / "pair" / "last.pt").exists()


def test_two_processes_without_torchrun_as_the_readme_says(root, trained):
    python, script, *words = words_of(root, "python tools/launch.py")
    run([python, str(root / script), *words, *SHORT], trained, root)
    assert (trained / "runs" / "two" / "last.pt").exists()


def test_the_library_in_another_project(root, tmp_path):
    """Built from a copy, since a build leaves files beside the sources."""
    source, target, empty = tmp_path / "source", tmp_path / "target", tmp_path / "empty"
    shutil.copytree(
        root / "going_modular",
        source / "going_modular",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    empty.mkdir()
    offline = "--no-deps --no-build-isolation --no-index --quiet --target"
    command = [*words_of(root, "python -m pip install ."), *offline.split()]
    subprocess.run([*command, str(target)], cwd=source, check=True, timeout=300)
    code = "import going_modular, going_modular.engine; print(going_modular.__file__)"
    assert str(target) in run([sys.executable, "-c", code], empty, target)
    code = (
        "from importlib.metadata import entry_points as found; "
        "found(group='console_scripts')['going-modular'].load()(['--version'])"
    )
    version = run([sys.executable, "-c", code], empty, target)
    assert version == f"going-modular {going_modular.__version__}\n"
    for inside in ("*.py", "web/*"):
        names = {path.name for path in (target / "going_modular").glob(inside)}
        wanted = {path.name for path in (root / "going_modular").glob(inside)}
        assert names == wanted and len(names) > 2
