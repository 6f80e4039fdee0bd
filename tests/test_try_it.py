"""A model in the visitor's browser: the page that `export --format web` writes.

A real browser answers as Python does. Without one, or without onnxruntime-web's files,
which are fetched from npm once, the tests are skipped.
"""

import base64
import json
import os
import re
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from going_modular.config import Config
from going_modular.data_setup import create_transforms
from going_modular.pictures import read_picture
from going_modular.predictions import transform_of
from tests.browsing import PHONE, a_browser, open_page, served, violations
from tools import try_it


@pytest.fixture(scope="module")
def browser():
    with a_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page as the website has it."""
    folder = tmp_path_factory.mktemp("page") / "try"
    try_it.write(folder)
    if not (folder / "runtime").exists():
        pytest.skip("onnxruntime-web cannot be fetched from npm")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as address:
        yield address


def photograph(width, height):
    """Return a picture that changes slowly, with noise as a camera's."""
    draw = np.random.default_rng(width)
    few = draw.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(few).resize((width, height)), dtype=float)
    noisy = (pixels + draw.normal(0, 4, pixels.shape)).clip(0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, root):
    """Paths of pictures of many kinds."""
    folder = tmp_path_factory.mktemp("pictures")
    on_the_side = Image.Exif()
    on_the_side[0x112] = 6  # what is up in it lies to the right
    glass = photograph(90, 60).convert("RGBA")
    glass.putalpha(Image.linear_gradient("L").resize(glass.size))
    kinds = {
        "large.png": (photograph(701, 500), {}),
        "portrait.png": (photograph(150, 331), {}),
        "small.png": (photograph(20, 13), {}),
        "glass.png": (glass, {}),
        "palette.gif": (photograph(61, 80).quantize(64), {}),
        "gray.jpg": (photograph(200, 150).convert("L"), {"quality": 85}),
        "large.jpg": (photograph(643, 480), {"quality": 75}),
        "turned.jpg": (photograph(300, 170), {"quality": 90, "exif": on_the_side}),
    }
    for name, (picture, options) in kinds.items():
        picture.save(folder / name, **options)
    course = root / "data" / "cat_dog_horse" / "test"
    animals = [course / name / f"{name}_007.png" for name in ("cat", "dog", "horse")]
    return [*animals, *(folder / name for name in kinds)]


def shown(page, path):
    """Give a file to the page and return {class name: probability}."""
    page.evaluate("document.getElementById('note').textContent = ''")
    page.set_input_files("#file", path)
    page.wait_for_selector("#note:has-text('milliseconds')", timeout=120_000)
    bars = page.locator("meter").evaluate_all(
        "all => all.map(m => [m.ariaLabel, m.value])"
    )
    return dict(bars)


def test_the_models_input_is_pythons_to_the_byte(browser, address, pictures):
    """Whatever the picture's kind, and for the three ways to make it square."""
    page, faults = open_page(browser, address)
    page.goto(address)
    code = """async facts => {
        const [file] = document.getElementById("file").files;
        return [...prepared(await read(file), facts)];
    }"""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    for path in pictures:
        page.set_input_files("#file", path)
        for resize in ("squash", "crop", "pad"):
            facts = {"image_size": 24, "resize": resize, "mean": mean, "std": std}
            found = page.evaluate(code, facts)
            prepare, _, to_float = create_transforms(
                24, "none", mean, std, resize=resize
            )
            wanted = to_float(prepare(read_picture(path)))
            assert torch.equal(torch.tensor(found), wanted.flatten()), (
                path.name,
                resize,
            )
    assert faults == []


def test_the_browser_answers_as_python_does(browser, address, folder, pictures):
    """To 1e-3, but for a few: a value between two of 8 bits is rounded either way.

    The inputs are equal, bit for bit, and the two runtimes add floats in other orders:
    of 300 photographs 8 differed by more, by 0.037 at most, with the same answer.
    """
    page, faults = open_page(browser, address)
    page.goto(address)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    transform = transform_of(Config(model="effnet_lite0", image_size=128))
    names = json.loads((folder / "model.json").read_text())["class_names"]
    differences = []
    for path in pictures:
        images = transform(read_picture(path))[None].numpy()
        (logits,) = session.run(None, {"images": images})
        wanted = torch.tensor(logits)[0].softmax(dim=0).tolist()
        found = shown(page, path)
        assert max(found, key=found.get) == names[logits[0].argmax()], path.name
        differences.append(
            max(abs(found[n] - p) for n, p in zip(names, wanted, strict=True))
        )
    assert sum(difference > 1e-3 for difference in differences) <= 2, differences
    assert max(differences) < 0.05, differences
    assert faults == []


