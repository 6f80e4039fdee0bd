"""Predictor, its pictures from everywhere, saved models, demo folders, ONNX and int8: each against a reference."""

import io
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image, features
from torch import nn

from going_modular import app, predictions
from going_modular.app import build_app, build_demo, export_onnx, modules_needed, pin, quantize
from going_modular.data_setup import create_transforms
from going_modular.model_builder import CNNModel, EfficientNetLite0, TinyVGG
from going_modular.predictions import Predictor, fetch, is_public, resolve
from going_modular.train import TrainConfig, run
from going_modular.utils import set_seeds
from going_modular.vit import ViT, ViTConfig

CLASSES = ["cat", "dog", "horse"]
CONFIG = {"model": "tinyvgg", "hidden_units": 4, "image_size": 16}
VIT = {"model": "vit", "image_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "mlp_dim": 8}


@pytest.fixture
def predictor():
    set_seeds(42)
    prepare, _, to_float = create_transforms(16, augment=False)
    return Predictor(TinyVGG(3, 4, 3, image_size=16), CLASSES, lambda image: to_float(prepare(image)), config=CONFIG)


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))


# Predictor


def test_path_picture_and_bytes_give_the_same(predictor, picture, tmp_path, monkeypatch):
    path, buffer = tmp_path / "picture.png", io.BytesIO()
    picture.save(path)
    picture.save(buffer, "PNG")
    monkeypatch.setattr(predictions, "fetch", lambda url: buffer.getvalue())
    ranked = predictor(picture)
    for source in (path, str(path), buffer.getvalue(), bytearray(buffer.getvalue()), "https://example.com/x.png"):
        assert predictor(source) == ranked
    logits = predictor.model(predictor.transform(picture)[None])
    expected = sorted(zip(CLASSES, logits.softmax(1)[0].tolist(), strict=True), key=lambda pair: -pair[1])
    assert [name for name, _ in ranked] == [name for name, _ in expected]
    assert [p for _, p in ranked] == pytest.approx([p for _, p in expected], abs=1e-6)


def test_it_keeps_a_copy_and_leaves_the_callers_model_alone(picture):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 3)).train()
    prepare, _, to_float = create_transforms(16, augment=False)
    predictor = Predictor(model, CLASSES, lambda image: to_float(prepare(image)))
    before = predictor(picture)
    assert all(module.training for module in model.modules()) and predictor(picture) == before  # no dropout
    nn.init.zeros_(model[2].weight)
    assert predictor(picture) == before


def test_a_picture_object_is_left_as_it_was(predictor, picture):
    picture.info["exif"] = b"not exif"
    before = picture.tobytes()
    predictor(picture)
    assert picture.tobytes() == before and picture.mode == "RGB"


def test_many_threads_get_the_answers_of_one(predictor, picture):
    expected, found = predictor(picture), []
    threads = [threading.Thread(target=lambda: found.append(predictor(picture))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


@pytest.mark.parametrize("source", [None, 3, ["a.png"], torch.zeros(3, 4, 4)])
def test_anything_else_is_a_type_error(predictor, source):
    with pytest.raises(TypeError, match="a picture is a path, a URL, bytes or a PIL image, not a"):
        predictor(source)


def test_a_huge_picture_object(predictor):
    with pytest.raises(ValueError, match="20,000 × 20,000 pixels, the limit is 50,000,000"):
        predictor(Image.new("1", (20_000, 20_000)))


# Saved and loaded


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (CONFIG, lambda: TinyVGG(3, 4, 3, image_size=16)),
        ({**CONFIG, "model": "cnn"}, lambda: CNNModel(3, 3, widths=(4, 8, 16), image_size=16)),
        ({"model": "effnet_lite0", "image_size": 64}, lambda: EfficientNetLite0(3)),
        (VIT, lambda: ViT(ViTConfig(**{k: v for k, v in VIT.items() if k != "model"} | {"num_classes": 3}))),
    ],
    ids=["tinyvgg", "cnn", "lite0", "vit"],
)
def test_what_is_saved_answers_the_same_when_loaded(config, model, picture, tmp_path):
    set_seeds(1)
    made = model()
    nn.init.normal_([m for m in made.modules() if isinstance(m, nn.Linear)][-1].weight, std=0.1)  # a ViT's is zero
    _, transform = predictions.build_architecture(config, 3)
    predictor = Predictor(made, CLASSES, transform, config=config)
    predictor.save(tmp_path / "model")
    loaded = Predictor.load(tmp_path / "model", device="cpu")
    assert dict(loaded(picture)) == pytest.approx(dict(predictor(picture)), abs=1e-5)
    assert loaded.config["model"] == config["model"]
    assert not any(module.training for module in loaded.model.modules())
    assert not any(parameter.is_meta for parameter in [*loaded.model.parameters(), *loaded.model.buffers()])


