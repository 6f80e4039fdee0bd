"""Write the README's table of lessons, its picture and CITATION.cff.

    python tools/results.py               write them anew
    python tools/results.py --check       change nothing; exit 1, with a diff, if one of
                                          them is not up to date
    python tools/results.py --times FILE  print how long notebooks and tests took, from
                                          pytest --junitxml FILE

They say what the notebooks and pyproject.toml say. A lesson's result is a sentence
whose numbers stand in the notebook's own stored outputs: a changed output changes the
table. Exit status 2: something cannot be found or read; nothing was written.
"""

import argparse
import base64
import difflib
import io
import re
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import export, rebuild
from tools.pictures import LESSONS

ROOT = export.ROOT
BEGIN, END = "<!-- results: written by tools/results.py -->", "<!-- end -->"
# The repository in a clone command, a badge, a link to Colab.
ADDRESS = (
    r"((?:https://github\.com|/github)/)[\w.-]+/[\w.-]+(?=$|\n|/actions|/blob/main)"
)
WORDS_A_MINUTE, SECONDS_A_CELL = 120, 45
RULE = (
    f"*Minutes*: {WORDS_A_MINUTE} words a minute, {SECONDS_A_CELL} seconds for each "
    "code cell and the exercises' own minutes, rounded up to 5; together about "
    "{hours} hours. *Seconds*: to run the whole notebook on a 2-core CPU. *Result*: "
    "from the stored outputs; on your machine the last digits may differ."
)
NOTEBOOK_LIMIT, WHOLE_LIMIT = 120, 720  # seconds on two cores
PICTURE = "docs/what_speaks_for_the_answer.png"


class ResultError(Exception):
    """Something that cannot be found or read.

    The message says in which file, and what was looked for.
    """


@dataclass(frozen=True)
class Result:
    """A lesson's sentence, and where its numbers are found.

    ``cell`` is a piece of source that stands in one code cell of the notebook. The
    groups of ``pattern``, searched in that cell's output, are {0}, {1} ... in
    ``sentence``.
    """

    cell: str
    pattern: str
    sentence: str


RESULTS = {
    "00": Result(
        "loop_time / tensor_time:",
        r"([\d,]+) times faster",
        "a matrix product {0} times as fast as a loop, and why",
    ),
    "01": Result(
        "untrained {baseline:.2f}",
        r"test loss ([\d.]+), untrained ([\d.]+)",
        "a line found by gradient descent: the error on unseen points falls from {1} "
        "to {0}",
    ),
    "02": Result(
        'print(f"without ReLU ',
        r"one linear layer +([\d.]+).*with ReLU, seed 0 +([\d.]+)",
        "two circles told apart: accuracy {1}, where a straight line has {0}",
    ),
    "03": Result(
        "for name, row in ladder.items():\n    p = ",
        r"CNNModel +([\d.]+) ± [\d.]+ +([\d,]+)",
        "a convolutional network of {1} parameters: test accuracy {0} on ten kinds of "
        "clothes",
    ),
    "04": Result(
        'for name, network in (("plain"',
        r"plain +: test accuracy ([\d.]+).*combined: test accuracy ([\d.]+)",
        "photographs from folders, as yours: test accuracy {1} from 1,200 tiny ones, "
        "where a training without cures has {0}",
    ),
    "05": Result(
        "check_output(again",
        r"killed: .* valid accuracy ([\d.]+)",
        "a training that is killed, goes on, and ends with the same weights: accuracy "
        "{0}",
    ),
    "06": Result(
        "for name, score in test_scores.items():",
        r"scratch +[\d.]+ +([\d.]+).*feature extraction +[\d.]+ +([\d.]+)",
        "the same photographs with a pretrained network: {1}, where one from scratch "
        "has {0}",
    ),
    "07": Result(
        "Searching gains much; the choice of method, little",
        r"guess +([\d.]{5}).*grid +([\d.]{5}).*random +([\d.]{5}).*TPE +([\d.]{5})",
        "a fair comparison: grid {1}, random search {2}, TPE {3} on fresh seeds, all "
        "from one space; the first guess has {0}",
    ),
    "08": Result(
        "test_dataloader = make_loader(test_data, in_order",
        r"ViT, 60,000 pictures: test accuracy ([\d.]+)",
        "a Vision Transformer with torchvision's logits; a small one, trained, reaches "
        "{0}",
    ),
    "09": Result(
        "is_right[name] = right_answers(file)",
        r"32 bits +([\d.]+) MB +accuracy ([\d.]+)\n"
        r"8 bits per channel +([\d.]+) MB +accuracy ([\d.]+)\n"
        r"8 bits per tensor +[\d.]+ MB +accuracy ([\d.]+)\n",
        "your model as a web page, and in 8 bits: {2} MB instead of {0}, accuracy {3} "
        "instead of {1} with a scale per channel, {4} with one per tensor",
    ),
    "10": Result(
        '"load, mended": lambda',
        r"pictures a second: ([\d,]+), mended ([\d,]+)",
        "a bottleneck found and mended: {1} pictures a second loaded instead of {0}",
    ),
}


