"""Checks of notebook 07 · Experiment tracking."""

import atexit
import math
import random
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from exercises import Wrong, capstone, exercise


def run_of(count: int, rng: random.Random) -> list[dict]:
    """Return rows of results as a training gives them; some have a number more."""
    rows = []
    for epoch in range(1, count + 1):
        row = {"epoch": epoch, "valid_acc": rng.random(), "valid_loss": rng.random()}
        if epoch == 2:
            row |= {"lr": rng.random()}
        rows.append(row)
    return rows


def curves_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return {name: [(step, number), ...]} of the event files in a folder."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def write_run(folder: Path, steps: list[int], values: list[float], name: str) -> None:
    """Write a curve into TensorBoard's event file in a folder."""
    with SummaryWriter(folder) as writer:
        for step, value in zip(steps, values, strict=True):
            writer.add_scalar(name, value, step)
            writer.add_scalar("valid_loss", 1 - value, step)


@exercise("07.1", "Log a run")
def check_log_rows(log_rows):
    rng = random.Random()
    for count in (3, rng.randint(4, 6)):
        rows = run_of(count, rng)
        names = sorted({name for row in rows for name in row} - {"epoch"})
        wanted = {
            name: [(row["epoch"], row[name]) for row in rows if name in row]
            for name in names
        }
        given = [dict(row) for row in rows]
        place = tempfile.mkdtemp()  # stays: an open writer may still write into it
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        folder = Path(place, "run")
        log_rows(folder, given)
        found = curves_in(folder) if folder.exists() else {}
        if given != rows:
            raise Wrong("the rows were changed", "read a row, and leave it as it is")
        if not found:
            raise Wrong(
                "no curve is in the folder yet",
                "write into `folder`, and close the writer: only then is everything "
                "on the disk",
            )
        if sorted(found) != names:
            raise Wrong(
                f"rows with {', '.join(names)} gave the curves "
                f"{', '.join(sorted(found))}",
                "each name but the epoch is a curve; a row may lack one of them",
            )
        for name, points in wanted.items():
            steps = [step for step, _ in found[name]]
            if len(steps) < len(points):
                raise Wrong(
                    f"{name} has {len(steps)} points, expected {len(points)}",
                    "write every row that has the name, and close the writer: only "
                    "then is everything in the file",
                )
            if steps != [step for step, _ in points]:
                raise Wrong(
                    f"{name} stands at the steps {steps}, expected "
                    f"{[step for step, _ in points]}",
                    "one point for each row that has the name, none for the others; "
                    "the third argument of add_scalar is the row's own epoch",
                )
            for (step, got), (_, number) in zip(found[name], points, strict=True):
                if not math.isclose(got, number, rel_tol=1e-5):
                    raise Wrong(
                        f"{name} at epoch {step} is {got:.4f}, expected {number:.4f}",
                        "write each number under its own name",
                    )


