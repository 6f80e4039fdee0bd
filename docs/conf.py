"""Sphinx's settings for the website and the book; tools/build_site.py calls it.

The sources are the notebooks and pages of the repository, as they are. What changes on
their way into a page happens here, in memory: terms get an anchor for the glossary,
links to files that are no pages lead to the repository, formulas become MathML, which
browsers draw without a script and without the network.
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

# The settings are read from a copy beside the sources, so the root is told.
ROOT = Path(os.environ.get("COURSE_ROOT", Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(ROOT))
from tools import build_site, rebuild  # noqa: E402

settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
project = "PyTorch, progressively"
author = "The authors of the progressive PyTorch course"
project_copyright = author
release = settings["project"]["version"]
version = release

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["docs/conf.py"]
suppress_warnings = ["myst.header", "epub.unknown_project_files"]
suppress_warnings += ["misc.highlighting_failure"]

nb_execution_mode = "off"
nb_number_source_lines = False
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/html", 15)]
myst_enable_extensions = ["dollarmath", "attrs_inline", "deflist", "html_image"]
myst_heading_anchors = 4
myst_heading_slug_func = "tools.build_site.slug"
myst_number_code_blocks = []
copybutton_selector = "div.highlight-ipython3 pre, div.highlight-default pre"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False  # the reference holds our own words
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 70
napoleon_numpy_docstring = False
napoleon_use_rtype = False

language = "en"
html_title = project
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "repository_url": rebuild.repository(ROOT),
    "repository_branch": "main",
    "path_to_docs": "",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "navbar_persistent": [],
    "home_page_in_toc": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
epub_show_urls = "no"
epub_cover = ()


def math(node: nodes.Element, display: str) -> str:
    """Return a formula as MathML."""
    markup = convert(node.astext(), display=display)
    return markup.replace("<math ", f'<math aria-label="{escaped(node)}" ', 1)


def escaped(node: nodes.Element) -> str:
    """Return a formula's source as the value of an attribute."""
    text = " ".join(node.astext().split())
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(sign, entity)
    return text


def inline_math(writer: Any, node: nodes.Element) -> None:
    """Write a formula of a sentence."""
    writer.body.append(math(node, "inline"))
    raise nodes.SkipNode


def block_math(writer: Any, node: nodes.Element) -> None:
    """Write a formula that stands alone."""
    writer.body.append(f'<div class="math">{math(node, "block")}</div>')
    raise nodes.SkipNode


def read_source(app: Sphinx, name: str, source: list[str]) -> None:
    """Change a page's source on its way in."""
    source[0] = build_site.prepared(ROOT, name, source[0], app.builder.name == "epub")


def is_foreign(app: Sphinx, what: str, name: str, obj: Any, *_: Any) -> bool | None:
    """Leave out what another library writes into a class of ours."""
    module = getattr(obj, "__module__", None) or "going_modular"
    return True if what == "class" and not module.startswith("going_modular") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what stands above."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("source-read", read_source)
    app.connect("autodoc-skip-member", is_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
