# Written by tools/export.py from 07_experiment_tracking.ipynb,
# 08_paper_replicating_vit.ipynb: edit there, not here.
"""Learning rate schedules, and parameter groups for weight decay."""

import math

from torch import nn
from torch.optim import Optimizer, lr_scheduler

from going_modular.config import Choices

SCHEDULES = Choices(  # (optimizer, lr, steps) -> scheduler, stepped after every batch
    "schedule",
    {
        "constant": lambda optimizer, *_: lr_scheduler.ConstantLR(optimizer, 1.0),
        "step": lambda optimizer, lr, steps: lr_scheduler.StepLR(
            optimizer, math.ceil(2 * steps / 3)
        ),
        "cosine": lambda optimizer, lr, steps: lr_scheduler.CosineAnnealingLR(
            optimizer, steps
        ),
        "one_cycle": lambda optimizer, lr, steps: lr_scheduler.OneCycleLR(
            optimizer,
            lr,
            max(steps, 2),  # for one step it would take nearly 0
        ),
    },
)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Return an optimizer's parameter groups: weight decay for matrices.

    Vectors (biases, norms) get none. Class token (1, 1, D) and position
    embeddings (1, N + 1, D), one vector for each place, get none either.
    """
    matrices = []
    vectors = []
    for parameter in model.parameters():
        one_a_place = parameter.ndim == 3 and len(parameter) == 1
        is_vector = parameter.ndim <= 1 or one_a_place
        if is_vector:
            vectors.append(parameter)
        else:
            matrices.append(parameter)
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def warmup_cosine(
    optimizer: Optimizer, steps: int, warmup_steps: int
) -> lr_scheduler.LambdaLR:
    """Return a scheduler: the rate rises linearly, then falls to 0 along a cosine.

    Args:
        optimizer: its learning rate is the highest that is reached.
        steps: all steps of the training; the scheduler is stepped after each.
        warmup_steps: the steps in which the rate rises.

    Raises:
        ValueError: if not 0 <= warmup_steps < steps.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"warmup_steps is {warmup_steps}, steps {steps}: "
            "the warm-up must end before training does"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = min((step - warmup_steps) / (steps - warmup_steps), 1.0)  # 0 to 1
        return 0.5 * (1 + math.cos(math.pi * done))

    return lr_scheduler.LambdaLR(optimizer, factor)


SCHEDULES["warmup_cosine"] = lambda optimizer, lr, steps: warmup_cosine(
    optimizer, steps, min(max(steps // 10, 1), steps - 1)
)
