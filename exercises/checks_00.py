"""Checks of the exercises in 00_tensors.ipynb."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from exercises import Calls, Wrong, call, capstone, exercise


def _require_tensor(
    answer: object, shape: tuple[int, ...], dtype: torch.dtype, hint: str
) -> torch.Tensor:
    """Return the answer if it is a tensor of this shape and dtype, else raise."""
    if not isinstance(answer, torch.Tensor):
        raise Wrong(
            f"your function returned {type(answer).__name__}, not a tensor", hint=hint
        )
    if answer.shape != shape:
        raise Wrong(
            f"your result has shape {tuple(answer.shape)}, it should have "
            f"{tuple(shape)}",
            hint=hint,
        )
    if answer.dtype != dtype:
        raise Wrong(
            f"your result is {answer.dtype}, it should be {dtype}",
            hint="describe() what goes in and what comes out: which line changed it? "
            "(torch.zeros makes float32 unless you say dtype=...)",
        )
    return answer.detach()


def _close(
    answer: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4
) -> bool:
    return torch.allclose(answer, expected, rtol=tolerance, atol=tolerance)


def _place(answer: torch.Tensor, expected: torch.Tensor) -> tuple[int, ...]:
    """Return the index at which the answer differs most; NaN differs most of all."""
    error = (answer - expected).abs().nan_to_num(nan=float("inf"))
    return tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))


@exercise("00.1", "Bytes of a batch")
def check_batch_bytes(batch_bytes: Callable) -> None:
    for dtype in (
        torch.float32,
        torch.uint8,
        torch.float64,
        torch.int64,
        torch.bool,
        torch.bfloat16,
    ):
        shape = torch.randint(9, 40, (4,)).tolist()
        if dtype == torch.bfloat16:
            shape[0] *= 10**12  # more than any memory holds
        answer = call(
            batch_bytes,
            *shape,
            dtype,
            hint="no tensor need exist: what do four lengths and a dtype tell?",
        )
        expected = torch.empty(shape, dtype=dtype, device="meta").nbytes
        if not isinstance(answer, int | float):
            raise Wrong(
                f"you returned {type(answer).__name__}, not a Python number",
                hint="four lengths and a width are Python numbers: so is their product",
            )
        if answer == expected:
            continue
        case = f"for shape {tuple(shape)} and {dtype} you answered {answer:,}"
        if answer == expected // dtype.itemsize:
            raise Wrong(
                f"{case}: that is how many numbers it holds",
                hint="how wide is one number? Ask the dtype.",
            )
        if answer == expected * 8:
            raise Wrong(
                f"{case}: those are bits",
                hint="the size of one number is wanted in bytes.",
            )
        raise Wrong(
            f"{case}, which is {'too many' if answer > expected else 'not enough'}",
            hint=(
                "all four lengths count, and so does the width of one number, which "
                "is not the same for every dtype."
            ),
        )


@exercise("00.2", "A linear layer")
def check_linear(linear: Callable) -> None:
    hint = (
        "say the shapes aloud: the inner lengths of @ must agree, and (B, K) must be "
        "left."
    )
    for B, D, K, dtype in (
        (4, 3, 2, torch.float32),
        (2, 5, 7, torch.float64),
        (3, 3, 3, torch.float32),
        (60, 50, 60, torch.float32),
    ):
        x, weight = torch.randn(B, D, dtype=dtype), torch.randn(K, D, dtype=dtype)
        bias = torch.randn(K, dtype=dtype) + 10
        with Calls() as calls:
            answer = call(linear, x, weight, bias, hint=hint)
        answer = _require_tensor(answer, (B, K), dtype, hint)
        product = x @ weight.T
        if _close(answer, product + bias):
            _require_no_loop(calls, B)
            continue
        b, k = _place(answer, product + bias)
        found = (
            f"the shape {(B, K)} is right, but output {k} of row {b} is "
            f"{answer[b, k]:.4f} instead of {product[b, k] + bias[k]:.4f}"
        )
        if _close(answer, product):
            raise Wrong(
                f"{found}: the product alone", hint="one input is not used yet."
            )
        if _close(answer, product - bias):
            raise Wrong(f"{found}: the bias went the wrong way", hint="add it.")
        if (answer - product).std() < 1e-3:
            raise Wrong(
                f"{found}: every output got the same number beside its product",
                hint="the bias has one number for each output; (K,) broadcasts.",
            )
        raise Wrong(
            f"{found} (product {product[b, k]:.4f}, bias {bias[k]:.4f})",
            hint=(
                "each output needs one *row* of the weight: is it turned the right "
                "way, even when it is square?"
            ),
        )


def _require_no_loop(calls: Calls, rows: int) -> None:
    to_python = {"tolist", "item", "numpy"} & calls.names.keys()
    if calls.names.total() >= rows > 20 or to_python:
        raise Wrong(
            f"the numbers are right, but for {rows} rows torch was called "
            f"{calls.names.total()} times"
            + (" and the numbers left torch" if to_python else ""),
            hint="stay with tensors, without a loop: one product takes all rows and "
            "all outputs at once.",
        )


@exercise("00.3", "Pictures to a batch")
def check_to_batch(to_batch: Callable) -> None:
    hint = (
        "the axes arrive as (H, W, C), and stacking puts B in front; name each axis, "
        "then say where it must go."
    )
    for B, H, W, brightest in ((2, 5, 7, 255), (3, 8, 4, 180), (1, 6, 6, 240)):
        pictures = []
        for number in range(B):  # each one darker than the last, none quite black
            limit = brightest - 25 * number
            picture = torch.randint(12, limit, (H, W, 3), dtype=torch.uint8)
            picture[0, 0] = torch.tensor([limit, 10, 40])
            pictures.append(picture)
        answer = call(to_batch, pictures, hint=hint)
        if isinstance(answer, torch.Tensor) and not answer.is_floating_point():
            raise Wrong(
                f"your batch is {answer.dtype}",
                hint="which dtype do inputs of a network have?",
            )
        answer = _require_tensor(answer, (B, 3, H, W), torch.float32, hint)
        if answer.unique().numel() <= 2:
            raise Wrong(
                f"only {answer.unique().tolist()} are left of all brightnesses",
                hint="is it a whole-number division?",
            )
        expected = torch.stack([picture.permute(2, 0, 1) for picture in pictures]) / 255
        if _close(answer, expected, tolerance=1e-3):
            continue
        b, c, h, w = _place(answer, expected)
        before = pictures[b][h, w].tolist()
        after = [round(value, 3) for value in answer[b, :, h, w].tolist()]
        found = f"in picture {b}, the pixel {before} at row {h}, column {w}"
        if _close(answer.flatten().sort()[0], expected.flatten().sort()[0], 1e-3):
            there = [round(255 * value) for value in after]
            raise Wrong(
                f"{found} became 255 × {there}: every number is still there, at "
                "another place",
                hint=(
                    "which call puts axes in a new order, and which only cuts the "
                    "row of numbers anew?"
                ),
            )
        raise Wrong(
            f"{found} became {after}",
            hint=(
                "0 should become 0 and 255 should become 1, in every picture, dark "
                "or bright: divide by what?"
            ),
        )


@exercise("00.4", "Hard examples")
def check_hard_examples(hard_examples: Callable) -> None:
    hint = (
        "print the shape of the true class's probabilities and of your mask: both "
        "should be (B,)."
    )
    for B, K, threshold in (
        (6, 3, 0.375),
        (12, 5, 0.625),
        (6, 4, 0.625),
        (12, 3, 0.375),
        (6, 3, 0.25),  # nothing is below it
        (1, 3, 0.375),  # a batch of one, whose axis B must stay
    ):
        images, labels = torch.rand(B, 3, 4, 6), torch.randint(0, K, (B,))
        rivals = (labels + torch.randint(1, K, (B,))) % K  # another class
        true_probs = torch.tensor([0.25, 0.375, 0.45, 0.55, 0.625, 0.8]).repeat(2)
        true_probs = true_probs[:B][torch.randperm(B)]
        probs = torch.full((B, K), 0.02)
        probs[torch.arange(B), labels] = true_probs
        # three in six are taken for the other class
        probs[torch.arange(B), rivals] = torch.where(true_probs < 0.5, 0.5, 0.15)
        is_hard = true_probs < threshold
        empty = (
            "no picture is hard here, so an empty batch (0, 3, 4, 6) is wanted: "
            "picking with a mask gives one without an error."
        )
        answer: Any = call(
            hard_examples,
            images,
            probs,
            labels,
            threshold,
            hint=hint if is_hard.any() else empty,
        )
        expected = images[is_hard]
        if not isinstance(answer, torch.Tensor):
            kind = type(answer).__name__
            raise Wrong(f"your function returned {kind}, not a tensor", hint=hint)
        if answer.shape == expected.shape and torch.equal(answer, expected):
            continue
        if answer.ndim != 4:
            raise Wrong(
                f"your result has shape {tuple(answer.shape)}, not four axes",
                hint=(
                    "pictures are wanted: a mask of shape (B,) can pick them out of "
                    "`images`."
                ),
            )
        if torch.equal(answer, images[~is_hard]):
            raise Wrong(
                "you kept exactly the easy pictures",
                hint="hard means that the true class got little.",
            )
        if torch.equal(answer, images[true_probs <= threshold]):
            raise Wrong(
                f"you kept pictures with a probability of exactly {threshold} as well",
                hint="below the threshold does not include it.",
            )
        found = f"of {B} pictures you kept {len(answer)}; {len(expected)} have a true"
        raise Wrong(
            f"{found} class below {threshold}"
            + (", but others or in another order" * (len(answer) == len(expected))),
            hint=(
                "look at the probability of the *label's* class, whatever the others "
                "got, and at the word below."
            ),
        )


@exercise("00.5", "Standardize a batch")
def check_standardize(standardize: Callable) -> None:
    hint = (
        "one mean per channel has shape (C,) or, with the axes kept, (1, C, 1, 1): "
        "which one lines up under the C?"
    )
    for B, C, H, W, dtype in (
        (4, 3, 8, 3, torch.float32),
        (5, 3, 6, 9, torch.float64),
        (6, 2, 8, 8, torch.float32),
    ):
        centers = 20 * torch.arange(1, C + 1).view(1, C, 1, 1)
        centers = centers + 5 * torch.arange(B).view(B, 1, 1, 1)
        widths = torch.arange(1, C + 1).view(1, C, 1, 1)
        images = centers + widths * torch.randn(B, C, H, W, dtype=dtype)
        answer = call(standardize, images, hint=hint)
        answer = _require_tensor(answer, images.shape, dtype, hint)
        means, stds = answer.mean(dim=(0, 2, 3)), answer.std(dim=(0, 2, 3))
        if not _close(means, torch.zeros_like(means), tolerance=1e-2):
            raise Wrong(
                f"your channels' means are {[round(v, 2) for v in means.tolist()]}, "
                "not 0",
                hint="each channel needs its own mean, taken away before you divide: "
                "which axes have to disappear? " + hint[0].upper() + hint[1:],
            )
        if answer.mean(dim=(2, 3)).abs().max() < 0.05:
            raise Wrong(
                "every single picture has mean 0 now: you took a mean for each picture",
                hint=(
                    "a bright picture of a batch should stay bright: which axis is "
                    "still missing from `dim`?"
                ),
            )
        if not _close(stds, torch.ones_like(stds), tolerance=1e-2):
            raise Wrong(
                "the means are 0, but the standard deviations are "
                f"{[round(v, 2) for v in stds.tolist()]}, not 1",
                hint="what is left to do after the shift, and over which axes?",
            )
        std = images.std(dim=(0, 2, 3), keepdim=True)
        expected = (images - images.mean(dim=(0, 2, 3), keepdim=True)) / std
        if not _close(answer, expected, tolerance=2e-2):
            place = _place(answer, expected)
            raise Wrong(
                "mean and deviation are right, but the number at "
                f"{place} is {answer[place]:.3f} instead of {expected[place]:.3f}",
                hint="shift, then scale, no more.",
            )


@exercise("00.6", "Slopes at many points")
def check_slopes(slopes: Callable) -> None:
    hint = (
        "a copy of x that asks for its gradient, one call of the function, one number "
        "to walk backward from, the gradient."
    )
    functions: dict[str, tuple[Callable, Callable]] = {
        "x³ - 10x": (lambda x: x**3 - 10 * x, lambda x: 3 * x**2 - 10),
        "5x²": (lambda x: 5 * x**2, lambda x: 10 * x),
        "exp(-2x)": (lambda x: torch.exp(-2 * x), lambda x: -2 * torch.exp(-2 * x)),
        "x² / 1000": (lambda x: x**2 / 1000, lambda x: x / 500),
        "7": (lambda x: 0 * x + 7, lambda x: 0 * x),
    }
    for number, (name, (function, derivative)) in enumerate(functions.items()):
        dtype = torch.float64 if number == 1 else torch.float32
        x = 2 * torch.randn(3 + number, dtype=dtype)
        walked: list[bool] = []
        try:
            answer = call(slopes, _recorded(function, walked), x, hint=hint)
        except Wrong as wrong:
            if wrong.what == "your function returned None":
                wrong.hint += (
                    " If it does: the slopes lie in the .grad of your copy, and that "
                    "of x is None."
                    if walked
                    else " If it does: every .grad is None before .backward()."
                )
            raise
        answer = _require_tensor(answer, x.shape, dtype, hint)
        expected = derivative(x)
        if not torch.allclose(answer, expected, rtol=1e-3, atol=1e-6):
            (i,) = _place(answer, expected)
            value = function(x[i])
            found = f"for {name} at {x[i]:.3f} you returned {answer[i]:.5g}"
            if torch.allclose(answer[i], value, rtol=1e-3):
                raise Wrong(f"{found}: its value", hint="the slope stands elsewhere.")
            if torch.allclose(len(x) * answer, expected, rtol=1e-3, atol=1e-6):
                raise Wrong(
                    f"{found}: the slope {expected[i]:.5g}, divided by {len(x)}",
                    hint="a mean divides every slope by N: what does not?",
                )
            raise Wrong(f"{found}, its slope is {expected[i]:.5g}", hint=hint)
        if not walked:
            raise Wrong(
                "the numbers are right, but nothing walked backward",
                hint="the task asks for autograd, not for differences or a formula.",
            )


def _recorded(function: Callable, walked: list[bool]) -> Callable:
    """Return ``function``, which then refuses what autograd cannot follow.

    Args:
        function: of one tensor.
        walked: gets an item when a gradient arrives at that tensor.
    """

    def checked(x: object) -> torch.Tensor:
        if not isinstance(x, torch.Tensor):
            raise Wrong(
                f"your code gave the function a {type(x).__name__}",
                hint="autograd follows tensors only.",
            )
        if torch._C._functorch.is_functorch_wrapped_tensor(x):  # torch.func.grad
            walked.append(True)
        elif not x.requires_grad:
            raise Wrong(
                "your code called the function with a tensor that asks for no gradient",
                hint="call it once, with the copy of x that asks for its gradient.",
            )
        else:
            x.register_hook(lambda gradient: walked.append(True))
        return function(x)

    return checked


BEAT = 3.0  # mean error in brightness levels, of 255
MORE = "standardize the inputs, channel by channel, as in 00.5; then a step of 1 helps."


@capstone("00", "Undo the filter")
def check_restore(restore: Callable) -> str:
    hint = (
        "each new channel is a weighted sum of the three old ones, plus a constant: "
        "so is the way back. Twelve numbers, and a loss that tells how wrong they are."
    )
    worst, untouched = 0.0, 0.0
    for _ in range(2):
        originals, goals = _photographs(40), _photographs(40)
        mixing = torch.eye(3)[torch.randperm(3)]  # a channel, and a part of the others
        mixing = 0.5 * mixing + 0.2 * torch.rand(3, 3) * (1 - mixing)
        constant = 0.15 * torch.rand(3, 1, 1)
        filtered, others = (
            (torch.einsum("kc,bchw->bkhw", mixing, images) + constant)
            .mul(255)
            .round()
            .div(255)
            for images in (originals, goals)
        )
        answer = call(restore, filtered, originals, others, hint=hint)
        answer = _require_tensor(answer, goals.shape, torch.float32, hint)
        error = 255 * (answer - goals).abs().mean().item()
        worst = max(worst, error if error == error else float("inf"))  # not NaN
        untouched = max(untouched, 255 * (others - goals).abs().mean().item())
    score = f"Error {worst:.2f} levels of 255; to beat: {BEAT}"
    if worst < BEAT:
        return f"{score}."
    if worst == untouched:
        advice = "that is no better than doing nothing: what did your weights change?"
    elif worst > untouched:
        advice = (
            "does the loss grow? The steps overshoot, or slopes are not cleared: a "
            "smaller rate. Does it still fall at the end? More steps, or a larger "
            "rate. Is it small? Then treat `others` as you treated `filtered`."
        )
    elif worst > untouched / 5:
        advice = f"does the loss still fall at the end? If so, {MORE}"
    else:
        advice = f"nearly: {MORE}"
    raise Wrong(f"{score} (doing nothing: {untouched:.1f})", f"{advice}\n  {hint}")


def _photographs(count: int) -> torch.Tensor:
    """Return so many photographs of the course, drawn at random, (count, 3, 32, 32)."""
    path = Path(__file__).parent.parent / "data" / "cat_dog_horse.zip"
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        drawn = [names[i] for i in torch.randperm(len(names))[:count]]
        files = [archive.open(name) for name in drawn]
        pictures = [pil_to_tensor(Image.open(file).convert("RGB")) for file in files]
    return torch.stack(pictures) / 255
