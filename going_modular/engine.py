# Written by tools/export.py from 01_workflow.ipynb, 03_computer_vision.ipynb: edit there, not here.
"""The training loop: one step, one epoch, a whole training."""

import contextlib
import copy

import torch


def mean_over_samples(batch_means, batch_sizes):
    """Return the exact mean over all samples, a float, from each batch's mean (0-d tensors) and size."""
    means = torch.stack(batch_means).cpu().double()  # waits for an accelerator, but only once an epoch
    sizes = torch.tensor(batch_sizes, dtype=torch.float64)
    return ((means * sizes).sum() / sizes.sum()).item()


def accuracy(logits, labels):
    """Return the share of right answers, a 0-d tensor in 0..1.

    logits: (B, K) for labels (B,) in 0..K-1, or one logit an item, (B, 1) or (B,), for as many labels of 0 or 1.
    """
    if logits.ndim > 1 and logits.shape[1] > 1:
        predictions = logits.argmax(dim=1)  # (B, K) -> (B,)
    else:
        predictions = (logits > 0).reshape(labels.shape)
    return (predictions == labels).float().mean()


@contextlib.contextmanager
def model_mode(model, training):
    """Within the block every layer is in training mode, or in evaluation mode; after it each is as it was found."""
    found = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in found:
            module.training = was_training


def check_device(model, device):
    """Raise ValueError unless the model's parameters are on ``device``."""
    wanted = torch.device(device)
    for parameter in model.parameters():
        found = parameter.device
        if found.type != wanted.type or wanted.index not in (None, found.index):
            raise ValueError(f"the model is on {found} but device is {wanted}: call model.to({str(wanted)!r}) first")


def check_labels(labels, outputs):
    """Raise ValueError where class labels, whole numbers, lie outside 0..K-1 for outputs (B, K, ...)."""
    num_classes = outputs.shape[1] if outputs.ndim == labels.ndim + 1 else 1
    if labels.is_floating_point() or num_classes == 1:
        return  # no class labels: numbers to predict, or one logit
    if labels.numel() == 0 or (labels.min() >= 0 and labels.max() < num_classes):
        return  # the usual case, in two quick looks
    wrong = labels[((labels < 0) | (labels >= num_classes)) & (labels != -100)]  # -100: PyTorch's "no label"
    if len(wrong):
        raise ValueError(
            f"label {wrong[0].item()} does not fit a model with {num_classes} outputs, whose labels are 0 to "
            f"{num_classes - 1}: number the classes from 0, or give the model more outputs"
        )


def update_weights(model, X, labels, loss_fn, optimizer, device, max_norm=None):
    """Let the model learn from one batch, and return (outputs, y, loss): labels and results on ``device``, detached.

    Arguments and errors as for ``train_step``, X and labels being one batch of its dataloader.
    """
    X, y = X.to(device), labels.to(device)
    optimizer.zero_grad()
    outputs = model(X)
    check_labels(labels, outputs)
    loss = loss_fn(outputs, y)
    loss.backward()
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return outputs.detach(), y, loss.detach()


def train_step(
    model,
    dataloader,
    loss_fn,
    optimizer,
    device,
    *,
    scheduler=None,
    metric=accuracy,
    max_norm=None,
    update=update_weights,
):
    """Train for one epoch and return (loss, metric), each the exact mean over the samples while they were trained on.

    dataloader: yields batches (X, y), len(y) samples each.  loss_fn and metric: (outputs, y) -> mean over the batch.
    scheduler: stepped after every batch.  max_norm: gradients together longer than this are scaled down to it (lesson
    08).  update: called in place of ``update_weights`` (lesson 10).  Raises ValueError for an empty dataloader, a model
    on another device, labels outside the classes; FloatingPointError, with the step, where the loss or a parameter
    became NaN or infinite: model, optimizer and scheduler are then as they were before this epoch.
    """
    check_device(model, device)
    parts = [part for part in (model, optimizer, scheduler, update) if hasattr(part, "state_dict")]
    before = copy.deepcopy([part.state_dict() for part in parts])
    losses, scores, sizes = [], [], []
    with model_mode(model, training=True):
        for X, labels in dataloader:
            outputs, y, loss = update(model, X, labels, loss_fn, optimizer, device, max_norm)
            if scheduler is not None:
                scheduler.step()
            losses.append(loss)
            scores.append(metric(outputs, y))
            sizes.append(len(y))
    check_finite(losses, model, parts, before)
    return mean_over_samples(losses, sizes), mean_over_samples(scores, sizes)


