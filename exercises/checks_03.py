"""Checks of the exercises in 03_computer_vision.ipynb."""

import random
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from exercises import (
    Calls,
    Wrong,
    capstone,
    exercise,
    require_untouched,
    small_network,
    ten_logits,
    timed,
)
from going_modular.datasets import FashionMNISTTensors
from going_modular.model_builder import CNNModel


def _watched(
    function: Callable,
    inputs: tuple[torch.Tensor, ...],
    forbidden: str,
    case: str,
    most_calls: int = 300,
) -> torch.Tensor:
    """Return ``function(*inputs)``, a tensor; raise ``Wrong`` at forbidden means.

    Args:
        function: the answer.
        inputs: what it is called with; must be as before afterwards.
        forbidden: part of the names of torch's functions that do the task at once.
        case: the inputs in words.
        most_calls: calls of torch that do without a loop over the pixels.
    """
    copies = [value.clone() for value in inputs]
    with Calls() as calls:
        answer = function(*copies)
    used = [name for name in calls.names if forbidden in name]
    if used:
        raise Wrong(
            f"your function calls `{used[0]}`",
            hint=f"the task is to do without torch's own `{forbidden}` functions.",
        )
    if {"tolist", "numpy", "__array__"} & calls.names.keys():
        raise Wrong(
            "your function takes single numbers out of a tensor",
            hint="stay with tensors: slices, reshape, unfold, sums, maxima.",
        )
    if calls.names.total() > most_calls:
        raise Wrong(
            f"{case} your function calls torch {calls.names.total():,} times",
            hint="a loop over the pixels is not wanted: work on whole tensors.",
        )
    if not isinstance(answer, torch.Tensor):
        raise Wrong(
            f"your function returned {type(answer).__name__}, not a tensor",
            hint="does it end with return?",
        )
    require_untouched(copies, list(inputs), "the arguments")
    return answer


def _whole_number(value: object, case: str, hint: str) -> int:
    """Return ``value`` as an int, or raise ``Wrong`` where it is no whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, torch.Tensor):
        raise Wrong(
            f"{case} you answered the tensor {value!r}",
            hint="a Python integer is wanted: `.item()` gives it.",
        )
    if value is None:
        raise Wrong(f"{case} you answered None", hint="does it end with return?")
    raise Wrong(f"{case} you answered {value!r}, which is no integer", hint=hint)


def _no_loader(*_: object) -> None:
    """Raise ``Wrong``: stands for ``DataLoader.__iter__`` while an answer runs."""
    raise Wrong(
        "your function asks a `DataLoader` for its batches",
        hint="its work is the task: an order of indices, cut into batches.",
    )


def _pairs(batches: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the batches as a list, or raise ``Wrong`` where they are no pairs."""
    if isinstance(batches, torch.Tensor | dict | str) or not hasattr(
        batches, "__iter__"
    ):
        raise Wrong(
            f"your function returned {type(batches).__name__}",
            hint="return a list with one pair (X, y) for each batch.",
        )
    found = list(batches)
    if not found:
        raise Wrong(
            "your function returned no batch at all",
            hint="append a pair (X, y) for each batch to the list that you return.",
        )
    for batch in found:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise Wrong(
                f"a batch of yours is {type(batch).__name__}, not a pair",
                hint="a batch is a pair: X, the pictures, and y, their labels.",
            )
        if not all(isinstance(part, torch.Tensor) for part in batch):
            raise Wrong(
                f"a batch of yours holds {type(batch[0]).__name__} and "
                f"{type(batch[1]).__name__}",
                hint="both parts of a batch are tensors; index with a whole tensor.",
            )
        if batch[1].ndim != 1:
            raise Wrong(
                f"a y of yours has shape {tuple(batch[1].shape)}",
                hint="y is (B,): the labels of one whole batch.",
            )
    return found


