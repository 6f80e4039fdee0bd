"""Checks of notebook 02 · Classification."""

import dis
import math
from collections.abc import Callable, Iterator
from types import CodeType

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from exercises import Wrong, capstone, exercise, require_untouched


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code and that of the functions and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def refuse_loops(function: Callable) -> None:
    """Raise Wrong if a function runs a loop or a comprehension, or maps."""
    for code in codes_of(function.__code__):
        names = {line.opname for line in dis.get_instructions(code)}
        loops = [name for name in names if "FOR_ITER" in name or "BACKWARD" in name]
        if loops or "map" in code.co_names:
            raise Wrong(
                "your answer has a loop, over items or over classes",
                "let one call of torch work on all items at once",
            )


class Watch(TorchDispatchMode):
    """Notes the names of torch's operations while it is active."""

    def __init__(self):
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@exercise("02.1", "Two layers in one")
def check_collapse(collapse):
    for _ in range(5):
        D, H, K = (
            int(size) for size in torch.randperm(6)[:3] + 2
        )  # three different sizes
        first, second = nn.Linear(D, H), nn.Linear(H, K)
        layers = nn.ModuleDict({"first layer's": first, "second layer's": second})
        before = {name: part.clone() for name, part in layers.state_dict().items()}
        try:
            got = collapse(first, second)
        except RuntimeError as error:
            raise Wrong(
                f"nn.Linear({D}, {H}) and then nn.Linear({H}, {K}): "
                f"{str(error).splitlines()[0]}",
                f"the weights are ({H}, {D}) and ({K}, {H}); in which order do their "
                "inner axes meet, and does the first bias go through the second "
                "layer's weights?",
            ) from None
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"expected a weight and a bias, got {type(got).__name__}",
                "return weight, bias",
            )
        require_untouched(layers.state_dict(), before)
        weight, bias = (torch.as_tensor(part).detach() for part in got)
        for name, mine, shape in (("weight", weight, (K, D)), ("bias", bias, (K,))):
            if mine.shape != shape:
                raise Wrong(
                    f"nn.Linear({D}, {H}) and then nn.Linear({H}, {K}): your {name} "
                    f"has the shape {tuple(mine.shape)}",
                    "the single layer goes from D to K features, so its weight is (K, "
                    "D) and its bias (K,); "
                    "which order of the factors gives that?",
                )
        x = torch.randn(8, D)
        difference = second(first(x)) - (x @ weight.T + bias)
        if difference.abs().max() > 1e-4:
            constant = (difference - difference[0]).abs().max() < 1e-4
            raise Wrong(
                "for random inputs your layer is off by up to "
                f"{difference.abs().max():.2f}"
                + (", by the same amount for every input" if constant else ""),
                "the weight is right and the bias is not: what does the first layer's "
                "bias become on its way out, and is the second layer's added?"
                if constant
                else "compare your weight with the formula: which product of the two "
                "weights maps x all the way, and what does the first bias become?",
            )


@exercise("02.2", "From logits to labels")
def check_logits_to_labels(logits_to_labels):
    for threshold in (0.5, 0.2, 0.8, 0.95):
        logits = (
            torch.linspace(-6, 6, 121)[torch.randperm(121)].unsqueeze(1)
            + 0.02
            + 0.02 * torch.rand(())
        )
        if threshold == 0.5:
            logits[5:8] = 0  # probabilities of exactly 0.5: at the threshold, not above
        probs = torch.sigmoid(logits)
        expected = (probs > threshold).float()
        given = logits.clone()
        got = logits_to_labels(given, threshold)
        require_untouched({"logits": given}, {"logits": logits})
        if not isinstance(got, torch.Tensor):
            raise Wrong(
                f"expected a tensor, got {type(got).__name__}",
                "return the labels of the whole batch at once",
            )
        if got.shape != expected.shape:
            raise Wrong(
                f"logits (121, 1) became labels {tuple(got.shape)}",
                "one label for each logit, the shape stays",
            )
        if got.dtype != torch.float32:
            raise Wrong(
                f"your labels are {got.dtype}",
                "the exercise asks for float32: .float() turns True into 1.0",
            )
        if torch.equal(got, expected):
            continue
        item = (got != expected).flatten().nonzero()[0]
        logit, prob, label = (x[item].item() for x in (logits, probs, got))
        case = (
            f"threshold {threshold}, logit {logit:.2f}, probability {prob:.2f}: you "
            f"give the label {label:g}"
        )
        below = (probs < threshold, probs <= threshold)
        if any(torch.equal(got, side.float()) for side in below):
            raise Wrong(case, "which side of the threshold is class 1?")
        if torch.equal(got, (probs >= threshold).float()):
            raise Wrong(
                case, "*at* the threshold is not *above* it: label 0 for equal numbers"
            )
        raise Wrong(
            case,
            "compare the threshold with probabilities: does your answer turn the "
            "logits into them first, and does it use the threshold that it was given?",
        )


