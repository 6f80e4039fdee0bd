"""Checks of the exercises in 03_computer_vision.ipynb."""

import random
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from exercises import Wrong, exercise


def _whole_number(value: object, case: str, hint: str) -> int:
    """Return ``value`` as an int, or raise ``Wrong`` where it is no whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, torch.Tensor):
        raise Wrong(
            f"{case} you answered the tensor {value!r}",
            hint="a Python integer is wanted: `.item()` gives it.",
        )
    raise Wrong(f"{case} you answered {value!r}, which is no integer", hint=hint)


@exercise("03.1", "Batches")
def check_batch_lengths(batch_lengths: Callable) -> None:
    for size, full, rest in (
        (4, 2, 2),
        (random.randint(5, 40), random.randint(2, 9), 3),
        (7, 3, 0),
        (9, 0, 5),
    ):
        for drop_last in (False, True):
            samples = full * size + rest
            expected = [size] * full + ([rest] if rest and not drop_last else [])
            answer = batch_lengths(samples, size, drop_last)
            case = f"for {samples} samples, batch size {size}, drop_last={drop_last}"
            if isinstance(answer, torch.Tensor | tuple):
                raise Wrong(
                    f"{case} you answered a {type(answer).__name__}",
                    hint="return a plain list of integers.",
                )
            if answer == expected:
                continue
            if not isinstance(answer, list):
                raise Wrong(
                    f"{case} you answered {answer!r}",
                    hint="return a list with one number per batch.",
                )
            if answer[-1:] == [0]:
                raise Wrong(
                    f"{case} your last batch is empty",
                    hint="a batch without samples does not exist.",
                )
            if drop_last:
                raise Wrong(
                    f"{case} you answered {answer}",
                    hint="what does drop_last do with a batch that is not full?",
                )
            if sum(answer) != samples:
                raise Wrong(
                    f"{case} you answered {answer}, {sum(answer)} samples in all",
                    hint=(
                        "without drop_last every sample must be in some batch, and "
                        "none in two."
                    ),
                )
            raise Wrong(
                f"{case} you answered {answer}",
                hint="all batches are full, except perhaps the last.",
            )


@exercise("03.2", "Output size")
def check_conv_output_size(conv_output_size: Callable) -> None:
    cases = [(28, 3, 1, 0), (28, 3, 1, 1), (28, 5, 2, 0), (10, 3, 2, 0), (9, 4, 3, 1)]
    cases += [
        (
            random.randint(8, 64),
            random.randint(1, 8),
            random.randint(2, 5),
            random.randint(0, 3),
        )
        for _ in range(20)
    ]
    for size, kernel, stride, padding in cases:
        weight = torch.empty(1, 1, kernel, kernel, device="meta")
        expected = F.conv2d(
            torch.empty(1, 1, size, size, device="meta"),
            weight,
            stride=stride,
            padding=padding,
        ).shape[-1]
        case = f"for size {size}, kernel {kernel}, stride {stride}, padding {padding}"
        answer = _whole_number(
            conv_output_size(size, kernel, stride, padding),
            case,
            hint="`/` gives a float; which division rounds down?",
        )
        if answer == expected:
            continue
        case = f"{case} you answered {answer}, PyTorch gives {expected}"
        if padding and answer == (size + padding - kernel) // stride + 1:
            raise Wrong(case, hint="on how many sides of the picture is there padding?")
        if answer == expected + 1 and (size + 2 * padding - kernel) % stride:
            raise Wrong(
                case,
                hint=(
                    "a window that sticks out of the picture does not count: which "
                    "way must be rounded?"
                ),
            )
        if abs(answer - expected) == 1:
            raise Wrong(
                case,
                hint=(
                    "count by hand: where can a kernel of 3 begin in a row of 5? Is "
                    "the first place counted?"
                ),
            )
        raise Wrong(
            case,
            hint=(
                "compare with the formula term by term, and mind what the fraction "
                "bar covers."
            ),
        )


@exercise("03.3", "Max pooling")
def check_max_pool(max_pool: Callable) -> None:
    for B, C, H, W in ((1, 1, 4, 4), (2, 3, 6, 8), (3, 2, 5, 7), (2, 4, 8, 9)):
        images = (
            torch.randn(B, C, H, W) - 3
        )  # mostly negative, so that padding with zeros would show
        try:
            answer = max_pool(images.clone())
        except RuntimeError as error:
            if H % 2 == W % 2 == 0:
                raise
            raise Wrong(
                f"for {(B, C, H, W)} your function raised RuntimeError: {error}",
                hint=(
                    "an odd height or width cannot be cut into squares: what has to "
                    "go before you reshape?"
                ),
            ) from None
        if not isinstance(answer, torch.Tensor):
            raise Wrong(
                f"your function returned {type(answer).__name__}, not a tensor",
                hint="does it end with return?",
            )
        expected = F.max_pool2d(images, kernel_size=2)
        if answer.shape != expected.shape:
            odd = (
                " The last row or column of an odd size is left out."
                if H % 2 or W % 2
                else ""
            )
            raise Wrong(
                f"for {(B, C, H, W)} your result has shape {tuple(answer.shape)}",
                hint=f"height and width are halved, batch and channels stay.{odd}",
            )
        if torch.allclose(answer, expected):
            continue
        if torch.allclose(answer, F.avg_pool2d(images, kernel_size=2), atol=1e-5):
            raise Wrong(
                "your result holds the means of the squares",
                hint="which number of each square is wanted?",
            )
        b, c, i, j = (~torch.isclose(answer, expected)).nonzero()[0].tolist()
        square = [
            round(number, 2)
            for number in images[b, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            .flatten()
            .tolist()
        ]
        raise Wrong(
            f"for {(B, C, H, W)} the shape is right, but your number at "
            f"{(b, c, i, j)} is {answer[b, c, i, j]:.2f}, "
            f"and the square there holds {square}",
            hint=(
                "after your reshape, which axes run *within* one square, and which "
                "from square to square?"
            ),
        )


@exercise("03.4", "A classifier that fits")
def check_classifier_for(classifier_for: Callable) -> None:
    for stride in (1, 2, 1):
        C, K, channels, height = (
            random.randint(*bounds) for bounds in ((1, 4), (2, 12), (3, 9), (20, 40))
        )
        image_shape = (C, height, height + random.randint(8, 16))
        features = nn.Sequential(
            nn.Conv2d(C, channels, 3, stride=stride),
            nn.BatchNorm2d(channels),
            nn.MaxPool2d(2),
        )
        out = features(torch.zeros(2, *image_shape))
        case = f"for pictures {image_shape} and {K} classes"
        answer = classifier_for(features, image_shape, K)
        if not isinstance(answer, nn.Module):
            raise Wrong(
                f"{case} you returned {type(answer).__name__}",
                hint="return the nn.Sequential that the task names.",
            )
        layers = list(answer.children())
        if [type(layer) for layer in layers] != [nn.Flatten, nn.Linear]:
            raise Wrong(
                f"{case} your classifier is {answer}",
                hint="it has two layers: first a Flatten, then a Linear.",
            )
        if layers[1].in_features != out[0].numel():
            raise Wrong(
                f"{case} your Linear takes {layers[1].in_features} numbers, features "
                f"gives {out[0].numel()} a picture",
                hint=(
                    "count what comes out for *one* picture: channels, height and "
                    "width, which may differ."
                ),
            )
        if answer(out).shape != (2, K):
            raise Wrong(
                f"{case} a batch of 2 gives {tuple(answer(out).shape)}",
                hint="one logit for each class is wanted.",
            )


@exercise("03.5", "Parameters of a stage")
def check_stage_parameters(stage_parameters: Callable) -> None:
    for i, o in (
        (1, 16),
        (16, 32),
        *((random.randint(2, 40), random.randint(41, 90)) for _ in range(5)),
    ):
        expected = 9 * o * i + 9 * o * o + 4 * o
        case = f"for {i} channels to {o}"
        answer = _whole_number(
            stage_parameters(i, o), case, hint="add up products of whole numbers."
        )
        if answer == expected:
            continue
        case = f"{case} you answered {answer:,}"
        if answer in (9 * o * i + 9 * o * o, 9 * o * i + 9 * o * o + 2 * o):
            raise Wrong(
                case,
                hint=(
                    "there are two batch norms in a stage, and each learns a scale "
                    "and a shift per channel."
                ),
            )
        if answer == 2 * (9 * o * i) + 4 * o:
            raise Wrong(
                case, hint="how many channels does the *second* convolution get?"
            )
        if answer == expected + 2 * o:
            raise Wrong(
                case, hint="you counted a bias for each convolution; these have none."
            )
        more = "too many" if answer > expected else "not enough"
        raise Wrong(
            f"{case}, which is {more}",
            hint="write down the weight's shape of each of the four learning layers.",
        )


@exercise("03.6", "The most confused pair")
def check_most_confused(most_confused: Callable) -> None:
    for K in (4, 3, 7, 10, 6):
        matrix = torch.randint(0, 50, (K, K)) + torch.diag(
            torch.randint(500, 900, (K,))
        )
        row = random.randint(1, K - 1)
        column = random.choice([k for k in range(K) if k != row])
        matrix[row, column] = 60
        given = matrix.clone()
        answer = most_confused(given)
        case = f"for a {K} × {K} matrix with the most mistakes, 60, at {(row, column)}"
        if not torch.equal(given, matrix):
            raise Wrong(
                "your function changed the matrix it was given", hint="work on a copy."
            )
        if isinstance(answer, list | torch.Tensor):
            raise Wrong(
                f"{case} you answered {answer!r}",
                hint="a tuple of two Python integers is wanted.",
            )
        if answer == (row, column) and all(type(part) is int for part in answer):
            continue
        if isinstance(answer, tuple) and len(answer) == 2:
            if answer == (row, column):
                raise Wrong(
                    f"{case} you answered {answer!r}",
                    hint="the two must be Python integers: `.item()` gives them.",
                )
            if answer == (column, row):
                raise Wrong(
                    f"{case} you answered {answer}",
                    hint="which comes first, the true class or the predicted one?",
                )
            if answer[0] == answer[1]:
                raise Wrong(
                    f"{case} you answered {answer}, a place on the diagonal",
                    hint="on the diagonal stand the right answers.",
                )
        raise Wrong(
            f"{case} you answered {answer!r}",
            hint=(
                "the number of the largest cell has to be turned into a row and a "
                "column: how wide is a row?"
            ),
        )
