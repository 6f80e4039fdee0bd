"""Install what a lesson needs and this Python lacks or has too old; torch stays.

    python tools/install_missing.py 03

A notebook's setup cell calls ``install`` where the course was just cloned, as on Colab.
What a lesson needs is found, not written down: what its code cells import or name, and
what the modules import that they import in turn.
"""

import ast
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OURS = {"going_modular", "illustrations", "exercises"}
IMPORTED_AS = {"pillow": "PIL", "mlflow-skinny": "mlflow"}
KEPT = ("torch", "torchvision")  # the GPU's build belongs to the machine

NOISE = (  # warnings about what is none of a lesson's
    r"coroutine 'App\.create_app",  # Gradio 6.24 of its own page
    r"`isinstance\(treespec, LeafSpec\)`",  # torch 2.11's export of its own code
)


def imports_of(tree: ast.AST | list[ast.stmt]) -> Iterator[str]:
    """Yield the dotted names that statements import."""
    nodes = tree if isinstance(tree, list) else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def code_of(notebook: Path) -> str:
    """Return the text of a notebook's code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def module_file(name: str) -> Path | None:
    """Return the file of one of the course's modules, ``None`` for another name."""
    parts = name.split(".")
    if parts[0] not in OURS:
        return None
    candidates = [parts[:2], parts[:1]] if len(parts) > 1 else [parts]
    for candidate in candidates:
        path = ROOT.joinpath(*candidate)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                return file
    return None


def sources_of(lesson: str) -> list[str]:
    """Return the code of a lesson, and of all our modules that it imports in turn."""
    (notebook,) = ROOT.glob(f"{lesson}_*.ipynb")
    code = re.sub(r"^\s*[%!].*$", "", code_of(notebook), flags=re.MULTILINE)
    waiting = [*imports_of(ast.parse(code)), f"exercises.checks_{lesson}"]
    files: dict[Path, str] = {}
    while waiting:
        file = module_file(waiting.pop())
        if file and file not in files:
            files[file] = file.read_text(encoding="utf-8")
            waiting += imports_of(ast.parse(files[file]).body)
    return [code, *files.values()]


def requirements_of(project: dict[str, Any]) -> list[str]:
    """Return what the course needs: dependencies and all extras but ``benchmarks``."""
    wanted = [*project["dependencies"]]
    for name, requirements in project["optional-dependencies"].items():
        wanted += requirements if name != "benchmarks" else []
    return wanted


def needs_of(lesson: str, project: dict[str, Any]) -> list[str]:
    """Return the requirements of pyproject.toml that a lesson has.

    A dependency is needed if the lesson or a module of it names it; what belongs to an
    extra, if the lesson itself does: then with its whole extra, but for ``course``.
    """
    code, *modules = sources_of(lesson)
    here = set(re.findall(r"\w+", code))
    anywhere = here.union(*(re.findall(r"\w+", module) for module in modules))

    def named(needs: list[str], words: set[str]) -> list[str]:
        names = {need: Requirement(need).name for need in needs}
        return [
            need
            for need, name in names.items()
            if IMPORTED_AS.get(name, name.replace("-", "_")) in words
        ]

    # A process of its own, `python -m going_modular`, may need any of them.
    starts = '"-m"' in code or "%run" in code
    dependencies = project["dependencies"]
    found = [*dependencies] if starts else named(dependencies, anywhere)
    for name, extra in project["optional-dependencies"].items():
        if name == "course":
            found += named(extra, here)
        elif name != "benchmarks" and named(extra, here):
            found += extra
    return found


def requirements_to_install(
    wanted: list[str], installed: Mapping[str, str]
) -> list[str]:
    """Return what to hand to pip: what is missing or too old, and torch as it is.

    Args:
        wanted: requirements as pyproject.toml has them.
        installed: {name: version}.
    """
    lacking = []
    for need in wanted:
        requirement = Requirement(need)
        version = installed.get(canonicalize_name(requirement.name))
        fits = version and requirement.specifier.contains(version, prereleases=True)
        # A torch that is there stays: the lesson says itself what it cannot do with it.
        if not fits and not (version and requirement.name in KEPT):
            lacking.append(need)
    held = [f"{name}=={installed[name]}" for name in KEPT if name in installed]
    return lacking + held if lacking else []


def quieten() -> None:
    """Silence what Colab's versions say to nobody's use, and leave TensorFlow out.

    TensorBoard would import it, which takes up to half a minute; it asks for a module
    of this name first, and is content.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # in processes started later
    for message in NOISE:
        warnings.filterwarnings("ignore", message)


def install(lesson: str) -> None:
    """Install what a lesson needs, and say so; print nothing if it is all there.

    From then on the lesson's warnings are only those that it means.

    Args:
        lesson: its number, such as "03".

    Raises:
        SystemExit: if pip fails; the message is the end of what it says.
    """
    quieten()
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    installed: dict[str, str] = {
        canonicalize_name(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }
    needs = needs_of(lesson, tomllib.loads(text)["project"])
    arguments = requirements_to_install(needs, installed)
    if not arguments:
        return
    names = [name for name in arguments if "==" not in name]
    print(f"Installing what lesson {lesson} needs: {', '.join(names)} ...", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    # pip also speaks of packages that are none of ours: only a failure is shown.
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise SystemExit(f"pip could not install {', '.join(names)}:\n{last}")
    importlib.invalidate_caches()
    print("Done.")


if __name__ == "__main__":
    install(sys.argv[1])
