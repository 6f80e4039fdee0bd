"""Lesson 04: zips, pictures, the folder dataset, its loaders, one photograph."""

import errno
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import pil_loader
from torchvision.transforms import v2

from going_modular import engine, image_folder, utils
from going_modular.archives import unpack
from going_modular.data_setup import (
    EpochBatches,
    create_dataloaders,
    create_transforms,
)
from going_modular.image_folder import ImageFolderDataset, find_leaks
from going_modular.model_builder import CNNModel, TinyVGG
from going_modular.pictures import list_pictures, read_picture
from going_modular.predictions import pred_and_plot_image


def noise(height=8, width=6, channels=3, seed=0):
    values = np.random.default_rng(seed).integers(
        0, 256, (height, width, channels), dtype=np.uint8
    )
    return values[..., 0] if channels == 1 else values


@pytest.fixture(scope="module")
def photographs(root, tmp_path_factory):
    archive = root / "data" / "cat_dog_horse.zip"
    return unpack(archive, tmp_path_factory.mktemp("data") / "cat_dog_horse")


@pytest.fixture
def folder(tmp_path):
    """Two classes of five small pictures each."""
    for number, name in enumerate(["cat", "dog"]):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for k in range(5):
            picture = Image.fromarray(noise(seed=10 * number + k))
            picture.save(tmp_path / "pictures" / name / f"{k}.png")
    return tmp_path / "pictures"


# Zips


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_unpacking_gives_what_was_packed(tmp_path):
    members = {"train/cat/1.png": b"one", "train/dog/2.png": b"two", "empty/": b""}
    target = tmp_path / "new" / "folder"
    assert unpack(make_zip(tmp_path / "a.zip", members), target) == target
    assert (target / "train" / "cat" / "1.png").read_bytes() == b"one"
    assert (target / "empty").is_dir()
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_folder_with_content_is_left_alone_and_an_empty_one_filled(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"new.txt": b"new"})
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir(), empty.mkdir()
    (full / "mine.txt").write_text("mine")
    unpack(archive, full), unpack(archive, empty)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    assert [path.name for path in empty.iterdir()] == ["new.txt"]


EVIL = ["../evil", "a/../../evil", "a/..", "/evil", "C:/evil", "C:evil", "a/D:/evil"]
EVIL += ["..\\evil", "\\\\host\\evil", "evil\0.txt"]


