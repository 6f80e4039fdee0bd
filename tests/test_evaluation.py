"""What a model is worth: evaluate, its files and figures, check, and many pictures."""

import csv
import dataclasses
import json
import math
import sys

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from going_modular.__main__ import main
from going_modular.config import Config
from going_modular.evaluation import Evaluation, evaluate, plot_confusion, write_csv
from going_modular.networks import NETWORKS
from going_modular.predictions import Predictor
from going_modular.utils import set_seeds
from tests.folders import write_pictures

metrics = pytest.importorskip("sklearn.metrics")
NAMES = ["day", "night"]
CONFIG = Config(model="tinyvgg", hidden_units=2, image_size=16)


def random_evaluation(size, count, seed=0):
    """Return an Evaluation of random answers, without files."""
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(count, size, generator=generator).mul(2).softmax(dim=1)
    labels = torch.randint(size, (count,), generator=generator)
    names = [f"class {k}" for k in range(size)]
    return Evaluation(names, [f"{n}.png" for n in range(count)], labels, probs, [])


@pytest.fixture
def run(tmp_path):
    """The folder of a saved model."""
    set_seeds(1)
    model = NETWORKS["tinyvgg"].build(CONFIG, 2)
    Predictor(model, NAMES, None, config=CONFIG).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def data(tmp_path):
    counts = {"train": 3, "valid": 3, "test": 5}
    return write_pictures(tmp_path / "data", NAMES, counts)


# ---- The measures


@pytest.mark.parametrize(("size", "count"), [(2, 50), (3, 400), (7, 90), (40, 60)])
def test_the_measures_are_scikit_learns(size, count):
    evaluation = random_evaluation(size, count)
    labels, predicted = evaluation.labels, evaluation.probs.argmax(dim=1)
    summary = evaluation.summary()
    accuracy = metrics.accuracy_score(labels, predicted)
    assert summary["accuracy"] == pytest.approx(accuracy)
    error = math.sqrt(accuracy * (1 - accuracy) / count)
    assert summary["standard_error"] == pytest.approx(error)
    seen = labels.unique().tolist()
    rows = metrics.precision_recall_fscore_support(
        labels, predicted, labels=seen, zero_division=0
    )
    names = [evaluation.class_names[label] for label in seen]
    assert list(summary["classes"]) == names
    for name, *row in zip(names, *rows, strict=True):
        assert list(summary["classes"][name].values()) == pytest.approx(
            [row[3], *row[:3]]
        )
    assert summary["balanced_accuracy"] == pytest.approx(np.mean(rows[1]))
    confidence, right = evaluation.probs.amax(dim=1), predicted == labels
    gap = 0.0
    for low in np.arange(0, 1, 0.1):
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            mean = confidence[inside].mean() - right[inside].float().mean()
            gap += abs(mean.item()) * inside.sum().item() / count
    assert summary["calibration_error"] == pytest.approx(gap, abs=1e-5)


def test_a_perfect_model(tmp_path):
    probs = torch.eye(3).repeat(4, 1)
    labels = torch.arange(3).repeat(4)
    perfect = Evaluation(["a", "b", "c"], ["x.png"] * 12, labels, probs, [])
    summary = perfect.summary()
    assert (summary["accuracy"], summary["standard_error"]) == (1, 0)
    assert summary["calibration_error"] == pytest.approx(0, abs=1e-6)
    perfect.save(tmp_path)
    assert not (tmp_path / "mistakes.png").exists()


@pytest.mark.parametrize("size", [2, 31, 300])
def test_any_number_of_classes_can_be_saved(size, tmp_path, monkeypatch):
    evaluation = random_evaluation(size, 20)
    for path in evaluation.paths:
        Image.new("RGB", (30, 9)).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    evaluation.save(tmp_path / "out")
    for name in ("confusion", "reliability", "mistakes"):
        with Image.open(tmp_path / "out" / f"{name}.png") as figure:
            assert max(figure.size) < 3000
    assert plt.get_fignums() == []


def test_colors_of_30_classes_are_shares_of_all_their_pictures():
    labels = torch.arange(40).repeat(2)
    predicted = labels.clone()
    predicted[40:70] = 39  # which is not shown: it has no mistake
    probs = torch.eye(40)[predicted]
    names = [f"class {k}" for k in range(40)]
    figure = plot_confusion(Evaluation(names, ["x.png"] * 80, labels, probs, []))
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), np.eye(30) / 2)
    assert {text.get_color() for text in ax.texts} == {"black"}
    plt.close(figure)


