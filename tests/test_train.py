"""Lesson 05: a training by the command, kept, killed, resumed, and its mistakes."""

import errno
import io
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from going_modular import experiment, image_folder, states
from going_modular.__main__ import Ended, main
from going_modular.checkpoints import lock_folder
from going_modular.config import Config, read_config
from going_modular.networks import NETWORKS
from going_modular.predictions import Predictor
from going_modular.runs import WRITTEN
from going_modular.schedules import SCHEDULES
from going_modular.updates import choose_loss
from going_modular.utils import load_model, save_model
from tests.folders import rows_of, train_arguments, weights_of, write_pictures

KEPT = [
    *["best.pt", "config.json", "curves.png", "last.pt"],
    *["metrics.jsonl", "summary.json"],
]


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
    *lines, told = [line for line in printed.out.splitlines() if "guessing" not in line]
    assert printed.err == "" and len(lines) == 3
    assert sorted(path.name for path in out.iterdir()) == KEPT
    rows = rows_of(out)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    names = ["epoch", "train_loss", "train_acc", "valid_loss", "valid_acc"]
    assert all([*row] == [*names, "valid_balanced", "lr"] for row in rows)
    for line, row in zip(lines, rows, strict=True):
        assert f"epoch {row['epoch']} of 3: train loss {row['train_loss']:.3f}" in line
        assert f"valid accuracy {row['valid_acc']:.3f} (balanced" in line
        assert f"{row['valid_balanced']:.3f}, largest class 0.500)" in line
    best = max(rows, key=lambda row: (row["valid_acc"], -row["valid_loss"]))
    which = f"epoch {best['epoch']} of 3 is the best, valid accuracy"
    assert f"{which} {best['valid_acc']:.3f}" in told
    # There are as many cats as dogs.
    assert best["valid_balanced"] == pytest.approx(best["valid_acc"], abs=1e-6)
    assert ("guessing" in printed.out) == (best["valid_acc"] < 0.6)
    summary = json.loads((out / "summary.json").read_text())
    assert summary == {"best": best, "epochs": 3, "largest_class": 0.5}
    with Image.open(out / "curves.png") as curves:
        assert curves.format == "PNG" and curves.width > 500
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

        monkeypatch.setattr(states, "tqdm", batches)

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
    assert message.startswith("interrupted: epochs kept in") and ": 2;" in message
    assert str(out) in message and "--resume" in message
    assert not same(weights_of(out, "interrupted.pt"), weights_of(out, "last.pt"))
    monkeypatch.undo()
    assert go_on(out) == 0
    assert train(data, tmp_path / "whole") == 0
    assert same_weights(out, tmp_path / "whole")


@pytest.mark.parametrize("more", ["", "--resume"])
def test_an_interruption_before_the_first_epoch_advises_the_same_command(
    data, tmp_path, monkeypatch, capsys, more
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "setup", stop)
    out = tmp_path / "run"
    assert train(data, out, more) == 130
    (message,) = capsys.readouterr().err.splitlines()
    assert message.endswith(f"kept in {out}: 0; give the same command again")
    monkeypatch.undo()
    assert train(data, out, f"{more} --epochs 1") == 0


def test_nan_ends_with_status_4_and_keeps_the_epochs_before(
    data, tmp_path, monkeypatch, in_epoch, capsys
):
    in_epoch(3, lambda X, y: (X * math.nan, y))
    out = tmp_path / "run"
    assert train(data, out) == 4
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
    assert "".join(first.splitlines(keepends=True)[3:]) == capsys.readouterr().out


def test_a_lost_best_epoch_is_told(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out) == 0
    (out / "best.pt").unlink()
    assert go_on(out, "--epochs 9") == 2
    assert "best.pt (the best weights) is gone" in capsys.readouterr().err


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


def add(folder):
    shutil.copy(folder / "train/cat/0.png", folder / "train/cat/more.png")


def remove(folder):
    (folder / "valid/dog/2.png").unlink()


def replace(folder):
    shutil.copy(folder / "train/cat/0.png", folder / "train/cat/3.png")


def move(folder):
    (folder / "train/cat/3.png").rename(folder / "train/dog/moved.png")


OTHER_PICTURES = {
    add: [r"train/cat \(16 then, 17 now\)"],
    remove: [r"valid/dog \(6 then, 5 now\)"],
    replace: [r"train/cat \(16 then, 16 now\)"],
    move: [r"train/cat \(16 then, 15 now\)", r"train/dog \(16 then, 17 now\)"],
}


