"""Diagrams and figures of lesson 04: photographs in folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch
from PIL import Image, ImageDraw

from going_modular.pictures import list_pictures
from going_modular.plots import new_axes

BLUE, ORANGE, GREEN = "#1f77b4", "#e67e22", "#1b7f3b"
BOX: Any = {"boxstyle": "round,pad=0.02", "facecolor": "#eaf2f8", "edgecolor": BLUE}
BELOW: Any = {"ha": "center", "va": "top", "weight": "bold", "fontsize": 9}


def draw_tree(folder: Path, splits: Sequence[str], title: str = "") -> Any:
    """Draw a data set's folders as a tree: splits, their classes, and a picture.

    Args:
        folder: holds splits, which hold classes, which hold pictures.
        splits: names of the folders to draw, in this order.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    style: Any = {"family": "monospace", "fontsize": 10.5, "va": "center"}
    line: Any = {"color": "gray", "linewidth": 1}
    ax.text(0, 0, f"{folder.name}/", weight="bold", **style)
    row, last = 0.0, 0.0
    for split in splits:
        row += 1.1
        last = row
        ax.plot([0.25, 0.6], [-row, -row], **line)
        ax.text(0.7, -row, f"{split}/", weight="bold", color=BLUE, **style)
        classes = sorted(path for path in (folder / split).iterdir() if path.is_dir())
        for k, place in enumerate(classes):
            at = row + k
            paths = [Path(path) for path in list_pictures(place)]
            ax.plot([2.0, 2.3], [-at, -at], **line)
            ax.text(2.4, -at, f"{place.name}/", **style)
            for number, path in enumerate(paths[:1]):
                left = 4.4 + 0.75 * number
                extent = (left, left + 0.62, -at - 0.46, -at + 0.46)
                ax.imshow(Image.open(path), extent=extent, interpolation="nearest")
            text = f"{paths[0].name} … {paths[-1].name}"
            ax.text(5.4, -at, text, **style)
            ax.text(12.4, -at, f"{len(paths)}", ha="right", **style)
        ax.plot([2.0, 2.0], [-row, -row - len(classes) + 1], **line)
        row += len(classes) - 1
    ax.plot([0.25, 0.25], [-0.4, -last], **line)
    ax.text(12.4, 0, "pictures", ha="right", style="italic", fontsize=10, va="center")
    ax.set(xlim=(-0.1, 12.5), ylim=(-row - 0.7, 0.6), aspect="auto", title=title)
    ax.axis("off")
    return ax.figure


def draw_pipeline(picture: Image.Image, title: str = "") -> plt.Figure:
    """Draw the way of a photograph from its file to a network's logits, in five boxes.

    Args:
        picture: what is shown in the box of the decoded picture.
        title: of the figure.
    """
    steps = [
        ("file", "train/horse/\nhorse_002.png", "about 2,200 bytes"),
        ("PIL picture", "", "32 × 32, RGB"),
        ("tensor", "uint8, 0 to 255\n→ float32, 0 to 1", "(3, 32, 32)"),
        ("batch", "64 images\nand 64 labels", "(64, 3, 32, 32)"),
        ("logits", "one for cat,\ndog, horse", "(64, 3)"),
    ]
    arrows = ["Image.open", "transform", "DataLoader", "model"]
    fig, ax = plt.subplots(figsize=(9, 2.6), layout="constrained")
    for k, (name, text, shape) in enumerate(steps):
        left = 3.1 * k
        ax.add_patch(FancyBboxPatch((left, 0), 1.6, 1.6, **BOX))
        ax.text(left + 0.8, 1.82, name, ha="center", weight="bold", fontsize=11)
        style: Any = {"ha": "center", "va": "center", "color": "#1b2631"}
        ax.text(left + 0.8, 0.8, text, fontsize=8, **style)
        ax.text(left + 0.8, -0.3, shape, ha="center", fontsize=9, family="monospace")
        if not text:
            extent = (left + 0.2, left + 1.4, 0.2, 1.4)
            ax.imshow(picture, extent=extent, zorder=3, interpolation="nearest")
    for k, name in enumerate(arrows):
        ends = (3.1 * (k + 1) - 0.08, 0.8), (3.1 * k + 1.68, 0.8)
        style: Any = {"arrowstyle": "->", "color": ORANGE, "linewidth": 2}
        ax.annotate("", *ends, arrowprops=style)
        style: Any = {"ha": "center", "fontsize": 8.5, "color": "#ca6f1e"}
        ax.text(3.1 * k + 2.35, 0.98, name, weight="bold", **style)
    ax.text(3.9, -0.95, "ImageFolder: one item", color="gray", ha="center")
    ax.plot([0, 7.8], [-0.62, -0.62], color="gray")
    ax.set(xlim=(-0.1, 14.1), ylim=(-1.2, 2.2), aspect="equal", title=title)
    ax.axis("off")
    return fig


