"""Runs in folders, recorded by three trackers, and what goes wrong on the way."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from going_modular.__main__ import main
from going_modular.checkpoints import to_json
from going_modular.config import Config
from going_modular.experiment import run, setup
from going_modular.runs import best_row, new_run_folder, read_run, read_runs
from going_modular.trackers import TRACKERS, Tracker, mlflow_client
from tests.folders import (
    finds,
    free_port,
    rows_of,
    train_arguments,
    wait_for_page,
    write_pictures,
)

KINDS = [kind for kind in TRACKERS if kind != "none"]
SIZES = {"model": "mlp", "channels": 1, "image_size": 8, "hidden_units": 4}
METRICS = ["train_loss", "train_acc", "valid_loss", "valid_acc", "valid_balanced", "lr"]


@pytest.fixture(scope="module")
def loaders():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 1, 8, 8, generator=generator)
    labels = torch.randint(3, (20,), generator=generator)
    batches = list(zip(images.split(8), labels.split(8), strict=True))
    return batches, batches, ["a", "b", "c"]


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    """A folder of runs for several tests: MLflow takes seconds to make its database."""
    return tmp_path_factory.mktemp("runs")


def experiment(loaders, **settings):
    settings = SIZES | {"epochs": 3, "batch_size": 8} | settings
    return setup(Config(**settings), "cpu", loaders=loaders)


def tracked(made, folder, **options):
    """Train with the tracker of the config; return the rows."""
    kind = made.config.tracker
    with Tracker(kind, folder, made.config, **options) as tracker:
        return list(run(made, folder, observers=[tracker]))


# ---- What each of them recorded, as {name: [(step, value), ...]}


def read_tensorboard(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def latest_in_mlflow(folder):
    """Return MLflow's client and its latest run of a folder's name."""
    client = mlflow_client(folder.parent)
    (found,) = client.search_experiments(filter_string="name = 'course'")
    named = f"attributes.run_name = '{folder.name}'"
    return client, client.search_runs([found.experiment_id], named)[0]


def read_mlflow(folder):
    client, latest = latest_in_mlflow(folder)
    recorded = {}
    for name in latest.data.metrics:
        for metric in client.get_metric_history(latest.info.run_id, name):
            huge = abs(metric.value) >= sys.float_info.max  # so MLflow keeps infinity
            value = math.copysign(math.inf, metric.value) if huge else metric.value
            recorded.setdefault(name, []).append((metric.step, value))
    return recorded


def assert_in_wandbs_file(folder, recorded):
    """Assert that W&B's file for ``wandb sync`` holds names and values, as JSON texts.

    W&B's own process goes on writing for a moment.
    """
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    values = [value for pairs in recorded.values() for _, value in pairs]
    texts = {*recorded, *map(json.dumps, values)}
    end, missing = time.monotonic() + 5, texts
    while missing and time.monotonic() < end:
        content = path.read_bytes()
        missing = [text for text in texts if text.encode() not in content]
        time.sleep(0.02)
    assert not missing, missing


def assert_recorded(folder, kind, wanted, *, is_finished=True):
    """Assert what a tracker recorded of a run.

    Args:
        wanted: {name: [(step, value), ...]}, compared as float32.
        is_finished: the last values stand there as the final ones, too.
    """
    if kind == "wandb":
        assert_in_wandbs_file(folder, wanted)
        return
    if kind == "tensorboard" and is_finished:
        final = {f"final/{name}": [(0, wanted[name][-1][1])] for name in wanted}
        wanted = wanted | final
    found = read_mlflow(folder) if kind == "mlflow" else read_tensorboard(folder)
    assert found.keys() == wanted.keys()
    for name, pairs in wanted.items():
        steps, values = zip(*pairs, strict=True)
        assert [step for step, _ in found[name]] == list(steps)
        close = pytest.approx(values, rel=1e-6, nan_ok=True)
        assert tuple(value for _, value in found[name]) == close


def recorded_of(rows):
    """Return what these rows of a training are when they are recorded."""
    return {name: [(row["epoch"], row[name]) for row in rows] for name in METRICS}


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_run_reads_back_as_it_was_recorded(kind, log_dir, loaders):
    folder = new_run_folder(log_dir, f"whole-{kind}")
    made = experiment(loaders, tracker=kind)
    rows = tracked(made, folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert read_run(folder) == (f"whole-{kind}", made.config, rows)
    if kind == "none":
        assert len(list(folder.iterdir())) == 4
        return
    assert_recorded(folder, kind, recorded_of(rows))
    if kind == "mlflow":  # it keeps the last values by itself
        _, latest = latest_in_mlflow(folder)
        last = {name: rows[-1][name] for name in METRICS}
        assert latest.data.metrics == pytest.approx(last)


def test_the_tracker_changes_no_number(tmp_path, loaders):
    results = []
    for kind in ("tensorboard", "none"):
        torch.rand(3)  # another state of the generators
        made = experiment(loaders, tracker=kind)
        results.append(tracked(made, tmp_path / kind))
    assert results[0] == results[1]


def test_hyperparameters_stand_beside_their_final_metrics(tmp_path, loaders):
    from tensorboard.plugins.hparams import plugin_data_pb2

    made = experiment(loaders, lr=0.02, tracker="tensorboard")
    tracked(made, tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()

    def summary(name):
        content = events.summary_metadata[f"_hparams_/{name}"].plugin_data.content
        return plugin_data_pb2.HParamsPluginData.FromString(content)

    values = summary("session_start_info").session_start_info.hparams
    assert values["lr"].number_value == 0.02 and values["model"].string_value == "mlp"
    named = summary("experiment").experiment.metric_infos
    assert {info.name.tag for info in named} == {f"final/{name}" for name in METRICS}


def test_mlflow_and_wandb_hold_the_config(log_dir, loaders):
    config = experiment(loaders, lr=0.02).config
    for kind in ("mlflow", "wandb"):
        Tracker(kind, log_dir / f"config-{kind}", config).finish()
    _, latest = latest_in_mlflow(log_dir / "config-mlflow")
    assert latest.info.status == "FINISHED"
    wanted = {name: str(value) for name, value in dataclasses.asdict(config).items()}
    assert latest.data.params == wanted
    folder = log_dir / "config-wandb"
    assert_in_wandbs_file(folder, {"hidden_units": [(0, 4)], "lr": [(0, 0.02)]})


@pytest.mark.parametrize("kind", KINDS)
def test_runs_that_are_open_at_once_are_kept_apart(kind, log_dir):
    folders = [new_run_folder(log_dir, f"twin-{kind}") for _ in range(2)]
    assert [folder.name for folder in folders] == [f"twin-{kind}", f"twin-{kind}-2"]
    both = [Tracker(kind, folder, Config()) for folder in folders]
    for number, tracker in enumerate(both):
        tracker({"epoch": 1, "value": number + 0.123456789})
    for number, (folder, tracker) in enumerate(zip(folders, both, strict=True)):
        tracker.finish()
        assert_recorded(folder, kind, {"value": [(1, number + 0.123456789)]})


@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_infinity_are_kept(kind, log_dir):
    folder = log_dir / f"nan-{kind}"
    values = list(enumerate((0.5, math.nan, math.inf, -math.inf), start=1))
    with Tracker(kind, folder, Config()) as tracker:
        for epoch, value in values:
            tracker({"epoch": epoch, "precision": torch.tensor(value)})
    assert_recorded(folder, kind, {"precision": values})


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_recorded(kind, log_dir):
    folder = log_dir / f"figure-{kind}"
    with Tracker(kind, folder, Config()) as tracker:
        tracker.log_figure("curves", plt.figure(), 2)
    plt.close("all")
    if kind == "tensorboard":
        (image,) = EventAccumulator(str(folder)).Reload().Images("curves")
        assert image.step == 2 and image.encoded_image_string[1:4] == b"PNG"
    elif kind == "mlflow":
        client, latest = latest_in_mlflow(folder)
        (artifact,) = client.list_artifacts(latest.info.run_id)
        assert artifact.path == "curves_2.png" and artifact.file_size > 0
    else:
        assert list(folder.glob("wandb/*/files/media/images/curves*.png"))


KILLED = """
import sys, time
from going_modular.config import Config
from going_modular.trackers import Tracker

