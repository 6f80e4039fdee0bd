# Written by tools/export.py from 01_workflow.ipynb: edit there, not here.
"""What a batch was worth: exact means, accuracy, checks for mistakes."""

import functools
from collections.abc import Callable

import torch
from torch import nn

from going_modular.utils import model_mode, read_outputs

NO_BATCHES = (
    "the dataloader gave no batches: is its data set empty, or is it an iterator that "
    "is used up?"
)


BATCH_NORM_OF_ONE = (
    "a batch norm cannot learn from a batch of 1 item: choose another batch size, or "
    "DataLoader(drop_last=True)"
)


def mean_over_samples(batch_means: list[torch.Tensor], batch_sizes: list[int]) -> float:
    """Return the exact mean over all samples from each batch's mean (0-d) and size.

    Raises:
        ValueError: if there are no batches.
    """
    if not batch_means:
        raise ValueError(NO_BATCHES)
    means = torch.stack(batch_means).cpu().double()  # waits for a GPU once an epoch
    sizes = torch.tensor(batch_sizes, dtype=torch.float64)
    return ((means * sizes).sum() / sizes.sum()).item()


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of right answers, a 0-d tensor in 0..1.

    Args:
        logits: (B, K, ...), or one per item, (B, 1) or (B,). Integers, bools and
            whole numbers up to 2 or more are labels already.
        labels: (B, ...) in 0..K-1, or of 0 and 1; or a share for every class, shaped as
            logits, of which the largest counts (MixUp, CutMix).

    Raises:
        ValueError: if the shares of an item do not sum to 1.
    """
    if not logits.is_floating_point() and logits.numel() == labels.numel():
        predictions = logits
    elif logits.ndim > 1 and logits.shape[1] > 1:
        predictions = logits.argmax(dim=1)  # (B, K, ...) -> (B, ...)
        if labels.shape == logits.shape:
            sums = labels.sum(dim=1)
            wrong = sums[(sums - 1).abs() > 0.01]
            if len(wrong):
                raise ValueError(
                    f"labels {tuple(labels.shape)} are no shares of classes: those of "
                    f"an item sum to {wrong[0]:g}, not 1. For several classes "
                    "an item, or numbers to predict, pass another metric: metric=..."
                )
            labels = labels.argmax(dim=1)
    else:  # in one expression, since an "if" would wait for a GPU
        is_label = (logits == logits.round().abs()).all() & (logits > 1).any()
        predictions = torch.where(is_label, logits, logits > 0)
        labels = labels.float().round()  # MixUp's of two classes
    return (predictions == labels.reshape(predictions.shape)).float().mean()


def accuracy_fn(y_true: torch.Tensor, y_pred: torch.Tensor) -> float:
    """Return the percentage of right labels, as other courses call it."""
    return 100 * accuracy(y_pred, y_true).item()


class ClassCounts:
    """Accuracy as a metric that counts each class in evaluation meanwhile.

    The counts begin anew when training goes on.

    Args:
        num_classes: K.

    Attributes:
        counts: (2, K) int64: right answers and all items of each class.
    """

    __name__ = "acc"  # of its columns

    def __init__(self, num_classes: int):
        self.counts = torch.zeros(2, num_classes, dtype=torch.int64)

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return ``accuracy``: outputs are logits (B, K), labels (B,)."""
        self.counts = self.counts.to(labels.device)
        if torch.is_inference_mode_enabled():
            classes = torch.arange(self.counts.shape[1], device=labels.device)
            members = labels == classes[:, None]  # (K, B)
            right = members & (outputs.argmax(dim=1) == labels)
            self.counts += torch.stack([right, members]).sum(dim=2)  # (2, K, B)
        else:
            self.counts = torch.zeros_like(self.counts)
        return accuracy(outputs, labels)

    def balanced(self) -> float:
        """Return the mean of the accuracies of all classes that occurred."""
        right, total = self.counts[:, self.counts[1] > 0].double()
        return (right / total).mean().item()


