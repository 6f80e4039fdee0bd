# Written by tools/export.py from 01_workflow.ipynb, 02_classification.ipynb, 03_computer_vision.ipynb: edit there, not
# here.
"""The models of the course, from a straight line to a convolutional network."""

from itertools import pairwise

import torch
from torch import nn


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
