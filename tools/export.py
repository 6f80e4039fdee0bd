"""Write the package going_modular from the notebooks' cells that begin with ``#| export MODULE``.

    python tools/export.py           write every module anew
    python tools/export.py --check   change nothing; exit 1, with a diff, where a module is not what the notebooks say

A module's imports are found, not written: a name that an exported cell uses is imported the way its notebook imports
it, or from the module into which a notebook exports it. Exit status 2: a cell cannot be exported; nothing was written.
"""

import argparse
import ast
import builtins
import difflib
import os
import re
import subprocess
import symtable
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
MARK = "# Written by tools/export.py"
MAIN_GUARD = 'if __name__ == "__main__" and "__file__" in globals():'  # a notebook is "__main__" too, but has no file
# In the order of dependence: a module may import from those above it, so that no two can ever import each other.
MODULES = {
    "utils": "Seeds, the device, a tensor described in one line, weights saved and loaded.",
    "plots": "Every figure that the course draws twice.",
    "data_setup": "Toy data, data sets and the loaders that serve them in batches.",
    "model_builder": "The models of the course, from a straight line to a convolutional network.",
    "vit": "The Vision Transformer, part by part.",
    "engine": "The training loop: one step, one epoch, a whole training.",
    "train": "Training from the command line.",
    "tracking": "Experiments recorded, and compared.",
    "predictions": "From a picture to ranked class probabilities.",
    "performance": "Measuring speed, and the changes that improve it.",
    "app": "A trained model served to people.",
    "__main__": "The course as one command.",
}


class ExportError(Exception):
    """A cell that cannot be exported; the message begins with its notebook and cell."""


@dataclass(frozen=True)
class Cell:
    """One code cell: ``number`` counts all cells of the notebook from 1, as an editor shows them."""

    notebook: str
    number: int
    source: str
    module: str | None  # None: not exported

    def refuse(self, why: str) -> ExportError:
        return ExportError(f"{self.notebook}, cell {self.number}: {why}")


def read_cells(notebook: Path) -> list[Cell]:
    """Return the code cells of ``notebook``. Raises ExportError for a directive that names no module of the course."""
    try:
        all_cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise ExportError(f"{notebook.name} is no readable notebook: {str(error).splitlines()[0]}") from None
    cells = []
    for number, cell in enumerate(all_cells, start=1):
        if cell.cell_type != "code":
            continue
        directive = re.match(r"#\|\s*export\b[ \t]*(.*)", cell.source)
        module = directive.group(1).strip() if directive else None
        cells.append(Cell(notebook.name, number, cell.source, module))
        if directive and module not in MODULES:
            raise cells[-1].refuse(f"{module!r} is no module of the course; choose one of {', '.join(MODULES)}")
    return cells


def parse(cell: Cell) -> ast.Module:
    """Parse an exported cell. Raises ExportError for a magic, a syntax error, or anything but definitions."""
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        if re.search(r"^\s*[%!?]|=\s*[%!]\w", cell.source, re.MULTILINE):
            raise cell.refuse("a magic or shell command cannot be exported; move it to a cell of its own") from None
        raise cell.refuse(f"syntax error in line {error.lineno}: {error.msg}") from None
    for node in tree.body:
        if not (isinstance(node, ast.Import | ast.ImportFrom) or names_defined(node) or is_main_guard(cell)):
            hint = f"; a command's cell begins {MAIN_GUARD}" if "__main__" in cell.source else ""
            raise cell.refuse(f"line {node.lineno} defines nothing; an exported cell holds only definitions{hint}")
        is_documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if is_documented and not node.name.startswith("_") and not ast.get_docstring(node):
            raise cell.refuse(f"{node.name} needs a docstring: shapes, units or range, errors, source")
    return tree


def is_main_guard(cell: Cell) -> bool:
    """Tell whether the cell is nothing but a main guard, which goes to its module's end."""
    lines = cell.source.splitlines()[1:]
    return lines[:1] == [MAIN_GUARD] and all(line.startswith(" ") for line in lines[1:])


def names_defined(node: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines, imports aside."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def imports_in(cells: list[Cell]) -> dict[str, str]:
    """Return {name: the statement that imports it} over a notebook's cells, those with magics left out."""
    found = {}
    for cell in cells:
        try:
            body = ast.parse(cell.source).body
        except SyntaxError:
            continue
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                origin = f"from {'.' * node.level}{node.module or ''} " if isinstance(node, ast.ImportFrom) else ""
                for alias in node.names:
                    name = alias.asname or alias.name.split(".")[0]
                    found[name] = origin + "import " + alias.name + (f" as {alias.asname}" if alias.asname else "")
    return found


def free_names(source: str) -> set[str]:
    """Return the names that ``source`` takes from its module's globals, builtins aside."""

    def visit(table: symtable.SymbolTable) -> set[str]:
        own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        return own.union(*map(visit, table.get_children()))

    return visit(symtable.symtable(source, "cell", "exec")) - set(dir(builtins)) - {"__name__", "__file__"}


def body_of(cell: Cell, tree: ast.Module) -> str:
    """Return the cell's text without the directive and the imports."""
    lines = cell.source.splitlines()
    lines[0] = ""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines).strip("\n")


