"""Answer checks of notebook 10."""

import itertools
import math
import random

import torch
from torch import nn
from torch.nn import functional as F

from exercises import Wrong, exercise


def as_number(answer, case):
    """Return an answer as a float. Raises Wrong where it is no number."""
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise Wrong(
            f"{case} gave {answer!r}",
            "one number is asked for: does every way through it end in `return`?",
        ) from None


@exercise("10.1", "Round by round")
def check_median_speedup(median_speedup):
    for _ in range(10):
        gain, seconds = random.uniform(1.2, 5), random.uniform(0.001, 0.1)
        ratios = [gain * factor for factor in (1.0, 1.1, 1.2, 3.0, 9.0)]
        after = [
            seconds * slow * random.uniform(0.99, 1.01) for slow in (3, 5, 2, 1, 4)
        ]
        rounds = [
            (ratio * second, second)
            for ratio, second in zip(ratios, after, strict=True)
        ]
        random.shuffle(rounds)
        before, after = (list(column) for column in zip(*rounds, strict=True))
        shown = ", ".join(f"{b / a:.2f}" for b, a in rounds)
        case = f"for rounds whose ratios before / after are {shown}"
        got = as_number(median_speedup(list(before), list(after)), case)
        expected = ratios[2]
        if math.isclose(got, expected, rel_tol=1e-6):
            continue
        case = f"{case}, you answered {got:.2f}"
        if math.isclose(got, 1 / expected, rel_tol=1e-6):
            raise Wrong(
                case,
                "faster means fewer seconds: two seconds before and one after are 2 "
                "times as fast",
            )
        if math.isclose(got, sorted(before)[2] / sorted(after)[2], rel_tol=1e-6):
            raise Wrong(
                case,
                "the two medians come from different rounds: divide within each round "
                "first",
            )
        if math.isclose(got, sum(ratios) / 5, rel_tol=1e-6):
            raise Wrong(
                case,
                "that is their mean, which one odd round moves: take the one in the "
                "middle",
            )
        raise Wrong(
            case, "make a list of the rounds' ratios; what is its middle value?"
        )


@exercise("10.2", "What can be gained")
def check_whole_speedup(whole_speedup):
    cases = [(random.uniform(0.2, 0.9), random.uniform(1.5, 12)) for _ in range(20)]
    for share, factor in [(0.5, 2.0), *cases, (0.0, 7.0), (1.0, 4.0)]:
        case = f"a part with {share:.2f} of the time, {factor:.2f} times faster,"
        got = as_number(whole_speedup(share, factor), case)
        left = (1 - share) + share / factor
        if math.isclose(got, 1 / left, rel_tol=1e-6):
            continue
        case = f"{case} gave {got:.3f}, expected {1 / left:.3f}"
        if math.isclose(got, left, rel_tol=1e-6):
            raise Wrong(
                case,
                "that is the time that is left; how many times does it fit into the "
                "time before?",
            )
        if math.isclose(got, 1 + share * (factor - 1), rel_tol=1e-6):
            raise Wrong(
                case,
                "speeds cannot be averaged like that: add up the times, then compare "
                "them",
            )
        raise Wrong(
            case,
            "begin with 1 second: the rest keeps its time, the part's is divided; "
            "what do they add up to?",
        )


@exercise("10.3", "Uneven parts")
def check_accumulate_gradients(accumulate_gradients):
    for _ in range(5):
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        sizes = random.sample([2, 5, 9, 14], 3)
        X, y = torch.randn(sum(sizes), 6), torch.randint(3, (sum(sizes),))
        with torch.no_grad():
            X += (
                y[:, None].float() * torch.arange(sum(sizes))[:, None] / sum(sizes)
            )  # parts that differ
        F.cross_entropy(model(X), y).backward()
        expected = [p.grad.clone() for p in model.parameters()]
        for p in model.parameters():
            p.grad = torch.ones_like(p)  # what an earlier step left
        parts = list(zip(X.split(sizes), y.split(sizes), strict=True))
        accumulate_gradients(model, F.cross_entropy, parts)
        check_gradients(model, expected, parts, f"parts of {sizes} samples")


