"""Checks of the exercises and the challenge in 01_workflow.ipynb."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from exercises import Calls, Wrong, call, capstone, exercise


@exercise("01.1", "Split")
def check_split(split_in_order):
    for shape in ((1,), (3,), (2, 4)) * 3:
        n = int(torch.randint(5, 40, ()))
        fraction = float(torch.rand(())) * 0.8 + 0.1
        X, y = torch.randn(n, *shape), torch.randint(0, 9, (n, 1))
        parts = call(split_in_order, X, y, fraction)
        if not isinstance(parts, tuple | list) or len(parts) != 4:
            raise Wrong(
                f"expected four tensors, got {type(parts).__name__}",
                "return X_train, y_train, X_test, y_test",
            )
        lengths = [len(part) for part in parts]
        if lengths[0] == lengths[2] != lengths[1] == lengths[3]:
            raise Wrong(
                f"your four parts have the lengths {lengths}",
                "return them in the order X_train, y_train, X_test, y_test",
            )
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
                "the training set comes first and gets the fraction, rounded down to a "
                "whole number of items",
            )
        for part, expected, name in zip(
            parts,
            (X[:cut], y[:cut], X[cut:], y[cut:]),
            ("X_train", "y_train", "X_test", "y_test"),
            strict=True,
        ):
            if part.dtype != expected.dtype:
                raise Wrong(
                    f"your {name} is {part.dtype}, it was given as {expected.dtype}",
                    "a slice keeps the numbers as they are; are the four in the order "
                    "X_train, y_train, X_test, y_test?",
                )
            if not torch.equal(part, expected):
                raise Wrong(
                    f"your {name} holds other items, or in another order",
                    "keep the order: the first items are for training",
                )


@exercise("01.2", "Squared error")
def check_mean_squared_error(mean_squared_error):
    for shape in ((5,), (8, 1), (4, 3), (1,)):
        predictions, targets = torch.randn(shape), torch.randn(shape)
        predictions.requires_grad_()
        with Calls() as calls:
            got = call(mean_squared_error, predictions, targets)
        if "mse_loss" in calls.names:
            raise Wrong(
                "your function calls PyTorch's own mean squared error",
                "the task is to write it: difference, square, mean",
            )
        if not isinstance(got, torch.Tensor):
            raise Wrong(
                f"your result is of type {type(got).__name__}",
                "return a tensor with one number, not .item(): it must be trained on",
            )
        if got.ndim != 0:
            raise Wrong(
                f"your result has the shape {tuple(got.shape)}",
                "the loss is one number: average at the end",
            )
        expected = torch.nn.functional.mse_loss(predictions, targets)
        total = expected * predictions.numel()
        if predictions.numel() > 1 and torch.isclose(got, total):
            raise Wrong(
                f"{got:.4f} is the sum of the squares",
                "a mean does not grow with the number of items",
            )
        if not torch.isclose(got, expected, atol=1e-6):
            raise Wrong(
                f"{got:.4f} for random numbers of the shape {shape}, whose mean "
                f"squared error is {expected:.4f}",
                "square each difference first, then take the mean of the squares",
            )
        if not got.requires_grad:
            raise Wrong(
                "the number is right, but no gradient flows back from it",
                "no detach, no .item(), no no_grad: the loss must remember its way",
            )
        (slope,) = torch.autograd.grad(got, predictions)
        (wanted,) = torch.autograd.grad(expected, predictions)
        if not torch.allclose(slope, wanted, atol=1e-6):
            raise Wrong(
                "the number is right, but its gradient is another",
                "use the predictions themselves everywhere, not a detached copy",
            )


@exercise("01.3", "Gradients of the squared error")
def check_squared_error_gradients(squared_error_gradients):
    for _ in range(5):
        X, y = torch.rand(12, 1) + 0.5, torch.randn(12, 1)
        weight, bias = torch.randn(2, requires_grad=True).unbind()
        expected = torch.autograd.grad(
            ((weight * X + bias - y) ** 2).mean(), (weight, bias)
        )
        with Calls() as calls:
            got = call(squared_error_gradients, X, y, weight.item(), bias.item())
        if {"backward", "grad", "requires_grad_", "func_grad"} & calls.names.keys():
            raise Wrong(
                "your function lets autograd do the work",
                "derive the two formulas on paper, then compute them with X, y, weight "
                "and bias",
            )
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"expected two numbers, got {type(got).__name__}",
                "return weight_grad, bias_grad",
            )
        got = [torch.as_tensor(value).detach() for value in got]
        for name, mine in zip(("weight", "bias"), got, strict=True):
            if mine.numel() != 1:
                raise Wrong(
                    f"the gradient of the {name} has the shape {tuple(mine.shape)}",
                    "average over the points",
                )
        got = [mine.reshape(()).float() for mine in got]
        if torch.isclose(got[0], expected[1]) and torch.isclose(got[1], expected[0]):
            raise Wrong(
                "your first number is the gradient of the bias",
                "return them in the order weight, bias",
            )
        for name, mine, right in zip(("weight", "bias"), got, expected, strict=True):
            if torch.isclose(mine, right * len(X), rtol=1e-3, atol=1e-4):
                raise Wrong(
                    f"your gradient of the {name} is {len(X)} times the true one",
                    "a mean, not a sum",
                )
            if not torch.isclose(mine, right, rtol=1e-3, atol=1e-4):
                raise Wrong(
                    f"your gradient of the {name} is {mine:.3f}, the true one "
                    f"{right:.3f}",
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
        originals = list(parameters)
        try:
            sgd_update(loss, parameters, lr)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise Wrong(
                f"your answer raised {type(error).__name__}: {error}",
                "call backward once; change parameters inside `with torch.no_grad():`; "
                "before backward and once cleared a gradient is None: no zero_(), no *",
            ) from None
        for parameter, wanted, gradient in zip(
            originals, expected, gradients, strict=True
        ):
            _check_step(parameter, wanted, lr, gradient, stale)


def _check_step(
    parameter: torch.Tensor,
    wanted: torch.Tensor,
    lr: float,
    gradient: torch.Tensor,
    stale: bool,
) -> None:
    """Raise ``Wrong`` where a parameter is not as after one step of SGD."""
    right = torch.allclose(parameter, wanted, atol=1e-5)
    if not right and torch.allclose(parameter, wanted + 2 * lr * gradient, atol=1e-5):
        raise Wrong("the parameters went uphill", "which sign makes the loss smaller?")
    if stale and torch.allclose(parameter, wanted - lr, atol=1e-5):
        raise Wrong(
            "a gradient from before was added to the new one",
            "forget old gradients before backward",
        )
    if not right:
        raise Wrong(
            "a parameter is not where one step of SGD would put it",
            "change the very tensors of the list, in place, by lr times their gradient",
        )
    if not parameter.requires_grad or not parameter.is_leaf:
        raise Wrong(
            "a parameter can no longer be trained: it records nothing, or its own "
            "update",
            "leave requires_grad alone; `with torch.no_grad():` stops recording for a "
            "while",
        )
    if parameter.grad is not None:
        raise Wrong(
            "a gradient was left behind",
            "after the update set each parameter.grad to None",
        )


class _Watched(torch.optim.SGD):
    """An optimizer that notes what is asked of it."""

    def __init__(self, parameters: Any, **options: Any):
        super().__init__(parameters, **options)
        self.steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        return super().step(closure)


def _lopsided(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return a loss in which an error upward costs three times one downward."""
    error = predictions - targets
    return torch.where(error > 0, 3 * error, -error).mean()