def lessons(root: Path) -> dict[Path, NotebookNode]:
    """Return {path: notebook} of all lessons, in order.

    Raises:
        ResultError: for one that cannot be read.
    """
    found = {}
    for path in sorted(root.glob("[0-9][0-9]_*.ipynb")):
        try:
            found[path] = nbformat.read(path, as_version=4)
        except (OSError, ValueError, nbformat.ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise ResultError(
                f"{path.name} is no readable notebook: {reason}"
            ) from None
    return found


def search(pattern: str, text: str, place: str) -> re.Match:
    """Return the first match of ``pattern`` in ``text``.

    Raises:
        ResultError: if there is none; the message names ``place``.
    """
    if not (match := re.search(pattern, text, re.DOTALL)):
        raise ResultError(f"{place}: nothing matches {pattern!r}")
    return match


def minutes(notebook: NotebookNode) -> int:
    """Return the minutes to read and do a lesson, by the rule below the table."""
    prose = "\n".join(
        cell.source for cell in notebook.cells if cell.cell_type == "markdown"
    )
    words = len(re.sub(r"<details>.*?</details>", "", prose, flags=re.DOTALL).split())
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    own = re.findall(r"^### Exercise .*\((\d+) min\)$", prose, re.MULTILINE)
    total = words / WORDS_A_MINUTE + code * SECONDS_A_CELL / 60 + sum(map(int, own))
    return 5 * -(-round(total) // 5)


def only_cell(path: Path, notebook: NotebookNode, piece: str) -> NotebookNode:
    """Return the one code cell whose source holds ``piece``.

    Raises:
        ResultError: if there is none, or a second.
    """
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and piece in cell.source
    ]
    if len(cells) != 1:
        raise ResultError(
            f"{path.name}: {len(cells)} code cells hold {piece!r}, one should; mend it "
            "in tools/results.py"
        )
    return cells[0]


def sentence(path: Path, notebook: NotebookNode) -> str:
    """Return a lesson's result, its numbers taken from the notebook's outputs.

    Raises:
        ResultError: if the lesson has no entry in RESULTS, or a number is not found.
    """
    if not (result := RESULTS.get(path.stem[:2])):
        raise ResultError(
            f"{path.name} has no entry in RESULTS of tools/results.py: say which "
            "output goes into the README"
        )
    outputs = only_cell(path, notebook, result.cell).outputs
    printed = "".join(
        output.text for output in outputs if output.output_type == "stream"
    )
    place = f"{path.name}, output of the cell with {result.cell!r}"
    match = search(result.pattern, printed, place)
    return result.sentence.format(*match.groups())


def table(root: Path) -> str:
    """Return the README's table of lessons, in Markdown.

    Raises:
        ResultError: if something of a lesson is not found.
    """
    rows = ["| | lesson | minutes | seconds | |", "|---|---|---|---|---|"]
    total = 0
    for path, notebook in lessons(root).items():
        first, place = notebook.cells[0].source, f"{path.name}, cell 1"
        title = search(r"^# (\d\d · [^\n]+)", first, place)[1]
        running = r"\*\*Running time\*\*[^·]*?(\d+) s\b"
        seconds = search(running, first, place)[1]
        taken, result = minutes(notebook), sentence(path, notebook)
        total += taken
        link = rebuild.colab_link(root, path.name)
        shown = f"{LESSONS}/{path.stem[:2]}.png"
        image = f'<img src="{shown}" width="180" alt="A figure of lesson {title}">'
        rows.append(
            f"| {image} | **[{title}]({path.name})**: {result} | {taken} | {seconds} "
            f"| {link} |"
        )
    return "\n".join([*rows, "", RULE.format(hours=round(total / 60))])


def readme(root: Path) -> str:
    """Return README.md with the table between its two marks.

    Raises:
        ResultError: if a mark is missing, or as ``table``.
    """
    text = (root / "README.md").read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ResultError(
            f"README.md has no table to write: it needs a line {BEGIN} and below it a "
            f"line {END}"
        )
    whole = f"{before}{begin}\n\n{table(root)}\n\n{end}{after}"
    owner_and_name = rebuild.repository(root).removeprefix("https://github.com/")
    return re.sub(ADDRESS, lambda match: match[1] + owner_and_name, whole)


def citation(root: Path) -> str:
    """Return CITATION.cff: version, license and address are pyproject.toml's."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    return f"""\
# Written by tools/results.py from pyproject.toml.
cff-version: 1.2.0
message: If you use this course, please cite it as below.
type: software
title: PyTorch, progressively
authors:
  - name: The authors of the progressive PyTorch course
version: {project["version"]}
license: {project["license"]}
repository-code: {rebuild.repository(root)}
"""


def picture(root: Path) -> bytes:
    """Return the README's picture, a PNG: where lesson 06's network looks.

    Raises:
        ResultError: if lesson 06 has not stored it.
    """
    path = root / "06_transfer_learning.ipynb"
    cell = only_cell(path, lessons(root)[path], '"What speaks for the answer"')
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            stored = io.BytesIO(base64.b64decode(output.data["image/png"]))
            packed = io.BytesIO()
            Image.open(stored).convert("RGB").save(packed, "PNG", optimize=True)
            return packed.getvalue()
    raise ResultError(
        f"{path.name}: the cell with 'What speaks for the answer' has no picture; "
        "rebuild the notebook"
    )


def same_picture(path: Path, content: bytes) -> bool:
    """Tell whether the file at ``path`` shows the same pixels as ``content``.

    Bytes are not compared: another zlib packs the same pixels into others.
    """
    return (
        path.exists()
        and Image.open(path).tobytes() == Image.open(io.BytesIO(content)).tobytes()
    )


def update(root: Path, check: bool = False) -> list[str]:
    """Bring the three files up to date.

    Args:
        root: the folder of the notebooks.
        check: change nothing.

    Returns:
        A diff for each file that differed.

    Raises:
        ResultError: if something is not found; nothing was written.
    """
    texts = {"README.md": readme(root), "CITATION.cff": citation(root)}
    drawn, diffs = picture(root), []
    for name, new in texts.items():
        path = root / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old != new:
            lines = difflib.unified_diff(
                old.splitlines(), new.splitlines(), "committed", "now", lineterm="", n=0
            )
            diffs.append("\n".join([f"{name} is not up to date", *lines]))
            if not check:
                export.write(path, new)
    if not same_picture(root / PICTURE, drawn):
        diffs.append(f"{PICTURE} is not what the notebook shows")
        if not check:
            (root / PICTURE).parent.mkdir(exist_ok=True)
            (root / PICTURE).write_bytes(drawn)
    return diffs


def read_times(report: Path) -> tuple[dict[str, float], float]:
    """Return ({notebook or test file: seconds}, seconds of the whole) of a report.

    Args:
        report: what ``pytest --junitxml`` wrote.

    Raises:
        ResultError: if it cannot be read, or reports no test.
    """
    seconds: dict[str, float] = {}
    try:
        suites = ElementTree.parse(report).getroot().findall("testsuite")
        for case in (case for suite in suites for case in suite.iter("testcase")):
            # 01_workflow.ipynb, or tests.test_app.SomeClass
            parts = case.attrib["classname"].split(".")
            name = "/".join(parts[:2]) + ".py"
            if parts[1:] == ["ipynb"]:
                name = ".".join(parts)
            seconds[name] = seconds.get(name, 0.0) + float(case.attrib["time"])
        whole = sum(float(suite.attrib["time"]) for suite in suites)
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        raise ResultError(
            f"{report} cannot be read as a report of pytest --junitxml: {error}"
        ) from None
    if not seconds:
        raise ResultError(
            f"{report} reports no test: write it with pytest --junitxml {report}"
        )
    return seconds, whole


def times(report: Path) -> str:
    """Return a table of seconds: notebooks, the ten slowest test files, the whole.

    Raises:
        ResultError: as ``read_times``.
    """
    seconds, whole = read_times(report)
    notebooks = sorted(name for name in seconds if name.endswith(".ipynb"))
    files = sorted(seconds.keys() - notebooks, key=lambda name: -seconds[name])
    rows = [(name, seconds[name], NOTEBOOK_LIMIT) for name in notebooks]
    rows += [(name, seconds[name], None) for name in files[:10]]
    if rest := files[10:]:
        together = sum(seconds[name] for name in rest)
        rows.append((f"{len(rest)} more test files", together, None))
    rows.append(("the whole, from begin to end", whole, WHOLE_LIMIT))
    width = max(len(name) for name, *_ in rows)
    return "\n".join(
        f"{name:{width}} {taken:7.1f} s{verdict(taken, limit)}"
        for name, taken, limit in rows
    )


def verdict(taken: float, limit: int | None) -> str:
    """Return whether a row's seconds are within its limit, "" if it has none."""
    return f"   {'within' if taken < limit else 'ABOVE'} {limit} s" if limit else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="change nothing, exit 1 with a diff where a file is stale",
    )
    parser.add_argument(
        "--times",
        type=Path,
        metavar="FILE",
        help="only print the times in a report of pytest --junitxml",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=ROOT,
        help="the folder of the notebooks (default: this repository)",
    )
    options = parser.parse_args(arguments)
    try:
        if options.times:
            print(times(options.times))
            return 0
        diffs = update(options.root, check=options.check)
    except (ResultError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for diff in diffs:
        print(diff if options.check else f"wrote {diff.split(maxsplit=1)[0]}")
    if options.check and diffs:
        print("\nRun python tools/results.py.")
    return 1 if options.check and diffs else 0


if __name__ == "__main__":
    sys.exit(main())
