"""The app as people meet it: started, asked by programs and a browser, and misused."""

import contextlib
import gzip
import http.server
import io
import ipaddress
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import threading
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

from going_modular import urls
from going_modular.app import build_demo
from going_modular.config import Config
from going_modular.effnet import create_effnet_lite0_model
from going_modular.model_builder import TinyVGG
from going_modular.predictions import Predictor
from going_modular.utils import set_seeds
from tests.folders import free_port, wait_for_page

CLASSES = ["cat", "dog", "horse"]
CLIENT = httpx.Client(timeout=60)  # to make one takes longer than an answer


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


@dataclass
class App:
    """A running app: its address, its folder, the predictor that was built into it."""

    url: str
    folder: Path
    predictor: Predictor

    def ask(self, content, name="picture.png"):
        """Upload a file as a browser does.

        Returns:
            {class name: probability}, or what the visitor is told.
        """
        files = {"files": (name, content)}
        upload = CLIENT.post(f"{self.url}/gradio_api/upload", files=files)
        if upload.status_code != 200:
            return upload.text
        return self.ask_path(upload.json()[0])

    def ask_path(self, path):
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
        call = CLIENT.post(
            f"{self.url}/gradio_api/call/predict", json={"data": data}
        ).json()
        reply = CLIENT.get(
            f"{self.url}/gradio_api/call/predict/{call['event_id']}"
        ).text
        event, data = (
            line.partition(": ")[2] for line in reply.strip().splitlines()[-2:]
        )
        found = json.loads(data)
        if event == "error":
            return found["error"]
        return {item["label"]: item["confidence"] for item in found[0]["confidences"]}


