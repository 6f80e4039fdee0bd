# Written by tools/export.py from 07_experiment_tracking.ipynb: edit there, not here.
"""Experiments recorded, and compared."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import sqlite3
import struct
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from going_modular.engine import train_epochs
from going_modular.model_builder import ClassificationModel, create_effnet_lite0_model, create_effnetb2_model
from going_modular.train import MODELS
from going_modular.utils import get_device, set_seeds, whole_file


def pretrained(create, num_classes, channels):
    """Return the model of a factory of lesson 06, frozen but for its head. Raises ValueError unless channels is 3."""
    if channels != 3:
        raise ValueError(f"channels is {channels}: a pretrained backbone sees color, so repeat a gray channel 3 times")
    return create(num_classes, "cpu")[0]


BACKBONES = MODELS | {  # name -> (config, num_classes, channels) -> model
    "mlp": lambda config, num_classes, channels=3: nn.Sequential(
        nn.Flatten(),  # (B, C, H, W) -> (B, C * H * W)
        ClassificationModel(channels * config.image_size**2, config.hidden_units, num_classes),
    ),
    "effnet_lite0": lambda config, num_classes, channels=3: pretrained(
        create_effnet_lite0_model, num_classes, channels
    ),
    "effnetb2": lambda config, num_classes, channels=3: pretrained(create_effnetb2_model, num_classes, channels),
}


SCHEDULERS = {  # name -> (optimizer, lr, steps in all) -> a scheduler that is stepped after every batch
    "constant": lambda optimizer, lr, steps: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "step": lambda optimizer, lr, steps: lr_scheduler.StepLR(optimizer, -(-2 * steps // 3), gamma=0.1),
    "cosine": lambda optimizer, lr, steps: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),
    "one_cycle": lambda optimizer, lr, steps: lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, cycle_momentum=False
    ),
}


TRACKERS = ("tensorboard", "wandb", "mlflow", "none")


def check_number(name, value, kind):
    """Raise ValueError unless ``value`` may stand in an ExperimentConfig under ``name``, whose type is ``kind``."""
    lowest = 0 if name in ("weight_decay", "seed") else 1 if kind is int else sys.float_info.min
    number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not number or not lowest <= value < 2**32:  # NaN is not in between either
        what = "whole number" if kind is int else "number"
        raise ValueError(f"{name} is {value!r}: choose a {what} {'from 0' if lowest == 0 else 'above 0'}, below 2**32")


@dataclass(frozen=True)
class ExperimentConfig:
    """All that decides a run, and where it is recorded.  Raises ValueError, with the choices, for what cannot be."""

    name: str = "baseline"
    tracker: str = "tensorboard"
    log_dir: str = "runs/experiments"
    address: str = ""  # of a W&B or MLflow server; empty: files in log_dir
    backbone: str = "mlp"
    num_classes: int = 10
    channels: int = 1
    image_size: int = 28
    hidden_units: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    scheduler: str = "constant"
    epochs: int = 3
    batch_size: int = 64
    train_size: int = 6000
    seed: int = 42

    def __post_init__(self):
        for field, choices in (("tracker", TRACKERS), ("backbone", BACKBONES), ("scheduler", SCHEDULERS)):
            if getattr(self, field) not in choices:
                raise ValueError(f"unknown {field} {getattr(self, field)!r}: choose one of {', '.join(choices)}")
        if not re.fullmatch(r"\w([\w.-]*\w)?", self.name):
            raise ValueError(
                f"name is {self.name!r}: it becomes a folder, so use letters, digits, _, and within it - and ."
            )
        if self.address and (self.tracker not in ("wandb", "mlflow") or not self.address.startswith("http")):
            raise ValueError(f"address is {self.address!r}: W&B and MLflow take an http address, others none")
        for field in dataclasses.fields(self):
            if field.type is not str:
                check_number(field.name, getattr(self, field.name), field.type)


def new_run_folder(log_dir, name):
    """Make and return a folder of this run's own: log_dir/name or, where that is taken, name-2, name-3, ...

    Two processes never get the same one.  Raises OSError, with the next step, where none can be made.
    """
    log_dir = Path(log_dir)
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = log_dir / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()  # looks and makes at once, so that nobody can come between
                return folder
    except OSError as error:
        raise OSError(f"cannot make a run's folder in {log_dir} ({error}): choose a log_dir you may write to") from None


def begin_run(config):
    """Make a run's folder with config.json, versions.json and an empty metrics.jsonl; return it.  Raises OSError."""
    folder = new_run_folder(config.log_dir, config.name)
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    for name, content in (("config", dataclasses.asdict(config)), ("versions", versions)):
        with whole_file(folder / f"{name}.json") as file:
            file.write(json.dumps(content, indent=2).encode())
    (folder / "metrics.jsonl").touch()
    return folder


