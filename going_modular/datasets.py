# Written by tools/export.py from 03_computer_vision.ipynb: edit there, not here.
"""Fashion-MNIST, read from its archives."""

import gzip
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import check_integrity


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
    FashionMNIST gives it with ToTensor. ``__getitems__`` gives a whole batch for a list
    of indices at once: (images (B, 1, 28, 28) float32, labels (B,) int64).

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
