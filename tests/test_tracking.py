"""Runs recorded by three trackers and read back, and what goes wrong on the way."""

import contextlib
import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import pytest
import torch

from going_modular import tracking
from going_modular.tracking import (
    ExperimentConfig,
    Tracker,
    new_run_folder,
    read_log,
    read_mlflow,
    read_run,
    read_runs,
    read_tensorboard,
    read_wandb,
    run_experiment,
    setup_experiment,
)

READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow, "none": read_log}
SIZES = {"num_classes": 3, "image_size": 8, "hidden_units": 4, "train_size": 20, "batch_size": 8}
METRICS = ["train_loss", "train_acc", "valid_loss", "valid_acc", "lr"]


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 1, 8, 8, generator=generator)
    labels = torch.randint(3, (20,), generator=generator)
    return list(zip(images.split(8), labels.split(8), strict=True))


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    """A folder of runs that several tests share, for MLflow takes seconds to make its data base."""
    return tmp_path_factory.mktemp("runs")


def config(log_dir, **settings):
    return ExperimentConfig(**SIZES | {"log_dir": str(log_dir)} | settings)


def assert_same(run, rows):
    """Assert that a Run holds the rows of ``run_experiment``, to the precision of float32."""
    for name in METRICS[:-1]:
        steps, values = zip(*run.metrics[name], strict=True)
        assert steps == tuple(row["epoch"] for row in rows)
        assert values == pytest.approx([row[name] for row in rows], rel=1e-6)
    assert set(run.metrics) == set(METRICS)
    assert run.final == pytest.approx({name: run.metrics[name][-1][1] for name in METRICS}, rel=1e-6)


@pytest.mark.parametrize("kind", READERS)
def test_a_run_reads_back_as_it_was_logged(kind, log_dir, batches):
    experiment = setup_experiment(config(log_dir, name=f"whole-{kind}", tracker=kind), torch.device("cpu"))
    figure = plt.figure()
    experiment.tracker.log_figure("nothing", figure, 0)
    plt.close(figure)
    rows = list(run_experiment(experiment, batches, batches))
    run = READERS[kind](experiment.tracker.folder)
    assert_same(run, rows)
    assert run == read_run(experiment.tracker.folder)
    assert_same(read_log(experiment.tracker.folder), rows)  # and that with every tracker
    assert run.name == f"whole-{kind}"
    assert run.config == dataclasses.asdict(experiment.tracker.config)


def test_the_tracker_changes_no_number(log_dir, batches):
    results = []
    for kind in ("tensorboard", "none"):
        torch.rand(3)  # another state of the generators
        experiment = setup_experiment(config(log_dir, tracker=kind), torch.device("cpu"))
        results.append(list(run_experiment(experiment, batches, batches)))
    assert results[0] == results[1]


def test_hyperparameters_stand_beside_their_final_metrics(log_dir, batches):
    from tensorboard.plugins.hparams import plugin_data_pb2

    experiment = setup_experiment(config(log_dir, name="hparams", lr=0.02), torch.device("cpu"))
    *_, row = run_experiment(experiment, batches, batches)
    events = tracking.EventAccumulator(str(experiment.tracker.folder)).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["lr"].number_value == 0.02 and values["backbone"].string_value == "mlp"
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    named = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    assert {info.name.tag for info in named} == {f"final/{name}" for name in METRICS}
    assert events.Scalars("final/valid_acc")[0].value == pytest.approx(row["valid_acc"])


BAD_CONFIGS = {
    "backbone": ({"backbone": "resnet"}, r"unknown backbone 'resnet': choose one of .*mlp.*effnet_lite0"),
    "scheduler": ({"scheduler": "linear"}, r"unknown scheduler 'linear': choose one of constant, step, cosine"),
    "tracker": ({"tracker": "excel"}, r"unknown tracker 'excel': choose one of tensorboard, wandb, mlflow, none"),
    "upward": ({"name": "../outside"}, r"name is '\.\./outside': it becomes a folder"),
    "empty name": ({"name": ""}, "name is ''"),
    "absolute": ({"name": "/tmp/outside"}, "it becomes a folder"),
    "address of none": ({"address": "http://127.0.0.1:1"}, "W&B and MLflow take an http address, others none"),
    "address": ({"tracker": "mlflow", "address": "file:///etc"}, "address is 'file:///etc'"),
    "NaN": ({"lr": math.nan}, "lr is nan: choose a number above 0"),
    "zero": ({"lr": 0}, "lr is 0: choose a number above 0"),
    "infinite": ({"lr": math.inf}, "lr is inf"),
    "fraction": ({"epochs": 2.5}, "epochs is 2.5: choose a whole number above 0"),
    "negative": ({"weight_decay": -0.1}, "weight_decay is -0.1: choose a number from 0"),
    "text": ({"batch_size": "64"}, "batch_size is '64': choose a whole number"),
    "switch": ({"hidden_units": True}, "hidden_units is True: choose a whole number"),
}