tracker = Tracker(sys.argv[1], sys.argv[2], Config())
for epoch in range(1, 4):
    tracker({"epoch": epoch, "loss": 1 / epoch})
time.sleep(3)  # W&B writes once a second
print("recorded", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_is_recorded_up_to_there(kind, log_dir, root):
    folder = log_dir / f"killed-{kind}"
    command = [sys.executable, "-c", KILLED, kind, str(folder)]
    pipe = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=finds(root), **pipe) as child:
        assert child.stdout.readline() == "recorded\n"
        child.kill()
    wanted = {"loss": [(epoch, 1 / epoch) for epoch in (1, 2, 3)]}
    assert_recorded(folder, kind, wanted, is_finished=False)


def test_a_loop_left_early_finishes_its_run(tmp_path, loaders):
    made = experiment(loaders, tracker="tensorboard")
    with Tracker("tensorboard", tmp_path / "left", made.config) as tracker:
        row = next(run(made, tmp_path / "left", observers=[tracker]))
    assert_recorded(tmp_path / "left", "tensorboard", recorded_of([row]))
    interrupted = Tracker("tensorboard", tmp_path / "interrupted", Config())
    with pytest.raises(KeyboardInterrupt), interrupted as tracker:
        tracker({"epoch": 1, "loss": 1})
        raise KeyboardInterrupt
    assert_recorded(interrupted.folder, "tensorboard", {"loss": [(1, 1.0)]})


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_a_run_that_an_error_ended_is_recorded_as_failed(kind, log_dir, error):
    folder = new_run_folder(log_dir, f"ended-{kind}")
    with contextlib.suppress(error or ()), Tracker(kind, folder, Config()) as tracker:
        tracker({"epoch": 1, "loss": 1})
        if error:
            raise error
    if kind == "mlflow":
        _, latest = latest_in_mlflow(folder)
        assert latest.info.status == ("FAILED" if error else "FINISHED")
        return
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert ("failed (exit code 1)" if error else "finished (exit code 0)") in told


