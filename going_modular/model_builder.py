# Written by tools/export.py from 01_workflow.ipynb, 02_classification.ipynb,
# 03_computer_vision.ipynb, 06_transfer_learning.ipynb: edit there, not here.
"""From a straight line to pretrained networks."""

from itertools import pairwise

import torch
from torch import nn
from torchvision.models import EfficientNet_B2_Weights, efficientnet_b2

from going_modular.freezing import FreezableBatchNorm2d, freeze


class LinearRegressionModel(nn.Module):
    """A line, y = weight · x + bias: (N, 1) float -> (N, 1) float."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1))
        self.bias = nn.Parameter(torch.randn(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x + self.bias


class ClassificationModel(nn.Module):
    """Two hidden layers with ReLU.

    (B, in_features) float -> logits (B, out_features).

    Args:
        in_features: numbers per item.
        hidden_units: width of both hidden layers.
        out_features: 1 for two classes, K for K classes.
    """

    def __init__(
        self,
        in_features: int,
        hidden_units: int,
        out_features: int,
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden_units),
            nn.ReLU(),
            nn.Linear(hidden_units, hidden_units),
            nn.ReLU(),
            nn.Linear(hidden_units, out_features),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # (B, in_features) -> (B, out_features)


def tiny_vgg_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Layers (B, C, H, W) -> (B, out_channels, H // 2 - 2, W // 2 - 2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class TinyVGG(nn.Module):
    """Two blocks of convolutions and max pooling, then a linear layer.

    (B, input_shape, image_size, image_size) -> logits (B, output_shape).
    hidden_units: channels within. Source: CNN Explainer, Wang et al. 2020.
    """

    def __init__(
        self,
        input_shape: int,
        hidden_units: int,
        output_shape: int,
        *,
        image_size: int = 64,
    ):
        super().__init__()
        check_size(image_size, at_least=16)
        size = ((image_size - 4) // 2 - 4) // 2  # two blocks
        self.image_shape = (input_shape, image_size, image_size)
        self.conv_block_1 = tiny_vgg_block(input_shape, hidden_units)
        self.conv_block_2 = tiny_vgg_block(hidden_units, hidden_units)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(hidden_units * size**2, output_shape)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(images, self.image_shape)
        return self.classifier(self.conv_block_2(self.conv_block_1(images)))


def first_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return layers (B, C, H, W) -> (B, out_channels, H // 2, W // 2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def later_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return layers with two convolutions.

    (B, C, H, W) -> (B, out_channels, H // 2, W // 2).
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class CNNModel(nn.Module):
    """Halving stages, then a linear layer: (B, C, H, W) -> (B, K)."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        *,
        widths: tuple[int, ...] = (16, 32, 64),
        image_size: int = 28,
        dropout: float = 0.1,
    ):
        super().__init__()
        check_size(image_size, at_least=2 ** len(widths))
        self.image_shape = (in_channels, image_size, image_size)
        stages = [first_stage(in_channels, widths[0])]
        for narrow, wide in pairwise(widths):
            stages.append(later_stage(narrow, wide))
        self.features = nn.Sequential(*stages)
        side = image_size // 2 ** len(widths)  # halved by each stage
        inputs = widths[-1] * side**2
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(inputs, num_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(images, self.image_shape)
        return self.classifier(self.features(images))


def check_size(image_size: int, at_least: int) -> None:
    """Raise ValueError if a network would shrink its images to nothing."""
    if image_size < at_least:
        raise ValueError(f"image_size {image_size} is too small, at least {at_least}")


def check_images(images: torch.Tensor, shape: tuple[int, int, int]) -> None:
    """Raise ValueError unless images is (B, C, H, W) with this shape (C, H, W)."""
    if images.shape[1:] != shape:
        raise ValueError(
            f"this model takes images (B, {', '.join(map(str, shape))}), got "
            f"{tuple(images.shape)}: "
            "resize the images, or build the model for their channels and image_size"
        )


def create_effnetb2_model(
    num_classes: int = 3,
    device: torch.device | str = "cpu",
    *,
    seed: int | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Return (model, transform): EfficientNet-B2 with ImageNet weights and a new head.

    Only the head, 1408 -> num_classes, is trainable. The transform takes a PIL image
    in RGB to (3, 288, 288) float32.

    Args:
        num_classes: number of logits.
        device: where the model goes.
        seed: for torch, set before the head is made; None leaves torch's as it is.

    Raises:
        OSError: if the weights in torch's cache are damaged, or none are there and
            they cannot be downloaded; it says where to get and where to put them.
    """
    weights = EfficientNet_B2_Weights.DEFAULT
    try:
        state = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # no connection, or a damaged file
        known = isinstance(error, OSError | RuntimeError)
        reason = error if known else "the file is damaged"
        raise OSError(
            f"the weights of EfficientNet-B2 cannot be fetched ({reason}). "
            f"Fetch {weights.url} where there is internet and put the file into "
            f"{torch.hub.get_dir()}/checkpoints; or use create_effnet_lite0_model, "
            "whose weights came with pip."
        ) from None
    model = efficientnet_b2(norm_layer=FreezableBatchNorm2d)
    model.load_state_dict(state)
    freeze(model.features)
    if seed is not None:
        torch.manual_seed(seed)
    model.classifier[-1] = nn.Linear(1408, num_classes)
    return model.to(device), weights.transforms()
