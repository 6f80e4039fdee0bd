"""Folders as people have them: layouts, links, what is skipped, broken or twice."""

import os
import shutil
import time
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from going_modular.__main__ import main
from going_modular.config import Config, read_config
from going_modular.data_setup import (
    EpochBatches,
    create_dataloaders,
    create_transforms,
)
from going_modular.folders import (
    check_folder,
    find_splits,
    fingerprint,
    hold_out,
    open_folders,
)
from going_modular.image_folder import ImageFolderDataset
from going_modular.pictures import list_pictures, scan_folder
from tests.folders import train_arguments, write_pictures

TRANSFORMS = create_transforms(8)


@pytest.fixture
def data(tmp_path):
    """Train and valid, two classes of eight and of four pictures."""
    return write_pictures(tmp_path / "data", ("a", "b"), {"train": 8, "valid": 4})


def open_all(data, **options):
    config = Config(data=str(data), batch_size=4, **options)
    return open_folders(config, TRANSFORMS)


def sizes(folders):
    return [len(folders.train.dataset), len(folders.valid.dataset)]


# Layouts


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        *[("train", "val"), ("train", "validation"), ("Train", "Valid")],
        *[("TRAIN", "VAL"), ("training", "Validation"), ("train_set", "dev-set")],
        *[("training_set", "validation images"), ("seg_train", "dev")],
        ("train_data", "valid_data"),
    ],
)
def test_other_names_of_the_parts(data, train, valid):
    (data / "train").rename(data / "one")  # not in one step: a disk may ignore capitals
    (data / "valid").rename(data / "other")
    (data / "one").rename(data / train)
    (data / "other").rename(data / valid)
    assert find_splits(data) == {"train": data / train, "valid": data / valid}
    folders = open_all(data)
    assert sizes(folders) == [16, 8] and folders.notes == []
    assert folders.class_names == ["a", "b"]


@pytest.mark.parametrize("other", ["val", "Validation", "dev_set"])
def test_a_part_that_is_there_twice_is_told(data, other):
    shutil.copytree(data / "valid", data / other)
    with pytest.raises(ValueError, match="are both valid: rename one"):
        find_splits(data)


def test_a_class_called_like_a_part_holds_pictures(tmp_path):
    names = ("test tube", "train set", "valid")
    folder = write_pictures(tmp_path, names, {"all": 2}) / "all"
    assert find_splits(folder) == {"train": folder}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_parts_some_folders_deeper(data, tmp_path, depth):
    top = tmp_path / "top"
    inner = top.joinpath(*["inner"] * depth)
    inner.parent.mkdir(parents=True)
    data.rename(inner)
    (top / "__MACOSX").mkdir()
    (top / ".DS_Store").write_bytes(b"\0")
    (top / "readme.txt").write_text("where it is from")
    assert find_splits(top)["train"] == inner / "train"
    assert sizes(open_all(top)) == [16, 8]


@pytest.mark.parametrize("inside", ["", "data/", "downloads/pictures/"])
@pytest.mark.parametrize("named", ["zip", "folder"])
def test_a_zip_is_unpacked(data, tmp_path, inside, named):
    archive = tmp_path / "archive.v2.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("__MACOSX/._data", b"of a Mac")
        for path in data.rglob("*.png"):
            name = inside + path.relative_to(data).as_posix()
            opened.write(path, name)
            opened.writestr(f"__MACOSX/{name}", b"of a Mac")
    shutil.rmtree(data)
    named = archive if named == "zip" else tmp_path / "archive.v2"
    for _ in range(2):  # again, it is there
        folders = open_all(named)
        assert sizes(folders) == [16, 8] and folders.notes == []
    assert (tmp_path / "archive.v2" / inside / "train").is_dir()


@pytest.mark.parametrize("ending", ["ZIP", "Zip"])
def test_a_zip_may_end_in_capitals(data, tmp_path, ending):
    archive = tmp_path / f"a.{ending}"
    os.rename(shutil.make_archive(tmp_path / "a", "zip", data), archive)
    assert find_splits(archive)["train"] == tmp_path / "a" / "train"