@pytest.mark.parametrize("settings, message", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_configs_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        ExperimentConfig(**settings)


def test_a_mistake_found_in_setting_up_leaves_no_run_behind(tmp_path):
    with pytest.raises(ValueError, match="channels is 1: a pretrained backbone sees color"):
        setup_experiment(config(tmp_path / "runs", backbone="effnet_lite0"))
    assert not (tmp_path / "runs").exists()


def test_a_pretrained_backbone_trains_its_head_alone(tmp_path):
    settings = {"backbone": "effnet_lite0", "channels": 3, "image_size": 32, "tracker": "none"}
    model, optimizer, _, tracker = setup_experiment(config(tmp_path, **settings), torch.device("cpu"))
    tracker.finish()
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == 1280 * 3 + 3
    assert sum(p.requires_grad for p in model.parameters()) == 2


def test_a_log_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for place in (blocked, blocked / "below"):
        with pytest.raises(OSError, match=r"cannot make a run's folder in .*file.*choose a log_dir you may write to"):
            setup_experiment(config(place))
    assert blocked.read_text() == "in the way"


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write everywhere")
def test_a_log_folder_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError, match="choose a log_dir you may write to"):
        setup_experiment(config(tmp_path / "closed"))


def test_runs_of_one_name_are_kept_apart(log_dir, tmp_path):
    for kind in READERS:
        trackers = [Tracker(config(log_dir, name=f"twin-{kind}", tracker=kind)) for _ in range(2)]
        for number, tracker in enumerate(trackers):  # both open at once
            tracker.log({"value": number}, step=1)
        for number, tracker in enumerate(trackers):
            tracker.finish()
            run = READERS[kind](tracker.folder)
            assert run.metrics == {"value": [(1, number)]} and run.final == {"value": number}
            assert run.name == tracker.name == f"twin-{kind}" + ("-2" if number else "")
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(lambda _: new_run_folder(tmp_path, "same"), range(8)))
    assert len(set(folders)) == 8


@pytest.mark.parametrize("kind", READERS)
def test_nan_and_infinity_are_kept(kind, log_dir):
    with Tracker(config(log_dir, name=f"nan-{kind}", tracker=kind)) as tracker:
        for step, value in enumerate((0.5, math.nan, math.inf, -math.inf)):
            tracker.log({"precision": torch.tensor(value)}, step)
    run = READERS[kind](tracker.folder)
    assert run.metrics["precision"] == [
        (0, 0.5),
        (1, pytest.approx(math.nan, nan_ok=True)),
        (2, math.inf),
        (3, -math.inf),
    ]
    assert run.final == {"precision": -math.inf}


