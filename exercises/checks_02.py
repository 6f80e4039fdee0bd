"""Checks of notebook 02 · Classification."""

import torch
from torch import nn
from torch.nn import functional as F

from exercises import Wrong, exercise


@exercise("02.1", "Two layers in one")
def check_collapse(collapse):
    for _ in range(5):
        D, H, K = (
            int(size) for size in torch.randperm(6)[:3] + 2
        )  # three different sizes
        first, second = nn.Linear(D, H), nn.Linear(H, K)
        try:
            got = collapse(first, second)
        except RuntimeError as error:
            raise Wrong(
                f"nn.Linear({D}, {H}) and then nn.Linear({H}, {K}): "
                f"{str(error).splitlines()[0]}",
                f"the weights are ({H}, {D}) and ({K}, {H}); in which order do their "
                "inner axes meet?",
            ) from None
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"expected a weight and a bias, got {type(got).__name__}",
                "return weight, bias",
            )
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
                "the weight is right and the bias is not: what do both layers' biases "
                "become on their way out?"
                if constant
                else (
                    "compare your weight with the formula: which product of the two "
                    "weights maps x all the way?"
                ),
            )


@exercise("02.2", "From logits to labels")
def check_logits_to_labels(logits_to_labels):
    for threshold in (0.5, 0.2, 0.8, 0.95):
        logits = (
            torch.linspace(-6, 6, 121)[torch.randperm(121)].unsqueeze(1)
            + 0.02
            + 0.02 * torch.rand(())
        )
        expected = (torch.sigmoid(logits) > threshold).float()
        got = logits_to_labels(logits.clone(), threshold)
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
                "the loss will want float32: .float() turns True into 1.0",
            )
        if torch.equal(got, 1 - expected):
            raise Wrong(
                "0 and 1 are exchanged", "which side of the threshold is class 1?"
            )
        share, wanted = got.mean().item(), expected.mean().item()
        if not torch.equal(got, expected):
            raise Wrong(
                f"at the threshold {threshold} you give the label 1 to {share:.0%} of "
                f"the logits, not to {wanted:.0%}",
                "compare the threshold with probabilities: does your answer turn the "
                "logits into them first, "
                "and does it use the threshold that it was given?",
            )


@exercise("02.3", "A score that leans")
def check_f_beta(f_beta):
    def draw(low, high):
        return int(torch.randint(low, high, ()))

    fn = draw(2, 5)
    counts = [
        (draw(3, 8), fn + draw(2, 6), fn, draw(6, 20)),
        (0, 0, 4, 9),
        (0, 5, 0, 9),
        (0, 3, 4, 9),
    ]
    for tp, fp, fn, tn in counts:
        predictions = torch.tensor([1] * tp + [1] * fp + [0] * fn + [0] * tn)
        labels = torch.tensor([1] * tp + [0] * fp + [1] * fn + [0] * tn)
        order, beta = torch.randperm(len(labels)), draw(2, 5)
        case = f"TP {tp}, FP {fp}, FN {fn}, TN {tn}, beta {beta}"
        try:
            got = float(f_beta(predictions[order], labels[order], beta))
        except ZeroDivisionError:
            raise Wrong(
                f"{case}: you divide by zero",
                "without a true positive the result is 0: ask first",
            ) from None
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
                f"{case}: {got:.3f} leans toward precision",
                "precision is a share of the alarms",
            )
        raise Wrong(
            f"{case}: you return {got:.3f}",
            "print precision (true share of the alarms) and recall (found share of "
            "the faults), then the formula",
        )


@exercise("02.4", "Find at least nine in ten")
def check_pick_threshold(pick_threshold):
    for _ in range(20):
        num_items, num_positive = 60, 2 * int(torch.randint(5, 10, ()))
        labels = (torch.arange(num_items) < num_positive).float()[
            torch.randperm(num_items)
        ]
        probs = (torch.randperm(1000)[:num_items] + 0.5) / 1000  # no two alike
        needed = int(torch.randint(2, num_positive, ()))
        min_recall = (needed - 0.5) / num_positive  # no question of rounding
        expected = probs[labels == 1].sort(descending=True).values[needed - 1].item()
        got = pick_threshold(probs.clone(), labels.clone(), min_recall)
        if not isinstance(got, int | float | torch.Tensor) or (
            isinstance(got, torch.Tensor) and got.numel() != 1
        ):
            shape = f" {tuple(got.shape)}" if isinstance(got, torch.Tensor) else ""
            raise Wrong(
                f"expected one number, got a {type(got).__name__}{shape}",
                "return a single threshold",
            )
        got = float(got)
        found = int(((probs >= got - 1e-6) & (labels == 1)).sum())
        asked = f"{num_positive} positives, min_recall {min_recall:.3f}"
        if found < needed:
            raise Wrong(
                f"{asked}: at your threshold {got:.4f} only {found} are found, a "
                f"recall of {found / num_positive:.3f}",
                "lower it until enough of the items with label 1 are at or above it",
            )
        if abs(got - expected) > 1e-5:
            raise Wrong(
                f"{asked}: your threshold {got:.4f} finds {found}, enough, but a "
                "larger one finds enough, too",
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
    for kind, logits in kinds.items():
        got, expected = log_softmax(logits.clone()), F.log_softmax(logits, dim=1)
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
                "own largest logit, "
                "and take the logarithm before you divide",
            )
        if not torch.allclose(got, expected, atol=1e-3):
            sums = got.exp().sum(dim=1)
            raise Wrong(
                f"{kind}: your probabilities, exp of the result, add up to "
                f"{sums[0]:.3f} in the first row",
                "each row is one item: its sum runs over the classes, dim 1, with "
                "keepdim=True",
            )


@exercise("02.6", "A confusion matrix without a loop")
def check_confusion_matrix(confusion_matrix):
    for last_class_missing in (False, True):
        K = int(torch.randint(3, 6, ()))
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
        try:
            got = confusion_matrix(predictions.clone(), labels.clone(), K)
        except RuntimeError as error:
            raise Wrong(
                f"{case}: {str(error).splitlines()[0]}",
                "the matrix has a cell for each pair of classes, also if they never "
                "occur: what is minlength for?",
            ) from None
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
                f"{case}: {int(got[row, column])} items in row {row}, column "
                f"{column}, where there are "
                f"{int(expected[row, column])} of class {row} predicted as {column}",
                "number the cells as reshape lays them out: the first row gets 0 to K "
                "− 1, the second goes on at K",
            )
