# Written by tools/export.py from 01_workflow.ipynb: edit there, not here.
"""What a batch was worth: exact means, accuracy, checks for mistakes."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from going_modular.utils import model_mode, read_outputs

NO_BATCHES = "the dataloader gave no batches: is it empty, or an iterator used up?"


def mean_over_samples(means: list[torch.Tensor], sizes: list[int]) -> Any:
    """Return the exact mean over all samples from each batch's mean and size.

    Args:
        means: 0-d tensors; or (M,), of several numbers at once.
        sizes: samples of each batch.

    Raises:
        ValueError: if there are no batches.
    """
    if not means:
        raise ValueError(NO_BATCHES)
    weights = torch.tensor(sizes, dtype=torch.float64)
    rows = torch.stack(means).cpu().double()  # waits for a GPU once an epoch
    return (weights @ rows / weights.sum()).tolist()


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of right answers, a 0-d tensor in 0..1.

    Args:
        logits: (B, K, ...), or one per item, (B, 1) or (B,). Integers, bools and
            whole numbers up to 2 or more are labels already.
        labels: (B, ...) in 0..K-1, or of 0 and 1; -100 does not count. Or a share for
            every class, shaped as logits, of which the largest counts (MixUp, CutMix).

    Raises:
        ValueError: if the shares of an item do not sum to 1.
    """
    if not logits.is_floating_point() and logits.numel() == labels.numel():
        predictions = logits
    elif logits.ndim > 1 and logits.shape[1] > 1:
        predictions = logits.argmax(dim=1)  # (B, K, ...) -> (B, ...)
        if labels.shape == logits.shape:
            if ((labels.sum(dim=1) - 1).abs() > 0.01).any():
                raise ValueError(
                    f"labels {tuple(labels.shape)} are no shares of classes, which sum "
                    "to 1 for an item. For several classes an item, or numbers to "
                    "predict, pass another metric: metric=..."
                )
            labels = labels.argmax(dim=1)
    else:  # in one expression, since an "if" would wait for a GPU
        is_whole = (logits == logits.round().abs()) & logits.isfinite()
        is_label = is_whole.all() & (logits > 1).any()
        predictions = torch.where(is_label, logits, logits > 0)
        labels = labels.float().round()  # MixUp's of two classes
    right = predictions == labels.reshape(predictions.shape)
    counted = labels.float() != -100  # PyTorch's label for "ignore"; in uint8 it is 156
    return right.sum() / counted.sum()


def accuracy_fn(y_true: torch.Tensor, y_pred: torch.Tensor) -> float:
    """Return the percentage of right labels, as other courses call it."""
    return 100 * accuracy(y_pred, y_true).item()


def check_finite(means: list[torch.Tensor], model: nn.Module) -> None:
    """Raise FloatingPointError if a batch's loss, means[k][0], or a weight is not."""
    finite = torch.stack(means)[:, 0].isfinite()
    # What the last step broke is in no loss yet.
    finite[-1] &= all(parameter.isfinite().all() for parameter in model.parameters())
    if not finite.all():
        step = finite.tolist().index(False)
        raise FloatingPointError(
            f"NaN or infinity at step {step + 1} of {len(means)} (its loss: "
            f"{means[step][0].item()}): the model is spoiled. Build it anew or load "
            "the last checkpoint, and lower the learning rate, or look for NaN in the "
            "data."
        )


LOWEST = {"sigmoid": 0.0, "hardsigmoid": 0.0, "tanh": -1.0}  # highest: 1


class Saturated(TorchFunctionMode):
    """Within it, of two items the first gets the LOWEST value, the second the highest.

    So the ends of a network's range show, whatever its weights are.
    """

    def __torch_function__(
        self,
        function: Callable,
        _: object,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        result = function(*args, **kwargs or {})
        name = getattr(function, "__name__", "").strip("_")
        if name in LOWEST and result.shape[:1] == (2,):
            result[0], result[1] = LOWEST[name], 1.0
        return result


LOGIT_LOSSES = (
    "CrossEntropyLoss BCEWithLogitsLoss NLLLoss cross_entropy nll_loss "
    "binary_cross_entropy_with_logits"
)


def find_inverse(
    model: nn.Module,
    X: torch.Tensor,
    outputs: torch.Tensor,
    loss_fn: Callable | None = None,
    metric: Callable = accuracy,
) -> Callable | None:
    """Return what makes logits, for the metric, of what a model gave for a batch X.

    Returns:
        A function if the model ends in a sigmoid, torch.log if in a softmax, None if
        the outputs are logits, or the metric is not ``accuracy``.

    Raises:
        ValueError: if the loss takes logits and gets probabilities.
    """
    inverse = None
    if not ((outputs < 0) | (outputs > 1)).any():
        # constant outputs, or zeros and ones, may well have a sum of 1
        is_same = (outputs == outputs[:1]) & (len(outputs) > 1)  # one tells nothing
        is_simple = (is_same | (outputs == outputs.round())).all()
        has_classes = outputs.ndim > 1 and outputs.shape[1] > 1
        if has_classes and ((outputs.sum(dim=1) - 1).abs() < 1e-4).all():
            inverse = None if is_simple else torch.log
        else:
            with model_mode(model, training=False), torch.no_grad(), Saturated():
                ends = read_outputs(model(X[[0, 0]].to(outputs.device)))
            if torch.allclose(
                ends.reshape(2, -1).T, ends.new_tensor([0, 1]), atol=1e-3
            ):
                # a probability of 1 in float32 would be an infinite logit
                inverse = functools.partial(torch.logit, eps=1e-7)
    loss_fn = getattr(loss_fn, "func", loss_fn)  # of a functools.partial
    names = {getattr(each, "__name__", "") for each in (*type(loss_fn).mro(), loss_fn)}
    if inverse and (taken := names & set(LOGIT_LOSSES.split())):
        raise ValueError(
            f"the model gives probabilities, {min(taken)} takes none: remove the "
            "sigmoid or softmax at the model's end, or use nn.BCELoss after a sigmoid, "
            "nn.NLLLoss after nn.LogSoftmax"
        )
    if names & {"BCELoss", "binary_cross_entropy"}:
        inverse = torch.logit
    return inverse if metric is accuracy else None
