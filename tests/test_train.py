"""Lesson 05: a training by the command, kept, killed, resumed, and its mistakes."""

import errno
import io
import json
import math
import multiprocessing
import random
import re
import shutil
import signal
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from going_modular import experiment, image_folder, pictures, states
from going_modular.__main__ import main
from going_modular.config import Config, read_config
from going_modular.networks import NETWORKS
from going_modular.utils import load_model, save_model
from tests.folders import rows_of, train_arguments, weights_of, write_pictures

KEPT = ["best.pt", "config.json", "last.pt", "metrics.jsonl"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with train/ and valid/ of two classes, 16 and 6 pictures of each."""
    folder = tmp_path_factory.mktemp("pictures")
    return write_pictures(folder, ("cat", "dog"), {"train": 16, "valid": 6})


def train(data, out, more=""):
    """Run the command and return its exit status."""
    return main(train_arguments(data, out, f"--model cnn {more}"))


def go_on(out, more=""):
    return main(["train", "--out", str(out), "--resume", *more.split()])


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def same_weights(first, second, name="last.pt"):
    return same(weights_of(first, name), weights_of(second, name))


def test_the_command_leaves_what_it_promises(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out) == 0
    printed = capsys.readouterr()
    told, *hint = printed.out.splitlines()
    assert printed.err == "" and len(hint) < 2
    assert sorted(path.name for path in out.iterdir()) == KEPT
    rows = rows_of(out)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    names = {"train_loss", "train_acc", "valid_loss", "valid_acc", "lr"}
    assert all(row.keys() == names | {"epoch"} for row in rows)
    best = max(rows, key=lambda row: (row["valid_acc"], -row["valid_loss"]))
    which = f"epoch {best['epoch']} of 3 is the best, valid accuracy"
    assert f"{which} {best['valid_acc']:.3f}" in told
    assert bool(hint) == (best["valid_acc"] < 0.6)  # no better than guessing
    content = json.loads((out / "config.json").read_text())
    assert content["class_names"] == ["cat", "dog"]
    assert content["versions"]["torch"] == torch.__version__
    config, class_names = read_config(out)
    assert config.model == "cnn" and config.seed == 1 and class_names == ["cat", "dog"]
    load_model(NETWORKS["cnn"].build(config, 2), out / "best.pt")


@pytest.mark.parametrize("model", ["tinyvgg", "cnn"])
def test_two_runs_are_identical_with_any_number_of_workers(data, tmp_path, model):
    for name, workers in (("first", 0), ("second", 0), ("third", 2)):
        torch.manual_seed(random.randrange(1000))
        more = f"--model {model} --epochs 2 --num-workers {workers}"
        assert train(data, tmp_path / name, more) == 0
    for other in ("second", "third"):
        assert same_weights(tmp_path / "first", tmp_path / other)
        assert rows_of(tmp_path / "first") == rows_of(tmp_path / other)


def test_too_many_pictures_for_memory_give_the_same(data, tmp_path, monkeypatch):
    assert train(data, tmp_path / "kept") == 0
    monkeypatch.setattr(image_folder, "KEPT_BYTES", 0)
    assert train(data, tmp_path / "read again") == 0
    assert same_weights(tmp_path / "kept", tmp_path / "read again")


@pytest.fixture
def in_epoch(monkeypatch):
    """Give a function that changes an epoch's third batch, until it is undone."""

    def change_batch(number, change):
        def batches(loader, *_, **__):  # in place of the bar
            for step, batch in enumerate(loader):
                is_it = step == 2 and loader.batch_sampler.epoch == number
                yield change(*batch) if is_it else batch

        monkeypatch.setattr(experiment, "tqdm", batches)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield change_batch
    signal.signal(signal.SIGINT, before)


def press_ctrl_c(*_):
    signal.raise_signal(signal.SIGINT)


def test_an_interruption_keeps_everything_and_says_how_to_go_on(
    data, tmp_path, monkeypatch, in_epoch, capsys
):
    in_epoch(3, press_ctrl_c)
    out = tmp_path / "run"
    assert train(data, out) == 130
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("interrupted: 2 of 3 epochs")
    assert str(out) in message and "--resume" in message
    assert not same(weights_of(out, "interrupted.pt"), weights_of(out, "last.pt"))
    monkeypatch.undo()
    assert go_on(out) == 0
    assert train(data, tmp_path / "whole") == 0
    assert same_weights(out, tmp_path / "whole")


def test_nan_ends_with_status_1_and_keeps_the_epochs_before(
    data, tmp_path, monkeypatch, in_epoch, capsys
):
    in_epoch(3, lambda X, y: (X * math.nan, y))
    out = tmp_path / "run"
    assert train(data, out) == 1
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: epoch 3: NaN or infinity at step 3 of 4")
    assert len(rows_of(out)) == 2
    monkeypatch.undo()
    assert go_on(out) == 0
    assert train(data, tmp_path / "whole") == 0
    assert same_weights(out, tmp_path / "whole")


def test_a_finished_training_resumed_says_its_result_again(data, tmp_path, capsys):
    assert train(data, tmp_path / "run") == 0
    first = capsys.readouterr().out
    assert go_on(tmp_path / "run") == 0
    assert capsys.readouterr().out == first


def test_resume_where_nothing_is_kept_begins_anew(data, tmp_path):
    assert train(data, tmp_path / "run", "--resume") == 0
    assert train(data, tmp_path / "whole") == 0
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_the_folder_may_move_and_the_workers_change(
    data, tmp_path, monkeypatch, in_epoch
):
    in_epoch(2, press_ctrl_c)
    assert train(data, tmp_path / "run") == 130
    monkeypatch.undo()
    moved = shutil.copytree(data, tmp_path / "moved")
    assert go_on(tmp_path / "run", f"--data {moved} --num-workers 1") == 0
    assert train(data, tmp_path / "whole") == 0
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_the_bar_shows_epoch_batches_and_time_left(data, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    assert train(data, tmp_path / "run") == 0
    shown = terminal.getvalue()
    for epoch in (1, 2, 3):
        assert f"epoch {epoch} of 3:" in shown
    assert "0/4 [00:00<" in shown and "\n" not in shown


def fail_with_a_full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def spoil(folder, what, monkeypatch):
    """Change a folder of pictures, or the limits, so that one thing is wrong."""
    victim = folder / "train" / "cat" / "3.png"
    if what == "no folder":
        shutil.rmtree(folder)
    elif what == "no valid":
        (folder / "valid").rename(folder / "validation")
    elif what == "empty class":
        for path in (folder / "train" / "dog").iterdir():
            path.unlink()
    elif what == "other classes":
        (folder / "valid" / "dog").rename(folder / "valid" / "wolf")
    elif what == "text":
        (folder / "train" / "cat" / "notes.jpg").write_text("not a picture")
    elif what == "truncated":
        victim.write_bytes(victim.read_bytes()[:300])
    elif what == "too large":
        monkeypatch.setattr(pictures, "MAX_PIXELS", 399)
    elif what == "zip":
        shutil.rmtree(folder)
        with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
            archive.writestr("../outside.png", b"x")
    elif what == "full disk":
        monkeypatch.setattr(torch, "save", fail_with_a_full_disk)


BAD_FOLDERS = {
    "no folder": "no folder .*pictures",
    "no valid": "no folder .*valid",
    "empty class": "dog holds no picture",
    "other classes": r"same classes.*first has \['dog'\].*second \['wolf'\]",
    "text": r"notes\.jpg is not a picture.*replace it",
    "truncated": r"3\.png cannot be decoded",
    "too large": r"\.png has 20 × 20 pixels.*limit is 399",
    "zip": r"\.zip.*\.\./outside\.png",
    "full disk": r"cannot write .*No space left on device.*Choose a folder",
}


@pytest.mark.parametrize(
    "kept", [True, False], ids=["in memory", "from disk by workers"]
)
@pytest.mark.parametrize("what", BAD_FOLDERS)
def test_bad_folders(data, tmp_path, monkeypatch, capsys, what, kept):
    folder = shutil.copytree(data, tmp_path / "pictures")
    spoil(folder, what, monkeypatch)
    if not kept:
        monkeypatch.setattr(image_folder, "KEPT_BYTES", 0)
        if what == "too large" and multiprocessing.get_start_method() != "fork":
            pytest.skip("a patched limit does not reach a process that begins anew")
    status = train(folder, tmp_path / "run", "" if kept else "--num-workers 1")
    assert_one_line(status, capsys, BAD_FOLDERS[what])
    for outside in (tmp_path.parent, tmp_path):
        assert not (outside / "outside.png").exists()


def assert_one_line(status, capsys, pattern):
    (message,) = capsys.readouterr().err.splitlines()
    assert status == 2 and message.startswith("error: ")
    assert re.search(pattern, message), message


@pytest.mark.parametrize(
    ("more", "pattern"),
    [
        ("", "holds a training: add --resume"),
        ("--resume --model tinyvgg", "trained with model cnn, not tinyvgg: keep cnn"),
        ("--resume --epochs 9", "trained with epochs 3, not 9"),
        ("last.pt", "last.pt holds no plain weights"),
        ("config.json", "config.json describes no training"),
    ],
)
def test_a_training_that_cannot_go_on(data, tmp_path, capsys, more, pattern):
    out = tmp_path / "run"
    assert train(data, out) == 0
    if (out / more).is_file():
        (out / more).write_text("{")
        more = "--resume"
    old = (out / "last.pt").read_bytes()
    capsys.readouterr()
    assert_one_line(train(data, out, more), capsys, pattern)
    assert (out / "last.pt").read_bytes() == old


BAD_CONFIGS = {
    "NaN": ({"lr": math.nan}, "lr is nan: choose a number above 0"),
    "zero": ({"lr": 0}, "lr is 0: choose a number above 0"),
    "no epoch": ({"epochs": 0}, "epochs is 0: choose a number above 0"),
    "infinite": ({"lr": math.inf}, "lr is inf: choose"),
    "fraction": ({"epochs": 2.5}, "epochs is 2.5: .*type int"),
    "negative": ({"weight_decay": -0.1}, "weight_decay is -0.1: .* from 0"),
    "negative seed": ({"seed": -1}, "seed is -1: choose a number from 0"),
    "seed": ({"seed": 2**32}, "seed is 4294967296: .* up to 4294967295"),
    "text": ({"batch_size": "64"}, "batch_size is '64': .*type int"),
    "number": ({"augment": 1}, "augment is 1: .*type str"),
    "old switch": ({"augment": True}, "augment is True: .*type str"),
    "word": ({"augment": "heavy"}, "augment is 'heavy': .*none, light, strong"),
    "shape": ({"resize": "stretch"}, "resize is 'stretch': .*squash, crop, pad"),
    "weights": ({"class_weights": "2"}, "class_weights is '2': .*none, balanced"),
    "name": ({"model": None}, "model is None: .*type str"),
    "switch": ({"hidden_units": True}, "hidden_units is True: .*type int"),
    "huge images": ({"image_size": 2049}, "image_size is 2049: .* up to 2048"),
    "depth": ({"depth": 101}, "depth is 101: .* up to 100"),
    "too wide": ({"hidden_units": 10**6}, "hidden_units is 1000000: .* up to 16384"),
    "too many digits": ({"lr": 10**999}, r"lr is 10+\.\.\.0+: .* up to 4294967295"),
    "share": ({"valid_share": 1.5}, "valid_share is 1.5: .* from 0, up to 0.9"),
    "workers": ({"num_workers": 10**5}, "num_workers is 100000: .* up to 256"),
    "list": ({"model": [1] * 999}, r"model is \[1, 1, .*\.\.\.\]: .*type str"),
    "micro-batches": ({"accumulate": 33}, "accumulate is 33: a batch of 32"),
}


@pytest.mark.parametrize(("settings", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_configs_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_a_config_of_wrong_values_is_damaged(data, tmp_path, capsys):
    assert train(data, tmp_path / "run") == 0
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"augment": "no"}))
    capsys.readouterr()
    status = go_on(tmp_path / "run")
    assert_one_line(
        status, capsys, "config.json describes no training.*augment is 'no'"
    )


ODD_CONFIGS = {
    "Infinity": ('"lr": Infinity', "lr is inf"),
    "minus zero": ('"seed": -1', "seed is -1"),
    "fraction": ('"epochs": 1.0', "epochs is 1.0: it must be of type int"),
    "list": ('"image_size": [16, 16]', r"image_size is \[16, 16\]"),
    "nothing": ('"schedule": null', "schedule is None"),
    "many digits": (f'"lr": {"9" * 5000}', "4300 digits"),
    "unknown": ('"colour": 1', "there is no setting 'colour'"),
    "classes twice": ('"class_names": ["a", "b", "a"]', "the same name"),
    "one class": ('"class_names": ["a"]', "two or more names"),
    "a number as class": ('"class_names": ["a", 2]', "two or more names"),
    "deep": (f'"class_names": {"[" * 100_000}', "recursion"),
}


@pytest.mark.parametrize(("entry", "message"), ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_odd_configs_end_in_a_sentence(tmp_path, entry, message):
    whole = f'{{"model": "cnn", "class_names": ["a", "b"], {entry}}}'
    (tmp_path / "config.json").write_text(whole)
    with pytest.raises(ValueError, match=f"describes no training.*{message}") as told:
        read_config(tmp_path)
    assert len(str(told.value).replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize(("old", "new"), [(True, "light"), (False, "none")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["", "best.pt", "config.json"])
def test_an_older_config_is_understood(tmp_path, old, new, encoding, name):
    (tmp_path / "best.pt").touch()
    content = {"model": "mlp", "augment": old, "class_names": ["a", "b"]}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding=encoding)
    config, names = read_config(tmp_path / name)
    assert config == Config(model="mlp", augment=new) and names == ["a", "b"]


def test_an_archive_beside_the_missing_folder_is_unpacked(data, tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in data.rglob("*.png"):
            archive.write(path, path.relative_to(data))
    assert train(tmp_path / "pets", tmp_path / "run", "--epochs 1") == 0
    assert (tmp_path / "pets" / "train" / "cat").is_dir()


def test_a_checkpoint_restores_every_generator_and_part(tmp_path):
    torch.manual_seed(0)
    path, model = tmp_path / "last.pt", nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    parts = {"model": model, "optimizer": optimizer}
    states.save_checkpoint(path, parts, [{"epoch": 1}], {"lr": 0.1})
    drawn = random.random(), np.random.rand(), np.random.randn(), torch.rand(3)

    other = nn.Linear(2, 2)
    restored = torch.optim.AdamW(other.parameters(), lr=0.5)
    content = states.read_checkpoint(path)
    others = {"model": other, "optimizer": restored}
    states.restore_checkpoint(path, content, others)
    again = random.random(), np.random.rand(), np.random.randn(), torch.rand(3)
    assert drawn[:3] == again[:3] and torch.equal(drawn[3], again[3])
    assert same(model.state_dict(), other.state_dict())
    assert restored.param_groups[0]["lr"] == 0.1 and restored.state_dict()["state"]
    assert content["epoch"] == 1 and content["config"] == {"lr": 0.1}


def test_checkpoints_that_do_not_fit(tmp_path):
    model, other = nn.Linear(2, 2), nn.Linear(3, 2)
    path, parts = tmp_path / "last.pt", {"model": other}
    states.save_checkpoint(path, {"model": model}, [], {})
    content = states.read_checkpoint(path)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="weights of another model"):
        states.restore_checkpoint(path, content, parts)
    parts["optimizer"] = torch.optim.SGD(other.parameters())
    with pytest.raises(ValueError, match=r"\['model'\], but \['model', 'optimizer'\]"):
        states.restore_checkpoint(path, content, parts)
    assert same(before, other.state_dict())
    path = save_model(model, tmp_path, "weights.pt")
    with pytest.raises(ValueError, match=r"weights.pt is no checkpoint.*last.pt"):
        states.read_checkpoint(path)


def test_a_failed_writer_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path, model = tmp_path / "last.pt", nn.Linear(2, 2)
    states.save_checkpoint(path, {"model": model}, [], {})
    old = path.read_bytes()
    monkeypatch.setattr(torch, "save", fail_with_a_full_disk)
    with pytest.raises(OSError, match="cannot write"):
        states.save_checkpoint(path, {"model": model}, [{"epoch": 1}], {})
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]
