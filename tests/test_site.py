"""The website: it is built, its links resolve, and a real browser shows every page."""

import functools
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tests.browsing import PHONE, a_browser, open_page, served, violations
from tests.notebooks import PATHS, read
from tools import build_site, rebuild, slides

LOOKED_AT = ["index", "01_workflow", "README", "glossary", "reference/engine"]
LOOKED_AT += ["try_it"]


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """The website, built by the command of CONTRIBUTING.md."""
    folder = tmp_path_factory.mktemp("website") / "site"
    command = [sys.executable, "tools/build_site.py", "--out", str(folder)]
    done = subprocess.run(command, cwd=root, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@functools.cache
def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def pages(site):
    """Return all pages but those that only a search or an index is."""
    found = sorted(site.rglob("*.html"))
    return [path for path in found if "_static" not in path.parts]


def test_every_notebook_and_page_is_there_and_is_not_executed(site, root):
    names = {path.relative_to(site).as_posix() for path in pages(site)}
    wanted = [path.with_suffix(".html").name for path in PATHS]
    wanted += [page.replace(".md", ".html") for page in build_site.PAGES]
    wanted += ["index.html", "glossary.html", "search.html", "try_it.html"]
    assert {*wanted, "try/index.html"} <= names
    for path in PATHS:  # the download is the notebook itself, outputs and all
        assert (site / "_sources" / path.name).read_bytes() == path.read_bytes()


def test_links_resolve(site, root):
    """Within the website to a page and a place in it; to the repository, to a file."""
    address, broken = rebuild.repository(root), []
    ids = {
        path: {tag["id"] for tag in soup(path).select("[id]")} for path in pages(site)
    }
    for path in pages(site):
        for link in soup(path).select("main a[href]"):
            target = urlsplit(link["href"])
            if link["href"].startswith(f"{address}/blob/main/") or link[
                "href"
            ].startswith(f"{address}/tree/main/"):
                inside = unquote(target.path.split("/main/", 1)[1])
                if not (root / inside).exists():
                    broken.append((path.name, link["href"]))
            elif not target.scheme and not target.netloc:
                place = path
                if target.path:
                    place = (path.parent / unquote(target.path)).resolve()
                anchors = ids.get(place, set())
                missing = unquote(target.fragment) not in anchors | {""}
                if not place.exists() or place in ids and missing:
                    broken.append((path.name, link["href"]))
    assert broken == []


def test_pictures_have_alternative_texts(site):
    """A card's picture has an empty one: its title stands below it."""
    for path in pages(site):
        for image in soup(path).select("main img"):
            is_card = image.find_parent(class_="lesson")
            assert image.has_attr("alt") and (image["alt"] or is_card), (path, image)


def test_answers_and_solutions_are_folded(site):
    for path in PATHS:
        page = soup(site / f"{path.stem}.html")
        words = [mark.get_text(" ", strip=True) for mark in page.select("summary")]
        predicts = sum(
            "hide-output" in cell.metadata.get("tags", []) for cell in read(path).cells
        )
        shown = sum(
            word.startswith(("Show the answer", "Show the code and its output"))
            for word in words
        )
        assert shown == predicts, path.name
        assert sum("Solution" in word for word in words) >= 4
        assert not page.select("main details[open]")


def test_formulas_are_mathml_and_no_script_draws_them(site):
    page = soup(site / "01_workflow.html")
    assert len(page.select("math")) > 10
    assert not [
        tag for tag in page.select("script[src]") if "jax" in tag["src"].lower()
    ]
    assert "\\frac" not in page.get_text()


def test_the_glossary_leads_to_where_a_term_is_introduced(site, root):
    found = build_site.terms(root)
    assert len(found) > 120 and len({term.anchor for term in found}) == len(found)
    words = {term.word.lower() for term in found}
    assert {"tensor", "gradient", "logit", "convolution", "overfitting"} <= words
    assert not words & {"predict", "here", "exported", "next"}
    links = [link["href"] for link in soup(site / "glossary.html").select("dd a")]
    for term in found:
        assert f"{term.notebook}.html#{term.anchor}" in links
        assert f"**{term.word}**" in term.sentence


def test_a_heading_leads_where_jupyters_link_does():
    assert build_site.slug("3 · Loss and optimizer") == "3-·-Loss-and-optimizer"


def test_the_library_is_described_from_its_docstrings(site, root):
    for path in (root / "going_modular").glob("[a-z]*.py"):
        assert (site / "reference" / f"{path.stem}.html").exists()
    page = soup(site / "reference" / "engine.html")
    assert page.select("#going_modular\\.engine\\.train_step")
    assert "Raises" in page.get_text()


def test_slides_begin_at_headings_and_fetch_nothing(root, tmp_path):
    path = slides.write(root / "01_workflow.ipynb", tmp_path, root)
    page = soup(path)
    shown = page.select(".slides > section > section")
    assert len(shown) > 10 and not page.select("script[src^=http], link[href^=http]")
    assert not page.select("img[src^=http]") and "Workshop:" not in page.get_text()
    for tag in page.select("script[src], link[href]"):
        assert (tmp_path / (tag.get("src") or tag["href"])).exists()
    for heading in page.select(".slides h2"):
        assert heading.find_parent("section").find(["h1", "h2"]) is heading
    assert page.select("math mfrac > *") and "placeholder" not in page.get_text()
    assert not page.select("details") and "Solution" not in page.get_text()
    for picture in page.select(".slides img"):  # its finding, as in the notebook
        assert len(picture["alt"]) > 10 and "No description" not in picture["alt"]


# ---- in a real browser


@pytest.fixture(scope="module")
def address(site):
    """Where a server of this machine has the website."""
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with a_browser() as browser:
        yield browser


def test_every_page_loads_without_a_fault_or_a_request_outside(site, browser, address):
    page, faults = open_page(browser, address)
    for path in pages(site):
        page.goto(f"{address}/{path.relative_to(site).as_posix()}")
    assert faults == []


def test_no_page_is_wider_than_a_phone(site, browser, address):
    page, _ = open_page(browser, address, PHONE)
    wide = {}
    for path in [*PATHS, *map(Path, ["index", "README", "glossary", "try_it"])]:
        page.goto(f"{address}/{path.stem}.html")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE[0]:
            wide[path.stem] = width
    assert wide == {}


def test_search_finds_a_term(browser, address):
    page, faults = open_page(browser, address)
    page.goto(f"{address}/search.html?q=broadcasting")
    page.wait_for_selector("#search-results li a")
    hits = page.locator("#search-results li > a").all_inner_texts()
    assert any("00 · Tensors" in hit for hit in hits) and faults == []


def test_a_reader_walks_folds_and_darkens(browser, address):
    page, faults = open_page(browser, address)
    page.goto(f"{address}/01_workflow.html")
    links = page.locator("a.launch, .dropdown-launch-buttons a").evaluate_all(
        "all => all.map(each => each.href)"
    )
    assert any("colab.research.google.com/github/" in link for link in links)
    answer = page.locator("details", has_text="Show the answer").first
    assert not answer.locator(".cell_output, .output").first.is_visible()
    answer.locator("summary").click()
    assert answer.locator(".output, .cell_output").first.is_visible()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator(".theme-switch-button:visible").first.click()
    page.locator(".theme-switch-container .dropdown-menu:visible").get_by_text(
        "Dark"
    ).click()
    dark = page.evaluate("document.documentElement.dataset.theme")
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "dark" and before != after
    page.get_by_role("link", name=re.compile("next.*02", re.I | re.S)).click()
    assert page.url.endswith("/02_classification.html") and faults == []


ONE_OF_EACH_KIND = """() => {
    const seen = new Set();
    for (const cell of document.querySelectorAll("div.cell")) {
        const kinds = [...cell.querySelectorAll("[class]")].map(
            element => element.getAttribute("class"));
        if (kinds.every(kind => seen.has(kind))) cell.remove();
        kinds.forEach(kind => seen.add(kind));
    }
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_passes_axe(browser, address, scheme):
    page, _ = open_page(browser, address, scheme=scheme)
    found = {}
    for name in LOOKED_AT:
        page.goto(f"{address}/{name}.html")
        page.wait_for_function("document.getAnimations().length === 0")
        page.evaluate(ONE_OF_EACH_KIND)  # thousands of words look like those kept
        found |= {f"{name} {key}": why for key, why in violations(page).items()}
    assert found == {}