@exercise("07.2", "The log answers")
def check_best_run(best_run):
    rng = random.Random()
    low, high = rng.uniform(0.3, 0.5), rng.uniform(0.6, 0.9)
    cases = {  # run -> (steps, valid accuracies)
        "the best number in the middle of a run": {
            "a": ([1, 2, 3], [low, low + 0.05, low + 0.08]),
            "b": ([1, 2, 3], [low, high, low - 0.1]),
            "c": ([1, 2], [low - 0.2, low]),
        },
        "a run with NaN": {
            "one": ([1, 2, 3], [low, math.nan, low + 0.01]),
            "two": ([1, 2, 3], [low - 0.1, low - 0.1, high]),
            "zero": ([1, 2], [math.nan, math.nan]),
        },
        "a run that begins with NaN": {
            "early": ([1, 2, 3], [math.nan, low, high]),
            "steady": ([1, 2, 3], [low, low + 0.02, low + 0.01]),
        },
        "steps that do not count 1, 2, 3": {
            "x-2": ([10, 20, 35], [low, low, high]),
            "x": ([5, 10, 15], [low + 0.02, low, low]),
        },
    }
    for what, runs in cases.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            for name, (steps, values) in runs.items():
                write_run(Path(place, name), steps, values, "valid_acc")
            write_run(Path(place, "other"), [1, 2], [0.99, 0.98], "train_acc")
            try:
                got = best_run(Path(place))
            except KeyError as error:
                if "valid_acc" not in str(error):
                    raise
                raise Wrong(
                    f"your answer raised KeyError: {error}",
                    "a run may have no valid_acc: look into `Tags()` first",
                ) from None
        _, name, step = max(
            (value, name, step)
            for name, (steps, values) in runs.items()
            for step, value in zip(steps, values, strict=True)
            if not math.isnan(value)
        )
        if not isinstance(got, tuple | list) or tuple(got) != (name, step):
            raise Wrong(
                f"{what}: you returned {got!r}, expected {(name, step)}",
                "compare every valid_acc of every run, also those in the middle; the "
                "step is the event's own; NaN and runs without a valid_acc are out",
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
            (steps + warmup) // 2,
            warmup + 1,
            steps - 1,
            steps,
        ):
            wave = (
                peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
            )
            expected = peak * (step + 1) / warmup if step < warmup else wave
            got = warmup_cosine(step, steps, warmup, peak)
            if not isinstance(got, int | float):
                raise Wrong(
                    f"you returned a {type(got).__name__}",
                    "return a float: of a tensor, take .item()",
                )
            if not math.isclose(got, expected, rel_tol=1e-6, abs_tol=1e-6 * peak):
                part = "during the warm-up" if step < warmup else "after the warm-up"
                hint = (
                    "a straight line: the first step has already one part of the "
                    "peak, the last one all of it"
                    if step < warmup
                    else (
                        "half a wave, whose time begins at step `warmup` and ends at "
                        "step `steps`, one after the last"
                    )
                )
                raise Wrong(
                    f"step {step} of {steps} ({part} of {warmup} steps, peak "
                    f"{peak:.4f}) gave {got:.6g}, "
                    f"expected {expected:.6g}",
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
        if not torch.allclose(got.to(u.dtype), expected, rtol=1e-3, atol=0):
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
                "below their median it stops, at the median or above it goes on; of "
                "an even number, the median is the mean of the middle two",
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
        ([0.80, 0.82, 0.84], [0.776, 0.796, 0.816]),  # above each, below both together
        ([0.80, 0.82, 0.84], [0.782, 0.802, 0.822]),  # below n - 1, above n
        ([0.819, 0.82, 0.821], [0.77, 0.80, 0.83]),  # b scatters, a does not
        ([0.77, 0.80, 0.83], [0.779, 0.78, 0.781]),  # a scatters, b does not
        ([0.83, 0.84, 0.85], [0.815, 0.825, 0.835]),  # just above the larger one
        ([0.803, 0.812, 0.806, 0.799], [0.80, 0.80, 0.80, 0.80]),
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


LAB_RANGES = {"lr": (1e-4, 1.0), "width": (8, 512), "dropout": (0.0, 0.6)}
LAB_COUNT, LAB_BUDGET = 40, 300
SPENT = "the budget is spent"
LAB_SCORE, LAB_CLAIM = 0.870, 0.003


class Laboratory:
    """Trainings imitated: it counts epochs, and knows the truth of all settings."""

    def __init__(self, budget: int):
        self.key, self.left = random.random(), budget
        self.lr, self.width = random.uniform(-3.2, -1), random.uniform(4.5, 8)
        self.dropout = random.uniform(0.1, 0.4)

    def truth(self, settings: dict[str, float]) -> float:
        """Return the accuracy after ten epochs, on average over seeds."""
        far = ((math.log10(settings["lr"]) - self.lr) / 1.2) ** 2
        far += ((math.log2(settings["width"]) - self.width) / 5) ** 2
        far += ((settings["dropout"] - self.dropout) / 0.9) ** 2
        return 0.1 + 0.78 / (1 + 0.25 * far)

    def train(self, settings: dict[str, float], seed: int) -> Iterator[float]:
        """Yield a valid accuracy after each of ten epochs."""
        check_settings(settings)
        key = f"{self.key} {sorted(settings.items())} {seed}"  # same seed, same run
        noise, end = random.Random(key), self.truth(settings)
        end += noise.gauss(0, 0.01)
        for epoch in range(1, 11):
            if not self.left:
                raise RuntimeError(SPENT)
            self.left -= 1
            missing = 0.3 * (math.exp(-epoch / 1.5) - math.exp(-10 / 1.5))
            yield min(max(end - missing + noise.gauss(0, 0.004), 0.0), 1.0)


def check_settings(settings: object) -> None:
    """Raise Wrong unless these are settings within the ranges."""
    if not isinstance(settings, dict) or settings.keys() != LAB_RANGES.keys():
        raise Wrong(
            f"the settings are {settings!r}", "a dict with lr, width and dropout"
        )
    for name, (low, high) in LAB_RANGES.items():
        if not low <= settings[name] <= high:
            raise Wrong(
                f"{name} is {settings[name]!r}",
                f"stay within {low:g} and {high:g}, also near the edges",
            )
    if settings["width"] != int(settings["width"]):
        raise Wrong(f"width is {settings['width']!r}", "a width is a whole number")


@capstone("07", "A search that does not fool itself")
def check_search(search):
    truths, errors = [], []
    for _ in range(LAB_COUNT):
        lab = Laboratory(LAB_BUDGET)
        try:
            answer = search(lab.train, LAB_BUDGET)
        except RuntimeError as error:
            if str(error) != SPENT:
                raise
            raise Wrong(
                f"{SPENT}, all {LAB_BUDGET} epochs of it",
                "count your `next` calls; a whole run costs ten",
            ) from None
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise Wrong(
                f"you returned {answer!r}", "return two values: (settings, claimed)"
            )
        settings, claimed = answer
        check_settings(settings)
        truths.append(lab.truth(settings))
        errors.append(float(claimed) - truths[-1])
    truth, error = statistics.mean(truths), statistics.mean(errors)
    score = f"true accuracy {truth:.4f} (to beat: {LAB_SCORE:.3f}), claim {error:+.4f}"
    if not abs(error) <= LAB_CLAIM:
        raise Wrong(
            f"{score}: on average that is too {'high' if error > 0 else 'low'}",
            (
                "a number by which you chose promises too much"
                if error > 0
                else "what is asked for is the accuracy after the tenth epoch"
            )
            + "; measure the chosen settings again, all ten epochs, with seeds that "
            "chose nothing",
        )
    if truth < LAB_SCORE:
        raise Wrong(
            score,
            "whole runs are dear: two epochs tell bad settings from good ones, and new "
            "settings near the best so far are better than random ones",
        )
    return f"{score}."