def draw_pictures(pictures: dict[str, Image.Image], title: str = "") -> plt.Figure:
    """Draw pictures of any size in a row, each below its name, in a gray frame."""
    axes = new_axes(1.3, 1.4, len(pictures), 6, title)
    for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
        ax.imshow(picture.convert("RGB"), interpolation="nearest")
        ax.set_title(name, fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("gray")
    return plt.gcf()


def write_odd_files(photo: Image.Image, folder: Path) -> None:
    """Write a photograph as five harmless files that are easily misread.

    Args:
        photo: in mode RGB.
        folder: gets gray.png, sixteen.png, transparent.png, inks.jpg and sideways.jpg.
    """
    gray = photo.convert("L")  # L: one byte a pixel, for luminance
    gray.save(folder / "gray.png")
    sixteen = np.asarray(gray).astype(np.uint16) * 257  # 255 becomes 65,535
    Image.fromarray(sixteen).save(folder / "sixteen.png")
    photo.convert("CMYK").save(folder / "inks.jpg", quality=95)

    opacity = Image.new("L", photo.size, 0)  # 0: not to be seen
    width, height = photo.size
    shape = (0, 0, width - 1, height - 1)
    ImageDraw.Draw(opacity).ellipse(shape, fill=255)  # but in a circle
    black = Image.new("RGB", photo.size, "black")
    cut_out = Image.composite(photo, black, opacity)  # black around the circle
    cut_out.putalpha(opacity)
    cut_out.save(folder / "transparent.png")

    exif = Image.Exif()
    exif[0x0112] = 6  # entry 0x0112, orientation: "turn me right by 90 degrees"
    lying = photo.transpose(Image.Transpose.ROTATE_90)
    lying.save(folder / "sideways.jpg", quality=95, exif=exif)


def draw_pairs(
    pairs: Sequence[tuple[float, Path, Path]], title: str = ""
) -> plt.Figure:
    """Draw pairs of pictures, one below the other, with their splits and distances.

    Args:
        pairs: (distance, path, other path); a path is SPLIT/CLASS/NAME.
        title: of the figure.
    """
    width, height = 112 * len(pairs), 330  # at 100 dots an inch
    fig = plt.figure(figsize=(width / 100, height / 100))
    for column, (distance, *paths) in enumerate(pairs):
        for path, bottom in zip(paths, (164, 20), strict=True):
            # 96 dots a side: each of 32 pixels becomes 3 × 3, and the file stays small
            place = ((112 * column + 8) / width, bottom / height)
            ax = fig.add_axes((*place, 96 / width, 96 / height))
            ax.imshow(Image.open(path), interpolation="nearest")
            ax.set_title(f"{path.parent.parent.name}\n{path.stem}", fontsize=9)
            ax.axis("off")
        ax.text(0.5, -0.05, f"distance {distance:.1f}", **BELOW, transform=ax.transAxes)
    fig.suptitle(title)
    return fig


def draw_ranking(
    picture: Image.Image, ranked: Sequence[tuple[str, float]], title: str = ""
) -> plt.Figure:
    """Draw a photograph, and beside it the classes' probabilities as bars.

    Args:
        picture: the photograph.
        ranked: (class name, probability), most probable first.
        title: of the figure.
    """
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(6, 2.1), width_ratios=(1, 1.2), layout="constrained"
    )
    left.imshow(picture)
    left.axis("off")
    names, probs = zip(*reversed(ranked), strict=True)
    colors = ["#aab7b8"] * (len(names) - 1) + [GREEN]
    bars = right.barh(names, probs, color=colors)
    right.bar_label(bars, [f"{probability:.2f}" for probability in probs], padding=3)
    right.set(xlim=(0, 1.15), xlabel="probability")
    right.spines[["top", "right"]].set_visible(False)
    fig.suptitle(title)
    return fig


def plot_seeds(
    curves: dict[str, Sequence[Sequence[float]]],
    ylabel: str,
    title: str = "",
    line: tuple[float, str] | None = None,
) -> plt.Axes:
    """Draw curves over the epochs, a color for each name, one line for each seed.

    Args:
        curves: name -> one list of numbers for each seed.
        ylabel: what the numbers are.
        title: of the figure.
        line: (height, name) of a dotted level, or None.
    """
    _, ax = plt.subplots(figsize=(7, 3.3), layout="constrained")
    for k, (name, seeds) in enumerate(curves.items()):
        for seed, values in enumerate(seeds):
            label = name if seed == 0 else None
            ax.plot(range(1, len(values) + 1), values, color=f"C{k}", label=label)
    if line:
        ax.axhline(line[0], color="gray", linestyle=":", label=line[1])
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel=ylabel, title=title)
    ax.legend()
    return ax


def draw_cures(
    table: dict[str, Sequence[dict[str, float]]], title: str = ""
) -> plt.Figure:
    """Draw a table: each measurement a dot, their mean a bar with its number.

    Args:
        table: what stands on the left -> measurements, which have the same columns.
        title: of the figure.
    """
    columns = list(next(iter(table.values()))[0])
    fig, axes = plt.subplots(
        1, len(columns), figsize=(9, 2.9), sharey=True, layout="constrained"
    )
    for ax, column in zip(axes, columns, strict=True):
        for row, measurements in enumerate(table.values()):
            values = [numbers[column] for numbers in measurements]
            mean = sum(values) / len(values)
            ax.plot(values, [row] * len(values), "o", color=BLUE, alpha=0.45, ms=5)
            ax.plot([mean], [row], "|", color=ORANGE, ms=16, mew=2.5)
            style: Any = {"va": "center", "transform": ax.get_yaxis_transform()}
            ax.text(1.02, row, f"{mean:.2f}", **style)
        ax.set_title(column, fontsize=10)
        ax.grid(axis="y", alpha=0.4)
        ax.margins(x=0.1)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(table)), list(table))
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    fig.suptitle(title)
    return fig
