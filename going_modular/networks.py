# Written by tools/export.py from 05_going_modular.ipynb, 06_transfer_learning.ipynb,
# 08_paper_replicating_vit.ipynb: edit there, not here.
"""The networks by name: one entry makes a network known everywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from going_modular.config import Choices, Config


@dataclass(frozen=True)
class Network:
    """How a network is built, and what its inputs look like.

    A builder imports the network's code when it is called, so that a served model
    loads no other network, and the command's help loads no PyTorch.

    Attributes:
        build: (config, number of classes) -> the network, untrained.
        pretrained: the same with weights to begin a training from; None: untrained.
        mean, std: its inputs are (pixel / 255 - mean) / std, a number per channel.
    """

    build: Callable
    pretrained: Callable | None = None
    mean: Any = None
    std: Any = None

    @property
    def pixels(self) -> str:
        """What a pixel of 0..255 becomes in an input, as a formula."""
        if self.mean is None:
            return "pixel / 255"
        mean, std = ([round(x, 4) for x in each] for each in (self.mean, self.std))
        return f"(pixel / 255 - {mean}) / {std}"


NETWORKS = Choices("model")


def blueprint(config: Config, num_classes: int = 2) -> tuple[Network, Any]:
    """Return the network that a config names, and a model of it without memory.

    Raises:
        ValueError: if there is none of this name, or the config's sizes do not fit it.
    """
    import torch

    network = NETWORKS[config.model]
    if network.mean and len(network.mean) != config.channels:
        raise ValueError(
            f"channels is {config.channels}: {config.model} was trained on color, so "
            "repeat a gray channel 3 times"
        )
    with torch.device("meta"):  # names and shapes, no numbers
        return network, network.build(config, num_classes)


def build_tinyvgg(config: Config, num_classes: int) -> Any:
    """Return lesson 03's TinyVGG for a config."""
    from going_modular.model_builder import TinyVGG

    return TinyVGG(
        config.channels, config.hidden_units, num_classes, image_size=config.image_size
    )


def build_cnn(config: Config, num_classes: int) -> Any:
    """Return lesson 03's CNNModel for a config: hidden_units × 1, 2 and 4 channels."""
    from going_modular.model_builder import CNNModel

    width = config.hidden_units
    return CNNModel(
        config.channels,
        num_classes,
        widths=(width, 2 * width, 4 * width),
        image_size=config.image_size,
    )


def build_mlp(config: Config, num_classes: int) -> Any:
    """Return lesson 02's ClassificationModel on flattened images."""
    from torch import nn

    from going_modular.model_builder import ClassificationModel

    return nn.Sequential(
        nn.Flatten(),  # (B, C, H, W) -> (B, C * H * W)
        ClassificationModel(
            config.channels * config.image_size**2, config.hidden_units, num_classes
        ),
    )


NETWORKS["tinyvgg"] = Network(build_tinyvgg)


NETWORKS["cnn"] = Network(build_cnn)


NETWORKS["mlp"] = Network(build_mlp)


def build_lite0(config: Config, num_classes: int) -> Any:
    """Return lesson 06's EfficientNet-Lite0, untrained."""
    from going_modular.effnet import EfficientNetLite0

    return EfficientNetLite0(num_classes)


def pretrained_lite0(config: Config, num_classes: int) -> Any:
    """Return EfficientNet-Lite0 with ImageNet's weights, frozen, and a new head."""
    from going_modular.effnet import create_effnet_lite0_model

    return create_effnet_lite0_model(num_classes, "cpu")[0]


NETWORKS["effnet_lite0"] = Network(
    build_lite0, pretrained_lite0, mean=(127 / 255,) * 3, std=(128 / 255,) * 3
)


def build_b2(config: Config, num_classes: int) -> Any:
    """Return torchvision's EfficientNet-B2, untrained."""
    from going_modular.model_builder import build_effnetb2

    return build_effnetb2(num_classes)


def pretrained_b2(config: Config, num_classes: int) -> Any:
    """Return EfficientNet-B2 with ImageNet's weights, frozen, and a new head."""
    from going_modular.model_builder import create_effnetb2_model

    return create_effnetb2_model(num_classes, "cpu")[0]


NETWORKS["effnetb2"] = Network(
    build_b2, pretrained_b2, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def build_vit(config: Config, num_classes: int) -> Any:
    """Return lesson 08's Vision Transformer for a config."""
    from going_modular.vit import ViT, ViTConfig

    sizes = {
        name: value for name, value in vars(config).items() if hasattr(ViTConfig, name)
    }
    return ViT(ViTConfig(in_channels=config.channels, num_classes=num_classes, **sizes))


NETWORKS["vit"] = Network(build_vit)
