"""The schedules by name against their formulas and torch's, and the warm-up."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, lr_scheduler

from going_modular.schedules import SCHEDULES, warmup_cosine


def optimizer(kind=SGD, lrs=(2.0,)):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    return kind(groups, lr=lrs[0])


def rates(scheduler, count):
    """Return the rates of ``count`` steps, one list for each parameter group."""
    found = []
    for _ in range(count):
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return [list(group) for group in zip(*found, strict=True)]


def warmed_up(k, steps):
    warmup = min(max(steps // 10, 1), steps - 1)
    if k < warmup:
        return (k + 1) / warmup
    return (1 + math.cos(math.pi * (k - warmup) / (steps - warmup))) / 2


FORMULAS = {  # (step 0.., steps) -> share of the optimizer's rate
    "constant": lambda k, steps: 1,
    "step": lambda k, steps: 1 if k < 2 * steps / 3 else 0.1,
    "cosine": lambda k, steps: (1 + math.cos(math.pi * k / steps)) / 2,
    "warmup_cosine": warmed_up,
}


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 50, 101])
@pytest.mark.parametrize("name", FORMULAS)
def test_every_group_follows_the_formula(name, steps):
    found = rates(SCHEDULES[name](optimizer(lrs=(2.0, 0.2)), 2.0, steps), steps)
    shares = [FORMULAS[name](k, steps) for k in range(steps)]
    for group, lr in zip(found, (2.0, 0.2), strict=True):
        assert group == pytest.approx([lr * share for share in shares])


@pytest.mark.parametrize("kind", [SGD, AdamW])
@pytest.mark.parametrize("steps", [2, 3, 20])
def test_one_cycle_is_torchs(kind, steps):
    ours = SCHEDULES["one_cycle"](optimizer(kind), 0.3, steps)
    theirs = lr_scheduler.OneCycleLR(optimizer(kind), 0.3, total_steps=steps)
    (found,) = rates(ours, steps)
    assert [found] == rates(theirs, steps)
    assert found[-1] < 1e-5  # it ends near 0
    assert SCHEDULES.keys() == FORMULAS.keys() | {"one_cycle"}  # all were tested


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_single_step_learns(kind, name):
    ((rate,),) = rates(SCHEDULES[name](optimizer(kind), 2.0, 1), 1)
    assert 1 <= rate <= 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_schedule_goes_on(name):
    whole, resumed = (SCHEDULES[name](optimizer(AdamW), 2.0, 10) for _ in range(2))
    rates(whole, 4)
    resumed.optimizer.load_state_dict(whole.optimizer.state_dict())
    resumed.load_state_dict(whole.state_dict())
    assert rates(resumed, 6) == rates(whole, 6)


def test_warmup_and_cosine():
    (found,) = rates(warmup_cosine(optimizer(), steps=14, warmup_steps=4), 17)
    assert found[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    falling = [1 + math.cos(math.pi * k / 10) for k in range(10)]
    assert found[4:14] == pytest.approx(falling)
    assert found[14:] == pytest.approx([0, 0, 0])


def test_without_warmup_it_is_torchs_cosine():
    ours = warmup_cosine(optimizer(), steps=10, warmup_steps=0)
    (expected,) = rates(lr_scheduler.CosineAnnealingLR(optimizer(), 10), 10)
    assert rates(ours, 10) == [pytest.approx(expected)]


@pytest.mark.parametrize(("steps", "warmup_steps"), [(5, 5), (5, 6), (5, -1), (0, 0)])
def test_a_warmup_that_does_not_end_is_refused(steps, warmup_steps):
    problem = f"warmup_steps is {warmup_steps}, steps {steps}"
    with pytest.raises(ValueError, match=problem):
        warmup_cosine(optimizer(), steps, warmup_steps)