@exercise("02.3", "A score that leans")
def check_f_beta(f_beta):
    def draw(low, high):
        return int(torch.randint(low, high, ()))

    fn = draw(2, 5)
    counts = [
        (draw(3, 8), fn + draw(2, 6), fn, draw(6, 20), None),
        (draw(3, 8), fn, fn + draw(2, 6), draw(6, 20), 0.5),
        *((draw(3, 8), draw(1, 6), draw(1, 6), draw(6, 20), None) for _ in range(3)),
        (draw(3, 8), 0, 0, draw(6, 20), None),
        (0, 0, 4, 9, None),
        (0, 5, 0, 9, None),
        (0, 3, 4, 9, None),
    ]
    for tp, fp, fn, tn, beta in counts:
        predictions = torch.tensor([1] * tp + [1] * fp + [0] * fn + [0] * tn)
        labels = torch.tensor([1] * tp + [0] * fp + [1] * fn + [0] * tn)
        order, beta = torch.randperm(len(labels)), beta or draw(2, 5)
        dtype = torch.float32 if beta == 0.5 else torch.int64
        given = {"predictions": predictions[order].to(dtype)}
        given["labels"] = labels[order].to(dtype)
        before = {name: part.clone() for name, part in given.items()}
        case = f"TP {tp}, FP {fp}, FN {fn}, TN {tn}, beta {beta}"
        try:
            got = f_beta(*given.values(), beta)
            if got is None:
                raise Wrong(f"{case}: you return None", "does it end with return?")
            got = float(got)
        except ZeroDivisionError:
            raise Wrong(
                f"{case}: you divide by zero",
                "without a true positive the result is 0: ask first",
            ) from None
        except NotImplementedError:  # & | ~ of float numbers
            raise Wrong(
                f"{case}: given {dtype}, your answer uses &, | or ~",
                "these want masks: compare with 1 first",
            ) from None
        require_untouched(given, before)
        if got != got:
            raise Wrong(
                f"{case}: your number is NaN",
                "without a true positive the result is 0: ask first",
            )
        if not tp:
            if got != 0:
                raise Wrong(
                    f"{case}: you return {got:.3f}",
                    "without a true positive the result is 0",
                )
            continue
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        scores = {
            b: (1 + b * b) * precision * recall / (b * b * precision + recall)
            for b in (1, beta, 1 / beta)
        }
        if abs(got - scores[beta]) < 1e-5:
            continue
        if abs(got - scores[1]) < 1e-5:
            raise Wrong(f"{case}: {got:.3f} is F1", "beta is not used yet")
        if abs(got - scores[1 / beta]) < 1e-5:
            raise Wrong(
                f"{case}: you return {got:.3f}, the score that leans the other way",
                "precision is a share of the alarms, recall one of the faults; which "
                "of the two stands beside β² below the bar?",
            )
        raise Wrong(
            f"{case}: you return {got:.3f} instead of {scores[beta]:.3f}",
            "print precision (true share of the alarms) and recall (found share of "
            "the faults), then the formula",
        )


@exercise("02.4", "Find enough of the faults")
def check_pick_threshold(pick_threshold):
    for trial in range(90):
        num_items, num_positive = 60, 4 * int(torch.randint(2, 5, ()))
        labels = (torch.arange(num_items) < num_positive).float()[
            torch.randperm(num_items)
        ]
        probs = (torch.randperm(1000)[:num_items] + 0.5) / 1000  # no two alike
        if trial % 3 == 1:
            probs = probs.clamp(0.4, 0.6)  # many alike, at both ends
        needed = int(torch.randint(2, num_positive + 1, ()))
        min_recall = (needed - 0.5) / num_positive  # no question of rounding
        if trial % 3 == 2:  # a recall of exactly min_recall is enough
            needed = num_positive // 4 * int(torch.randint(1, 5, ()))
            min_recall = needed / num_positive
        expected = probs[labels == 1].sort(descending=True).values[needed - 1].item()
        given = {"probs": probs.clone(), "labels": labels.clone()}
        asked = f"{num_positive} items of label 1, min_recall {min_recall:.3f}"
        got = pick_threshold(*given.values(), min_recall)
        require_untouched(given, {"probs": probs, "labels": labels})
        if not isinstance(got, int | float | torch.Tensor) or (
            isinstance(got, torch.Tensor) and got.numel() != 1
        ):
            shape = f" {tuple(got.shape)}" if isinstance(got, torch.Tensor) else ""
            raise Wrong(
                f"{asked}: expected one number, got a {type(got).__name__}{shape}",
                "return a single threshold, also where exactly min_recall is found",
            )
        got = float(got)
        found = int(((probs >= got - 1e-6) & (labels == 1)).sum())
        if found < needed:
            raise Wrong(
                f"{asked}: at your threshold {got:.4f} you find only {found}, a "
                f"recall of {found / num_positive:.3f}",
                "lower it until enough of the items with label 1 are at or above it",
            )
        if abs(got - expected) > 1e-5:
            raise Wrong(
                f"{asked}: your threshold {got:.4f} finds {found}, enough, but "
                f"{expected:.4f} is larger and finds enough, too",
                "go through the probabilities of the items with label 1 from the "
                "largest down; stop as soon as you can",
            )


