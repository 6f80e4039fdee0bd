"""The course as one command: from a folder of pictures to an answer, a page, a file."""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import types

import numpy as np
import onnxruntime
import psutil
import pytest
import torch
from PIL import Image

from going_modular import experiment, updates
from going_modular.__main__ import COMMANDS, SPELLINGS, Ended, main, verdict
from going_modular.config import MAY_CHANGE, Config, read_config
from going_modular.exports import EXPORTS
from going_modular.networks import NETWORKS
from going_modular.pictures import read_picture
from going_modular.predictions import Predictor
from going_modular.schedules import SCHEDULES
from going_modular.trackers import TRACKERS
from going_modular.training import finish, train_command
from going_modular.updates import PRECISIONS
from tests.folders import (
    ask_page,
    finds,
    free_port,
    rows_of,
    train_arguments,
    weights_of,
    write_pictures,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return write_pictures(folder, ("night", "day"), {"train": 16, "valid": 6})


def train(data, out, more=""):
    """Run the command and return its exit status."""
    return main(train_arguments(data, out, more))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder of a training that knows night from day."""
    out = tmp_path_factory.mktemp("runs") / "own"
    assert train(data, out, "--epochs 8 --lr 0.01") == 0
    return out


def assert_same_weights(first, second, atol=0.0):
    found, wanted = weights_of(first), weights_of(second)
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


# ---- Its doors, and what they say


@pytest.mark.parametrize("module", ["going_modular", "going_modular.train"])
def test_every_door_trains_the_same(data, tmp_path, root, module):
    command = train_arguments(data, tmp_path / "door")
    if module.endswith("train"):
        del command[0]
    environment = finds(root) | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", module, *command]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert train(data, tmp_path / "here") == 0
    assert_same_weights(tmp_path / "door", tmp_path / "here")
    assert rows_of(tmp_path / "door") == rows_of(tmp_path / "here")


def run_code(code, root, folder):
    """Run Python code in a fresh process; return what it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=folder, env=finds(root), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_imports_of_other_courses_scripts_find_the_same_modules(root, tmp_path):
    code = """
from going_modular.going_modular import data_setup, engine, model_builder, utils
from going_modular.going_modular.predictions import pred_and_plot_image
import going_modular.engine, going_modular.predictions
assert engine is going_modular.engine and engine.train.__module__ == engine.__name__
print(pred_and_plot_image.__name__, data_setup.__name__)
"""
    wanted = "pred_and_plot_image going_modular.data_setup\n"
    assert run_code(code, root, tmp_path) == wanted


def test_the_command_needs_no_torch_to_say_what_it_can(root, tmp_path):
    code = """
import sys
from going_modular.__main__ import main
for command in (["--help"], ["--version"], ["train", "--help"], ["trian"]):
    try:
        main(command)
    except SystemExit:
        print("loaded", *{"torch", "numpy", "PIL"} & sys.modules.keys())
"""
    printed = run_code(code, root, tmp_path)
    assert [line for line in printed.splitlines() if "loaded" in line] == ["loaded"] * 4


def said(capsys, *command):
    """Return what the command prints before it ends with status 0."""
    with pytest.raises(SystemExit) as end:
        main(list(command))
    assert end.value.code == 0
    return capsys.readouterr().out


def in_one_line(text):
    return " ".join(text.split())


def options_of(capsys, command):
    """Return {option: what a command's help says of it}."""
    _, *blocks = re.split(r"^  --", said(capsys, command, "--help"), flags=re.M)
    return {re.match(r"[\w-]+", block)[0]: in_one_line(block) for block in blocks}


def test_version(root, capsys):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert said(capsys, "--version") == f"going-modular {project['version']}\n"


def test_every_commands_help_says_what_it_does(capsys):
    overview = in_one_line(said(capsys, "--help"))
    assert list(COMMANDS) == (
        ["check", "train", "evaluate", "predict", "serve", "export", "profile"]
    )
    for name, command in COMMANDS.items():
        first_line = command.__doc__.splitlines()[0]
        assert f"{name} {first_line}" in overview
        text = in_one_line(said(capsys, name, "--help"))
        assert first_line in text and "Args" not in text and "Raises" not in text


@pytest.mark.parametrize("command", ["train", "profile"])
def test_help_names_every_option_with_its_default(command, capsys):
    options = options_of(capsys, command)
    assert "channels" not in options  # a folder's pictures always have 3
    for field in dataclasses.fields(Config):
        if field.name != "channels":
            text = options[field.name.replace("_", "-")]
            shown = f"(default: {field.default})" if field.default != "" else ""
            assert text.endswith(shown)


NAMES = {  # command and option: the names that can be chosen
    "train model": NETWORKS,
    "train schedule": SCHEDULES,
    "train precision": PRECISIONS,
    "train tracker": TRACKERS,
    "export format": EXPORTS,
}


@pytest.mark.parametrize(("where", "names"), NAMES.items(), ids=NAMES)
def test_help_lists_every_name_that_can_be_chosen(where, names, capsys):
    command, option = where.split()
    listed, _, _ = options_of(capsys, command)[option].partition(" (default: ")
    assert set(names) <= set(re.findall(r"\w+", listed))


# ---- Training


@pytest.mark.parametrize(
    "more",
    [
        "--precision bf16",
        "--precision fp16",
        "--precision bf16_weights --model cnn",
        "--accumulate 3",
        "--schedule warmup_cosine",
        "--model cnn",
        "--model mlp",
        "--model vit --patch-size 4",
    ],
)
def test_every_option_trains_and_its_result_predicts(data, tmp_path, capsys, more):
    out = tmp_path / "run"
    assert train(data, out, more) == 0
    assert len(rows_of(out)) == 3
    capsys.readouterr()
    assert main(["predict", str(out), str(data / "valid" / "day" / "0.png")]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "day 0." in printed.out and "night 0." in printed.out


def test_the_schedule_is_that_of_its_name(data, tmp_path):
    for name in SCHEDULES:
        assert train(data, tmp_path / name, f"--schedule {name} --lr 0.002") == 0
    rates = {
        name: [row["lr"] for row in rows_of(tmp_path / name)] for name in SCHEDULES
    }
    assert rates["constant"] == [0.002] * 3
    assert rates["step"] == pytest.approx([0.002, 0.0002, 0.0002])
    assert rates["cosine"] == pytest.approx([0.0015, 0.0005, 0])
    assert len(set(map(tuple, rates.values()))) == len(SCHEDULES)


def test_accumulation_changes_the_memory_and_not_the_result(data, tmp_path):
    for parts in (1, 3):
        assert train(data, tmp_path / str(parts), f"--accumulate {parts}") == 0
    assert_same_weights(tmp_path / "3", tmp_path / "1", atol=1e-5)


def test_pretrained_features_need_few_pictures(data, tmp_path):
    more = "--model effnet_lite0 --image-size 64 --augment none --epochs 8 --lr 0.02"
    assert train(data, tmp_path / "run", more) == 0
    assert max(row["valid_acc"] for row in rows_of(tmp_path / "run")) > 0.9
    answers = Predictor.load(tmp_path / "run")(data / "valid" / "night" / "1.png")
    assert answers[0][0] == "night"


@pytest.mark.parametrize("model", ["tinyvgg", "effnet_lite0"])
def test_its_pictures_are_prepared_as_the_predictor_prepares_them(
    data, tmp_path, model
):
    config = Config(data=str(data), model=model, image_size=32, augment="none")
    made = experiment.setup(config)
    Predictor(made.model, made.class_names, None, config=config).save(tmp_path)
    for loader in (made.train_dataloader, made.valid_dataloader):
        image, _ = loader.dataset[3]
        picture = read_picture(loader.dataset.samples[3][0])
        torch.testing.assert_close(image, Predictor.load(tmp_path).transform(picture))


def test_an_fp16_training_goes_on_with_its_scaler(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(data, whole, "--precision fp16") == 0
    assert "update" in torch.load(whole / "last.pt", weights_only=True)["parts"]
    rows = experiment.run(experiment.setup(read_config(whole)[0]), parts)
    assert next(rows)["epoch"] == 1
    rows.close()
    assert main(["train", "--out", str(parts), "--resume"]) == 0
    assert_same_weights(parts, whole)


def test_a_training_goes_on_with_the_same_classes_alone(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out) == 0
    moved = shutil.copytree(data, tmp_path / "moved")
    go_on = ["train", "--out", str(out), "--resume", "--data", str(moved)]
    assert main(go_on) == 0
    for split in ("train", "valid"):
        (moved / split / "day").rename(moved / split / "noon")
    before = (out / "config.json").read_bytes()
    capsys.readouterr()
    assert main(go_on) == 2
    message = capsys.readouterr().err
    assert "other class_names (['day', 'night'] then, ['night', 'noon'] now)" in message
    assert (out / "config.json").read_bytes() == before


def test_one_class_alone_and_a_file_in_place_of_the_folder_are_refused(
    data, tmp_path, capsys
):
    skip = shutil.ignore_patterns("night")
    single = shutil.copytree(data, tmp_path / "single", ignore=skip)
    assert train(single, tmp_path / "run") == 2
    assert "has one class, day" in capsys.readouterr().err
    (tmp_path / "text.txt").write_text("mine")
    assert train(data, tmp_path / "text.txt") == 2
    message = capsys.readouterr().err
    assert "text.txt" in message and "Choose another folder" in message
    assert (tmp_path / "text.txt").read_text() == "mine"


def test_a_training_that_only_guesses_says_what_was_not_tried(
    tmp_path, monkeypatch, capsys
):
    data, noise = tmp_path / "data", np.random.default_rng(0)
    write_pictures(data, ("night", "day"), {"train": 8, "valid": 40})
    for path in data.rglob("*.png"):  # there is nothing to tell them apart
        pixels = noise.integers(0, 256, (20, 20, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    tips = {
        "": "try --model effnet_lite0 --image-size 160",
        "--model cnn": "try --model effnet_lite0 --image-size 160",
        "--model effnet_lite0 --image-size 32": "try --unfreeze 2",
        "--model effnet_lite0 --image-size 32 --unfreeze 1": "look at the pictures",
        "--model torchvision:mnasnet0_5 --image-size 32": "try --model effnet_lite0",
    }
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))  # has no weights
    for number, (more, tip) in enumerate(tips.items()):
        assert train(data, tmp_path / str(number), f"{more} --lr 1e-12") == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith(
            f"With 2 classes that is hardly better than guessing: {tip}"
        )


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_says_how_to_look_at_what_it_wrote(tracker, tmp_path, capsys):
    rows = [dict.fromkeys(("train_loss", "valid_loss"), 1.0) | {"epoch": 1}]
    rows[0] |= {"train_acc": 1.0, "valid_acc": 1.0, "valid_balanced": 1.0}
    facts = {"class_names": ["a", "b"], "model": torch.nn.Linear(2, 2)}
    made = types.SimpleNamespace(config=Config(tracker=tracker, epochs=1), **facts)
    finish(made, tmp_path / "run", rows, largest=0.5)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"look at it: {tracker} ") and str(tmp_path) in last


FOREIGN_SPELLINGS = [
    "--workers 0 --imgsz 16 --batch 8 --patience 3",
    "--batch_size=8 --img-size 16 --learning_rate 0.01 --num_workers 0",
    "--per_device_train_batch_size 8 --num_train_epochs 2 --label_smoothing_factor 0",
    "--no-augment --cos-lr --wd 0.1 --arch mlp",
]


@pytest.mark.parametrize("words", FOREIGN_SPELLINGS)
def test_spellings_of_other_tools_are_understood(words, monkeypatch):
    given = {}
    monkeypatch.setitem(COMMANDS, "train", lambda **options: given.update(options))
    monkeypatch.setattr(COMMANDS["train"], "__doc__", train_command.__doc__)
    monkeypatch.setattr(
        COMMANDS["train"], "__signature__", inspect.signature(train_command), False
    )
    assert main(["train", *words.split()]) == 0
    config = Config(**given)
    assert len(given) == len(re.findall("--", words))
    for flag, name in SPELLINGS.items():
        if flag in words.replace("_", "-").split():
            assert name.partition("=")[0].removeprefix("--").replace("-", "_") in given
    assert config.image_size in (16, Config.image_size)


def test_each_foreign_spelling_is_an_option_of_ours(capsys):
    options = options_of(capsys, "train")
    for flag, name in SPELLINGS.items():
        assert name.partition("=")[0].removeprefix("--") in options
        assert flag.removeprefix("--") not in options


SLIPS = {  # a command: what is meant perhaps
    "train --epoks 3": "did you mean --epochs?",
    "train --modle cnn": "did you mean --model?",
    "train --class-weight balanced --class-wieghts balanced": "--class-weights?",
    "predcit": "did you mean predict?",
    "exprot": "did you mean export?",
}


@pytest.mark.parametrize("words", SLIPS)
def test_a_slip_is_told_with_what_is_meant_perhaps(words, capsys):
    assert_told(words.split(), SLIPS[words], capsys)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_for_a_shell_is_printed(shell, capsys):
    printed = said(capsys, "--print-completion", shell)
    assert "going-modular" in printed and "label-smoothing" in printed


@pytest.mark.parametrize("pattern", ["*.png", "[01].png", "?.png"])
def test_a_pattern_that_no_shell_has_expanded_is(
    trained, data, monkeypatch, capsys, pattern
):
    monkeypatch.chdir(data / "valid" / "day")
    assert main(["predict", str(trained), pattern]) == 0
    count = 2 if pattern.startswith("[") else 6
    assert len(capsys.readouterr().out.splitlines()) == count


def test_a_device_is_chosen_by_name(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOING_MODULAR_DEVICE", "nowhere")
    assert train(data, tmp_path / "run", "--epochs 1") == 2
    assert "device is 'nowhere': choose" in capsys.readouterr().err
    assert train(data, tmp_path / "run", "--epochs 1 --device cpu") == 0


# ---- How it ends: exit statuses, streams and signals

ENDS = {
    "numpy's memory": (
        MemoryError("Unable to allocate 7. GiB"),
        3,
        "too little memory",
    ),
    "torch's on a CPU": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        3,
        "you tried): choose a smaller --batch-size",
    ),
    "a GPU's": (
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        3,
        "memory. Tried)",
    ),
    "a size": (RuntimeError("Storage size calculation overflowed"), 3, "overflowed)"),
    "a killed loader": (
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        3,
        "is killed by signal: Killed.): choose",
    ),
    "NaN": (FloatingPointError("epoch 1: NaN"), 4, "error: epoch 1: NaN"),
    "bad input": (ValueError("lr is -1"), 2, "error: lr is -1"),
    "a file": (FileNotFoundError("no folder x"), 2, "error: no folder x"),
    "in a loader": (
        ValueError("Caught ValueError in\nTraceback\nValueError: 3.png"),
        2,
        "error: ValueError: 3.png",
    ),
    "Ctrl-C": (KeyboardInterrupt(), 130, "interrupted: before its end"),
    "SIGTERM": (Ended("3 of 9 epochs"), 143, "interrupted: 3 of 9 epochs"),
}


@pytest.mark.parametrize(("error", "status", "text"), ENDS.values(), ids=ENDS)
def test_each_end_has_its_status_and_one_line(error, status, text, monkeypatch, capsys):
    def fail(run, pictures):
        raise error

    fail.__doc__ = COMMANDS["predict"].__doc__
    monkeypatch.setitem(COMMANDS, "predict", fail)
    assert main(["predict", "run", "x.png"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line and len(line) < 400


def test_where_memory_ran_out_resume_takes_what_is_advised_with_it():
    _, line = verdict(MemoryError())
    _, _, advice = line.partition("--resume")
    names = {name.replace("-", "_") for name in re.findall(r"--([\w-]+)", advice)}
    assert names and names <= {*MAY_CHANGE}


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shapes")])
def test_a_mistake_of_ours_shows_where_it_is(error, monkeypatch):
    def fail(run, pictures):
        raise error

    fail.__doc__ = COMMANDS["predict"].__doc__
    monkeypatch.setitem(COMMANDS, "predict", fail)
    with pytest.raises(type(error)):
        main(["predict", "run", "x.png"])


def course(root, *words, **options):
    """Return a started process of the command."""
    environment = finds(root) | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    command = [sys.executable, "-m", "going_modular", *words]
    return subprocess.Popen(command, env=environment, **options)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_a_name_that_the_output_cannot_spell_loses_no_training(
    root, data, tmp_path, encoding
):
    out, env = tmp_path / "狗", {"PYTHONIOENCODING": encoding}
    command = train_arguments(data, out, "--epochs 1")
    with course(root, *command, stdout=subprocess.PIPE, env=env) as process:
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and len(rows_of(out)) == 1
    assert b"\\u72d7" in printed.splitlines()[1]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_every_command_speaks_where_a_name_cannot_be_spelled(
    tmp_path, encoding, monkeypatch
):
    """As on a Windows console: the names are spelled with escapes, nothing stops."""
    counts = {"train": 8, "valid": 4, "test": 4}
    data = write_pictures(tmp_path / "狗 ✓", ("猫", "√ é"), counts)
    out, picture = tmp_path / "œuvre ✓", data / "test" / "猫" / "1.png"
    unread = data / "unread √.png"
    written = {
        name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("out", "err")
    }
    monkeypatch.setattr(sys, "stdout", written["out"])
    monkeypatch.setattr(sys, "stderr", written["err"])
    statuses = [
        main([str(word) for word in command])
        for command in (
            ["check", data],
            train_arguments(data, out, "--epochs 1"),
            ["evaluate", out],
            ["predict", out, picture],
            ["predict", out, unread],
            ["export", out],
        )
    ]
    assert statuses == [0, 0, 0, 0, 2, 0]
    said = {}
    for name, stream in written.items():
        stream.flush()
        said[name] = stream.buffer.getvalue().decode(encoding)
    assert "\\u732b 8" in said["out"] and said["out"].count("\\u732b") >= 5
    assert said["err"].startswith("error: ") and "unread \\u221a.png" in said["err"]
    assert len(rows_of(out)) == 1 and (out / "model.onnx").exists()


@pytest.mark.parametrize("stream", ["closed pipe", "full disk"])
def test_an_output_that_takes_no_more_loses_no_training(root, data, tmp_path, stream):
    command = train_arguments(data, tmp_path / "run")
    if stream == "closed pipe":
        reads, writes = os.pipe()
        os.close(reads)
    elif not os.path.exists("/dev/full"):
        pytest.skip("there is no disk that is always full")
    else:
        writes = os.open("/dev/full", os.O_WRONLY)
    with course(root, *command, stdout=writes, stderr=subprocess.PIPE) as process:
        os.close(writes)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, b"")
    assert (
        len(rows_of(tmp_path / "run")) == 3 and (tmp_path / "run/curves.png").exists()
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_sigterm_ends_a_training_as_ctrl_c_does(root, data, tmp_path):
    out = tmp_path / "run"
    command = train_arguments(data, out, "--epochs 60")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with course(root, *command, **pipes) as process:
        first = process.stdout.readline()  # a line an epoch, as soon as it is over
        assert first.startswith("epoch 1 of 60: ") and process.poll() is None
        process.terminate()
        _, errors = process.communicate(timeout=60)
    (line,) = errors.splitlines()
    kept = len(rows_of(out))
    assert process.returncode == 143 and 1 <= kept < 60
    assert line.startswith(f"interrupted: epochs kept in {out}: {kept};")
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert train(data, tmp_path / "whole", "--epochs 60") == 0
    assert_same_weights(out, tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT so")
@pytest.mark.parametrize("module", ["difflib", "numpy", "torch.nn", "torchvision"])
def test_ctrl_c_in_an_import_ends_it_at_once(root, data, tmp_path, module):
    words = train_arguments(data, tmp_path / "run")
    command = [sys.executable, "-X", "importtime", "-m", "going_modular", *words]
    streams = {"stderr": subprocess.PIPE, "env": finds(root), "text": True}
    with subprocess.Popen(command, **streams) as process:
        for line in process.stderr:  # a line as soon as a module is there
            if line.rpartition("|")[2].strip() == module:
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    told = [line for line in errors.splitlines() if not line.startswith("import time")]
    assert process.returncode == 130 and told == ["interrupted: nothing had begun"]
    assert not (tmp_path / "run").exists()


SIZES, RANKS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE"), ("RANK", "LOCAL_RANK")
PAIR = dict.fromkeys(SIZES, "2") | dict.fromkeys(RANKS, "0") | {"MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"RANK": ""}, 0),
        ({"RANK": "", "WORLD_SIZE": ""}, 0),
        ({"RANK": "first", "WORLD_SIZE": "1"}, 0),
        ({"WORLD_SIZE": "abc"}, 2),
        ({"WORLD_SIZE": "2"}, 2),
        ({"WORLD_SIZE": "2", "RANK": "", "LOCAL_WORLD_SIZE": "2"}, 2),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "2"}, 2),
        ({"WORLD_SIZE": "-2", "RANK": "0"}, 2),
        ({"WORLD_SIZE": "2.0", "RANK": "0"}, 2),
        (PAIR | {"RANK": "2"}, 2),
        (PAIR | {"RANK": "5", "LOCAL_RANK": "1"}, 2),
        (PAIR | {"LOCAL_RANK": "2"}, 2),
        (PAIR | {"WORLD_SIZE": "0"}, 2),
    ],
)
def test_an_odd_environment_is_told(data, tmp_path, monkeypatch, capsys, given, status):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert train(data, tmp_path / "run", "--epochs 1") == status
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == (status == 2)
    assert all("torchrun" in line and "WORLD_SIZE" in line for line in errors)
    assert (tmp_path / "run").exists() == (status == 0)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_a_killed_loader_is_told_as_such(root, data, tmp_path):
    out = tmp_path / "run"
    command = train_arguments(data, out, "--epochs 300 --num-workers 1")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with course(root, *command, **pipes) as process:
        process.stdout.readline()
        killed = []
        while not killed and process.poll() is None:
            for child in psutil.Process(process.pid).children():
                with contextlib.suppress(psutil.Error):
                    if "tracker" not in " ".join(child.cmdline()):
                        child.kill()
                        killed.append(child)
        _, errors = process.communicate(timeout=60)
    line = errors.splitlines()[-1]
    assert process.returncode == 3 and "worker (pid" in line and "--resume" in line
    assert 1 <= len(rows_of(out)) < 300


def test_a_machine_without_a_compiler_says_so(data, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

    monkeypatch.setattr(updates.torch, "compile", fail)
    assert train(data, tmp_path / "run", "--compile") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "cannot compile models" in message
    assert "No working C++ compiler found" in message and "more" not in message


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_it_learns_the_same(data, tmp_path):
    for name, more in (("eager", ""), ("compiled", "--compile")):
        assert train(data, tmp_path / name, f"--epochs 1 {more}") == 0
    assert_same_weights(tmp_path / "compiled", tmp_path / "eager", atol=1e-4)


# ---- What comes after it


def test_predict_takes_folders_and_names_what_it_cannot_read(
    trained, data, tmp_path, capsys
):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    sources = [tmp_path / "broken.png", data / "valid" / "night", "missing.png"]
    assert main(["predict", str(trained), *map(str, sources)]) == 2
    printed = capsys.readouterr()
    answers = printed.out.splitlines()
    assert len(answers) == 6 and all(".png: night 0." in line for line in answers)
    broken, missing, summary = printed.err.splitlines()
    assert "broken.png is not a picture" in broken and "missing.png" in missing
    assert summary.startswith("error: 2 of 8 pictures")


def assert_onnx_agrees(path, predictor, picture, atol=1e-4):
    """Assert that an ONNX file gives the predictor's logits for a picture."""
    images = predictor.transform(read_picture(picture))[None]
    with torch.inference_mode():
        wanted = predictor.model(images).numpy()
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, wanted, atol=atol)


def test_export_writes_models_that_answer_the_same(trained, data, tmp_path, capsys):
    for form in EXPORTS:
        target = tmp_path / form
        export = ["export", str(trained), "--format", form, "--to", str(target)]
        assert main(export) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{target}: ") and (
            target.is_dir() == (form in ("web", "demo"))
        )
        described = "by squash, pixel / 255; out: logits of day, night" in printed
        assert described == (form in ("onnx", "int8"))
    assert len(list((tmp_path / "demo" / "examples").iterdir())) == 3
    predictor, demo = Predictor.load(trained), Predictor.load(tmp_path / "demo")
    picture = data / "valid" / "day" / "2.png"
    assert dict(demo(picture)) == pytest.approx(dict(predictor(picture)), abs=1e-6)
    assert_onnx_agrees(tmp_path / "onnx", predictor, picture)
    assert_onnx_agrees(tmp_path / "int8", predictor, picture, atol=0.5)
    assert_onnx_agrees(tmp_path / "web" / "model.onnx", predictor, picture, atol=0.5)


def test_a_web_export_is_a_page_its_model_and_what_its_input_is(
    trained, tmp_path, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    export, target = ["export", str(run), "--format", "web"], run / "web"
    assert main(export) == 0
    _, said = capsys.readouterr().out.splitlines()
    assert "cdn.jsdelivr.net" in said and "--bind 127.0.0.1" in said
    assert {path.name for path in target.iterdir()} == (
        {"index.html", "style.css", "classify.js", "model.onnx", "model.json"}
    )
    assert json.loads((target / "model.json").read_text()) == {
        "class_names": ["day", "night"],
        "image_size": 16,
        "resize": "squash",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "unsure_below": 0.5,
    }
    assert main(export) == 2  # it is not replaced
    assert f"{target} is there already" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["int8", "web"])
def test_an_export_that_fails_leaves_nothing(trained, tmp_path, capsys, form):
    (tmp_path / "empty").mkdir()
    command = ["export", str(trained), "--format", form, "--to", str(tmp_path / "out")]
    assert main([*command, "--data", str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_export_writes_into_the_trainings_folder_unless_told_otherwise(trained):
    assert main(["export", str(trained)]) == 0
    (trained / "model.onnx").unlink()  # raises if it is not there


@pytest.mark.parametrize("form", EXPORTS)
def test_export_does_not_overwrite_what_is_there(trained, tmp_path, capsys, form):
    (tmp_path / "mine.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "mine.txt"):
        export = ["export", str(trained), "--format", form, "--to", str(target)]
        assert main(export) == 2
        assert "is there already" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_profile_prints_speed_share_and_operations_and_writes_a_trace(tmp_path, capsys):
    sizes = "--model vit --image-size 16 --patch-size 4 --batch-size 4"
    trace = tmp_path / "trace.json"
    assert main(["profile", *sizes.split(), "--trace", str(trace)]) == 0
    printed = capsys.readouterr().out
    assert "pictures a second" in printed and "aten::" in printed and "%" in printed
    written = trace.read_text()
    assert json.loads(written)["traceEvents"]
    assert main(["profile", *sizes.split(), "--trace", str(trace)]) == 2
    assert "is there already: choose another --trace" in capsys.readouterr().err
    assert trace.read_text() == written


def test_a_taken_port_is_named(trained, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(trained), "--port", str(port)]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"{port} is no free port of 127.0.0.1: choose another, 1 to" in message


# ---- Mistakes

WRONG_TRAININGS = {  # options: what is said
    "--precision fp8": "unknown precision 'fp8': choose one of fp32, bf16, fp16",
    "--tracker paper": "unknown tracker 'paper': choose one of none, tensorboard",
    "--model resnet": "unknown model 'resnet': choose one of tinyvgg, cnn, mlp",
    "--schedule linear": "unknown schedule 'linear': choose one of constant, step",
    "--accumulate 0": "accumulate is 0: choose a number above 0",
    "--accumulate 64": "accumulate is 64: a batch of 8",
    "--epochs 0": "epochs is 0",
    "--lr nan": "lr is nan",
    "--batch-size -1": "batch_size is -1",
    "--image-size 2": "image_size 2",
    "--image-size 300000": "image_size is 300000: choose a number above 0, up to 2048",
    "--hidden-units 16000": "GB to train, this machine has",
    "--model vit --embed-dim 16384 --num-heads 1 --depth 99": "GB to train",
    "--model mlp --image-size 2048 --hidden-units 16000": "GB to train",
    "--device bogus": "device is 'bogus': choose",
    "--device cuda:99": "device is 'cuda:99': choose",
    "--early-stopping -1": "early_stopping is -1: choose a number from 0",
    "--model vit --image-size 30": "patch_size 8 does not divide image_size 30",
    "--model vit --depth 0": "depth is 0",
    "--data nowhere": "no folder nowhere",
    "--epochs many": "invalid int value: 'many'; --help",
    "--colour": "unrecognized arguments: --colour; --help",
    "--epochs": "expected one argument; --help",
}
WRONG_COMMANDS = {  # words, of which RUN is the folder of a training: what is said
    "": "the following arguments are required: COMMAND; --help",
    "trian": "invalid choice: 'trian'",
    "predict nowhere x.png": f"{os.path.join('nowhere', 'config.json')} is missing",
    "serve nowhere": "config.json is missing",
    "export nowhere": "config.json is missing",
    "export nowhere --format web": "config.json is missing",
    "export RUN --format pdf": "unknown format 'pdf': choose one of onnx, int8, web",
    "serve RUN --port 80000": "80000 is no free port of 127.0.0.1: choose another",
    "serve RUN --examples x.png": "no picture x.png",
    "serve RUN --unsure-below 2": "unsure_below is 2.0: choose 0 to 1",
    "profile --model vit --num-heads 5": "num_heads 5 does not divide embed_dim 64",
    f"profile --image-size 16 --trace {os.devnull}/trace": f"cannot write {os.devnull}",
}


def assert_told(command, wanted, capsys):
    """Assert that a command ends with status 2 and one line on stderr."""
    try:
        status = main(command)
    except SystemExit as end:
        status = end.code
    (message,) = capsys.readouterr().err.splitlines()
    assert status == 2 and message.startswith("error: ") and wanted in message, message


@pytest.mark.parametrize("more", WRONG_TRAININGS)
def test_a_training_that_cannot_be_is_told_in_one_line(more, data, tmp_path, capsys):
    command = train_arguments(data, tmp_path / "run", more)
    assert_told(command, WRONG_TRAININGS[more], capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", WRONG_COMMANDS)
def test_mistakes_end_in_a_sentence_and_status_2(words, trained, capsys):
    command = [str(trained) if word == "RUN" else word for word in words.split()]
    assert_told(command, WRONG_COMMANDS[words], capsys)


# ---- A network of one's own: one entry in NETWORKS, and every door knows it

OWN_NETWORK = """
from going_modular.networks import NETWORKS, Network


def build_resnet18(config, num_classes):
    from torchvision.models import resnet18

    return resnet18(num_classes=num_classes)


NETWORKS["resnet18"] = Network(
    build_resnet18, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""
OWN_COMMAND = """
import sys

import own_network
from going_modular.__main__ import main

sys.exit(main())
"""


def started(folder, environment, *words):
    """Return a process of Python with these words, whose output can be read."""
    command = [sys.executable, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


@pytest.fixture(scope="module")
def own(root, tmp_path_factory):
    """A function that starts a user's script: the command with one network more."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "own_network.py").write_text(OWN_NETWORK)
    (folder / "course.py").write_text(OWN_COMMAND)
    environment = finds(root) | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    yield lambda *words: started(folder, environment, "course.py", *words)
    shutil.rmtree(folder)


def printed_by(process):
    """Return what a process prints before it ends with status 0."""
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    return printed


RESNET = "--model resnet18 --image-size 32 --epochs 5 --lr 1e-3"


@pytest.fixture(scope="module")
def resumed(own, data, tmp_path_factory):
    """The folder of that network's training, killed after an epoch and resumed."""
    out = tmp_path_factory.mktemp("resnet") / "run"
    with own(*train_arguments(data, out, RESNET)) as process:
        while not (out / "last.pt").exists():
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        process.kill()
    kept = torch.load(out / "last.pt", weights_only=True)["epoch"]
    assert process.returncode != 0 and 1 <= kept < 5
    printed = printed_by(own("train", "--out", out, "--resume"))
    assert "of 5 is the best" in printed
    yield out
    shutil.rmtree(out.parent)  # a ResNet-18's checkpoints are large


@pytest.fixture
def registered(monkeypatch):
    """Register the network in this process too, until the test ends."""
    monkeypatch.setitem(NETWORKS, "resnet18", None)
    exec(OWN_NETWORK, {})


@pytest.fixture(scope="module")
def picture(data):
    return data / "valid" / "day" / "0.png"


def test_a_network_of_ones_own_goes_on_as_if_never_killed(resumed, data, registered):
    whole = resumed.parent / "whole"
    assert train(data, whole, RESNET) == 0
    assert rows_of(resumed) == rows_of(whole)
    assert_same_weights(resumed, whole)
    torch.testing.assert_close(
        weights_of(resumed, "last.pt"), weights_of(whole, "last.pt"), rtol=0, atol=0
    )


def test_a_network_of_ones_own_predicts(own, resumed, picture, registered):
    ranked = Predictor.load(resumed)(picture)
    told = ", ".join(f"{name} {prob:.3f}" for name, prob in ranked)
    printed = printed_by(own("predict", resumed, picture))
    assert printed == f"{picture}: {told}\n" and ranked[0][0] == "day"


def test_a_network_of_ones_own_is_exported(own, resumed, picture, registered):
    printed = printed_by(own("export", resumed))
    assert (
        "RGB, resized by squash, (pixel / 255 - (0.485, 0.456, 0.406)) / (0.229"
        in printed
    )
    assert_onnx_agrees(resumed / "model.onnx", Predictor.load(resumed), picture)


def assert_served(server, port, resumed, picture):
    """Assert that a page gives the predictor's answer, and end it."""
    try:
        found = ask_page(server, port, picture)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert found == pytest.approx(dict(Predictor.load(resumed)(picture)), abs=1e-5)


def test_a_network_of_ones_own_is_served(own, resumed, picture, registered):
    port = free_port()
    assert_served(own("serve", resumed, "--port", port), port, resumed, picture)


def test_a_demo_of_it_works_once_its_entry_is_brought_along(
    own, resumed, picture, request
):
    """A demo holds modules of the library alone, and says what it does not know."""
    printed_by(own("export", resumed, "--format", "demo"))
    demo, port = resumed / "demo", free_port()
    with pytest.raises(ValueError, match="unknown model 'resnet18': choose one of"):
        Predictor.load(demo)
    request.getfixturevalue("registered")
    (demo / "own_network.py").write_text(OWN_NETWORK)
    app = (demo / "app.py").read_text()
    (demo / "app.py").write_text(f"import own_network\n\n{app}")
    # Nothing of this repository is within its reach.
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port)}
    assert_served(started(demo, environment, "app.py"), port, resumed, picture)