def test_the_answer_the_doubt_and_the_time_are_words(browser, address, pictures, root):
    page, faults = open_page(browser, address)
    page.goto(address)
    found = shown(page, root / "data/cat_dog_horse/valid/dog/dog_000.png")
    assert page.inner_text("#answer") == "dog" and 0.9 < found["dog"] < 1
    assert re.fullmatch(
        r"\d+ milliseconds, \d+ of them for the model", page.inner_text("#note")
    )
    percents = page.locator("#bars li span:last-child").all_inner_texts()
    assert percents[0] == f"{100 * found['dog']:.1f} %" and len(percents) == 3
    unsure = "{...facts, unsure_below: 0.999, class_names: ['<b>a</b>', 'b', 'c']}"
    page.evaluate(f"model = model.then(facts => ({unsure}))")
    assert "<b>a</b>" in shown(page, pictures[0])
    assert page.inner_text("#answer") == "not sure" and not page.query_selector("b")
    assert faults == []


def test_what_is_no_picture_is_answered_with_a_sentence(browser, address, tmp_path):
    page, faults = open_page(browser, address)
    page.goto(address)
    for name, content in {"<i>.png": b"I am a text", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        page.wait_for_selector(f"#answer:has-text('{name} cannot be read')")
        assert page.locator("meter").count() == 0 and faults == []


DROP = """text => {
    const moved = new DataTransfer();
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt());
    moved.items.add(new File([bytes], "dropped.png"));
    const options = {dataTransfer: moved, bubbles: true, cancelable: true};
    const over = new DragEvent("dragover", options);
    document.querySelector("main").dispatchEvent(over);
    document.querySelector("main").dispatchEvent(new DragEvent("drop", options));
    return over.defaultPrevented;
}"""


def test_a_picture_can_be_dropped(browser, address, pictures):
    page, faults = open_page(browser, address)
    page.goto(address)
    text = base64.b64encode(pictures[1].read_bytes()).decode()
    assert page.evaluate(DROP, text)
    page.wait_for_selector("meter", timeout=120_000)
    assert faults == []


def test_the_keyboard_reaches_the_button(browser, address):
    """It is the browser's own, which the keyboard opens."""
    page, _ = open_page(browser, address)
    page.goto(address)
    page.bring_to_front()
    page.keyboard.press("Tab")
    page.wait_for_function("document.activeElement.matches('input#file[type=file]')")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != (
        "none"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_passes_axe_and_fits_a_phone(browser, address, pictures, scheme):
    page, _ = open_page(browser, address, PHONE, scheme)
    page.goto(address)
    assert violations(page) == {}
    shown(page, pictures[0])
    assert violations(page) == {}
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


@pytest.mark.parametrize("kind", ["mjs", "wasm"])
def test_a_changed_runtime_is_not_run(kind, browser, folder, tmp_path, pictures):
    """Its hash is compared; the next picture tries again."""
    copy = tmp_path / "try"
    shutil.copytree(folder, copy)
    (path,) = (copy / "runtime").glob(f"*.{kind}")
    right = path.read_bytes()
    path.write_bytes(right + b"\n")
    with served(copy) as address:
        page, faults = open_page(browser, address)
        page.goto(address)
        page.set_input_files("#file", pictures[0])
        page.wait_for_selector("#answer:has-text('cannot be loaded')", timeout=60_000)
        assert any("integrity" in fault for fault in faults)
        path.write_bytes(right)
        later = path.stat().st_mtime + 2  # the server's dates are whole seconds
        os.utime(path, (later, later))
        assert len(shown(page, pictures[1])) == 3


def test_the_policy_lets_nothing_else_out(browser, address):
    page, faults = open_page(browser, address)
    page.goto(address)
    refused = page.evaluate("fetch('https://example.com').catch(error => error.name)")
    assert refused == "TypeError"
    assert any("Content Security Policy" in fault for fault in faults)
    assert "example.com" in "".join(faults)


# ---- what stands in files, without a browser


def test_the_page_names_one_version_and_only_its_host(root):
    """An exported page takes the runtime from there; the website has it beside it."""
    text = (try_it.WEB / "index.html").read_text(encoding="utf-8")
    assert len({*try_it.CDN.findall(text)}) == 1 and len(try_it.CDN.findall(text)) == 2
    assert text.count("://") == 2 and "unsafe-inline" not in text
    code = (try_it.WEB / "classify.js").read_text(encoding="utf-8")
    assert len(try_it.HASH.findall(code)) == 2 and "innerHTML" not in code


def test_the_websites_model_is_small_and_says_what_it_is(folder):
    assert try_it.MODEL.stat().st_size < 5_000_000
    facts = json.loads((folder / "model.json").read_text())
    assert facts["class_names"] == ["cat", "dog", "horse"]
    network = onnx.load(try_it.MODEL).graph
    assert (
        facts["image_size"] == network.input[0].type.tensor_type.shape.dim[2].dim_value
    )
    assert any(node.op_type == "QuantizeLinear" for node in network.node)
