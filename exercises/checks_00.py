"""Checks of the exercises in 00_tensors.ipynb."""

from collections.abc import Callable
from typing import Any

import torch

from exercises import Wrong, exercise


def _call(function: Callable, *inputs: object, hint: str) -> object:
    """Call the answer on copies of ``inputs``.

    An error becomes ``Wrong`` with the shapes and the exercise's hint.
    """
    copies = [
        item.clone() if isinstance(item, torch.Tensor) else item for item in inputs
    ]
    try:
        return function(*copies)
    except Wrong:
        raise
    except Exception as error:  # the learner's own code may raise anything
        shapes = [
            tuple(item.shape) for item in inputs if isinstance(item, torch.Tensor)
        ]
        given = (
            " for inputs of shape " + " and ".join(map(str, shapes)) if shapes else ""
        )
        first_line = (str(error).splitlines() or [""])[0]
        raise Wrong(
            f"your function raised {type(error).__name__}{given}: {first_line}",
            hint=hint,
        ) from None


def _require_tensor(answer: object, shape: tuple[int, ...], hint: str) -> torch.Tensor:
    """Return the answer if it is a tensor of this shape.

    Else raise ``Wrong`` with what it is instead.
    """
    if answer is None:
        raise Wrong(
            "your function returned None",
            hint="does its last line begin with `return`?",
        )
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
    return answer


def _close(
    answer: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4
) -> bool:
    return bool(
        torch.allclose(
            answer.to(expected.dtype), expected, rtol=tolerance, atol=tolerance
        )
    )