def build(root: Path) -> dict[str, str]:
    """Return {file name: text} of the whole package. Raises ExportError, naming notebook and cell."""
    notebooks = {path.name: read_cells(path) for path in sorted(root.glob("[0-9][0-9]_*.ipynb"))}
    imports = {name: imports_in(cells) for name, cells in notebooks.items()}
    exported = [(cell, parse(cell)) for cells in notebooks.values() for cell in cells if cell.module]
    owner: dict[str, Cell] = {}
    for cell, tree in exported:
        for name in [name for node in tree.body for name in names_defined(node)]:
            if name in owner:
                first = owner[name]
                raise cell.refuse(f"{name} is defined already in {first.notebook}, cell {first.number}")
            owner[name] = cell

    files = {}
    for module, summary in MODULES.items():
        parts = [(cell, tree) for cell, tree in exported if cell.module == module]
        if parts:
            parts.sort(key=lambda part: is_main_guard(part[0]))  # stable: only guards move, to the end
            sources = ", ".join(dict.fromkeys(cell.notebook for cell, _ in parts))
            head = textwrap.fill(f"{MARK} from {sources}: edit there, not here.", 120, subsequent_indent="# ")
            bodies = [body_of(cell, tree) for cell, tree in parts]
            imported = import_lines([cell for cell, _ in parts], owner, imports)
            files[f"{module}.py"] = tidy("\n\n\n".join([f'{head}\n"""{summary}"""', imported, *bodies]) + "\n")
    listing = "\n".join(f"{name[:-3]}: {MODULES[name[:-3]]}" for name in files)
    files["__init__.py"] = (
        f'{MARK}: edit there, not here.\n"""The library that the notebooks export.\n\n{listing}\n"""\n'
    )
    return files


def import_lines(cells: list[Cell], owner: dict[str, Cell], imports: dict[str, dict[str, str]]) -> str:
    """Return the import statements that the exported cells of one module need."""
    needed: dict[str, str] = {}
    for cell in cells:
        for name in sorted(free_names(cell.source)):
            statement = resolve(name, cell, owner, imports[cell.notebook])
            if needed.setdefault(name, statement) != statement:
                raise cell.refuse(f"{name} means {statement!r} here, but {needed[name]!r} elsewhere in {cell.module}")
    return "\n".join(filter(None, needed.values()))


def resolve(name: str, cell: Cell, owner: dict[str, Cell], imported: dict[str, str]) -> str:
    """Return the import statement that gives ``name`` to the cell's module, "" where the module defines it itself."""
    if name in imported and not re.match(r"(from|import) going_modular\b", imported[name]):
        return imported[name]
    if name not in owner:
        raise cell.refuse(f"{name} is neither imported in this notebook nor exported by any; pass it as an argument")
    source = owner[name].module
    if source == cell.module:
        return ""
    if list(MODULES).index(source) > list(MODULES).index(cell.module):
        raise cell.refuse(f"{cell.module} may not use {name} of {source}: imports point from later modules to earlier")
    return f"from going_modular.{source} import {name}"


def tidy(text: str) -> str:
    """Sort the imports and format with ruff, as pyproject.toml sets it."""
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *command, "--stdin-filename", "going_modular/module.py", "-"]
        done = subprocess.run(command, cwd=ROOT, input=text, text=True, encoding="utf-8", capture_output=True)
        if done.returncode:
            raise ExportError(f"ruff could not tidy the module: {done.stderr.strip()}")
        text = done.stdout
    return text


def write(path: Path, text: str) -> None:
    """Write ``text`` whole or not at all: to a temporary file that then takes the place of ``path``."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def export(root: Path, check: bool = False) -> list[str]:
    """Bring root/going_modular up to date (``check``: change nothing) and return a diff for each file that differs."""
    files, package = build(root), root / "going_modular"
    present = {path.name: path.read_text(encoding="utf-8") for path in sorted(package.glob("*.py"))}
    foreign = [name for name in present if name not in files and not present[name].startswith(MARK)]
    if foreign and not check:
        raise ExportError(f"going_modular/{foreign[0]} was written by hand; export it from a notebook, or move it away")
    diffs = []
    for name in sorted(files.keys() | present.keys()):
        old, new = present.get(name), files.get(name)
        if old == new:
            continue
        lines = difflib.unified_diff(
            (old or "").splitlines(), (new or "").splitlines(), "committed", "exported", lineterm=""
        )
        state = (
            "is missing"
            if old is None
            else "is exported by no notebook"
            if new is None
            else "is not what the notebooks say"
        )
        diffs.append("\n".join([f"going_modular/{name} {state}", *lines]))
        if not check and new is None:
            (package / name).unlink()
        elif not check:
            write(package / name, new)
    return diffs


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, exit 1 with a diff where something differs"
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="the folder of the notebooks (default: this repository)"
    )
    options = parser.parse_args(arguments)
    try:
        diffs = export(options.root, check=options.check)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for diff in diffs:
        print(diff if options.check else f"wrote {diff.split(maxsplit=1)[0]}")
    if options.check and diffs:
        print("\nRun python tools/export.py; a change belongs in the notebook, not in the module.")
    return 1 if options.check and diffs else 0


if __name__ == "__main__":
    sys.exit(main())