@pytest.mark.parametrize("name", ["5$_x$", "$\\frac$", "猫", 'a,b\n"c"', "=1+1"])
def test_any_name_can_be_drawn_and_written(name, tmp_path, recwarn):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    labels, probs = torch.tensor([0, 1]), torch.tensor([[0.3, 0.7], [0.1, 0.9]])
    Evaluation([name, "b"], [str(tmp_path / "x.png")] * 2, labels, probs, []).save(
        tmp_path
    )
    with open(tmp_path / "pictures.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "true", "predicted", name, "b"]
    assert rows[1][1:3] == [name, "b"] and not recwarn.list


def test_a_file_name_that_is_no_text_is_kept_byte_by_byte(tmp_path):
    write_csv(tmp_path / "x.csv", [[b"\xff.png".decode(errors="surrogateescape"), 1]])
    assert (tmp_path / "x.csv").read_bytes() == b"\xff.png,1\r\n"


# ---- evaluate


def test_each_answer_is_that_of_the_predictor(run, data):
    predictor = Predictor.load(run)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    evaluation = evaluate(predictor, data / "test", batch_size=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(evaluation.paths) == 10 and evaluation.broken == []
    assert evaluation.labels.tolist() == [0] * 5 + [1] * 5
    for path, probs in zip(evaluation.paths, evaluation.probs.tolist(), strict=True):
        assert dict(zip(NAMES, probs, strict=True)) == pytest.approx(
            dict(predictor(path))
        )
    split = evaluate(predictor, data / "test", batch_size=64)
    torch.testing.assert_close(split.probs, evaluation.probs)


def test_some_classes_suffice_and_unknown_ones_do_not(run, data):
    predictor = Predictor.load(run)
    (data / "test" / "day").rename(data / "day")
    assert set(evaluate(predictor, data / "test").summary()["classes"]) == {"night"}
    (data / "day").rename(data / "test" / "noon")
    with pytest.raises(ValueError, match=r"noon.*day.*night"):
        evaluate(predictor, data / "test")


# ---- The commands


def command(capsys, *words):
    """Return (exit status, lines of stdout, lines of stderr)."""
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    return status, printed.out.splitlines(), printed.err.splitlines()


def test_evaluate_takes_the_test_pictures_of_the_training(
    run, data, capsys, monkeypatch
):
    config = json.loads((run / "config.json").read_text()) | {"data": str(data)}
    (run / "config.json").write_text(json.dumps(config))
    status, lines, errors = command(capsys, "evaluate", run)
    assert (status, errors) == (0, [])
    assert lines[-1].startswith(f"{run / 'evaluation-test'}: accuracy 0.")
    assert "±" in lines[-1] and str(data / "test") in lines[-1]
    assert [line.split(":")[0] for line in lines[:-1]] == NAMES
    out = run / "evaluation-test"
    wanted = {"evaluation.json", "pictures.csv", "confusion.png", "reliability.png"}
    assert wanted <= {path.name for path in out.iterdir()}
    before = (out / "evaluation.json").read_bytes()
    (out / "evaluation.json").write_text("old")
    assert command(capsys, "evaluate", run / "best.pt")[0] == 0  # again, by a file
    assert (out / "evaluation.json").read_bytes() == before
    assert sorted(path.name for path in run.iterdir()) == [
        *("best.pt", "config.json", "evaluation-test")
    ]


@pytest.mark.parametrize("part", ["test", ".", "TEST"])
def test_evaluate_takes_any_folder_and_removes_nothing(part, run, data, capsys):
    if part == "TEST":
        (data / "test").rename(data / "TEST")
    out = run / f"evaluation-{'data' if part == '.' else part}"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    status, lines, _ = command(capsys, "evaluate", run, data / part)
    assert status == 0 and "on 10 pictures" in lines[-1]
    assert (out / "mine.txt").read_text() == "mine" and (out / "confusion.png").exists()


def test_broken_pictures_are_listed_and_the_others_counted(run, data, capsys):
    (data / "test" / "day" / "1.png").write_bytes(b"no picture")
    (data / "test" / "night" / "2.png").write_bytes(b"")
    status, lines, errors = command(capsys, "evaluate", run, data / "test")
    assert status == 2 and "on 8 pictures" in lines[-1]
    assert len(errors) == 3 and "2 pictures could not be read" in errors[-1]
    summary = json.loads((run / "evaluation-test" / "evaluation.json").read_text())
    assert summary["pictures"] == 8 and len(summary["broken"]) == 2
    assert "1.png" in summary["broken"][0] and "2.png" in summary["broken"][1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["{run}", "{run}/nowhere"], "there is no folder"),
        (["{run}/nowhere"], "config.json is missing"),
        (["{run}", "{empty}"], "holds"),
        (["{run}", "{data}", "--batch-size", "0"], "batch_size"),
    ],
)
def test_what_cannot_be_evaluated_is_told_in_one_line(
    words, problem, run, data, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    places = {"run": run, "data": data, "empty": tmp_path / "empty"}
    status, lines, errors = command(
        capsys, "evaluate", *(word.format(**places) for word in words)
    )
    assert status == 2 and len(errors) == 1 and problem in errors[0]
    assert not list(run.glob("evaluation*"))


def test_check_counts_and_finds_what_is_wrong(data, capsys):
    status, lines, errors = command(capsys, "check", data)
    assert (status, errors) == (0, []) and any("day" in line for line in lines)
    (data / "train" / "day" / "9.png").write_bytes(b"no picture")
    (data / "train" / "day" / "notes.txt").write_text("mine")
    status, lines, errors = command(capsys, "check", data)
    text = "\n".join(lines)
    assert status == 2 and "9.png" in text and "notes.txt" in text
    assert "1 pictures are broken" in errors[-1]


@pytest.mark.parametrize("top", [1, 2, 9])
def test_predict_names_the_top_and_writes_a_table(top, run, data, tmp_path, capsys):
    table = tmp_path / "new" / "table.csv"
    (data / "test" / "day" / "1.png").write_bytes(b"")
    words = ("predict", run, data / "test", "--top", top, "--csv", table)
    status, lines, errors = command(capsys, *words)
    assert status == 2 and len(lines) == 9 and len(errors) == 2
    predictor = Predictor.load(run)
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for line, row in zip(lines, rows, strict=True):
        path, answer = line.rsplit(": ", 1)
        ranked = predictor(path)
        assert answer == ", ".join(f"{name} {p:.3f}" for name, p in ranked[:top])
        assert row["path"] == path and row["predicted"] == ranked[0][0]
        assert {name: float(row[name]) for name in NAMES} == pytest.approx(dict(ranked))


@pytest.mark.parametrize("address", ["http://a.b/c.png", "https://x", "ftp://a/b.jpg"])
def test_predict_fetches_nothing(address, run, data, capsys):
    status, lines, errors = command(capsys, "predict", run, data / "test", address)
    assert status == 2 and len(lines) == 10
    assert f"no picture {address}" in errors[0]


@pytest.mark.parametrize("option", ["--top=0", "--batch-size=0"])
def test_predict_refuses_odd_options(option, run, data, capsys):
    status, lines, errors = command(capsys, "predict", run, data / "test", option)
    assert status == 2 and lines == [] and len(errors) == 1


def test_predict_prints_no_nan(run, data, capsys):
    model = Predictor.load(run).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3e38)
    Predictor(model, NAMES, None, config=CONFIG).save(run)
    status, lines, errors = command(capsys, "predict", run, data / "test")
    assert (status, lines) == (2, []) and "the model gives NaN" in errors[0]