@exercise("01.5", "The training loop")
def check_fit(fit):
    for loss_fn, momentum in ((nn.MSELoss(), 0.0), (_lopsided, 0.9)):
        epochs, features = int(torch.randint(4, 9, ())), int(torch.randint(1, 4, ()))
        X, y = torch.randn(20, features), torch.randn(20, 1)
        model = nn.Linear(features, 1)
        twin, piled = copy.deepcopy(model), copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)  # what somebody left there
        optimizer = _Watched(model.parameters(), lr=0.05, momentum=momentum)
        got = call(fit, model, X, y, loss_fn, optimizer, epochs)
        wanted = _train(twin, X, y, loss_fn, epochs, momentum)
        pile = _train(piled, X, y, loss_fn, epochs, momentum, zero_grad=False)
        _check_losses(got, wanted, pile, optimizer.steps, epochs)
        for mine, right in zip(model.parameters(), twin.parameters(), strict=True):
            if not torch.allclose(mine, right, atol=1e-5):
                raise Wrong(
                    "the losses are right, but the model is another in the end",
                    "every epoch ends with a step, the last one too",
                )


def _train(
    model: nn.Module,
    X: torch.Tensor,
    y: torch.Tensor,
    loss_fn: Callable,
    epochs: int,
    momentum: float,
    zero_grad: bool = True,
) -> list[float]:
    """Return the losses of a correct training, or of one that forgets zero_grad."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
    losses = []
    for _ in range(epochs):
        if zero_grad:
            optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _check_losses(
    got: Any, wanted: list[float], pile: list[float], steps: int, epochs: int
) -> None:
    """Raise ``Wrong`` unless the returned losses are those of a correct training."""
    if not isinstance(got, list) or len(got) != epochs:
        what = f"a list of {len(got)}" if isinstance(got, list) else type(got).__name__
        raise Wrong(
            f"{epochs} epochs, and you returned {what}",
            "append loss.item() to a list in every epoch, and return the list",
        )
    if not all(isinstance(loss, float) for loss in got):
        raise Wrong(
            f"your list holds a {type(got[0]).__name__}",
            "loss.item() is the plain number, without its history",
        )
    if steps != epochs:
        raise Wrong(
            f"{epochs} epochs, and the optimizer made {steps} steps",
            "call optimizer.step() once an epoch; the optimizer is given, so that "
            "every kind of it works",
        )
    different = [abs(a - b) > 1e-5 for a, b in zip(got, wanted, strict=True)]
    if any(different):
        epoch = different.index(True) + 1
        if abs(got[1] - got[0]) < 1e-7:
            hint = "the loss did not move: does backward() come before the step, and "
            hint += "no zero_grad() between the two?"
        elif epoch == 2 or abs(got[-1] - pile[-1]) < 1e-5:
            hint = (
                "are old gradients still there? They may be from before your loop, too"
            )
        else:
            hint = "zero the gradients, predict, loss_fn(predictions, targets), "
            hint += "backward, step; note the loss of the prediction before the step"
        raise Wrong(
            f"your loss of epoch {epoch} is {got[epoch - 1]:.4f}, and a correct loop's "
            f"{wanted[epoch - 1]:.4f}",
            hint,
        )


class _Elsewhere(torch.Tensor):
    """A tensor, and whatever is computed with it, until it is moved to the device."""

    def to(self, *args: Any, **options: Any) -> torch.Tensor:
        return super().to(*args, **options).as_subclass(torch.Tensor)


def _watching(loss_fn: Callable, forgotten: set[str]) -> Callable:
    """Return the loss function, which notes in ``forgotten`` what was not moved."""

    def judge(*pair: torch.Tensor) -> torch.Tensor:
        for name, part in zip("Xy", pair, strict=True):
            if isinstance(part, _Elsewhere):
                forgotten.add(name)
        return loss_fn(*(part.as_subclass(torch.Tensor) for part in pair))

    return judge


class _Model(nn.Module):
    """A line that behaves differently in training, and counts what is recorded."""

    def __init__(self):
        super().__init__()
        self.line, self.dropout = nn.Linear(2, 1), nn.Dropout(0.5)
        self.recorded = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.recorded += torch.is_grad_enabled()
        return self.dropout(self.line(x))


@exercise("01.6", "The test step")
def check_evaluate(evaluate):
    for loss_fn in (nn.L1Loss(), nn.MSELoss()):
        lengths = [8, 8, 8, int(torch.randint(1, 4, ()))]
        batches = [
            (torch.randn(n, 2), torch.randn(n, 1) + 3 * index)
            for index, n in enumerate(lengths)
        ]
        model = _Model().train()
        before = copy.deepcopy(model.state_dict())
        given = [[part.as_subclass(_Elsewhere) for part in pair] for pair in batches]
        forgotten: set[str] = set()
        got = evaluate(model, given, _watching(loss_fn, forgotten), "cpu")
        if isinstance(got, torch.Tensor) or not isinstance(got, float | int):
            raise Wrong(
                f"you returned a {type(got).__name__}",
                "a plain number: .item() turns each batch's loss into one",
            )
        if any(not torch.equal(before[k], v) for k, v in model.state_dict().items()):
            raise Wrong("the model has learned", "no optimizer, no step: only measure")
        if model.recorded:
            raise Wrong(
                "the predictions were recorded for gradients",
                "predict inside `with torch.inference_mode():`",
            )
        X, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        with torch.no_grad():
            model.eval()
            expected = loss_fn(model(X), y).item()
            means = [loss_fn(model(X), y).item() for X, y in batches]
        if abs(got - sum(means) / len(means)) < 1e-4:
            raise Wrong(
                f"{got:.3f} is the mean of the batch means",
                "a short batch must not count as much as a long one",
            )
        if abs(got - sum(means)) < 1e-4:
            raise Wrong(f"{got:.3f} is the sum of the batch means", "divide at the end")
        if abs(got - expected) > 1e-4 * max(1, abs(expected)):
            raise Wrong(
                f"{got:.3f} for batches of {lengths} items; over all items it is "
                f"{expected:.3f}",
                "is the model in evaluation mode? Is each batch's mean multiplied by "
                "its length, and the sum divided by the number of items?",
            )
        if forgotten:
            raise Wrong(
                f"{' and '.join(sorted(forgotten))} never came to the device",
                "X.to(device), y.to(device), as in train_step",
            )


NOISE, TO_BEAT = 0.10, 0.12


@capstone("01", "Fit an unknown curve")
def check_fit_curve(fit_curve):
    errors = []
    for _ in range(3):
        speeds, shifts = 1 + 5 * torch.rand(3), 2 * torch.pi * torch.rand(3)
        sizes = 0.3 + 0.4 * torch.rand(3)
        drawn = []
        for count in (200, 1000):
            x = 2 * torch.rand(count, 1) - 1
            curve = (sizes * torch.sin(speeds * x + shifts)).sum(dim=1, keepdim=True)
            drawn += [x, curve + NOISE * torch.randn(count, 1)]
        X, y, X_test, y_test = drawn
        predict = call(fit_curve, X, y)
        if not callable(predict):
            raise Wrong(
                f"fit_curve returned a {type(predict).__name__}",
                "return what predicts: a model, or a function from (M, 1) to (M, 1)",
            )
        with torch.no_grad():
            predictions = torch.as_tensor(predict(X_test.clone()))
        if predictions.shape != y_test.shape:
            raise Wrong(
                f"for inputs {tuple(X_test.shape)} your function returned "
                f"{tuple(predictions.shape)}",
                "one target for each input: (M, 1)",
            )
        errors.append((predictions - y_test).pow(2).mean().sqrt().item())
    error = sum(errors) / len(errors)
    each = ", ".join(f"{error:.3f}" for error in errors)
    score = f"test error {error:.3f} ({each}); to beat: {TO_BEAT}; the noise: {NOISE}"
    if not math.isfinite(error):
        raise Wrong(score, "the training diverged: choose a smaller learning rate")
    if error > TO_BEAT:
        raise Wrong(
            score,
            "compare the error on the training points: if it is small, use fewer "
            "features; if it is large, train longer, or with more features",
        )
    return f"Your {score}."