def append_row(folder, row):
    """Append a row, {name: value}, to the metrics.jsonl of a run's folder."""
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


class Run(NamedTuple):
    """A run as it was recorded: config {name: value}, metrics {name: [(step, value), ...]}, final {name: value}."""

    name: str
    config: dict
    metrics: dict
    final: dict


def read_json(path):
    """Return what a JSON file of a run holds.  Raises FileNotFoundError and ValueError, with the next step."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no run: check the path, or record one with setup_experiment")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is damaged: take it from a copy, or run the experiment again") from None


def as_run(folder, triples, final=None):
    """Return the Run of a folder from triples (metric, step, value); metrics named final/... are the final ones.

    Raises FileNotFoundError where the folder has no config.json, ValueError where that is damaged.
    """
    config, metrics, final = read_json(Path(folder) / "config.json"), {}, dict(final or {})
    for name, step, value in triples:
        if name.startswith("final/"):
            final[name.removeprefix("final/")] = value
        else:
            metrics.setdefault(name, []).append((step, value))
    return Run(Path(folder).resolve().name, config, metrics, final)


def find_file(folder, pattern, kind):
    """Return the first file in a run's folder that the pattern finds.  Raises FileNotFoundError."""
    for path in sorted(Path(folder).glob(pattern)):
        return path
    raise FileNotFoundError(f"{folder} holds no {kind} run: check the path, or use read_run")


