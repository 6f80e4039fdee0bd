# Written by tools/export.py from 07_experiment_tracking.ipynb: edit there, not here.
"""Observers of a training's rows: TensorBoard, W&B, MLflow."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from going_modular.config import Choices, Config


class TensorBoardTracker:
    """A run as TensorBoard's event file in its folder; methods as in ``Tracker``."""

    def __init__(self, folder: Path, config: Config, address: str):
        from torch.utils.tensorboard import SummaryWriter  # here: it takes a second

        self.config = config
        self.writer = SummaryWriter(folder, purge_step=0)  # what a killed run left

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record {name: number} at a step."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # so that a killed run can be read up to here

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Record a matplotlib Figure at a step."""
        self.writer.add_figure(name, figure, step, close=False)

    def finish(self, last: dict[str, float]) -> None:
        """Record the last metrics beside the config, and close."""
        final = {f"final/{name}": value for name, value in last.items()}
        self.writer.add_hparams(vars(self.config), final, run_name=".")
        self.writer.close()


class WandbTracker:
    """A run as W&B's files in its folder, or on a server; methods as in ``Tracker``.

    Offline files reach a server later by ``wandb sync FOLDER/wandb/offline-run-*``.
    """

    def __init__(self, folder: Path, config: Config, address: str):
        os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
        import wandb  # here: it takes seconds, and reads the settings above

        self.run = wandb.init(
            config=vars(config),
            settings=wandb.Settings(
                mode="online" if address else "offline",
                base_url=address or "https://api.wandb.ai",
                console="off",
                disable_code=True,
                init_timeout=10,
                login_timeout=1,
                finish_timeout=10,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_graphql_retry_max=1,
                x_transaction_log_flush_interval=1,  # seconds a killed run may lose
            ),
            reinit="create_new",  # other runs may be open
            project="course",
            name=folder.name,
            dir=folder,
        )
        self.run.define_metric("*", step_metric="step")

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Record {name: number} at a step."""
        self.run.log(metrics | {"step": step})  # W&B's own step counts the calls

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Record a matplotlib Figure at a step."""
        from wandb import Image

        self.log({name: Image(figure)}, step)

    def finish(self, last: dict[str, float]) -> None:
        """Close; W&B keeps the last metrics by itself."""
        self.run.finish()


def mlflow_client(log_dir: str | Path, address: str = "") -> Any:
    """Return an MlflowClient, quiet and brief.

    Args:
        log_dir: the folder of mlflow.db, if there is no address.
        address: of a server.
    """
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # not 7, of 120 seconds each
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # leaves no file open
    }
    from mlflow import MlflowClient  # here: it takes seconds, and reads the settings

    database = (Path(log_dir).resolve() / "mlflow.db").as_posix()
    return MlflowClient(address or f"sqlite:///{database}")


class MLflowTracker:
    """A run in mlflow.db beside its folder, or on a server; methods: ``Tracker``."""

    def __init__(self, folder: Path, config: Config, address: str):
        from filelock import FileLock

        log_dir = folder.parent
        # The first process makes the database.
        with FileLock(log_dir / "mlflow.lock", timeout=60):
            self.client = client = mlflow_client(log_dir, address)
            found = client.get_experiment_by_name("course")
            place = None if address else (log_dir / "artifacts").resolve().as_uri()
            number = (
                found.experiment_id
                if found
                else client.create_experiment("course", place)
            )
        self.run_id = client.create_run(number, run_name=folder.name).info.run_id
        for name, value in vars(config).items():
            client.log_param(self.run_id, name, value)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record {name: number} at a step."""
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Record a matplotlib Figure at a step."""
        self.client.log_figure(self.run_id, figure, f"{name}_{step}.png")

    def finish(self, last: dict[str, float]) -> None:
        """Close; MLflow keeps the last metrics by itself."""
        self.client.set_terminated(self.run_id)


TRACKERS = Choices(
    "tracker",
    {
        "none": None,
        "tensorboard": TensorBoardTracker,
        "wandb": WandbTracker,
        "mlflow": MLflowTracker,
    },
)


class Tracker:
    """An observer of rows that records a run; a context manager that finishes it.

    A tracker that fails must not stop a training: it is left alone from then on, and
    one line on stderr says so. The numbers stand in metrics.jsonl all the same.

    Args:
        kind: one of TRACKERS.
        folder: of the run.
        config: of the run.
        address: of a W&B or MLflow server; "" for files.
        rows: of an earlier part of the training, to be recorded first.

    Raises:
        ValueError: if there is no such tracker, or it takes no such address.
    """

    def __init__(
        self,
        kind: str,
        folder: str | Path,
        config: Config,
        *,
        address: str = "",
        rows: Iterable[dict] = (),
    ):
        backend = TRACKERS[kind]
        if address and (kind not in ("wandb", "mlflow") or address[:4] != "http"):
            raise ValueError(
                f"address is {address!r}: W&B and MLflow take an http address, others "
                "none"
            )
        self.kind = kind
        self.last = {}
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.backend = self.ask(backend, self.folder, config, address)
        for row in rows:
            self(row)

    def __call__(self, row: dict[str, float]) -> None:
        """Record a row of results at row["epoch"]."""
        metrics = {name: float(row[name]) for name in row if name != "epoch"}
        self.last |= metrics
        self.ask("log", metrics, int(row["epoch"]))

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Record a matplotlib Figure at a step."""
        self.ask("log_figure", name, figure, step)

    def finish(self) -> None:
        """Record the last of each metric as the final ones, and close; once."""
        self.ask("finish", self.last)
        self.backend = None

    def ask(self, action: Any, *arguments: Any) -> Any:
        """Call a function, or the backend's method of this name, until one fails."""
        try:
            if isinstance(action, str):
                action = getattr(self.backend, action, None)
            return action and action(*arguments)
        except Exception as error:  # whatever it is, but not Ctrl-C
            self.backend = None
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            print(
                f"tracking with {self.kind} stopped: {reason}; the training goes on, "
                f"its numbers are in {self.folder / 'metrics.jsonl'}",
                file=sys.stderr,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_: object):
        self.finish()
