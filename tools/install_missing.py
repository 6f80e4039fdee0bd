"""Install the packages of pyproject.toml that this Python lacks, and no other torch.

The notebooks' setup cell runs it where the course was just cloned, as on Colab.
"""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any


def requirements_of(project: dict[str, Any]) -> list[str]:
    """Return what the course needs: dependencies and all extras but ``benchmarks``."""
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    for name, requirements in extras.items():
        wanted += requirements if name != "benchmarks" else []
    return wanted


def requirements_to_install(wanted: list[str], installed: dict[str, str]) -> list[str]:
    """Return what to hand to pip: what is not in ``installed``, and torch as it is.

    Args:
        wanted: requirements as pyproject.toml has them.
        installed: {name: version}.
    """
    names = [re.split(r"[^\w-]", need)[0] for need in wanted]
    missing = [
        need for need, name in zip(wanted, names, strict=True) if name not in installed
    ]
    hold = [f"torch=={installed['torch']}"] if "torch" in installed else []
    return missing + hold if missing else []


if __name__ == "__main__":
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = importlib.metadata.distributions()
    have = {distribution.name.lower(): distribution.version for distribution in found}
    if needed := requirements_to_install(requirements_of(project), have):
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *needed], check=True)