@exercise("00.1", "Bytes of a batch")
def check_batch_bytes(batch_bytes: Callable) -> None:
    for dtype in (
        torch.float32,
        torch.uint8,
        torch.float64,
        torch.int64,
        torch.bfloat16,
    ):
        shape = torch.randint(9, 40, (4,)).tolist()
        shape[0] *= (
            10**12 if dtype == torch.bfloat16 else 1
        )  # more than any memory holds
        answer = _call(
            batch_bytes,
            *shape,
            dtype,
            hint="no tensor need exist: what do four lengths and a dtype tell?",
        )
        expected = torch.empty(shape, dtype=dtype, device="meta").nbytes
        if answer is None:
            raise Wrong(
                "your function returned None",
                hint="does its last line begin with `return`?",
            )
        if answer == expected:
            continue
        case = f"for shape {tuple(shape)} and {dtype} you answered {answer!r}"
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
        size = (
            "too many"
            if isinstance(answer, int | float) and answer > expected
            else "not enough"
        )
        raise Wrong(
            f"{case}, which is {size}" if isinstance(answer, int | float) else case,
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
    for B, D, K in ((4, 3, 2), (2, 5, 7), (3, 3, 3)):
        x, weight, bias = torch.randn(B, D), torch.randn(K, D), torch.randn(K) + 10
        answer = _require_tensor(
            _call(linear, x, weight, bias, hint=hint), (B, K), hint
        )
        expected = torch.nn.functional.linear(x, weight, bias)
        if _close(answer, expected):
            continue
        if _close(answer, expected - bias):
            raise Wrong(
                f"the first output is {answer[0, 0]:.2f}: the product alone",
                hint="one input is not used yet.",
            )
        raise Wrong(
            f"the shape {(B, K)} is right, but output 0 of row 0 is "
            f"{answer[0, 0]:.2f} instead of {expected[0, 0]:.2f}",
            hint=(
                "each output needs one *row* of the weight: is it turned the right "
                "way, even when it is square?"
            ),
        )


@exercise("00.3", "Pictures to a batch")
def check_to_batch(to_batch: Callable) -> None:
    hint = (
        "the axes arrive as (H, W, C), and stacking puts B in front; name each axis, "
        "then say where it must go."
    )
    for B, H, W, brightest in ((2, 5, 7, 255), (3, 8, 4, 180), (1, 6, 6, 240)):
        pictures = [
            torch.randint(0, brightest, (H, W, 3), dtype=torch.uint8) for _ in range(B)
        ]
        pictures[0][0, 0, 0], pictures[0][0, 0, 1] = brightest, 0
        copies = [picture.clone() for picture in pictures]
        answer = _require_tensor(_call(to_batch, copies, hint=hint), (B, 3, H, W), hint)
        if answer.dtype != torch.float32:
            raise Wrong(
                f"your batch is {answer.dtype}",
                hint="which dtype do inputs of a network have?",
            )
        if answer.unique().numel() <= 2:
            raise Wrong(
                f"only {answer.unique().tolist()} are left of all brightnesses",
                hint="is it a whole-number division?",
            )
        if abs(answer.max() - brightest / 255) > 1e-3:
            raise Wrong(
                f"a brightness of {brightest} became {answer.max():.4f}",
                hint=(
                    "0 should become 0 and 255 should become 1, in every batch: "
                    "divide by what?"
                ),
            )
        expected = torch.stack([picture.permute(2, 0, 1) for picture in pictures]) / 255
        if not _close(answer, expected, tolerance=1e-3):
            corner = answer[0, :, 0, 0].mul(255).round().int().tolist()
            true_corner = pictures[0][0, 0].tolist()
            raise Wrong(
                "shape and range are right, but picture 0 began with the pixel "
                f"{true_corner} and yours with {corner}",
                hint=(
                    "numbers changed places: which call puts axes in a new order, and "
                    "which only cuts the row anew?"
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
    ):
        images, labels = torch.rand(B, 3, 4, 6), torch.randint(0, K, (B,))
        rivals = (
            labels + torch.randint(1, K, (B,))
        ) % K  # another class than the true one
        true_probs = torch.tensor([0.25, 0.375, 0.45, 0.55, 0.625, 0.8]).repeat(B // 6)[
            torch.randperm(B)
        ]
        probs = torch.full((B, K), 0.02)
        probs[torch.arange(B), labels] = true_probs
        probs[torch.arange(B), rivals] = torch.where(
            true_probs < 0.5, 0.5, 0.15
        )  # three in six are taken for it
        is_hard = true_probs < threshold
        answer: Any = _call(hard_examples, images, probs, labels, threshold, hint=hint)
        expected = images[is_hard]
        if (
            isinstance(answer, torch.Tensor)
            and answer.shape == expected.shape
            and torch.equal(answer, expected)
        ):
            continue
        _require_tensor(
            answer, answer.shape if isinstance(answer, torch.Tensor) else (), hint
        )
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
        raise Wrong(
            f"of {B} pictures you kept {len(answer)}; {len(expected)} have a true "
            f"class below {threshold}"
            + (
                ""
                if len(answer) != len(expected)
                else ", but others or in another order"
            ),
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
    for B, C, H, W in ((4, 3, 8, 3), (5, 3, 6, 9), (6, 2, 8, 8)):
        centers = 20 * torch.arange(1, C + 1).view(1, C, 1, 1) + 5 * torch.arange(
            B
        ).view(B, 1, 1, 1)
        widths = torch.arange(1, C + 1).view(1, C, 1, 1)
        images = centers + widths * torch.randn(B, C, H, W)
        answer = _require_tensor(
            _call(standardize, images, hint=hint), images.shape, hint
        )
        means, stds = answer.mean(dim=(0, 2, 3)), answer.std(dim=(0, 2, 3))
        if not _close(means, torch.zeros(C), tolerance=1e-2):
            raise Wrong(
                f"your channels' means are {[round(v, 2) for v in means.tolist()]}, "
                "not 0",
                hint="each channel needs its own mean: which axes have to disappear? "
                + hint,
            )
        if answer.mean(dim=(2, 3)).abs().max() < 0.05:
            raise Wrong(
                "every single picture has mean 0 now: you took a mean for each picture",
                hint=(
                    "a bright picture of a batch should stay bright: which axis is "
                    "still missing from `dim`?"
                ),
            )
        if not _close(stds, torch.ones(C), tolerance=1e-2):
            raise Wrong(
                "the means are 0, but the standard deviations are "
                f"{[round(v, 2) for v in stds.tolist()]}, not 1",
                hint="what is left to do after the shift, and over which axes?",
            )
        expected = (images - images.mean(dim=(0, 2, 3), keepdim=True)) / images.std(
            dim=(0, 2, 3), keepdim=True
        )
        if not _close(answer, expected, tolerance=2e-2):
            raise Wrong(
                "mean and deviation are right, the single numbers are not",
                hint="shift, then scale, no more.",
            )


@exercise("00.6", "The slope of anything")
def check_slope(slope: Callable) -> None:
    hint = (
        "make a tensor that asks for its gradient, call the function, walk backward, "
        "read the gradient."
    )
    functions = {
        "x³ + 10x": (lambda x: x**3 + 10 * x, lambda x: 3 * x**2 + 10),
        "5x²": (lambda x: 5 * x**2, lambda x: 10 * x),
        "exp(2x)": (
            lambda x: torch.exp(2 * x),
            lambda x: 2 * torch.exp(torch.tensor(2 * x)).item(),
        ),
    }
    for name, (function, derivative) in functions.items():
        x = round(0.5 + torch.rand(()).item() / 2, 2)
        answer = _call(slope, _recorded(function), x, hint=hint)
        if answer is None:
            raise Wrong(
                "your function returned None",
                hint="backward() returns nothing: where does it leave the slope?",
            )
        if not isinstance(answer, int | float):
            raise Wrong(
                f"you returned {type(answer).__name__}, not a number",
                hint=".item() gives the number.",
            )
        value, expected = function(torch.tensor(x)).item(), derivative(x)
        if abs(answer - expected) < 1e-3 * abs(expected):
            continue
        if abs(answer - value) < 1e-3:
            raise Wrong(
                f"for {name} at {x} you returned {answer:.3f}: its value",
                hint="the slope stands elsewhere.",
            )
        raise Wrong(
            f"for {name} at {x} you returned {answer:.3f}, its slope is {expected:.3f}",
            hint=hint,
        )


def _recorded(function: Callable) -> Callable:
    """Return ``function``, which then refuses what autograd cannot follow."""

    def checked(x: object) -> object:
        if not isinstance(x, torch.Tensor):
            raise Wrong(
                f"your code gave the function a {type(x).__name__}",
                hint="autograd follows tensors only.",
            )
        if not x.requires_grad:
            raise Wrong(
                "autograd did not record anything",
                hint="the tensor must ask for its gradient when it is made.",
            )
        return function(x)

    return checked