@pytest.mark.parametrize("change", OTHER_PICTURES, ids=lambda change: change.__name__)
def test_other_pictures_are_refused_and_the_same_again_go_on(
    data, tmp_path, in_epoch, monkeypatch, capsys, change
):
    in_epoch(2, press_ctrl_c)
    folder = shutil.copytree(data, tmp_path / "pictures")
    assert train(folder, tmp_path / "run") == 130
    monkeypatch.undo()
    change(folder)
    before = (tmp_path / "run" / "config.json").read_bytes()
    for wanted in OTHER_PICTURES[change]:
        capsys.readouterr()
        assert_one_line(go_on(tmp_path / "run"), capsys, f"other pictures in.*{wanted}")
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert go_on(tmp_path / "run", f"--data {data}") == 0
    assert train(data, tmp_path / "whole") == 0
    assert same_weights(tmp_path / "run", tmp_path / "whole")


SCORES = [  # valid accuracy, balanced, loss of each epoch
    *[(0.9, 0.5, 0.1), (0.8, 0.7, 0.4), (0.7, 0.7, 0.2)],
    *[(0.6, 0.7, 0.2), (0.95, 0.6, 0.3)],
]


@pytest.mark.parametrize(
    ("weights", "patience", "best", "count"),
    [
        ("none", 0, 5, 5),
        ("none", 1, 1, 2),
        ("balanced", 0, 3, 5),
        ("balanced", 1, 3, 4),
    ],
)
def test_the_best_epoch_is_the_same_everywhere(
    data, tmp_path, monkeypatch, capsys, weights, patience, best, count
):
    """With balanced weights it is that of the best balanced accuracy."""

    def score(made, epoch):
        next(made.model.parameters()).data.fill_(epoch)
        acc, balanced, loss = SCORES[epoch - 1]
        row = {"epoch": epoch, "train_loss": 0.5, "train_acc": 0.5, "valid_loss": loss}
        return row | {"valid_acc": acc, "valid_balanced": balanced, "lr": 0.1}

    monkeypatch.setattr(experiment, "train_epoch", score)
    out, more = tmp_path / "run", f"--early-stopping {patience} --epochs"
    assert train(data, out, f"{more} 2 --class-weights {weights}") == 0
    for _ in range(2):  # the second time there is nothing left to do
        assert go_on(out, f"{more} 5") == 0
        assert len(rows_of(out)) == count
        assert f"epoch {best} of {count} is the best" in capsys.readouterr().out
        summary = json.loads((out / "summary.json").read_text())
        assert summary["best"]["epoch"] == best
        kept = next(iter(weights_of(out).values()))
        assert (kept == best).all()


def change(*places):
    """Return a function that puts a value at a place of a checkpoint, or nothing."""
    *way, last = places

    def put(content, value=None):
        for place in way:
            content = content[place]
        content[last] = value
        if value is None:
            del content[last]

    return put


ROW, ADAM = ("rows", 0), ("parts", "optimizer")
ODD_CHECKPOINTS = {
    "an epoch in words": (("epoch",), "two"),
    "an epoch below 0": (("epoch",), -1),
    "an epoch that has no row": (("epoch",), 7),
    "rows that are no list": (("rows",), {"epoch": 1}),
    "rows that are none": (("rows",), [1, 2, 3]),
    "no rows at all": (("rows",), []),
    "no accuracy": ((*ROW, "valid_acc"), None),
    "no learning rate": ((*ROW, "lr"), None),
    "a loss in words": ((*ROW, "valid_loss"), "low"),
    "a list of losses": ((*ROW, "train_loss"), [0.5]),
    "a number without end": ((*ROW, "train_acc"), 10**400),
    "several numbers": ((*ROW, "valid_balanced"), torch.ones(2)),
    "epochs in words": (("config", "epochs"), "3"),
    "a size of several numbers": (("config", "image_size"), torch.ones(2)),
    "pictures in a list": (("config", "pictures"), [16, 6]),
    "a class without its count": (("config", "pictures", "train", "cat"), []),
    "no optimizer": (ADAM, None),
    "a list as optimizer": (ADAM, [1]),
    "a weight's mean of another shape": ((*ADAM, "state", 0, "exp_avg"), torch.ones(5)),
    "no mean of squares": ((*ADAM, "state", 0, "exp_avg_sq"), None),
    "no generators": (("random",), {}),
    "NaN as a generator": (("random", "python"), math.nan),
}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    assert train(data, out) == 0
    return out


