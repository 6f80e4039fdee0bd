# Written by tools/export.py from 04_custom_datasets.ipynb, 09_deployment.ipynb: edit
# there, not here.
"""From a picture to ranked class probabilities."""

import copy
import functools
import json
import operator
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from going_modular.checkpoints import check_fit, read_plain, write_json
from going_modular.config import Config, read_config, run_files
from going_modular.data_setup import create_transforms
from going_modular.networks import NETWORKS, blueprint
from going_modular.pictures import read_picture
from going_modular.utils import check_device, class_probs, model_mode, save_model


def sort_probs(probs: list[float], class_names: list[str]) -> list[tuple[str, float]]:
    """Return [(class name, probability), ...], most probable first."""
    if len(probs) != len(class_names):
        raise ValueError(
            f"the model knows {len(probs)} classes, but there are {len(class_names)} "
            f"names: {class_names}"
        )
    pairs = zip(class_names, probs, strict=True)
    return sorted(pairs, key=operator.itemgetter(1), reverse=True)


def rank_classes(
    model: nn.Module, picture: Image.Image, class_names: list[str], transform: Callable
) -> list[tuple[str, float]]:
    """Return [(class name, probability), ...] for a picture, most probable first.

    Args:
        model: from (1, C, H, W) to logits (1, K) or (1, 1), in evaluation mode.
        picture: what the transform takes.
        class_names: K names.
        transform: from PIL image to a tensor (C, H, W).

    Raises:
        ValueError: if the transform gives no tensor, or the names do not fit the model.
    """
    image = transform(picture)
    if not isinstance(image, torch.Tensor):
        raise ValueError(
            f"the transform gave a {type(image).__name__}, not a tensor: end it with "
            "PILToTensor and ToDtype(float32, scale=True)"
        )
    device = next(model.parameters(), image).device
    with torch.inference_mode():  # (1, C, H, W) -> (1, K)
        probs = class_probs(model(image[None].to(device)))[0]
    return sort_probs(probs.tolist(), class_names)


def pred_and_plot_image(
    model: nn.Module,
    image_path: str | Path,
    class_names: list[str],
    image_size: int | tuple[int, int] = (224, 224),
    transform: Callable | None = None,
    device: torch.device | str | None = None,
) -> list[tuple[str, float]]:
    """Predict one photograph, draw it below the answer, and return the ranking.

    Args:
        model: as for ``rank_classes``, in any mode.
        image_path: a file.
        class_names: K names.
        image_size: (height, width) or one number for both, if there is no transform.
        transform: PIL image -> (3, H, W); by default resize, ImageNet's mean and std.
        device: where the model is; by default looked up.

    Raises:
        OSError, ValueError: as ``read_picture``, ``check_device``, ``rank_classes``.
    """
    import matplotlib.pyplot as plt  # here: a server draws nothing

    picture = read_picture(image_path)
    if device is not None:
        check_device(model, device)
    if transform is None:
        size = [image_size] * 2 if isinstance(image_size, int) else image_size
        network = NETWORKS["effnetb2"]  # trained on ImageNet
        _, _, to_float = create_transforms(1, "none", network.mean, network.std)
        transform = v2.Compose([v2.Resize(size), v2.PILToTensor(), to_float])
    with model_mode(model, training=False):
        ranked = rank_classes(model, picture, class_names, transform)
    _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    ax.imshow(picture)
    ax.set_title(f"{ranked[0][0]}: probability {ranked[0][1]:.2f}")
    ax.axis("off")
    return ranked


def transform_of(config: Config | None) -> Callable:
    """Return the transform, PIL image -> tensor, of a training's validation."""
    if not config:
        raise ValueError("a Predictor needs a transform, or its training's config")
    network = NETWORKS[config.model]
    prepare, _, to_float = create_transforms(
        config.image_size, "none", network.mean, network.std, resize=config.resize
    )
    return v2.Compose([prepare, to_float])


