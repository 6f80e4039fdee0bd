# Written by tools/export.py from 05_going_modular.ipynb, 10_performance.ipynb: edit
# there, not here.
"""Learning from a batch: half precision, micro-batches, compiled."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch

from going_modular.config import Choices, Config
from going_modular.utils import read_outputs


def choose_loss(
    config: Config, counts: list[int], device: torch.device
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the loss that a config describes.

    Args:
        config: its class_weights and label_smoothing count.
        counts: training pictures of each class, for balanced weights.
        device: where the logits are.

    Raises:
        ValueError: if the weights are to be balanced and there are no counts.
    """
    smoothing = config.label_smoothing
    if config.class_weights == "none":
        return torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    if not counts:
        raise ValueError("class_weights is balanced: that takes a folder of classes")
    weights = sum(counts) / len(counts) / torch.tensor(counts, device=device)
    each = torch.nn.CrossEntropyLoss(
        weights, reduction="none", label_smoothing=smoothing
    )
    # Not CrossEntropyLoss's own mean, which divides by the weights of the batch: the
    # parts of a batch would not add up to the whole.
    return lambda logits, labels: each(logits, labels).mean()


PRECISIONS = Choices(
    "precision",
    {
        "fp32": torch.float32,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
        "bf16_weights": torch.bfloat16,
    },
)


def compile_model(model: torch.nn.Module, device: torch.device | str) -> Any:
    """Return the model compiled, sharing its weights; its first call takes long.

    Raises:
        ValueError: if this machine cannot compile, tried on one multiplication.
    """
    try:
        torch.compile(lambda x: x * 2)(torch.ones(8, device=device))
    except Exception as error:  # no C++ compiler, no Triton, an unknown Python, ...
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"this machine cannot compile models ({why:.150}): leave it out, or "
            "install what it lacks"
        ) from None
    return torch.compile(model)


def rounded(
    model: torch.nn.Module, X: torch.Tensor, dtype: torch.dtype = torch.bfloat16
) -> torch.Tensor:
    """Return what the model answers if all of it computes in a shorter dtype.

    It does so with rounded copies of its weights, through which gradients reach the
    weights themselves, in float32. Batch norms, which keep float32 sums, keep theirs.
    """
    weights = {
        f"{prefix}.{name}".lstrip("."): value.to(dtype)
        for prefix, layer in model.named_modules()
        if getattr(layer, "running_mean", None) is None
        for named in (layer.named_parameters, layer.named_buffers)
        for name, value in named(recurse=False)
        if value.is_floating_point()
    }
    X = X.to(dtype) if X.is_floating_point() else X
    return torch.func.functional_call(model, weights, X, tie_weights=False)


class Updater:
    """``engine.update_weights``, faster or in less memory: the engine's ``update``.

    Args:
        precision: one of PRECISIONS, in which the forward pass computes what it may
            (autocast). In fp16 the loss is scaled so that small gradients survive, and
            a step whose gradients overflow is left out. With bf16_weights all of it
            computes in bfloat16, see ``rounded``.
        accumulate: micro-batches per batch, at most; their gradients add up to the
            batch's.
        device: where to compute.
        forward: called in place of the model: compiled, or in DistributedDataParallel;
            with bf16_weights a module.
        share: (number of samples, device) -> this process's part of a batch, divided
            by the mean part; see ``Group.share``.

    Raises:
        ValueError: if the precision is unknown or accumulate below 1.
    """

    def __init__(
        self,
        precision: str = "fp32",
        accumulate: int = 1,
        device: torch.device | str = "cpu",
        *,
        forward: Callable | None = None,
        share: Callable | None = None,
    ):
        self.dtype = PRECISIONS[precision]
        if accumulate < 1:
            raise ValueError(f"accumulate is {accumulate}: take at least 1 micro-batch")
        self.precision, self.accumulate = precision, accumulate
        self.forward: Any = forward
        self.share = share
        self.scaler = torch.amp.GradScaler(
            torch.device(device).type, enabled=precision == "fp16"
        )
        self.state_dict = self.scaler.state_dict  # what a checkpoint keeps
        self.load_state_dict = self.scaler.load_state_dict

    def __call__(
        self,
        model: torch.nn.Module,
        X: torch.Tensor,
        labels: torch.Tensor,
        loss_fn: Callable,
        optimizer: torch.optim.Optimizer,
        device: torch.device | str,
        max_norm: float | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Let the model learn from one batch, as ``engine.update_weights`` does."""
        forward = model if self.forward is None else self.forward  # not "or": no len()
        rounds = self.precision == "bf16_weights"
        compute = functools.partial(rounded, forward) if rounds else forward
        is_mixed, kind = self.precision in ("bf16", "fp16"), torch.device(device).type
        total, scaler = len(labels), self.scaler
        scale = (self.share(total, device) if self.share else 1) / total
        parts = [tensor.chunk(self.accumulate) for tensor in (X, labels)]
        optimizer.zero_grad()
        results = []
        for X_part, labels_part in zip(*parts, strict=True):
            waits = len(results) < len(parts[0]) - 1 and hasattr(forward, "no_sync")
            with forward.no_sync() if waits else contextlib.nullcontext():
                with torch.autocast(kind, self.dtype, enabled=is_mixed):
                    outputs = read_outputs(compute(X_part.to(device)), labels_part)
                found, y = outputs.float(), labels_part.to(device)
                loss = loss_fn(found, y) * len(y)  # the last part may be smaller
                scaler.scale(loss * scale).backward()
            results.append((found.detach(), y, loss.detach()))
        if max_norm is not None:
            scaler.unscale_(optimizer)  # gradients are clipped at their true size
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        found_scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() < found_scale:  # the gradients overflowed: no step
            optimizer.zero_grad()
            optimizer.step()  # does nothing, but a scheduler wants to see it called
        outputs, answers, losses = zip(*results, strict=True)
        return torch.cat(outputs), torch.cat(answers), torch.stack(losses).sum() / total