def read_log(folder):
    """Return the Run that a folder's metrics.jsonl holds.  Errors as ``read_run``."""
    path, triples, final = find_file(folder, "metrics.jsonl", "recorded"), [], {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            if not line.endswith("\n"):  # the last one, cut where the run was killed
                break
            raise ValueError(f"{path} is damaged at {line[:40]!r}: take it from a copy, or run it again") from None
        final = row.get("final", final)
        triples += [(name, row["step"], value) for name, value in row.items() if "step" in row and name != "step"]
    return as_run(folder, triples, final)


class TensorBoardTracker:
    """A run as one TensorBoard event file in its folder; methods as those of ``Tracker``."""

    def __init__(self, folder, config):
        self.writer, self.config = SummaryWriter(folder), config

    def log(self, metrics, step):
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # so that a killed run can be read up to here

    def log_figure(self, name, figure, step):
        self.writer.add_figure(name, figure, step, close=False)

    def finish(self, final):
        self.log(final_names(final), step=0)
        for summary in hparams(dataclasses.asdict(self.config), final_names(final)):
            self.writer.file_writer.add_summary(summary)  # add_hparams would begin another run
        self.writer.close()


def final_names(final):
    """Return the final metrics under the names that tell them from those of a step: final/..."""
    return {f"final/{name}": value for name, value in final.items()}


def wandb_run(folder, config):
    """Begin and return a W&B run: offline in the folder, or online where config has an address; quiet and brief."""
    os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    import wandb  # here, for it takes seconds, not every run wants it, and it reads the settings above at import

    server = {"mode": "online", "base_url": config.address} if config.address else {"mode": "offline"}
    quiet = {"console": "off", "save_code": False, "disable_git": True, "disable_code": True}
    unobserved = {"x_disable_stats": True, "x_disable_machine_info": True, "x_disable_meta": True}
    patience = {"init_timeout": 10, "login_timeout": 1, "finish_timeout": 10, "x_graphql_retry_max": 1}
    flush = {"x_transaction_log_flush_interval": 1}  # seconds: what a killed run may lose
    settings = wandb.Settings(**server, **quiet, **unobserved, **patience, **flush)
    values, names = dataclasses.asdict(config), {"project": "course", "name": folder.name, "dir": folder}
    return wandb.init(config=values, settings=settings, reinit="create_new", **names)  # other runs may be open


class WandbTracker:
    """A run as W&B's files in its folder, or on the server at config.address; methods as those of ``Tracker``."""

    def __init__(self, folder, config):
        self.folder, self.run = folder, wandb_run(folder, config)
        self.run.define_metric("*", step_metric="step")

    def log(self, metrics, step):
        self.run.log(metrics | {"step": step})  # a column of ours: W&B's own step counts the calls

    def log_figure(self, name, figure, step):
        from wandb import Image

        self.run.log({name: Image(figure), "step": step})

    def finish(self, final):
        self.run.summary.update(final_names(final))  # beside its config
        finish_wandb(self.run, self.folder)


def mlflow_client(log_dir, address=""):
    """Return an MlflowClient for the server at ``address``, or for the database log_dir/mlflow.db, quiet and brief."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}
    brief = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}  # not 7 times 120 seconds
    closed = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}  # keeps no connection, and on Windows no file, open
    os.environ |= quiet | brief | closed
    from mlflow import MlflowClient  # here, for it takes seconds, and reads the settings above at import

    return MlflowClient(address or f"sqlite:///{(Path(log_dir).resolve() / 'mlflow.db').as_posix()}")


def mlflow_experiment(client, log_dir, address=""):
    """Return the id of MLflow's experiment "course", made where it is missing."""
    experiment = client.get_experiment_by_name("course")
    place = None if address else (Path(log_dir) / "artifacts").resolve().as_uri()
    return experiment.experiment_id if experiment else client.create_experiment("course", place)


class MLflowTracker:
    """A run in the database mlflow.db in log_dir, or on the server at config.address; methods as of ``Tracker``."""

    def __init__(self, folder, config):
        with contextlib.closing(sqlite3.connect(folder.parent / "mlflow.lock", timeout=60)) as lock:
            lock.execute("BEGIN EXCLUSIVE")  # one process at a time, for the first makes the database
            self.client = mlflow_client(folder.parent, config.address)
            experiment_id = mlflow_experiment(self.client, folder.parent, config.address)
        self.run_id = self.client.create_run(experiment_id, run_name=folder.name).info.run_id
        (folder / "mlflow.json").write_text(json.dumps({"address": config.address, "run_id": self.run_id}))
        for name, value in dataclasses.asdict(config).items():
            self.client.log_param(self.run_id, name, value)

    def log(self, metrics, step):
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in metrics.items()])

    def log_figure(self, name, figure, step):
        self.client.log_figure(self.run_id, figure, f"{name}_{step}.png")

    def finish(self, final):
        self.log(final_names(final), step=0)
        self.client.set_terminated(self.run_id)


BACKENDS = {  # name -> (folder, config) -> a tracker, or None
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "mlflow": MLflowTracker,
    "none": lambda folder, config: None,
}


class Guard:
    """Calls that must not stop a training: a part that raised is left alone from then on, and one line says so."""

    def __init__(self, folder):
        self.folder, self.failed = folder, set()

    def __call__(self, part, action, *arguments):
        """Return action(*arguments), or None where the part failed, now or before."""
        try:
            return action(*arguments) if part not in self.failed else None
        except Exception as error:  # whatever it is, but not Ctrl-C
            self.failed.add(part)
            self.report(part, " ".join(f"{type(error).__name__}: {error}".split())[:200])

    def report(self, part, reason):
        """Say on stderr, and in metrics.jsonl, that a part stopped."""
        kept = "" if part == "metrics.jsonl" else f", its numbers are in {self.folder / 'metrics.jsonl'}"
        print(f"tracking with {part} stopped: {reason}; the training goes on{kept}", file=sys.stderr)
        with contextlib.suppress(OSError):
            append_row(self.folder, {"stopped": part, "reason": reason})


