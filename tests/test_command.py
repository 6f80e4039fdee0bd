"""Lesson 10: python -m going_modular, from a folder of pictures to an answer, a page and a file."""

import json
import os
import shutil
import socket

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from going_modular import performance, train
from going_modular.__main__ import CourseConfig, command_line, setup_course
from going_modular.data_setup import read_picture
from going_modular.predictions import Predictor, build_architecture
from going_modular.tracking import read_log, read_run, read_tensorboard
from tests.folders import write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("own"), ("night", "day"), {"train": 16, "valid": 6})


SMALL = "--hidden-units 4 --image-size 16 --batch-size 8 --epochs 2 --seed 1"


def arguments(pictures, out, more=""):
    return ["train", "--data", str(pictures), "--out", str(out), *SMALL.split(), *more.split()]


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """The folder of a training that knows night from day."""
    out = tmp_path_factory.mktemp("runs") / "own"
    assert command_line(arguments(pictures, out, "--epochs 8 --lr 0.01")) == 0
    return out


def rows_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights_of(out):
    return torch.load(out / "best.pt", weights_only=True)


def test_without_its_extras_it_trains_as_lesson_05_does(pictures, tmp_path):
    assert command_line(arguments(pictures, tmp_path / "ten")) == 0
    assert train.main(arguments(pictures, tmp_path / "five")[1:]) == 0
    for row, wanted in zip(rows_of(tmp_path / "ten"), rows_of(tmp_path / "five"), strict=True):
        assert row == pytest.approx(wanted)
    torch.testing.assert_close(weights_of(tmp_path / "ten"), weights_of(tmp_path / "five"), rtol=0, atol=0)
    assert command_line(["train", "--out", str(tmp_path / "five"), "--resume"]) == 0  # what it lacks has its default


