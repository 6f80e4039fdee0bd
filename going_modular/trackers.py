# Written by tools/export.py from 07_experiment_tracking.ipynb: edit there, not here.
"""Observers of a training's rows: TensorBoard, W&B, MLflow."""

import functools
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from going_modular.config import Choices, Config


def open_tensorboard(folder: Path, config: Config, address: str) -> SimpleNamespace:
    """Begin TensorBoard's event file in a folder.

    Returns:
        log(name, number, step), log_figure(name, figure, step), finish(last metrics,
        failed), and its own SummaryWriter, writer.
    """
    from torch.utils.tensorboard import SummaryWriter  # here: it takes a second

    # purge: what a killed run left; flush: seconds of which a killed run loses the rows
    writer = SummaryWriter(folder, purge_step=0, flush_secs=1)

    def finish(last: dict[str, float], failed: bool) -> None:
        final = {f"final/{name}": value for name, value in last.items()}
        writer.add_hparams(vars(config), final, run_name=".")
        writer.close()

    add_figure = functools.partial(writer.add_figure, close=False)
    return SimpleNamespace(
        writer=writer, log=writer.add_scalar, log_figure=add_figure, finish=finish
    )


def open_wandb(folder: Path, config: Config, address: str) -> SimpleNamespace:
    """Begin W&B's files in a folder, or a run on a server; see ``open_tensorboard``.

    Offline files reach a server later by ``wandb sync FOLDER/wandb/offline-run-*``.
    """
    os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    import wandb  # here: it takes seconds, and reads the settings above

    if "x_transaction_log_flush_interval" not in wandb.Settings.model_fields:
        raise RuntimeError(
            f"wandb {wandb.__version__} is too old: pip install -U 'wandb>=0.31', then "
            "restart Python"
        )
    run = wandb.init(
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
    run.define_metric("*", step_metric="step")

    def log(name: str, value: Any, step: int) -> None:
        run.log({name: value, "step": step})  # W&B's own step counts the calls

    def log_figure(name: str, figure: Any, step: int) -> None:
        log(name, wandb.Image(figure), step)

    return SimpleNamespace(
        log=log,
        log_figure=log_figure,
        finish=lambda last, failed: run.finish(exit_code=int(failed)),
    )


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

    database = Path(log_dir).resolve() / "mlflow.db"
    return MlflowClient(address or f"sqlite:///{database.as_posix()}")


def open_mlflow(folder: Path, config: Config, address: str) -> SimpleNamespace:
    """Begin a run in mlflow.db beside its folder, or on a server; as the others."""
    from filelock import FileLock

    log_dir = folder.parent
    with FileLock(log_dir / "mlflow.lock", timeout=60):  # one makes the database
        client = mlflow_client(log_dir, address)
        if not client.get_experiment_by_name("course"):
            place = None if address else (log_dir / "artifacts").resolve().as_uri()
            client.create_experiment("course", place)
        number = client.get_experiment_by_name("course").experiment_id
    run_id = client.create_run(number, run_name=folder.name).info.run_id
    for name, value in vars(config).items():
        client.log_param(run_id, name, value)

    def log(name: str, value: float, step: int) -> None:
        client.log_metric(run_id, name, value, step=step)

    def log_figure(name: str, figure: Any, step: int) -> None:
        client.log_figure(run_id, figure, f"{name}_{step}.png")

    return SimpleNamespace(
        log=log,
        log_figure=log_figure,
        finish=lambda last, failed: client.set_terminated(
            run_id, "FAILED" if failed else "FINISHED"
        ),
    )


TRACKERS = Choices(
    "tracker",
    {
        "none": None,
        "tensorboard": open_tensorboard,
        "wandb": open_wandb,
        "mlflow": open_mlflow,
    },
)


class Tracker:
    """An observer of rows that records a run; a context manager that finishes it.

    A tracker that fails must not stop a training: it is left alone from then on, and
    one line on stderr says so. ``run`` keeps the numbers in metrics.jsonl all the same.

    Args:
        kind: one of TRACKERS.
        folder: of the run.
        config: of the run.
        address: of a W&B or MLflow server; "" for files.
        rows: of an earlier part of the training, to be recorded first.

    Raises:
        ValueError: if there is no such tracker.
        OSError: if the folder cannot be made.
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
        self.kind, self.folder, self.last = kind, Path(folder), {}
        begin = TRACKERS[kind]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.backend = self.ask(begin, self.folder, config, address)
        for row in rows:
            self(row)

    def __call__(self, row: dict[str, float]) -> None:
        """Record a row of results at row["epoch"]."""
        for name in row.keys() - {"epoch"}:
            self.last[name] = float(row[name])
            self.ask("log", name, self.last[name], int(row["epoch"]))

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Record a matplotlib Figure at a step."""
        self.ask("log_figure", name, figure, step)

    def finish(self, failed: bool = False) -> None:
        """Record the last of each metric as the final ones, and close; once.

        Args:
            failed: the run did not end by itself.
        """
        self.ask("finish", self.last, failed)
        self.backend = None

    def ask(self, action: Any, *arguments: Any) -> Any:
        """Call a function, or the backend's of this name, until one fails."""
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

    def __exit__(self, kind: type | None, *_: object):
        self.finish(failed=kind is not None)
