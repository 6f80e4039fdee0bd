"""Bring notebooks to the state that is committed.

    python tools/rebuild.py [NOTEBOOK ...]           all notebooks if none is named
    python tools/rebuild.py --links [NOTEBOOK ...]   links, setup cell, format, export
                                                     and folding; execute nothing

The first also executes and stores outputs, with the figures' alternative texts.
The repository's address comes from pyproject.toml. A notebook that fails is left as it
was, and the exit status is 1.
"""

import argparse
import inspect
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import export
from tools.surroundings import neutral

ROOT = export.ROOT
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SETUP = """\
# Setup: from my/ go to the course; fetch it where it is not (as on Colab).
import importlib.util
import os
import subprocess
import sys

if os.path.isdir("../going_modular"):
    os.chdir("..")
if importlib.util.find_spec("going_modular") is None:
    if not os.path.isdir("pytorch-course"):
        repository = os.environ.get(
            "COURSE_REPO",
            "{repository}",
        )
        clone = ["git", "clone", "--quiet", "--depth", "1"]
        clone += [repository, "pytorch-course"]
        no_questions = os.environ | {{"GIT_TERMINAL_PROMPT": "0"}}
        if subprocess.run(clone, env=no_questions).returncode:
            problem = f"The course cannot be fetched from {{repository}}"
            sys.exit(f"{{problem}}: is it there?")
    os.chdir("pytorch-course")
    sys.path.insert(0, os.getcwd())
    importlib.import_module("tools.install_missing").install("{lesson}")
"""
BADGE = "![Open in Colab](docs/colab.svg)"
HIDE_INPUT, HIDE_OUTPUT = FOLD_TAGS = "hide-input", "hide-output"  # for the website
DRAWING = 8  # lines of a cell that draws; a longer one is folded


def repository(root: Path) -> str:
    """Return the repository's address, as pyproject.toml gives it."""
    with open(root / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]["Repository"].removesuffix("/")


def colab_link(root: Path, notebook: str) -> str:
    """Return the Markdown link, a badge, that opens ``notebook`` in Colab."""
    path = repository(root).removeprefix("https://github.com/")
    return f"[{BADGE}](https://colab.research.google.com/github/{path}/blob/main/{notebook})"


def setup_source(root: Path, notebook: str) -> str:
    """Return the text of a notebook's setup cell."""
    return SETUP.format(repository=repository(root), lesson=notebook[:2]).strip()


def relink(notebook: NotebookNode, name: str, root: Path) -> None:
    """Write the Colab link into the first cell and the setup text into the second."""
    first, second = notebook.cells[:2]
    if second.cell_type != "code" or not second.source.lower().startswith("# setup"):
        why = "the setup cell belongs here; begin it with the comment '# setup'"
        raise export.ExportError(f"{name}, cell 2: {why}")
    if "Open in Colab](" not in first.source:
        why = "the line '[Open in Colab]()' belongs here"
        raise export.ExportError(f"{name}, cell 1: {why}")
    link = colab_link(root, name)
    anywhere = r"\[(!\[Open in Colab\]\([^)]*\)|Open in Colab)\]\([^)]*\)"
    first.source = re.sub(anywhere, lambda _: link, first.source)
    second.source = setup_source(root, name)


def _add_alt_texts(formatter: object) -> None:
    """Make IPython's formatter give each figure's picture an alternative text.

    It is the figure's label if it has one (``fig.set_label``), else its titles. This
    function's source runs in the kernel, so it uses nothing of this module.
    """
    plain = formatter.format

    def format_with_alt(
        obj: object, *arguments: object, **options: object
    ) -> tuple[dict, dict]:
        data, metadata = plain(obj, *arguments, **options)
        if "image/png" in data and hasattr(obj, "get_suptitle"):
            places = ("left", "center", "right")
            titles = [axes.get_title(place) for axes in obj.axes for place in places]
            label, texts = obj.get_label(), [obj.get_suptitle(), *titles]
            lines = [" ".join(text.split()) for text in ([label] if label else texts)]
            alt = "; ".join(dict.fromkeys(filter(None, lines)))
            metadata = metadata | ({"image/png": {"alt": alt}} if alt else {})
        return data, metadata

    formatter.format = format_with_alt


