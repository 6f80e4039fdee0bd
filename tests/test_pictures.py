"""Pictures of every mode and number format, files of every kind, costly ones."""

import io
import re
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import putchunk

from going_modular.pictures import EXTENSIONS, FORMATS, list_pictures, read_picture

GRAY = Image.new("L", (6, 4), 200)


def saved(picture, kind, **options):
    """Return the bytes of a picture saved as this kind of file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(values, photometric=1, bits=None, packed=None):
    """Return a TIFF of one row: its numbers as they are, its tags say what they are."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    content = packed or values.tobytes()
    tags = {256: len(values), 257: 1, 258: bits or values.itemsize * 8, 259: 1}
    tags |= {262: photometric, 273: 8 + 2 + 12 * 10 + 4, 277: 1, 278: 1}
    tags |= {279: len(content), 339: kind}
    rows = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(rows))
        + b"".join(rows)
        + bytes(4)
        + content
    )


# Modes and numbers


def bright(mode):
    """Return a picture of brightness 200 in a mode."""
    if mode.startswith("I;"):
        kind = ">u2" if mode.endswith("B") else "<u2"
        return Image.frombytes(mode, (6, 4), np.full(24, 200 * 257, kind).tobytes())
    steps = {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "PA": ("P", "PA")}
    steps |= {name: ("RGB", name) for name in ("HSV", "YCbCr", "LAB")}
    picture = GRAY
    if mode == "F":
        return Image.fromarray(np.full((4, 6), 200 / 255, np.float32))
    for step in steps.get(mode, (mode,)):
        picture = picture.convert(step)
    return picture


FILES = {
    "L": ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"],
    "LA": ["PNG", "WEBP", "TIFF", "AVIF"],
    "P": ["PNG", "GIF", "BMP", "TIFF"],
    "RGB": ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"],
    "RGBA": ["PNG", "WEBP", "TIFF", "GIF", "BMP"],
    "RGBX": ["TIFF", "WEBP"],
    "CMYK": ["JPEG", "TIFF"],
    "YCbCr": ["JPEG"],
    "LAB": ["TIFF"],
    "I;16": ["PNG", "TIFF"],
    "I;16B": ["TIFF"],
    "F": ["TIFF"],
}


@pytest.mark.parametrize(
    ("mode", "kind"), [(mode, kind) for mode in FILES for kind in FILES[mode]]
)
def test_every_mode_keeps_its_brightness_through_a_file(mode, kind):
    picture = np.asarray(read_picture(saved(bright(mode), kind)))
    assert picture.shape == (4, 6, 3)
    assert np.abs(picture.astype(int) - 200).max() <= 3


@pytest.mark.parametrize(
    "mode", ["La", "PA", "RGBa", "HSV", "YCbCr", "LAB", "I;16B", "F", "RGBX"]
)
def test_every_mode_of_an_open_picture_keeps_its_brightness(mode):
    assert np.abs(np.asarray(read_picture(bright(mode))).astype(int) - 200).max() <= 3


def test_a_picture_of_single_bits_is_black_and_white():
    picture = Image.fromarray(np.eye(4, dtype=bool))
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        found = np.asarray(read_picture(saved(picture, kind)))
        assert np.array_equal(found[..., 0], 255 * np.eye(4)), kind