def _check_epoch(
    batches: object, images: torch.Tensor, labels: torch.Tensor, size: int
) -> list[int]:
    """Return the order in which an epoch's batches hold the pictures."""
    found, N = _pairs(batches), len(images)
    case = f"for {N} pictures in batches of {size}"
    lengths = [len(y) for _, y in found]
    expected = [min(size, N - start) for start in range(0, N, size)]
    if sorted(torch.cat([y for _, y in found]).tolist()) != list(range(N)):
        raise Wrong(
            f"{case} your batches hold {sum(lengths)} labels, and not each picture's "
            "label once",
            hint="every picture is in exactly one batch; shuffle pictures, and labels "
            "with them, by one order of indices.",
        )
    if lengths != expected:
        raise Wrong(
            f"{case} yours have the lengths {lengths}, not {expected}",
            hint="all batches are full, except perhaps the last; none is empty.",
        )
    index = torch.empty(N, dtype=torch.int64)
    index[labels] = torch.arange(N)  # each label stands for one picture here
    for X, y in found:
        if X.shape != (len(y), 1, 28, 28):
            raise Wrong(
                f"{case} an X of yours has shape {tuple(X.shape)}, its y "
                f"{tuple(y.shape)}",
                hint="X is (B, 1, 28, 28): images still lack the channel axis.",
            )
        if X.dtype != torch.float32 or X.max() > 1:
            raise Wrong(
                f"{case} an X of yours is {X.dtype}, up to {X.max().item():g}",
                hint="first float(), then divide so that 255 becomes 1.",
            )
        right = images[index[y]].unsqueeze(1).float() / 255
        if not torch.allclose(X, right, atol=1e-6):
            raise Wrong(
                f"{case} the X of a label is not its picture divided by 255",
                hint="X and y must be fetched with the same indices, and 255 is 1.",
            )
    return torch.cat([y for _, y in found]).tolist()


@exercise("03.1", "Batches")
def check_make_batches(make_batches: Callable) -> None:
    for N, size in ((10, 4), (12, 4), (random.randint(60, 90), random.randint(7, 12))):
        images = torch.randint(0, 200, (N, 28, 28), dtype=torch.uint8)
        labels = torch.randperm(N)  # each one once, so that it names its picture
        given = {"images": images.clone(), "labels": labels.clone()}

        def epoch(generator, size=size, images=images, labels=labels) -> list[int]:
            with mock.patch.object(DataLoader, "__iter__", _no_loader):
                batches = make_batches(images, labels, size, generator)
                return _check_epoch(batches, images, labels, size)

        seed = random.randint(0, 10**6)
        generator = torch.Generator().manual_seed(seed)
        orders = [epoch(generator) for _ in range(3)]
        require_untouched({"images": images, "labels": labels}, given)
        if N > 20 and labels.tolist() in orders:
            raise Wrong(
                "your batches hold the pictures in their old order",
                hint="`torch.randperm(N)` gives the numbers below N in random order.",
            )
        first = {frozenset(order[:size]) for order in orders}
        if N > 20 and orders[0] != orders[1] and len(first) == 1:
            raise Wrong(
                "the first batch holds the same pictures in every epoch",
                hint="shuffle over all pictures, before you cut into batches.",
            )
        places = labels.argsort()[torch.tensor(orders[0])]
        if N > 20 and ((places.diff() + 1) % N <= 2).float().mean() > 0.5:
            raise Wrong(
                "most pictures come right after their neighbor in the file",
                hint="`torch.randperm(N)` gives the numbers below N in random order.",
            )
        if N > 20 and sorted(orders) == sorted([orders[0]] * 3):
            raise Wrong(
                "three epochs with one generator came in the same order",
                hint="do not seed inside: the generator goes on where it stopped.",
            )
        if epoch(torch.Generator().manual_seed(seed)) != orders[0]:
            raise Wrong(
                "two generators with the same seed gave different orders",
                hint="hand the generator on: `torch.randperm(…, generator=generator)`.",
            )


@exercise("03.2", "Convolution over channels")
def check_convolve(convolve: Callable) -> None:
    sizes = ((1, 1, 6, 6, 1, 3), (2, 3, 34, 37, 4, 3), (3, 2, 22, 20, 5, 2))
    for dtype in (torch.float32, torch.float64):
        for B, C, H, W, out, K in sizes:
            images = torch.randn(B, C, H, W, dtype=dtype)
            weight = torch.randn(out, C, K, K, dtype=dtype)
            bias = 5 * torch.randn(out, dtype=dtype)
            case = f"for images {(B, C, H, W)} and weight {(out, C, K, K)}"
            expected = F.conv2d(images, weight, bias)
            # Loops over pictures, kernels, channels and a kernel's places may make
            # 1,600 calls; one window at a time takes three calls each at the least.
            inputs = (images, weight, bias)
            answer = _watched(convolve, inputs, "conv", case, most_calls=2_000)
            if answer.shape != expected.shape:
                raise Wrong(
                    f"{case} your result has shape {tuple(answer.shape)}, wanted is "
                    f"{tuple(expected.shape)}",
                    hint="(B, C out, H - K + 1, W - K + 1): one map for each kernel.",
                )
            if torch.allclose(answer.to(dtype), expected, atol=1e-4):
                if answer.dtype != dtype:
                    raise Wrong(
                        f"{case}, {dtype}, your result is {answer.dtype}",
                        hint="a tensor made by torch.zeros is float32 unless told.",
                    )
                continue
            raise Wrong(
                f"{case} {_convolution_fault(answer, images, weight, bias)}",
                hint="try one picture, one channel and one kernel first, then add "
                "axes; `convolve_by_loops` gives the truth.",
            )


