"""The app as people meet it: started, asked by programs and a browser, and misused."""

import contextlib
import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import torch
from gradio_client import Client, handle_file
from PIL import Image, ImageDraw

from going_modular.config import Config
from going_modular.demo import build_demo
from going_modular.effnet import create_effnet_lite0_model
from going_modular.model_builder import TinyVGG
from going_modular.predictions import Predictor
from going_modular.utils import set_seeds
from tests.folders import free_port, wait_for_page

CLASSES = ["cat", "dog", "horse"]
SCRIPT = "<img src=x onerror=document.title=1><script>document.title=1</script>"
HARD_NAMES = [SCRIPT, f"{SCRIPT}.json", "**horse**"]  # the app's classes
# Each request has its own connection: a kept one may be cut while it is asked again.
CLIENT = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
ADDRESSES = [
    "http://127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "https://example.com/x.png",
    "http://[::1]:8000/",
    "ftp://example.com/x.png",
]
UPLOAD_IT = "Upload the picture itself. Addresses are not fetched here"


def draw(mode="RGB", size=(48, 40)):
    """Return a picture that is neither of one color nor the same when it is turned."""
    picture = Image.new("RGB", size, (200, 180, 90))
    ImageDraw.Draw(picture).ellipse(
        (4, 6, size[0] // 2, size[1] - 12), fill=(20, 90, 160)
    )
    return picture.convert(mode)


def encode(picture, format="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


GOOD = encode(draw())


def file_data(path):
    """Return what a page is asked about a file that was uploaded."""
    return [{"path": path, "meta": {"_type": "gradio.FileData"}}]


@dataclass
class App:
    """A running app: its address, its folder, the predictor that was built into it."""

    url: str
    folder: Path
    predictor: Predictor

    def ask(self, content, name="picture.png", session=None):
        """Upload a file as a browser does.

        Returns:
            {class name: probability}, or what the visitor is told.
        """
        files = {"files": (name, content)}
        upload = CLIENT.post(f"{self.url}/gradio_api/upload", files=files)
        if upload.status_code != 200:
            return upload.text
        return self.ask_path(upload.json()[0], session)

    def ask_path(self, path, session=None):
        return self.ask_data(file_data(path), session)

    def upload(self, content=GOOD):
        """Upload a picture; return its path on the server."""
        files = {"files": ("x.png", content)}
        return CLIENT.post(f"{self.url}/gradio_api/upload", files=files).json()[0]

    def ask_data(self, data, session=None):
        """Ask as a program does; in a session, as a browser."""
        if session:
            return self.ask_in(session, data)
        reply = self.begin(data)
        if reply.status_code != 200:
            return reply.text
        return self.answer_to(reply.json()["event_id"])

    def begin(self, data):
        return CLIENT.post(f"{self.url}/gradio_api/call/predict", json={"data": data})

    def answer_to(self, call):
        reply = CLIENT.get(f"{self.url}/gradio_api/call/predict/{call}").text
        event, data = (
            line.partition(": ")[2] for line in reply.strip().splitlines()[-2:]
        )
        found = json.loads(data)
        if event == "error":
            return found["error"]
        return {item["label"]: item["confidence"] for item in found[0]["confidences"]}

    def ask_in(self, session, data):
        event = {"data": data, "fn_index": 0, "session_hash": session}
        reply = CLIENT.post(f"{self.url}/gradio_api/queue/join", json=event)
        if reply.status_code != 200:
            return reply.text
        stream = CLIENT.get(
            f"{self.url}/gradio_api/queue/data", params={"session_hash": session}
        )
        lines = [line[6:] for line in stream.text.splitlines() if "data: " in line]
        messages = [json.loads(line) for line in lines]
        (found,) = [m for m in messages if m["msg"] == "process_completed"]
        output = found["output"]
        if not found["success"]:
            return output["error"]
        return {
            item["label"]: item["confidence"]
            for item in output["data"][0]["confidences"]
        }

    def click_example(self, session):
        """Click the first example as a browser does; return what then is sent."""
        config = CLIENT.get(f"{self.url}/config").json()
        (dataset,) = [c for c in config["components"] if c["type"] == "dataset"]
        (event,) = [
            event
            for event in config["dependencies"]
            if [dataset["id"], "click"] in event["targets"]
        ]
        ids = {"fn_index": event["id"], "trigger_id": dataset["id"]}
        reply = CLIENT.post(
            f"{self.url}/gradio_api/run/predict",
            json={"data": [0], "session_hash": session} | ids,
        )
        return reply.json()["data"][0]["value"]


class Address(str):
    """The address of an app.

    Attributes: process, what answers there; log, a file; place, its temporary folder.
    """


@contextlib.contextmanager
def started(folder, port, python=sys.executable, **more):
    """Run ``python app.py`` in a demo's folder; give its address.

    ``more`` goes into its environment.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GRADIO_")}
    # Nothing of this repository is within its reach.
    offline = {"PYTHONPATH": str(Path(__file__).with_name("offline"))}
    url, log = f"http://127.0.0.1:{port}", folder.parent / f"{port}.log"
    with open(log, "wb") as output:
        environment = (
            inherited
            | offline
            | {"GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1"}
            | more
        )
        process = subprocess.Popen(
            [python, "app.py"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_page(process, f"{url}/config", log)
            address = Address(url)
            address.process, address.log = process, log
            yield address
        finally:
            process.terminate()
            process.wait(30)
    assert "the tests stay on this machine" not in log.read_text(), (
        "it asked another machine"
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    set_seeds(42)
    model, transform = create_effnet_lite0_model(3, "cpu", image_size=64)
    config = Config(model="effnet_lite0", image_size=64)
    predictor = Predictor(model, HARD_NAMES, transform, config=config, unsure_below=0.3)
    place = tmp_path_factory.mktemp("demo")
    example = place / "example.png"
    example.write_bytes(GOOD)
    return build_demo(place / "app", predictor, [example]), predictor


@pytest.fixture(scope="module", autouse=True)
def installation(request, demo, tmp_path_factory):
    """(pip at work, the Python of a fresh environment).

    It is begun before this file's tests, for the last of them.
    """
    if not any(
        item.name == "test_the_folder_starts_in_a_fresh_environment"
        for item in request.session.items
    ):
        yield None
        return
    place = tmp_path_factory.mktemp("fresh")
    venv = [sys.executable, "-m", "venv", "--without-pip", place / "venv"]
    subprocess.run(venv, check=True)
    python = next(
        path for path in (place / "venv").glob("*/python*") if path.stem == "python"
    )
    options = [
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
    ]  # to compile would take longer than the rest
    command = [
        *[sys.executable, "-m", "pip", "--python", python],
        "install",
        *options,
        "-r",
        demo[0] / "requirements.txt",
    ]
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }  # pip may go outside
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as pip:
        yield pip, python
        pip.kill()


@pytest.fixture(scope="module")
def apps(demo, tmp_path_factory):
    """An app, and one that answers other machines; they take a while to start."""
    folder, predictor = demo
    ports = set()
    while len(ports) < 2:
        ports.add(free_port())

    def start(port, **more):
        place = tmp_path_factory.mktemp("of_the_app")
        url = stack.enter_context(started(folder, port, TMPDIR=str(place), **more))
        url.place = place
        return App(url, folder, predictor)

    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        one = pool.submit(start, ports.pop())
        yield start(ports.pop(), GRADIO_SERVER_NAME="0.0.0.0"), one.result()


@pytest.fixture(scope="module")
def app(apps):
    return apps[1]


@pytest.fixture(scope="module")
def container(apps):
    """An app that answers other machines, as in a container; 1,024 files at most."""
    resource.prlimit(apps[0].url.process.pid, resource.RLIMIT_NOFILE, (1_024, 1_024))
    return apps[0]


def close(answer, ranked):
    """Does the app say what the predictor says, to 1e-5?"""
    return answer.keys() == dict(ranked).keys() and all(
        abs(answer[name] - p) < 1e-5 for name, p in ranked
    )


# Clients


def test_gradio_client_gets_the_predictors_probabilities(app, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(GOOD)
    answer = Client(app.url, verbose=False).predict(
        handle_file(path), api_name="/predict"
    )
    ranked = app.predictor(path)
    assert answer["label"] == heading(ranked)
    assert close(
        {item["label"]: item["confidence"] for item in answer["confidences"]}, ranked
    )


def test_32_clients_at_once_and_none_is_lost(app):
    pictures = [encode(draw().rotate(10 * number)) for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(app.ask, pictures))
    for picture, answer in zip(pictures, answers, strict=True):
        assert close(answer, app.predictor(picture)), answer  # and each got its own


def test_it_listens_to_this_machine_alone(app):
    port = int(app.url.rpartition(":")[2])
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("only Linux lists its sockets in /proc/net/tcp")
    addresses = {
        line.split()[1]
        for line in listening.read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    assert [a for a in addresses if a.endswith(f":{port:04X}")] == [
        f"0100007F:{port:04X}"
    ]  # 127.0.0.1, reversed


def test_a_path_on_the_server_is_not_read(app):
    for path in (
        app.folder / "config.json",
        "/etc/passwd",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        *ADDRESSES,
    ):
        assert UPLOAD_IT in app.ask_path(str(path))
    assert (
        httpx.get(f"{app.url}/gradio_api/file={app.folder / 'config.json'}").status_code
        == 403
    )
    assert close(app.ask(GOOD), app.predictor(GOOD))


@pytest.fixture
def page():
    """A page of headless Chromium: playwright's own, else the system's."""
    api = pytest.importorskip(
        "playwright.sync_api",
        reason="playwright is not installed: pip install playwright",
    )
    with api.sync_playwright() as playwright:
        found = [
            shutil.which(name)
            for name in ("chromium", "chromium-browser", "google-chrome")
        ]
        paths = [
            path
            for path in [playwright.chromium.executable_path, *found]
            if path and os.path.exists(path)
        ]
        if not paths:
            pytest.skip(
                "there is no Chromium here: apt-get install chromium, or playwright "
                "install chromium"
            )
        browser = playwright.chromium.launch(
            executable_path=paths[0], args=["--no-sandbox"]
        )
        yield browser.new_page()
        browser.close()


def heading(ranked):
    return ranked[0][0] if ranked[0][1] >= 0.3 else "not sure"  # as demo's predictor


def test_a_browser_shows_three_bars_runs_no_names_and_asks_no_other_machine(
    app, page, tmp_path
):
    path = tmp_path / "<img src=x onerror=document.title=1>.png"
    path.write_bytes(GOOD)
    requests, wrong = [], tmp_path / "<script>document.title=1<script>.png"
    page.on("request", lambda request: requests.append(request.url))
    page.goto(app.url)
    page.wait_for_selector("input[type=file]", state="attached")
    page.set_input_files("input[type=file]", path)
    ranked = app.predictor(path)
    assert shown(page) == as_bars(ranked)
    assert page.locator("h2").inner_text() == heading(ranked)
    wrong.write_bytes(b"a text")
    page.get_by_role("button", name="Clear").click()
    page.wait_for_selector(".confidence-set", state="detached")
    page.set_input_files("input[type=file]", wrong)
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("The file is not a picture").wait_for()
    assert page.title() == "What is in the picture?"  # no script has changed it
    assert "<img" not in (app.folder / "README.md").read_text()
    remote = [
        url for url in requests if not url.startswith((app.url, "data:", "blob:"))
    ]
    assert len(requests) > 10 and remote == []


def shown(page):
    """Return the bars that a page shows, after it is asked; wait for them."""
    page.get_by_role("button", name="Submit").click()
    page.wait_for_selector(".confidence-set")
    texts = page.locator(".confidence-set").all_inner_texts()
    return [text.rsplit(maxsplit=1) for text in texts]


def as_bars(ranked):
    return [[name, f"{100 * prob:.0f}%"] for name, prob in ranked]


def test_a_browser_clicks_an_example_and_goes_on_with_its_own_picture(
    app, page, tmp_path
):
    example, mine = app.folder / "examples" / "1.png", tmp_path / "mine.png"
    Image.linear_gradient("L").convert("RGB").save(mine)
    page.goto(app.url)
    for _ in range(2):
        page.locator(".gallery-item, .gallery img").first.click()
        page.wait_for_selector("[data-testid=image] img, .image-frame img")
        assert shown(page) == as_bars(app.predictor(example))
        page.get_by_role("button", name="Clear").click()
        page.wait_for_selector(".confidence-set", state="detached")
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", mine)
        assert shown(page) == as_bars(app.predictor(mine))
        page.get_by_role("button", name="Clear").click()
        page.wait_for_selector(".confidence-set", state="detached")
    kept = page.evaluate(
        "async () => JSON.stringify([{...localStorage}, await indexedDB.databases()])"
    )
    assert "png" not in kept and "confidence" not in kept


# Bad input: each case a clear message, and a server that answers the next visitor


class Payload:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def spoil(folder, change):
    """Save a small model in ``folder``, change that, load it; return the message."""
    model = TinyVGG(3, 4, 3, image_size=16)
    config = Config(model="tinyvgg", hidden_units=4, image_size=16)
    Predictor(model, CLASSES, None, config=config).save(folder)
    change(folder)
    with pytest.raises(ValueError) as caught:
        Predictor.load(folder)
    assert not (folder / "harm").exists()
    return str(caught.value)


def weights(content):
    """Return a change that puts other bytes, or an object, into best.pt."""

    def change(folder):
        path = folder / "best.pt"
        made = content(path.read_bytes(), folder)
        path.write_bytes(made) if isinstance(made, bytes) else torch.save(made, path)

    return change


def config(**values):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def tiny(**sizes):
    return TinyVGG(
        **{"input_shape": 3, "hidden_units": 4, "output_shape": 3, "image_size": 16}
        | sizes
    ).state_dict()


def bomb():
    """Return a PNG of 20,000 × 20,000 pixels, all there, in 50 kB."""
    return encode(Image.new("1", (20_000, 20_000)))


def png_header(width, height):
    """Return a PNG that says it has this size, with eight bytes of pixels."""
    sizes = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    chunks = [b"IHDR" + sizes + b"\x08\x02\0\0\0", b"IDAT" + bytes(8)]
    parts = [
        (len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big")
        for c in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def turned():
    """Return a picture stored lying, with the note that it was held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(draw().transpose(Image.Transpose.ROTATE_90), exif=exif)


frames = {
    "save_all": True,
    "append_images": [Image.new("RGB", (48, 40), "red")],
    "duration": 100,
}
deep = Image.fromarray(
    (torch.arange(48 * 40).reshape(40, 48) * 34)
    .to(torch.int32)
    .numpy()
    .astype("uint16")
)
no_picture, cannot = "The file is not a picture", "The file cannot be decoded"
no_weights, other = "holds no plain weights", "holds the weights of another model"

# What is uploaded, and what is answered; None: its own answer, bytes: that of these.
UPLOADS = {
    "text": (b"not a picture", no_picture),
    "html": (b"<!doctype html><img src=x>", "The file is a web page"),
    "random bytes": (bytes(range(256)) * 40, no_picture),
    "zero bytes": (b"", "The file is empty, 0 bytes"),
    "svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "The file is an SVG drawing",
    ),
    "zip": (b"PK\x03\x04" + bytes(60), "The file is (an archive|not a picture)"),
    "truncated png": (GOOD[: len(GOOD) // 2], cannot),
    "truncated jpeg": (encode(draw(), "JPEG")[:400], cannot),
    "only a header": (png_header(10, 10), cannot),
    "bomb of 20,000 x 20,000": (
        bomb,
        r"The file (has 20,000 × 20,000 pixels|cannot be decoded \(Image size)",
    ),
    "a header's bomb": (
        png_header(2**31 - 1, 2**31 - 1),
        r"The file (has (far )?too many pixels|cannot be decoded)",
    ),
    "60 MB": (lambda: bytes(60_000_000), "above the maximum allowed size"),
    "1 x 1": (encode(Image.new("RGB", (1, 1), "green")), None),
    "1 x 3000": (encode(Image.new("RGB", (1, 3000), "green")), None),
    "animated gif": (encode(draw(), "GIF", **frames), encode(draw(), "GIF")),
    "animated png": (encode(draw(), **frames), GOOD),
    "16 bits": (encode(deep), None),
    "cmyk": (encode(draw("CMYK"), "TIFF"), GOOD),
    "rotated by exif": (turned, GOOD),
    "palette": (encode(draw("P")), None),
    "gray with alpha": (encode(draw("LA")), encode(draw("L"))),
    "a name like a path": (GOOD, GOOD),
}
MODELS = {
    "pickled payload": (
        weights(lambda _, folder: pickle.dumps(Payload(folder / "harm"))),
        no_weights,
    ),
    "payload by torch.save": (
        weights(lambda _, folder: {"x": Payload(folder / "harm")}),
        no_weights,
    ),
    "a whole model": (weights(lambda *_: torch.nn.Linear(2, 2)), no_weights),
    "truncated weights": (
        weights(lambda content, _: content[: len(content) // 2]),
        no_weights,
    ),
    "empty weights": (weights(lambda *_: b""), no_weights),
    "a list of numbers": (
        weights(lambda *_: [1, 2]),
        "holds a list, not named tensors",
    ),
    "of other classes": (weights(lambda *_: tiny(output_shape=5)), other),
    "of another size": (weights(lambda *_: tiny(hidden_units=5)), other),
    "of another architecture": (
        weights(lambda *_: torch.nn.Linear(2, 2).state_dict()),
        other,
    ),
    "not finite": (
        weights(lambda *_: {k: v * float("nan") for k, v in tiny().items()}),
        "not finite",
    ),
    "more names than classes": (config(class_names=[*CLASSES, "cow"]), other),
    "one name": (config(class_names=["cat"]), "two or more names"),
    "names that are numbers": (config(class_names=[1, 2, 3]), "two or more names"),
    "unknown model": (config(model="gpt"), "unknown model 'gpt': choose one of"),
    "a huge picture": (config(image_size=10**9), "above 0, up to 2048"),
    "a size that is text": (config(image_size="16"), "image_size is '16': .* type int"),
    "a huge model": (config(hidden_units=10**6), "hidden_units is 1000000: choose"),
    "a deep model": (
        config(
            model="vit", patch_size=4, embed_dim=8, depth=10**6, num_heads=2, mlp_dim=8
        ),
        "depth is 1000000: choose a number above 0, up to 100",
    ),
    "half a config": (
        lambda folder: (folder / "config.json").write_text("{"),
        "describes no training",
    ),
    "a config of a list": (
        lambda folder: (folder / "config.json").write_text("[1]"),
        "describes no training",
    ),
}
CASES = [
    pytest.param(kind, *case, id=f"{kind}: {name}")
    for kind, cases in {"upload": UPLOADS, "model": MODELS}.items()
    for name, case in cases.items()
]


@pytest.mark.parametrize(("kind", "sent", "expected"), CASES)
def test_bad_input_gets_a_clear_message_and_the_server_lives_on(
    app, tmp_path, kind, sent, expected
):
    if kind == "upload":
        content = sent() if callable(sent) else sent
        same = expected if isinstance(expected, bytes) else content
        answer = app.ask(content, "../../x.png" if content is GOOD else "x.png")
        if expected is None or same is expected:
            assert close(answer, app.predictor(same)), answer
        else:
            check_message(answer, expected)
    else:
        check_message(spoil(tmp_path, sent), expected)
    assert close(app.ask(GOOD), app.predictor(GOOD))


def check_message(message, expected):
    """One line that says what is wrong, and nothing of the server's folders."""
    assert isinstance(message, str) and re.search(expected, message), message
    assert "\n" not in message and "site-packages" not in message


# ---- Hostile files and requests, alone and in a session where an example was clicked


def bmp_of_runs(side=3_400):
    """Return a BMP whose runs are decoded in Python, pixel by pixel."""
    lines = (b"\1\7" * side + b"\0\0") * (9_000_000 // (2 * side + 2)) + b"\0\1"
    sizes = [40, side, side, 1 | 8 << 16, 1, len(lines), 0, 0, 256, 0]
    head = struct.pack("<10I", *sizes) + bytes(1024)
    begin = 14 + len(head)
    return struct.pack("<2sIII", b"BM", begin + len(lines), 0, begin) + head + lines


def png_of_chunks(count=700_000):
    """Return a PNG with so many empty chunks before its pixels."""
    end = GOOD.index(b"IDAT") - 4
    chunk = b"\0\0\0\0tESt" + zlib.crc32(b"tESt").to_bytes(4, "big")
    return GOOD[:end] + chunk * count + GOOD[end:]


def png_with_text(key=b"zTXt"):
    """Return a PNG with 200 MB of text, packed."""
    end = GOOD.index(b"IDAT") - 4
    chunk = key + b"a\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk += zlib.crc32(chunk).to_bytes(4, "big")
    return GOOD[:end] + (len(chunk) - 8).to_bytes(4, "big") + chunk + GOOD[end:]


def jpeg_of_scans(count, side=3_000):
    """Return a progressive JPEG that repeats its last scan."""
    whole = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    begin = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[begin:-2] * count + b"\xff\xd9"


def jpeg_of_segments(count=2_000_000):
    whole = encode(draw(), "JPEG")
    return whole[:2] + b"\xff\xe5\0\2" * count + whole[2:]


def tiff_of_strips(count=400_000):
    """Return a TIFF of one pixel a row, and a row a strip."""
    fields = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1)]
    fields += [(262, 3, 1, 1), (273, 4, count, 200), (277, 3, 1, 1), (278, 4, 1, 1)]
    fields += [(279, 4, count, 200 + 4 * count)]
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + entries + bytes(4)
    return head.ljust(200, b"\0") + struct.pack("<I", 8) * count + b"\1\0\0\0" * count


def wide(width, height, **options):
    return lambda: encode(Image.new("1", (width, height)), **options)


def cut(format, share=0.6):
    return lambda: (whole := encode(draw(), format))[: int(len(whole) * share)]


FILES = {
    "EPS that never ends": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop",
    "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj",
    "program": b"\x7fELF" + bytes(200),
    "script": b"#!/bin/sh\nrm -rf /\n",
    "PHP": b"<?php system($_GET['x']); ?>",
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
    "video": b"\0\0\0\x18ftypmp42" + bytes(100),
    "ICO": lambda: encode(draw(), "ICO"),
    "PPM": lambda: encode(draw(), "PPM"),
    "PCX": lambda: encode(draw(), "PCX"),
    "TGA": lambda: encode(draw(), "TGA"),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50),
    "Photoshop": b"8BPS\0\1" + bytes(100),
    "half a GIF": cut("GIF", 0.3),
    "half a BMP": cut("BMP"),
    "half a WebP": cut("WEBP"),
    "half a TIFF": cut("TIFF"),
    "half an AVIF": cut("AVIF"),
    "150 scans": lambda: jpeg_of_scans(150),
    "5,000 scans": lambda: jpeg_of_scans(5_000, 1_000),
    "99 scans": lambda: jpeg_of_scans(80),
    "12 million pixels and a few": wide(4_000, 3_001),
    "13,000 by 13,000": wide(13_000, 13_000),
    "one column": wide(1, 12_000_001),
    "one row": wide(12_000_001, 1),
    "WebP of 16,000 by 16,000": lambda: encode(Image.new("RGB", (16_000, 900)), "WEBP"),
    "GIF of 60,000 by 60,000": b"GIF89a" + 2 * b"\x60\xea" + b"\0\0\0,\0\0\0\0\x60\xea",
    "GIF of 0 by 0": b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2",
    "PNG of 0 by 5": png_header(0, 5),
    "runs of a BMP": bmp_of_runs,
    "chunks of a PNG": png_of_chunks,
    "packed text": png_with_text,
    "packed profile": lambda: png_with_text(b"iCCP"),
    "segments of a JPEG": jpeg_of_segments,
    "comments of a GIF": lambda: (
        encode(draw(), "GIF")[:-1] + b"!\xfe" + b"\1a" * 3_000_000 + b"\0;"
    ),
    "comments before a GIF's picture": lambda: (
        b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 3_000_000 + b"\0"
    ),
    "strips of a TIFF": tiff_of_strips,
    "folders of a TIFF in a circle": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "noisy EXIF": lambda: encode(draw(), "JPEG", exif=b"Exif\0\0II*\0" + bytes(60_000)),
    "XMP that is long": lambda: encode(draw(), "JPEG", xmp=b"<x>" * 20_000),
    "1,000 frames": lambda: encode(
        draw(), "GIF", save_all=True, append_images=[draw("P")] * 300
    ),
    "12 million pixels": lambda: encode(Image.effect_noise((4_000, 3_000), 9), "JPEG"),
    "AVIF of 12 million pixels": lambda: encode(
        Image.new("RGB", (4_000, 3_000)), "AVIF", speed=10
    ),
}
NAMES = {
    "a script": "<img src=x onerror=alert(1)>.png",
    "an end of a string": "');alert(1)//.png",
    "300 letters": "a" * 300 + ".png",
    "upward": "../../../../etc/cron.d/x.png",
    "Windows upward": "..\\..\\x.png",
    "a device": "CON",
    "a dot": ".",
    "hidden": ".htaccess",
    "nothing": "",
    "two lines": "x\ny.png",
    "other letters": "猫\u202egnp.png",
    "a page": "x.html",
}
META = {"meta": {"_type": "gradio.FileData"}}
OTHER_PATHS = [
    *["/etc/passwd", "/dev/stdin", "/dev/zero", "/proc/self/environ", "/", ".", ".."],
    *["~", "config.json", "best.pt", "examples/1.png", "", "\0", "a" * 9_999],
    *["file:///etc/passwd", "http://127.0.0.1:9/x.png", "https://a.example/x"],
    *["ftp://a.example/x", "//a.example/x", "\\\\a.example\\x", "data:image/png,A"],
    *["gradio_api/file=/etc/passwd", "{folder}", "{folder}/../../etc/passwd"],
]
DATA = {
    f"path {path[:30]!r}, {'with' if meta else 'without'} meta": [{"path": path} | meta]
    for path in OTHER_PATHS
    for meta in (META, {})
}
DATA |= {
    "null": [None],
    "an empty object": [{}],
    "a text": ["/etc/passwd"],
    "an address": ["http://127.0.0.1:9/x.png"],
    "base64": ["data:image/png;base64,AAAA"],
    "a number": [5],
    "true": [True],
    "a list": [[1, 2]],
    "a list of lists": [[[{"path": "/etc/passwd"} | META]]],
    "nothing": [],
    "three": [None, None, None],
    "a path that is a number": [{"path": 5} | META],
    "a path that is a list": [{"path": ["/etc/passwd"]} | META],
    "url": [{"url": "http://127.0.0.1:9/x.png"} | META],
    "url alone": [{"url": "file:///etc/passwd"}],
    "url of data": [{"url": "data:image/png;base64,AAAA"}],
    "inner file": [{"x": {"path": "http://127.0.0.1:9/x.png"} | META}],
    "stream": [{"path": "/etc/passwd", "is_stream": True} | META],
    "another kind": [{"path": "/etc/passwd", "meta": {"_type": "gradio.ListFiles"}}],
    "a size": [{"path": "/etc/passwd", "size": -1, "orig_name": "x.png"} | META],
    "a kind of file": [{"path": "/etc/passwd", "mime_type": "image/png"} | META],
}
G = "/gradio_api"
JOIN = {"data": [None], "fn_index": 0, "session_hash": "s"}
BODY = '--X\r\nContent-Disposition: form-data; name="files"{}\r\n\r\n{}\r\n--X--\r\n'
FORM = {"content-type": "multipart/form-data; boundary=X"}
FILE_PART = '; filename="x.png"'
REQUESTS = {  # method, path, arguments of httpx
    **{
        f"GET {path}": ("GET", path, {})
        for path in [
            *["/docs", "/login", "/openapi.json", "/monitoring", "/nothing", "/%00"],
            *[
                "/assets/..%2f..%2froutes.py",
                "/static/%2e%2e/x",
                "/svelte/../x",
                "/%ff",
            ],
            *[
                f"/gradio_api/{path}"
                for path in [
                    *["deep_link?session_hash=s", "proxy=http://127.0.0.1:9/x", "runs"],
                    *["file=http://127.0.0.1:9/x", "file=https://a.example/x"],
                    *["file=/etc/passwd", "file=../../etc/passwd", "vibe-code/"],
                    *["file=/proc/self/environ", "file=%2fetc%2fpasswd", "heartbeat/s"],
                    *["stream/s/1/1/playlist.m3u8", "upload", "run-history/buckets"],
                    *["upload_progress?upload_id=s", "custom_component/x/y/z/w"],
                ]
            ],
        ]
    },
    **{
        f"POST {path}": ("POST", path, {"json": {"data": [None]}})
        for path in [
            *["/", "/config", f"{G}/run/predict", f"{G}/api/predict", f"{G}/cancel"],
            *[f"{G}/call/other", f"{G}/call/v2/predict", f"{G}/component_server"],
            *[f"{G}/process_recording", f"{G}/reset", f"{G}/vibe-edit/"],
            *[f"{G}/queue/join"],
        ]
    },
    **{
        f"{method} /": (method, "/", {})
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")
    },
    **{
        f"join, {name}": ("POST", f"{G}/queue/join", {"json": JOIN | change})
        for name, change in {
            "no such function": {"fn_index": 99},
            "a function before the first": {"fn_index": -1},
            "a function of text": {"fn_index": "x"},
            "no function": {"fn_index": None},
            "data of text": {"data": "x"},
            "long": {"data": ["x" * 200_000]},
            "a session of a list": {"session_hash": []},
        }.items()
    },
    **{
        f"body {name}": (
            "POST",
            f"{G}/call/predict",
            {"content": text, "headers": {"content-type": "application/json"}},
        )
        for name, text in {
            "of nothing": "",
            "of a list": "[]",
            "broken": '{"data": [',
            "not in UTF-8": b"\xff\xfe",
            "nested": "[" * 50_000,
        }.items()
    },
    **{
        f"upload, {name}": ("POST", f"{G}/upload", arguments)
        for name, arguments in {
            "no form": {"content": b"x"},
            "no boundary": {
                "content": b"x",
                "headers": {"content-type": "multipart/form-data"},
            },
            "no file": {"content": BODY.format("", "x"), "headers": FORM},
            "long header": {
                "content": BODY.format('; filename="' + "a" * 9_000 + '"', "x"),
                "headers": FORM,
            },
            "1,001 files": {"files": [("files", ("x", b"x"))] * 1_001},
            "12 MB": {"files": {"files": ("x.png", bytes(12_000_000))}},
            "12 MB of text": {"data": {"x": "a" * 12_000_000}, "files": {"y": b""}},
        }.items()
    },
    **{
        f"headers {headers}": ("GET", "/config", {"headers": headers})
        for headers in [
            *[{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "x"}],
            *[{"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}],
            *[{"host": "evil.example", "origin": "http://evil.example"}],
            *[{"origin": "http://localhost:1"}, {"host": "user@127.0.0.1"}],
        ]
    },
}
HOSTILE = [
    (kind, name, kind in ("file", "data") and number % 2 == 1)
    for kind, cases in {
        "file": FILES,
        "name": NAMES,
        "data": DATA,
        "request": REQUESTS,
    }.items()
    for number, name in enumerate(cases)
]


def misuse(app, kind, name, session):
    """Do what a case says; return what was answered."""
    if kind == "file":
        content = FILES[name]() if callable(FILES[name]) else FILES[name]
        return app.ask(content, session=session)
    if kind == "name":
        return app.ask(b"no picture", NAMES[name])
    if kind == "data":
        folder = app.upload().rpartition("/")[0]
        text = json.dumps(DATA[name]).replace("{folder}", folder)
        return app.ask_data(json.loads(text), session)
    method, path, arguments = REQUESTS[name]
    with httpx.Client(timeout=60, verify=False) as client:  # it keeps its connection
        reply = client.request(method, app.url + path, **arguments)
        assert client.get(f"{app.url}/x").status_code == 404  # not cut
    assert reply.status_code >= 400 or "error" in reply.text, reply.text[:200]
    return reply.text or reply.reason_phrase


@pytest.fixture(scope="module")
def waits():
    """Seconds that honest visitors wait: [alone, while others misuse the app]."""
    return [], []


def honest_wait(app):
    begin = time.monotonic()
    assert close(app.ask(GOOD), app.predictor(GOOD))
    return time.monotonic() - begin


@pytest.mark.parametrize(("kind", "name", "clicked"), HOSTILE)
def test_hostile_input_ends_in_a_sentence_and_holds_nobody_up(
    app, waits, kind, name, clicked
):
    session = f"{kind}{name}{clicked}" if clicked else None
    if session:
        app.click_example(session)
    if len(waits[1]) % 3 == 0:  # as often as this machine's other work changes
        waits[0].append(honest_wait(app))
    with ThreadPoolExecutor(1) as pool:
        begin = time.monotonic()
        work = pool.submit(misuse, app, kind, name, session)
        waits[1].append(honest_wait(app))
        told = work.result(60)
        passed = time.monotonic() - begin
    assert passed < 10
    if isinstance(told, dict):  # a picture, if an odd one
        assert kind == "file" and told.keys() == {*HARD_NAMES}
        return
    assert re.search(r"\w+ \w+|Forbidden|Found", told) and len(told) < 500, told[:500]
    assert "Traceback" not in told and "site-packages" not in told


def test_an_honest_visitor_waited_at_most_twice_as_long(waits):
    alone, meanwhile = map(statistics.median, waits)
    print(f"median wait {alone:.2f} s, while others misuse the app {meanwhile:.2f} s")
    assert len(waits[1]) < 120 or meanwhile < 2 * alone


# ---- What is left behind, and load


def memory_of(process):
    """Return the memory of a process in MB."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells the memory of a process in /proc")
    (line,) = [s for s in status.read_text().splitlines() if s.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def ask_for(app, seconds, clients):
    """Ask without a pause from many clients; return the answers."""
    end = time.monotonic() + seconds

    def client(_):
        answers = []
        while time.monotonic() < end:
            answers.append(app.ask(GOOD))
        return answers

    with ThreadPoolExecutor(clients) as pool:
        return [answer for part in pool.map(client, range(clients)) for answer in part]


def break_off(app, begin):
    """Send the beginning of an upload, and hang up."""
    place = app.url.rpartition("/")[2]
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {place}\r\nContent-Length: 9000000"
    )
    head += f"\r\nContent-Type: {FORM['content-type']}\r\n\r\n"
    body = BODY.format(FILE_PART, begin).rpartition("\r\n--X--")[0]
    with socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2]))) as s:
        s.sendall((head + body).encode())
        time.sleep(0.3)


def check_end(app, end):
    """Send a signal while visitors wait: answers in hand come first, no file stays."""
    place = Path(app.upload()).parents[1]
    assert app.url.place in place.parents and place.stat().st_mode & 0o77 == 0
    pictures = [encode(draw().rotate(10 * number)) for number in range(8)]

    def join(picture):
        return app.begin(file_data(app.upload(picture))).json()["event_id"]

    with ThreadPoolExecutor(8) as pool:
        calls = list(pool.map(join, pictures))
        waiting = [pool.submit(app.answer_to, call) for call in calls]
        time.sleep(0.1)  # some are answered, the others in hand
        app.url.process.send_signal(end)
        for work, picture in zip(waiting, pictures, strict=True):
            assert close(work.result(), app.predictor(picture))
    assert app.url.process.wait(15) == 0
    assert [path for path in app.url.place.rglob("*") if path.is_file()] == []
    assert not place.exists()


HEADERS = [  # of a container's page: host, origin, status
    ("my.example:7860", "http://my.example:7860", 200),
    ("my.example:7860", "https://my.example:7860", 200),
    ("my.example:7860", "http://evil.example", 403),
    ("10.1.2.3", "http://10.1.2.3", 200),
]


def test_a_container_answers_any_host_but_no_other_website(container):
    for host, origin, status in HEADERS:
        headers = {"host": host, "origin": origin}
        answer = CLIENT.get(f"{container.url}/config", headers=headers)
        assert answer.status_code == status


def test_silent_connections_are_cut_and_hold_nobody_up(container):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[0] < 1_500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    place = "127.0.0.1", int(container.url.rpartition(":")[2])
    log = container.url.log
    size = log.stat().st_size
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(50) as pool:
        silent = list(pool.map(socket.create_connection, [place] * 1_100))
        for connection in silent:
            stack.enter_context(connection)
        for connection in silent[-300:]:
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HT")
        assert close(container.ask(GOOD), container.predictor(GOOD))
        last = silent[-1]
        last.settimeout(15)
        assert last.recv(100) == b""  # cut
    assert close(container.ask(GOOD), container.predictor(GOOD))
    assert log.stat().st_size - size < 10_000


def test_load_is_served_and_nothing_stays_after_sigterm(container):
    app, expected = container, container.predictor(GOOD)
    place = Path(app.upload()).parents[1]
    begin = {path.name for path in place.iterdir()}
    break_off(app, "a" * 500_000)
    time.sleep(0.5)
    assert {path.name for path in place.iterdir()} == begin  # no pieces
    for _ in range(100):
        assert close(app.ask(GOOD), expected)
    before = memory_of(app.url.process)
    answers = ask_for(app, 5, 64)
    assert len(answers) >= 64 and all(close(a, expected) for a in answers)
    assert memory_of(app.url.process) < 1.05 * before
    check_end(app, signal.SIGTERM)


def test_after_all_that_ctrl_c_leaves_nothing_either(app):
    check_end(app, signal.SIGINT)


def test_the_folder_starts_in_a_fresh_environment(demo, installation):
    (folder, predictor), (pip, python) = demo, installation
    _, errors = pip.communicate()
    if (
        pip.returncode
        and "No matching distribution" in errors
        and "connection" in errors.lower()
    ):
        pytest.skip("no package index is within reach")
    assert pip.returncode == 0, errors
    with started(folder, free_port(), python) as url:
        assert close(App(url, folder, predictor).ask(GOOD), predictor(GOOD))