def check_finite(losses: list[torch.Tensor], model: nn.Module) -> None:
    """Raise FloatingPointError if a loss or a parameter is NaN or infinite."""
    finite = torch.stack(losses).isfinite()
    # What the last step broke is in no loss yet.
    finite[-1] &= all(parameter.isfinite().all() for parameter in model.parameters())
    if not finite.all():
        step = finite.tolist().index(False)
        raise FloatingPointError(
            f"NaN or infinity at step {step + 1} of {len(losses)} (its loss: "
            f"{losses[step].item()}): the model is spoiled. Build it anew or load the "
            "last checkpoint, and lower the learning rate, or look for NaN in the data."
        )


def check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Raise ValueError if an optimizer leaves out what a model should learn."""
    held = {p for group in optimizer.param_groups for p in group["params"]}
    own = set(model.parameters())
    trainable = {p for p in own if p.requires_grad}
    if not trainable:
        raise ValueError(
            "no parameter of the model is trainable: set requires_grad=True for those "
            "that shall learn, such as the head's"
        )
    if not held & trainable or (held - own and trainable - held):
        raise ValueError(
            f"the optimizer holds {len(held & trainable)} of the model's "
            f"{len(trainable)} trainable parameters, and {len(held - own)} of another "
            "model: make it from model.parameters() when the model is complete"
        )


VIEWS = {
    *("View", "UnsafeView", "Squeeze", "Unsqueeze", "Select", "Slice", "Alias"),
    *("ToCopy", "Clone", "Clamp"),
}


def find_inverse(
    model: nn.Module, X: torch.Tensor, outputs: torch.Tensor
) -> Callable | None:
    """Return what makes logits of a model's outputs for a batch X.

    Returns:
        A function if the model ends in a sigmoid, torch.log if in a softmax, None if
        the outputs are logits.
    """
    if (outputs < 0).any() or (outputs > 1).any():
        return None  # no probabilities
    # constant outputs, or zeros and ones, may well have a sum of 1
    is_simple = (outputs == outputs[:1]).all() or (outputs == outputs.round()).all()
    if outputs.ndim > 1 and ((outputs.sum(dim=1) - 1).abs() < 1e-4).all():
        return None if is_simple else torch.log
    with torch.inference_mode(False), torch.enable_grad(), model_mode(model, False):
        node = read_outputs(model(X[:1].to(outputs.device).clone())).grad_fn
    while node and node.name().partition("Backward")[0] in VIEWS:
        node = node.next_functions[0][0]
    if node and node.name().startswith("Sigmoid"):
        # a probability of 1 in float32 would be an infinite logit
        return functools.partial(torch.logit, eps=1e-7)
    return None


LOGIT_LOSSES = {
    *("CrossEntropyLoss", "BCEWithLogitsLoss", "NLLLoss"),
    *("cross_entropy", "binary_cross_entropy_with_logits", "nll_loss"),
}


def suited_metric(
    metric: Callable,
    model: nn.Module,
    X: torch.Tensor,
    outputs: torch.Tensor,
    loss_fn: Callable,
) -> Callable:
    """Return the metric, with logits for ``accuracy`` if a model gives probabilities.

    Args:
        metric: (outputs, y) -> number.
        model: may end in a sigmoid or softmax.
        X: a batch.
        outputs: what the model gave for it.
        loss_fn: the loss of the training.

    Raises:
        ValueError: if the loss takes logits and gets probabilities.
    """
    inverse = find_inverse(model, X, outputs)
    loss_fn = getattr(loss_fn, "func", loss_fn)  # of a functools.partial
    names = {getattr(each, "__name__", "") for each in (*type(loss_fn).mro(), loss_fn)}
    if inverse and names & LOGIT_LOSSES:
        raise ValueError(
            f"the model gives probabilities, {min(names & LOGIT_LOSSES)} takes none: "
            "remove the sigmoid or softmax at the model's end, or use nn.BCELoss after "
            "a sigmoid, nn.NLLLoss after nn.LogSoftmax"
        )
    if names & {"BCELoss", "binary_cross_entropy"}:
        inverse = torch.logit
    if inverse and (metric is accuracy or isinstance(metric, ClassCounts)):
        return lambda outputs, y: metric(inverse(outputs), y)
    return metric