def test_a_table_overwrites_nothing(run, data, tmp_path, capsys):
    (tmp_path / "mine.csv").write_text("mine")
    words = ("predict", run, data / "test", "--csv", tmp_path / "mine.csv")
    assert command(capsys, *words)[:2] == (2, [])
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_only_a_table_or_an_evaluation_loads_what_draws(run, data, root, tmp_path):
    """Predicting in a process of its own loads neither matplotlib nor torchmetrics."""
    import subprocess

    code = (
        "import sys; from going_modular.__main__ import main\n"
        f"main(['predict', {str(run)!r}, {str(data / 'test')!r}])\n"
        "print({'matplotlib', 'torchmetrics'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


# ---- The predictor


def test_no_path_of_this_machine_is_saved(run, tmp_path):
    model = Predictor.load(run).model
    private = {"data": "/home/me/secret", "weights": "/w"}
    config = dataclasses.replace(CONFIG, **private)
    Predictor(model, NAMES, None, config=config).save(tmp_path / "new")
    text = (tmp_path / "new" / "config.json").read_text()
    assert "secret" not in text and "/w" not in text


def test_an_older_file_with_more_entries_loads(run):
    content = json.loads((run / "config.json").read_text()) | {"unsure_below": 0.5}
    (run / "config.json").write_text(json.dumps(content))
    assert Predictor.load(run).class_names == NAMES
