# Written by tools/export.py from 04_custom_datasets.ipynb, 09_deployment.ipynb: edit
# there, not here.
"""From a picture to ranked class probabilities."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from going_modular.checkpoints import check_fit, read_plain, write_json
from going_modular.config import Config, read_config
from going_modular.data_setup import create_transforms
from going_modular.networks import blueprint
from going_modular.pictures import read_picture
from going_modular.urls import fetch
from going_modular.utils import check_device, class_probs, model_mode, save_model


def rank_classes(
    model: nn.Module, picture: Image.Image, class_names: list[str], transform: Callable
) -> list[tuple[str, float]]:
    """Return [(class name, probability), ...] for a picture, most probable first.

    Args:
        model: from (1, C, H, W) to logits (1, K), or to one logit for two classes; in
            evaluation mode.
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
            "PILToTensor and ToDtype(float32)"
        )
    device = next(model.parameters(), image).device
    with torch.inference_mode():
        logits = model(image[None].to(device))  # (1, C, H, W) -> (1, K)
        probs = class_probs(logits)[0].tolist()
    if len(probs) != len(class_names):
        raise ValueError(
            f"the model knows {len(probs)} classes, but there are {len(class_names)} "
            f"names: {class_names}"
        )
    ranked = sorted(zip(probs, class_names, strict=True), reverse=True)
    return [(name, prob) for prob, name in ranked]


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
        transform: from PIL image to (3, H, W); by default a resize and float32 in 0..1.
        device: where the model is; by default looked up.

    Raises:
        FileNotFoundError, ValueError: as ``read_picture`` and ``rank_classes``;
            ValueError also for a model on another device.
    """
    import matplotlib.pyplot as plt  # here: a server draws nothing

    picture = read_picture(image_path)
    if device is not None:
        check_device(model, device)
    if transform is None:
        if isinstance(image_size, int):
            image_size = (image_size, image_size)
        to_float = v2.ToDtype(torch.float32, scale=True)
        transform = v2.Compose([v2.Resize(image_size), v2.PILToTensor(), to_float])
    with model_mode(model, training=False):
        ranked = rank_classes(model, picture, class_names, transform)
    _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    ax.imshow(picture)
    ax.set_title(f"{ranked[0][0]}: probability {ranked[0][1]:.2f}")
    ax.axis("off")
    return ranked


class Predictor:
    """A trained model with its transform and class names: picture -> ranking.

    It keeps its own copy of the model, in evaluation mode.

    Args:
        model, class_names, transform: as for ``rank_classes``.
        device: where to compute; by default where the model is.
        config: the network's, for ``save``.
    """

    def __init__(
        self,
        model: nn.Module,
        class_names: list[str],
        transform: Callable,
        device: torch.device | str | None = None,
        *,
        config: Config | None = None,
        unsure_below: float = 0.5,
    ):
        first = next(model.parameters(), torch.zeros(()))
        self.device = torch.device(device or first.device)
        self.model = copy.deepcopy(model).to(self.device).eval()
        self.class_names = list(class_names)
        self.transform = transform
        self.config = config
        self.unsure_below = unsure_below

    def __call__(
        self, source: str | Path | bytes | Image.Image
    ) -> list[tuple[str, float]]:
        """Return the ranking for a path, a URL, bytes or a PIL image.

        Raises:
            FileNotFoundError, ValueError: as ``read_picture`` and ``fetch``.
        """
        name = None
        if isinstance(source, str) and "://" in source:
            source, name = fetch(source), source
        picture = read_picture(source, name=name)
        return rank_classes(self.model, picture, self.class_names, self.transform)

    def save(self, folder: str | Path) -> None:
        """Write config.json and best.pt, the weights, for ``load``.

        Raises:
            ValueError: if there is no config, or one that does not fit the model.
        """
        if not self.config:
            raise ValueError(
                "save needs a config: "
                'Predictor(..., config=Config(model="effnet_lite0", image_size=160))'
            )
        _, wanted = blueprint(self.config, len(self.class_names))
        check_fit(self.model.state_dict(), wanted, "the predictor")
        save_model(self.model, folder, "best.pt")
        write_json(
            Path(folder) / "config.json",
            vars(self.config) | {"class_names": self.class_names},
        )

    @classmethod
    def load(
        cls, folder: str | Path, device: torch.device | str = "cpu"
    ) -> "Predictor":
        """Read what ``save``, or a training, wrote; nothing in it is run.

        Args:
            folder: it holds config.json and best.pt.
            device: where to compute.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the config describes no model, or the weights are damaged,
                pickled, not finite, or those of another model.
        """
        config, names = read_config(folder)
        path = Path(folder) / "best.pt"
        state = read_plain(path)
        try:
            network, wanted = blueprint(config, len(names))
        except (ValueError, RuntimeError) as error:  # the latter from torch
            raise ValueError(
                f"{folder}/config.json describes no model: {error}"
            ) from None
        check_fit(state, wanted, path)
        if not all(value.isfinite().all() for value in state.values()):
            raise ValueError(
                f"{path} holds numbers that are not finite: take an earlier checkpoint"
            )
        with torch.random.fork_rng(devices=[]):  # the initial weights are replaced
            model = network.build(config, len(names))
        model.load_state_dict(state)
        prepare, _, to_float = create_transforms(
            config.image_size,
            "none",
            network.mean,
            network.std,
            resize=config.resize,
        )
        return cls(model, names, v2.Compose([prepare, to_float]), device, config=config)
