# Written by tools/export.py from 02_classification.ipynb, 03_computer_vision.ipynb, 04_custom_datasets.ipynb: edit
# there, not here.
"""Toy data, data sets and the loaders that serve them in batches."""

import contextlib
import gzip
import hashlib
import math
import os
import shutil
import stat
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.datasets import FashionMNIST
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2


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


def check_name(archive, member):
    """Raise ValueError unless a zip's member, a ZipInfo, is a file or folder that stays in the folder it goes to."""
    name = member.orig_filename  # as it is stored; ``filename`` is already adapted to this system
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or any(p[1:2] == ":" for p in parts):
        raise ValueError(f"{archive} is refused: its member {name!r} could be written outside the folder")
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive does not say
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ValueError(f"{archive} is refused: its member {name!r} is a link or a device, not a file or folder")


def check_members(archive, members, max_bytes):
    """Raise ValueError where ``check_name`` does, or where the members would unpack to more than max_bytes."""
    for member in members:
        check_name(archive, member)
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        largest = max(members, key=lambda member: member.file_size).orig_filename
        raise ValueError(
            f"{archive} is refused: unpacked it has {total:,} bytes, its largest member is {largest!r}; "
            f"the limit is {max_bytes:,}. Pass a larger max_bytes if you trust it."
        )


def unpack(archive, folder, *, max_bytes=2_000_000_000):
    """Unpack a zip into ``folder``, whole or not at all, and return the folder's Path; one with content is left alone.

    Raises FileNotFoundError; ValueError, with nothing written, for a file that is no whole zip, and for one with a
    member that would leave the folder, with a link, or with more than max_bytes; OSError where it cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        return folder
    if not archive.is_file():
        raise FileNotFoundError(f"there is no file {archive}: check the path, and the folder in which you run this")
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(archive) as opened:
            check_members(archive, opened.infolist(), max_bytes)
            temporary.mkdir(parents=True)
            opened.extractall(temporary)
        if folder.is_dir():
            folder.rmdir()  # it is empty, and not every system would replace it
        temporary.rename(folder)
    except OSError as error:
        if not (folder.is_dir() and any(folder.iterdir())):  # else another process was faster
            advice = "Choose a folder that you may write to, with space left."
            raise OSError(f"cannot unpack {archive} into {folder}: {error}. {advice}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{archive} is no zip that can be unpacked: {error}. Fetch it again.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


MAX_PIXELS = 50_000_000  # the largest picture that is decoded, such as 8,000 by 6,250
ROTATION_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where a file may say how it was held


def to_rgb(image):
    """Return a decoded PIL image upright and in RGB, 8 bits a channel: transparent parts white, 16 bits scaled to 8."""
    if image.info.keys() & ROTATION_KEYS:
        with contextlib.suppress(Exception):  # notes that cannot be read are no reason to lose a picture
            ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 0 to 65535; Pillow's own conversion would clip at 255
        values = np.asarray(image).clip(0, 65_535) / 257
        image = Image.fromarray(values.round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_picture(file, name):
    """Return the picture in a binary file object as a PIL image in RGB.  Raises ValueError, which begins with name."""
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            image = Image.open(file)  # reads only the beginning
        if image.width * image.height <= MAX_PIXELS:
            image.load()
            return to_rgb(image)
        size = f"{image.width:,} × {image.height:,} pixels"
    except Image.DecompressionBombError:  # above Pillow's own, higher limit
        size = "far too many pixels"
    except UnidentifiedImageError:
        what = "no picture, whatever its ending says" if file.seek(0, os.SEEK_END) else "empty, 0 bytes"
        raise ValueError(f"{name} is {what}: replace it, or take it out of the folder") from None
    except Exception as error:  # a damaged file can make a decoder stumble in many ways
        raise ValueError(f"{name} cannot be decoded ({error}): fetch it again, or take it out of the folder") from None
    raise ValueError(f"{name} has {size}, the limit is {MAX_PIXELS:,}: make it smaller first")


def read_picture(source):
    """Return a picture as a PIL image in RGB, upright, decoded; of an animation the first frame.

    source: a path, or a file object opened in binary mode.  Gray, palette, CMYK and 16-bit pictures become RGB with 8
    bits; what is transparent becomes white.  Raises FileNotFoundError; ValueError, naming the file, where it is empty,
    no picture, damaged, or of more than MAX_PIXELS.
    """
    if hasattr(source, "read"):
        return decode_picture(source, getattr(source, "name", "the picture"))
    try:
        with open(source, "rb") as file:
            return decode_picture(file, source)
    except OSError:
        if os.path.isfile(source):
            raise  # it is there, but may not be read
        advice = "check the path, and the folder in which you run this"
        raise FileNotFoundError(f"there is no picture {source}: {advice}") from None


def list_pictures(folder):
    """Return the paths, sorted, of all pictures in ``folder`` and the folders within; hidden ones are left out.

    Raises FileNotFoundError, or ValueError where there is none.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder}: check the path, and the folder in which you run this")
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]  # os.walk enters those that are left
        found += [(parent, name) for name in names if name.lower().endswith(IMG_EXTENSIONS) and name[0] != "."]
    if not found:
        raise ValueError(f"{folder} holds no picture, nothing that ends in {', '.join(IMG_EXTENSIONS)}")
    return [os.path.join(*pair) for pair in sorted(found)]


