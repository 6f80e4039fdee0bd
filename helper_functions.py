"""The names of learnpytorch.io's ``helper_functions.py``, as this library has them.

Its notebooks say ``from helper_functions import download_data, plot_loss_curves``. Run
in this folder, or beside a copy of it and of its packages, they go on as they are.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlretrieve

from going_modular.archives import unpack
from going_modular.metrics import accuracy_fn
from going_modular.plots import plot_curves
from going_modular.predictions import pred_and_plot_image
from going_modular.utils import set_seeds
from illustrations.results import plot_decision_boundary, plot_predictions

__all__ = [
    "accuracy_fn",
    "download_data",
    "plot_decision_boundary",
    "plot_loss_curves",
    "plot_predictions",
    "pred_and_plot_image",
    "print_train_time",
    "set_seeds",
    "walk_through_dir",
]

plot_loss_curves = plot_curves


def download_data(source: str, destination: str, remove_source: bool = True) -> Path:
    """Fetch a zip and unpack it into data/destination, unless that is there already.

    Args:
        source: its address.
        destination: name of the folder.
        remove_source: whether the zip is deleted afterward.

    Returns:
        The folder.
    """
    folder = Path("data") / destination
    if folder.is_dir():
        print(f"{folder} is there already")
        return folder
    archive = Path("data") / Path(urlsplit(source).path).name
    archive.parent.mkdir(exist_ok=True)
    urlretrieve(source, archive)
    unpack(archive, folder)
    if remove_source:
        archive.unlink()
    return folder


def print_train_time(start: float, end: float, device: object = None) -> float:
    """Print and return the seconds between two times."""
    print(f"Train time on {device}: {end - start:.3f} seconds")
    return end - start


def walk_through_dir(dir_path: str | Path) -> None:
    """Print how many folders and files each folder holds."""
    for path, folders, files in os.walk(dir_path):
        print(f"{path}: {len(folders)} folders, {len(files)} files")
