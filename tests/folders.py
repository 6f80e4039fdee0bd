"""Folders of pictures, drawn for tests."""

import numpy as np
from PIL import Image


def write_pictures(folder, classes, counts, size=20):
    """Write random pictures of two classes, so many of each in a split, the second brighter; return the folder."""
    draw = np.random.default_rng(0)
    for split, count in counts.items():
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 128, (size, size, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return folder
