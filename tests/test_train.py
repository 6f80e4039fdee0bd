"""Lesson 05: checkpoints, and the command line python -m going_modular.train."""

import errno
import io
import json
import multiprocessing
import random
import re
import shutil
import signal
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from going_modular import data_setup, train, utils
from going_modular.train import TrainConfig, main, read_config
from tests.folders import write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with train/ and valid/ of two classes, sixteen and six pictures each."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), ("cat", "dog"), {"train": 16, "valid": 6})


SMALL = {"model": "cnn", "hidden-units": 4, "image-size": 16, "batch-size": 8, "epochs": 3, "seed": 1}


def arguments(pictures, out, *more):
    """Return the command's arguments for a training of a second; an option in ``more`` counts, as the last one does."""
    small = [text for name, value in SMALL.items() for text in (f"--{name}", str(value))]
    return ["--data", str(pictures), "--out", str(out), *small, *more]


def weights(out, name="last.pt"):
    content = torch.load(out / name, weights_only=True)
    return content["parts"]["model"] if name == "last.pt" else content


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_command_leaves_what_it_promises(pictures, tmp_path, capsys):
    assert main(arguments(pictures, tmp_path / "run")) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and len(printed.out.splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best.pt",
        "config.json",
        "last.pt",
        "metrics.jsonl",
    ]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0].keys() == {"epoch", "train_loss", "train_acc", "valid_loss", "valid_acc"}
    best = max(rows, key=lambda row: (row["valid_acc"], -row["valid_loss"]))
    assert f"epoch {best['epoch']} of 3 is the best, valid accuracy {best['valid_acc']:.3f}" in printed.out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["class_names"] == ["cat", "dog"]
    model = train.MODELS["cnn"](TrainConfig(**read_config(tmp_path / "run")), 2)
    utils.load_model(model, tmp_path / "run" / "best.pt")


@pytest.mark.parametrize("model", ["tinyvgg", "cnn"])
def test_two_runs_are_identical_with_any_number_of_workers(pictures, tmp_path, model):
    for name, workers in (("first", 0), ("second", 0), ("third", 2)):
        torch.manual_seed(random.randrange(1000))
        more = ["--model", model, "--epochs", "2", "--num-workers", str(workers)]
        assert main(arguments(pictures, tmp_path / name, *more)) == 0
    for other in ("second", "third"):
        assert same(weights(tmp_path / "first"), weights(tmp_path / other))
        assert (tmp_path / "first" / "metrics.jsonl").read_bytes() == (tmp_path / other / "metrics.jsonl").read_bytes()


