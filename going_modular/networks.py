# Written by tools/export.py from 05_going_modular.ipynb, 06_transfer_learning.ipynb,
# 08_paper_replicating_vit.ipynb: edit there, not here.
"""The networks by name: one entry makes a network known everywhere."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
        return (
            f"(pixel / 255 - {self.mean}) / {self.std}" if self.mean else "pixel / 255"
        )


def build_torchvision(name: str, config: Config, num_classes: int) -> Any:
    """Return the network of torchvision's of this name, untrained."""
    from torchvision import models

    one_output = {"aux_logits": False, "transform_input": True, "init_weights": True}
    options = {
        "googlenet": one_output,
        "inception": one_output,
        "vit": {"image_size": config.image_size},
    }.get(name.partition("_")[0], {})
    return models.get_model(name, num_classes=num_classes, **options)


def pretrained_torchvision(name: str, config: Config, num_classes: int) -> Any:
    """Return it with ImageNet's weights, frozen where they fit.

    That is all but the head and, of a ViT at another image_size, the positions.

    The last ``config.unfreeze`` blocks are free as well. Without the weights' file in
    torch's cache it is untrained, and says so; but it stands still all the same if
    config.weights follow.

    Raises:
        ValueError: if the file is damaged or would run code, or unfreeze is too high.
    """
    import torch
    from torchvision import models

    from going_modular.checkpoints import read_plain
    from going_modular.freezing import unfreeze_last

    model = build_torchvision(name, config, num_classes)
    weights = models.get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if path.is_file():
        read_plain(path)  # raises for what torchvision would load all the same
        known = models.get_model(name, weights=weights)
    elif config.weights:  # which follow
        known = build_torchvision(name, config, num_classes + 1)
    else:
        print(
            f"{name} begins untrained: for ImageNet's weights put {weights.url} "
            f"into {path.parent}",
            file=sys.stderr,
        )
        return model
    state, own = known.state_dict(), model.state_dict()
    fits = {key: state[key] for key in own if state[key].shape == own[key].shape}
    own.update(fits)  # it keeps what torchvision notes beside the numbers
    model.load_state_dict(own)
    for key, weight in model.named_parameters():
        weight.requires_grad = key not in fits
    return unfreeze_last(model, config.unfreeze)


class Networks(Choices):
    """The networks by name; torchvision:NAME is any of torchvision's classifiers."""

    def __missing__(self, name: str) -> Network:
        from torchvision import models

        kind, _, known = name.partition(":")
        if kind != "torchvision" or known not in models.list_models(module=models):
            raise ValueError(
                f"unknown model {name!r}: choose one of {', '.join(self)}, or one of "
                "torchvision's that tell classes apart, such as torchvision:resnet18"
            )
        inputs = models.get_model_weights(known).DEFAULT.transforms()
        return Network(
            functools.partial(build_torchvision, known),
            functools.partial(pretrained_torchvision, known),
            inputs.mean,
            inputs.std,
        )


NETWORKS = Networks("model")


def blueprint(config: Config, num_classes: int = 2) -> tuple[Network, Any]:
    """Return the network that a config names, and a model of it without memory.

    Raises:
        ValueError: if there is none of this name, or the config's sizes do not fit it.
    """
    import torch

    network = NETWORKS[config.model]
    channels, size = config.channels, config.image_size
    place = "cpu" if "regnet" in config.model else "meta"  # RegNets compute sizes
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device(place):
            model = network.build(config, num_classes)
            model.eval()(torch.empty(1, channels, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{config.model} does not go with image_size {size}, channels {channels}: "
            f"{reason}"
        ) from None
    return network, model


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
    """Return EfficientNet-Lite0 with ImageNet's weights, frozen but for a new head.

    The last ``config.unfreeze`` blocks are free as well.
    """
    from going_modular.effnet import create_effnet_lite0_model
    from going_modular.freezing import unfreeze_last

    model, _ = create_effnet_lite0_model(num_classes, "cpu")
    return unfreeze_last(model, config.unfreeze)


NETWORKS["effnet_lite0"] = Network(  # (pixel - 127) / 128
    build_lite0, pretrained_lite0, mean=(0.498039,) * 3, std=(0.501961,) * 3
)


NETWORKS["effnetb2"] = Network(
    functools.partial(build_torchvision, "efficientnet_b2"),
    functools.partial(pretrained_torchvision, "efficientnet_b2"),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def build_vit(config: Config, num_classes: int) -> Any:
    """Return lesson 08's Vision Transformer for a config."""
    from going_modular.vit import ViT, ViTConfig

    sizes = {
        name: value for name, value in vars(config).items() if hasattr(ViTConfig, name)
    }
    return ViT(ViTConfig(in_channels=config.channels, num_classes=num_classes, **sizes))


NETWORKS["vit"] = Network(build_vit)