class Tracker:
    """What a training sees of tracking; a context manager that finishes the run.  folder, name: the run's own.

    Each row goes to metrics.jsonl and to config.tracker's backend, see ``Guard``.  Raises OSError: ``new_run_folder``.
    """

    def __init__(self, config):
        self.config, self.folder, self.last, self.is_open = config, begin_run(config), {}, True
        self.name, self.guard = self.folder.name, Guard(self.folder)
        self.backend = self.guard(config.tracker, BACKENDS[config.tracker], self.folder, config)

    def log(self, metrics, step):
        """Record {name: number} at a step, a whole number.  No name may be "step" or begin with "final/"."""
        step, metrics = int(step), {name: float(value) for name, value in metrics.items()}
        self.last |= metrics
        self.guard("metrics.jsonl", append_row, self.folder, {"step": step} | metrics)
        self.ask("log", metrics, step)

    def log_figure(self, name, figure, step):
        """Record a matplotlib Figure at a step, in the backend alone."""
        self.ask("log_figure", name, figure, step)

    def finish(self, final=None):
        """Record the final metrics, by default the last of each, together with the config, and close; once."""
        if self.is_open:
            self.is_open = False
            final = {name: float(value) for name, value in (self.last if final is None else final).items()}
            self.guard("metrics.jsonl", append_row, self.folder, {"final": final})
            self.ask("finish", final)

    def ask(self, method, *arguments):
        """Call a method of the backend, where there is one."""
        self.guard(self.config.tracker, getattr(self.backend, method, lambda *_: None), *arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.finish()


class Experiment(NamedTuple):
    """What one run is made of."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: lr_scheduler.LRScheduler
    tracker: Tracker


def steps_per_epoch(config):
    """Return how many batches an epoch has: the last one may be smaller."""
    return math.ceil(config.train_size / config.batch_size)


def setup_experiment(config, device=None):
    """Return the Experiment that an ExperimentConfig describes: seeded, its model on ``device``, its tracker open.

    device: by default the best of this machine.  Raises ValueError for a backbone that does not take the config's
    channels or image_size, and OSError as ``new_run_folder`` and the pretrained backbones do.
    """
    set_seeds(config.seed)
    model = BACKBONES[config.backbone](config, config.num_classes, config.channels).to(device or get_device())
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay)
    scheduler = SCHEDULERS[config.scheduler](optimizer, config.lr, config.epochs * steps_per_epoch(config))
    return Experiment(model, optimizer, scheduler, Tracker(config))  # last: a mistake leaves no empty run behind


def run_experiment(experiment, train_dataloader, valid_dataloader):
    """Train an Experiment; an epoch yields a row {"epoch", "train_loss", "train_acc", "valid_loss", "valid_acc"}.

    The rows are logged, with the next learning rate; the run is finished also where the loop is left early.
    Raises ValueError where the number of batches is not the config's, and errors as ``engine.train_epochs``.
    """
    model, optimizer, scheduler, tracker = experiment
    config, loaders, device = tracker.config, (train_dataloader, valid_dataloader), next(model.parameters()).device
    with tracker:
        if len(train_dataloader) != steps_per_epoch(config):
            what = f"{len(train_dataloader)} batches, the config says {steps_per_epoch(config)}"
            raise ValueError(f"the dataloader has {what}: mend train_size or batch_size")
        arguments = (*loaders, optimizer, nn.CrossEntropyLoss(), config.epochs, device)
        for row in train_epochs(model, *arguments, scheduler=scheduler):
            row = {name.replace("test", "valid"): value for name, value in row.items()}
            metrics = {name: value for name, value in row.items() if name != "epoch"}
            tracker.log(metrics | {"lr": scheduler.get_last_lr()[0]}, step=row["epoch"])
            yield row


def read_tensorboard(folder):
    """Return the Run that a folder's TensorBoard event file holds.  Errors as ``read_run``."""
    path = find_file(folder, "events.out.tfevents.*", "TensorBoard")
    events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()  # 0: all, not a sample of 10,000
    tags = events.Tags()["scalars"]
    return as_run(folder, [(tag, event.step, event.value) for tag in tags for event in events.Scalars(tag)])


def wandb_records(data):
    """Yield each record in a .wandb file's bytes, up to its end or to where it is cut or damaged.

    A LevelDB log: blocks of 32 KiB, the first with 7 bytes in front; in them pieces of records, each behind 7 bytes.
    """
    position, record = 7, b""
    while position + 7 <= len(data):
        room = 2**15 - position % 2**15
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        end = position + 7 + length
        if room < 7:
            end = position + room  # too little for another piece: on to the next block
        elif end > len(data) or zlib.crc32(data[position + 6 : end]) != checksum:
            return
        else:
            record += data[position + 7 : end]
            if kind in (1, 4):  # 1: a whole record, 2: its first piece, 3: another, 4: its last
                yield record
                record = b""
        position = end


def read_wandb(folder):
    """Return the Run that a folder's W&B file holds, up to where a killed run was cut off.  Errors as ``read_run``."""
    from wandb.proto.wandb_internal_pb2 import Record

    triples, path = [], find_file(folder, "wandb/*run-*/run-*.wandb", "W&B")
    for record in map(Record.FromString, wandb_records(path.read_bytes())):
        items = [*record.history.item, *record.summary.update]  # a record is of one kind, the other is empty
        plain = [item for item in items if len(item.nested_key) < 2]  # a picture has width, height, ...: nested
        values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in plain}
        step = values.pop("step", None)
        for name, value in values.items():
            if name.startswith("final/") or (record.history.item and name not in ("_step", "_timestamp", "_runtime")):
                triples.append((name, step, float(value)))
    return as_run(folder, triples)