def check_gradients(model, expected, parts, case):
    """Raise Wrong unless the model's gradients are the expected ones.

    It says which mistake they look like.
    """
    got = [p.grad for p in model.parameters()]
    if any(g is None for g in got):
        raise Wrong(
            f"{case}: a parameter has no gradient",
            "call backward for each part, and clear only before the first",
        )

    def alike(others):
        return all(
            torch.allclose(g, o, rtol=1e-4, atol=1e-6)
            for g, o in zip(got, others, strict=True)
        )

    if alike(expected):
        return
    case = (
        f"{case}: the first bias has gradient {got[1][0]:.4f}, the whole batch's is "
        f"{expected[1][0]:.4f}"
    )
    if alike([e + 1 for e in expected]):
        raise Wrong(
            case,
            "an earlier step's gradients are still there: clear them before the first "
            "part",
        )
    gradients = [
        torch.autograd.grad(F.cross_entropy(model(X), y), list(model.parameters()))
        for X, y in parts
    ]
    sums = [sum(column) for column in zip(*gradients, strict=True)]
    if alike([s / len(parts) for s in sums]):
        raise Wrong(
            case,
            "each part counts the same, however small: what is its share of the "
            "samples?",
        )
    if alike(sums):
        raise Wrong(
            case,
            "three means add up to three times a mean: each part's loss needs a weight",
        )
    raise Wrong(
        case,
        "the weights are the parts' shares of all samples; gradients are cleared "
        "once, before the first part",
    )


@exercise("10.4", "FLOPs of a convolution")
def check_conv_flops(conv_flops):
    for _ in range(20):
        C, D, P = random.sample(range(3, 40), 3)
        height, width = random.sample(range(5, 60), 2)
        case = f"{C} to {D} channels, kernel {P}, output {height} × {width}"
        got = as_number(conv_flops(C, D, P, height, width), case)
        expected = 2 * C * P * P * D * height * width
        if got == expected:
            continue
        case = f"{case}: you answered {got:,.0f}, expected {expected:,}"
        hints = {
            expected / 2: "a multiplication with its addition counts as two",
            expected / P: "a square kernel has as many rows as columns",
            expected / D: "that is one of the output's channels",
            expected / C: "a kernel reaches through all channels of the input",
            expected / (height * width): "that is one place of the output",
        }
        general = (
            "for each output number: how many products are summed? How many output "
            "numbers are there?"
        )
        raise Wrong(case, hints.get(got, general))


@exercise("10.5", "Where does it explode?")
def check_worst_layer(worst_layer):
    for _ in range(20):
        count = random.randint(8, 20)
        worst = random.randint(3, count - 3)
        norms = [random.uniform(0.1, 2)]  # from the last layer to the first
        for index in reversed(range(count - 1)):
            low, high = (
                (6.0, 9.0)
                if index == worst
                else (1.6, 1.9)
                if index < worst
                else (0.6, 1.4)
            )
            norms.append(norms[-1] * random.uniform(low, high))
        norms.reverse()
        got = worst_layer(list(norms))
        if got == worst:
            continue
        shown = ", ".join(f"{norm:.3g}" for norm in norms)
        case = f"for norms {shown} you answered {got!r}, expected {worst}"
        factors = [a / b for a, b in itertools.pairwise(norms)]
        if got == 0:
            raise Wrong(
                case,
                "the largest norm is where the growth arrives: by what factor does "
                "each layer exceed the one after it?",
            )
        if got == worst + 1:
            raise Wrong(
                case,
                "that layer still had a small gradient; the one before it is where it "
                "grew",
            )
        if got == factors.index(min(factors)) or got == factors.index(min(factors)) + 1:
            raise Wrong(
                case,
                "the gradient travels from the last layer to the first: which of the "
                "two is divided by which?",
            )
        raise Wrong(
            case,
            "divide each norm by that of the layer after it; which factor is the "
            "largest?",
        )


@exercise("10.6", "Fair shares")
def check_piece(piece):
    cases = [
        (10, 4),
        (7, 3),
        (3, 5),
        (12, 4),
        (random.randint(50, 200), random.randint(3, 9)),
    ]
    for count, size in cases:
        pieces = [piece(count, rank, size) for rank in range(size)]
        each, more = divmod(count, size)
        lengths = [each + (rank < more) for rank in range(size)]
        stops = list(itertools.accumulate(lengths))
        expected = list(zip([0, *stops], stops, strict=False))
        if [tuple(p) if isinstance(p, tuple | list) else p for p in pieces] == expected:
            continue
        case = f"{count} samples for {size} processes gave {pieces}"
        if not all(isinstance(p, tuple | list) and len(p) == 2 for p in pieces):
            raise Wrong(case, "two numbers are asked for, start and stop")
        got = [stop - start for start, stop in pieces]
        if sum(got) != count or pieces[-1][1] != count:
            raise Wrong(
                case,
                f"together they must be all {count} samples, the last one's stop: who "
                "takes the remainder?",
            )
        if any(a[1] != b[0] for a, b in itertools.pairwise(pieces)):
            raise Wrong(
                case,
                "each piece begins where the one before it stops: how many larger "
                "pieces stand before this rank?",
            )
        if max(got) - min(got) > 1:
            raise Wrong(
                case,
                "their sizes may differ by at most 1: share out the remainder one by "
                "one",
            )
        raise Wrong(
            case,
            "the first ranks get one more, the last ones not; the order is that of "
            "the ranks",
        )