def _convolution_fault(
    answer: torch.Tensor, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> str:
    """Say in what a convolution of the right shape differs from PyTorch's."""
    expected = F.conv2d(images, weight, bias)
    others = {
        "the bias is missing": expected - bias[:, None, None],
        "the kernel is turned around": F.conv2d(images, weight.flip(2, 3), bias),
        "rows and columns of the kernel are exchanged": F.conv2d(
            images, weight.transpose(2, 3), bias
        ),
        "only the first channel is used": F.conv2d(images[:, :1], weight[:, :1], bias),
        "the products are averaged, not added": F.conv2d(
            images, weight / weight[0].numel(), bias
        ),
        "the bias is added once for each channel": expected
        + (weight.shape[1] - 1) * bias[:, None, None],
    }
    for fault, other in others.items():
        if torch.allclose(answer.to(other.dtype), other, atol=1e-4):
            return fault
    close = torch.isclose(answer.to(expected.dtype), expected, atol=1e-4)
    b, o, i, j = (~close).nonzero()[0].tolist()
    return (
        f"the shape is right, but your number at {(b, o, i, j)} is "
        f"{answer[b, o, i, j]:.2f} and PyTorch's {expected[b, o, i, j]:.2f}"
    )


@exercise("03.3", "Output size")
def check_conv_output_size(conv_output_size: Callable) -> None:
    cases = [(28, 3, 1, 0), (28, 3, 1, 1), (28, 5, 2, 0), (10, 3, 2, 0), (9, 4, 3, 1)]
    cases += [(3, 3, 1, 1), (3, 3, 1, 0), (2, 5, 1, 2), (224, 7, 2, 3), (4, 1, 4, 0)]
    while len(cases) < 60:
        size, kernel = random.randint(1, 64), random.randint(1, 8)
        stride, padding = random.randint(1, 5), random.randint(0, 3)
        if kernel <= size + 2 * padding:
            cases.append((size, kernel, stride, padding))
    for size, kernel, stride, padding in cases:
        picture = torch.empty(1, 1, size, size, device="meta")
        weight = torch.empty(1, 1, kernel, kernel, device="meta")
        output = F.conv2d(picture, weight, stride=stride, padding=padding)
        expected = output.shape[-1]
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
                hint="a window that sticks out of the picture does not count: which "
                "way must be rounded?",
            )
        if abs(answer - expected) == 1:
            raise Wrong(
                case,
                hint="count by hand: where can a kernel of 3 begin in a row of 5? Is "
                "the first place counted?",
            )
        raise Wrong(
            case,
            hint="compare with the formula term by term, and mind what the fraction "
            "bar covers.",
        )


@exercise("03.4", "Max pooling")
def check_max_pool(max_pool: Callable) -> None:
    shapes = ((1, 1, 4, 4), (2, 3, 6, 8), (3, 2, 5, 7), (2, 4, 8, 9), (1, 2, 31, 30))
    for B, C, H, W in shapes:
        # Mostly negative, so that padding with zeros would show.
        images = torch.randn(B, C, H, W) - 3
        _check_pooled(max_pool, images)
    _check_pooled(max_pool, torch.randint(-99, -1, (2, 2, 7, 6)))  # int64
    _check_pooled(max_pool, torch.randint(0, 256, (2, 1, 6, 5), dtype=torch.uint8))