KILLED = """
import sys, time
from going_modular.tracking import ExperimentConfig, Tracker

tracker = Tracker(ExperimentConfig(name="killed-" + sys.argv[1], tracker=sys.argv[1], log_dir=sys.argv[2]))
for step in range(1, 4):
    tracker.log({"loss": 1 / step}, step)
time.sleep(3)  # W&B writes once a second
print("logged", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", READERS)
def test_a_killed_run_reads_back_up_to_there(kind, log_dir, root):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ["PYTHONPATH"]])}
    command = [sys.executable, "-c", KILLED, kind, str(log_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout.readline() == "logged\n"
        child.kill()
    run = READERS[kind](log_dir / f"killed-{kind}")
    assert run.metrics == {"loss": [(step, pytest.approx(1 / step)) for step in (1, 2, 3)]}
    assert run.config["tracker"] == kind and run.final == {}


def test_a_damaged_end_is_left_out(log_dir):
    with Tracker(config(log_dir, name="cut", tracker="none")) as tracker:
        tracker.log({"loss": 1.0}, 1)
    with open(tracker.folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "loss": 0.')
    assert read_run(tracker.folder).metrics == {"loss": [(1, 1.0)]}
    with Tracker(config(log_dir, name="cut", tracker="wandb")) as tracker:
        for step in range(5):
            tracker.log({"loss": step}, step)
    (path,) = tracker.folder.glob("wandb/*run-*/run-*.wandb")
    path.write_bytes(path.read_bytes()[:-200])
    values = read_run(tracker.folder).metrics.get("loss", [])
    assert values == [(step, step) for step in range(len(values))]


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_server_that_does_not_answer_never_stops_training(kind, tmp_path, batches, capfd, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    settings = {"name": "alone", "tracker": kind, "address": f"http://127.0.0.1:{closed_port()}"}
    begun = time.monotonic()
    experiment = setup_experiment(config(tmp_path, **settings), torch.device("cpu"))
    rows = list(run_experiment(experiment, batches, batches))
    assert time.monotonic() - begun < 60
    assert len(rows) == 3
    message = [line for line in capfd.readouterr().err.splitlines() if "tracking" in line]
    assert len(message) == 1 and message[0].startswith(f"tracking with {kind} stopped: ")
    assert f"the training goes on, its numbers are in {tmp_path / 'alone' / 'metrics.jsonl'}" in message[0]
    assert_same(read_run(tmp_path / "alone"), rows)


@pytest.mark.parametrize("method", ["log", "log_figure", "finish"])
def test_a_tracker_that_breaks_on_the_way_never_stops_training(method, tmp_path, batches, capfd, monkeypatch):
    def fail(*_):
        raise ConnectionResetError("the server went away\nin two lines")

    monkeypatch.setattr(tracking.TensorBoardTracker, method, fail)
    experiment = setup_experiment(config(tmp_path), torch.device("cpu"))
    experiment.tracker.log_figure("figure", plt.figure(), 0)
    plt.close("all")
    rows = list(run_experiment(experiment, batches, batches))
    (line,) = capfd.readouterr().err.splitlines()
    assert "tracking with tensorboard stopped: ConnectionResetError: the server went away in two lines; " in line
    assert_same(read_run(experiment.tracker.folder), rows)


def test_a_full_disk_never_stops_training(tmp_path, batches, capfd, monkeypatch):
    monkeypatch.setattr(
        tracking, "append_row", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    experiment = setup_experiment(config(tmp_path), torch.device("cpu"))
    assert len(list(run_experiment(experiment, batches, batches))) == 3
    assert "tracking with metrics.jsonl stopped: OSError: " in capfd.readouterr().err
    assert len(read_tensorboard(experiment.tracker.folder).metrics["valid_acc"]) == 3


def test_a_loop_left_early_finishes_its_run(tmp_path, batches):
    experiment = setup_experiment(config(tmp_path), torch.device("cpu"))
    with contextlib.closing(run_experiment(experiment, batches, batches)) as rows:
        row = next(rows)
    assert read_run(experiment.tracker.folder).final["valid_acc"] == pytest.approx(row["valid_acc"])
    interrupted = setup_experiment(config(tmp_path), torch.device("cpu"))
    with pytest.raises(KeyboardInterrupt), interrupted.tracker as tracker:
        tracker.log({"loss": 1}, 1)
        raise KeyboardInterrupt
    assert read_run(tracker.folder).final == {"loss": 1}


def test_a_schedule_of_another_length_is_refused(tmp_path, batches):
    experiment = setup_experiment(config(tmp_path, train_size=50), torch.device("cpu"))
    with pytest.raises(ValueError, match="the dataloader has 3 batches, the config says 7: mend train_size"):
        next(run_experiment(experiment, batches, batches))


def test_schedulers(tmp_path):
    shapes = {}
    for name, schedule in tracking.SCHEDULERS.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        scheduler, values = schedule(optimizer, 0.1, 9), []
        for _ in range(9):
            values.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        shapes[name] = values
    assert shapes["constant"] == [0.1] * 9
    assert shapes["step"] == pytest.approx([0.1] * 6 + [0.01] * 3)
    assert shapes["cosine"] == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 9)) for step in range(9)])
    assert max(shapes["one_cycle"]) == pytest.approx(0.1, rel=0.1) and shapes["one_cycle"][-1] < 0.001


def test_folders_without_a_run(tmp_path, log_dir):
    with pytest.raises(FileNotFoundError, match="holds no run: check the path, or record one"):
        read_run(tmp_path)
    for name, reader in READERS.items():
        with pytest.raises(FileNotFoundError, match=r"holds no .*run"):
            reader(tmp_path / name)
    assert read_runs(tmp_path) == []
    (tmp_path / "config.json").write_text('{"tracker": "tens')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        read_run(tmp_path)


def fetch(url, server, data=None):
    """Return what a server answers at ``url``, once it does."""
    headers = {"Content-Type": "application/json"} if data else {}
    for _ in range(1500):
        assert server.poll() is None, "the server ended"
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60).read().decode()
        time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


@contextlib.contextmanager
def serving(*command, folder):
    """Run a server of this Python's on a port of this machine and yield (its address, its process)."""
    port = closed_port()
    command = [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)]
    with open(folder / "server.log", "w") as log:
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # four more processes, else
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_the_page_answers_over_http(kind, log_dir, tmp_path):
    with Tracker(config(log_dir, name=f"page-{kind}", tracker=kind)) as tracker:
        tracker.log({"valid_acc": 0.75}, 3)
    if kind == "tensorboard":
        with serving("tensorboard.main", "--logdir", str(log_dir), folder=tmp_path) as (address, server):
            url = f"{address}/data/plugin/scalars/scalars?run=page-tensorboard&tag=valid_acc"
            assert "<tb-webapp" in fetch(address, server)
            ((_, step, value),) = json.loads(fetch(url, server))
    else:
        store = f"sqlite:///{(log_dir / 'mlflow.db').as_posix()}"
        with serving("mlflow", "server", "--backend-store-uri", store, "--workers", "1", folder=tmp_path) as (
            address,
            server,
        ):
            assert '<div id="root"' in fetch(address, server)
            run_id = json.loads((tracker.folder / "mlflow.json").read_text())["run_id"]
            url = f"{address}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=valid_acc"
            (metric,) = json.loads(fetch(url, server))["metrics"]
            step, value = metric["step"], metric["value"]
    assert (step, value) == (3, 0.75)