def test_a_training_of_lesson_05_loads_as_it_is(root, picture, tmp_path):
    for part in ("train", "valid"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            picture.save(tmp_path / part / name / "1.png")
    run(TrainConfig(str(tmp_path), hidden_units=2, image_size=16, epochs=1), tmp_path / "out")
    assert dict(Predictor.load(tmp_path / "out")(picture)).keys() == {"a", "b"}


def test_save_without_a_config_or_with_another_models(predictor, tmp_path):
    predictor.config = None
    with pytest.raises(ValueError, match="save needs a config"):
        predictor.save(tmp_path / "model")
    predictor.config = CONFIG | {"hidden_units": 5}
    with pytest.raises(ValueError, match="holds the weights of another model"):
        predictor.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("missing", ["config.json", "best.pt"])
def test_a_missing_file_is_named(predictor, tmp_path, missing):
    predictor.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        Predictor.load(tmp_path)


# Addresses


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.31.255.255", False),
        ("172.32.0.1", True),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::7f00:1", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("ff02::1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:db8::1", False),
    ],
)
def test_is_public(address, public):
    assert is_public(address) is public


def answers(*addresses):
    """Return a socket.getaddrinfo that finds these."""
    return lambda *_, **__: [(socket.AF_INET, 1, 6, "", (address, 80)) for address in addresses]


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answers("8.8.8.8", "127.0.0.1"))
    with pytest.raises(ValueError, match="127.0.0.1 is this machine"):
        resolve("http://example.com/")


def test_the_address_that_was_checked_is_the_one_that_is_used(monkeypatch):
    names = iter(["8.8.8.8", "127.0.0.1"])  # rebinding: the second look-up would lead inside
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answers(next(names))())
    used = []

    def connect(address, timeout):
        used.append(address)
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ConnectionError, match="http://example.com/ cannot be fetched: nobody there"):
        fetch("http://example.com/")
    assert used == [("8.8.8.8", 80)] and next(names) == "127.0.0.1"


