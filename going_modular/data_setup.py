# Written by tools/export.py from 02_classification.ipynb, 03_computer_vision.ipynb: edit there, not here.
"""Toy data, data sets and the loaders that serve them in batches."""

import gzip
import hashlib
import math
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import FashionMNIST


def make_circles(num_samples=1000, noise=0.03, factor=0.8, seed=42):
    """Make points on two circles around the origin: label 0 on the outer (radius 1), 1 on the inner (radius factor).

    noise: standard deviation added to both coordinates.  Returns X (N, 2) float32 and y (N, 1) float32 of 0 and 1, in
    turn, in order of the angle.  Raises ValueError unless num_samples >= 2, noise >= 0 and 0 < factor < 1.
    """
    if num_samples < 2 or noise < 0 or not 0 < factor < 1:
        raise ValueError(
            f"num_samples={num_samples}, noise={noise}, factor={factor}: need at least 2 samples, "
            "noise of at least 0, and a factor between 0 and 1"
        )
    index = torch.arange(num_samples)
    y = index % 2
    angle = 2 * math.pi * index / num_samples
    radius = torch.where(y == 1, factor, 1.0)
    X = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)  # two (N,) -> (N, 2)
    X = X + noise * torch.randn(num_samples, 2, generator=torch.Generator().manual_seed(seed))
    return X, y.float().unsqueeze(dim=1)  # (N,) -> (N, 1)


def split_data(X, y, test_fraction=0.2, seed=42):
    """Shuffle the rows and split them into (X_train, y_train, X_test, y_test).

    X and y: (N, ...) with rows that belong together.  The test set gets round(test_fraction * N) rows.  Raises
    ValueError where X and y differ in length or one of the parts would be empty.
    """
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} rows and y has {len(y)}; each row of X needs its label")
    num_test = round(test_fraction * len(X))
    if not 0 < num_test < len(X):
        raise ValueError(f"test_fraction {test_fraction} of {len(X)} rows leaves one part empty; choose another")
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed)).to(X.device)
    test, training = order[:num_test], order[num_test:]
    return X[training], y[training], X[test], y[test]


def make_spirals(num_samples=900, num_classes=3, noise=0.2, seed=42):
    """Make points on the arms of a spiral, one arm a class, from the origin to radius 1.

    noise: standard deviation of the angle, in radians.  Returns X (N, 2) float32 and y (N,) int64 in 0..K-1, the
    classes in turn, from the inside out.  Raises ValueError unless num_samples >= num_classes >= 2 and noise >= 0.
    """
    if num_classes < 2 or num_samples < num_classes or noise < 0:
        raise ValueError(
            f"num_samples={num_samples}, num_classes={num_classes}, noise={noise}: need at least 2 classes, "
            "a sample for each, and noise of at least 0"
        )
    index = torch.arange(num_samples)
    y = index % num_classes
    radius = (index + 1) / num_samples
    angle = 4 * radius + 2 * math.pi * y / num_classes
    angle = angle + noise * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
    X = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)  # two (N,) -> (N, 2)
    return X, y


def read_fashion_mnist(root, name):
    """Return the unpacked bytes of one Fashion-MNIST archive, (number of bytes,) uint8, and write nothing.

    name: such as "t10k-labels-idx1-ubyte.gz", in root/FashionMNIST/raw.  Never uses the network.
    Raises FileNotFoundError where the archive is missing, ValueError where its checksum is wrong.
    """
    path = Path(root) / "FashionMNIST" / "raw" / name
    mend = "Restore it, in the course's folder, with: git checkout -- data/FashionMNIST"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {mend}")
    packed = path.read_bytes()
    if hashlib.md5(packed, usedforsecurity=False).hexdigest() != dict(FashionMNIST.resources)[name]:
        raise ValueError(f"{path} is damaged: {len(packed):,} bytes with a wrong checksum. {mend}")
    return torch.frombuffer(bytearray(gzip.decompress(packed)), dtype=torch.uint8)


class FashionMNISTTensors(Dataset):
    """Fashion-MNIST as tensors in memory: 60,000 pictures to learn from (``train=True``) or 10,000 for the test.

    An item is (image (1, 28, 28) float32 in 0..1, label int in 0..9), as from torchvision's FashionMNIST with ToTensor.
    A list of indices gives a whole batch at once: (images (B, 1, 28, 28), labels (B,) int64).
    images (N, 1, 28, 28) uint8, labels (N,) int64 and classes, ten names, are open to all.
    Raises FileNotFoundError or ValueError, naming the archive, where one is missing or damaged.
    """

    classes = list(FashionMNIST.classes)

    def __init__(self, root="data", train=True):
        part = "train" if train else "t10k"
        pixels = read_fashion_mnist(root, f"{part}-images-idx3-ubyte.gz")[16:]  # behind a header of 16 bytes
        self.images = pixels.reshape(-1, 1, 28, 28)  # (N * 784,) -> (N, C, H, W)
        self.labels = read_fashion_mnist(root, f"{part}-labels-idx1-ubyte.gz")[8:].long()  # (N,)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index].float() / 255, int(self.labels[index])

    def __getitems__(self, indices):
        return self.images[indices].float() / 255, self.labels[indices]


def keep_batch(batch):
    """Return ``batch`` as it is: the collate_fn for a dataset whose ``__getitems__`` gives whole batches."""
    return batch


def create_fashion_mnist_dataloaders(root="data", batch_size=128, seed=42):
    """Return (train_dataloader, test_dataloader, class_names) for Fashion-MNIST.

    A batch is ((B, 1, 28, 28) float32 in 0..1, (B,) int64).  Training pictures come in a new order each epoch, drawn
    with ``seed``; test pictures always in theirs.  Errors as for ``FashionMNISTTensors``.
    """
    train_data, test_data = FashionMNISTTensors(root, train=True), FashionMNISTTensors(root, train=False)
    generator = torch.Generator().manual_seed(seed)
    train_dataloader = DataLoader(train_data, batch_size, shuffle=True, generator=generator, collate_fn=keep_batch)
    test_dataloader = DataLoader(test_data, batch_size, collate_fn=keep_batch)
    return train_dataloader, test_dataloader, list(train_data.classes)
