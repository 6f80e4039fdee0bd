"""A notebook as reveal.js slides: what is a slide, its structure says.

A heading begins a slide; what does not fit on its screen goes on below it. The setup
cell, the imports, hints, solutions and the workshop are left out, long drawing code
shows its figure alone, and the answer to a Predict appears by one more step. Nothing
is fetched: reveal.js comes from the package sphinx-revealjs, formulas become MathML.
"""

import re
import shutil
import struct
from base64 import b64decode
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from tools import rebuild

REVEAL = ["LICENSE", "dist/reset.css", "dist/reveal.css", "dist/reveal.js"]
REVEAL += ["dist/theme/white.css", "dist/theme/fonts/source-sans-pro"]
SCREEN = 30  # lines of text
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)
TEMPLATE = """\
{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block input_group -%}
{%- if not cell.metadata.output_only -%}{{ super() }}{%- endif -%}
{%- endblock -%}
{%- block output_group -%}
{%- if cell.metadata.answer -%}<div class="fragment">{{ super() }}</div>
{%- else -%}{{ super() }}{%- endif -%}
{%- endblock -%}
{%- block data_png -%}
<img src="data:image/png;base64,{{ output.data['image/png'] }}"
 alt="{{ output | get_metadata('alt', 'image/png') | default('', true) | e }}">
{%- endblock -%}
{%- block data_jpg -%}
<img src="data:image/jpeg;base64,{{ output.data['image/jpeg'] }}"
 alt="{{ output | get_metadata('alt', 'image/jpeg') | default('', true) | e }}">
{%- endblock -%}
{%- block html_head_css -%}
<style>
.reveal .slides { text-align: left; font-size: 22px; }
.reveal .slides section section { max-height: 100%; overflow-y: auto; }
.reveal .slides h1, .reveal .slides h2, .reveal .slides h3 { text-transform: none; }
.reveal .slides pre { width: 100%; margin: 0; box-shadow: none; line-height: 1.35; }
.reveal .slides img { max-height: 620px; margin: 0; }
</style>
{%- endblock -%}
{%- block footer_js -%}
<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script>
Reveal.initialize({width: 1280, height: 800, center: false, hash: true,
  slideNumber: "h.v", transition: "none"});
</script>
{%- endblock -%}
"""


def height(cell: NotebookNode) -> float:
    """Return about how many lines of a slide a cell takes."""
    lines = 0.0
    if cell.cell_type == "markdown":
        return sum(1.5 + len(line) / 100 for line in cell.source.splitlines() if line)
    if not cell.metadata.get("output_only"):
        lines += len(cell.source.splitlines()) + 1
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            head = b64decode(data["image/png"][:64])
            lines += min(struct.unpack(">I", head[20:24])[0] / 25, SCREEN)
        elif "image/jpeg" in data:
            lines += 22
        else:
            text = output.get("text", data.get("text/plain", ""))
            lines += len(text.splitlines()) + 1
    return lines


def pieces(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """Yield the cells that are shown; of one too long, code and outputs apart."""
    for cell in deepcopy(notebook.cells):
        if re.search("^## Workshop", cell.source, re.MULTILINE):
            return
        if cell.cell_type == "markdown":
            folded = r"\[?!\[Open in Colab\][^\n]*|<details>.*?</details>"
            text = re.sub(folded, "", cell.source, flags=re.DOTALL)
            # Before a heading a new part begins, unless it is a comment in a block.
            parts = re.split(r"(```.*?```)|\n(?=#+ )", text, flags=re.DOTALL)
            block = ""
            for part, fence in zip(parts[::2], [*parts[1::2], ""], strict=True):
                block += part + (fence or "")
                if not fence:
                    if block.strip():
                        yield nbformat.v4.new_markdown_cell(block)
                    block = ""
            continue
        tags = cell.metadata.get("tags", [])
        cell.metadata.answer = rebuild.HIDE_OUTPUT in tags
        cell.metadata.output_only = rebuild.HIDE_INPUT in tags
        cell.outputs = [each for each in cell.outputs if each.get("data") != {}]
        if cell.metadata.output_only and not cell.outputs:
            continue
        if height(cell) <= SCREEN or cell.metadata.output_only or not cell.outputs:
            yield cell
            continue
        code = deepcopy(cell)
        code.outputs = []
        cell.metadata.output_only = True
        cell.id += "-output"
        yield code
        yield cell


def arranged(notebook: NotebookNode) -> NotebookNode:
    """Return a copy whose cells say where a slide begins."""
    copy = deepcopy(notebook)
    copy.cells = list(pieces(notebook))
    filled = 0.0
    for cell in copy.cells:
        heading = re.match(r"(#+) ", cell.source.lstrip())
        lines = height(cell)
        kind = "-"
        if heading and cell.cell_type == "markdown":
            kind = "slide" if len(heading[1]) < 3 else "subslide"
        elif filled + lines > SCREEN:
            kind = "subslide"
        filled = lines if kind != "-" else filled + lines
        cell.metadata.slideshow = {"slide_type": kind}
    return copy


def write(
    path: Path, folder: Path, root: Path, relinked: Callable[[str], str] = str
) -> Path:
    """Write a notebook's slides into ``folder``, beside reveal.js, and return the file.

    ``relinked`` changes a Markdown text's links.
    """
    from latex2mathml.converter import convert

    formulas: list[str] = []

    def formula(match: re.Match) -> str:
        # nbconvert would close each tag at once, so a word holds the place.
        display = "block" if match[1] else "inline"
        formulas.append(convert(match[1] or match[2], display=display))
        return f"formula{len(formulas) - 1}placeholder"

    notebook = arranged(nbformat.read(path, as_version=4))
    notebook.metadata.title = notebook.cells[0].source.splitlines()[0].strip("# ")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts = re.split(
                r"(```.*?```|`[^`\n]*`)", relinked(cell.source), flags=re.S
            )
            parts[::2] = [MATH.sub(formula, part) for part in parts[::2]]
            cell.source = re.sub(
                r"\]\((\d\d_\w+)\.ipynb", r"](../\1.html", "".join(parts)
            )
    exporter = SlidesExporter(
        extra_loaders=[DictLoader({"course.html.j2": TEMPLATE})],
        template_file="course.html.j2",
        reveal_url_prefix="reveal.js",
        reveal_theme="white",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    place = {"metadata": {"path": str(root), "name": path.stem}}
    text, _ = exporter.from_notebook_node(notebook, place)
    held = r"formula(\d+)placeholder"
    text = re.sub(held, lambda match: formulas[int(match[1])], text)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{path.stem}.html"
    target.write_text(text, encoding="utf-8")
    copy_reveal(folder / "reveal.js")
    return target


def copy_reveal(folder: Path) -> None:
    """Copy what the slides need of reveal.js, once."""
    if folder.exists():
        return
    found = find_spec("sphinx_revealjs")
    assert found and found.origin
    source = Path(found.origin).parent / "_static" / "revealjs"
    for name in REVEAL:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, target)
