# Written by tools/export.py from 04_custom_datasets.ipynb, 09_deployment.ipynb: edit there, not here.
"""From a picture to ranked class probabilities."""

import contextlib
import copy
import dataclasses
import http.client
import io
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urljoin, urlsplit

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torchvision.transforms import v2

from going_modular.data_setup import MAX_PIXELS, create_transforms, decode_picture, read_picture, to_rgb
from going_modular.engine import check_device, model_mode
from going_modular.model_builder import EfficientNetLite0, lite0_transform
from going_modular.plots import class_probs
from going_modular.train import MODELS
from going_modular.utils import check_fit, read_weights, save_model, whole_file
from going_modular.vit import ViT, ViTConfig


def rank_classes(model, picture, class_names, transform, device=None):
    """Return what the model says of a PIL image: [(class name, probability), ...], the surest first.

    Arguments and errors as for ``pred_and_plot_image``.
    """
    if device is None:
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    check_device(model, device)
    image = transform(picture)
    if not isinstance(image, torch.Tensor):
        kind = type(image).__name__
        raise ValueError(f"the transform gave a {kind}, not a tensor: end it with PILToTensor and ToDtype(float32)")
    with model_mode(model, training=False), torch.inference_mode():
        probs = class_probs(model(image[None].to(device)))[0].tolist()  # (C, H, W) -> (1, C, H, W) -> (1, K) -> (K,)
    if len(probs) != len(class_names):
        raise ValueError(f"the model knows {len(probs)} classes, but there are {len(class_names)} names: {class_names}")
    return sorted(zip(class_names, probs, strict=True), key=lambda pair: -pair[1])


def pred_and_plot_image(model, image_path, class_names, image_size=(224, 224), transform=None, device=None):
    """Predict one photograph, draw it under the answer, and return [(class name, probability), ...], the surest first.

    model: from (1, 3, H, W) to logits (1, K), or one logit for two classes.  transform: from PIL image to (3, H, W);
    without one, resized to image_size (height, width; or one number for both) and float32 in 0..1, as in the course.
    device: that of the model by default.  Errors as for ``read_picture``; ValueError for a model on another device, for
    class names that do not fit its outputs, and for a transform that gives no tensor.
    """
    picture = read_picture(image_path)
    if transform is None:
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        transform = v2.Compose([v2.Resize(size), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    ranked = rank_classes(model, picture, class_names, transform, device)
    _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    ax.imshow(picture)
    ax.set_title(f"{ranked[0][0]}: probability {ranked[0][1]:.2f}")
    ax.axis("off")
    return ranked


def build_architecture(config, num_classes):
    """Return (model, transform), untrained, as config says. Raises ValueError, KeyError, TypeError, AttributeError."""
    name, size = config["model"], config["image_size"]
    if name not in (*MODELS, "effnet_lite0", "vit"):
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}, effnet_lite0, vit")
    if type(size) is not int or not 1 <= size <= 2048:
        raise ValueError(f"image_size is {size!r}: it must be a whole number from 1 to 2048")
    if name == "effnet_lite0":
        return EfficientNetLite0(num_classes), lite0_transform(size)
    if name == "vit":
        sizes = {field.name: config[field.name] for field in dataclasses.fields(ViTConfig) if field.name in config}
        if not 1 <= sizes["depth"] <= 100:  # more would fill the memory before a weight is compared
            raise ValueError(f"depth is {sizes['depth']!r}: it must be a whole number from 1 to 100")
        model = ViT(ViTConfig(**sizes | {"num_classes": num_classes}))
    else:
        model = MODELS[name](SimpleNamespace(**config), num_classes)
    prepare, _, to_float = create_transforms(size, augment=False)
    return model, v2.Compose([prepare, to_float])


def read_model_config(path):
    """Return the config in a model folder's config.json. Raises FileNotFoundError, or ValueError if damaged."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a model folder holds config.json and best.pt")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        names = config["class_names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is no model's config: it needs model, image_size and class_names") from None
    if not (isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{path} has the class_names {names!r}: it needs two or more names")
    return config


def load_model_folder(folder):
    """Return (model on the CPU, transform, config) from a folder with config.json and best.pt; nothing in it is run.

    Raises FileNotFoundError; ValueError for a config that describes no model, and for weights that are damaged,
    pickled, not finite, or of another model or other classes.
    """
    config, path = read_model_config(Path(folder) / "config.json"), Path(folder) / "best.pt"
    state = read_weights(path)
    try:
        with torch.device("meta"):  # shapes without memory, until the file is known to fit
            model, transform = build_architecture(config, len(config["class_names"]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{folder}/config.json describes no model: {error}") from None
    check_fit(state, model, path)
    if not all(value.isfinite().all() for value in state.values()):
        raise ValueError(f"{path} holds numbers that are not finite: take an earlier checkpoint")
    model.to_empty(device="cpu").load_state_dict(state)
    return model, transform, config


def is_public(address):
    """Tell whether an IP address, as text, is one of the open internet: not this machine, not a network around it."""
    ip = ipaddress.ip_address(address.partition("%")[0])  # behind % stands a network card's name
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped  # ::ffff:127.0.0.1 is 127.0.0.1
    if ip.version == 6 and (ip not in ipaddress.ip_network("2000::/3") or ip.sixtofour or ip.teredo):
        return False  # the last two carry an IPv4 address in them
    return ip.is_global and not ip.is_multicast


def resolve(url):
    """Return (parts of the URL, an address to connect to). Raises ValueError for any that a server must not ask."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no address of a picture: it must begin with http:// or https:// and name a host")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]  # .port raises ValueError for a wrong one
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        raise ValueError(f"there is no host {parts.hostname}: check the address, and the connection") from None
    for *_, address in found:
        if not is_public(address[0]):
            raise ValueError(f"{parts.hostname} is refused: {address[0]} is this machine or a private network")
    return parts, found[0][4][:2]