NUMBERS = {
    "bytes": np.array([0, 51, 255], "u1"),
    "16 bits": np.array([0, 13_107, 65_535], "u2"),
    "fractions": np.array([0, 0.2, 1], "f4"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_black_a_fifth_and_white_are_that_in_every_number_format(name):
    picture = np.asarray(read_picture(tiff(NUMBERS[name])))
    assert np.abs(picture[0, :, 0].astype(int) - [0, 51, 255]).max() <= 1
    assert np.array_equal(picture[..., 0], picture[..., 2])


@pytest.mark.parametrize("name", ["bytes", "16 bits", "fractions"])
def test_where_zero_is_white_it_is_white(name):
    picture = np.asarray(read_picture(tiff(NUMBERS[name], photometric=0)))
    assert picture[0, :, 0].tolist() == [255, 204, 0]


def test_12_bits_are_scaled():
    first, second = 819, 4_095  # a fifth and all of it
    packed = bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    content = tiff(np.array([first, second], "u2"), bits=12, packed=packed)
    assert np.asarray(read_picture(content))[0, :, 0].tolist() == [51, 255]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [
        np.array([-1, 0, 5], "i4"),
        np.array([-1, 0, 5], "i1"),
        np.array([0, 1, 70_000], "u4"),
        np.array([0, 1, 2**31], "u4"),
        np.array([-0.1, 0, 1], "f4"),
        np.array([0, 0.5, 2.5], "f4"),  # brighter than white
        np.array([0, 51, 255], "f4"),
        np.array([0, 51, 127], "i1"),
        np.array([0, 51, 32_767], "i2"),
        np.array([0, 51, 255], "i4"),
        np.array([0, 13_107, 65_535], "u4"),
        np.array([0, 1, 1e9], "f4"),
        np.array([0, 1, np.inf], "f4"),
        np.array([0, 1, np.nan], "f4"),
    ],
    ids=lambda values: f"{values.dtype}: {values[0]} to {values[-1]}",
)
def test_numbers_without_a_known_white_are_refused(values):
    with pytest.raises(ValueError, match="numbers from .* white: save it with 8 bits"):
        read_picture(tiff(values))


@pytest.mark.parametrize("kind", ["f8", "f2", "u8"])
def test_a_tiff_of_unknown_numbers_is_refused_as_one(kind):
    with pytest.raises(ValueError, match="is a TIFF of a kind that is not known"):
        read_picture(tiff(np.array([0, 1, 1], kind)))


def gray_png(bits, values, transparent):
    """Return a PNG of one row of gray numbers, of which one is transparent."""
    row = int("".join(f"{value:0{bits}b}" for value in values), 2)
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(0, io.SEEK_END)
    header = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    putchunk(file, b"IHDR", header)
    putchunk(file, b"tRNS", struct.pack(">H", transparent))
    pixels = b"\0" + row.to_bytes(len(values) * bits // 8)
    putchunk(file, b"IDAT", zlib.compress(pixels))
    putchunk(file, b"IEND")
    return file.getvalue()


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_gray_of_few_bits_becomes_white(bits):
    third = (2**bits - 1) // 3
    content = gray_png(bits, [0, third, 2 * third, 3 * third], transparent=third)
    opened = Image.open(io.BytesIO(content))
    for source in (content, opened):
        picture = np.asarray(read_picture(source))
        assert picture[0, :, 0].tolist() == [0, 255, 170, 255]
    assert opened.info["transparency"] == third  # what is given stays as it is


# Files


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_all_that_is_listed_is_read(tmp_path, ending):
    kind = Image.registered_extensions()[ending]
    path = tmp_path / f"a{ending.upper()}"
    path.write_bytes(saved(GRAY, kind))
    assert list_pictures(tmp_path) == [str(path)]
    assert read_picture(path).size == (6, 4)


def test_known_endings():
    known = {".jfif", ".jpe", ".gif", ".avif", ".apng", ".webp", ".tif", ".bmp"}
    assert known | {".jpg", ".jpeg", ".png", ".tiff"} <= set(EXTENSIONS)


OTHERS = {
    "a HEIC photo": b"\0\0\0\x24ftypheix\0\0\0\0" + bytes(50),
    "a HEIC photo, as": b"\0\0\0\x1cftypmsf1\0\0\0\0hevc" + bytes(50),
    "a JPEG XL picture": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20),
    "a JPEG 2000 picture": b"\xff\x4f\xff\x51" + bytes(20),
    "a camera's raw photograph": b"FUJIFILMCCD-RAW 0201" + bytes(20),
    "a camera's raw photograph,": b"\0\0\0\x18ftypcrx " + bytes(20),
    "a PDF document": b"%PDF-1.7\n",
    "an SVG drawing": b'<?xml version="1.0"?>\n<!-- A --><svg/>',
    "a PostScript drawing": b"%!PS-Adobe-3.0\n",
    "a web page": b"\n<!doctype html><html><title>404</title>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid",
    "a video": b"\0\0\0\x20ftypisom" + bytes(20),
    "a damaged picture": b"\xff\xd8\xff\xe0",
    "empty, 0 bytes": b"",
    "not a picture": b"hello, hello, hello",
    "not a picture,": b"\n",
    "a picture of a kind that is not read": b"8BPS\0\1" + bytes(20),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_a_file_really_is_is_told(tmp_path, kind):
    path = tmp_path / "photo.jpg"
    path.write_bytes(OTHERS[kind])
    message = f"photo.jpg is {kind.rstrip(',')}.*: replace it by a PNG or JPEG, or take"
    with pytest.raises(ValueError, match=message):
        read_picture(path)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "DDS"])
def test_a_good_picture_of_another_kind_is_called_a_picture(kind):
    problem = "is a picture of a kind that is not read: replace it by a PNG or JPEG"
    with pytest.raises(ValueError, match=problem):
        read_picture(saved(GRAY.convert("RGB"), kind))


def test_a_file_that_was_read_to_its_end_is_told_from_its_start():
    file = io.BytesIO(OTHERS["a web page"])
    file.read()
    with pytest.raises(ValueError, match="the picture is a web page"):
        read_picture(file)


