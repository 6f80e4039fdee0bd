"""What several test files need: pictures, trainings, processes, pages, commands."""

import json
import os
import re
import socket
import time

import httpx
import numpy as np
import torch
from PIL import Image


def write_pictures(folder, classes, counts, size=20):
    """Write random pictures of two classes, the second brighter; return the folder.

    Args:
        counts: split -> pictures of each class.
    """
    draw = np.random.default_rng(0)
    for split, count in counts.items():
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 128, (size, size, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(
                    folder / split / name / f"{number}.png"
                )
    return folder


def train_arguments(pictures, out, more=""):
    """Return the command line of a training of a second.

    An option in ``more`` counts, as the last one does.
    """
    small = "--model tinyvgg --hidden-units 4 --image-size 16 --batch-size 8"
    options = [*small.split(), "--epochs", "3", "--seed", "1", *more.split()]
    return ["train", "--data", str(pictures), "--out", str(out), *options]


def rows_of(out):
    """Return the rows of a training's metrics.jsonl."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights_of(out, name="best.pt"):
    """Return {name: tensor} of a file of weights, or of the checkpoint last.pt."""
    content = torch.load(out / name, weights_only=True)
    return content["parts"]["model"] if name == "last.pt" else content


def free_port():
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finds(*folders):
    """Return an environment in which Python finds modules in these folders as well."""
    paths = [os.environ.get("PYTHONPATH"), *map(str, folders)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def wait_for_page(server, url, log=None, **options):
    """Wait until a page is served; return the answer.

    Args:
        server: the process that serves it, or is about to.
        log: the file into which it writes, shown if it ends.
        options: for httpx.get.
    """
    limit = time.monotonic() + 120
    while True:
        try:
            answer = httpx.get(url, timeout=10, trust_env=False, **options)
            return answer.raise_for_status()
        except httpx.HTTPError:
            is_alive = server.poll() is None and time.monotonic() < limit
            assert is_alive, log.read_text() if log else "the server ended"
            time.sleep(0.1)


def ask_page(server, port, picture):
    """Return {class name: probability} of a picture from a page of this machine.

    Args:
        server: the process that serves it, or is about to.
    """
    from gradio_client import Client, handle_file

    url = f"http://127.0.0.1:{port}"
    wait_for_page(server, f"{url}/config")
    client = Client(url, verbose=False)
    answer = client.predict(handle_file(picture), api_name="/predict")
    return {item["label"]: item["confidence"] for item in answer["confidences"]}


def readme_commands(root):
    """Return the README's commands: the lines of its blocks of code."""
    text = (root / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.+?)\n```$", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]
