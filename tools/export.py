"""Write the package going_modular from the notebooks' cells ``#| export MODULE``.

    python tools/export.py           write every module anew
    python tools/export.py --check   change nothing; exit 1, with a diff, if a module
                                     is not what the notebooks say

Directives are the first lines of a code cell:

    #| module engine: The training loop: one step, one epoch, a whole training.
    #| export engine

The first gives a module its summary, once, in any code cell. The second copies the cell
to the module. A module's imports are found, not written: a name that an exported cell
uses is imported the way its notebook imports it, or from the module that a notebook
exports it to. Exit status 2: a cell cannot be exported; nothing was written.
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
import tomllib
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
MARK = "# Written by tools/export.py"
# A notebook is "__main__" too, but has no file.
MAIN_GUARD = 'if __name__ == "__main__" and "__file__" in globals():'
# In the order of dependence: a module imports only from modules above it, inside
# functions as well, so that no two can ever import each other.
LAYERS = {
    "base": ["config", "checkpoints", "utils", "plots"],
    "data": [
        *["datasets", "archives", "pictures", "image_folder", "data_setup"],
        "folders",
    ],
    "networks": ["freezing", "model_builder", "effnet", "vit", "networks"],
    "learning": ["metrics", "engine", "schedules", "updates", "distributed"],
    "running": ["trackers", "runs", "states", "experiment"],
    "doors": [
        *["predictions", "onnx_export", "evaluation", "guard", "app", "demo"],
        *["measure", "exports", "training", "commands", "__main__", "train"],
    ],
}
MODULES = [*chain(*LAYERS.values())]
SERVING = {"predictions", "onnx_export", "guard", "app"}
NOT_SERVED = {*LAYERS["learning"], *LAYERS["running"]}
DIRECTIVE = re.compile(
    r"#\|\s*(?:export\b\s*(?P<module>.*)|module\s+(?P<about>\w+):\s*(?P<summary>\S.*))"
)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
Imports = dict[str, list[str]]  # {name: the statements that import it}
INIT = """\
{mark}: edit there, not here.
\"\"\"The library that the notebooks export.

{listing}
\"\"\"

import os
import signal
import sys

__version__ = "{version}"


def stop(*_: object) -> None:
    \"\"\"End the program, which has begun nothing yet.\"\"\"
    os.write(2, b"interrupted: nothing had begun\\n")
    os._exit(130)


# python -m going_modular: an import that Ctrl-C breaks off fails in many ways.
if "-m" in sys.argv[:1] and callable(signal.getsignal(signal.SIGINT)):
    signal.signal(signal.SIGINT, stop)

# Scripts of other courses say `from going_modular.going_modular import engine`.
sys.modules[f"{{__name__}}.going_modular"] = sys.modules[__name__]
"""


class ExportError(Exception):
    """A cell that cannot be exported; the message begins with its notebook and cell."""


@dataclass(frozen=True)
class Cell:
    """One code cell.

    ``number`` counts all cells of the notebook from 1, as an editor shows them;
    ``source`` has empty lines for its directives; ``module`` is "" if not exported.
    """

    notebook: str
    number: int
    source: str
    module: str
    summaries: tuple[tuple[str, str], ...]  # (module, summary)

    def __str__(self) -> str:
        return f"{self.notebook}, cell {self.number}"

    def refuse(self, why: str) -> ExportError:
        """Return the error that names this cell."""
        return ExportError(f"{self}: {why}")


def read_cells(notebook: Path) -> list[Cell]:
    """Return a notebook's code cells. Raises ExportError for what cannot be read."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"{notebook.name} is no readable notebook: {reason}"
        ) from None
    return [
        read_cell(notebook.name, number, cell.source)
        for number, cell in enumerate(cells, start=1)
        if cell.cell_type == "code"
    ]


def read_cell(notebook: str, number: int, source: str) -> Cell:
    """Read the directives at the top of a code cell."""
    lines, module, summaries = source.splitlines(), "", []
    cell = Cell(notebook, number, source, module, ())
    for index, line in enumerate(takewhile(lambda line: line.startswith("#|"), lines)):
        if not (found := DIRECTIVE.fullmatch(line.strip())):
            why = "write '#| export MODULE' or '#| module MODULE: SUMMARY'"
            raise cell.refuse(f"{line!r} is no directive; {why}")
        if (name := found["about"] or found["module"]) not in MODULES:
            why = f"is no module of the course; choose one of {', '.join(MODULES)}"
            raise cell.refuse(f"{name!r} {why}")
        if found["about"]:
            summaries.append((name, found["summary"]))
        else:
            module = name
        lines[index] = ""
    return Cell(notebook, number, "\n".join(lines), module, tuple(summaries))


