"""Bring notebooks to the state that is committed: links and setup cell, format, export, outputs.

    python tools/rebuild.py [NOTEBOOK ...]           all of it, for all notebooks when none is named
    python tools/rebuild.py --links [NOTEBOOK ...]   only the links and the setup cell, without executing

The repository's address comes from pyproject.toml. A notebook that fails is left as it was, and the exit status is 1.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import export

ROOT = export.ROOT
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SETUP = """\
# Setup: where the course is not at hand (Colab, a notebook file alone), fetch it and what it needs.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("going_modular") is None:
    if not os.path.isdir("pytorch-course"):
        repository = os.environ.get("COURSE_REPO", "{repository}")
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", repository, "pytorch-course"], check=True)
    os.chdir("pytorch-course")
    sys.path.insert(0, os.getcwd())
    subprocess.run([sys.executable, "tools/install_missing.py"], check=True)
"""


def repository(root: Path) -> str:
    """Return the repository's address, as pyproject.toml gives it."""
    with open(root / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]["Repository"].removesuffix("/")


def colab_link(root: Path, notebook: str) -> str:
    """Return the Markdown link that opens ``notebook`` in Colab."""
    path = repository(root).removeprefix("https://github.com/")
    return f"[Open in Colab](https://colab.research.google.com/github/{path}/blob/main/{notebook})"


def setup_source(root: Path) -> str:
    """Return the text of the setup cell, the same in every notebook."""
    return SETUP.format(repository=repository(root)).strip()


def relink(notebook: NotebookNode, name: str, root: Path) -> None:
    """Write the Colab link into the first cell and the setup cell's text into the second."""
    first, second = notebook.cells[:2]
    if second.cell_type != "code" or not second.source.lower().startswith("# setup"):
        raise export.ExportError(f"{name}, cell 2: the setup cell belongs here; begin it with the comment '# setup'")
    if "[Open in Colab](" not in first.source:
        raise export.ExportError(f"{name}, cell 1: the line '[Open in Colab]()' belongs here")
    link = colab_link(root, name)
    first.source = re.sub(r"\[Open in Colab\]\([^)]*\)", lambda _: link, first.source)
    second.source = setup_source(root)


def execute(notebook: NotebookNode, root: Path) -> None:
    """Run every cell in a fresh kernel, in ``root``, and keep the outputs but none of the timestamps."""
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": str(root)}}
    ).execute()
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.traceback = shorten(output.traceback)


def shorten(traceback: list[str]) -> list[str]:
    """Keep of a traceback the learner's own line and the message: the frames between name files of this machine."""
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", entry) for entry in traceback]
    starts = [index for index, entry in enumerate(plain) if "Traceback (most recent call last)" in entry]
    frames = [entry for entry in plain if entry.startswith("Cell In")]
    return [traceback[index] for index in starts[-1:]] + frames[:1] + traceback[-1:]


def rebuild(paths: list[Path], root: Path, links_only: bool = False) -> None:
    """Rebuild the notebooks in turn. Raises ExportError or CellExecutionError at the first that fails."""
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        relink(notebook, path.name, root)
        export.write(path, nbformat.writes(notebook) + "\n")
        subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(path)], cwd=root, check=True)
    export.export(root)
    for path in [] if links_only else paths:
        print(f"running {path.name} ...", flush=True)
        notebook = nbformat.read(path, as_version=4)
        execute(notebook, root)
        export.write(path, nbformat.writes(notebook) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks at the root (default: all)")
    parser.add_argument("--links", action="store_true", help="only links and setup cells; execute nothing")
    options = parser.parse_args(arguments)
    paths = [path.resolve() for path in options.notebooks] or sorted(ROOT.glob("[0-9][0-9]_*.ipynb"))
    for path in paths:
        if path.parent != ROOT or not path.exists():
            parser.error(f"{path.name} is no notebook at the root of this repository")
    try:
        rebuild(paths, ROOT, links_only=options.links)
    except (export.ExportError, CellExecutionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
