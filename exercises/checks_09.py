"""Checks of notebook 09: percentiles, files, rankings, criteria, eight bits."""

import math
import random

import torch

from exercises import Wrong, exercise


@exercise("09.1", "A percentile")
def check_percentile(percentile):
    for length, percent in [
        (20, 95),
        (random.randint(90, 140), 95),
        (random.randint(5, 60), random.randint(10, 90)),
        (7, 100),
    ]:
        values = [round(value, 3) for value in torch.rand(length).mul(10).tolist()]
        given = list(values)
        answer = percentile(given, percent)
        if given != values:
            raise Wrong(
                "your function changed the list that it was given",
                "sorted(values) makes a new list, values.sort() does not",
            )
        number = -(-length * percent // 100)
        expected = sorted(values)[number - 1]
        if isinstance(answer, torch.Tensor):
            answer = answer.item()
        if answer is None or not math.isclose(answer, expected, abs_tol=1e-6):
            reached = (
                ""
                if answer is None
                else (
                    f"; {sum(value <= answer for value in values)} of them do not "
                    "exceed it"
                )
            )
            raise Wrong(
                f"percentile of {length} values, {percent} percent, gave "
                f"{answer}{reached}, and {number} should be the "
                "fewest that do not",
                "sort, count how many values must lie at or below the answer, and "
                "remember that the first has index 0",
            )


@exercise("09.2", "Does it fit")
def check_misfits(misfits):
    rows, size = random.randint(3, 9), random.randint(10, 20)
    wanted = {"head.weight": (rows, size), "head.bias": (rows,), "conv.weight": (4, 3)}
    more = {"a.bias": (2,), "tail.bias": (5,)}
    cases = [
        ({}, [], "here all entries are the same"),
        (
            {"head.weight": (rows + 1, size)},
            ["head.weight"],
            "an entry of this name is in both, with another shape",
        ),
        (more, ["a.bias", "tail.bias"], "the file may hold what the model lacks"),
        (
            {"head.bias": None, "conv.weight": None},
            ["conv.weight", "head.bias"],
            "the file may lack what the model needs; sort the names",
        ),
    ]
    for changes, expected, hint in cases:
        found = {k: v for k, v in (wanted | changes).items() if v is not None}
        answer = misfits(dict(found), dict(wanted))
        if not isinstance(answer, list) or answer != expected:
            raise Wrong(
                f"misfits({found}, {wanted}) gave {answer!r}, not {expected}", hint
            )


@exercise("09.3", "Not sure")
def check_decide(decide):
    first, middle = random.uniform(0.86, 0.95), random.uniform(0.45, 0.49)
    cases = [
        (
            [("dog", first), ("cat", 1 - first)],
            0.5,
            0.1,
            "dog",
            "it is above the threshold, and leads by more than the margin",
        ),
        (
            [("cat", 0.40), ("dog", 0.15), ("horse", 0.45)][:2],
            0.5,
            0.1,
            "not sure",
            "the first is below the threshold",
        ),
        (
            [("horse", 0.52), ("cat", 0.48)],
            0.5,
            0.1,
            "not sure",
            "the second is nearer than the margin",
        ),
        (
            [("cat", middle), ("dog", 0.1)],
            0.4,
            0.2,
            "cat",
            "compare with the threshold that is given, not with a fixed one",
        ),
        (
            [("cat", 0.75), ("dog", 0.25)],
            0.75,
            0.5,
            "cat",
            "exactly at the threshold, or at the margin, is enough",
        ),
    ]
    for ranked, threshold, margin, expected, hint in cases:
        answer = decide(list(ranked), threshold, margin)
        if answer != expected:
            shown = [(name, round(probability, 2)) for name, probability in ranked]
            raise Wrong(f"decide({shown}, {threshold}, {margin}) gave {answer!r}", hint)


@exercise("09.4", "Who meets them")
def check_choose(choose):
    low, high = random.uniform(0.81, 0.85), random.uniform(0.9, 0.95)
    criteria = {"accuracy": 0.8, "latency": 0.2, "size": 20.0}
    candidates = {
        "low": {"accuracy": low, "latency": 0.01, "size": 1.0},
        "wrong": {"accuracy": 0.79, "latency": 0.01, "size": 1.0},
        "slow": {"accuracy": 0.97, "latency": 0.21, "size": 1.0},
        "high": {"accuracy": high, "latency": 0.1, "size": 19.0},
        "large": {"accuracy": 0.98, "latency": 0.1, "size": 21.0},
        "edge": {"accuracy": 0.8, "latency": 0.2, "size": 20.0},
    }
    answer = choose(
        {name: dict(row) for name, row in candidates.items()}, dict(criteria)
    )
    if not isinstance(answer, list):
        raise Wrong(
            f"choose gave {answer!r}, a {type(answer).__name__}",
            "return a list of names",
        )
    for name, what in {
        "wrong": "accuracy is 0.79",
        "slow": "latency is 0.21",
        "large": "size is 21",
    }.items():
        if name in answer:
            raise Wrong(
                f"choose kept {name!r}, whose {what}",
                f"the criteria are {criteria}: all three must be met",
            )
    for name in ("low", "high", "edge"):
        if name not in answer:
            raise Wrong(
                f"choose dropped {name!r}, {candidates[name]}",
                "it meets all; a bar that is just met is met",
            )
    if answer != ["high", "low", "edge"]:
        found = [
            f"{name} {candidates.get(name, {}).get('accuracy', 0):.2f}"
            for name in answer
        ]
        raise Wrong(f"choose gave the order {found}", "the most accurate first")
    if choose({"slow": candidates["slow"]}, criteria) != []:
        raise Wrong(
            "choose found one where none meets the criteria", "then the list is empty"
        )


@exercise("09.5", "To eight bits")
def check_to_int8(to_int8):
    for values in (
        torch.randn(random.randint(20, 60)),
        -torch.rand(4, 5) * 3 - 0.1,
        torch.zeros(3),
    ):
        answer = to_int8(values.clone())
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise Wrong(
                f"to_int8 gave a {type(answer).__name__}",
                "return two things: integers, scale",
            )
        integers, scale = answer[0], torch.as_tensor(answer[1])
        largest = values.abs().max()
        if (
            getattr(integers, "dtype", None) != torch.int8
            or integers.shape != values.shape
        ):
            raise Wrong(
                f"the integers are {type(integers).__name__} "
                f"{getattr(integers, 'dtype', '')}",
                "keep the shape, and convert to torch.int8",
            )
        if largest == 0:
            if scale != 1 or integers.any():
                raise Wrong(
                    f"for all zeros the scale is {scale}",
                    "0 / 0 is no number: take 1 instead of a scale of 0",
                )
        elif not torch.isclose(scale, largest / 127, rtol=1e-4):
            raise Wrong(
                f"the scale is {scale:.5f} for values up to {largest:.3f} in size",
                "the largest absolute value, divided by the scale, must be 127; "
                "values may be negative",
            )
        else:
            steps = (integers.float() * scale - values).abs().max() / scale
            if steps > 0.501:
                raise Wrong(
                    f"an integer is {steps:.2f} steps from its value",
                    "the nearest integer is never more than half a step away",
                )