@pytest.mark.parametrize("kind", ["PPM", "EPS", "PDF", "ICO", "TGA", "JPEG2000"])
def test_no_other_decoder_is_tried(kind, monkeypatch):
    content = saved(GRAY.convert("RGB"), kind)
    assert kind not in FORMATS

    def fail(*_):
        raise AssertionError("a decoder ran")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ValueError, match="the picture is "):
        read_picture(content)


def test_the_limit_in_pixels_can_be_set():
    content = saved(GRAY, "PNG")
    assert read_picture(content, max_pixels=24).size == (6, 4)
    for limit in (23, 1):
        with pytest.raises(ValueError, match=f"6 × 4 pixels, the limit is {limit}:"):
            read_picture(content, max_pixels=limit)


def test_a_raised_limit_is_not_undone_by_pillows(monkeypatch):
    content = saved(GRAY, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # it refuses twice as many
    with pytest.raises(ValueError, match="cannot be decoded .* exceeds limit"):
        read_picture(content)
    assert read_picture(content, max_pixels=60_000_000).size == (6, 4)


# Costs


def repeated_scans(count, before=b""):
    """Return a progressive JPEG whose last scan stands ``count`` times more."""
    side = 64
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    content = saved(Image.fromarray(pixels), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:2] + before + content[2:-2] + content[last:-2] * count + b"\xff\xd9"


def test_a_jpeg_with_too_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    assert read_picture(repeated_scans(20)).size == (64, 64)
    for source in (repeated_scans(200), Image.open(io.BytesIO(repeated_scans(200)))):
        with pytest.raises(ValueError, match=r"has 2\d\d scans, the limit is 100"):
            read_picture(source)


def test_scans_of_four_colors_are_counted_too():
    content = saved(GRAY.convert("CMYK"), "JPEG", progressive=True)  # 18 scans
    start, scan, *rest = re.split(rb"(?=\xff\xda\0)", content)  # all four are in one
    few, many = (b"".join([start, scan * n, scan, *rest]) for n in (82, 83))
    assert read_picture(few).size == (6, 4)
    with pytest.raises(ValueError, match="has 101 scans, the limit is 100"):
        read_picture(many)


def test_notes_that_look_like_scans_cost_no_picture():
    marks = b"\xff\xda" * 1_000 + b"\xff\xd9"
    note = b"\xff\xfe" + struct.pack(">H", len(marks) + 2) + marks
    assert read_picture(repeated_scans(5, note)).size == (64, 64)
    assert read_picture(repeated_scans(5) + marks).size == (64, 64)  # a film behind it
    with pytest.raises(ValueError, match="scans, the limit is 100"):
        read_picture(repeated_scans(200, note))  # not hidden by an end in the note


@pytest.mark.parametrize(
    "block", [b"\x21\xfe\x01c\0", b"\x21\xfe" + b"\x01c" * 9 + b"\0"]
)
def test_a_gif_of_comments_is_given_up_at_once(block):
    content = saved(GRAY.convert("P"), "GIF")
    start = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    begun = time.process_time()
    few = content[:start] + block * 100 + content[start:]
    assert read_picture(few).size == (6, 4)
    many = content[:start] + block * (8_000_000 // len(block)) + content[start:]
    with pytest.raises(ValueError, match="the picture "):
        read_picture(many)
    assert time.process_time() - begun < 3


def test_of_thousands_of_frames_one_is_decoded():
    frames = [Image.new("P", (300, 300), k % 256) for k in range(600)]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    begun = time.process_time()
    assert read_picture(content).size == (300, 300)
    assert time.process_time() - begun < 0.5


def tiff_of_strips(width, height, count):
    """Return a TIFF of rows that all stand at the same place, ``count`` strips."""
    fields = [(256, 1, width), (257, 1, height), (258, 1, 8), (259, 1, 1), (262, 1, 1)]
    fields += [(273, count, 200), (277, 1, 1), (278, 1, 1)]
    fields += [(279, count, 200 + 4 * count)]
    rows = b"".join(struct.pack("<HHII", tag, 4, *field) for tag, *field in fields)
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + rows + bytes(4)
    places = struct.pack("<I", 8) * count
    sizes = struct.pack("<I", width) * count + bytes(width)
    return head.ljust(200, b"\0") + places + sizes


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [(64, 48, 1_000), (64, 48, 300_000), (8, 4, 60), (1_000, 1_000, 40_000)],
)
def test_more_strips_than_a_tiff_needs_are_refused_at_once(width, height, count):
    begun = time.process_time()
    with pytest.raises(ValueError, match=f"has {count:,} strips, more than it needs"):
        read_picture(tiff_of_strips(width, height, count))
    assert time.process_time() - begun < 3


@pytest.mark.parametrize("size", [(1, 40), (64, 48), (5, 300), (300, 5)])
def test_a_strip_a_row_is_read(size):
    width, height = size
    assert read_picture(tiff_of_strips(width, height, height)).size == size