def test_https_checks_the_certificate_of_the_name(monkeypatch):
    """A server that speaks no TLS stands for one whose certificate is wrong: both end before anything is asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    received = []

    def answer():
        connection, _ = listener.accept()
        received.append(connection.recv(1000))
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    monkeypatch.setattr(predictions, "is_public", lambda address: True)
    with pytest.raises(ConnectionError, match="cannot be fetched"):
        fetch(f"https://127.0.0.1:{listener.getsockname()[1]}/", seconds=5)
    thread.join()
    listener.close()
    assert received[0][:1] == b"\x16" and b"GET" not in received[0]  # TLS's hello
    context = ssl.create_default_context()
    assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED


def test_fetching_leaves_no_thread_and_no_timer(monkeypatch):
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(predictions, "is_public", lambda address: True)
    before, begin = threading.active_count(), time.monotonic()
    with pytest.raises(TimeoutError, match=r"took longer than 0\.3 seconds"):
        fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/", seconds=0.3)
    assert time.monotonic() - begin < 2
    time.sleep(0.1)
    assert threading.active_count() == before
    listener.close()


# The app and its folder


def test_build_app_is_quiet_and_keeps_nothing(predictor):
    made = build_app(predictor)
    assert not made.analytics_enabled and made.flagging_mode == "never" and made.delete_cache == (600, 3600)
    assert [function.api_name for function in made.fns.values()].count("predict") == 1


def test_build_demo_writes_all_that_it_needs(predictor, picture, tmp_path):
    picture.save(tmp_path / "Example.PNG")
    folder = build_demo(tmp_path / "deep" / "demo", predictor, [tmp_path / "Example.PNG"])
    names = {path.name for path in folder.iterdir()}
    assert names == {"app.py", "best.pt", "config.json", "Dockerfile", "examples", "going_modular", "README.md"} | {
        "requirements.txt"
    }
    assert [path.name for path in (folder / "examples").iterdir()] == ["1.png"]
    assert all("==" in line for line in (folder / "requirements.txt").read_text().splitlines())
    header = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in header and "app_file: app.py" in header
    dockerfile = (folder / "Dockerfile").read_text()
    assert dockerfile.index("USER app") < dockerfile.index("CMD") and "EXPOSE 7860" in dockerfile
    assert "0.0.0.0" in dockerfile and "0.0.0.0" not in (folder / "app.py").read_text()
    assert dict(Predictor.load(folder)(picture)) == pytest.approx(dict(predictor(picture)), abs=1e-5)
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]


def test_the_copied_modules_import_without_the_course(predictor, tmp_path):
    folder = build_demo(tmp_path / "demo", predictor)
    code = "import going_modular.app, going_modular.predictions as p; print(p.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(folder / "going_modular" / "predictions.py")
    assert sorted(path.name for path in (folder / "going_modular").glob("*.pyi")) == []


def test_build_demo_refuses_a_folder_with_content(predictor, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        build_demo(tmp_path, predictor)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert (build_demo(tmp_path / "empty", predictor) / "app.py").is_file()


def test_build_demo_leaves_nothing_when_it_fails(predictor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png is no picture"):
        build_demo(tmp_path / "demo", predictor, [tmp_path / "broken.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


def test_modules_needed_follows_the_imports(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "a.py").write_text(
        "import os\nimport numpy as np\nfrom pack.b import x\nfrom torch.nn import functional\n"
    )
    (package / "b.py").write_text("from pack.c import y\n\ndef f():\n    import pandas\n")
    (package / "c.py").write_text("import PIL.Image\nfrom pack.b import z\n")
    (package / "d.py").write_text("import wandb\n")
    assert modules_needed(package, ["a"]) == (["a", "b", "c"], ["PIL", "numpy", "torch"])
    assert pin(["PIL", "numpy"]) == [f"numpy=={np.__version__}", f"pillow=={features.version('pil')}"]


# ONNX


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    set_seeds(42)
    model = EfficientNetLite0(3).train()
    path = export_onnx(model, tmp_path_factory.mktemp("onnx") / "model.onnx", 64)
    return model, path


@pytest.mark.parametrize("batch", [1, 7])
def test_onnxruntime_agrees_at_any_batch_size(exported, batch):
    model, path = exported
    assert model.training and [p.name for p in path.parent.iterdir()] == [path.name]  # as it was; one file
    images = torch.randn(batch, 3, 64, 64)
    with torch.inference_mode():
        expected = model.eval()(images)
    model.train()
    logits = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)


def test_a_vit_exports_too(tmp_path):
    set_seeds(42)
    model = ViT(ViTConfig(16, 4, 3, 3, embed_dim=8, depth=2, num_heads=2, mlp_dim=16)).eval()
    nn.init.normal_(model.head.weight)
    path, images = export_onnx(model, tmp_path / "vit.onnx", 16), torch.randn(5, 3, 16, 16)
    logits = onnxruntime.InferenceSession(path).run(["logits"], {"images": images.numpy()})[0]
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), model(images), atol=1e-4, rtol=1e-4)


def test_int8_is_smaller_and_near(exported, tmp_path):
    model, path = exported
    images = torch.randn(16, 3, 64, 64)
    small = quantize(path, tmp_path / "int8.onnx", images.split(8))
    assert small.stat().st_size < 0.35 * path.stat().st_size
    onnx.checker.check_model(onnx.load(small))
    full, eight = (onnxruntime.InferenceSession(p).run(None, {"images": images.numpy()})[0] for p in (path, small))
    assert np.abs(full - eight).max() < 0.2 * np.abs(full).max()


def test_export_and_quantize_print_nothing(tmp_path, capfd):
    path = export_onnx(TinyVGG(3, 4, 3, image_size=16), tmp_path / "model.onnx", 16)
    quantize(path, tmp_path / "int8.onnx", [torch.randn(4, 3, 16, 16)])
    assert capfd.readouterr() == ("", "")


def test_serving_needs_no_onnx(root):
    code = "import sys, going_modular.app; assert not {'onnx', 'onnxruntime'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_config_is_what_json_can_say(predictor, tmp_path):
    predictor.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG | {"class_names": CLASSES}
    assert app.DEMO_APP.startswith('"""Serve')