@pytest.mark.parametrize(
    ("place", "value"), ODD_CHECKPOINTS.values(), ids=ODD_CHECKPOINTS
)
def test_an_odd_checkpoint_ends_in_a_sentence(finished, tmp_path, capsys, place, value):
    out = shutil.copytree(finished, tmp_path / "run")
    content = torch.load(out / "last.pt", weights_only=True)
    change(*place)(content, value)
    torch.save(content, out / "last.pt")
    before = (out / "best.pt").read_bytes()
    capsys.readouterr()
    assert_one_line(go_on(out, "--epochs 4"), capsys, r"error: .*(last\.pt|checkpoint)")
    assert (out / "best.pt").read_bytes() == before


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_too_little_memory_is_no_fault_of_the_checkpoint(
    finished, monkeypatch, capsys, error
):
    def fail(*_):
        raise error

    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", fail)
    capsys.readouterr()
    assert go_on(finished, "--epochs 4") == 3
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: there is too little memory")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_finished_training_is_prolonged(
    data, tmp_path, monkeypatch, in_epoch, capsys, schedule
):
    short, whole = tmp_path / "short", tmp_path / "whole"
    assert train(data, short, f"--schedule {schedule}") == 0
    assert train(data, whole, f"--schedule {schedule} --epochs 5") == 0
    cut = shutil.copytree(short, tmp_path / "cut")
    capsys.readouterr()
    assert go_on(short, "--epochs 5") == 0
    told = f"prolonged from 3 to 5 epochs.*as {schedule} has it in epoch 4 of 5"
    assert re.search(told, capsys.readouterr().out)
    assert len(rows_of(short)) == 5 and rows_of(short)[:3] == rows_of(cut)
    for row, other in zip(rows_of(short)[3:], rows_of(whole)[3:], strict=True):
        assert row["lr"] == pytest.approx(other["lr"], abs=1e-9)
    for epoch in (4, 5):  # interrupted before and after an epoch of its own
        in_epoch(epoch, press_ctrl_c)
        assert go_on(cut, "--epochs 5" if epoch == 4 else "") == 130
        monkeypatch.undo()
    assert go_on(cut) == 0
    assert same_weights(cut, short) and rows_of(cut) == rows_of(short)


STILL = "--model mlp --lr 1e-30 --epochs 9"  # its weights never change


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_it_stops_early_and_stays_stopped(data, tmp_path, capsys, patience):
    out = tmp_path / "run"
    assert train(data, out, f"{STILL} --early-stopping {patience}") == 0
    assert len(rows_of(out)) == 1 + patience
    said = f"stopped early: {patience} epochs without a better one"
    assert said in capsys.readouterr().out
    assert go_on(out) == 0
    assert len(rows_of(out)) == 1 + patience
    assert said in capsys.readouterr().out
    assert go_on(out, "--early-stopping 0") == 0
    assert len(rows_of(out)) == 9 and "stopped" not in capsys.readouterr().out


@pytest.mark.parametrize("where", ["", "best.pt", "alone.pt"])
def test_it_begins_from_weights(data, tmp_path, where):
    assert train(data, tmp_path / "first", "--model mlp") == 0
    given = tmp_path / "first" / where
    if where == "alone.pt":  # with no config beside it
        given = shutil.copy(tmp_path / "first/best.pt", tmp_path / where)
    assert train(data, tmp_path / "run", f"{STILL} --weights {given}") == 0
    first = weights_of(tmp_path / "first")
    assert same(weights_of(tmp_path / "run"), first)
    shutil.rmtree(tmp_path / "first")  # it has its own by now
    (tmp_path / "alone.pt").unlink(missing_ok=True)
    assert go_on(tmp_path / "run", "--epochs 10") == 0
    assert same(weights_of(tmp_path / "run", "last.pt"), first)


@pytest.mark.parametrize(
    "classes", [("ant", "bee"), ("dog", "wolf"), ("cat", "cow", "dog")]
)
def test_weights_of_other_classes_leave_the_head_as_it_was(
    data, tmp_path, capsys, classes
):
    assert train(data, tmp_path / "first") == 0
    counts = {"train": 8, "valid": 4}
    others = write_pictures(tmp_path / "others", classes, counts)
    capsys.readouterr()
    more = f"--lr 1e-30 --weight-decay 0 --weights {tmp_path / 'first'}"
    assert train(others, tmp_path / "run", more) == 0
    assert "knows other classes: the last layer begins anew" in capsys.readouterr().out
    assert train(others, tmp_path / "new", "--lr 1e-30") == 0
    body, found, new = map(weights_of, (tmp_path / name for name in NAMES_OF_RUNS))
    learned = [name for name in found if "num_b" not in name and "running" not in name]
    head = [name for name in learned if "classifier" in name]
    assert 0 < len(head) < len(learned)
    for name in learned:
        wanted = new if name in head else body
        assert torch.equal(found[name], wanted[name])