@exercise("02.5", "The stable logarithm of softmax")
def check_log_softmax(log_softmax):
    small = torch.randn(5, 4)
    far = torch.randn(4, 3) + torch.tensor(
        [[0.0], [3000.0], [-3000.0], [500.0]]
    )  # rows far from each other
    apart = torch.randn(3, 3) + torch.tensor(
        [0.0, 400.0, -400.0]
    )  # within a row: probabilities that round to 0
    kinds = {
        "ordinary logits": small,
        "rows thousands apart": far,
        "one logit far above the others": apart,
    }
    with Watch() as watch:
        log_softmax(small.clone())
    ready = watch.seen & {"_log_softmax", "logsumexp", "logcumsumexp"}
    if ready:
        raise Wrong(
            "torch's own log_softmax, logsumexp or a loss built on them did the work",
            "use only amax, exp, sum, log and minus",
        )
    for kind, logits in kinds.items():
        given = logits.clone()
        got, expected = log_softmax(given), logits.double().log_softmax(dim=1).float()
        require_untouched({"logits": given}, {"logits": logits})
        if not isinstance(got, torch.Tensor) or got.shape != expected.shape:
            shape = (
                tuple(got.shape)
                if isinstance(got, torch.Tensor)
                else type(got).__name__
            )
            raise Wrong(
                f"logits {tuple(logits.shape)} became {shape}",
                "one logarithm for each logit, the shape stays",
            )
        broken = int((~got.isfinite()).sum())
        if broken:
            raise Wrong(
                f"{kind}: {broken} of {got.numel()} results are infinite or NaN",
                "where does an exp overflow, or a log get a 0? Shift each row by its "
                "own largest logit, and take the logarithm before you divide",
            )
        error = (got - expected).abs()
        allowed = 2e-5 + 3e-7 * logits.abs().max()  # float32 keeps seven digits
        if (error > allowed + 1e-5 * expected.abs()).any():
            row, column = divmod(int(error.argmax()), logits.shape[1])
            sum_of_row = got[row].exp().sum().item()
            hint = (
                "a row's probabilities must add up to 1: does the sum run over the "
                "classes, dim 1, with keepdim=True, and is its logarithm taken away "
                "from the same *shifted* logits?"
                if abs(sum_of_row - 1) > 0.01
                else "the logarithm of a quotient is a difference; nothing needs to be "
                "added to keep it finite"
            )
            raise Wrong(
                f"{kind}: for row {row}, class {column} you return "
                f"{got[row, column]:.5f} instead of {expected[row, column]:.5f}; the "
                f"probabilities of that row add up to {sum_of_row:.4f}",
                hint,
            )
    logits = small.clone().requires_grad_()
    got, weights = log_softmax(logits), torch.randn(5, 4)
    if not got.requires_grad:
        raise Wrong(
            "no gradient flows back from your result to the logits",
            "a loss is built on it: stay with torch's operations, without detach, "
            "item or tolist",
        )
    (gradient,) = torch.autograd.grad(got, logits, weights)
    expected = weights - small.softmax(dim=1) * weights.sum(dim=1, keepdim=True)
    if (gradient - expected).abs().max() > 1e-4:
        raise Wrong(
            "the values are right, but the gradient of your result is not",
            "a part of it was cut off: the sum of the powers depends on the logits, "
            "too, so do not detach it",
        )