@pytest.mark.parametrize("name", EVIL)
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path, name):
    member = zipfile.ZipInfo()
    member.filename = member.orig_filename = name
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("good.txt", b"good")
        archive.writestr(member, b"evil")
    problem = r"evil\.zip is refused: its member '.*' .* could be written outside"
    with pytest.raises(ValueError, match=problem):
        unpack(tmp_path / "evil.zip", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_device_is_refused(tmp_path, kind):
    member = zipfile.ZipInfo("link")
    member.create_system, member.external_attr = 3, (kind | 0o777) << 16
    make_zip(tmp_path / "links.zip", {member: b"/etc/passwd"})
    problem = r"links\.zip is refused: its member 'link' is a link or a device"
    with pytest.raises(ValueError, match=problem):
        unpack(tmp_path / "links.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_bomb_is_refused(tmp_path):
    archive = make_zip(tmp_path / "bomb.zip", {"small": b"1", "large": bytes(10_000)})
    problem = r"bomb\.zip is refused: .* 10,001 bytes.*9,000\. Pass a larger"
    with pytest.raises(ValueError, match=problem):
        unpack(archive, tmp_path / "target", max_bytes=9_000)
    assert not (tmp_path / "target").exists()
    unpack(archive, tmp_path / "target", max_bytes=10_001)


def test_a_member_larger_than_it_says_is_not_written(tmp_path):
    archive = make_zip(tmp_path / "liar.zip", {"large": bytes(100_000)})
    packed = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        # Both places where the size is stored.
        struct.pack_into("<I", packed, packed.index(signature) + offset, 10)
    archive.write_bytes(packed)
    with pytest.raises(OSError, match=r"cannot unpack .*liar\.zip"):
        unpack(archive, tmp_path / "target", max_bytes=1_000)
    assert [path.name for path in tmp_path.iterdir()] == ["liar.zip"]


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "flipped"])
def test_a_file_that_is_no_whole_zip(tmp_path, damage):
    members = {"1": os.urandom(2_000), "2": os.urandom(2_000)}
    archive = make_zip(tmp_path / "a.zip", members)
    whole = archive.read_bytes()
    flipped = whole[:3_000] + bytes([whole[3_000] ^ 1]) + whole[3_001:]
    damaged = {"text": b"hello", "empty": b"", "cut": whole[:3_000], "flipped": flipped}
    archive.write_bytes(damaged[damage])
    problem = r"cannot unpack .*a\.zip into .*: fetch it again"
    with pytest.raises(OSError, match=problem):
        unpack(archive, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


DAMAGE = {  # where, from the start of a record, and what stands there then
    "a name": (b"PK\x01\x02", 47, b"\x29"),  # not UTF-8
    "the list of members": (b"PK\x01\x02", 33, b"\x04"),  # a comment hides the rest
    "a method": (b"PK\x03\x04", 30 + 2 + 4, b"\xff"),  # of LZMA
    "the content": (b"PK\x03\x04", 30 + 2 + 9, b"\1"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_damaged_byte_is_told_in_one_sentence(tmp_path, damage):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as opened:
        for name in ("\xe9", "\xe8", "\xe0"):
            opened.writestr(name, os.urandom(100))
    signature, offset, byte = DAMAGE[damage]
    packed = archive.read_bytes()
    place = packed.index(signature) + offset
    archive.write_bytes(packed[:place] + byte + packed[place + 1 :])
    with pytest.raises(OSError, match=r"^cannot unpack .*a\.zip into .*: fetch it"):
        unpack(archive, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_missing_zip(tmp_path):
    problem = r"there is no file .*gone\.zip: check the path"
    with pytest.raises(FileNotFoundError, match=problem):
        unpack(tmp_path / "gone.zip", tmp_path / "target")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, target):
        (Path(target) / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", fail)
    archive = make_zip(tmp_path / "a.zip", {"1": b"1"})
    problem = r"cannot unpack .*into .*target .*No space left.*choose a folder"
    with pytest.raises(OSError, match=problem):
        unpack(archive, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path, root):
    make_zip(tmp_path / "a.zip", {"small": bytes(10), "large": bytes(1_000_000)})
    code = (
        "import resource; from going_modular.archives import unpack\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: unpack('a.zip', 'target')\nexcept OSError as error: print(error)"
    )
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(root)}}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, **options, text=True, capture_output=True)
    assert done.stdout.startswith("cannot unpack a.zip into target "), done.stderr
    assert "choose a folder" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_of_two_processes_that_unpack_the_faster_wins(tmp_path, monkeypatch):
    extract = zipfile.ZipFile.extractall

    def overtaken(self, target):
        extract(self, target)
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "theirs").write_text("theirs")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", overtaken)
    unpack(make_zip(tmp_path / "a.zip", {"1": b"1"}), tmp_path / "target")
    names = sorted(path.name for path in tmp_path.rglob("*"))
    assert names == ["a.zip", "target", "theirs"]


# Pictures


def save(image, path, **options):
    image.save(path, **options)
    return path