@pytest.mark.parametrize("error", [KeyboardInterrupt, Ended, OSError, MemoryError])
@pytest.mark.parametrize("is_written", [False, True])
def test_log_and_checkpoint_tell_the_same_count(
    data, tmp_path, capsys, monkeypatch, error, is_written
):
    save, epochs = states.save_checkpoint, []

    def stopped(path, parts, rows, config):
        if len(rows) < 2 or is_written:
            save(path, parts, rows, config)
        if len(rows) == 2:
            raise error("stopped")

    monkeypatch.setattr(states, "save_checkpoint", stopped)
    assert train(data, tmp_path / "run") != 0
    epochs = 1 + is_written
    assert states.read_checkpoint(tmp_path / "run/last.pt")["epoch"] == epochs
    assert len(rows_of(tmp_path / "run")) == epochs
    if issubclass(error, KeyboardInterrupt):
        assert (
            f"epochs kept in {tmp_path / 'run'}: {epochs};" in capsys.readouterr().err
        )


NAMES_OF_RUNS = ("first", "run", "new")
BAD_WEIGHTS = {
    "--weights nowhere": "nowhere is no file",
    "--weights FIRST --hidden-units 8": "best.pt holds the weights of another model",
    "--weights FIRST --model tinyvgg": "best.pt holds the weights of another model",
    "--weights FIRST/last.pt": "last.pt holds",
    "--weights FIRST/config.json": "config.json holds no plain weights",
}