@exercise("02.6", "A confusion matrix without a loop")
def check_confusion_matrix(confusion_matrix):
    refuse_loops(confusion_matrix)
    names = {n for code in codes_of(confusion_matrix.__code__) for n in code.co_names}
    if any("confusionmatrix" in name.replace("_", "").lower() for name in names):
        raise Wrong(
            "somebody else's confusion_matrix did the work",
            "number the cells and count them with torch.bincount",
        )
    for K, last_class_missing in ((4, False), (5, True), (13, False)):
        labels = torch.cat(
            [
                torch.randint(0, K - last_class_missing, (40,)),
                torch.zeros(9, dtype=torch.int64),
            ]
        )
        predictions = torch.cat(
            [
                torch.randint(0, K - last_class_missing, (40,)),
                torch.ones(9, dtype=torch.int64),
            ]
        )
        if not last_class_missing:
            predictions[0] = labels[0] = K - 1
        labels[1:10], predictions[1:10] = 2 % (K - 1), 0
        expected = torch.zeros(K, K, dtype=torch.int64)
        for true, predicted in zip(labels, predictions, strict=True):
            expected[true, predicted] += 1
        case = f"{K} classes" + (
            ", the last of which does not occur" if last_class_missing else ""
        )
        given = {"predictions": predictions.clone(), "labels": labels.clone()}
        try:
            got = confusion_matrix(*given.values(), K)
        except RuntimeError as error:
            raise Wrong(
                f"{case}: {str(error).splitlines()[0]}",
                "bincount wants whole numbers (N,), here from 0 to K² − 1, a cell for "
                "each pair of classes, also if it never occurs: what is minlength for?",
            ) from None
        require_untouched(given, {"predictions": predictions, "labels": labels})
        if not isinstance(got, torch.Tensor) or got.shape != expected.shape:
            shape = (
                tuple(got.shape)
                if isinstance(got, torch.Tensor)
                else type(got).__name__
            )
            raise Wrong(
                f"{case}: you return {shape}", "one row and one column for each class"
            )
        if got.dtype != torch.int64:
            raise Wrong(
                f"your counts are {got.dtype}",
                "counts are whole numbers, and torch.bincount returns int64",
            )
        if torch.equal(got, expected.T):
            raise Wrong(
                f"{case}: rows and columns are exchanged",
                "the row is the true class: whose number must be multiplied to jump "
                "from row to row?",
            )
        if not torch.equal(got, expected):
            row, column = (got != expected).nonzero()[0].tolist()
            raise Wrong(
                f"{case}: in row {row}, column {column} you count "
                f"{int(got[row, column])}; the items of class {row} predicted as "
                f"{column} are {int(expected[row, column])}",
                "count every item: m[labels, predictions] += 1 counts a pair once, "
                "however often it occurs. Number the cells row by row, the first row "
                "0 to K − 1, and count the numbers",
            )


def make_moons(num_points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points on two interlocked half circles, and their labels.

    Args:
        num_points: of both moons together.

    Returns:
        (X, y): (N, 2) float32 and (N,) int64, 0 or 1, in random order.
    """
    y = torch.randint(0, 2, (num_points,))
    angle = math.pi * torch.rand(num_points)
    side = 1 - 2 * y.float()  # the second moon hangs upside down
    X = torch.stack([side * angle.cos(), side * (angle.sin() - 0.25)], dim=1)
    X = X + torch.stack([y - 0.5, torch.zeros(num_points)], dim=1)
    return X + 0.12 * torch.randn(num_points, 2), y


@capstone("02", "The moons")
def check_moons(moons):
    X, y = make_moons(2000)
    X_train, y_train, X_new, y_new = X[:500], y[:500], X[500:], y[500:]
    given = {"X_train": X_train.clone(), "y_train": y_train.clone()}
    given["X_new"] = X_new.clone()
    got = moons(*given.values())
    require_untouched(given, {"X_train": X_train, "y_train": y_train, "X_new": X_new})
    if not isinstance(got, torch.Tensor) or got.shape != y_new.shape:
        shape = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got)
        raise Wrong(
            f"you return {shape}, not a tensor {tuple(y_new.shape)}",
            "one label for each row of X_new; squeeze(dim=1) takes (B, 1) to (B,)",
        )
    got = got.detach().cpu()
    others = got[(got != 0) & (got != 1)]
    if len(others):
        raise Wrong(
            f"{len(others)} of your {len(got)} answers are neither 0 nor 1, the first "
            f"is {others[0].item():.3f}",
            "walk the chain to its end: logits, probabilities, labels",
        )
    score = (got == y_new).float().mean().item()
    result = f"Accuracy {score:.3f} on {len(y_new)} new points, to beat: 0.95"
    if score >= 0.95:
        return f"{result}. A straight line gets about 0.88."
    if score < 0.6:
        hint = "about half is what guessing gets: is something exchanged, or untrained?"
    elif score < 0.9:
        hint = "a straight line gets as much: does the boundary bend, and long enough?"
    else:
        hint = "nearly; does the loss still fall when your training ends?"
    raise Wrong(result, hint)
