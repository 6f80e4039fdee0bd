"""Pictures of live pages: taken of what is served, or one line says why not."""

import io

import pytest
from PIL import Image

from tools import screenshots
from tools.screenshots import PAGES, Page, ShotError

SERVE = ("-m", "http.server", "{port}", "--bind", "127.0.0.1", "--directory", "site")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A page with one heading, as the only one in PAGES; its folder."""
    monkeypatch.setattr(screenshots, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1 style='color:red'>Hello</h1>")

    def prepare(tab):
        assert tab.inner_text("h1") == "Hello"

    page = Page("site", SERVE, "/index.html", prepare, (300, 200))
    monkeypatch.setattr(screenshots, "PAGES", {"hello": page})
    return tmp_path


def test_a_page_that_is_served_becomes_a_picture(site, capsys):
    try:
        with screenshots.browser_page((10, 10)):
            pass
    except ShotError as error:
        pytest.skip(str(error))
    assert screenshots.main([]) == 0
    assert "wrote docs/hello.jpg" in capsys.readouterr().out
    picture = Image.open(io.BytesIO((site / "docs" / "hello.jpg").read_bytes()))
    assert picture.size == (375, 250)
    red, green, _ = picture.convert("RGB").getextrema()
    assert red[1] > 240 and green[0] < 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"needs": "runs"}, "run the lesson's notebook first"),
        ({"command": ("-c", "pass")}, "nothing is served by"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_leaves_the_old_picture(
    change, said, site, monkeypatch, capsys
):
    old = site / "docs" / "hello.jpg"
    old.write_bytes(b"old")
    page = Page(**vars(screenshots.PAGES["hello"]) | change)
    monkeypatch.setattr(screenshots, "PAGES", {"hello": page})
    assert screenshots.main(["hello"]) == 1
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert old.read_bytes() == b"old"


def test_an_unknown_name_is_answered_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        screenshots.main(["dashbord"])
    assert ", ".join(PAGES) in capsys.readouterr().err


@pytest.mark.parametrize("name", PAGES)
def test_a_stored_picture_is_small(name, root):
    path = root / "docs" / f"{name}.jpg"
    assert path.stat().st_size < screenshots.LARGEST
