"""Install the packages of pyproject.toml that this Python lacks, and leave those that it has, above all torch.

The notebooks' setup cell runs it where the course was just cloned, as on Colab.
"""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path


def requirements_to_install(dependencies: list[str], installed: dict[str, str]) -> list[str]:
    """Return what to hand to pip: the dependencies not in ``installed``, {name: version}, with torch held as it is."""
    missing = [need for need in dependencies if re.match(r"[\w-]+", need)[0] not in installed]
    hold = [f"torch=={installed['torch']}"] if "torch" in installed else []
    return missing + hold if missing else []


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    have = {dist.name.lower(): dist.version for dist in importlib.metadata.distributions()}
    if needed := requirements_to_install(project["dependencies"] + project["optional-dependencies"]["course"], have):
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needed], check=True)
