"""Run lessons as Google Colab would: each alone, in an empty folder, on its versions.

    python tools/colab_run.py 00 07 09

Each notebook's setup cell fetches the course, from a clone of this repository's last
commit, and installs what Colab lacks; so this takes the network, 8 GB and some minutes.
Colab's versions are those of tests/colab/requirements.txt, on this Python. Exit status
1: something was printed that a learner would take for an error.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tools.surroundings import FOREIGN  # noqa: E402

VERSIONS = ROOT / "tests" / "colab" / "requirements.txt"
ERROR = re.compile(r"^\s*(error|warning)\b|^Traceback \(most|too old", re.I | re.M)
# A line that a lesson has to print; W&B's says that the real one was read back.
NEEDED = {"07": r"^wandb gives back \[\d"}


def make_environment(folder: Path) -> Path:
    """Make a virtual environment with Colab's versions; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", VERSIONS], check=True)
    return python


def run_alone(
    python: str | Path, notebook: Path, folder: Path, repository: str
) -> Path:
    """Run a notebook in an empty folder; return the copy with its outputs.

    Args:
        python: of the environment to run it in.
        notebook: one of this repository's.
        folder: is made.
        repository: whence the setup cell clones the course.
    """
    folder.mkdir(parents=True)
    copy = Path(shutil.copy(notebook, folder))
    environment = {n: v for n, v in os.environ.items() if n not in FOREIGN}
    # "jupyter execute" is looked for there, and so is each "python" of a lesson.
    environment["PATH"] = os.pathsep.join(
        [str(Path(python).parent), os.environ["PATH"]]
    )
    words = ["-m", "jupyter", "execute", "--inplace", "--allow-errors", copy.name]
    subprocess.run(
        [str(python), *words],
        cwd=folder,
        env=environment | {"COURSE_REPO": repository},
        check=True,
    )
    return copy


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """Return a notebook's code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any], streams: tuple[str, ...]) -> str:
    """Return what a cell printed on stdout, stderr or both."""
    found = (each for each in cell["outputs"] if each.get("name") in streams)
    return "".join(line for each in found for line in each["text"])


def faults(run: Path, stored: Path) -> list[str]:
    """Return what a learner would take for an error, and the stored run does not show.

    That is an exception, a traceback, a line that speaks of an error or a warning, and
    anything on stderr.

    Args:
        run: the notebook that was run.
        stored: the same one as the course keeps it.
    """
    found, both = [], ("stdout", "stderr")
    pairs = zip(code_cells(run), code_cells(stored), strict=True)
    for number, (cell, kept) in enumerate(pairs, 1):
        meant = "raises-exception" in cell["metadata"].get("tags", [])
        problems = [
            f"{each['ename']}: {each['evalue']}"
            for each in cell["outputs"]
            if each["output_type"] == "error" and not meant
        ]
        if ERROR.search(printed(cell, both)) and not ERROR.search(printed(kept, both)):
            problems.append(printed(cell, both))
        elif not printed(kept, ("stderr",)):
            problems += filter(None, [printed(cell, ("stderr",))])
        found += [f"code cell {number}: {each.strip()[:1000]}" for each in problems]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lessons", nargs="*", help="default: 00 07 09")
    parser.add_argument("--python", help="of an environment that is there already")
    parser.add_argument("--keep", type=Path, help="a new folder for what was run")
    options = parser.parse_args(arguments)
    count = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        python = options.python or make_environment(Path(temporary) / "colab")
        for lesson in options.lessons or ["00", "07", "09"]:
            (stored,) = ROOT.glob(f"{lesson}_*.ipynb")
            print(f"running {stored.name} ...", flush=True)
            run = run_alone(python, stored, place / lesson, ROOT.as_uri())
            problems = faults(run, stored)
            text = "".join(printed(cell, ("stdout",)) for cell in code_cells(run))
            if not re.search(NEEDED.get(lesson, ""), text, re.M):
                problems.append(f"no line {NEEDED[lesson]!r}")
            for problem in problems:
                print(f"{stored.name}, {problem}", file=sys.stderr)
            count += len(problems)
    print(f"{count} faults")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