def summaries_in(cells: list[Cell]) -> dict[str, str]:
    """Return {module: its summary}. Raises ExportError if a module has two."""
    found: dict[str, tuple[str, Cell]] = {}
    for cell in cells:
        for module, summary in cell.summaries:
            if module in found:
                raise cell.refuse(f"{module} has its summary in {found[module][1]}")
            found[module] = summary, cell
    return {module: summary for module, (summary, _) in found.items()}


def parse(cell: Cell) -> ast.Module:
    """Parse an exported cell. Raises ExportError if it cannot go into a module."""
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        why = f"syntax error in line {error.lineno}: {error.msg}"
        if re.search(r"^\s*[%!?]|=\s*[%!]\w", cell.source, re.MULTILINE):
            why = "a magic or shell command cannot be exported; move it to another cell"
        raise cell.refuse(why) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise cell.refuse(f"line {node.lineno}: import from going_modular, not .")
    for node in tree.body:
        if not (
            isinstance(node, IMPORTS) or names_defined(node) or is_main_guard(cell)
        ):
            why = "an exported cell holds only definitions"
            if "__main__" in cell.source:
                why += f"; a command's cell begins {MAIN_GUARD}"
            raise cell.refuse(f"line {node.lineno} defines nothing; {why}")
        if isinstance(node, DEFINITIONS) and not (
            node.name.startswith("_") or ast.get_docstring(node)
        ):
            why = "shapes, units or range, errors, source"
            raise cell.refuse(f"{node.name} needs a docstring: {why}")
    return tree


def is_main_guard(cell: Cell) -> bool:
    """Tell whether the cell is nothing but a main guard, which ends its module."""
    lines = cell.source.strip("\n").splitlines()
    return lines[:1] == [MAIN_GUARD] and all(line.startswith(" ") for line in lines[1:])


def names_defined(node: ast.stmt) -> list[str]:
    """Return what a top-level statement defines, imports aside.

    A registry's entries stand as ``NAME['key']``, be they in its literal or assigned.
    """
    if isinstance(node, DEFINITIONS):
        return [node.name]
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    names = []
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        match target, node.value:
            case ast.Subscript(ast.Name(name), ast.Constant(key)), _:
                names.append(f"{name}[{key!r}]")
            case ast.Name(name), ast.Dict(keys):
                literal = [key.value for key in keys if isinstance(key, ast.Constant)]
                names += [name, *(f"{name}[{key!r}]" for key in literal)]
            case _:
                names += [
                    name.id
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
                ]
    return names


def owners(exported: list[tuple[Cell, ast.Module]]) -> dict[str, Cell]:
    """Return {name: the cell that exports it}, registries' entries included.

    Raises ExportError if a name is defined twice, or an entry's registry is not defined
    before it, in the same module.
    """
    owner: dict[str, Cell] = {}
    for cell, tree in exported:
        for name in chain(*map(names_defined, tree.body)):
            registry = name.partition("[")[0]
            if name in owner:
                raise cell.refuse(f"{name} is defined already in {owner[name]}")
            if registry != name and home(registry, owner) != cell.module:
                why = f"no cell before exports {registry} to {cell.module}"
                raise cell.refuse(f"{name} is no entry: {why}")
            owner[name] = cell
    return owner


def home(name: str, owner: dict[str, Cell]) -> str:
    """Return the module that a name is exported to, "" if it is to none."""
    return owner[name].module if name in owner else ""


def statements_of(source: str) -> list[ast.stmt]:
    """Return the statements of a cell, none if it holds magics or does not parse."""
    try:
        return ast.parse(source).body
    except SyntaxError:
        return []


def imports_in(cells: list[Cell]) -> Imports:
    """Return how a notebook imports each name; the last import of a name wins.

    ``import a.b`` and ``import a.c`` both bind ``a``: both are kept.
    """
    found: Imports = {}
    for node in chain(*(statements_of(cell.source) for cell in cells)):
        if isinstance(node, IMPORTS):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                new = f"from {module} " * bool(module) + f"import {ast.unparse(alias)}"
                same = [s for s in found.get(name, []) if bound_by(s) == bound_by(new)]
                found[name] = [*dict.fromkeys([*same, new])]
    return found


