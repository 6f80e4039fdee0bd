"""Answer checks of notebook 10."""

import math
import random
import time
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from exercises import Calls, Wrong, capstone, exercise
from exercises.clinic import ILLNESSES, MAKE_ILL, WARD, Patient, fall_ill
from going_modular.datasets import FashionMNISTTensors
from going_modular.model_builder import CNNModel


def as_number(answer: object, case: str) -> float:
    """Return an answer as a float. Raises Wrong where it is no number."""
    try:
        return float(answer)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(
            f"{case} gave {answer!r}",
            "one number is asked for: does every way through it end in `return`?",
        ) from None


class Machine:
    """A clock that only two functions move; the machine's mood changes as they run."""

    def __init__(self, gain: float, mood: Callable, seconds: float = 0.01):
        self.now, self.calls, self.called = 100.0, 0, {"before": 0, "after": 0}
        self.seconds = {"before": gain * seconds, "after": seconds}
        self.mood = mood

    def function(self, name: str) -> Callable:
        def run() -> None:
            slower = self.mood(self.calls // 2, name)
            cold = 0 if self.called[name] else 50 * (2 if name == "after" else 1)
            self.now += self.seconds[name] * slower + self.seconds["after"] * cold
            self.calls += 1
            self.called[name] += 1

        return run

    def time(self, times_faster: Callable, rounds: int) -> object:
        functions = self.function("before"), self.function("after")
        clocks = ("perf_counter", "monotonic", "time", "process_time")
        fakes: Any = {name: lambda: self.now for name in clocks}
        whole: Any = {f"{name}_ns": lambda: round(self.now * 1e9) for name in clocks}
        with mock.patch.multiple(time, **fakes, **whole):
            return times_faster(*functions, rounds)


def interruptions(pair: int, name: str) -> float:
    """Return how much slower: each pair more than the last, and one is interrupted."""
    return (1 + pair) * (60 if (pair % 5 == 1 and name == "before") else 1)


@exercise("10.1", "A timer that can be trusted")
def check_times_faster(times_faster: Callable) -> None:
    for _ in range(3):
        gain = random.choice([random.uniform(1.2, 5), random.uniform(0.3, 0.8)])
        truth = f"`after` is {gain:.2f} times as fast as `before`"
        quiet = Machine(gain, lambda pair, name: 1.0)
        case = f"on a quiet machine, where {truth}, one round"
        got = as_number(quiet.time(times_faster, 1), case)
        case = f"{case} gave {got:.2f}"
        if math.isclose(got, 1 / gain, rel_tol=0.01):
            raise Wrong(
                case,
                "faster means fewer seconds: two seconds before and one after are 2",
            )
        if not math.isclose(got, gain, rel_tol=0.01):
            raise Wrong(
                case,
                "each function's first call is slow: did both have one before the "
                "clock started?",
            )
        for rounds in (9, 15):
            machine = Machine(gain, interruptions)
            case = (
                f"on a machine that gets slower and slower and is interrupted now and "
                f"then, where {truth}, {rounds} rounds"
            )
            got = as_number(machine.time(times_faster, rounds), case)
            calls = machine.called
            if min(calls.values()) < rounds:
                raise Wrong(
                    f"{case} called the functions {calls['before']} and "
                    f"{calls['after']} times",
                    "each round calls both, and one warm-up comes before the rounds.",
                )
            if not math.isclose(got, gain, rel_tol=0.01):
                raise Wrong(
                    f"{case} gave {got:.2f}",
                    "take turns, divide the two times of each round, and let no odd "
                    "round move the result: which value of the ratios does that?",
                )


@exercise("10.2", "What can be gained")
def check_whole_speedup(whole_speedup: Callable) -> None:
    names = ["aten::add", "aten::copy_", "aten::gelu", "aten::addmm", "aten::cat"]
    cases = [(random.uniform(0.05, 40), random.uniform(1.3, 12)) for _ in range(12)]
    for mine, factor in [(6.0, 2.0), (6.0, 1.5), *cases, (0.0, 7.0)]:
        others = [random.uniform(0.05, 10) for _ in names[1:]]
        total = mine + sum(others)
        rows = [
            {"operation": name, "calls": random.randint(1, 99), "ms": ms}
            | {"share": ms / total}
            for name, ms in zip(names, [mine, *others], strict=True)
        ]
        random.shuffle(rows)
        copies = [dict(row) for row in rows]
        case = (
            f"{names[0]} with {mine:.2f} of {total:.2f} ms, {factor:.2f} times faster,"
        )
        got = as_number(whole_speedup(rows, names[0], factor), case)
        if rows != copies:
            raise Wrong(f"{case} changed the profile", "work on a copy.")
        left = total - mine + mine / factor
        if math.isclose(got, total / left, rel_tol=1e-6):
            continue
        case = f"{case} gave {got:.3f}, expected {total / left:.3f}"
        hints = {
            left / total: "that is the time that is left; how many times does it fit "
            "into the time before?",
            1 + mine / total * (factor - 1): "speeds cannot be averaged like that: add "
            "up the times, then compare them",
            total
            / (total - mine): "the operation does not vanish: what is left of it?",
            factor: "only one operation becomes faster; the others stay",
        }
        for slower in (others[2], mine + others[2]):  # addmm's time, alone or too
            faster = total - slower + slower / factor
            hints[total / faster] = (
                "another operation's name begins alike: compare the whole names"
            )
        for wrong, hint in hints.items():
            if math.isclose(got, wrong, rel_tol=1e-6):
                raise Wrong(case, hint)
        raise Wrong(
            case,
            "add up the milliseconds of all rows; then the same with one row divided "
            "by the factor",
        )


@exercise("10.3", "Operations per byte")
def check_intensity(intensity: Callable) -> None:
    for turn in range(8):
        B, C, D = random.sample(range(3, 30), 3)
        dtype = random.choice([torch.float32, torch.bfloat16]) if turn else torch.half
        if turn % 2:
            layer, X = nn.Conv2d(C, D, 3, bias=turn > 3), torch.randn(B, C, 9, 11)
        else:
            layer, X = nn.Linear(C, D, bias=turn > 3), torch.randn(B, C)
        layer, X = layer.to(dtype), X.to(dtype)
        kept = X.clone()
        name = f"{layer} on {tuple(X.shape)}, {dtype}".replace("torch.", "")
        got = as_number(intensity(layer, X), name)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output = layer(X)
        flops = counter.get_total_flops()
        weights = sum(p.nbytes for p in layer.parameters())
        parts = {"the input": X.nbytes, "the output": output.nbytes, "weights": weights}
        expected = flops / sum(parts.values())
        if not torch.equal(X, kept):
            raise Wrong(f"{name}: X was changed", "measure, and leave it as it is.")
        if math.isclose(got, expected, rel_tol=1e-6):
            continue
        case = f"{name}: you answered {got:.3f}, expected {expected:.3f}"
        if math.isclose(got, 1 / expected, rel_tol=1e-6):
            raise Wrong(case, "operations per byte: bytes go below the line.")
        for part, size in parts.items():
            if math.isclose(got, flops / (sum(parts.values()) - size), rel_tol=1e-6):
                raise Wrong(case, f"one of three travels uncounted: {part}.")
        numbers = sum(parts.values()) / X.element_size()
        if math.isclose(got, flops / numbers / 4, rel_tol=1e-6):
            raise Wrong(case, "a number has 4 bytes in float32 only: ask the tensor.")
        if math.isclose(got, flops / numbers, rel_tol=1e-6):
            raise Wrong(case, "these are operations per number, not per byte.")
        raise Wrong(
            case,
            "the counter knows the operations; bytes are `.nbytes` of the input, of "
            "every parameter, and of the output.",
        )


class _Kept:
    """A value that a graph keeps for its backward pass, and lets go of after it."""

    def __init__(self, value: torch.Tensor):
        self.value = value


@exercise("10.4", "Uneven parts")
def check_accumulate_gradients(accumulate_gradients: Callable) -> None:
    kept_values: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def keep(value: torch.Tensor) -> _Kept:
        kept = _Kept(value.detach())
        kept_values.add(kept)
        return kept

    for _ in range(5):
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        sizes = random.sample([2, 5, 9, 14], 3)
        X, y = torch.randn(sum(sizes), 6), torch.randint(3, (sum(sizes),))
        with torch.no_grad():  # parts that differ
            X += y[:, None].float() * torch.arange(len(y))[:, None] / len(y)
        F.cross_entropy(model(X), y).backward()
        expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        for p in model.parameters():
            p.grad = torch.ones_like(p)  # what an earlier step left
        kept = [p.detach().clone() for p in model.parameters()]
        parts = list(zip(X.split(sizes), y.split(sizes), strict=True))
        seen: list[int] = []
        waiting: list[int] = []  # values kept for a backward pass yet to come
        hooks = [
            model[0].register_forward_hook(
                lambda m, X, out, seen=seen: seen.append(len(out))
            ),
            model[0].register_forward_pre_hook(
                lambda m, X, waiting=waiting: waiting.append(len(kept_values))
            ),
        ]
        with saved_tensors_hooks(keep, lambda kept: kept.value):
            accumulate_gradients(model, F.cross_entropy, parts)
        for hook in hooks:
            hook.remove()
        case = f"parts of {sizes} samples"
        if any(
            not torch.equal(a, b) for a, b in zip(kept, model.parameters(), strict=True)
        ):
            raise Wrong(
                f"{case}: the weights moved",
                "only gradients are asked for; the optimizer's step is another matter",
            )
        check_gradients(model, expected, parts, case)
        if max(seen) > max(sizes):
            raise Wrong(
                f"{case}: the model saw {max(seen)} samples at once",
                "parts are there because the whole batch does not fit: one at a time",
            )
        if max(waiting) > 0:
            raise Wrong(
                f"{case}: when the model saw a part, what an earlier one had left for "
                "its backward pass was still in memory",
                "call backward for each part before the next: then it is released",
            )


def check_gradients(model: nn.Module, expected: list, parts: list, case: str) -> None:
    """Raise Wrong unless the model's gradients are the expected ones.

    It says which mistake they look like.
    """
    got: Any = [p.grad for p in model.parameters() if p.grad is not None]
    if len(got) < len(expected):
        raise Wrong(
            f"{case}: a parameter has no gradient",
            "call backward for each part, and clear only before the first",
        )

    def alike(others: list) -> bool:
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


LOOK = {
    "dead units": "how many of each layer's ReLUs ever answer more than 0?",
    "eval forgotten": "ask `judge` several times, without any training in between.",
    "exploding weights": "look at the loss of the very first batch, before any step.",
    "frozen layer": "how far does one step move each layer, compared to its size?",
    "leak": "are there pictures that stand in `images` and in `valid_images`?",
    "learning rate too large": "compare the losses of the first ten batches, and how "
    "far one step moves the weights, with the healthy one's.",
    "shifted labels": "how good is it on what it learned, and how good when it is "
    "judged? Look at some pictures with their labels.",
    "slow loader": "how many operations does it take to load a batch?",
}


@exercise("10.5", "Eight diagnoses")
def check_diagnoses(diagnoses: object) -> None:
    wanted = 'a dictionary is asked for, with all letters: {"A": "leak", ...}'
    if not isinstance(diagnoses, dict):
        raise Wrong(f"your answer is of type {type(diagnoses).__name__}", wanted)
    missing = [letter for letter in WARD if letter not in diagnoses]
    if missing:
        raise Wrong(f"your answer has no {', '.join(missing)}", wanted)
    unknown = [repr(letter) for letter in diagnoses if letter not in WARD]
    if unknown:
        raise Wrong(f"your answer also has {', '.join(unknown)}", wanted)
    for letter, word in diagnoses.items():
        if word not in ILLNESSES:
            raise Wrong(
                f"patient {letter}: {word!r} is none of the illnesses",
                f"they are: {', '.join(ILLNESSES)}.",
            )
    wrong = [letter for letter in WARD if diagnoses[letter] != WARD[letter]]
    if wrong:
        raise Wrong(
            f"{8 - len(wrong)} of 8 are right; {wrong[0]} does not suffer from "
            f"{diagnoses[wrong[0]]}",
            LOOK[WARD[wrong[0]]],
        )


@exercise("10.6", "Eight cures")
def check_cure(cure: Callable) -> None:
    cases = [(illness, k) for illness in MAKE_ILL for k in (0, 1)]
    for illness, k in random.sample(cases, len(cases)):
        seed = random.randrange(10**6)
        patient = fall_ill(illness, seed, k)
        sound = Patient(seed)  # the same, before it fell ill
        case = f'a patient with "{illness}"'
        cure(patient, illness)
        _check_data(patient, sound, illness, case)
        _check_loading(patient, case)
        before = [p.detach().clone() for p in patient.model.parameters()]
        patient.train(4)
        after = list(patient.model.parameters())
        if any(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            raise Wrong(
                f"{case} trains, but some of its weights do not move",
                "each parameter must want a gradient, and the optimizer must hold it.",
            )
        patient.judge()
        judged = patient.logits()
        patient.model.eval()
        apart = (judged - patient.logits()).abs().max()
        if apart > 1e-3:
            raise Wrong(
                f"{case} is judged by answers that differ by up to {apart:.2g} from "
                "those in evaluation mode",
                "what has to be called before a model is judged?",
            )
        true = _accuracy(patient, sound)
        rates = [m.p for m in patient.model.modules() if isinstance(m, nn.Dropout)]
        if rates != [0.2, 0.2]:
            raise Wrong(
                f"{case} has dropout layers with {rates}, no longer with [0.2, 0.2]",
                "dropout is no illness: it only has to rest while the model is judged.",
            )
        if true < 0.6:
            raise Wrong(
                f"{case}, after your cure and four epochs, has accuracy {true:.2f}; "
                "healthy ones have about 0.77",
                "examine the cured one with the same instruments: what differs from a "
                "healthy one still?",
            )


def _check_data(patient: Patient, sound: Patient, illness: str, case: str) -> None:
    """Raise Wrong unless the cured one's pictures and labels are true, and apart."""
    valid = sound.valid_images, sound.valid_labels
    mine = patient.valid_images, patient.valid_labels
    if any(not torch.equal(a, b) for a, b in zip(valid, mine, strict=True)):
        raise Wrong(
            f"{case}: the valid pictures or their labels were changed",
            "leave them: they say how well it does. The illness is elsewhere.",
        )
    if len(patient.images) != len(patient.labels):
        raise Wrong(
            f"{case} has {len(patient.images)} pictures, {len(patient.labels)} labels",
            "what is taken out of one must be taken out of the other.",
        )
    known = {hash(x.numpy().tobytes()) for x in sound.valid_images}
    leaked = [hash(x.numpy().tobytes()) in known for x in patient.images]
    count = sum(leaked)
    allowed = 20  # the archive itself may hold a picture twice
    if count > allowed:
        raise Wrong(
            f"{case} still learns from {count} of the pictures it is judged by",
            "keep of `images` and `labels` those that equal no valid picture, number "
            "for number. (`torch.cdist` rounds: equal ones come out up to 0.02 apart.)",
        )
    if len(patient.images) < (1_450 if illness == "leak" else 2_000):
        raise Wrong(
            f"{case} has only {len(patient.images)} pictures left to learn from",
            "keep every picture that is not among the valid ones.",
        )
    if illness != "leak" and not torch.equal(patient.labels, sound.labels):
        same = (patient.labels == sound.labels).float().mean().item()
        raise Wrong(
            f"{case}: {same:.0%} of the labels to learn from are true",
            "compare what a trained patient answers with the labels of `valid`: by how "
            "much do they differ, and always by the same?",
        )


def _check_loading(patient: Patient, case: str) -> None:
    """Raise Wrong unless batches come quickly, and are the right ones."""
    numbers = torch.randperm(len(patient.labels))[:50]
    with Calls() as calls:
        X, y = patient.load(numbers)
    wanted = Patient.load_batch(patient, numbers)
    if not (torch.allclose(X, wanted[0], atol=1e-5) and torch.equal(y, wanted[1])):
        raise Wrong(
            f"{case}: `load` gives other pictures or labels than before",
            "(pixels - 0.286) / 0.353 for each picture, in the order of the numbers.",
        )
    count = sum(calls.names.values())
    if count > 30:
        raise Wrong(
            f"{case} calls {count} operations to load a batch of 50",
            "the pictures are one tensor: `images[numbers]` fetches all of them.",
        )


def _accuracy(patient: Patient, sound: Patient) -> float:
    """Return the accuracy on the labels that were there before it fell ill."""
    found = patient.logits().argmax(dim=1)
    return (found == sound.valid_labels).float().mean().item()


SEEN, GOAL = 4_000, 0.82


@capstone("10", "Speedrun")
def check_speedrun(speedrun: Callable) -> str:
    data = FashionMNISTTensors("data")
    images, labels = data.__getitems__(torch.randperm(55_000)[:SEEN].tolist())
    others, truths = data.__getitems__(list(range(55_000, 60_000)))
    model, seen = CNNModel(), 0

    def count(_: nn.Module, inputs: tuple) -> None:
        nonlocal seen
        seen += len(inputs[0])

    first = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    hook = first.register_forward_pre_hook(count)
    before = [part.detach().clone() for part in model.parameters()]
    start = time.process_time()
    speedrun(model, images, labels)
    seconds = time.process_time() - start
    hook.remove()
    after = [part.detach().cpu().float() for part in model.parameters()]
    if not seen or all(map(torch.equal, before, after)):
        raise Wrong(
            "the network that you were given did not learn",
            "train it in place: call the optimizer's step(), and train no copy and no "
            "other network.",
        )
    if seen > SEEN:
        raise Wrong(
            f"{seen:,} pictures went through the network, allowed are {SEEN:,}",
            "one pass over the pictures is the whole budget, whatever it is for.",
        )
    model = model.cpu().float().eval()
    with torch.inference_mode():
        logits = torch.cat([model(part) for part in others.split(500)])
    accuracy = (logits.argmax(dim=1) == truths).float().mean().item()
    score = (
        f"{accuracy:.1%} of 5,000 fresh pictures, after {seen:,} seen and "
        f"{seconds:.0f} s of computing; to beat: {GOAL:.1%}"
    )
    if accuracy <= GOAL:
        raise Wrong(
            score,
            "the budget counts pictures, not steps: how many steps do 4,000 pictures "
            "make in batches of 128, and in smaller ones? Which rate suits those, and "
            "what should it do towards the end?",
        )
    return f"The score: {score}."