@pytest.mark.parametrize(
    "more", ["--precision bf16", "--precision fp16", "--accumulate 3", "--model cnn", "--model vit --patch-size 4"]
)
def test_every_option_trains_and_its_result_predicts(pictures, tmp_path, capsys, more):
    assert command_line(arguments(pictures, tmp_path / "run", more)) == 0
    assert len(rows_of(tmp_path / "run")) == 2
    capsys.readouterr()
    assert command_line(["predict", str(tmp_path / "run"), str(pictures / "valid" / "day" / "0.png")]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "day 0." in printed.out and "night 0." in printed.out


def test_accumulation_changes_the_memory_and_not_the_result(pictures, tmp_path):
    for parts in (1, 3):
        assert command_line(arguments(pictures, tmp_path / str(parts), f"--accumulate {parts}")) == 0
    torch.testing.assert_close(weights_of(tmp_path / "3"), weights_of(tmp_path / "1"), rtol=0, atol=1e-5)


def test_pretrained_features_need_few_pictures(pictures, tmp_path):
    more = "--model effnet_lite0 --image-size 64 --no-augment --epochs 8 --lr 0.02"
    assert command_line(arguments(pictures, tmp_path / "run", more)) == 0
    assert max(row["valid_acc"] for row in rows_of(tmp_path / "run")) > 0.9
    answers = Predictor.load(tmp_path / "run")(pictures / "valid" / "night" / "1.png")
    assert answers[0][0] == "night"


def test_its_pictures_are_prepared_as_the_predictor_prepares_them(pictures):
    for model in ("tinyvgg", "effnet_lite0"):
        config = CourseConfig(data=str(pictures), model=model, image_size=32, augment=False)
        data = setup_course(config, torch.device("cpu")).valid_dataloader.dataloader.dataset
        _, transform = build_architecture({"model": model, "image_size": 32, "hidden_units": 16}, 2)
        torch.testing.assert_close(data[3][0], transform(read_picture(data.samples[3][0])))


def test_an_fp16_training_goes_on_with_its_scaler(pictures, tmp_path):
    assert command_line(arguments(pictures, tmp_path / "whole", "--precision fp16 --epochs 3")) == 0
    config = CourseConfig(**train.read_config(tmp_path / "whole", CourseConfig))
    assert "update" in torch.load(tmp_path / "whole" / "last.pt", weights_only=True)["parts"]

    def stop_after_one(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        return row

    def setup(config, device):
        return setup_course(config, device)._replace(finish_row=stop_after_one)

    with pytest.raises(KeyboardInterrupt, match="1 of 3 epochs are kept"):
        train.run(config, tmp_path / "parts", setup=setup)
    assert command_line(["train", "--out", str(tmp_path / "parts"), "--resume"]) == 0
    torch.testing.assert_close(weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole"), rtol=0, atol=0)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb", "none"])
def test_a_tracked_run_can_be_read_also_after_it_went_on(pictures, tmp_path, tracker):
    assert command_line(arguments(pictures, tmp_path / "run", f"--tracker {tracker}")) == 0
    if tracker == "none":
        assert not (tmp_path / "run" / "tracking").exists()
        return
    found = read_run(tmp_path / "run" / "tracking" / "run")
    assert [value for _, value in found.metrics["valid_loss"]] == pytest.approx(
        [row["valid_loss"] for row in rows_of(tmp_path / "run")]
    )


def test_a_run_that_goes_on_is_tracked_from_its_first_epoch(pictures, tmp_path):
    assert command_line(arguments(pictures, tmp_path / "run", "--tracker tensorboard")) == 0
    kept = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert command_line([*arguments(pictures, tmp_path / "run", "--tracker tensorboard"), "--resume"]) == 0
    for reader in (read_log, read_tensorboard):
        found = reader(tmp_path / "run" / "tracking" / "run-2").metrics["valid_acc"]
        assert [value for _, value in found] == pytest.approx([row["valid_acc"] for row in kept["rows"]])


def test_predict_takes_folders_and_names_what_it_cannot_read(trained, pictures, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    folder = pictures / "valid" / "night"
    assert command_line(["predict", str(trained), str(tmp_path / "broken.png"), str(folder), "missing.png"]) == 2
    printed = capsys.readouterr()
    answers = printed.out.splitlines()
    assert len(answers) == 6 and all(".png: night 0." in line for line in answers)
    errors = printed.err.splitlines()
    assert "broken.png is no picture" in errors[0] and "missing.png" in errors[1]
    assert errors[2] == "error: 2 of 8 pictures could not be read"


def test_export_writes_models_that_answer_the_same(trained, pictures, tmp_path, capsys):
    for form in ("onnx", "int8", "demo"):
        assert command_line(["export", str(trained), "--format", form, "--to", str(tmp_path / form)]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{tmp_path / form}: ")
        assert ("RGB, pixel / 255; out: logits of day, night" in printed) == (form != "demo")
    assert len(list((tmp_path / "demo" / "examples").iterdir())) == 3
    predictor, demo = Predictor.load(trained), Predictor.load(tmp_path / "demo")
    path = pictures / "valid" / "day" / "2.png"
    assert dict(demo(path)) == pytest.approx(dict(predictor(path)), abs=1e-6)
    image = predictor.transform(Image.open(path))[None].numpy()
    with torch.inference_mode():
        wanted = predictor.model(torch.from_numpy(image)).numpy()
    for form, tolerance in (("onnx", 1e-4), ("int8", 0.5)):
        found = onnxruntime.InferenceSession(tmp_path / form).run(None, {"images": image})[0]
        np.testing.assert_allclose(found, wanted, atol=tolerance)


def test_export_writes_into_the_trainings_folder_unless_told_otherwise(trained):
    assert command_line(["export", str(trained)]) == 0
    assert (trained / "model.onnx").exists()
    (trained / "model.onnx").unlink()


def test_profile_prints_speed_share_and_operations_and_writes_a_trace(tmp_path, capsys):
    options = f"--model vit --image-size 16 --patch-size 4 --batch-size 4 --trace {tmp_path / 'trace.json'}"
    assert command_line(["profile", *options.split()]) == 0
    printed = capsys.readouterr().out
    assert "pictures a second" in printed and "aten::" in printed and "%" in printed
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


WRONG = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "unknown command": (["trian"], "invalid choice: 'trian'"),
    "precision": (["train", "--precision", "fp8"], "unknown precision 'fp8': choose one of fp32, bf16, fp16"),
    "accumulate": (["train", "--accumulate", "0"], "accumulate is 0: a batch has at least 1 part"),
    "tracker": (["train", "--tracker", "paper"], "unknown tracker 'paper': choose one of"),
    "model": (["train", "--model", "resnet"], "unknown model 'resnet': choose one of tinyvgg, cnn, effnet_lite0, vit"),
    "patches": (["train", "--model", "vit", "--image-size", "30"], "patch_size 8 does not divide image_size 30"),
    "depth": (["train", "--model", "vit", "--depth", "0"], "depth is 0: it must be a whole number from 1 to 100"),
    "no data": (["train", "--data", "nowhere"], "there is no folder nowhere"),
    "no run": (["predict", "nowhere", "x.png"], "nowhere/config.json is missing".replace("/", os.sep)),
    "no run to serve": (["serve", "nowhere"], "config.json is missing"),
    "no run to export": (["export", "nowhere"], "config.json is missing"),
    "format": (["export", "nowhere", "--format", "pdf"], "invalid choice: 'pdf'"),
    "port": (["serve", "nowhere", "--port", "80000"], "'80000' is no port: choose a number from 1 to 65535"),
    "parts": (["train", "--accumulate", "64"], "accumulate is 64: a batch of 32 has no more parts than pictures"),
    "profile": (["profile", "--model", "vit", "--num-heads", "5"], "num_heads 5 does not divide embed_dim 64"),
    "trace": (["profile", "--image-size", "16", "--trace", os.devnull + "/trace.json"], f"cannot write {os.devnull}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_end_in_a_sentence_and_status_2(name, tmp_path, capsys):
    command, message = WRONG[name]
    if command[:1] == ["train"]:
        command = [*command, "--out", str(tmp_path / "run")]
    try:
        status = command_line(command)
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    assert status == 2 and message in printed.err and len(printed.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("form", ["onnx", "demo"])
def test_export_does_not_overwrite_what_is_there(trained, tmp_path, capsys, form):
    (tmp_path / "mine.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "mine.txt"):
        assert command_line(["export", str(trained), "--format", form, "--to", str(target)]) == 2
        assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_training_goes_on_with_the_same_classes_alone(pictures, tmp_path, capsys):
    assert command_line(arguments(pictures, tmp_path / "run")) == 0
    moved = shutil.copytree(pictures, tmp_path / "moved")
    assert command_line(["train", "--out", str(tmp_path / "run"), "--resume", "--data", str(moved)]) == 0
    for split in ("train", "valid"):
        (moved / split / "day").rename(moved / split / "noon")
    before = (tmp_path / "run" / "config.json").read_bytes()
    capsys.readouterr()
    assert command_line(["train", "--out", str(tmp_path / "run"), "--resume", "--data", str(moved)]) == 2
    assert "was trained on the classes ['day', 'night'], the data have ['night', 'noon']" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_one_class_alone_and_a_file_in_place_of_the_folder_are_refused(pictures, tmp_path, capsys):
    single = shutil.copytree(pictures, tmp_path / "single", ignore=shutil.ignore_patterns("night"))
    assert command_line(arguments(single, tmp_path / "run")) == 2
    assert "has one class, day" in capsys.readouterr().err
    (tmp_path / "text.txt").write_text("mine")
    assert command_line(arguments(pictures, tmp_path / "text.txt")) == 2
    assert "text.txt is a file: choose a folder" in capsys.readouterr().err


def test_a_training_that_only_guesses_says_what_to_try(pictures, tmp_path, capsys):
    assert command_line(arguments(pictures, tmp_path / "run", "--lr 1e-12")) == 0
    assert "With 2 classes that is no better than guessing: try --model effnet_lite0" in capsys.readouterr().out


def test_a_taken_port_is_named(trained, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command_line(["serve", str(trained), "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"error: port {port} is taken: choose another --port\n"


def test_a_machine_without_a_compiler_says_so(pictures, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

    monkeypatch.setattr(performance.torch, "compile", fail)
    assert command_line(arguments(pictures, tmp_path / "run", "--compile")) == 2
    message = capsys.readouterr().err
    assert "cannot compile models" in message and "No working C++ compiler found" in message and "more" not in message


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_it_learns_the_same(pictures, tmp_path):
    for name, more in (("eager", ""), ("compiled", "--compile")):
        assert command_line(arguments(pictures, tmp_path / name, f"--epochs 1 {more}")) == 0
    torch.testing.assert_close(weights_of(tmp_path / "compiled"), weights_of(tmp_path / "eager"), rtol=0, atol=1e-4)


def test_every_commands_help_says_what_it_does(capsys):
    for command in ("train", "predict", "serve", "export", "profile"):
        with pytest.raises(SystemExit) as end:
            command_line([command, "--help"])
        assert end.value.code == 0 and len(capsys.readouterr().out.splitlines()) > 5