def bound_by(statement: str) -> str:
    """Return what an import binds: ``import a.b`` binds what ``import a`` binds."""
    plain = statement.startswith("import ") and " as " not in statement
    return statement.split(".")[0] if plain else statement


def free_names(source: str) -> set[str]:
    """Return the names that ``source`` takes from its module, builtins aside."""

    def visit(table: symtable.SymbolTable) -> set[str]:
        own = {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_global() and symbol.is_referenced()
        }
        return own.union(*map(visit, table.get_children()))

    names = visit(symtable.symtable(source, "cell", "exec"))
    return names - set(dir(builtins)) - {"__name__", "__file__"}


def body_of(cell: Cell, tree: ast.Module) -> str:
    """Return the cell's text without directives and imports."""
    lines = cell.source.splitlines()
    for node in tree.body:
        if isinstance(node, IMPORTS):
            end = node.end_lineno or node.lineno
            lines[node.lineno - 1 : end] = [""] * (end - node.lineno + 1)
    return "\n".join(lines).strip("\n")


def build(root: Path) -> dict[str, str]:
    """Return {file name: text} of the package. Raises ExportError, naming the cell."""
    notebooks = [read_cells(path) for path in sorted(root.glob("[0-9][0-9]_*.ipynb"))]
    imports = {cells[0].notebook: imports_in(cells) for cells in notebooks if cells}
    cells = [*chain(*notebooks)]
    summaries = summaries_in(cells)
    exported = [(cell, parse(cell)) for cell in cells if cell.module]
    owner = owners(exported)
    files = {}
    for module in MODULES:
        parts = [(cell, tree) for cell, tree in exported if cell.module == module]
        if not parts:
            continue
        if module not in summaries:
            why = f"{module} has no summary; write '#| module {module}: ...' above"
            raise parts[0][0].refuse(why)
        for cell, tree in parts:
            check_inner_imports(cell, tree, owner)
        parts.sort(key=lambda part: is_main_guard(part[0]))  # stable: guards go last
        sources = ", ".join(dict.fromkeys(cell.notebook for cell, _ in parts))
        head = f"{MARK} from {sources}: edit there, not here."
        head = textwrap.fill(head, 88, subsequent_indent="# ")
        bodies = [body_of(cell, tree) for cell, tree in parts]
        imported = import_lines([cell for cell, _ in parts], owner, imports)
        start = f'{head}\n"""{summaries[module]}"""'
        files[f"{module}.py"] = tidy("\n\n\n".join([start, imported, *bodies]) + "\n")
    present = {name[:-3]: summaries[name[:-3]] for name in files}
    files["__init__.py"] = init_text(root, present)
    return files


def init_text(root: Path, summaries: dict[str, str]) -> str:
    """Return the text of ``__init__.py``."""
    groups = []
    for layer, modules in LAYERS.items():
        present = [name for name in modules if name in summaries]
        lines = [f"    {name}: {summaries[name]}" for name in present]
        groups += ["\n".join([f"{layer}:", *lines])] if lines else []
    project, version = root / "pyproject.toml", "0"
    if project.exists():
        settings = tomllib.loads(project.read_text(encoding="utf-8"))
        version = settings["project"]["version"]
    return INIT.format(mark=MARK, listing="\n\n".join(groups), version=version)


def check_inner_imports(cell: Cell, tree: ast.Module, owner: dict[str, Cell]) -> None:
    """Refuse an import inside a function that points the wrong way or at nothing."""
    for node in ast.walk(tree):
        if not isinstance(node, IMPORTS) or node in tree.body:
            continue
        start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for path in [start + alias.name for alias in node.names]:
            root, source, name, *_ = [*path.split("."), "", ""]
            if root == "going_modular" and source:
                if source not in MODULES or name and home(name, owner) != source:
                    raise cell.refuse(f"no cell exports {path}")
                check_direction(cell, source, inner=True)