@contextlib.contextmanager
def opened(url, deadline):
    """Ask for ``url`` and give the response; all of it, the reading too, is cut off when ``deadline`` has come."""
    parts, address = resolve(url)
    left = max(deadline - time.monotonic(), 0.001)
    with socket.create_connection(address, timeout=left) as channel, channel.dup() as line:  # no second look-up
        timer = threading.Timer(left, lambda: line.shutdown(socket.SHUT_RDWR))
        timer.start()  # a socket's own timeout begins anew with every byte, this one does not
        try:
            if parts.scheme == "https":
                channel = ssl.create_default_context().wrap_socket(channel, server_hostname=parts.hostname)
            connection = http.client.HTTPConnection(parts.hostname)
            connection.sock = channel
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"Host": parts.netloc.rpartition("@")[2], "Connection": "close"})
            with connection.getresponse() as response:
                yield response
        finally:
            timer.cancel()
            channel.close()


def fetch(url, *, max_bytes=10_000_000, seconds=10.0, max_redirects=3):
    """Return the bytes behind a URL on the open internet; every redirect is checked as the first address was.

    seconds: for all of it, the look-up of names aside.  Raises ValueError for a URL that is no http or https, for a
    host on this machine or in a private network, and for an answer that is none or larger than max_bytes;
    ConnectionError, and TimeoutError, where no answer comes.
    """
    deadline = time.monotonic() + seconds
    try:
        for _ in range(max_redirects + 1):
            with opened(url, deadline) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, response.getheader("Location", ""))
                    continue
                if response.status != 200:
                    raise ValueError(f"{url} answers {response.status} {response.reason}: check the address")
                content = response.read(max_bytes + 1)
            if time.monotonic() >= deadline:
                raise TimeoutError
            if len(content) > max_bytes:
                raise ValueError(f"{url} sends more than {max_bytes:,} bytes: choose a smaller picture")
            return content
    except (OSError, http.client.HTTPException) as error:
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{url} took longer than {seconds:g} seconds: try again later") from None
        reason = str(error).strip() or type(error).__name__
        raise ConnectionError(f"{url} cannot be fetched: {reason}") from None
    raise ValueError(f"{url} is the end of more than {max_redirects} redirects: give the address that they lead to")


def open_picture(source):
    """Return the picture in a path, a URL, bytes or a PIL image as a PIL image in RGB: upright, decoded, a new one.

    Errors as for ``read_picture`` and ``fetch``; TypeError for anything else.
    """
    if isinstance(source, Image.Image):
        if source.width * source.height > MAX_PIXELS:
            raise ValueError(
                f"the picture has {source.width:,} × {source.height:,} pixels, the limit is {MAX_PIXELS:,}"
            )
        return to_rgb(source.copy())
    if isinstance(source, bytes | bytearray):
        return decode_picture(io.BytesIO(source), "the picture")
    if isinstance(source, str) and "://" in source:
        return decode_picture(io.BytesIO(fetch(source)), source)
    if isinstance(source, str | os.PathLike):
        return read_picture(source)
    raise TypeError(f"a picture is a path, a URL, bytes or a PIL image, not a {type(source).__name__}")


class Predictor:
    """A trained model with its transform and class names: picture -> [(class name, probability), ...], surest first.

    It keeps its own copy of the model, in evaluation mode, on ``device`` (default: where the model is).  config: what
    ``build_architecture`` needs, for ``save``.  A picture is a path, a URL, bytes or a PIL image; errors as for
    ``open_picture`` and ``rank_classes``.
    """

    def __init__(self, model, class_names, transform, device=None, *, config=None):
        device = device or next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.model = copy.deepcopy(model).to(device).eval()
        self.class_names, self.transform, self.device, self.config = list(class_names), transform, device, config

    def __call__(self, source):
        return rank_classes(self.model, open_picture(source), self.class_names, self.transform, self.device)

    def save(self, folder):
        """Write config.json and best.pt, the weights, for ``load``. Raises ValueError without a config that fits."""
        if not self.config:
            raise ValueError('save needs a config: Predictor(..., config={"model": "effnet_lite0", "image_size": 160})')
        with torch.device("meta"):
            wanted, _ = build_architecture(self.config, len(self.class_names))
        check_fit(self.model.state_dict(), wanted, "the predictor")
        save_model(self.model, folder, "best.pt")
        with whole_file(Path(folder) / "config.json") as file:
            file.write(json.dumps(self.config | {"class_names": self.class_names}, indent=2).encode())

    @classmethod
    def load(cls, folder, device=None):
        """Read what ``save``, or a training, wrote, to the CPU or ``device``. Errors as for ``load_model_folder``."""
        model, transform, config = load_model_folder(folder)
        return cls(model, config["class_names"], transform, device, config=config)
