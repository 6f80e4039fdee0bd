"""Predictor, its pictures, saved models, demo folders, ONNX and int8."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import threading

import gradio as gr
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image, features
from torch import nn
from torchvision import models
from torchvision.transforms import v2

from going_modular import app, experiment
from going_modular.app import build_app, serve
from going_modular.config import Config
from going_modular.demo import build_demo, modules_needed, pin
from going_modular.effnet import EfficientNetLite0
from going_modular.exports import EXPORTS, export_command
from going_modular.model_builder import CNNModel, TinyVGG
from going_modular.networks import NETWORKS
from going_modular.onnx_export import export_onnx, quantize
from going_modular.predictions import Predictor, transform_of
from going_modular.utils import set_seeds
from going_modular.vit import ViT, ViTConfig
from tests.folders import write_pictures
from tools import export

CLASSES = ["cat", "dog", "horse"]
CONFIG = Config(model="tinyvgg", hidden_units=4, image_size=16)
VIT = {"image_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 1}
VIT |= {"num_heads": 2, "mlp_dim": 8}


@pytest.fixture
def predictor():
    set_seeds(42)
    model = TinyVGG(3, 4, 3, image_size=16)
    return Predictor(model, CLASSES, transform_of(CONFIG), config=CONFIG)


@pytest.fixture
def picture():
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    )


# Predictor


def test_path_picture_and_bytes_give_the_same(predictor, picture, tmp_path):
    path, buffer = tmp_path / "picture.png", io.BytesIO()
    picture.save(path)
    picture.save(buffer, "PNG")
    ranked = predictor(picture)
    for source in (
        path,
        str(path),
        buffer.getvalue(),
        bytearray(buffer.getvalue()),
    ):
        assert predictor(source) == ranked
    logits = predictor.model(predictor.transform(picture)[None])
    expected = sorted(
        zip(CLASSES, logits.softmax(1)[0].tolist(), strict=True),
        key=lambda pair: -pair[1],
    )
    assert [name for name, _ in ranked] == [name for name, _ in expected]
    assert [p for _, p in ranked] == pytest.approx([p for _, p in expected], abs=1e-6)


def test_it_keeps_a_copy_and_leaves_the_callers_model_alone(picture):
    model = nn.Sequential(
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 3)
    ).train()
    predictor = Predictor(model, CLASSES, transform_of(CONFIG))
    before = predictor(picture)
    assert (
        all(module.training for module in model.modules())
        and predictor(picture) == before
    )  # no dropout
    nn.init.zeros_(model[2].weight)
    assert predictor(picture) == before


def test_a_picture_object_is_left_as_it_was(predictor, picture):
    picture.info["exif"] = b"not exif"
    before = picture.tobytes()
    predictor(picture)
    assert picture.tobytes() == before and picture.mode == "RGB"


def test_many_threads_get_the_answers_of_one(predictor, picture):
    expected, found = predictor(picture), []
    threads = [
        threading.Thread(target=lambda: found.append(predictor(picture)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


@pytest.mark.parametrize("source", [None, 3, ["a.png"], torch.zeros(3, 4, 4)])
def test_anything_else_is_refused(predictor, source):
    with pytest.raises(
        ValueError, match="the picture cannot be decoded .* object has no attribute"
    ):
        predictor(source)


def test_a_huge_picture_object(predictor):
    with pytest.raises(
        ValueError, match="20,000 × 20,000 pixels, the limit is 50,000,000"
    ):
        predictor(Image.new("1", (20_000, 20_000)))


# Saved and loaded


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (CONFIG, lambda: TinyVGG(3, 4, 3, image_size=16)),
        (
            dataclasses.replace(CONFIG, model="cnn"),
            lambda: CNNModel(3, 3, widths=(4, 8, 16), image_size=16),
        ),
        (Config(model="effnet_lite0", image_size=64), lambda: EfficientNetLite0(3)),
        (Config(model="vit", **VIT), lambda: ViT(ViTConfig(**VIT, num_classes=3))),
    ],
    ids=["tinyvgg", "cnn", "lite0", "vit"],
)
def test_what_is_saved_answers_the_same_when_loaded(config, model, picture, tmp_path):
    set_seeds(1)
    made = model()
    nn.init.normal_(
        [m for m in made.modules() if isinstance(m, nn.Linear)][-1].weight, std=0.1
    )  # a ViT's is zero
    predictor = Predictor(made, CLASSES, transform_of(config), config=config)
    predictor.save(tmp_path / "model")
    loaded = Predictor.load(tmp_path / "model")
    assert dict(loaded(picture)) == pytest.approx(dict(predictor(picture)), abs=1e-5)
    assert loaded.config == config and loaded.class_names == CLASSES
    assert not any(module.training for module in loaded.model.modules())
    assert {
        str(tensor.device)
        for tensor in [*loaded.model.parameters(), *loaded.model.buffers()]
    } == {"cpu"}


def test_a_training_loads_as_it_is(picture, tmp_path):
    data = write_pictures(tmp_path / "data", ("a", "b"), {"train": 2, "valid": 1})
    config = Config(str(data), "tinyvgg", hidden_units=2, image_size=16, epochs=1)
    made = experiment.setup(config, "cpu")
    list(experiment.run(made, tmp_path / "out"))
    ranked = Predictor.load(tmp_path / "out")(picture)
    wanted = Predictor(made.model, ["a", "b"], transform_of(config))(picture)
    assert dict(ranked) == pytest.approx(dict(wanted), abs=1e-6)


def test_save_without_a_config_or_with_another_models(predictor, tmp_path):
    predictor.config = None
    with pytest.raises(ValueError, match="save needs a config"):
        predictor.save(tmp_path / "model")
    predictor.config = dataclasses.replace(CONFIG, hidden_units=5)
    with pytest.raises(ValueError, match="holds the weights of another model"):
        predictor.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def steps(*made, mean=None, std=None):
    """Return a transform that ends in a float tensor, normalized if there is a mean."""
    ends = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose([*made, *ends, *([v2.Normalize(mean, std)] if mean else [])])


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CROP = dataclasses.replace(CONFIG, resize="crop")
PRESET = models.EfficientNet_B2_Weights.DEFAULT.transforms()


@pytest.mark.parametrize(
    ("config", "transform"),
    [
        (CROP, steps(v2.Resize(16), v2.CenterCrop(16))),
        (CONFIG, steps(v2.Resize((16, 16)))),
        (CONFIG, steps(v2.Resize((16, 16), v2.InterpolationMode.BICUBIC))),
        (Config(model="effnetb2", image_size=288, resize="crop"), PRESET),
        (
            Config(model="torchvision:resnet18", image_size=64, resize="crop"),
            steps(v2.Resize(64), v2.CenterCrop(64), **IMAGENET),
        ),
    ],
    ids=["cropped", "squashed", "bicubic", "effnetb2", "torchvision"],
)
def test_a_transform_like_the_configs_is_saved(config, transform, picture, tmp_path):
    set_seeds(1)
    model = NETWORKS[config.model].build(config, 3)
    made = Predictor(model, CLASSES, transform, config=config)
    made.save(tmp_path)
    loaded = Predictor.load(tmp_path)
    assert loaded.config == config
    assert dict(loaded(picture)) == pytest.approx(dict(made(picture)), abs=0.02)


@pytest.mark.parametrize(
    "transform",
    [
        steps(v2.Resize((24, 24))),
        steps(v2.Resize(24), v2.CenterCrop(16)),
        steps(v2.Resize(16), v2.CenterCrop(16)),
        steps(v2.Resize((16, 16)), **IMAGENET),
        steps(v2.Resize((16, 16)), v2.Grayscale(3)),
        steps(v2.Resize((16, 16)), v2.RandomHorizontalFlip(1)),
        v2.Compose([v2.Resize((16, 16)), v2.PILToTensor(), v2.ToDtype(torch.float32)]),
    ],
    ids=["size", "zoom", "cropped", "normalized", "gray", "mirrored", "0 to 255"],
)
def test_a_transform_that_is_not_the_configs_is_not_saved(transform, tmp_path):
    model = TinyVGG(3, 4, 3, image_size=16)
    made = Predictor(model, CLASSES, transform, config=CONFIG)
    with pytest.raises(ValueError, match=r"the transform makes other .*image_size=16"):
        made.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("resized", "size"), [(18, 16), (36, 32), (256, 224)])
def test_a_crop_that_is_an_eighth_narrower_is_not_saved(resized, size, tmp_path):
    config = dataclasses.replace(CROP, image_size=size)
    transform = steps(v2.Resize(resized), v2.CenterCrop(size))
    model = TinyVGG(3, 4, 3, image_size=size)
    made = Predictor(model, CLASSES, transform, config=config)
    with pytest.raises(ValueError, match="the transform makes other images"):
        made.save(tmp_path / "model")


@pytest.mark.parametrize("missing", ["config.json", "best.pt"])
def test_a_missing_file_is_named(predictor, tmp_path, missing):
    predictor.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        Predictor.load(tmp_path)


def test_what_is_unsure_is_saved_and_may_be_said_anew(predictor, tmp_path):
    assert predictor.unsure_below == 0.5
    predictor.unsure_below = 0.8
    predictor.save(tmp_path)
    assert Predictor.load(tmp_path).unsure_below == 0.8
    assert Predictor.load(tmp_path, unsure_below=0).unsure_below == 0
    content = json.loads((tmp_path / "config.json").read_text())
    del content["unsure_below"]  # as a training writes it
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert Predictor.load(tmp_path / "best.pt").unsure_below == 0.5


@pytest.mark.parametrize("limit", [-0.1, 1.5, float("nan"), "0.5", None, True])
def test_what_is_no_probability_is_refused(limit, predictor, tmp_path):
    predictor.unsure_below = limit
    predictor.save(tmp_path)
    with pytest.raises(ValueError, match=r"unsure_below is .*: choose 0 to 1"):
        Predictor.load(tmp_path)


def test_a_limit_that_json_cannot_say_is_not_saved(predictor, tmp_path):
    predictor.unsure_below = float("inf")
    with pytest.raises(ValueError, match="unsure_below is inf: choose 0 to 1"):
        predictor.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# The app and its folder


@pytest.mark.parametrize(("limit", "is_sure"), [(0, True), (1, False)])
def test_below_its_limit_the_page_says_not_sure(
    limit, is_sure, predictor, picture, tmp_path
):
    picture.save(tmp_path / "picture.png")
    predictor.unsure_below = limit
    answer = build_app(predictor).fns[0].fn({"path": str(tmp_path / "picture.png")})
    best = predictor(picture)[0][0]
    assert answer["label"] == (best if is_sure else "not sure")
    assert answer["confidences"][0]["label"] == best


def test_build_app_is_quiet_and_keeps_nothing(predictor):
    made = build_app(predictor)
    assert not made.analytics_enabled and made.flagging_mode == "never"
    assert not made.api_open and made._queue.max_size == 100
    assert [function.api_name for function in made.fns.values()].count("predict") == 1


def test_the_page_tells_the_limit_of_its_training(predictor, picture, tmp_path):
    picture.save(tmp_path / "picture.png")
    predictor.max_pixels = 400
    predict = build_app(predictor).fns[0].fn
    with pytest.raises(gr.Error, match=r"has 24 × 20 pixels, the limit is 400\. Ch"):
        predict({"path": str(tmp_path / "picture.png")})


@pytest.mark.parametrize("build", ["app", "demo"])
def test_what_the_predictor_would_refuse_is_no_example(build, predictor, tmp_path):
    predictor.max_pixels = 400
    Image.new("1", (24, 20)).save(tmp_path / "large.png")
    examples = [tmp_path / "large.png"]
    with pytest.raises(ValueError, match=r"large\.png has .* pixels, the limit is"):
        if build == "app":
            build_app(predictor, examples)
        else:
            build_demo(tmp_path / "demo", predictor, examples)
    assert [*tmp_path.iterdir()] == examples


def test_an_example_of_a_phone_is_answered(predictor, tmp_path):
    Image.new("1", (4_032, 3_024)).save(tmp_path / "large.png")
    answer = build_app(predictor, [tmp_path / "large.png"]).fns[0].fn
    assert answer({"path": str(tmp_path / "large.png")})["confidences"]


def test_a_host_that_is_not_this_machine_has_no_port(predictor, monkeypatch):
    monkeypatch.setattr(app, "LOCALHOST_NAME", "192.0.2.1")
    with pytest.raises(OSError, match=r"no free port of 192\.0\.2\.1"):
        serve(build_app(predictor))


def test_build_demo_writes_all_that_it_needs(predictor, picture, tmp_path):
    picture.save(tmp_path / "Example.PNG")
    folder = build_demo(
        tmp_path / "deep" / "demo", predictor, [tmp_path / "Example.PNG"]
    )
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "app.py",
        "best.pt",
        "config.json",
        "Dockerfile",
        "examples",
        "going_modular",
        "README.md",
    } | {"requirements.txt"}
    assert [path.name for path in (folder / "examples").iterdir()] == ["1.png"]
    assert all(
        "==" in line for line in (folder / "requirements.txt").read_text().splitlines()
    )
    header = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in header and "app_file: app.py" in header
    dockerfile = (folder / "Dockerfile").read_text()
    assert (
        dockerfile.index("USER app") < dockerfile.index("CMD")
        and "EXPOSE 7860" in dockerfile
    )
    assert "0.0.0.0" in dockerfile and "0.0.0.0" not in (folder / "app.py").read_text()
    assert dict(Predictor.load(folder)(picture)) == pytest.approx(
        dict(predictor(picture)), abs=1e-5
    )
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]


@pytest.mark.parametrize(
    ("config", "networks"),
    [
        (CONFIG, {"model_builder", "freezing"}),
        (Config(model="effnet_lite0", image_size=64), {"freezing", "effnet"}),
        (Config(model="vit", **VIT), {"model_builder", "freezing", "vit"}),
    ],
    ids=["tinyvgg", "lite0", "vit"],
)
def test_a_demo_holds_and_pins_only_what_its_model_needs(config, networks, tmp_path):
    model = NETWORKS[config.model].build(config, 3)
    predictor = Predictor(model, CLASSES, transform_of(config), config=config)
    folder = build_demo(tmp_path / "demo", predictor)
    held = {path.name for path in (folder / "going_modular").glob("*")}
    always = {
        "__init__",
        "guard",
        "app",
        "predictions",
        "data_setup",
        "pictures",
    }
    always |= {"archives", "image_folder", "networks", "config", "checkpoints", "utils"}
    assert held == {f"{name}.py" for name in always | networks}
    lines = (folder / "requirements.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines}
    wanted = {"gradio", "numpy", "pillow", "torch", "torchvision"}
    assert pinned == wanted | {"fastapi", "starlette", "tqdm", "uvicorn"}
    assert "data" not in json.loads((folder / "config.json").read_text())


# Its arguments are a folder and a picture; it prints the module's file, the answer to
# the picture, and the names of all modules.
SERVE = """
import json, sys
import going_modular.app
from going_modular import predictions
ranked = predictions.Predictor.load(sys.argv[1])(sys.argv[2])
print(json.dumps([predictions.__file__, dict(ranked), list(sys.modules)]))
"""


@pytest.mark.parametrize("place", ["the course", "a demo"])
def test_a_server_loads_nothing_of_training_tracking_or_drawing(
    predictor, picture, tmp_path, root, place
):
    picture.save(tmp_path / "picture.png")
    demo = build_demo(tmp_path / "demo", predictor)
    home = root if place == "the course" else demo
    command = [sys.executable, "-c", SERVE, str(demo), str(tmp_path / "picture.png")]
    environment = os.environ | {"PYTHONPATH": ""}  # with -c, the current folder is it
    done = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, check=True
    )
    file, answer, loaded = json.loads(done.stdout)
    assert file == str(home / "going_modular" / "predictions.py")
    assert answer == pytest.approx(dict(predictor(picture)), abs=1e-5)
    layers = export.LAYERS
    modules = [*layers["learning"], *layers["running"], "plots", "vit", "effnet"]
    forbidden = {f"going_modular.{module}" for module in modules}
    forbidden |= {"matplotlib", "onnx", "onnxruntime", "torchmetrics"}
    assert forbidden & {*loaded} == set()


def test_build_demo_refuses_a_folder_with_content(predictor, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="already exists"):
        build_demo(tmp_path, predictor)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert (build_demo(tmp_path / "empty", predictor) / "app.py").is_file()


def test_build_demo_leaves_nothing_when_it_fails(predictor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png is not a picture"):
        build_demo(tmp_path / "demo", predictor, [tmp_path / "broken.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


@pytest.mark.parametrize(
    ("format", "part"), [("demo", "."), ("demo", "train"), ("int8", "valid")]
)
def test_an_export_takes_the_only_part_that_there_is(format, part, predictor, tmp_path):
    data = write_pictures(tmp_path / "data", CLASSES, {part: 2})
    predictor.save(tmp_path / "run")
    export_command(str(tmp_path / "run"), format, data=str(data))
    made = tmp_path / "run" / EXPORTS[format]
    assert made.is_file() or len(list(made.glob("examples/*.png"))) == 3


def test_a_saved_model_is_not_exported_with_pictures_of_another(
    predictor, tmp_path, monkeypatch
):
    write_pictures(tmp_path / Config.data, CLASSES, {"train": 2, "valid": 2})
    predictor.save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    export_command("run", "demo")
    assert [*(tmp_path / "run" / "demo" / "examples").iterdir()] == []
    with pytest.raises(FileNotFoundError, match="no folder --data, not given"):
        export_command("run", "int8")


def test_modules_needed_follows_the_imports(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "a.py").write_text(
        "import os\nimport numpy as np\nfrom pack.b import x\n"
        "from torch.nn import functional\n"
    )
    (package / "b.py").write_text(
        "from pack.c import y\n\ndef f():\n    import pandas\n"
    )
    (package / "c.py").write_text("import PIL.Image\nfrom pack.b import z\n")
    (package / "d.py").write_text("import wandb\n")
    assert modules_needed(package, ["a"]) == (
        ["a", "b", "c"],
        ["PIL", "numpy", "torch"],
    )
    assert pin(["PIL", "numpy"]) == [
        f"numpy=={np.__version__}",
        f"pillow=={features.version('pil')}",
    ]


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
    assert model.training and [p.name for p in path.parent.iterdir()] == [
        path.name
    ]  # as it was; one file
    images = torch.randn(batch, 3, 64, 64)
    with torch.inference_mode():
        expected = model.eval()(images)
    model.train()
    logits = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)


def test_a_vit_exports_too(tmp_path):
    set_seeds(42)
    model = ViT(
        ViTConfig(16, 4, 3, 3, embed_dim=8, depth=2, num_heads=2, mlp_dim=16)
    ).eval()
    nn.init.normal_(model.head.weight)
    path, images = (
        export_onnx(model, tmp_path / "vit.onnx", 16),
        torch.randn(5, 3, 16, 16),
    )
    logits = onnxruntime.InferenceSession(path).run(
        ["logits"], {"images": images.numpy()}
    )[0]
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(logits), model(images), atol=1e-4, rtol=1e-4
        )


def test_int8_is_smaller_and_near(exported, tmp_path):
    model, path = exported
    images = torch.randn(16, 3, 64, 64)
    small = quantize(path, tmp_path / "int8.onnx", images.split(8))
    assert small.stat().st_size < 0.35 * path.stat().st_size
    onnx.checker.check_model(onnx.load(small))
    full, eight = (
        onnxruntime.InferenceSession(p).run(None, {"images": images.numpy()})[0]
        for p in (path, small)
    )
    assert np.abs(full - eight).max() < 0.2 * np.abs(full).max()


def test_export_and_quantize_print_nothing(tmp_path, capfd):
    path = export_onnx(TinyVGG(3, 4, 3, image_size=16), tmp_path / "model.onnx", 16)
    quantize(path, tmp_path / "int8.onnx", [torch.randn(4, 3, 16, 16)])
    assert capfd.readouterr() == ("", "")


class Odd(nn.Module):
    """A small network whose forward is given."""

    def __init__(self, forward, **buffers):
        super().__init__()
        self.head, self.run = nn.Linear(192, 3), forward
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, images):
        return self.run(self, images)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (lambda: models.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3), 16),
        (lambda: models.squeezenet1_1(num_classes=3), 32),
        (lambda: CNNModel(3, 3, widths=(4, 8), image_size=16), 16),
        (lambda: Odd(lambda model, x: model.head(x.view(-1, 192))), 8),
        (lambda: Odd(lambda m, x: m.head(x.flatten(1)) + m.b, b=torch.ones(1, 3)), 8),
    ],
    ids=["vit", "dropout", "batch norm", "view", "buffer"],
)
def test_any_network_answers_any_batch_size_after_its_export(model, size, tmp_path):
    set_seeds(1)
    model = model().train()
    session = onnxruntime.InferenceSession(
        export_onnx(model, tmp_path / "m.onnx", size)
    )
    assert model.training
    for count in (1, 2, 5):
        images = torch.rand(count, 3, size, size)
        with torch.inference_mode():
            wanted = model.eval()(images)
        (found,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(torch.tensor(found), wanted, atol=1e-4, rtol=1e-3)


NEEDS_MORE = nn.BatchNorm1d(192, track_running_stats=False)  # than one picture
NO_EXPORT = {
    "a fixed size": Odd(lambda model, x: model.head(x.view(2, 192))),
    "a buffer of two": Odd(
        lambda model, x: model.head(x.flatten(1)) + model.b, b=torch.ones(2, 3)
    ),
    "one picture is treated otherwise": Odd(
        lambda model, x: model.head(x.flatten(1)) * (1 if len(x) == 1 else 2)
    ),
    "dropout for ever": Odd(
        lambda model, x: model.head(nn.functional.dropout(x.flatten(1)))
    ),
    "noise": Odd(lambda model, x: model.head(x.flatten(1) + torch.randn(192))),
    "statistics of the batch": Odd(lambda m, x: m.head(NEEDS_MORE(x.flatten(1)))),
    "a dict": Odd(lambda model, x: {"logits": model.head(x.flatten(1))}),
    "two outputs": Odd(lambda m, x: (m.head(x.flatten(1)), m.head(x.flatten(1)))),
}


@pytest.mark.parametrize("model", NO_EXPORT.values(), ids=NO_EXPORT)
def test_what_a_file_cannot_compute_for_any_batch_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="Odd cannot be exported: .*its forward") as no:
        export_onnx(model, tmp_path / "m.onnx", 8)
    assert "\n" not in str(no.value) and list(tmp_path.iterdir()) == []


def test_a_missing_package_is_not_the_networks_fault(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime.*: pip install onnx") as no:
        export_onnx(TinyVGG(3, 4, 2, image_size=16), tmp_path / "m.onnx", 16)
    assert "TinyVGG" not in str(no.value) and list(tmp_path.iterdir()) == []


def test_metadata_is_kept_also_in_8_bits(tmp_path):
    texts = {"class_names": '["Käse", "b"]', "note": "", "resize": "crop"}
    model = TinyVGG(3, 4, 2, image_size=16)
    path = export_onnx(model, tmp_path / "m.onnx", 16, metadata=texts)
    small = quantize(path, tmp_path / "8.onnx", [torch.randn(4, 3, 16, 16)])
    for file in (path, small):
        session = onnxruntime.InferenceSession(file)
        assert session.get_modelmeta().custom_metadata_map == texts


def test_config_is_what_json_can_say(predictor, tmp_path):
    predictor.save(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    wanted = dataclasses.asdict(CONFIG) | {"class_names": CLASSES, "unsure_below": 0.5}
    del wanted["data"], wanted["weights"]  # paths of this machine
    assert written == wanted
