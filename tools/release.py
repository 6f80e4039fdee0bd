"""Say whether the course can be published.

    python tools/release.py --check

Exit status 1: something is a placeholder, or files disagree; each is a line.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import export, rebuild, results

ROOT = export.ROOT
PLACEHOLDER = "your_account"


def faults(root: Path) -> list[str]:
    """Return what stands in the way of a release, a line each."""
    found = []
    if PLACEHOLDER in rebuild.repository(root):
        found.append(
            f"pyproject.toml: the repository's address holds {PLACEHOLDER!r}; write "
            "yours, then run tools/rebuild.py --links and tools/results.py"
        )
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    version = tomllib.loads(text)["project"]["version"]
    heading = "## " + version.removesuffix(".0")
    log = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^{re.escape(heading)}(\.0)?\s*$", log, re.MULTILINE):
        found.append(f"CHANGELOG.md: no heading {heading!r}, or it is unreleased")
    if f"version: {version}\n" not in (root / "CITATION.cff").read_text("utf-8"):
        found.append(f"CITATION.cff: not version {version}; run tools/results.py")
    if results.update(root, check=True):
        found.append("README.md, its picture or CITATION.cff: run tools/results.py")
    if export.main(["--check", "--root", str(root)]):
        found.append("going_modular: run tools/export.py")
    return found


def is_clean(root: Path) -> bool:
    """Tell whether git has nothing to commit."""
    command = ["git", "status", "--porcelain"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.returncode == 0 and not done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", required=True)
    parser.add_argument("--root", type=Path, default=ROOT)
    options = parser.parse_args(arguments)
    found = faults(options.root)
    if not is_clean(options.root):
        found.append("git: there are changes that are not committed")
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
