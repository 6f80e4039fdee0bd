# Written by tools/export.py from 01_workflow.ipynb, 03_computer_vision.ipynb: edit
# there, not here.
"""The training loop: one step, one epoch, a whole training."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from going_modular.metrics import accuracy, check_finite, check_labels, means_of
from going_modular.utils import check_device, model_mode


def update_weights(
    model: nn.Module,
    X: torch.Tensor,
    labels: torch.Tensor,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
    max_norm: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Let the model learn from one batch.

    Returns:
        (outputs, y, loss): results and labels on ``device``, detached.

    Raises:
        ValueError: if a label has no output.
    """
    optimizer.zero_grad()
    outputs = model(X.to(device))
    check_labels(labels, outputs)
    y = labels.to(device)
    loss = loss_fn(outputs, y)
    loss.backward()
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return outputs.detach(), y, loss.detach()


def train_step(
    model: nn.Module,
    dataloader: Iterable,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
    *,
    scheduler: Any = None,
    metric: Callable = accuracy,
    max_norm: float | None = None,
    update: Callable = update_weights,
) -> tuple[float, float]:
    """Train for one epoch.

    Args:
        model: on ``device``; afterward in the mode in which it was found.
        dataloader: yields batches (X, y) of len(y) samples each.
        loss_fn: (outputs, y) -> mean over the batch.
        optimizer: holds the model's parameters.
        device: where to compute.
        scheduler: stepped after every batch.
        metric: (outputs, y) -> mean over the batch.
        max_norm: gradients longer than this, together, are scaled down to it.
        update: called in place of ``update_weights``.

    Returns:
        (loss, metric), exact means over the samples while they were trained on.

    Raises:
        ValueError: if there are no batches, the model is on another device, or a
            label has no output.
        FloatingPointError: if the loss or a parameter is not finite; model, optimizer
            and scheduler are then as they were before this epoch.
    """
    check_device(model, device)
    parts = [
        part
        for part in (model, optimizer, scheduler, update)
        if hasattr(part, "state_dict")
    ]
    before = copy.deepcopy([part.state_dict() for part in parts])
    seen = []
    with model_mode(model, training=True):
        for X, labels in dataloader:
            outputs, y, loss = update(
                model, X, labels, loss_fn, optimizer, device, max_norm
            )
            if scheduler is not None:
                scheduler.step()
            seen.append((loss, metric(outputs, y), len(y)))
    result = means_of(seen)
    try:
        check_finite([loss for loss, *_ in seen], model)
    except FloatingPointError:
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        raise
    return result


def test_step(
    model: nn.Module,
    dataloader: Iterable,
    loss_fn: Callable,
    device: torch.device | str,
    *,
    metric: Callable = accuracy,
) -> tuple[float, float]:
    """Return (loss, metric) on all batches, exact means over the samples.

    Arguments and errors are those of ``train_step``, but a loss that is not finite is
    returned as it is. The model is in evaluation mode meanwhile and learns nothing.
    """
    check_device(model, device)
    seen = []
    with model_mode(model, training=False), torch.inference_mode():
        for X, labels in dataloader:
            outputs = model(X.to(device))
            check_labels(labels, outputs)
            y = labels.to(device)
            seen.append((loss_fn(outputs, y), metric(outputs, y), len(y)))
    return means_of(seen)


def train_epochs(
    model: nn.Module,
    train_dataloader: Iterable,
    test_dataloader: Iterable,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable,
    epochs: int,
    device: torch.device | str,
    *,
    scheduler: Any = None,
    metric: Callable = accuracy,
    max_norm: float | None = None,
    update: Callable = update_weights,
    first_epoch: int = 1,
) -> Iterator[dict[str, float]]:
    """Train, and yield a row after every epoch.

    Arguments are those of ``train_step``; first_epoch is where an interrupted training
    goes on.

    Yields:
        {"epoch": 1.., "train_loss", "train_acc", "test_loss", "test_acc"}; with
        another metric its ``__name__`` stands in place of "acc".

    Raises:
        ValueError, FloatingPointError: as ``train_step``, naming the epoch.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; train for at least 1")
    named = "acc" if metric is accuracy else getattr(metric, "__name__", "metric")
    for epoch in range(first_epoch, epochs + 1):
        try:
            train_loss, train_score = train_step(
                model,
                train_dataloader,
                loss_fn,
                optimizer,
                device,
                scheduler=scheduler,
                metric=metric,
                max_norm=max_norm,
                update=update,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {epoch}: {error}") from None
        test_loss, test_score = test_step(
            model, test_dataloader, loss_fn, device, metric=metric
        )
        row = {"epoch": epoch, "train_loss": train_loss, f"train_{named}": train_score}
        yield row | {"test_loss": test_loss, f"test_{named}": test_score}


def train(
    model: nn.Module,
    train_dataloader: Iterable,
    test_dataloader: Iterable,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable,
    epochs: int,
    device: torch.device | str,
    *,
    scheduler: Any = None,
    metric: Callable = accuracy,
    max_norm: float | None = None,
    update: Callable = update_weights,
) -> dict[str, list[float]]:
    """Train, and return every epoch's results as lists.

    Arguments and errors are those of ``train_epochs``.

    Returns:
        {"train_loss": [...], "train_acc": [...], "test_loss": [...], "test_acc": [...]}
    """
    rows = list(
        train_epochs(
            model,
            train_dataloader,
            test_dataloader,
            optimizer,
            loss_fn,
            epochs,
            device,
            scheduler=scheduler,
            metric=metric,
            max_norm=max_norm,
            update=update,
        )
    )
    return {name: [row[name] for row in rows] for name in rows[0] if name != "epoch"}


def predict(
    model: nn.Module, dataloader: Iterable, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits (N, K), labels (N,)) for a dataloader, in its order, on the CPU.

    The model is in evaluation mode meanwhile.

    Raises:
        ValueError: if the model is on another device, or there are no batches.
    """
    check_device(model, device)
    logits = []
    labels = []
    with model_mode(model, training=False), torch.inference_mode():
        for X, y in dataloader:
            logits.append(model(X.to(device)))
            labels.append(y)
    if not labels:
        raise ValueError(
            "the dataloader gave no batches: is its data set empty, or is it an "
            "iterator that is used up?"
        )
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()  # -> (N, K), (N,)