def test_too_many_pictures_for_memory_give_the_same(pictures, tmp_path, monkeypatch):
    assert main(arguments(pictures, tmp_path / "kept")) == 0
    monkeypatch.setattr(train, "KEPT_BYTES", 0)
    assert main(arguments(pictures, tmp_path / "read again")) == 0
    assert same(weights(tmp_path / "kept"), weights(tmp_path / "read again"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on Windows; lesson 05 kills there too")
def test_killed_at_ten_random_moments_and_resumed(pictures, tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["going_modular.train"])  # imported once, not in each process
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for epochs in ("1", "60"):  # the first run waits for the import, the second is timed
        child = processes.Process(target=main, args=(arguments(pictures, tmp_path / epochs, "--epochs", epochs),))
        start = time.monotonic()
        child.start()
        child.join()
        duration = time.monotonic() - start
    (tmp_path / "60").rename(whole)

    for _ in range(10):
        child = processes.Process(target=main, args=(resumable(pictures, killed),))
        child.start()
        child.join(random.uniform(0, duration / 8))  # ten times an eighth, on average a sixteenth: never at the end
        assert child.exitcode is None
        child.kill()
        child.join()
        if (killed / "last.pt").exists():
            utils.read_checkpoint(killed / "last.pt")
    assert main(resumable(pictures, killed)) == 0
    for name in ("last.pt", "best.pt"):
        assert same(weights(killed, name), weights(whole, name))
    for name in ("metrics.jsonl", "config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def resumable(pictures, out):
    """Return the arguments to begin a training of 60 epochs, or to go on where there is one."""
    return arguments(pictures, out, "--epochs", "60", *(["--resume"] if (out / "config.json").exists() else []))


@pytest.fixture
def interrupt(monkeypatch):
    """Give a function that lets Ctrl-C come in the middle of an epoch, until ``monkeypatch`` is undone."""

    def in_epoch(number):
        def batches(self):
            for step, batch in enumerate(self.dataloader):
                if self.dataloader.batch_sampler.epoch == number and step == 2:
                    signal.raise_signal(signal.SIGINT)
                yield batch

        monkeypatch.setattr(train.WithBar, "__iter__", batches)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield in_epoch
    signal.signal(signal.SIGINT, before)


def test_an_interruption_keeps_everything_and_says_how_to_go_on(pictures, tmp_path, monkeypatch, interrupt, capsys):
    interrupt(3)
    assert main(arguments(pictures, tmp_path / "run")) == 130
    message = capsys.readouterr().err
    assert message == f"interrupted: 2 of 3 epochs are kept in {tmp_path / 'run'}, go on with --resume\n"
    assert not same(weights(tmp_path / "run", "interrupted.pt"), weights(tmp_path / "run"))
    monkeypatch.undo()
    assert main(["--out", str(tmp_path / "run"), "--resume"]) == 0
    assert main(arguments(pictures, tmp_path / "whole")) == 0
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_finished_training_resumed_says_its_result_again(pictures, tmp_path, capsys):
    assert main(arguments(pictures, tmp_path / "run")) == 0
    first = capsys.readouterr().out
    assert main(["--out", str(tmp_path / "run"), "--resume"]) == 0
    assert capsys.readouterr().out == first


def test_the_folder_may_move_and_the_workers_change(pictures, tmp_path, monkeypatch, interrupt):
    interrupt(2)
    assert main(arguments(pictures, tmp_path / "run")) == 130
    monkeypatch.undo()
    moved = shutil.copytree(pictures, tmp_path / "moved")
    assert main(["--out", str(tmp_path / "run"), "--resume", "--data", str(moved), "--num-workers", "1"]) == 0
    assert main(arguments(pictures, tmp_path / "whole")) == 0
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_the_bar_shows_loss_accuracy_and_time_left(pictures, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    assert main(arguments(pictures, tmp_path / "run")) == 0
    last = terminal.getvalue().split("\r")[-1]
    assert "12/12" in last and "valid loss" in last and "accuracy" in last and "<00:00" in last


def fail_with_a_full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def spoil(folder, what, monkeypatch):
    """Change a folder of pictures, or the limits, so that one thing is wrong."""
    victim = folder / "train" / "cat" / "3.png"
    if what == "no folder":
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()
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
        monkeypatch.setattr(data_setup, "MAX_PIXELS", 399)
    elif what == "zip":
        spoil(folder, "no folder", monkeypatch)
        with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
            archive.writestr("../outside.png", b"x")
    elif what == "full disk":
        monkeypatch.setattr(torch, "save", fail_with_a_full_disk)


BAD_FOLDERS = {
    "no folder": "there is no folder",
    "no valid": "there is no folder .*valid",
    "empty class": "dog holds no picture",
    "other classes": r"same classes: only the first has \['dog'\], only the second \['wolf'\]",
    "text": r"notes\.jpg is no picture, whatever its ending says: replace it",
    "truncated": r"3\.png cannot be decoded",
    "too large": r"\.png has 20 × 20 pixels, the limit is 399: make it smaller",
    "zip": r"\.zip.*\.\./outside\.png",
    "full disk": r"cannot write .*No space left on device\. Choose a folder that you may write to",
}


@pytest.mark.parametrize("kept", [True, False], ids=["in memory", "from disk by workers"])
@pytest.mark.parametrize("what", BAD_FOLDERS)
def test_bad_folders(pictures, tmp_path, monkeypatch, capsys, what, kept):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    spoil(folder, what, monkeypatch)
    if not kept:
        monkeypatch.setattr(train, "KEPT_BYTES", 0)
    workers = [] if kept else ["--num-workers", "1"]
    if not kept and what == "too large" and multiprocessing.get_start_method() != "fork":
        pytest.skip("a patched limit does not reach a process that begins anew")
    assert_one_line(main(arguments(folder, tmp_path / "run", *workers)), capsys, BAD_FOLDERS[what])
    assert not (tmp_path.parent / "outside.png").exists() and not (tmp_path / "outside.png").exists()


def assert_one_line(status, capsys, pattern):
    message = capsys.readouterr().err
    assert status == 2 and message.startswith("error: ") and message.count("\n") == 1, message
    assert re.search(pattern, message), message


@pytest.mark.parametrize(
    ("more", "pattern"),
    [
        ("--model resnet", "unknown model 'resnet': choose one of tinyvgg, cnn"),
        ("--epochs 0", "epochs is 0: choose a finite number above 0"),
        ("--lr nan", "lr is nan"),
        ("--batch-size -1", "batch_size is -1"),
        ("--seed -1", "seed is -1"),
        ("--image-size 2", "image_size 2"),
        ("--resume", "holds no training to go on with: leave out --resume"),
    ],
)
def test_bad_options(pictures, tmp_path, capsys, more, pattern):
    assert_one_line(main(arguments(pictures, tmp_path / "run", *more.split())), capsys, pattern)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", ["--epochs many", "--colour", "--epochs"])
def test_options_that_are_none(capsys, more):
    with pytest.raises(SystemExit) as exit:
        main(more.split())
    assert_one_line(exit.value.code, capsys, "--help lists the options")


@pytest.mark.parametrize(
    ("damage", "more", "pattern"),
    [
        (None, [], "holds a training: add --resume to go on with it, or choose another --out"),
        (None, ["--resume", "--model", "tinyvgg"], "was trained with model cnn, not tinyvgg: keep cnn"),
        (None, ["--resume", "--epochs", "9"], "was trained with epochs 3, not 9"),
        ("last.pt", ["--resume"], "last.pt holds no plain weights"),
        ("config.json", ["--resume"], "config.json is damaged"),
    ],
)
def test_a_training_that_cannot_go_on(pictures, tmp_path, capsys, damage, more, pattern):
    assert main(arguments(pictures, tmp_path / "run")) == 0
    if damage:
        (tmp_path / "run" / damage).write_text("{")
    old = (tmp_path / "run" / "last.pt").read_bytes()
    capsys.readouterr()
    assert_one_line(main(arguments(pictures, tmp_path / "run", *more)), capsys, pattern)
    assert (tmp_path / "run" / "last.pt").read_bytes() == old


def test_a_config_of_wrong_values_is_damaged(pictures, tmp_path, capsys):
    assert main(arguments(pictures, tmp_path / "run")) == 0
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"augment": "no"}))
    assert_one_line(main(["--out", str(tmp_path / "run"), "--resume"]), capsys, "config.json is damaged")


def test_nan_ends_with_status_1_and_keeps_the_epochs_before(pictures, tmp_path, monkeypatch, capsys):
    assert main(arguments(pictures, tmp_path / "run", "--lr", "1e30")) == 1
    assert capsys.readouterr().err.startswith("error: epoch ")


def test_an_archive_beside_the_missing_folder_is_unpacked(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in pictures.rglob("*.png"):
            archive.write(path, path.relative_to(pictures))
    assert main(arguments(tmp_path / "pets", tmp_path / "run", "--epochs", "1")) == 0
    assert (tmp_path / "pets" / "train" / "cat").is_dir()


def test_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert exit.value.code == 0
    for name, value in read_defaults().items():
        assert f"--{name.replace('_', '-')}" in text and f"(default: {value})" in text


def read_defaults():
    return {name: getattr(TrainConfig(), name) for name in TrainConfig.__dataclass_fields__}


def test_a_checkpoint_restores_every_generator_and_part(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    parts = {"model": model, "optimizer": optimizer}
    utils.save_checkpoint(tmp_path / "last.pt", parts, [{"epoch": 1}], {"lr": 0.1})
    drawn = random.random(), np.random.rand(), np.random.randn(), torch.rand(3)

    other = nn.Linear(2, 2)
    others = {"model": other, "optimizer": torch.optim.AdamW(other.parameters(), lr=0.5)}
    content = utils.read_checkpoint(tmp_path / "last.pt")
    utils.restore_checkpoint(tmp_path / "last.pt", content, others)
    again = random.random(), np.random.rand(), np.random.randn(), torch.rand(3)
    assert drawn[:3] == again[:3] and torch.equal(drawn[3], again[3])
    assert same(model.state_dict(), other.state_dict())
    assert others["optimizer"].param_groups[0]["lr"] == 0.1 and others["optimizer"].state_dict()["state"]
    assert content["epoch"] == 1 and content["config"] == {"lr": 0.1}


def test_checkpoints_that_do_not_fit(tmp_path):
    model = nn.Linear(2, 2)
    path = tmp_path / "last.pt"
    utils.save_checkpoint(path, {"model": model}, [], {})
    content, other = utils.read_checkpoint(path), nn.Linear(3, 2)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="weights of another model"):
        utils.restore_checkpoint(path, content, {"model": other})
    with pytest.raises(ValueError, match=r"holds \['model'\], but \['model', 'optimizer'\]"):
        utils.restore_checkpoint(path, content, {"model": other, "optimizer": torch.optim.SGD(other.parameters())})
    assert same(before, other.state_dict())
    utils.save_model(model, tmp_path, "weights.pt")
    with pytest.raises(ValueError, match="weights.pt is no checkpoint: give it the file last.pt"):
        utils.read_checkpoint(tmp_path / "weights.pt")


def test_a_killed_writer_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path, model = tmp_path / "last.pt", nn.Linear(2, 2)
    utils.save_checkpoint(path, {"model": model}, [], {})
    old = path.read_bytes()
    monkeypatch.setattr(torch, "save", fail_with_a_full_disk)
    with pytest.raises(OSError, match="cannot write"):
        utils.save_checkpoint(path, {"model": model}, [{"epoch": 1}], {})
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["last.pt"]