def check_direction(cell: Cell, source: str, inner: bool = False) -> None:
    """Refuse an import from the module ``source`` that the layers forbid."""
    why = ""
    if MODULES.index(source) >= MODULES.index(cell.module):
        why = "imports point from later modules to earlier"
    elif cell.module in SERVING and source in NOT_SERVED:
        why = "serving imports nothing of training"
    elif cell.module in SERVING and source == "plots" and not inner:
        why = "serving imports what draws only inside a function"
    if why:
        raise cell.refuse(f"{cell.module} may not import from {source}: {why}")


def import_lines(
    cells: list[Cell], owner: dict[str, Cell], imports: dict[str, Imports]
) -> str:
    """Return the import statements that the exported cells of one module need."""
    needed: Imports = {}
    for cell in cells:
        for name in sorted(free_names(cell.source)):
            here = resolve(name, cell, owner, imports[cell.notebook].get(name, []))
            known = needed.setdefault(name, here)
            if {*map(bound_by, here)} != {*map(bound_by, known)}:
                why = f"but {known} elsewhere in {cell.module}"
                raise cell.refuse(f"{name} means {here} here, {why}")
            needed[name] = [*known, *here]
    return "\n".join(dict.fromkeys(chain(*needed.values())))


def resolve(
    name: str, cell: Cell, owner: dict[str, Cell], imported: list[str]
) -> list[str]:
    """Return the imports that give ``name`` to a cell's module."""
    own = re.compile(r"from going_modular\b|import going_modular\.")
    if outside := [line for line in imported if not own.match(line)]:
        if cell.module in SERVING and re.match(r"\w+ matplotlib\b", outside[0]):
            raise cell.refuse(f"{cell.module} may import {name} only inside a function")
        nodes = ast.walk(ast.parse(cell.source))
        paths = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
        used = [line for line in outside if line.removeprefix("import ") in paths]
        return used or outside
    source = home(name, owner)
    if not source:
        why = "is neither imported in this notebook nor exported by any"
        raise cell.refuse(f"{name} {why}; pass it as an argument")
    if source == cell.module:
        return []
    check_direction(cell, source)
    return [f"from going_modular.{source} import {name}"]


def tidy(text: str) -> str:
    """Sort the imports and format with ruff, as pyproject.toml sets it."""
    name = ["--stdin-filename", "going_modular/module.py", "-"]
    for command in ("check --quiet --fix --select I", "format --quiet"):
        ruff = [sys.executable, "-m", "ruff", *command.split(), *name]
        done = subprocess.run(ruff, cwd=ROOT, input=text.encode(), capture_output=True)
        text = done.stdout.decode()
        if done.returncode:
            why = done.stderr.decode().strip()
            raise ExportError(f"ruff could not tidy the module: {why}")
    return text


def write(path: Path, text: str) -> None:
    """Write ``text`` to a temporary file that then takes the place of ``path``."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def export(root: Path, check: bool = False) -> list[str]:
    """Bring root/going_modular up to date and return a diff for each file that differs.

    With ``check`` nothing is changed.
    """
    files, package = build(root), root / "going_modular"
    paths = sorted(package.glob("*.py"))
    present = {path.name: path.read_text(encoding="utf-8") for path in paths}
    for name, text in present.items():
        if not (check or name in files or text.startswith(MARK)):
            why = "was written by hand; export it from a notebook, or move it away"
            raise ExportError(f"going_modular/{name} {why}")
    diffs = []
    for name in sorted(files.keys() | present.keys()):
        old, new = present.get(name), files.get(name)
        if old == new:
            continue
        state = "is missing" if old is None else "is not what the notebooks say"
        state = "is exported by no notebook" if new is None else state
        sides = (old or "").splitlines(), (new or "").splitlines()
        lines = difflib.unified_diff(*sides, "committed", "exported", lineterm="")
        diffs.append("\n".join([f"going_modular/{name} {state}", *lines]))
        if check:
            continue
        if new is None:
            (package / name).unlink()
        else:
            write(package / name, new)
    return diffs


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only show what differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the notebooks' folder")
    options = parser.parse_args(arguments)
    try:
        diffs = export(options.root, check=options.check)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for diff in diffs:
        print(diff if options.check else f"wrote {diff.split(maxsplit=1)[0]}")
    if options.check and diffs:
        print("\nRun python tools/export.py; change the notebook, not the module.")
    return 1 if options.check and diffs else 0


if __name__ == "__main__":
    sys.exit(main())