# ---- By the command


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return write_pictures(folder, ("night", "day"), {"train": 16, "valid": 6})


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_is_recorded_from_its_first_epoch(kind, data, log_dir):
    folder = log_dir / f"resumed-{kind}"
    small = {"model": "tinyvgg", "image_size": 16, "hidden_units": 4}
    config = Config(data=str(data), **small, epochs=3, tracker=kind)
    with Tracker(kind, folder, config) as tracker:
        next(run(setup(config), folder, observers=[tracker]))
    time.sleep(1)  # TensorBoard orders its files by the second
    if kind == "wandb":  # which has a file for each part
        (first,) = folder.glob("wandb/offline-run-*")
        first.rename(folder / "first")
    assert main(["train", "--out", str(folder), "--resume"]) == 0
    rows = rows_of(folder)
    assert len(rows) == 3 and read_run(folder).rows == rows
    assert_recorded(folder, kind, recorded_of(rows))


def test_without_a_tracker_nothing_is_recorded(data, tmp_path):
    assert main(train_arguments(data, tmp_path / "run")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    kept = {
        "best.pt",
        "config.json",
        "last.pt",
        "metrics.jsonl",
        "curves.png",
        "summary.json",
    }
    assert {path.name for path in (tmp_path / "run").iterdir()} == kept


# ---- Trackers that fail


def test_a_tracker_that_is_unknown(tmp_path):
    with pytest.raises(ValueError, match="unknown tracker 'paper': choose one of none"):
        Tracker("paper", tmp_path / "run", Config())
    assert not (tmp_path / "run").exists()


def assert_told_once(capfd, kind, reason, folder, rows):
    """Assert that one line says why a tracker stopped, and that nothing was lost."""
    lines = capfd.readouterr().err.splitlines()
    (line,) = [line for line in lines if "tracking" in line]
    assert line.startswith(f"tracking with {kind} stopped: {reason}")
    assert str(folder / "metrics.jsonl") in line
    assert len(rows) == 3 and read_run(folder).rows == rows


def test_a_wandb_that_is_too_old_is_said_and_stops_no_training(
    tmp_path, loaders, monkeypatch, capsys
):
    class Settings:
        model_fields = {"mode": None}

    old = SimpleNamespace(__version__="0.28.1", Settings=Settings)
    monkeypatch.setitem(sys.modules, "wandb", old)
    rows = tracked(experiment(loaders, tracker="wandb"), tmp_path / "old")
    assert len(rows) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "wandb 0.28.1 is too old: pip install -U 'wandb>=0.31'" in line


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_server_that_does_not_answer_never_stops_training(
    kind, tmp_path, loaders, capfd, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    begun, address = time.monotonic(), f"http://127.0.0.1:{free_port()}"
    made = experiment(loaders, tracker=kind)
    rows = tracked(made, tmp_path / "alone", address=address)
    assert time.monotonic() - begun < 60
    assert_told_once(capfd, kind, "", tmp_path / "alone", rows)


@pytest.mark.parametrize(
    "method", ["__init__", "add_scalar", "add_figure", "add_hparams"]
)
def test_a_tracker_that_breaks_on_the_way_never_stops_training(
    method, tmp_path, loaders, capfd, monkeypatch
):
    def fail(*_, **__):
        raise ConnectionResetError("the server went away\nin two lines")

    monkeypatch.setattr(SummaryWriter, method, fail)
    made = experiment(loaders)
    with Tracker("tensorboard", tmp_path, made.config) as tracker:
        tracker.log_figure("figure", plt.figure(), 0)
        rows = list(run(made, tmp_path, observers=[tracker]))
    plt.close("all")
    reason = "ConnectionResetError: the server went away in two lines; "
    assert_told_once(capfd, "tensorboard", reason, tmp_path, rows)


# ---- Folders of runs


@pytest.mark.parametrize("name", ["../outside", "", "/tmp/outside", "a b", ".hidden"])
def test_names_that_are_no_plain_folder(name, tmp_path):
    with pytest.raises(ValueError, match=f"name is '{name}': it becomes a folder"):
        new_run_folder(tmp_path / "runs", name)
    assert list(tmp_path.iterdir()) == []


def test_a_log_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for place in (blocked, blocked / "below"):
        with pytest.raises(OSError, match="file"):
            new_run_folder(place, "run")
    assert blocked.read_text() == "in the way"


@pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write everywhere"
)
def test_a_log_folder_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError, match="closed"):
        new_run_folder(tmp_path / "closed", "run")


