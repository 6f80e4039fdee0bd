"""Make the pictures of the README and of the website's front page.

    python tools/pictures.py

They come from the figures that the notebooks store: docs/_static/lessons/NN.png, one a
lesson, and docs/hero-light.png and hero-dark.png, a strip of the best. A figure is
found by the beginning of its alternative text. Exit status 2: one is not found; nothing
was written.
"""

import base64
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image, ImageChops, ImageDraw, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import export

ROOT = export.ROOT
LESSONS = "docs/_static/lessons"
CARD = (480, 300)  # pixels
WIDTH, HEIGHT, GAP, FRAME = 1960, 300, 20, 14  # of the strip, its panels; pixels
GROUNDS = {"light": (255, 255, 255), "dark": (13, 17, 23)}  # GitHub's


class PictureError(Exception):
    """A figure that no notebook stores."""


@dataclass(frozen=True)
class Figure:
    """A stored figure, or a part of it.

    Attributes:
        title: the beginning of its alternative text.
        box: left, top, right and bottom of the part, as shares of the figure.
    """

    title: str
    box: tuple[float, float, float, float] = (0, 0, 1, 1)


# A lesson that is not here shows its first figure.
CARDS = {
    "00": Figure("One memory, two readings", (0, 0.1, 1, 1)),
    "01": Figure("200 steps turn a random line"),
    "02": Figure("A network bends its borders", (0.503, 0.18, 1, 1)),
    "03": Figure("What one number sees", (0, 0.1, 1, 1)),
    "04": Figure("Flip, shift and turn keep the horse"),
    "05": Figure("Resumed with the weights alone"),
    "07": Figure("Nine runs: a grid tries three"),
    "08": Figure("Four equations are the whole", (0, 0.1, 0.58, 0.955)),
    "09": Figure("The alarm (red) needs no label"),
    "10": Figure("Large products reach the roof"),
}
STRIP = [  # in rows
    [
        ("02", Figure("A network bends its borders", (0.757, 0.19, 0.989, 0.95))),
        ("01", Figure("The loss is a valley", (0.069, 0.29, 0.334, 0.845))),
        ("08", Figure("Four equations are the whole", (0, 0.1, 0.58, 0.955))),
        (
            "02",
            Figure("The boundary turns only at a fold", (0.17, 0.085, 0.9, 0.865)),
        ),
    ],
    [
        ("03", Figure("The first layer: mostly surfaces", (0, 0.11, 0.446, 0.95))),
        ("07", Figure("Of 16 equal settings", (0.049, 0.112, 0.982, 0.845))),
        ("10", Figure("Activations pile up", (0.416, 0.18, 0.986, 0.905))),
        ("06", Figure("300 photographs: pixels mix", (0.531, 0.14, 0.987, 0.92))),
    ],
]


def stored(path: Path, title: str = "") -> Image.Image:
    """Return the first figure of a notebook whose alternative text begins so.

    Raises:
        PictureError: if there is none.
    """
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if "image/png" in output.get("data", {}) and alt.startswith(title):
                content = io.BytesIO(base64.b64decode(output.data["image/png"]))
                return Image.open(content).convert("RGB")
    raise PictureError(
        f"{path.name} stores no figure {title!r}: name another one in tools/pictures.py"
    )


def cut(picture: Image.Image, figure: Figure) -> Image.Image:
    """Return the part of a figure, without white margins."""
    size = picture.size * 2
    box: Any = tuple(round(s * n) for s, n in zip(figure.box, size, strict=True))
    part = picture.crop(box)
    white = Image.new("RGB", part.size, "white")
    return part.crop(ImageChops.difference(part, white).getbbox())


def figure_of(root: Path, number: str, figure: Figure) -> Image.Image:
    """Return a figure of a lesson.

    Raises:
        PictureError: as ``stored``.
    """
    (path,) = root.glob(f"{number}_*.ipynb")
    return cut(stored(path, figure.title), figure)


def card(picture: Image.Image) -> Image.Image:
    """Return a figure on a white card."""
    inner = (CARD[0] - 2 * FRAME, CARD[1] - 2 * FRAME)
    small = ImageOps.contain(picture, inner, Image.Resampling.LANCZOS)
    paper = Image.new("RGB", CARD, "white")
    place: Any = tuple((a - b) // 2 for a, b in zip(CARD, small.size, strict=True))
    paper.paste(small, place)
    return paper


def panel(picture: Image.Image) -> Image.Image:
    """Return a figure of the strip's height; one with white corners gets a margin."""
    corner: Any = picture.getpixel((0, 0))
    bare = min(corner) > 250
    high = HEIGHT - 2 * FRAME * bare
    wide = round(picture.width * high / picture.height)
    picture = picture.resize((wide, high), Image.Resampling.LANCZOS)
    return ImageOps.expand(picture, FRAME, "white") if bare else picture


def row(panels: list[Image.Image], ground: tuple[int, int, int]) -> Image.Image:
    """Return panels side by side, with round corners, as wide as the strip."""
    room = WIDTH - GAP * (len(panels) - 1)
    scale = room / sum(each.width for each in panels)
    whole, left = Image.new("RGB", (WIDTH, round(HEIGHT * scale)), ground), 0.0
    for each in panels:
        start, end = round(left), round(left + each.width * scale)
        size = (end - start, whole.height)
        large = Image.new("L", (size[0] * 4, size[1] * 4), 0)
        area = (0, 0, large.width - 1, large.height - 1)
        ImageDraw.Draw(large).rounded_rectangle(area, radius=72, fill=255)
        mask = large.resize(size, Image.Resampling.LANCZOS)
        whole.paste(each.resize(size, Image.Resampling.LANCZOS), (start, 0), mask)
        left += each.width * scale + GAP
    return whole


def strip(rows: list[Image.Image], ground: tuple[int, int, int]) -> Image.Image:
    """Return rows one below the other."""
    height = sum(each.height for each in rows) + GAP * (len(rows) - 1)
    whole, top = Image.new("RGB", (WIDTH, height), ground), 0
    for each in rows:
        whole.paste(each, (0, top))
        top += each.height + GAP
    return whole


def packed(picture: Image.Image, colors: int = 128) -> bytes:
    """Return a picture as a small PNG."""
    content = io.BytesIO()
    palette = picture.quantize(colors, dither=Image.Dither.NONE)
    palette.save(content, "PNG", optimize=True)
    return content.getvalue()


def pictures(root: Path) -> dict[str, bytes]:
    """Return {path: content} of all pictures.

    Raises:
        PictureError: as ``stored``.
    """
    found = {}
    for path in sorted(root.glob("[0-9][0-9]_*.ipynb")):
        number = path.stem[:2]
        picture = card(figure_of(root, number, CARDS.get(number, Figure(""))))
        found[f"{LESSONS}/{number}.png"] = packed(picture)
    rows = [[panel(figure_of(root, *place)) for place in places] for places in STRIP]
    for name, ground in GROUNDS.items():
        whole = strip([row(panels, ground) for panels in rows], ground)
        found[f"docs/hero-{name}.png"] = packed(whole, 256)
    return found


def main() -> int:
    """Run the command and return its exit status."""
    try:
        found = pictures(ROOT)
    except PictureError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (ROOT / LESSONS).mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (ROOT / name).write_bytes(content)
        print(f"wrote {name}, {len(content) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