def test_test_is_not_used_to_choose(data):
    (data / "valid").rename(data / "test")
    assert list(find_splits(data)) == ["train", "test"]
    folders = open_all(data)
    assert sizes(folders) == [12, 4] and "are held out" in folders.notes[0]
    assert {Path(path).parts[-3] for path, _ in folders.valid.dataset.samples} == {
        "train"
    }
    shutil.copytree(data / "test", data / "Val")
    assert list(find_splits(data)) == ["train", "valid", "test"]
    assert sizes(open_all(data)) == [16, 8]


@pytest.mark.parametrize(("share", "counts"), [(0, [12, 4]), (0.5, [8, 8])])
def test_class_folders_alone(data, share, counts):
    for seed in (1, 2):
        folders = open_all(data / "train", valid_share=share, seed=seed)
        assert sizes(folders) == counts and f"{share or 0.2:.0%}" in folders.notes[0]
        train, valid = (set(part.dataset.samples) for part in folders[:2])
        assert not train & valid and len(train | valid) == 16
        assert set(Counter(label for _, label in valid).values()) == {counts[1] // 2}


def test_a_class_may_be_called_like_a_part(data):
    (data / "train" / "a").rename(data / "train" / "train")
    (data / "train" / "b").rename(data / "train" / "val")
    assert find_splits(data / "train") == {"train": data / "train"}
    assert open_all(data / "train").class_names == ["train", "val"]


def test_what_is_held_out_is_the_seeds_choice_of_every_class():
    samples = [
        (f"{label}/{k}", label)
        for label, n in ((0, 50), (1, 7), (2, 2))
        for k in range(n)
    ]
    kept, held = hold_out(samples, 0.2, seed=3)
    assert Counter(label for _, label in held) == {0: 10, 1: 1, 2: 1}
    assert sorted(kept + held) == sorted(samples) and kept == sorted(
        kept, key=samples.index
    )
    assert hold_out(samples, 0.2, seed=3) == (kept, held)
    assert hold_out(samples, 0.2, seed=4) != (kept, held)
    assert Counter(label for _, label in hold_out(samples, 0.99, 3)[0])[1] == 1
    with pytest.raises(ValueError, match="3/0 is the only picture of its class"):
        hold_out([*samples, ("3/0", 3)], 0.2, 3)


def spoil(data, what):
    if what == "nothing":
        shutil.rmtree(data)
        data.mkdir()
    elif what == "pictures alone":
        for path in list_pictures(data / "train" / "a"):
            shutil.move(path, data)
        shutil.rmtree(data / "train"), shutil.rmtree(data / "valid")
    elif what == "a table":
        shutil.rmtree(data)
        data.mkdir()
        (data / "labels.csv").write_text("1.png,cat")
    elif what == "no train":
        shutil.rmtree(data / "train")
    elif what == "one class":
        shutil.rmtree(data / "train" / "a"), shutil.rmtree(data / "valid" / "a")
    elif what == "other classes":
        (data / "valid" / "a").rename(data / "valid" / "A b")
    elif what == "annotations":
        (data / "train" / "labels").mkdir()
        (data / "train" / "labels" / "1.txt").write_text("0 0.5 0.5")


SPOILED = {
    "nothing": "no class folders, but nothing .*train/CLASS/1.png and valid/CLASS",
    "pictures alone": r"holds no class folders, but 8 \.png .*needs train/CLASS",
    "a table": r"holds no class folders, but 1 \.csv in .*or CLASS/1\.png",
    "no train": "holds valid, but no train",
    "one class": "has one class, b",
    "other classes": r"the same classes: only one has \['A b', 'a'\]",
    "annotations": r"labels holds no picture, nothing that ends in .*are 1 \.txt",
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_there_and_what_is_wanted_is_told(data, what):
    spoil(data, what)
    with pytest.raises(ValueError, match=SPOILED[what]):
        open_all(data)


def test_no_folder_and_a_share_of_what_is_separate(data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone"):
        open_all(tmp_path / "gone")
    (tmp_path / "file.tar").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*file\.tar"):
        open_all(tmp_path / "file.tar")
    with pytest.raises(ValueError, match="holds train, valid: leave out valid_share"):
        open_all(data, valid_share=0.1)


# Links


def link(place, target):
    try:
        os.symlink(target, place, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")


LINKS = {
    "itself": [("a/self", ".")],
    "the class above": [("a/deep/up", "..")],
    "the part above": [("a/up", "..")],
    "the data set above": [("a/up", "../..")],
    "the root": [("b/root", "/")],
    "another class": [("a/others", "../b")],
    "two that lead to each other": [("a/x", "../b"), ("b/y", "../a")],
    "a class twice": [("c", "b")],
    "a class twice, the link first": [("B", "b")],
    "two names of one class": [("0", "b"), ("aa", "0")],
    "a circle elsewhere": [("a/far", "../../../far"), ("b/far", "../../../far/far")],
    "one elsewhere, twice": [("a/far", "../../../far"), ("a/too", "../../../far")],
}


@pytest.mark.parametrize("name", LINKS)
def test_every_real_folder_is_visited_once(data, tmp_path, name):
    write_pictures(tmp_path, ("far/far",), {".": 3})
    link(tmp_path / "far" / "back", "far/../..")
    (data / "train" / "a" / "deep").mkdir()
    for place, target in LINKS[name]:
        link(data / "train" / place, target)
    elsewhere = 3 if "elsewhere" in name else 0
    begun = time.monotonic()
    pictures = list_pictures(data / "train")
    assert len(pictures) == len({*map(os.path.realpath, pictures)}) == 16 + elsewhere
    samples = ImageFolderDataset(data / "train").samples
    assert sorted(path for path, _ in samples) == sorted(pictures)
    assert len(scan_folder(data / "train")[1]) > 0  # what is not followed is named
    own = [(path, label) for path, label in samples if "far" not in path]
    assert all(Path(path).parts[-2] == "ab"[label] for path, label in own)
    assert time.monotonic() - begun < 5


def test_a_class_may_be_a_link_to_elsewhere(data, tmp_path):
    (data / "train" / "b").rename(tmp_path / "store")
    link(data / "train" / "b", tmp_path / "store")
    assert len(ImageFolderDataset(data / "train")) == 16
    os.symlink(data / "gone.png", data / "train" / "a" / "gone.png")
    with pytest.raises(ValueError, match=r"there is no picture .*gone\.png"):
        open_all(data)


# What is skipped, broken, twice


def test_what_is_skipped_is_counted_and_named(data):
    place = data / "train" / "b"
    for name in ("1.heic", "2.HEIC", "notes.txt", "clip.mov", "README"):
        (place / name).write_bytes(b"x")
    Image.new("RGB", (8, 8)).save(data / "train" / "lonely.png")
    for name in (".DS_Store", "._1.png", "Thumbs.db", "desktop.ini"):
        (place / name).write_bytes(b"x")  # of systems, and silently left out
    (data / "valid" / "b" / "1.heic").write_bytes(b"x")
    folders = open_all(data)
    assert sizes(folders) == [16, 8]
    first, second = folders.notes
    assert f"{data / 'train'}: 6 files are skipped" in first
    for words in ("1 .heic", "1 .HEIC", "1 .txt", "1 .mov", "1 .png", "README"):
        assert words in first
    assert "1 files are skipped, 1 .heic" in second
    assert len(scan_folder(place)[1]) == 5


def test_all_broken_pictures_of_both_parts_are_told_at_once(data):
    (data / "train" / "a" / "0.png").write_bytes(b"")
    (data / "train" / "b" / "3.png").write_text("no picture")
    path = data / "valid" / "a" / "2.png"
    path.write_bytes(path.read_bytes()[:60])
    for num_workers in (0, 2):
        with pytest.raises(ValueError, match="cannot be used, 3: ") as caught:
            open_all(data, num_workers=num_workers)
        for words in ("0.png is empty", "3.png is not a picture", "2.png cannot be"):
            assert words in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_large_photo_is_told_with_the_option(data):
    Image.new("RGB", (40, 30)).save(data / "train" / "a" / "large.png")
    with pytest.raises(ValueError, match=r"40 × 30 pixels, .*--max-pixels$"):
        open_all(data, max_pixels=1_199)
    assert sizes(open_all(data, max_pixels=1_200)) == [17, 8]


def test_a_folder_called_pixels_is_no_large_photo(data):
    data = data.rename(data.with_name("pixels"))
    (data / "train" / "a" / "0.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"pixels.*, or take it out of the folder$"):
        open_all(data)


def test_the_fingerprint_changes_with_any_picture_and_with_nothing_else(data, tmp_path):
    def prints(folder):
        return fingerprint(ImageFolderDataset(folder))

    first = prints(data / "train")
    assert list(first) == ["a", "b"] and [first[name][0] for name in "ab"] == [8, 8]
    moved = shutil.copytree(data, tmp_path / "moved")
    assert prints(moved / "train") == first != prints(moved / "valid")
    for change in ("more", "fewer", "other", "relabeled", "bit"):
        place = shutil.copytree(data, tmp_path / change) / "train"
        if change == "more":
            shutil.copy(place / "a" / "0.png", place / "a" / "9.png")
        elif change == "fewer":
            (place / "b" / "7.png").unlink()
        elif change == "other":
            shutil.copy(place / "a" / "0.png", place / "a" / "1.png")
        elif change == "relabeled":
            (place / "a" / "0.png").rename(place / "x.png")
            (place / "b" / "0.png").rename(place / "a" / "0.png")
            (place / "x.png").rename(place / "b" / "0.png")
        else:
            content = bytearray((place / "b" / "2.png").read_bytes())
            content[-1] ^= 1
            (place / "b" / "2.png").write_bytes(content)
        assert prints(place) != first, change


def test_a_check_finds_everything(data):
    shutil.copy(data / "train" / "a" / "1.png", data / "valid" / "a" / "leak.png")
    Image.open(data / "train" / "b" / "1.png").save(data / "train" / "b" / "twin.bmp")
    (data / "train" / "b" / "x.jpg").write_text("no picture")
    (data / "valid" / "b" / "x.heic").write_bytes(b"x")
    Image.new("RGB", (50, 3)).save(data / "valid" / "wide.png")
    lines, findings = check_folder(data)
    assert lines[:2] == ["train: 18 pictures: a 8, b 10", "valid: 9 pictures: a 5, b 4"]
    assert "20 × 20, 20 × 20, 20 × 20 pixels" in lines[2] and len(lines) == 3
    counts = {name: len(items) for name, items in findings.items()}
    assert counts == {"broken": 1, "skipped": 2, "in two splits": 1, "twice in one": 1}
    text = str(findings)
    for words in ("x.jpg is not a picture", "x.heic", "wide.png", "1.png = "):
        assert words in text
    assert "leak.png" in text and "twin.bmp" in text


def test_a_check_of_what_is_fine_and_of_an_empty_class(data):
    (data / "train" / "c").mkdir()
    lines, findings = check_folder(data)
    assert lines[0] == "train: 16 pictures: a 8, b 8, c 0"
    assert not any(findings.values())
    assert len(check_folder(data, max_pixels=399)[1]["broken"]) == 24
    assert check_folder(data / "valid")[0][0] == "train: 8 pictures: a 4, b 4"


def test_equal_pictures_count_each_in_the_median(tmp_path):
    for name, sides in (("a", [8, 8, 8, 8, 9]), ("b", [10])):
        (tmp_path / name).mkdir()
        for number, side in enumerate(sides):
            picture = Image.new("RGB", (side, side))
            picture.save(tmp_path / name / f"{number}.png")
    lines, _ = check_folder(tmp_path)
    assert "8 × 8, 8 × 8, 10 × 10 pixels" in lines[-1]


# The dataset and its loaders


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_prepare_the_same_in_one_array(data, num_workers):
    kept = ImageFolderDataset(
        data / "train", prepare=TRANSFORMS[0], num_workers=num_workers
    ).kept
    one_by_one = [
        image for image, _ in ImageFolderDataset(data / "train", TRANSFORMS[0])
    ]
    assert torch.equal(kept, torch.stack(one_by_one))


def test_preparing_leaves_the_random_state_alone(data):
    before = torch.get_rng_state()
    open_all(data, num_workers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_classes_can_be_given_in_their_order(data):
    dataset = ImageFolderDataset(data / "train", classes=["c", "b", "a"])
    assert dataset.classes == ["c", "b", "a"]
    labels = {Path(path).parts[-2]: label for path, label in dataset.samples}
    assert labels == {"a": 2, "b": 1}
    with pytest.raises(ValueError, match="holds a, b: it needs one for each class"):
        ImageFolderDataset(data / "train", classes=["a", "c"])


def test_workers_persist(data):
    loaders = create_dataloaders(data / "train", data / "valid", v2.PILToTensor(), 8, 1)
    for loader in loaders[:2]:
        first, second = iter(loader), iter(loader)
        assert first is second  # the same processes
        assert loader.batch_sampler.epoch <= 2


@pytest.mark.parametrize(
    ("total", "batch_size", "lengths"),
    [
        *[(9, 4, [4, 5]), (9, 8, [9]), (33, 16, [16, 17]), (3, 2, [3]), (8, 4, [4, 4])],
        *[(10, 4, [4, 4, 2]), (1, 4, [1]), (3, 1, [1, 1, 1]), (4, 4, [4]), (5, 4, [5])],
    ],
)
def test_a_lone_last_picture_joins_the_batch_before(total, batch_size, lengths):
    batches = EpochBatches(range(total), batch_size, seed=0)
    found = list(batches)
    assert [len(batch) for batch in found] == lengths and len(batches) == len(lengths)
    assert sorted(index for index, _ in sum(found, [])) == list(range(total))


# Transforms


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (30, 30), (3000, 2), (1, 500)])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_every_shape_becomes_a_square(size, resize):
    prepare, _, _ = create_transforms(16, resize=resize)
    image = prepare(Image.new("RGB", size, "white"))
    assert image.shape == (3, 16, 16) and image.dtype == torch.uint8
    share = (image == 255).float().mean()
    thin = 16 * max(round(16 * min(size) / max(size)), 1) / 256
    assert share == pytest.approx(thin if resize == "pad" else 1)


def test_what_crop_and_pad_keep():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200  # the middle square
    picture = Image.fromarray(pixels)
    crop, pad, squash = (
        create_transforms(12, resize=name)[0](picture).float()
        for name in ("crop", "pad", "squash")
    )
    assert (crop[:, :, 1:-1] - 200).abs().max() <= 1 and crop.min() > 150
    assert pad[:, 4:8, 5:7].min() >= 199 and pad[:, :4].max() == pad[:, 8:].max() == 0
    assert squash[0, :, 5:7].min() >= 199 and squash[0, :, 0].max() == 0


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_augmentation_is_the_seeds(data, augment):
    prepare, train, test = create_transforms(16, augment)
    dataset = ImageFolderDataset(data / "train", train, prepare=prepare)
    images = {}
    for seed in range(20):
        image, _ = dataset[[3, seed]]
        assert image.shape == (3, 16, 16) and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1
        assert torch.equal(image, dataset.__getitems__([[5, 9], [3, seed]])[1][0])
        images[image.numpy().tobytes()] = seed
    assert len(images) > 10
    torch.testing.assert_close(test(dataset.kept[3]), dataset.kept[3] / 255)


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("augment", "Light", "none, light, strong"),
        ("augment", True, "none, light, strong"),
        ("resize", "", "squash, crop, pad"),
    ],
)
def test_unknown_names_of_transforms(name, value, known):
    with pytest.raises(ValueError, match=f"unknown {name} .*: choose one of {known}"):
        create_transforms(16, **{name: value})


@pytest.mark.parametrize("name", ["café", "thé", "Ångström"])
def test_a_letter_in_one_piece_or_two_is_the_same_class(tmp_path, name):
    """As where a Mac wrote train, and another system valid."""
    counts = {"train": 8, "valid": 4}
    for (split, count), form in zip(counts.items(), ("NFD", "NFC"), strict=True):
        classes = (unicodedata.normalize(form, name), "x")
        write_pictures(tmp_path / "data", classes, {split: count})
    out = tmp_path / "run"
    assert main(train_arguments(tmp_path / "data", out, "--epochs 1")) == 0
    assert name in read_config(out)[1]
    assert main(["evaluate", str(out)]) == 0


@pytest.mark.skipif(os.name == "nt", reason="every name is text on Windows")
@pytest.mark.parametrize("raw", [b"caf\xe9", b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_a_class_whose_name_is_no_text_has_signs_for_its_odd_bytes(tmp_path, raw):
    """As an archive from another system leaves it."""
    classes, out = (os.fsdecode(raw), "x"), tmp_path / "run"
    write_pictures(tmp_path / "data", classes, {"train": 8, "valid": 4})
    assert main(train_arguments(tmp_path / "data", out, "--epochs 1")) == 0
    assert raw.decode(errors="replace") in read_config(out)[1]
    assert main(["evaluate", str(out)]) == 0