def test_runs_of_one_name_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = pool.map(lambda _: new_run_folder(tmp_path, "same"), range(8))
    wanted = {"same"} | {f"same-{number}" for number in range(2, 9)}
    assert {folder.name for folder in folders} == wanted


def test_runs_are_read_oldest_first_with_whatever_numbers_they_have(tmp_path, loaders):
    for name in ("second", "first"):
        made = experiment(loaders, epochs=1, seed=len(name))
        list(run(made, tmp_path / name))
        os.utime(tmp_path / name / "config.json", (0, len(name)))
    (tmp_path / "no run").mkdir()
    line = json.dumps({"epoch": 1, "valid_loss": math.nan, "lr": -math.inf})
    (tmp_path / "first" / "metrics.jsonl").write_text(line)
    first, second = read_runs(tmp_path)
    assert (first.name, first.config.seed) == ("first", 5)
    assert (second.name, second.rows) == ("second", rows_of(tmp_path / "second"))
    (row,) = first.rows
    assert math.isnan(row["valid_loss"]) and row["lr"] == -math.inf


def test_folders_without_a_run(tmp_path, loaders):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        read_run(tmp_path)
    assert read_runs(tmp_path) == [] == read_runs(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"tracker": "tens')
    with pytest.raises(ValueError, match=r"config\.json describes no training"):
        read_run(tmp_path)
    (tmp_path / "config.json").unlink()
    list(run(experiment(loaders, epochs=1), tmp_path))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "train_loss": 0.')
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["best.pt", "config.json", "metrics.jsonl"])
def test_a_file_of_a_run_stands_for_its_folder(tmp_path, loaders, name):
    folder = tmp_path / "run"
    list(run(experiment(loaders, epochs=1), folder))
    assert read_run(folder / name) == read_run(folder)
    assert len(read_run(folder / name).rows) == 1