@contextlib.contextmanager
def started(folder, python=sys.executable):
    """Run ``python app.py`` in a demo's folder on a free port; give its address."""
    port = free_port()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GRADIO_")}
    # Nothing of this repository is within its reach.
    offline = {"PYTHONPATH": str(Path(__file__).with_name("offline"))}
    url, log = f"http://127.0.0.1:{port}", folder.parent / f"{folder.name}.log"
    with open(log, "wb") as output:
        environment = (
            inherited
            | offline
            | {"GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1"}
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
            yield url
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
    predictor = Predictor(model, CLASSES, transform, config=config)
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
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    python = next(
        path for path in (place / "venv").glob("*/python*") if path.stem == "python"
    )
    options = [
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
    ]  # to compile would take longer than the rest
    command = [
        python,
        "-m",
        "pip",
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
def app(demo):
    folder, predictor = demo
    with started(folder) as url:
        yield App(url, folder, predictor)


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
    assert answer["label"] == ranked[0][0]
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
    ):
        assert app.ask_path(str(path)) is None
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


def test_a_browser_shows_three_bars_and_asks_no_other_machine(app, page, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(GOOD)
    requests, wrong = [], tmp_path / "wrong.png"
    page.on("request", lambda request: requests.append(request.url))
    page.goto(app.url)
    page.wait_for_selector("input[type=file]", state="attached")
    page.set_input_files("input[type=file]", path)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_selector(".confidence-set")
    bars = [text.split() for text in page.locator(".confidence-set").all_inner_texts()]
    assert bars == [[name, f"{100 * p:.0f}%"] for name, p in app.predictor(path)]

    wrong.write_bytes(b"a text")
    page.get_by_role("button", name="Clear").click()
    page.wait_for_selector(".confidence-set", state="detached")
    page.set_input_files("input[type=file]", wrong)
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("The file is not a picture").wait_for()
    remote = [
        url for url in requests if not url.startswith((app.url, "data:", "blob:"))
    ]
    assert len(requests) > 10 and remote == []


# Bad input: each case a clear message, and a server that answers the next visitor


class Prankster(http.server.BaseHTTPRequestHandler):
    """A web server that does what its path says."""

    def do_GET(self):
        with contextlib.suppress(OSError):  # they hang up
            getattr(self, self.path.strip("/").partition("?")[0])()

    def log_message(self, *_):
        pass

    def head(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def packed(self):
        is_packed = "gzip" in self.headers["Accept-Encoding"]
        self.head(**{"Content-Encoding": "gzip"} if is_packed else {})
        self.wfile.write(gzip.compress(GOOD) if is_packed else GOOD)

    def picture(self):
        self.head(**{"Content-Length": str(len(GOOD))})
        self.wfile.write(GOOD)

    def hello(self):
        self.head()
        self.wfile.write(b"<html>hello</html>")

    def missing(self):
        self.head(404)

    def inward(self):
        self.head(302, Location="http://169.254.169.254/latest/meta-data/")

    def to_file(self):
        self.head(302, Location="file:///etc/passwd")

    def onward(self):
        self.head(301, Location="/picture")

    def circle(self):
        self.head(302, Location="/circle")

    def nowhere(self):
        self.head(302)

    def hanging(self):
        time.sleep(3)

    def dripping(self):
        self.head()
        for _ in range(40):
            self.wfile.write(b".")
            time.sleep(0.1)

    def dripping_head(self):
        for _ in range(40):
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: y\r\n")
            time.sleep(0.1)

    def endless(self):
        self.head()
        while True:
            self.wfile.write(bytes(100_000))

    def cut(self):
        self.head(**{"Content-Length": str(len(GOOD))})
        self.wfile.write(GOOD[:60])

    def nonsense(self):
        self.wfile.write(b"I do not speak HTTP\r\n\r\n")


@pytest.fixture(scope="module")
def prankster():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Prankster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def look_up(host, port, *_, **__):
    """Do as socket.getaddrinfo, for numbers, which the tests' guard would refuse."""
    try:
        return [
            (socket.AF_INET6, 1, 6, "", (str(ipaddress.IPv6Address(host)), port, 0, 0))
        ]
    except ValueError:
        # inet_aton reads what the system's look-up reads: 127.1, 0x7f000001.
        host.encode("idna")  # as socket.getaddrinfo does
        name = "127.0.0.1" if host == "localhost" else host
        return [
            (socket.AF_INET, 1, 6, "", (socket.inet_ntoa(socket.inet_aton(name)), port))
        ]


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
no_picture, cannot, not_here = (
    "The file is not a picture",
    "The file cannot be decoded",
    "Addresses are not fetched here",
)
private, scheme = (
    "is this machine or a private network",
    "is refused .* http:// or https://",
)
no_weights, other = "holds no plain weights", "holds the weights of another model"

# What is uploaded, and what is answered; None: its own answer, bytes: that of these.
UPLOADS = {
    "text": (b"not a picture", no_picture),
    "html": (b"<!doctype html><img src=x>", no_picture),
    "random bytes": (bytes(range(256)) * 40, no_picture),
    "zero bytes": (b"", "The file is empty, 0 bytes"),
    "svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        no_picture,
    ),
    "zip": (b"PK\x03\x04" + bytes(60), no_picture),
    "truncated png": (GOOD[: len(GOOD) // 2], cannot),
    "truncated jpeg": (encode(draw(), "JPEG")[:400], cannot),
    "only a header": (png_header(10, 10), cannot),
    "bomb of 20,000 x 20,000": (
        bomb,
        r"The file has (20,000 × 20,000|(far )?too many) pixels",
    ),
    "a header's bomb": (
        png_header(2**31 - 1, 2**31 - 1),
        r"The file (has (far )?too many pixels|cannot be decoded)",
    ),
    "60 MB": (lambda: bytes(60_000_000), "File size exceeded maximum allowed size"),
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
URLS = {  # {}: the prankster's address; None: an answer
    "a picture, redirected": ("{}/onward", None),
    "a picture, packed for those who accept it": ("{}/packed", None),
    "127.0.0.1": ("http://127.0.0.1/", private),
    "localhost": ("http://localhost/x.png", private),
    "[::1]": ("http://[::1]:8000/", private),
    "0.0.0.0": ("http://0.0.0.0/", private),
    "decimal": ("http://2130706433/", private),
    "hexadecimal": ("http://0x7f000001/", private),
    "short": ("http://127.1/", private),
    "mapped": ("http://[::ffff:127.0.0.1]/", private),
    "6to4": ("http://[2002:7f00:1::]/", private),
    "behind a user": ("http://example.com@127.0.0.1/", private),
    "10.0.0.1": ("https://10.0.0.1/", private),
    "192.168.1.1": ("http://192.168.1.1/", private),
    "172.16.0.1": ("http://172.16.0.1/", private),
    "100.64.0.1": ("http://100.64.0.1/", private),
    "a cloud's secrets": ("http://169.254.169.254/latest/meta-data/", private),
    "fc00::": ("http://[fc00::1]/", private),
    "fe80::": ("http://[fe80::1]/", private),
    "multicast": ("http://224.0.0.1/", private),
    "file": ("file:///etc/passwd", scheme),
    "ftp": ("ftp://example.com/x.png", scheme),
    "no host": ("http:///x.png", scheme),
    "wrong port": ("http://8.8.8.8:99999/", "no host and port to ask"),
    "no such host": (
        "http://nowhere.invalid/x.png",
        "there is no host nowhere.invalid",
    ),
    "a label of 300 letters": (f"http://{'a' * 300}.com/", "there is no host aaa"),
    "a label of none": ("http://a..b/", "there is no host a..b"),
    "redirected inward": ("{}/inward", "169.254.169.254 is refused"),
    "redirected to a file": ("{}/to_file", scheme),
    "in circles": ("{}/circle", "circle is refused .*redirects"),
    "redirected nowhere": ("{}/nowhere", "answers 302 Found"),
    "hanging": ("{}/hanging", "took longer than 0.5 seconds"),
    "dripping": ("{}/dripping", "took longer than 0.5 seconds"),
    "dripping header": ("{}/dripping_head", "took longer than 0.5 seconds"),
    "endless": ("{}/endless", "sends more than 10,000,000 bytes"),
    "404": ("{}/missing", "answers 404 Not Found"),
    "no picture": ("{}/hello", "is not a picture"),
    "cut off": ("{}/cut", "cannot be (decoded|fetched)"),
    "no HTTP": ("{}/nonsense", "cannot be fetched"),
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
    "a huge model": (config(hidden_units=10**6), other),
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
    for kind, cases in {"upload": UPLOADS, "url": URLS, "model": MODELS}.items()
    for name, case in cases.items()
]


@pytest.mark.parametrize(("kind", "sent", "expected"), CASES)
def test_bad_input_gets_a_clear_message_and_the_server_lives_on(
    app, prankster, tmp_path, monkeypatch, kind, sent, expected
):
    if kind == "upload":
        content = sent() if callable(sent) else sent
        same = expected if isinstance(expected, bytes) else content
        answer = app.ask(content, "../../x.png" if content is GOOD else "x.png")
        if expected is None or same is expected:
            assert close(answer, app.predictor(same)), answer
        else:
            check_message(answer, expected)
    elif kind == "url":
        url, seconds = sent.format(prankster), 0.5 if "took" in str(expected) else 10.0
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        if "{}" in sent:  # the prankster plays a host of the open internet
            allow_this_machine(monkeypatch)
            monkeypatch.setitem(urls.fetch.__kwdefaults__, "seconds", seconds)
        if expected is None:
            assert app.predictor(url) == app.predictor(GOOD)
        else:
            with pytest.raises((ValueError, OSError)) as caught:
                app.predictor(url)
            check_message(str(caught.value), expected)
        told = app.ask_path(url)
        assert told is None or not_here in told
    else:
        check_message(spoil(tmp_path, sent), expected)
    assert close(app.ask(GOOD), app.predictor(GOOD))


def allow_this_machine(monkeypatch):
    """Let 127.0.0.1 pass for an address of the open internet."""
    real = urls.is_public
    monkeypatch.setattr(urls, "is_public", lambda ip: ip == "127.0.0.1" or real(ip))


def test_limits_of_size_and_redirects_are_exact(prankster, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    allow_this_machine(monkeypatch)
    assert urls.fetch(f"{prankster}/picture", max_bytes=len(GOOD)) == GOOD
    with pytest.raises(ValueError, match=f"sends more than {len(GOOD) - 1:,} bytes"):
        urls.fetch(f"{prankster}/picture", max_bytes=len(GOOD) - 1)
    assert urls.fetch(f"{prankster}/onward", max_redirects=1) == GOOD
    with pytest.raises(ValueError, match="redirects"):
        urls.fetch(f"{prankster}/onward", max_redirects=0)


def check_message(message, expected):
    """One line that says what is wrong, and nothing of the server's folders."""
    assert isinstance(message, str) and re.search(expected, message), message
    assert "\n" not in message and "site-packages" not in message


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
    with started(folder, python) as url:
        assert close(App(url, folder, predictor).ask(GOOD), predictor(GOOD))
