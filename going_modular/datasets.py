# Written by tools/export.py from 02_classification.ipynb, 03_computer_vision.ipynb:
# edit there, not here.
"""Toy data and Fashion-MNIST."""

import gzip
import math
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import check_integrity


def make_circles(
    num_samples: int = 1000, noise: float = 0.03, factor: float = 0.8, seed: int = 42
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make points on two circles around the origin, in order of their angle.

    Args:
        num_samples: 2 or more, taken from the two circles in turn.
        noise: standard deviation of what is added to both coordinates.
        factor: radius of the inner circle, label 1; the outer, label 0, has radius 1.
        seed: decides the noise.

    Returns:
        X (N, 2) float32 and y (N, 1) float32 of 0 and 1.

    Raises:
        ValueError: unless num_samples >= 2, noise >= 0 and 0 < factor < 1.
    """
    if num_samples < 2 or noise < 0 or not 0 < factor < 1:
        raise ValueError(
            f"num_samples={num_samples}, noise={noise}, factor={factor}: need at least "
            "2 samples, noise of at least 0, and a factor between 0 and 1"
        )
    index = torch.arange(num_samples)
    y = index % 2
    angle = 2 * math.pi * index / num_samples
    radius = torch.where(y == 1, factor, 1.0)
    X = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)  # (N, 2)
    X += noise * torch.randn(
        num_samples, 2, generator=torch.Generator().manual_seed(seed)
    )
    return X, y.float().unsqueeze(1)  # (N,) -> (N, 1)


def split_data(
    X: torch.Tensor, y: torch.Tensor, test_fraction: float = 0.2, seed: int = 42
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shuffle the rows and split them into (X_train, y_train, X_test, y_test).

    Args:
        X: (N, ...).
        y: (N, ...), the labels of X's rows.
        test_fraction: the test set gets round(test_fraction * N) rows.
        seed: decides the order.

    Raises:
        ValueError: if X and y differ in length, or one of the parts would be empty.
    """
    if len(X) != len(y):
        raise ValueError(
            f"X has {len(X)} rows and y has {len(y)}; each row of X needs its label"
        )
    num_test = round(test_fraction * len(X))
    if not 0 < num_test < len(X):
        raise ValueError(
            f"test_fraction {test_fraction} of {len(X)} rows leaves one part empty; "
            "choose another"
        )
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
    test, training = order.to(X.device).tensor_split([num_test])
    return X[training], y[training], X[test], y[test]


def make_spirals(
    num_samples: int = 900, num_classes: int = 3, noise: float = 0.2, seed: int = 42
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make points on the arms of a spiral from the origin to radius 1, inside out.

    Args:
        num_samples: taken from the arms in turn.
        num_classes: number of arms.
        noise: standard deviation of the angle, in radians.
        seed: decides the noise.

    Returns:
        X (N, 2) float32 and y (N,) int64 in 0..num_classes-1.

    Raises:
        ValueError: unless num_samples >= num_classes >= 2 and noise >= 0.
    """
    if num_classes < 2 or num_samples < num_classes or noise < 0:
        raise ValueError(
            f"num_samples={num_samples}, num_classes={num_classes}, noise={noise}: "
            "need at least 2 classes, a sample for each, and noise of at least 0"
        )
    index = torch.arange(num_samples)
    y = index % num_classes
    radius = (index + 1) / num_samples
    angle = 4 * radius + 2 * math.pi * y / num_classes
    angle += noise * torch.randn(
        num_samples, generator=torch.Generator().manual_seed(seed)
    )
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), y


def read_fashion_mnist(root: str | Path, name: str) -> torch.Tensor:
    """Unpack a Fashion-MNIST archive in memory, without writing or the network.

    Args:
        root: the folder that holds FashionMNIST/raw.
        name: of the archive there, such as "t10k-labels-idx1-ubyte.gz".

    Returns:
        The unpacked bytes, (number of bytes,) uint8.

    Raises:
        OSError: if the archive is missing, or its checksum is wrong.
    """
    path = Path(root, "FashionMNIST/raw", name)
    if not check_integrity(path, dict(FashionMNIST.resources)[name]):
        raise OSError(
            f"{path} is missing, or damaged. Restore it, in the course's folder: "
            "git checkout -- data/FashionMNIST"
        )
    return torch.frombuffer(
        bytearray(gzip.decompress(path.read_bytes())), dtype=torch.uint8
    )


class FashionMNISTTensors(Dataset):
    """Fashion-MNIST in memory: 60,000 training images or 10,000 test images.

    An item is (image (1, 28, 28) float32 in 0..1, label int in 0..9), as torchvision's
    FashionMNIST gives it with ToTensor. A list of indices gives a whole batch at once:
    (images (B, 1, 28, 28) float32, labels (B,) int64).

    Attributes:
        images: (N, 1, 28, 28) uint8.
        labels: (N,) int64.
        classes: the ten names.

    Raises:
        OSError: if an archive is missing or damaged.
    """

    classes = list(FashionMNIST.classes)

    def __init__(self, root: str | Path = "data", train: bool = True):
        part = "train" if train else "t10k"
        pixels = read_fashion_mnist(root, f"{part}-images-idx3-ubyte.gz")
        self.images = pixels[16:].reshape(-1, 1, 28, 28)  # behind 16 bytes of header
        self.labels = read_fashion_mnist(root, f"{part}-labels-idx1-ubyte.gz")[
            8:
        ].long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index].float() / 255, int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[indices].float() / 255, self.labels[indices]


def as_is(batch: object) -> object:
    """Return batch itself: the collate_fn for a dataset that gives whole batches."""
    return batch


def create_fashion_mnist_dataloaders(
    root: str | Path = "data", batch_size: int = 128, seed: int = 42
) -> tuple[DataLoader, DataLoader, list[str]]:
    """Return (train_dataloader, test_dataloader, class_names) for Fashion-MNIST.

    A batch is (images (B, 1, 28, 28) float32 in 0..1, labels (B,) int64).

    Args:
        root: the folder that holds FashionMNIST/raw.
        batch_size: images per batch.
        seed: decides the orders of the training images, a new one in each epoch.

    Raises:
        OSError: if an archive is missing or damaged.
    """
    train_data = FashionMNISTTensors(root)
    return (
        DataLoader(
            train_data,
            batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
            collate_fn=as_is,
        ),
        DataLoader(
            FashionMNISTTensors(root, train=False), batch_size, collate_fn=as_is
        ),
        list(train_data.classes),
    )