def find_classes(folder):
    """Return the sorted names of the folders in ``folder``, hidden ones left out.

    Raises FileNotFoundError, or ValueError where there is none.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder}: check the path, and the folder in which you run this")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise ValueError(f"{folder} holds no folders: it needs one for each class, such as {folder}/cat")
    return classes


class ImageFolderDataset(Dataset):
    """Pictures in class folders, such as folder/cat/1.png: an item is (picture, label), a batch of indices their list.

    prepare: from PIL image to what is kept in memory, run once on every picture, now.  transform: run at each access,
    on what was kept or on the PIL image; it must not change what it gets.  classes, class_to_idx and samples, a list of
    (path, label), are those of torchvision's ImageFolder.  A batch of ``SeededIndices`` draws torch's random numbers
    from their seed and puts the random state back, so that its pictures are the same in whichever process.
    Raises FileNotFoundError; ValueError for no class folders, an empty one, or, in prepare, a picture that is broken.
    """

    def __init__(self, folder, transform=None, *, prepare=None):
        folder = os.path.expanduser(folder)
        self.classes = find_classes(folder)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        places = [(os.path.join(folder, name), label) for name, label in self.class_to_idx.items()]
        self.samples = [(path, label) for place, label in places for path in list_pictures(place)]
        self.transform, self.kept = transform, None
        if prepare is not None:
            self.kept = [prepare(read_picture(path)) for path, _ in self.samples]
            if isinstance(self.kept[0], torch.Tensor) and len({picture.shape for picture in self.kept}) == 1:
                self.kept = torch.stack(self.kept)  # N × (C, H, W) -> (N, C, H, W): one piece to hand to a worker

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        picture = read_picture(path) if self.kept is None else self.kept[index]
        return (picture if self.transform is None else self.transform(picture)), label

    def __getitems__(self, indices):
        seed = getattr(indices, "seed", None)  # SeededIndices have one
        if seed is None:
            return [self[index] for index in indices]
        with torch.random.fork_rng(devices=[]):  # the CPU's random state alone; a GPU's is not touched
            torch.default_generator.manual_seed(seed)
            return [self[index] for index in indices]


def create_transforms(image_size=64, augment=True):
    """Return (prepare, train_transform, test_transform) for ``ImageFolderDataset``.

    prepare: PIL image -> (3, image_size, image_size) uint8.  The others: that -> the same shape, float32 in 0..1; the
    one for training flips and turns it at random (up to 30 degrees) unless augment is False.
    Raises ValueError for an image_size below 1.
    """
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; pictures need at least 1 pixel")
    prepare = v2.Compose([v2.Resize((image_size, image_size)), v2.PILToTensor()])
    to_float = v2.ToDtype(torch.float32, scale=True)
    changes = [v2.RandomHorizontalFlip(), v2.RandomRotation(30)] if augment else []
    return prepare, v2.Compose([*changes, to_float]), v2.Compose([to_float])


def pixel_hash(path):
    """Return a picture's size and the SHA-256 of its RGB pixels: the same for the same picture in any lossless file."""
    picture = read_picture(path)
    return picture.size, hashlib.sha256(picture.tobytes()).hexdigest()