def _check_pooled(max_pool: Callable, images: torch.Tensor) -> None:
    B, C, H, W = images.shape
    case = f"for {(B, C, H, W)}, {images.dtype},"
    try:
        answer = _watched(max_pool, (images,), "pool", case)
    except RuntimeError as error:
        if not images.is_floating_point():
            raise Wrong(
                f"{case} your function raised {type(error).__name__}: {error}",
                hint="every dtype is wanted: does a call take floats only, or is there "
                "a number, such as -inf, that an integer cannot hold?",
            ) from None
        if H % 2 == W % 2 == 0:
            raise
        raise Wrong(
            f"{case} your function raised RuntimeError: {error}",
            hint="an odd height or width cannot be cut into squares: what has to go "
            "first?",
        ) from None
    whole = images[:, :, : H // 2 * 2, : W // 2 * 2].double()
    expected = F.max_pool2d(whole, kernel_size=2)
    if answer.shape != expected.shape:
        odd = " The last row or column of an odd size is left out."
        raise Wrong(
            f"{case} your result has shape {tuple(answer.shape)}",
            hint="height and width are halved, batch and channels stay."
            f"{odd if H % 2 or W % 2 else ''}",
        )
    if torch.allclose(answer.double(), expected):
        if answer.dtype != images.dtype:
            raise Wrong(
                f"{case} your result is {answer.dtype}",
                hint="the largest number of a square is one of its numbers: nothing "
                "has to change its dtype.",
            )
        return
    if torch.allclose(answer.double(), F.avg_pool2d(whole, 2), atol=1e-5):
        raise Wrong(
            "your result holds the means of the squares",
            hint="which number of each square is wanted?",
        )
    b, c, i, j = (~torch.isclose(answer.double(), expected)).nonzero()[0].tolist()
    square = whole[b, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().tolist()
    hint = (
        "which four numbers make one square? After a reshape: which axes run *within* "
        "one square, and which from square to square?"
    )
    if answer[b, c, i, j] == 0 > max(square):
        hint = "with which number does your maximum begin? A square may lie below 0."
    raise Wrong(
        f"{case} the shape is right, but your number at {(b, c, i, j)} is "
        f"{answer[b, c, i, j]:.2f}, and the square there holds "
        f"{[round(number, 2) for number in square]}",
        hint=hint,
    )


@exercise("03.5", "A classifier that fits")
def check_classifier_for(classifier_for: Callable) -> None:
    for C, stride in ((1, 1), (3, 1), (2, 2), (3, 2)):
        channels, K = random.randint(4, 12), random.randint(3, 9)
        height = random.randint(20, 40)
        shape = (C, height, height + random.randint(8, 16))
        features = nn.Sequential(
            nn.Conv2d(C, channels, 3, stride=stride), nn.ReLU(), nn.MaxPool2d(2)
        )
        features.train(C == 1)  # it may come in either mode
        before = {name: value.clone() for name, value in features.state_dict().items()}
        out = features(torch.rand(2, *shape)).detach()
        case = f"for pictures {shape} and {K} classes"
        answer = classifier_for(features, shape, K)
        if not isinstance(answer, nn.Module):
            raise Wrong(
                f"{case} you returned {type(answer).__name__}",
                hint="return the nn.Sequential that the task names.",
            )
        names = [type(layer).__name__ for layer in answer.children()]
        if names not in (["Flatten", "Linear"], ["Flatten", "LazyLinear"]):
            raise Wrong(
                f"{case} your classifier is {answer}",
                hint="it has two layers: first a Flatten, then a Linear.",
            )
        linear = list(answer.children())[1]
        if linear.in_features not in (out[0].numel(), 0):  # 0: a lazy one, not called
            raise Wrong(
                f"{case} your Linear takes {linear.in_features} numbers, features "
                f"gives {out[0].numel()} a picture",
                hint="count what comes out for *one* picture: channels, height and "
                "width, which may differ.",
            )
        logits = answer(out)
        if logits.shape != (2, K) or linear.bias is None:
            raise Wrong(
                f"{case} a batch of 2 gives {tuple(logits.shape)}, bias: "
                f"{linear.bias is not None}",
                hint="one logit for each class is wanted, from a plain linear layer.",
            )
        after = features.state_dict()
        if after.keys() != before.keys() or not all(
            torch.equal(after[name], before[name]) for name in before
        ):
            raise Wrong(
                "your function changed features",
                hint="send one picture through it; nothing else.",
            )
        if features.training != (C == 1):
            raise Wrong(
                "your function left features in another mode than it was in",
                hint="it belongs to the caller: leave its mode, or set it back.",
            )


def _confusion(K: int, row: int, column: int) -> torch.Tensor:
    """Return counts (K, K) with the most mistakes, 60, at (row, column) alone.

    Row ``column`` is a small class with the largest share of mistakes, not at ``row``.
    """
    matrix = torch.randint(0, 50, (K, K))
    matrix.fill_diagonal_(0)
    matrix += torch.diag(torch.randint(20, 900, (K,)))
    matrix[row, row] = 900
    matrix[column] = 0
    matrix[column, column] = 2
    other = next(k for k in range(K) if k not in (row, column))
    matrix[column, other] = 30
    matrix[row, column] = 60
    return matrix


@exercise("03.6", "The most confused pair")
def check_most_confused(most_confused: Callable) -> None:
    for K in (5, 3, 7, 10, 6, 4, 4, 4):
        row, column = random.sample(range(K), 2)
        if K in (3, 7):  # below the diagonal, and above it
            row, column = max(row, column), min(row, column)
        matrix = _confusion(K, row, column)
        if K in (6, 10):
            matrix = matrix.to(torch.float32 if K == 6 else torch.int32)
        if K == 4:
            matrix.fill_diagonal_(0)  # never right
        given = matrix.clone()
        answer = most_confused(given)
        case = f"for\n{matrix}\n"
        require_untouched(given, matrix, "the matrix")
        if isinstance(answer, list | torch.Tensor):
            raise Wrong(
                f"{case} you answered {answer!r}",
                hint="a tuple of two Python integers is wanted.",
            )
        if answer == (row, column) and all(type(part) is int for part in answer):
            continue
        raise Wrong(
            f"{case} you answered {answer!r}, the most wrong predictions, 60, are at "
            f"{(row, column)}",
            hint=_confusion_hint(answer, row, column, matrix),
        )


def _confusion_hint(answer: object, row: int, column: int, matrix: torch.Tensor) -> str:
    """Return what to think of, after a wrong pair."""
    if answer is None:
        return "does your function end with return?"
    if not isinstance(answer, tuple) or len(answer) != 2:
        return (
            "the number of the largest cell has to be turned into a row and a column: "
            "how wide is a row?"
        )
    if answer == (row, column):
        return "the two must be Python integers: `.item()` gives them."
    K = len(matrix)
    if K != 10 and answer == divmod(row * K + column, 10):
        return "how many columns has *this* matrix? It need not be 10."
    shares = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    if answer == divmod(shares.fill_diagonal_(0).argmax().item(), K):
        return "the counts themselves are compared, not shares of a class."
    if answer == (column, row):
        return "which comes first, the true class or the predicted one?"
    if answer[0] == answer[1]:
        return "on the diagonal stand the right answers."
    return (
        "every cell off the diagonal counts, above it and below; the counts "
        "themselves are compared, not shares or sums of two."
    )


PARAMETERS, SLOWER, LEAD = 75_450, 8, 0.01


def _lessons_training(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """Return the lesson's network after three epochs of the lesson's training."""
    model = CNNModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    steps = 3 * -(-len(images) // 128)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-2, steps, pct_start=0.2, anneal_strategy="linear"
    )
    for _ in range(3):
        for indices in torch.randperm(len(images)).split(128):
            loss = F.cross_entropy(model(images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return model


def _score(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the accuracy of a model."""
    return (ten_logits(model, images).argmax(dim=1) == labels).float().mean().item()


@capstone("03", "Beat the lesson's network")
def check_train_network(train_network: Callable) -> str:
    data = FashionMNISTTensors("data")
    order = torch.randperm(len(data))[:7_000]
    images, labels = data.__getitems__(order.tolist())
    train, test = (images[:2_000], labels[:2_000]), (images[2_000:], labels[2_000:])
    model, seconds = timed(train_network, *train)
    size = small_network(
        model, PARAMETERS, "where are most of them? Channels cost their square."
    )
    accuracy = _score(model, *test)
    lessons, lessons_seconds = timed(_lessons_training, *train)
    goal = _score(lessons, *test) + LEAD
    scores = (
        f"{accuracy:.1%} of 5,000 fresh pictures with {size:,} parameters, in "
        f"{seconds:.0f} s of {SLOWER * lessons_seconds:.0f}; to beat: {goal:.1%}, "
        "the lesson's network and one point"
    )
    if seconds > SLOWER * lessons_seconds + 1:
        raise Wrong(
            f"{scores}. It took {seconds:.1f} s of computing, the lesson's "
            f"{lessons_seconds:.1f} s: more than {SLOWER} times as long",
            hint="fewer epochs, or a network whose first layers have fewer channels.",
        )
    if accuracy <= goal:
        raise Wrong(
            scores,
            hint="2,000 pictures are 16 batches of 128, so three epochs are 48 steps. "
            "More steps? And which changes to a picture leave its class as it is?",
        )
    return f"The score: {scores}."