def check_finite(losses, model, parts, before):
    """Raise ValueError where there are no losses, FloatingPointError where one, or a parameter, is NaN or infinite.

    parts, before: what has a state dict (model, optimizer, ...), and those from when the epoch began, to be put back.
    """
    if not losses:
        raise ValueError(
            "the dataloader gave no batches: is its data set empty, or is it an iterator, used up already?"
        )
    finite = torch.stack(losses).isfinite()
    finite[-1] &= all(p.isfinite().all() for p in model.parameters())  # what the last step broke is in no loss yet
    if not finite.all():
        step = finite.logical_not().nonzero()[0].item()
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        raise FloatingPointError(
            f"NaN or infinity at step {step + 1} of {len(losses)} (its loss: {losses[step].item()}); the model is as "
            "it was before this epoch. Lower the learning rate, or look for NaN in the data."
        )


def test_step(model, dataloader, loss_fn, device, *, metric=accuracy):
    """Return (loss, metric) of the model on all batches of ``dataloader``, each the exact mean over the samples.

    Arguments as for ``train_step``; the model learns nothing and is in evaluation mode meanwhile.  A loss that is not
    finite is returned as it is.  Raises ValueError as ``train_step`` does.
    """
    check_device(model, device)
    losses, scores, sizes = [], [], []
    with model_mode(model, training=False), torch.inference_mode():
        for X, labels in dataloader:
            X, y = X.to(device), labels.to(device)
            outputs = model(X)
            check_labels(labels, outputs)
            losses.append(loss_fn(outputs, y))
            scores.append(metric(outputs, y))
            sizes.append(len(y))
    if not sizes:
        raise ValueError("the dataloader gave no batches to test on: is its data set empty?")
    return mean_over_samples(losses, sizes), mean_over_samples(scores, sizes)


def train_epochs(
    model,
    train_dataloader,
    test_dataloader,
    optimizer,
    loss_fn,
    epochs,
    device,
    *,
    scheduler=None,
    metric=accuracy,
    max_norm=None,
    update=update_weights,
    first_epoch=1,
):
    """Train, and after every epoch yield a row: {"epoch": 1.., "train_loss", "train_acc", "test_loss", "test_acc"}.

    With another metric its ``__name__`` stands in place of "acc".  first_epoch: where an interrupted training goes on.
    Errors as for ``train_step``, with the epoch.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; train for at least 1")
    name = "acc" if metric is accuracy else getattr(metric, "__name__", type(metric).__name__)
    options = {"scheduler": scheduler, "metric": metric, "max_norm": max_norm, "update": update}
    for epoch in range(first_epoch, epochs + 1):
        try:
            train_loss, train_score = train_step(model, train_dataloader, loss_fn, optimizer, device, **options)
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {epoch}: {error}") from None
        test_loss, test_score = test_step(model, test_dataloader, loss_fn, device, metric=metric)
        row = {"epoch": epoch, "train_loss": train_loss, f"train_{name}": train_score}
        yield row | {"test_loss": test_loss, f"test_{name}": test_score}


def train(
    model,
    train_dataloader,
    test_dataloader,
    optimizer,
    loss_fn,
    epochs,
    device,
    *,
    scheduler=None,
    metric=accuracy,
    max_norm=None,
    update=update_weights,
):
    """Train and return every epoch's results: {"train_loss": [...], "train_acc": [...], "test_loss", "test_acc"}.

    Arguments and errors as for ``train_epochs``.
    """
    options = {"scheduler": scheduler, "metric": metric, "max_norm": max_norm, "update": update}
    rows = train_epochs(model, train_dataloader, test_dataloader, optimizer, loss_fn, epochs, device, **options)
    results = {}
    for row in rows:
        for key, value in row.items():
            if key != "epoch":
                results.setdefault(key, []).append(value)
    return results


def predict(model, dataloader, device):
    """Return (logits (N, K), labels (N,)) of a model for all samples of a dataloader, in its order, on the CPU.

    The model is in evaluation mode meanwhile, and afterwards in the mode it was in.
    Raises ValueError for a model on another device and for a dataloader without batches.
    """
    check_device(model, device)
    logits, labels = [], []
    with model_mode(model, training=False), torch.inference_mode():
        for X, y in dataloader:
            logits.append(model(X.to(device)))
            labels.append(y)
    if not labels:
        raise ValueError("the dataloader gave no batches to predict: is its data set empty, or used up?")
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()  # lists of (B, K) and (B,) -> (N, K), (N,)
