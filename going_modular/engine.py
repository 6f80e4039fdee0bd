# Written by tools/export.py from 01_workflow.ipynb, 03_computer_vision.ipynb: edit
# there, not here.
"""The training loop: one step, one epoch, a whole training."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau

from going_modular.metrics import (
    NO_BATCHES,
    accuracy,
    check_finite,
    find_inverse,
    mean_over_samples,
)
from going_modular.utils import check_device, model_mode, read_outputs


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
        ValueError: if a label has no output, or the model gives no logits.
    """
    optimizer.zero_grad()
    outputs = read_outputs(model(X.to(device)), labels)
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
        metric: (outputs, y) -> mean over the batch, a 0-d tensor; see ``find_inverse``.
        max_norm: gradients longer than this, together, are scaled down to it.
        update: called in place of ``update_weights``.

    Returns:
        (loss, metric), means over the samples while they were trained on: exact, unless
        labels of -100 are left out, for a batch counts by len(y).

    Raises:
        ValueError: if there are no batches, or the arguments do not fit each other.
        FloatingPointError: if the loss or a parameter is not finite.
    """
    check_device(model, device, optimizer)
    means, sizes = [], []
    with model_mode(model, training=True):
        for X, labels in dataloader:
            try:
                outputs, y, loss = update(
                    model, X, labels, loss_fn, optimizer, device, max_norm
                )
            except ValueError as error:
                if "more than 1 value per channel" in str(error):
                    error.args = (
                        "a batch norm cannot learn from a batch of 1 item: choose "
                        "another batch size, or DataLoader(drop_last=True)",
                    )
                raise
            if scheduler is not None:
                scheduler.step()
            if not means:
                inverse = find_inverse(model, X, outputs, loss_fn, metric)
            logits = inverse(outputs) if inverse else outputs
            means.append(torch.stack([loss, metric(logits, y)]))
            sizes.append(len(y))
    result = tuple(mean_over_samples(means, sizes))
    check_finite(means, model)
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
    means, sizes = [], []
    with model_mode(model, training=False), torch.inference_mode():
        for X, labels in dataloader:
            outputs = read_outputs(model(X.to(device)), labels)
            y = labels.to(device)
            if not means:
                inverse = find_inverse(model, X, outputs, loss_fn, metric)
            logits = inverse(outputs) if inverse else outputs
            means.append(torch.stack([loss_fn(outputs, y), metric(logits, y)]))
            sizes.append(len(y))
    return tuple(mean_over_samples(means, sizes))


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
    per_batch: bool | None = None,
    first_epoch: int = 1,
    **options: Any,
) -> Iterator[dict[str, float]]:
    """Train, and yield a row after every epoch.

    Arguments are those of ``train_step``, and so are the options, max_norm and update.
    first_epoch is where an interrupted training goes on. per_batch: if True, the
    scheduler steps after every batch, else epoch; by default as PyTorch documents, True
    for OneCycleLR and CyclicLR. ReduceLROnPlateau gets the test loss, for mode min.

    Yields:
        {"epoch", "train_loss", "train_acc", "test_loss", "test_acc"}; or a metric's
        ``__name__`` for "acc".

    Raises:
        ValueError: as ``train_step``, or if epochs is below 1.
        FloatingPointError: as ``train_step``, naming the epoch.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; train for at least 1")
    if per_batch is None:
        per_batch = isinstance(scheduler, (OneCycleLR, CyclicLR))
    named = "acc" if metric is accuracy else getattr(metric, "__name__", "metric")
    for epoch in range(first_epoch, epochs + 1):
        try:
            train_loss, train_score = train_step(
                model,
                train_dataloader,
                loss_fn,
                optimizer,
                device,
                scheduler=scheduler if per_batch else None,
                metric=metric,
                **options,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {epoch}: {error}") from None
        test_loss, test_score = test_step(
            model, test_dataloader, loss_fn, device, metric=metric
        )
        if scheduler is not None and not per_batch:
            is_plateau = isinstance(scheduler, ReduceLROnPlateau)
            scheduler.step(*([test_loss] if is_plateau else []))
        yield {
            "epoch": epoch,
            "train_loss": train_loss,
            f"train_{named}": train_score,
            "test_loss": test_loss,
            f"test_{named}": test_score,
        }


def train(
    model: nn.Module,
    train_dataloader: Iterable,
    test_dataloader: Iterable,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable,
    epochs: int,
    device: torch.device | str,
    **options: Any,
) -> dict[str, list[float]]:
    """Train, and return every epoch's results as lists.

    Arguments and errors are those of ``train_epochs``; options are scheduler, metric,
    per_batch, max_norm and update.

    Returns:
        {"train_loss": [...], "train_acc": [...], "test_loss": [...], "test_acc": [...]}
    """
    objects = model, train_dataloader, test_dataloader, optimizer, loss_fn
    rows = list(train_epochs(*objects, epochs, device, **options))
    return {name: [row[name] for row in rows] for name in rows[0] if name != "epoch"}


def predict(
    model: nn.Module, dataloader: Iterable, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits (N, K), labels (N,)) for a dataloader, in its order, on the CPU.

    The model is in evaluation mode meanwhile. Errors are those
    of ``test_step``, but the labels are not looked at.
    """
    check_device(model, device)
    batches, inverse = [], None
    with model_mode(model, training=False), torch.inference_mode():
        for X, y in dataloader:
            outputs = read_outputs(model(X.to(device)))
            if not batches:
                inverse = find_inverse(model, X, outputs)
            batches.append((inverse(outputs) if inverse else outputs, y))
    if not batches:
        raise ValueError(NO_BATCHES)
    logits, labels = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    return logits, labels  # (N, K), (N,)