ORDINARY = {
    "rgb.png": Image.fromarray(noise()),
    "rgb.jpg": Image.fromarray(noise(40, 30)),
    "rgb.webp": Image.fromarray(noise()),
    "rgb.bmp": Image.fromarray(noise()),
    "gray.png": Image.fromarray(noise(channels=1)),
    "gray.jpg": Image.fromarray(noise(channels=1)),
    "bilevel.png": Image.fromarray(noise(channels=1)).convert("1"),
    "palette.png": Image.fromarray(noise()).quantize(16),
    "palette.gif": Image.fromarray(noise()).quantize(16),
    "cmyk.jpg": Image.fromarray(noise()).convert("CMYK"),
    "cmyk.tif": Image.fromarray(noise()).convert("CMYK"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_pictures_are_read_as_by_torchvision(tmp_path, name):
    path = save(ORDINARY[name], tmp_path / name)
    picture = read_picture(path)
    assert picture.mode == "RGB" and np.array_equal(picture, pil_loader(str(path)))
    with open(path, "rb") as file:
        assert np.array_equal(read_picture(file), picture) and not file.closed
    os.replace(path, tmp_path / "moved")  # Windows refuses while the file is open


def test_every_photograph_of_the_course_is_read_as_by_torchvision(photographs):
    for path in list_pictures(photographs)[::7]:
        assert np.array_equal(read_picture(path), pil_loader(path))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("alpha", [0, 255, 128])
def test_what_is_transparent_becomes_white(tmp_path, mode, alpha):
    image = Image.fromarray(noise()).convert(mode)
    image.putalpha(alpha)
    expected = np.asarray(image.convert("RGB")).astype(int)
    expected = expected * alpha / 255 + 255 * (255 - alpha) / 255
    found = np.asarray(read_picture(save(image, tmp_path / "a.png")))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_transparent_color_of_a_palette_becomes_white(tmp_path, name):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = np.asarray(read_picture(save(image, tmp_path / name, transparency=0)))
    white, brown = [255, 255, 255], [200, 100, 50]
    assert picture.tolist() == [[white, brown], [brown, white]]


def test_16_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 257, 32_896], [65_535, 128 * 257, 300]], dtype=np.uint16)
    expected = (values / 257).round().astype(np.uint8)
    for name in ("a.png", "a.tif"):
        picture = read_picture(save(Image.fromarray(values), tmp_path / name))
        assert np.array_equal(picture, np.stack([expected] * 3, axis=-1)), name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_a_rotated_photograph_is_put_upright(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise(16, 24))
    path = save(image, tmp_path / f"a.{kind}", exif=exif, lossless=True)
    opened = Image.open(path)
    opened.load()  # of a TIFF, Pillow turns it then
    found, expected = opened.size, ImageOps.exif_transpose(opened).convert("RGB")
    for source in (path, opened):
        picture = read_picture(source)
        assert picture.size == ((16, 24) if orientation > 4 else (24, 16))
        assert np.array_equal(picture, expected)
    assert opened.size == found  # what is given stays as it is


def test_unreadable_exif_notes_do_not_cost_the_picture(tmp_path):
    exif = b"Exif\0\0MM\0*\xff\xff"
    path = save(Image.fromarray(noise()), tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(path), noise())


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(noise(seed=k)).quantize(16) for k in range(3)]
    path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_picture(path), frames[0].convert("RGB"))