def execute(notebook: NotebookNode, root: Path) -> None:
    """Run every cell in a fresh kernel, in ``root``, and store the outputs."""
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(root)}},
    )
    hook = inspect.getsource(_add_alt_texts)
    hook += "_add_alt_texts(get_ipython().display_formatter)\ndel _add_alt_texts"

    async def prepare(**_: object) -> None:
        assert client.kc is not None
        request = client.kc.execute(hook, silent=True, store_history=False)
        reply = await client.async_wait_for_reply(request)
        assert reply and reply["content"]["status"] == "ok", reply

    client.on_notebook_start = prepare
    with tempfile.TemporaryDirectory() as folder:  # nothing is solved yet
        results = Path(folder) / "progress.json"
        client.execute(env=neutral() | {"COURSE_PROGRESS": str(results)})
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.traceback = shorten(output.traceback)


def fold(notebook: NotebookNode) -> None:
    """Set each cell's metadata: the author's tags, and what a reader finds folded.

    Folded are the setup cell, imports, long drawing code and the workshop, exercises
    aside; the first output after a **Predict:** is hidden, a line that asks to wait is
    none. An empty output goes before it, because JupyterLab shows a hidden output's
    first line.
    """
    in_workshop = asked = False
    number = 0  # of the code cell
    for cell in notebook.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if tag not in FOLD_TAGS]
        cell.metadata = NotebookNode()
        jupyter = {}
        if cell.cell_type == "markdown":
            in_workshop |= bool(re.search("^## Workshop", cell.source, re.MULTILINE))
            asked &= not cell.source.startswith("#")  # another section has begun
            asked |= "**Predict:**" in cell.source
        elif cell.cell_type == "code":
            number += 1
            exercise = "# your code" in cell.source
            cell.outputs = [o for o in cell.outputs if o.get("data") != {}]
            if not exercise and (in_workshop or is_aside(cell.source, number)):
                tags.append(HIDE_INPUT)
                jupyter["source_hidden"] = True
                cell.metadata.cellView = "form"
            if not exercise and asked and not all(map(is_waiting, cell.outputs)):
                tags.append(HIDE_OUTPUT)
                jupyter["outputs_hidden"] = True
                cell.outputs.insert(0, nbformat.v4.new_output("display_data"))
                asked = False
        cell.metadata |= {"jupyter": jupyter} if jupyter else {}
        cell.metadata |= {"tags": tags} if tags else {}


def is_waiting(output: NotebookNode) -> bool:
    """Tell whether an output is one line that asks to wait: it ends in " ..."."""
    is_text = output.output_type == "stream"
    return is_text and bool(re.fullmatch(r"[^\n]* \.\.\.\n", output.text))


def is_aside(source: str, number: int) -> bool:
    """Tell whether a code cell is the setup cell, only imports, or draws at length.

    The second code cell, that of the imports, need only begin with one.
    """
    imports = [isinstance(s, export.IMPORTS) for s in export.statements_of(source)]
    if number == 1 or imports and (all(imports) or number == 2 and imports[0]):
        return True
    draws = source.rstrip().endswith("plt.show()")
    return draws and len(source.splitlines()) > DRAWING


def shorten(traceback: list[str]) -> list[str]:
    """Keep of a traceback the learner's own line and the message.

    The frames between them name files of this machine.
    """
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", entry) for entry in traceback]
    starts = [
        index
        for index, entry in enumerate(plain)
        if "Traceback (most recent call last)" in entry
    ]
    frames = [entry for entry in plain if entry.startswith("Cell In")]
    return [traceback[index] for index in starts[-1:]] + frames[:1] + traceback[-1:]


def rebuild(paths: list[Path], root: Path, links_only: bool = False) -> None:
    """Rebuild the notebooks in turn.

    Raises ExportError or CellExecutionError at the first that fails.
    """
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        relink(notebook, path.name, root)
        export.write(path, nbformat.writes(notebook) + "\n")
        subprocess.run(
            [sys.executable, "-m", "ruff", "format", "--quiet", str(path)],
            cwd=root,
            check=True,
        )
    export.export(root)
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if not links_only:
            print(f"running {path.name} ...", flush=True)
            execute(notebook, root)
        fold(notebook)
        export.write(path, nbformat.writes(notebook) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, help="at the root (default: all)"
    )
    parser.add_argument("--links", action="store_true", help="execute nothing")
    options = parser.parse_args(arguments)
    paths = [path.resolve() for path in options.notebooks] or sorted(
        ROOT.glob("[0-9][0-9]_*.ipynb")
    )
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