def test_the_best_row_is_the_most_accurate_then_of_least_loss_then_the_first():
    scores = [(0.5, 0.1), (0.75, 0.4), (0.75, 0.3), (0.75 + 1e-9, 0.3), (0.7, 0.2)]
    rows = [{"valid_acc": acc, "valid_loss": loss} for acc, loss in scores]
    assert best_row(rows) is rows[2]


@pytest.mark.parametrize(
    ("weights", "best"), [("none", 0), ("balanced", 2), ("inverse", 2)]
)
@pytest.mark.parametrize("is_nan", [False, True])
def test_with_class_weights_the_balanced_accuracy_decides(weights, best, is_nan):
    scores = [(0.9, 0.5), (0.8, 0.6), (0.7, 0.7)] + [(math.nan, math.nan)] * is_nan
    rows = [
        {"valid_acc": acc, "valid_balanced": balanced, "valid_loss": 0.5}
        for acc, balanced in scores
    ]
    assert best_row(rows, weights) is rows[best]
    assert best_row(rows[::-1], weights) is rows[best]


def write_config(folder):
    content = {"model": "cnn", "class_names": ["a", "b"]}
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_no_number_is_read_back_as_nan(tmp_path, number):
    row = {"epoch": 1, "valid_acc": 0.5, "valid_loss": number}
    write_config(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(to_json(row) + b"\n")
    (found,) = read_run(tmp_path).rows
    assert math.isnan(found.pop("valid_loss"))
    assert found == {"epoch": 1, "valid_acc": 0.5}


@pytest.mark.parametrize("line", [b'{"epoch": 1', b"\xff\xfe", b"3", b'["epoch"]'])
def test_a_line_that_is_no_row_is_damage(tmp_path, line):
    write_config(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n' + line)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "order", list(itertools.permutations([math.nan, 0.7, math.inf]))
)
def test_a_loss_that_is_no_number_is_never_the_best(order):
    rows = [{"valid_acc": 0.5, "valid_loss": loss} for loss in order]
    assert best_row(rows)["valid_loss"] == 0.7


# ---- Their pages


@contextlib.contextmanager
def serving(*command, folder):
    """Run a server of this Python's; yield (its process, its address)."""
    port = free_port()
    place = ["--host", "127.0.0.1", "--port", str(port)]
    # Else MLflow starts four more processes.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, *place],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
        )
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_the_page_answers_over_http(kind, log_dir, tmp_path):
    folder = log_dir / f"page-{kind}"
    with Tracker(kind, folder, Config()) as tracker:
        tracker({"epoch": 3, "valid_acc": 0.75})
    if kind == "tensorboard":
        command = ["tensorboard.main", "--logdir", str(log_dir)]
        with serving(*command, folder=tmp_path) as (server, address):
            assert "<tb-webapp" in wait_for_page(server, address).text
            url = f"{address}/data/plugin/scalars/scalars"
            asked = {"run": folder.name, "tag": "valid_acc"}
            ((_, step, value),) = wait_for_page(server, url, params=asked).json()
    else:
        store = f"sqlite:///{(log_dir / 'mlflow.db').as_posix()}"
        command = ["mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
        with serving(*command, folder=tmp_path) as (server, address):
            assert '<div id="root"' in wait_for_page(server, address).text
            _, latest = latest_in_mlflow(folder)
            url = f"{address}/api/2.0/mlflow/metrics/get-history"
            asked = {"run_id": latest.info.run_id, "metric_key": "valid_acc"}
            (metric,) = wait_for_page(server, url, params=asked).json()["metrics"]
            step, value = metric["step"], metric["value"]
    assert (step, value) == (3, 0.75)
