"""Checks of notebook 01 · Workflow."""

import torch

from exercises import Wrong, exercise


@exercise("01.1", "Split")
def check_split(split_in_order):
    for _ in range(10):
        n = int(torch.randint(5, 40, ()))
        fraction = float(torch.rand(())) * 0.8 + 0.1
        X, y = torch.randn(n, 3), torch.randn(n, 1)
        parts = split_in_order(X.clone(), y.clone(), fraction)
        if not isinstance(parts, tuple | list) or len(parts) != 4:
            raise Wrong(
                f"expected four tensors, got {type(parts).__name__}",
                "return X_train, y_train, X_test, y_test",
            )
        lengths = [len(part) for part in parts]
        if lengths[0] + lengths[2] != n or lengths[0] != lengths[1]:
            raise Wrong(
                f"of {n} items your parts have {lengths[0]} inputs with {lengths[1]} "
                "targets, and "
                f"{lengths[2]} inputs with {lengths[3]} targets",
                "cut X and y at the same place, so that every item is in exactly one "
                "of the two sets",
            )
        cut = int(fraction * n)
        if lengths[0] != cut:
            raise Wrong(
                f"{fraction:.3f} of {n} items: your training set has {lengths[0]}",
                "the training set gets the fraction, rounded down to a whole number "
                "of items",
            )
        for part, expected, name in zip(
            parts,
            (X[:cut], y[:cut], X[cut:], y[cut:]),
            ("X_train", "y_train", "X_test", "y_test"),
            strict=True,
        ):
            if not torch.equal(part, expected):
                raise Wrong(
                    f"{name} has other items than expected",
                    "keep the order: the first items are for training",
                )


@exercise("01.2", "Squared error")
def check_mean_squared_error(mean_squared_error):
    for shape in ((5,), (8, 1), (4, 3)):
        predictions, targets = torch.randn(shape), torch.randn(shape)
        got = torch.as_tensor(mean_squared_error(predictions.clone(), targets.clone()))
        if got.ndim != 0:
            raise Wrong(
                f"your result has the shape {tuple(got.shape)}",
                "the loss is one number: average at the end",
            )
        expected = torch.nn.functional.mse_loss(predictions, targets)
        if torch.isclose(got, expected * predictions.numel()):
            raise Wrong(
                f"{got:.4f} is the sum of the squares",
                "a mean does not grow with the number of items",
            )
        if not torch.isclose(got, expected, atol=1e-6):
            raise Wrong(
                f"{got:.4f} for random numbers of the shape {shape} is not their mean "
                "squared error",
                "square each difference first, then take the mean of the squares",
            )


@exercise("01.3", "Gradients of the squared error")
def check_squared_error_gradients(squared_error_gradients):
    for _ in range(5):
        X, y = torch.rand(12, 1) + 0.5, torch.randn(12, 1)
        weight, bias = torch.randn(2, requires_grad=True).unbind()
        expected = torch.autograd.grad(
            ((weight * X + bias - y) ** 2).mean(), (weight, bias)
        )
        got = squared_error_gradients(X.clone(), y.clone(), weight.item(), bias.item())
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"expected two numbers, got {type(got).__name__}",
                "return weight_grad, bias_grad",
            )
        got = [torch.as_tensor(value) for value in got]
        single = all(value.numel() == 1 for value in got)
        if (
            single
            and torch.allclose(got[0], expected[1])
            and not torch.allclose(got[0], expected[0])
        ):
            raise Wrong(
                "your first number is the gradient of the bias",
                "return them in the order weight, bias",
            )
        for name, mine, right in zip(("weight", "bias"), got, expected, strict=True):
            if mine.numel() != 1:
                raise Wrong(
                    f"the gradient of the {name} has the shape {tuple(mine.shape)}",
                    "average over the points",
                )
            ratio = (mine / right).item()
            if abs(ratio - len(X)) < 1e-2:
                raise Wrong(
                    f"your gradient of the {name} is {len(X)} times the true one",
                    "a mean, not a sum",
                )
            if abs(ratio - 1) > 1e-3:
                raise Wrong(
                    f"your gradient of the {name} is {ratio:.2f} times the true one",
                    "write the error e = weight · x + bias − y, then differentiate e² "
                    "step by step: outer, then inner",
                )


@exercise("01.4", "One step of SGD")
def check_sgd_update(sgd_update):
    for stale in (False, True):
        parameters = [
            torch.randn(3, requires_grad=True),
            torch.randn((), requires_grad=True),
        ]
        X, lr = torch.randn(6, 3), 0.1 + float(torch.rand(()))
        loss = ((X @ parameters[0] + parameters[1]) ** 2).mean()
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        expected = [
            p.detach() - lr * g for p, g in zip(parameters, gradients, strict=True)
        ]
        if stale:
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
        try:
            sgd_update(loss, parameters, lr)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise Wrong(
                f"your answer raised {type(error).__name__}: {error}",
                "change parameters inside `with torch.no_grad():`; a gradient may be "
                "None: assign, call nothing on it",
            ) from None
        for parameter, wanted, gradient in zip(
            parameters, expected, gradients, strict=True
        ):
            right = torch.allclose(parameter, wanted, atol=1e-5)
            if not right and torch.allclose(
                parameter, wanted + 2 * lr * gradient, atol=1e-5
            ):
                raise Wrong(
                    "the parameters went uphill", "which sign makes the loss smaller?"
                )
            if stale and torch.allclose(parameter, wanted - lr, atol=1e-5):
                raise Wrong(
                    "a gradient from before was added to the new one",
                    "forget old gradients before backward",
                )
            if not right:
                raise Wrong(
                    "a parameter is not where one step of SGD would put it",
                    "change the very tensors of the list, in place, by lr times their "
                    "gradient",
                )
            if parameter.grad is not None:
                raise Wrong(
                    "a gradient was left behind",
                    "after the update set each parameter.grad to None",
                )


@exercise("01.5", "The exact mean")
def check_exact_mean(exact_mean):
    for _ in range(5):
        lengths = [8, 8, 8, int(torch.randint(1, 4, ()))]
        batches = [
            torch.randn(length) + 3 * index for index, length in enumerate(lengths)
        ]
        means = [batch.mean().item() for batch in batches]
        got, expected = (
            float(exact_mean(list(means), list(lengths))),
            torch.cat(batches).mean().item(),
        )
        if abs(got - sum(means) / len(means)) < 1e-4:
            raise Wrong(
                f"{got:.3f} is the mean of the means",
                "a batch of 2 must not count as much as one of 8",
            )
        if abs(got - expected) > 1e-4:
            raise Wrong(
                f"{got:.3f} for batches of {lengths} items is not the mean over all "
                "items",
                "first the sum of all items, then divide once, by their number",
            )
