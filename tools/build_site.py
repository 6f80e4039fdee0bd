"""Build the course's website from its notebooks, pages and docstrings.

    python tools/build_site.py                 the website, into build/site
    python tools/build_site.py --epub          the book as well, build/site/course.epub
    python tools/build_site.py --slides        slides of each lesson, build/site/slides
    python tools/build_site.py --out FOLDER    into another folder

Nothing is executed: pages show the outputs that the notebooks store. One npm package is
fetched, once, for the page "Try it" (tools/try_it.py); without the network the rest is
the same. Needs the packages of requirements-dev.txt. Exit status 1: Sphinx has a
warning, which is an error here, or fails.
"""

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import export, rebuild, results, slides, try_it

ROOT = export.ROOT
PAGES = ["README.md", "INSTRUCTORS.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES += ["data/README.md", "tests/benchmarks/README.md"]
CODE = re.compile(r"```.*?```|`[^`\n]*`|<details>.*?</details>|\$[^$]+\$", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)((?:#[^)\s]*)?)\)")
BOLD = re.compile(r"(?<!\*)\*\*([^*\n]+)\*\*(?!\*)")
# A sentence that begins so needs the one before it.
POINTS_BACK = r"(That|This|Such|Its|It|So|Our|Here|Dividing|Both|For two)\b"
# Bold for its weight in the sentence, or a row's name, and no term to look up.
EMPHASIS = set(
    [
        "accumulate",
        "all",
        "and stride",
        "b",
        "byte",
        "channels double",
        "cpu",
        "dimension 2",
        "epochs",
        "features",
        "float",
        "fn",
        "fp",
        "here",
        "kept here",
        "last",
        "link",
        "local",
        "look next",
        "mean loss over all samples",
        "meta",
        "mix",
        "most confident mistakes",
        "nothing to see at this size",
        "now",
        "once",
        "one logit per class",
        "only for scalar outputs",
        "options",
        "padding 1",
        "predict",
        "sign",
        "skips",
        "test",
        "the axis you name is the one that disappears",
        "tn",
        "tp",
        "trial",
        "warm",
        "wrong labels",
        "exported",
    ]
)


@dataclass(frozen=True)
class Term:
    """A bold term, where a lesson introduces it.

    ``cell`` counts from 0; ``sentence`` is Markdown.
    """

    word: str
    notebook: str  # without its suffix
    cell: int
    title: str
    section: str
    sentence: str

    @property
    def anchor(self) -> str:
        """Return the name of the place in the page."""
        return "term-" + re.sub(r"[^a-z0-9]+", "-", self.word.lower()).strip("-")


def slug(heading: str) -> str:
    """Return a heading's anchor as Jupyter makes it."""
    return heading.strip().replace(" ", "-")


def outside_code(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a Markdown text, and whether each is prose."""
    end = 0
    for match in CODE.finditer(text):
        yield text[end : match.start()], True
        yield match[0], False
        end = match.end()
    yield text[end:], True


def is_term(word: str) -> bool:
    """Tell whether what stands in bold is a term to look up."""
    return (
        re.fullmatch(r"[A-Za-z][\w&' -]+", word) is not None
        and len(word.split()) <= 4
        and word.lower() not in EMPHASIS
    )


@functools.cache
def terms(root: Path) -> list[Term]:
    """Return the terms of all lessons, each where it stands in bold first.

    Exercises and the workshop introduce none.
    """
    found: dict[str, Term] = {}
    for path in sorted(root.glob("[0-9][0-9]_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        title = cells[0].source.splitlines()[0].removeprefix("# ")
        section = ""
        for number, cell in enumerate(cells[1:], start=1):
            if cell.cell_type != "markdown":
                continue
            if heading := re.match(r"##+ (.+)", cell.source):
                section = heading[1]
            if section.startswith(("Workshop", "Recap")):
                break
            if section.startswith(("Exercise", "Challenge")):
                continue
            prose = "".join(
                piece for piece, is_prose in outside_code(cell.source) if is_prose
            )
            for word in filter(is_term, BOLD.findall(prose)):
                key = word.lower()
                if not {key, f"{key}s", key.removesuffix("s")} & found.keys():
                    sentence = sentence_with(cell.source, word)
                    found[key] = Term(word, path.stem, number, title, section, sentence)
    return sorted(found.values(), key=lambda term: term.word.lower())


def sentence_with(text: str, word: str) -> str:
    """Return the sentence, or the item of a list, in which ``word`` stands in bold."""
    blocks = re.split(r"\n\s*\n|\n(?=[-*|] |\d+\. |\|)", text)
    block = next(block for block in blocks if f"**{word}**" in block)
    block = re.sub(r"^(?:[-*]|\d+\.) ", "", " ".join(block.split()))
    if block.startswith("|"):
        block = ": ".join(filter(None, map(str.strip, block.split("|"))))
    sentences = re.split(r"(?<=[.!?:]) (?=[A-Z*`\"])", block)
    place = next(i for i, each in enumerate(sentences) if f"**{word}**" in each)
    back = place > 0 and re.match(POINTS_BACK, sentences[place])
    sentence = " ".join(sentences[place - bool(back) : place + 1])
    return re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", sentence)


def glossary(root: Path) -> str:
    """Return the page of all terms."""
    lines = ["# Glossary", ""]
    lines += [
        "Each term in the sentence that introduces it, and the section to read.",
        "",
    ]
    letter = ""
    for term in terms(root):
        if term.word[0].upper() != letter:
            letter = term.word[0].upper()
            lines += [f"## {letter}", ""]
        where = f"[{term.title}, {term.section}](#{term.anchor})"
        lines += [f"**{term.word}**", f": {term.sentence} {where}", ""]
    return "\n".join(lines)


def reference(root: Path) -> dict[str, str]:
    """Return {file: text} of the pages that show the library's docstrings."""
    files, lines = {}, ["# Library reference", ""]
    lines += ["What the lessons export to `going_modular`, layer by layer.", ""]
    for layer, modules in export.LAYERS.items():
        lines += [f"## {layer.capitalize()}", "", "```{toctree}", ":maxdepth: 1", ""]
        for module in modules:
            if (root / "going_modular" / f"{module}.py").exists():
                lines.append(module)
                body = f"# {module}\n\n```{{eval-rst}}\n"
                body += f".. automodule:: going_modular.{module}\n```\n"
                files[f"reference/{module}.md"] = body
        lines += ["```", ""]
    return files | {"reference/index.md": "\n".join(lines)}


def lesson_cards(root: Path) -> str:
    """Return the front page's lessons, as HTML: picture, title, minutes, result."""
    cards = []
    for path, notebook in results.lessons(root).items():
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        number, result = path.stem[:2], results.sentence(path, notebook)
        taken = f"{results.minutes(notebook)} minutes"
        picture = f"lessons/{number}.png"
        image = f'<img src="_static/{picture}" alt="">'
        image = image if (root / "docs" / "_static" / picture).exists() else ""
        cards.append(
            f'<a class="lesson" href="{path.stem}.html">{image}<strong>{title}</strong>'
            f"<span>{result}</span><small>{taken}</small></a>"
        )
    return '<div class="lessons">\n' + "\n".join(cards) + "\n</div>"


def prepared(root: Path, name: str, text: str, book: bool = False) -> str:
    """Return a page's source as Sphinx reads it.

    Args:
        root: the folder of the notebooks.
        name: the page's path in the website, without its suffix.
        text: the source, of a notebook its JSON.
        book: for the EPUB, which has no dark theme.
    """
    folder = Path(name).parent
    if not (root / f"{name}.ipynb").exists():
        # GitHub shows the picture that suits the reader's theme; a page needs both.
        text = re.sub(
            r"<picture>.*?</picture>", lambda m: themed(m[0], book), text, flags=re.S
        )
        text = re.sub(
            r"^```([^\n]*)\n(.*?^```)$",
            lambda block: f"```{block[1] or 'sh'}\n{block[2]}",
            text,
            flags=re.S | re.M,
        )
        text = re.sub(r"!\[([^]]*)\]\(https?:[^)]*\)", r"\1", text)  # remote badges
        if book:  # nothing runs in it
            text = re.sub(r"<iframe.*?</iframe>", "(On the website.)", text)
        return relinked(root, folder, text)
    notebook = json.loads(text)
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            source = relinked(root, folder, "".join(cell["source"]))
            for term in terms(root):
                if (term.notebook, term.cell) == (name, number):
                    bold = f"**{term.word}**"
                    source = source.replace(bold, f"[{bold}]{{#{term.anchor}}}", 1)
            cell["source"] = source
        else:
            name_folded(cell)
    return json.dumps(notebook)


def themed(picture: str, book: bool) -> str:
    """Return a <picture>'s light image, and in the website its dark one beside it."""
    light = re.search(r"<img [^>]*>", picture)
    dark = re.search(r'srcset="([^"]*)"', picture)
    assert light and dark
    if book:
        return light[0]
    night = re.sub(r'src="[^"]*"', f'src="{dark[1]}"', light[0])
    images = (light[0], "only-light"), (night, "only-dark")
    return "\n\n".join(
        image.replace("<img", f'<img class="{shown}"') for image, shown in images
    )


def name_folded(cell: dict) -> None:
    """Say in a code cell's metadata what its folded part is called."""
    tags = cell["metadata"].get("tags", [])
    if rebuild.HIDE_OUTPUT in tags and rebuild.HIDE_INPUT in tags:
        cell["metadata"]["tags"] = [*tags, "hide-cell"]
        what = "code and its output"
    else:
        what = "answer" if rebuild.HIDE_OUTPUT in tags else "code"
    words = {"show": f"Show the {what}", "hide": f"Hide the {what}"}
    cell["metadata"]["mystnb"] = {
        f"code_prompt_{key}": word for key, word in words.items()
    }


def relinked(root: Path, folder: Path, text: str) -> str:
    """Return a text whose links to files that are no pages lead to the repository."""
    address = rebuild.repository(root)

    def change(match: re.Match) -> str:
        path = (root / folder / match[1]).resolve()
        if not path.exists() or path.suffix in (".ipynb", ".png", ".jpg", ".svg"):
            return match[0]
        inside = path.relative_to(root.resolve()).as_posix()
        if inside in PAGES:
            return match[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"]({address}/{kind}/main/{inside}{match[2]})"

    return "".join(
        LINK.sub(change, piece) if is_prose else piece
        for piece, is_prose in outside_code(text)
    )


def stage(root: Path, folder: Path) -> None:
    """Lay out Sphinx's sources: notebooks, pages, and what is written here."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in [*root.glob("[0-9][0-9]_*.ipynb"), *map(root.joinpath, PAGES)]:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copytree(root / "docs", folder / "docs")
    front = (root / "docs" / "index.md").read_text(encoding="utf-8")
    written = {"glossary.md": glossary(root)} | reference(root)
    shutil.move(folder / "docs" / "try_it.md", folder)
    written["index.md"] = front.replace("<!-- lessons -->", lesson_cards(root))
    for name, text in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "docs" / "index.md").unlink()


def offered(with_slides: bool, with_book: bool) -> str:
    """Return the front page's links to what was built beside the pages, as HTML."""
    links = ['<a href="course.epub">The course as an EPUB</a>'] if with_book else []
    if with_slides:
        for path in sorted(ROOT.glob("[0-9][0-9]_*.ipynb")):
            links.append(
                f'<a href="slides/{path.stem}.html">Slides {path.stem[:2]}</a>'
            )
    return f"\n<p>{' · '.join(links)}</p>\n" if links else ""


def sphinx(builder: str, source: Path, target: Path) -> int:
    """Run Sphinx in a process of its own and return its exit status."""
    docs = source / "docs"
    command = [sys.executable, "-m", "sphinx", "-b", builder, "-c", str(docs)]
    command += ["-q", "-W", "--keep-going", "-j", "2"]
    command += ["-d", str(source.parent / f"doctrees-{builder}")]
    environment = os.environ | {"COURSE_ROOT": str(ROOT)}
    done = subprocess.run([*command, str(source), str(target)], env=environment)
    return done.returncode


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--epub", action="store_true", help="write the book as well")
    parser.add_argument("--slides", action="store_true", help="write slides as well")
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    source = options.out.parent / f"{options.out.name}-source"
    stage(ROOT, source)
    status, front = 0, source / "index.md"
    if options.epub:
        book = source.parent / f"{options.out.name}-epub"
        status = sphinx("epub", source, book)
    offer = offered(options.slides, options.epub)
    front.write_text(front.read_text(encoding="utf-8") + offer, encoding="utf-8")
    status = status or sphinx("html", source, options.out)
    if not status:
        try_it.write(options.out / "try")
    if options.epub and not status:
        shutil.copy(next(book.glob("*.epub")), options.out / "course.epub")
    if options.slides and not status:
        for path in sorted(ROOT.glob("[0-9][0-9]_*.ipynb")):
            relink = functools.partial(relinked, ROOT, Path())
            slides.write(path, options.out / "slides", ROOT, relink)
    seconds = time.monotonic() - begin
    print(f"{options.out} is built in {seconds:.0f} s" if not status else "failed")
    return min(status, 1)


if __name__ == "__main__":
    sys.exit(main())
