"""Begin a lesson in a copy of one's own, and see what is solved.

    python -m exercises start 03    copy lesson 03, without outputs, to the folder my/
    python -m exercises progress    print which exercises are solved

The folder my/ is no part of the repository: whatever you write there, an update of the
course neither changes it nor stumbles over it.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from exercises import progress

ROOT = Path(__file__).resolve().parent.parent
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#|/)")


def start(number: str, again: bool = False) -> Path:
    """Copy a lesson to ``my/``, without outputs.

    Args:
        number: the lesson, such as "03".
        again: replace a copy that is there already, which is kept under another name.

    Returns:
        The copy.

    Raises:
        FileNotFoundError: if there is no such lesson.
        FileExistsError: if there is a copy already.
    """
    sources = sorted(ROOT.glob(f"{number.zfill(2)}_*.ipynb"))
    if not sources:
        known = ", ".join(path.stem[:2] for path in sorted(ROOT.glob("??_*.ipynb")))
        raise FileNotFoundError(f"there is no lesson {number!r}; there are {known}")
    source, target = sources[0], ROOT / "my" / sources[0].name
    if target.exists():
        if not again:
            raise FileExistsError(
                f"my/{target.name} is there already; open it, or begin anew with "
                "--again, which keeps it under another name"
            )
        target.rename(free_name(target))
    target.parent.mkdir(exist_ok=True)
    notebook = json.loads(source.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        clean(cell)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    target.write_text(text, encoding="utf-8")
    return target


def free_name(path: Path) -> Path:
    """Return a name beside ``path`` that is not taken."""
    number = 1
    while (found := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return found


def clean(cell: dict) -> None:
    """Take a cell's outputs away; let its links lead out of ``my/``."""
    if cell["cell_type"] == "code":
        cell["outputs"], cell["execution_count"] = [], None
    elif cell["cell_type"] == "markdown":
        pieces = CODE.split("".join(cell["source"]))
        pieces[::2] = [LINK.sub("](../", piece) for piece in pieces[::2]]
        cell["source"] = "".join(pieces)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m exercises",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    begin = commands.add_parser("start", help="copy a lesson to my/")
    begin.add_argument("lesson", help="its number, such as 03")
    begin.add_argument("--again", action="store_true", help="begin anew")
    commands.add_parser("progress", help="print which exercises are solved")
    options = parser.parse_args(arguments)
    if options.command == "progress":
        progress()
        return 0
    try:
        target = start(options.lesson, options.again)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Your copy: my/{target.name}. Open it: jupyter lab my/{target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