@pytest.fixture(scope="module")
def first(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("first")
    assert train(data, out, "--epochs 1") == 0
    return out


@pytest.mark.parametrize("more", BAD_WEIGHTS)
def test_weights_that_cannot_be_begun_from(data, first, tmp_path, capsys, more):
    capsys.readouterr()
    status = train(data, tmp_path / "run", more.replace("FIRST", str(first)))
    assert_one_line(status, capsys, BAD_WEIGHTS[more])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("more", ["", "--resume"])
def test_files_of_somebody_else_are_left_alone(data, tmp_path, capsys, name, more):
    (tmp_path / name).write_text("mine, three weeks of work")
    status = train(data, tmp_path, more)
    is_config = name == "config.json" and more
    wanted = "describes no training" if is_config else f"holds {name}"
    assert_one_line(status, capsys, wanted)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine, three weeks of work"


def test_a_folder_in_use_is_left_alone(data, tmp_path, capsys):
    with lock_folder(tmp_path / "run"):
        status = train(data, tmp_path / "run")
    assert_one_line(status, capsys, "in use by another training")
    assert train(data, tmp_path / "run", "--epochs 1") == 0


@pytest.mark.parametrize("counts", [(12, 4), (7, 9), (30, 2)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_balanced_class_weights_are_those_of_the_whole_batch(counts, smoothing):
    config = Config(class_weights="balanced", label_smoothing=smoothing)
    loss_fn = choose_loss(config, list(counts), "cpu")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(sum(counts), 2, generator=generator)
    labels = torch.tensor([0] * counts[0] + [1] * counts[1])
    weights = torch.tensor([sum(counts) / 2 / count for count in counts])
    # Over all pictures the weights' mean is 1, and torch's own mean agrees.
    whole = nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(loss_fn(logits, labels), whole)
    sizes = [5, sum(counts) - 5]
    parts = zip(logits.split(sizes), labels.split(sizes), strict=True)
    added = sum(loss_fn(*part) * len(part[1]) for part in parts) / sum(counts)
    torch.testing.assert_close(added, whole)


def test_a_rare_class_counts_with_balanced_weights(tmp_path, capsys):
    """Of 95 pictures 5 are of the rarer class, and hardly to be told apart."""
    data = write_pictures(tmp_path / "data", ("a", "b"), {"train": 45, "valid": 45})
    for split in ("train", "valid"):
        for number in range(5, 45):
            (data / split / "b" / f"{number}.png").unlink()
        for number in range(5):
            shutil.copy(data / split / "a" / f"{number}.png", data / split / "b")
    assert train(data, tmp_path / "plain", STILL) == 0
    printed = capsys.readouterr().out
    assert "largest class 0.900" in printed and "balanced 0.500" in printed
    assert "hardly better than guessing: try --class-weights balanced" in printed
    balanced = f"{STILL} --class-weights balanced"
    assert train(data, tmp_path / "weighted", balanced) == 0
    assert "try --class-weights" not in capsys.readouterr().out
    row, other = (rows_of(tmp_path / name)[0] for name in ("plain", "weighted"))
    assert {row["valid_acc"], row["valid_balanced"]} <= {0.1, 0.5, 0.9}
    assert row["train_acc"] == other["train_acc"]
    assert row["train_loss"] != pytest.approx(other["train_loss"], rel=1e-3)


@pytest.mark.parametrize("model", ["mlp", "cnn", "tinyvgg"])
def test_balanced_accuracy_is_the_mean_over_the_classes(data, tmp_path, model):
    folder = shutil.copytree(data, tmp_path / "data")
    for number in range(4):  # 2 dogs and 6 cats are left
        (folder / "valid" / "dog" / f"{number}.png").unlink()
    out = tmp_path / "run"
    assert train(folder, out, f"--model {model} --epochs 2") == 0
    predictor = Predictor.load(out)
    best = max(rows_of(out), key=lambda row: (row["valid_acc"], -row["valid_loss"]))
    right = {
        name: [
            predictor(path)[0][0] == name
            for path in (folder / "valid" / name).iterdir()
        ]
        for name in ("cat", "dog")
    }
    shares = [sum(found) / len(found) for found in right.values()]
    assert best["valid_balanced"] == pytest.approx(sum(shares) / 2)
    assert best["valid_acc"] == pytest.approx(
        (sum(right["cat"]) + sum(right["dog"])) / 8
    )


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
    elif what == "no train":
        (folder / "train").rename(folder / "test")
    elif what == "empty class":
        for path in (folder / "train" / "dog").iterdir():
            path.unlink()
    elif what == "other classes":
        (folder / "valid" / "dog").rename(folder / "valid" / "wolf")
    elif what == "text":
        (folder / "train" / "cat" / "notes.jpg").write_text("not a picture")
    elif what == "truncated":
        victim.write_bytes(victim.read_bytes()[:300])
    elif what == "zip":
        shutil.rmtree(folder)
        with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
            archive.writestr("../outside.png", b"x")
    elif what == "full disk":
        monkeypatch.setattr(os, "fsync", fail_with_a_full_disk)


BAD_FOLDERS = {
    "no folder": "no folder .*pictures",
    "no train": "holds (test, valid|valid, test), but no train",
    "empty class": "dog holds no picture",
    "other classes": r"same classes: only one has \['dog', 'wolf'\]",
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
    more = "--max-pixels 399" if what == "too large" else ""
    status = train(
        folder, tmp_path / "run", more if kept else f"{more} --num-workers 1"
    )
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
        ("", "holds last.pt: add --resume"),
        (
            "--resume --model tinyvgg",
            r"had other model \(cnn then, tinyvgg now\)",
        ),
        ("--resume --epochs 2", r"had other epochs \(3 then, 2 now\)"),
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
    "unknown": ('"colour": 1', "unexpected keyword argument 'colour'"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["", "best.pt", "config.json"])
def test_a_config_in_another_encoding_is_understood(tmp_path, encoding, name):
    (tmp_path / "best.pt").touch()
    content = {"model": "mlp", "augment": "none", "class_names": ["a", "é"]}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding=encoding)
    config, names = read_config(tmp_path / name)
    assert config == Config(model="mlp", augment="none") and names == ["a", "é"]


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
    parts = {"model": model}
    with pytest.raises(ValueError, match="^the checkpoint is of another kind"):
        states.restore_checkpoint("library.pt", content | {"random": {}}, parts)
    path = save_model(model, tmp_path, "weights.pt")
    with pytest.raises(ValueError, match=r"weights.pt is no checkpoint.*last.pt"):
        states.read_checkpoint(path)


def test_a_failed_writer_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path, model = tmp_path / "last.pt", nn.Linear(2, 2)
    states.save_checkpoint(path, {"model": model}, [], {})
    old = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail_with_a_full_disk)
    with pytest.raises(OSError, match="cannot write"):
        states.save_checkpoint(path, {"model": model}, [{"epoch": 1}], {})
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]
