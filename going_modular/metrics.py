# Written by tools/export.py from 01_workflow.ipynb: edit there, not here.
"""What a batch was worth: exact means, accuracy, checks for mistakes."""

import torch


def mean_over_samples(
    batch_means: list[torch.Tensor] | tuple[torch.Tensor, ...],
    batch_sizes: list[int] | tuple[int, ...],
) -> float:
    """Return the exact mean over all samples from each batch's mean (0-d) and size."""
    means = torch.stack(batch_means).cpu().double()  # waits for a GPU once an epoch
    sizes = torch.tensor(batch_sizes, dtype=torch.float64)
    return ((means * sizes).sum() / sizes.sum()).item()


def means_of(batches: list[tuple]) -> tuple[float, float]:
    """Return (loss, metric) of batches (loss, metric, size), each an exact mean.

    Raises:
        ValueError: if there are no batches.
    """
    if not batches:
        raise ValueError(
            "the dataloader gave no batches: is its data set empty, or is it an "
            "iterator that is used up?"
        )
    losses, scores, sizes = zip(*batches, strict=True)
    return mean_over_samples(losses, sizes), mean_over_samples(scores, sizes)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of right answers, a 0-d tensor in 0..1.

    Args:
        logits: (B, K), or one logit per item, (B, 1) or (B,).
        labels: (B,) in 0..K-1, or as many labels of 0 or 1.
    """
    if logits.ndim > 1 and logits.shape[1] > 1:
        predictions = logits.argmax(dim=1)  # (B, K) -> (B,)
    else:
        predictions = (logits > 0).reshape(labels.shape)
    return (predictions == labels).float().mean()


def check_labels(labels: torch.Tensor, outputs: torch.Tensor) -> None:
    """Raise ValueError if class labels lie outside 0..K-1 for outputs (B, K, ...)."""
    num_classes = outputs.shape[1] if outputs.ndim == labels.ndim + 1 else 1
    if labels.is_floating_point() or num_classes == 1:
        return  # no class labels: numbers to predict, or one logit
    if labels.numel() == 0 or (labels.min() >= 0 and labels.max() < num_classes):
        return  # the usual case, in two quick looks
    labels = labels.long()  # a smaller dtype may be too small for num_classes
    outside = (labels < 0) | (labels >= num_classes)
    wrong = labels[outside & (labels != -100)]  # -100: PyTorch's "no label"
    if len(wrong):
        raise ValueError(
            f"label {wrong[0].item()} does not fit a model with {num_classes} outputs, "
            f"whose labels are 0 to {num_classes - 1}: number the classes from 0, or "
            "give the model more outputs"
        )


def check_finite(losses: list[torch.Tensor], model: torch.nn.Module) -> None:
    """Raise FloatingPointError if a loss or a parameter is NaN or infinite."""
    finite = torch.stack(losses).isfinite()
    # What the last step broke is in no loss yet.
    finite[-1] &= all(parameter.isfinite().all() for parameter in model.parameters())
    if not finite.all():
        step = finite.tolist().index(False)
        raise FloatingPointError(
            f"NaN or infinity at step {step + 1} of {len(losses)} (its loss: "
            f"{losses[step].item()}); the model is as it was before this epoch. Lower "
            "the learning rate, or look for NaN in the data."
        )
