"""Checks of notebook 07 · Experiment tracking."""

import json
import math
import random
import statistics

import torch

from exercises import Wrong, exercise


@exercise("07.1", "The first free name")
def check_unique_name(unique_name):
    name = f"run{random.randint(0, 999)}"
    cases = [
        set(),
        {name},
        {name, f"{name}-2"},
        {name, f"{name}-2", f"{name}-4"},
        {f"{name}-2"},
    ]
    cases += [
        {name, f"{name}-5"},
        {name, *(f"{name}-{k}" for k in range(2, random.randint(5, 20)))},
    ]
    for taken in cases:
        expected, number = name, 2
        while expected in taken:
            expected, number = f"{name}-{number}", number + 1
        got = unique_name(name, set(taken))
        if got != expected:
            state = (
                "is taken already" if got in taken else "is not the first that is free"
            )
            raise Wrong(
                f"{name!r} with {sorted(taken)} taken gave {got!r}, which {state}",
                "the name itself comes first, then -2, -3 and so on: ask of each in "
                "turn whether it is taken",
            )


@exercise("07.2", "A log whose end was cut")
def check_read_rows(read_rows):
    rows = [
        {"step": k, "loss": random.random()} for k in range(1, random.randint(4, 7))
    ]
    lines = [json.dumps(row) for row in rows]
    whole = "\n".join(lines) + "\n"
    cut = lines[-1][: random.randint(2, len(lines[-1]) - 1)]
    for text, expected, what in (
        (whole, rows, "a whole log"),
        ("\n".join(lines[:-1] + [cut]), rows[:-1], "a log with its last line cut"),
        (whole.strip(), rows, "a whole log without the last line's end"),
        ("", [], "an empty log"),
    ):
        try:
            got = read_rows(text)
        except ValueError as error:
            raise Wrong(
                f"{what} raised ValueError: {error}",
                "only a damaged line before the last is an error",
            ) from None
        if got != expected:
            count = len(got) if isinstance(got, list) else type(got).__name__
            raise Wrong(
                f"{what}, of {len(expected)} whole rows, gave {count}",
                "every whole line is a row, in order",
            )
    try:
        read_rows("\n".join([lines[0], cut, *lines[1:]]))
    except ValueError:
        return
    raise Wrong(
        "a damaged line in the middle raised nothing",
        "leave out a line only where it is the last",
    )


@exercise("07.3", "Warm-up, then cosine")
def check_warmup_cosine(warmup_cosine):
    for _ in range(5):
        steps, warmup, peak = (
            random.randint(60, 200),
            random.randint(4, 20),
            random.uniform(0.01, 1.0),
        )
        for step in (
            0,
            1,
            warmup - 1,
            warmup,
            warmup + 1,
            (steps + warmup) // 2,
            steps - 1,
            steps,
        ):
            wave = (
                peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
            )
            expected = peak * (step + 1) / warmup if step < warmup else wave
            got = warmup_cosine(step, steps, warmup, peak)
            if not isinstance(got, int | float) or not math.isclose(
                got, expected, rel_tol=1e-6, abs_tol=1e-9
            ):
                part = "during the warm-up" if step < warmup else "after the warm-up"
                hint = (
                    "a straight line: the first step has already one part of the "
                    "peak, the last one all of it"
                    if step < warmup
                    else (
                        "half a wave, whose time begins at the end of the warm-up and "
                        "ends at the last step"
                    )
                )
                raise Wrong(
                    f"step {step} of {steps} ({part} of {warmup} steps, peak "
                    f"{peak:.4f}) gave {got}, "
                    f"expected {expected:.4f}",
                    hint,
                )


@exercise("07.4", "Evenly by factors")
def check_log_uniform(log_uniform):
    for _ in range(3):
        low, high = 10 ** random.uniform(-6, -4), 10 ** random.uniform(-2, 1)
        u = torch.cat([torch.tensor([0.0, 1.0, 0.5]), torch.rand(50)])
        got = log_uniform(u.clone(), low, high)
        if not isinstance(got, torch.Tensor) or got.shape != u.shape:
            raise Wrong(
                "the result is no tensor of u's shape",
                "every number of u becomes one number",
            )
        expected = low * (high / low) ** u
        if not torch.allclose(got, expected, rtol=1e-3, atol=0):
            at = int(((got / expected) - 1).abs().nan_to_num(9).argmax())
            raise Wrong(
                f"{u[at]:.2f} between {low:.2g} and {high:.2g} gave {got[at]:.3g}, "
                f"expected {expected[at]:.3g}",
                "half way between 0.001 and 0.1 is 0.01: the exponents are what is "
                "evenly spread",
            )


@exercise("07.5", "To prune or not")
def check_should_prune(should_prune):
    four = [[0.5, 0.7], [0.6], [0.4, 0.8, 0.9], [0.3, 0.2]]
    cases = [
        (0.44, 1, four),
        (0.46, 1, four),
        (0.45, 1, four),
        (0.1, 2, four),
        (0.0, 1, four[:3]),
    ]
    cases.append(
        (0.8, 1, [[0.1], [0.9], [0.9], [0.9]])
    )  # above their mean, below their median
    for _ in range(60):
        others = [
            [random.random() for _ in range(random.randint(1, 4))]
            for _ in range(random.randint(3, 10))
        ]
        cases.append((random.random(), random.randint(1, 4), others))
    for value, epoch, others in cases:
        values = [other[epoch - 1] for other in others if len(other) >= epoch]
        expected = len(values) >= 4 and value < statistics.median(values)
        got = should_prune(value, epoch, [list(other) for other in others])
        if got not in (True, False) or got != expected:
            shown = ", ".join(f"{v:.2f}" for v in sorted(values))
            raise Wrong(
                f"{value:.2f} in epoch {epoch}, where the others had [{shown}], gave "
                f"{got}",
                "at least four of the others must have that epoch, counted from 1; "
                "below their median it stops, at the median or above it goes on",
            )


@exercise("07.6", "Is it better?")
def check_is_better(is_better):
    cases: list = [
        ([0.9, 0.9, 0.92], [0.7, 0.9, 0.71]),
        ([0.8, 0.81, 0.82], [0.80, 0.80, 0.80]),
    ]
    cases += [
        ([0.5, 0.5], [0.9, 0.9]),
        ([0.82, 0.84, 0.86], [0.815, 0.825, 0.83]),
        ([0.81, 0.83], [0.808, 0.81]),
    ]
    for _ in range(20):
        n = random.randint(2, 6)
        cases.append(
            tuple(
                [random.uniform(0.7, 0.8 + shift) for _ in range(n)]
                for shift in (0.15, 0.0)
            )
        )
    for a, b in cases:
        gain, spread = (
            statistics.mean(a) - statistics.mean(b),
            max(statistics.stdev(a), statistics.stdev(b)),
        )
        if abs(gain - spread) < 1e-9:
            continue  # too close to call with rounding
        got = is_better(list(a), list(b))
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"you returned {got!r}",
                "two values are asked for: the gain, and whether it is sure",
            )
        shown = " and ".join(
            "[" + ", ".join(f"{v:.3f}" for v in values) + "]" for values in (a, b)
        )
        if not math.isclose(got[0], gain, abs_tol=1e-6):
            raise Wrong(
                f"the gain of {shown} is {got[0]:.4f}, expected {gain:.4f}",
                "mean of a minus mean of b",
            )
        if bool(got[1]) != (gain > spread):
            raise Wrong(
                f"for {shown}, with a gain of {gain:.4f}, sure is {got[1]}",
                "compare the gain itself, with its sign, to the larger spread of the "
                "two, which divides by n - 1",
            )