def finish_wandb(run, folder, seconds=5):
    """Finish a W&B run, and wait until its file is whole: W&B's own process goes on writing for a moment."""
    from wandb.proto.wandb_internal_pb2 import Record

    run.finish()
    end, kinds = time.monotonic() + seconds, []
    while "exit" not in kinds and time.monotonic() < end:
        time.sleep(0.02)
        data = find_file(folder, "wandb/*run-*/run-*.wandb", "W&B").read_bytes()
        kinds = [Record.FromString(record).WhichOneof("record_type") for record in wandb_records(data)]


def read_mlflow(folder):
    """Return the Run that MLflow holds of a folder's run, at the address where it was logged.  Errors as ``read_run``.

    Raises mlflow.MlflowException where the server does not answer.
    """
    find_file(folder, "mlflow.json", "MLflow")
    place = read_json(Path(folder) / "mlflow.json")
    if not place["address"]:
        find_file(Path(folder).parent, "mlflow.db", "MLflow")  # else MLflow would make an empty one
    client, triples = mlflow_client(Path(folder).parent, place["address"]), []
    for name in client.get_run(place["run_id"]).data.metrics:
        for metric in client.get_metric_history(place["run_id"], name):
            huge = abs(metric.value) >= sys.float_info.max  # so MLflow keeps infinity
            triples.append((name, metric.step, math.copysign(math.inf, metric.value) if huge else metric.value))
    return as_run(folder, triples)


def read_run(folder):
    """Return the Run in a folder, from the tracker that recorded it; where that had stopped, from metrics.jsonl.

    Raises FileNotFoundError where there is none, ValueError where a file of it is damaged.
    """
    config, log = read_json(Path(folder) / "config.json"), Path(folder) / "metrics.jsonl"
    kind = config.get("tracker")
    stopped = log.is_file() and json.dumps({"stopped": kind})[:-1] in log.read_text(encoding="utf-8")
    readers = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}
    return (read_log if stopped else readers.get(kind, read_log))(folder)


def read_runs(log_dir):
    """Return the Runs in a folder of runs, in the order in which they were begun.  Errors as ``read_run``."""
    paths = sorted(Path(log_dir).glob("*/config.json"), key=lambda path: (path.stat().st_mtime_ns, path))
    return [read_run(path.parent) for path in paths]