def find_leaks(train_folder, test_folder):
    """Return [(train_path, test_path), ...]: the pictures that are in both folders, identical to the last pixel.

    Folders within are searched too.  Errors as for ``list_pictures`` and ``read_picture``.
    """
    known = {}
    for path in list_pictures(train_folder):
        known.setdefault(pixel_hash(path), []).append(path)
    tests = [(path, pixel_hash(path)) for path in list_pictures(test_folder)]
    return [(twin, path) for path, key in tests for twin in known.get(key, [])]


def mix_seeds(*numbers):
    """Make one seed, an int in 0..2**63 - 1, from several: others give one that has nothing to do with it."""
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class SeededIndices(list):
    """A batch of indices that takes along, in ``seed``, what its random changes are made from, to a worker too."""

    def __init__(self, indices, seed):
        super().__init__(indices)
        self.seed = seed


class EpochBatches(Sampler):
    """Batches of indices in a new random order each epoch, order and each batch's seed made from (seed, epoch) alone.

    dataset: anything with a length.  epoch: how many epochs were begun, at first 0 (a peek at one batch begins one);
    to go on after epoch k, set it to k.  Raises ValueError for a batch_size below 1.
    """

    def __init__(self, dataset, batch_size, seed):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; take at least 1")
        self.dataset, self.batch_size, self.seed, self.epoch = dataset, batch_size, seed, 0

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)  # rounded up: the last batch may be smaller

    def __iter__(self):
        self.epoch += 1  # at the first batch: a DataLoader with workers asks for iterators that it never uses
        epoch_seed = mix_seeds(self.seed, self.epoch)
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(epoch_seed))
        for number, indices in enumerate(order.split(self.batch_size)):
            yield SeededIndices(indices.tolist(), mix_seeds(epoch_seed, number))


def create_dataloaders(
    train_dir, test_dir, transform, batch_size, num_workers=0, *, test_transform=None, prepare=None, seed=42
):
    """Return (train_dataloader, test_dataloader, class_names) for two folders of class folders.

    transform: from PIL image, or from what ``prepare`` makes of it, to a tensor; for the test too, unless there is a
    test_transform.  Both of torchvision's generations of transforms work.  A batch is (pictures (B, C, H, W), labels
    (B,) int64).  Training pictures come in an order, and with random changes, made from seed and epoch, with any
    num_workers.  Raises ValueError for a batch_size below 1 and for different classes, and as ``ImageFolderDataset``.
    """
    train_data = ImageFolderDataset(train_dir, transform, prepare=prepare)
    test_data = ImageFolderDataset(test_dir, test_transform or transform, prepare=prepare)
    if train_data.classes != test_data.classes:
        a, b = set(train_data.classes), set(test_data.classes)
        raise ValueError(
            f"{train_dir} and {test_dir} must hold the same classes: only the first has {sorted(a - b)}, "
            f"only the second {sorted(b - a)}"
        )
    settings = {"num_workers": num_workers, "pin_memory": torch.cuda.is_available()}
    batches = EpochBatches(train_data, batch_size, seed)
    generator = torch.Generator().manual_seed(seed)  # else each epoch would draw a number from torch's own
    train_dataloader = DataLoader(train_data, batch_sampler=batches, generator=generator, **settings)
    test_dataloader = DataLoader(test_data, batch_size, generator=generator, **settings)
    return train_dataloader, test_dataloader, train_data.classes