def large_png(width, height):
    """A PNG whose header promises width × height pixels, with no data for them."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(b""), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts.items())


PNG = io.BytesIO()
Image.fromarray(noise(40, 40)).save(PNG, "png")
FLIPPED = PNG.getvalue()[:1_000] + b"\0\0\0" + PNG.getvalue()[1_003:]
LIMIT = r"pixels, the limit is 50,000,000: make it smaller"
BROKEN = {
    "text.jpg": (b"this is a text", r"is not a picture: replace it"),
    "empty.png": (b"", r"is empty, 0 bytes: replace it"),
    "cut.png": (PNG.getvalue()[:1_000], r"cannot be decoded \(.+\): fetch it again"),
    "flipped.png": (FLIPPED, r"cannot be decoded \(.+\)"),
    "large.png": (large_png(10_000, 5_001), rf"has 10,000 × 5,001 {LIMIT}"),
    "larger.png": (large_png(10_000, 10_000), r"has 10,000 × 10,000 pixels"),
    "largest.png": (large_png(50_000, 50_000), r"cannot be decoded .*limit of .*pixel"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_named_and_the_next_step_with_it(
    tmp_path, monkeypatch, name
):
    content, message = BROKEN[name]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)  # Pillow's own limit
    (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # not even a warning of Pillow's comes through
        with pytest.raises(ValueError, match=rf"{name} {message}") as caught:
            read_picture(tmp_path / name)
        for source in (io.BytesIO(content), content):
            with pytest.raises(ValueError, match=f"^the picture {message}"):
                read_picture(source)
        with pytest.raises(ValueError, match=f"^The upload {message}"):
            read_picture(tmp_path / name, name="The upload")
    hidden = caught.value.__cause__ is None and caught.value.__suppress_context__
    assert hidden or name.startswith("large")


@pytest.mark.parametrize("source", [None, 3, ["a.png"], torch.zeros(3, 8, 8)])
def test_what_is_no_source_of_a_picture(source):
    problem = f"the picture cannot be decoded .*'{type(source).__name__}' object"
    with pytest.raises(ValueError, match=problem):
        read_picture(source)


def test_a_picture_is_a_new_one_whatever_its_source(tmp_path):
    path = save(Image.fromarray(noise()), tmp_path / "a.png")
    content, opened = path.read_bytes(), Image.open(path)
    sources = [str(path), content, bytearray(content), io.BytesIO(content), opened]
    for source in (*sources, Image.fromarray(noise())):
        for _ in range(2):  # the first, changed below, has changed no source
            if hasattr(source, "seek") and not isinstance(source, Image.Image):
                source.seek(0)
            picture = read_picture(source)
            assert picture is not source and np.array_equal(picture, noise())
            picture.paste("black", (0, 0, *picture.size))


def test_the_largest_picture_is_still_read(tmp_path):
    largest = save(Image.fromarray(noise(8, 6)), tmp_path / "a.png")
    assert read_picture(largest, max_pixels=48).size == (6, 8)
    larger = Image.fromarray(noise(7, 7))
    for source in (save(larger, tmp_path / "b.png"), larger):
        with pytest.raises(ValueError, match="7 × 7 pixels, the limit is 48"):
            read_picture(source, max_pixels=48)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what is cut
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_a_file_cut_anywhere_gives_a_picture_or_a_value_error(kind):
    whole = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(whole, kind)
    for length in range(0, len(whole.getvalue()), 13):
        try:
            assert read_picture(io.BytesIO(whole.getvalue()[:length])).size == (16, 16)
        except ValueError as error:
            assert str(error).startswith("the picture ")


@pytest.mark.parametrize("name", ["gone.png", "."])
def test_a_missing_picture(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="there is no picture .*check the path"):
        read_picture(tmp_path / name)


# The dataset


def test_every_item_is_that_of_torchvisions_image_folder(photographs):
    transform = v2.Compose([v2.Resize((16, 16)), v2.PILToTensor()])
    theirs = ImageFolder(photographs / "valid", transform)
    ours = ImageFolderDataset(photographs / "valid", transform)
    kept = ImageFolderDataset(photographs / "valid", prepare=transform)
    assert ours.classes == theirs.classes and ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == theirs.samples and len(ours) == len(theirs) == 300
    for mine, again, other in zip(ours, kept, theirs, strict=True):
        assert torch.equal(mine[0], other[0]) and torch.equal(again[0], other[0])
        assert mine[1] == again[1] == other[1]
    batch = ours.__getitems__([5, 200])
    assert [label for _, label in batch] == [0, 2]
    assert torch.equal(batch[1][0], theirs[200][0])


def test_order_folders_within_and_endings_are_image_folders(folder):
    (folder / "cat" / "B" / "deep").mkdir(parents=True)
    for name in ("B/deep/z.PNG", "B/a.png", "Z.png", "10.png", "a b.JpG"):
        Image.fromarray(noise()).save(folder / "cat" / name)
    (folder / "cat" / "notes.txt").write_text("no picture")
    (folder / "readme.txt").write_text("no class")
    assert ImageFolderDataset(str(folder)).samples == ImageFolder(str(folder)).samples
    assert len(ImageFolderDataset(folder)) == 15


def test_hidden_files_and_folders_are_ignored(folder):
    before = ImageFolderDataset(folder).samples
    (folder / ".thumbnails").mkdir()
    (folder / "cat" / ".cache").mkdir()
    for name in (".thumbnails/1.png", "cat/._0.png", "cat/.cache/1.png"):
        (folder / name).write_bytes(b"no picture")
    assert ImageFolderDataset(folder).samples == before


def test_without_a_transform_an_item_is_a_picture(folder):
    picture, label = ImageFolderDataset(folder)[7]
    assert isinstance(picture, Image.Image) and label == 1
    assert np.array_equal(picture, noise(seed=12))


def test_prepare_runs_once_and_transform_every_time(folder):
    counts = {"prepare": 0, "transform": 0}

    def prepare(image):
        counts["prepare"] += 1
        return image.size

    def transform(size):
        counts["transform"] += 1
        return size

    data = ImageFolderDataset(folder, transform, prepare=prepare)
    assert counts == {"prepare": 10, "transform": 0}
    assert data[0] == ((6, 8), 0)
    assert data.__getitems__([1, 9]) == [((6, 8), 0), ((6, 8), 1)]
    assert counts == {"prepare": 10, "transform": 3}


def test_what_would_fill_the_memory_is_prepared_at_each_access(folder, monkeypatch):
    datasets = []
    for limit in (10 * 3 * 8 * 6, 10 * 3 * 8 * 6 - 1):  # bytes of all ten images
        monkeypatch.setattr(image_folder, "KEPT_BYTES", limit)
        for transform in (v2.RandomInvert(p=1), None):
            data = ImageFolderDataset(folder, transform, prepare=v2.PILToTensor())
            datasets.append(data)
    old, new = noise(), 255 - noise()
    Image.fromarray(new).save(folder / "cat" / "0.png")  # only the larger reads it
    for data, expected in zip(datasets, (255 - old, old, 255 - new, new), strict=True):
        image, _ = data[0]
        assert np.array_equal(image.permute(1, 2, 0), expected)


def test_another_preparation_leaves_nothing_of_the_one_before(folder, monkeypatch):
    small = v2.Compose([v2.Resize((4, 4)), v2.PILToTensor()])
    data = ImageFolderDataset(folder, prepare=small)
    monkeypatch.setattr(image_folder, "KEPT_BYTES", 0)
    assert data.keep(v2.PILToTensor()) == []
    assert np.array_equal(data[0][0].permute(1, 2, 0), noise())


def test_what_is_kept_does_not_change_with_an_item(folder):
    data = ImageFolderDataset(folder, torch.Tensor.zero_, prepare=v2.PILToTensor())
    assert data[0][0].max() == 0
    data.transform = None
    for _ in range(2):
        image, _ = data[0]
        assert np.array_equal(image.permute(1, 2, 0), noise())
        image.zero_()


def test_pictures_of_different_sizes_are_kept_too(folder):
    Image.fromarray(noise(20, 20)).save(folder / "dog" / "9.png")
    data = ImageFolderDataset(folder, prepare=v2.PILToTensor())
    assert data[0][0].shape == (3, 8, 6) and data[10][0].shape == (3, 20, 20)


def test_arrays_are_kept_too(folder):
    data = ImageFolderDataset(folder, prepare=np.asarray)
    assert np.array_equal(data[1][0], noise(seed=1)) and isinstance(data.kept, list)


def test_folders_that_cannot_be_used(tmp_path, folder):
    problem = "there is no folder .*gone: check the path"
    with pytest.raises(FileNotFoundError, match=problem):
        ImageFolderDataset(tmp_path / "gone")
    problem = "cat holds no folders: it needs one for each class"
    with pytest.raises(ValueError, match=problem):
        ImageFolderDataset(folder / "cat")
    (folder / "horse").mkdir()
    (folder / "horse" / "notes.txt").write_text("later")
    problem = r"horse holds no picture, nothing that ends in .*\.jpg.*are 1 \.txt"
    with pytest.raises(ValueError, match=problem):
        ImageFolderDataset(folder)
    (folder / "horse" / "1.jpg").write_text("later")
    with pytest.raises(ValueError, match=r"1\.jpg is not a picture"):
        ImageFolderDataset(folder, prepare=v2.PILToTensor())


# Batches


def test_an_epochs_batches_depend_on_seed_and_epoch_alone():
    data = range(10)
    batches = EpochBatches(data, batch_size=4, seed=3)
    assert len(batches) == 3 and batches.epoch == 0
    first, second = list(batches), list(batches)
    assert [len(batch) for batch in first] == [4, 4, 2] and batches.epoch == 2
    pairs = sum(first + second, [])
    assert sorted(index for index, _ in pairs[:10]) == list(data)
    assert first != second and len({seed for _, seed in pairs}) == 20
    assert all(type(number) is int for pair in pairs for number in pair)
    torch.manual_seed(99)
    again = EpochBatches(data, batch_size=4, seed=3)
    again.epoch = 1
    assert list(again) == second
    assert list(EpochBatches(data, batch_size=4, seed=4)) != first


def test_batches_in_order_have_other_seeds_in_each_epoch():
    batches = EpochBatches(range(10), batch_size=4, seed=3, shuffle=False)
    first, second = sum(batches, []), sum(batches, [])
    assert [index for index, _ in first] == [index for index, _ in second]
    assert [index for index, _ in first] == list(range(10))
    assert len({seed for _, seed in first + second}) == 20


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("total", [12, 11, 9])  # the last batch: 4, 3 or 1
def test_processes_share_the_batches_of_one(size, shuffle, total):
    whole = EpochBatches(range(total), 4, seed=3, shuffle=shuffle)
    parts = [
        EpochBatches(range(total), 4, seed=3, shuffle=shuffle, rank=rank, size=size)
        for rank in range(size)
    ]
    for _ in range(2):
        batches = list(whole)
        shares = [list(part) for part in parts]
        assert [part.count for part in parts] == [len(sum(s, [])) for s in shares]
        assert sum(part.count for part in parts) == whole.count == total
        for number, batch in enumerate(batches):
            split = [share[number] for share in shares if number < len(share)]
            assert sorted(sum(split, [])) == sorted(batch)  # each index once, its seed
            assert len(split) == min(size, len(batch))
            lengths = [len(part) for part in split]
            assert max(lengths) - min(lengths) <= 1  # as even as can be


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_process_decodes_its_part_alone(folder, monkeypatch, size):
    decoded = []

    def read(path, **options):
        decoded.append(path)
        return read_picture(path, **options)

    monkeypatch.setattr(image_folder, "read_picture", read)
    seen = []
    for rank in range(size):
        loaders = create_dataloaders(folder, folder, v2.PILToTensor(), 4)
        for loader in loaders[:2]:
            loader.batch_sampler.rank, loader.batch_sampler.size = rank, size
            decoded.clear()
            labels = torch.cat([y for _, y in loader])
            assert len(decoded) == len(labels) == loader.batch_sampler.count
        seen += decoded  # of the loader for tests
    assert sorted(seen) == sorted(path for path, _ in loader.dataset.samples)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_is_counted_once(folder, num_workers):
    loader, *_ = create_dataloaders(folder, folder, v2.PILToTensor(), 4, num_workers)
    for epoch in range(3):
        assert loader.batch_sampler.epoch == epoch
        assert sum(len(y) for _, y in loader) == 10


def test_augmentation_leaves_the_random_state_alone(folder):
    data = ImageFolderDataset(folder, v2.RandomRotation(30), prepare=v2.PILToTensor())
    before = torch.get_rng_state()
    once, again, other = (data[[3, seed]][0] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(once, again) and not torch.equal(once, other)
    data.__getitems__([3, 4])  # without a seed: torch's own random state, as everywhere
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_seeded_image_is_the_same_in_every_batch_and_process(
    folder, num_workers, size
):
    prepare, transform, _ = create_transforms(image_size=8)
    data = ImageFolderDataset(folder, transform, prepare=prepare)
    pairs = sum(EpochBatches(data, 4, seed=42), [])
    alone = {image.numpy().tobytes() for image, _ in map(data.__getitem__, pairs)}
    seen = []
    for rank in range(size):
        torch.manual_seed(rank)
        arguments = (folder, folder, transform, 4, num_workers)
        loader, *_ = create_dataloaders(*arguments, prepare=prepare)
        loader.batch_sampler.rank, loader.batch_sampler.size = rank, size
        seen += [image.numpy().tobytes() for X, _ in loader for image in X]
    assert len(seen) == 10 and set(seen) == alone


def epochs(folder, num_workers, count=2, **settings):
    prepare, train, test = create_transforms(image_size=8)
    loader, *_ = create_dataloaders(
        folder, folder, train, 4, num_workers, prepare=prepare, **settings
    )
    return [[(X.clone(), y.clone()) for X, y in loader] for _ in range(count)]


def same(one, other):
    pairs = zip(sum(one, []), sum(other, []), strict=True)
    return all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in pairs)


def test_workers_change_nothing_in_orders_and_augmentation(folder):
    alone = epochs(folder, num_workers=0)
    torch.manual_seed(1)
    assert same(alone, epochs(folder, num_workers=2))
    assert not same(alone, epochs(folder, num_workers=0, seed=1))
    assert not same(alone[:1], alone[1:])


def test_loading_draws_nothing_from_torchs_random_state(folder):
    before = torch.get_rng_state()
    epochs(folder, num_workers=0)
    assert torch.equal(torch.get_rng_state(), before)


V1 = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
TO_FLOAT = v2.ToDtype(torch.float32, scale=True)
V2 = v2.Compose([v2.Resize((64, 64)), v2.ToImage(), TO_FLOAT])


@pytest.mark.parametrize("transform", [V1, V2], ids=["v1", "v2"])
def test_code_for_the_well_known_interface_runs_unchanged(folder, tmp_path, transform):
    device, path = "cpu", folder / "cat" / "0.png"
    train_dataloader, test_dataloader, class_names = create_dataloaders(
        train_dir=folder,
        test_dir=folder,
        transform=transform,
        batch_size=4,
        num_workers=0,
    )
    assert class_names == ["cat", "dog"]
    torch.manual_seed(42)
    model = TinyVGG(input_shape=3, hidden_units=10, output_shape=len(class_names))
    model = model.to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    results = engine.train(
        model=model,
        train_dataloader=train_dataloader,
        test_dataloader=test_dataloader,
        loss_fn=loss_fn,
        optimizer=optimizer,
        epochs=2,
        device=device,
    )
    assert list(results) == ["train_loss", "train_acc", "test_loss", "test_acc"]
    utils.save_model(
        model=model, target_dir=tmp_path / "models", model_name="going_modular.pth"
    )
    ranked = pred_and_plot_image(
        model=model,
        image_path=str(path),
        class_names=class_names,
        image_size=(64, 64),
        transform=transform,
        device=device,
    )
    plt.close("all")
    assert sorted(name for name, _ in ranked) == class_names
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    theirs = transforms.Compose([transform, normalize])
    for size in ((64, 64), 64):
        by_default = pred_and_plot_image(model, path, class_names, image_size=size)
        ranked = pred_and_plot_image(model, path, class_names, transform=theirs)
        assert dict(by_default) == pytest.approx(dict(ranked))
    plt.close("all")


def test_loaders_give_every_picture_once_and_the_test_in_order(folder):
    train, test, _ = create_dataloaders(folder, folder, V2, batch_size=4)
    expected = DataLoader(ImageFolder(str(folder), V2), batch_size=4)
    for (X, y), (X_expected, y_expected) in zip(test, expected, strict=True):
        assert torch.equal(X, X_expected) and torch.equal(y, y_expected)
        assert y.dtype == torch.int64
    X = torch.cat([X for X, _ in train])
    assert len(X) == 10 and len({image.numpy().tobytes() for image in X}) == 10


def test_the_test_gets_its_own_transform(folder):
    prepare, train, test = create_transforms(image_size=8)
    settings = {"test_transform": test, "prepare": prepare}
    _, loader, _ = create_dataloaders(folder, folder, train, 4, **settings)
    data = ImageFolderDataset(folder, test, prepare=prepare)
    images = torch.cat([X for X, _ in loader])
    assert torch.equal(images, torch.stack([image for image, _ in data]))


def test_loaders_that_cannot_be_made(folder, tmp_path):
    with pytest.raises(ValueError, match="batch_size is 0; take at least 1"):
        create_dataloaders(folder, folder, V2, batch_size=0)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "dog").rename(other / "horse")
    problem = r"the same classes: only one has \['dog', 'horse'\]"
    with pytest.raises(ValueError, match=problem):
        create_dataloaders(folder, other, V2, batch_size=4)


def test_the_same_classes_in_another_order_are_told_as_that(folder):
    turned = ImageFolderDataset(folder, V2, classes=["dog", "cat"])
    problem = "the same classes: only one has another order"
    with pytest.raises(ValueError, match=problem):
        create_dataloaders(folder, turned, V2, batch_size=4)


def test_transforms(folder):
    image = Image.fromarray(noise(40, 30))
    prepare, train, test = create_transforms(image_size=16)
    kept = prepare(image)
    assert kept.shape == (3, 16, 16) and kept.dtype == torch.uint8
    for transform in (train, test):
        image = transform(kept)
        assert image.shape == (3, 16, 16) and image.dtype == torch.float32
    torch.testing.assert_close(test(kept), kept / 255)
    assert len({train(kept).numpy().tobytes() for _ in range(10)}) > 5
    plain = create_transforms(image_size=16, augment="none")[1]
    torch.testing.assert_close(plain(kept), kept / 255)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    _, *normalized = create_transforms(16, "none", mean, std)
    shift, scale = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))
    expected = (kept / 255 - shift) / scale
    for transform in normalized:
        torch.testing.assert_close(transform(kept), expected)


# Leaks


def test_leaks_are_found_by_their_pixels(folder, tmp_path):
    clean = tmp_path / "clean"
    (clean / "cat").mkdir(parents=True)
    Image.fromarray(noise(seed=77)).save(clean / "cat" / "new.png")
    assert find_leaks(folder, clean) == []
    planted = clean / "cat" / "renamed.bmp"
    Image.open(folder / "dog" / "3.png").save(planted)
    assert find_leaks(folder, clean) == [(str(folder / "dog" / "3.png"), str(planted))]
    files = {Path(path).read_bytes() for path in list_pictures(folder)}
    assert planted.read_bytes() not in files  # the same pixels in other bytes
    assert len(find_leaks(folder, folder)) == 10
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_leaks(folder, tmp_path / "gone")


def test_the_same_bytes_in_another_shape_are_no_leak(tmp_path):
    for name, size in (("a", (4, 6)), ("b", (6, 4))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size).save(tmp_path / name / "1.png")
    assert find_leaks(tmp_path / "a", tmp_path / "b") == []


def test_the_courses_splits_share_no_identical_picture(photographs):
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert find_leaks(photographs / one, photographs / other) == []


# One photograph


def test_a_prediction_is_that_of_the_model(folder):
    torch.manual_seed(0)
    model = CNNModel(in_channels=3, num_classes=3, widths=(4, 8), image_size=16)
    model.train()
    path = folder / "cat" / "0.png"
    ranked = pred_and_plot_image(model, path, ["a", "b", "c"], image_size=16)
    title = plt.gca().get_title()
    plt.close("all")
    assert all(module.training for module in model.modules())
    model.eval()
    small = Image.open(path).resize((16, 16), Image.Resampling.BILINEAR)
    with torch.no_grad():
        image = transforms.ToTensor()(small)
        image = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
            image
        )
        logits = model(image[None])
    probs = torch.softmax(logits, dim=1)[0].tolist()
    expected = dict(zip("abc", probs, strict=True))
    assert dict(ranked) == pytest.approx(expected)
    assert [p for _, p in ranked] == sorted(dict(ranked).values(), reverse=True)
    assert title == f"{ranked[0][0]}: probability {ranked[0][1]:.2f}"


def test_one_logit_is_two_classes(folder):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 1))
    path = folder / "dog" / "1.png"
    ranked = pred_and_plot_image(model, path, ["cat", "dog"], image_size=(8, 8))
    plt.close("all")
    assert sum(probability for _, probability in ranked) == pytest.approx(1)


def test_predictions_that_cannot_be_made(folder, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    path, names = folder / "dog" / "1.png", ["a", "b", "c"]
    problem = "the model knows 3 classes, but there are 2 names"
    with pytest.raises(ValueError, match=problem):
        pred_and_plot_image(model, path, ["cat", "dog"], image_size=(8, 8))
    problem = "the transform gave a .*Image.*, not a tensor: end it with"
    with pytest.raises(ValueError, match=problem):
        pred_and_plot_image(model, path, names, transform=v2.Resize((8, 8)))
    with pytest.raises(ValueError, match="the model is on cpu but device is meta"):
        pred_and_plot_image(model, path, names, device="meta")
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        pred_and_plot_image(model, tmp_path / "gone.jpg", names)
    assert plt.get_fignums() == []