class Predictor:
    """A trained model with its transform and class names: picture -> ranking.

    It keeps its own copy of the model, in evaluation mode.

    Args:
        model, class_names, transform: as for ``rank_classes``.
        device: where to compute; by default where the model is.
        config: the network's, for ``save``; says the transform if that is None.
        unsure_below: the page says "not sure" where the highest probability is below.

    Raises:
        ValueError: if that is no probability, or transform and config are both None.
    """

    def __init__(
        self,
        model: nn.Module,
        class_names: list[str],
        transform: Callable | None,
        device: torch.device | str | None = None,
        *,
        config: Config | None = None,
        unsure_below: float = 0.5,
    ):
        is_number = type(unsure_below) in (int, float)
        if not (is_number and 0 <= unsure_below <= 1):
            raise ValueError(f"unsure_below is {unsure_below!r}: choose 0 to 1")
        self.unsure_below = unsure_below
        self.device = device or next(model.parameters()).device
        self.model = copy.deepcopy(model).to(self.device).eval()
        self.class_names = list(class_names)
        self.transform = transform or transform_of(config)
        self.config = config
        self.max_pixels = (config or Config).max_pixels

    def __call__(self, source: Any) -> list[tuple[str, float]]:
        """Return the ranking for whatever ``read_picture`` takes."""
        picture = read_picture(source, max_pixels=self.max_pixels)
        return rank_classes(self.model, picture, self.class_names, self.transform)

    @torch.inference_mode()
    def probs(
        self, sources: list, batch_size: int = 32
    ) -> Iterator[list[float] | BaseException]:
        """Yield the probabilities of all classes, or the error, for many pictures."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: choose 1 or more")
        read = functools.partial(read_picture, max_pixels=self.max_pixels)
        with ThreadPoolExecutor() as pool:  # Pillow decodes several at once
            for begin in range(0, len(sources), batch_size):
                batch = [pool.submit(read, s) for s in sources[begin:][:batch_size]]
                errors = [future.exception() for future in batch]
                images = [
                    self.transform(future.result())
                    for future, error in zip(batch, errors, strict=True)
                    if not error
                ]
                rows = []
                if images:
                    logits = self.model(torch.stack(images).to(self.device))
                    rows = class_probs(logits).tolist()
                    if not logits.isfinite().all():
                        raise ValueError("the model gives NaN: take an earlier one")
                for error in errors:
                    yield error or rows.pop(0)

    def save(self, folder: str | Path) -> None:
        """Write config.json and best.pt, the weights, for ``load``.

        Raises:
            ValueError: if there is no config that fits the model and the transform.
        """
        if not self.config:
            raise ValueError("save needs a config: Predictor(..., config=Config(...))")
        if self.unsure_below == float("inf"):  # JSON has no such number
            raise ValueError("unsure_below is inf: choose 0 to 1")
        _, wanted = blueprint(self.config, len(self.class_names))
        check_fit(self.model.state_dict(), wanted, "the predictor")
        # On a smooth picture, twice as wide as high, equal transforms are seen as such.
        slope = Image.linear_gradient("L")
        bands = [slope, slope.rotate(90), Image.radial_gradient("L")]
        picture = Image.merge("RGB", bands).resize((512, 256))
        image, wanted = self.transform(picture), transform_of(self.config)(picture)
        if image.shape != wanted.shape or (image - wanted).abs().mean() > 0.02:
            raise ValueError(
                f"the transform makes other images than {self.config}: take "
                "transform_of(config), or mend its image_size or resize"
            )
        save_model(self.model, folder, "best.pt")
        kept = vars(self.config) | {
            "class_names": self.class_names,
            "unsure_below": self.unsure_below,
        }
        del kept["data"], kept["weights"]  # paths of this machine
        write_json(Path(folder) / "config.json", kept)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: torch.device | str = "cpu",
        unsure_below: float | None = None,
    ) -> "Predictor":
        """Read what ``save``, or a training, wrote; nothing in it is run.

        Args:
            folder: it holds config.json and best.pt; or the path of such weights.
            device: where to compute.
            unsure_below: in place of the one in config.json, or of 0.5.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is damaged, or the two do not describe one model.
        """
        config, names = read_config(folder)
        home, path = run_files(folder)
        kept = json.loads((home / "config.json").read_bytes())
        limit = kept.get("unsure_below", 0.5) if unsure_below is None else unsure_below
        _, model = blueprint(config, len(names))
        state = check_fit(read_plain(path), model, path)
        if not all(value.isfinite().all() for value in state.values()):
            raise ValueError(
                f"{path} holds numbers that are not finite: take an earlier checkpoint"
            )
        model.load_state_dict(state, assign=True)  # it had no memory
        return cls(model, names, None, device, config=config, unsure_below=limit)
