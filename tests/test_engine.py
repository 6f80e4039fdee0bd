"""The engine against a loop written by hand, and its errors."""

import collections
import copy
import functools
import math
import types
from unittest import mock

import pytest
import torch
import torchvision
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from going_modular import engine
from going_modular.metrics import accuracy, accuracy_fn
from going_modular.updates import Updater
from going_modular.utils import check_device


def data(n=10, features=4, classes=3, batch_size=4):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, features, generator=generator)
    y = torch.randint(classes, (n,), generator=generator)
    return DataLoader(TensorDataset(X, y), batch_size=batch_size), X, y


def network(outputs=3):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(4, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(8, outputs),
    )


@pytest.mark.parametrize("n", [8, 10])  # 10: the last of the batches of 4 is short
def test_train_equals_a_hand_written_loop(n):
    loader, X, y = data(n)
    batches = list(loader)  # it draws from the random state that dropout uses too
    loss_fn, by_hand = nn.CrossEntropyLoss(), network()
    model = copy.deepcopy(by_hand)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.01)
    torch.manual_seed(2)
    expected = {key: [] for key in ("train_loss", "train_acc", "test_loss", "test_acc")}
    for _ in range(3):
        by_hand.train()
        loss_sum = right = 0
        for X_batch, y_batch in batches:
            logits = by_hand(X_batch)
            loss = loss_fn(logits, y_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y_batch)
            right += (logits.argmax(dim=1) == y_batch).sum().item()
        by_hand.eval()
        with torch.no_grad():
            logits = by_hand(X)
        values = (
            loss_sum / n,
            right / n,
            loss_fn(logits, y).item(),
            (logits.argmax(dim=1) == y).sum().item() / n,
        )
        for key, value in zip(expected, values, strict=True):
            expected[key].append(value)

    torch.manual_seed(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    results = engine.train(model, batches, batches, optimizer, loss_fn, 3, "cpu")
    assert list(results) == list(expected)
    for key, values in expected.items():
        assert results[key] == pytest.approx(values, abs=1e-6), key
    for mine, theirs in zip(
        model.state_dict().values(), by_hand.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_the_well_known_keyword_arguments():
    loader, *_ = data()
    model = network()
    results = engine.train(
        model=model,
        train_dataloader=loader,
        test_dataloader=loader,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loss_fn=nn.CrossEntropyLoss(),
        epochs=2,
        device=torch.device("cpu"),
    )
    assert all(len(values) == 2 for values in results.values())


def test_an_average_of_batch_means_would_be_wrong():
    model, loss_fn = nn.Linear(1, 1), nn.L1Loss()
    X = torch.arange(10.0).reshape(10, 1) ** 2
    batches = list(zip(X.split(4), torch.zeros(10, 1).split(4), strict=True))
    with torch.no_grad():
        naive = sum(loss_fn(model(X), y).item() for X, y in batches) / len(batches)
        exact = loss_fn(model(X), torch.zeros(10, 1)).item()
    loss, _ = engine.test_step(model, batches, loss_fn, "cpu")
    assert loss == pytest.approx(exact, rel=1e-6) and abs(naive - exact) > 0.01 * exact


@pytest.mark.parametrize("shape", [(10, 1), (10,)])
def test_accuracy_of_one_logit(shape):
    logits, labels = torch.randn(shape), torch.randint(2, (10,)).float()
    expected = ((logits.flatten() > 0).float() == labels).float().mean()
    torch.testing.assert_close(accuracy(logits, labels), expected)
    torch.testing.assert_close(accuracy(logits, labels.reshape(shape)), expected)


def test_a_model_is_left_in_the_modes_where_it_was_found():
    loader, *_ = data()
    model = network().train()
    model[1].eval()  # a frozen BatchNorm
    before = [module.training for module in model.modules()]
    optimizer = torch.optim.SGD(model.parameters())
    engine.train(model, loader, loader, optimizer, nn.CrossEntropyLoss(), 1, "cpu")
    assert [module.training for module in model.modules()] == before
    assert before == [True, True, False, True, True, True]


def test_modes_are_put_back_after_an_error_too():
    model, loss_fn = network().eval(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ValueError, match="no batches"):
        engine.train_step(model, [], loss_fn, optimizer, "cpu")
    too_wide = [(torch.ones(2, 5), torch.zeros(2).long())]
    with pytest.raises(RuntimeError):
        engine.train_step(model, too_wide, loss_fn, optimizer, "cpu")
    assert not any(module.training for module in model.modules())


def steps_of(make, per_batch=None, epochs=2):
    """Return how often a scheduler is stepped in epochs of 3 batches."""
    loader, *_ = data()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = make(optimizer)
    arguments = (model, loader, loader, optimizer, nn.CrossEntropyLoss(), epochs, "cpu")
    engine.train(*arguments, scheduler=scheduler, per_batch=per_batch)
    return scheduler.last_epoch


PER_EPOCH = {
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "milestones": lambda o: lr_scheduler.MultiStepLR(o, [1]),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 2),
    "one's own": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 1 / (epoch + 1)),
    "plateau": lr_scheduler.ReduceLROnPlateau,
}
PER_BATCH = {
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=6),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2),
}


@pytest.mark.parametrize("name", PER_EPOCH)
def test_a_scheduler_counts_epochs(name):
    assert steps_of(PER_EPOCH[name]) == 2


@pytest.mark.parametrize("name", PER_BATCH)
def test_a_cyclic_scheduler_counts_batches(name):
    assert steps_of(PER_BATCH[name]) == 6


@pytest.mark.parametrize("make", [PER_EPOCH["cosine"], PER_BATCH["cyclic"]])
def test_what_a_scheduler_counts_can_be_chosen(make):
    assert (steps_of(make, per_batch=True), steps_of(make, per_batch=False)) == (6, 2)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_is_one_of_the_test_loss(mode):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode, 0.5, patience=0)
    train_data = [(torch.ones(2, 2), torch.ones(2, 1))] * 3
    losses = iter([3.0, 2.0, 2.0, 1.0, 4.0])  # of the test data

    def loss_fn(outputs, y):
        return (
            nn.functional.mse_loss(outputs, y) if len(y) > 1 else next(losses) + 0 * y
        )

    rows = engine.train_epochs(
        *(model, train_data, [(torch.ones(1, 2), torch.ones(1, 1))], optimizer),
        *(lambda outputs, y: loss_fn(outputs, y).mean(), 5, "cpu"),
        **{"scheduler": scheduler, "metric": nn.L1Loss()},
    )
    rates = [optimizer.param_groups[0]["lr"] for _ in rows]
    falls = {"min": [0, 0, 1, 1, 2], "max": [0, 1, 2, 3, 3]}[mode]
    assert rates == [0.25 / 2**count for count in falls]


def test_a_metric_of_ones_own_names_its_columns():
    def spread(outputs, targets):
        return outputs.std()

    loader, *_ = data()
    model = network()
    optimizer = torch.optim.SGD(model.parameters())
    arguments = (model, loader, loader, optimizer, nn.CrossEntropyLoss(), 1, "cpu")
    (row,) = engine.train_epochs(*arguments, metric=spread)
    names = "epoch train_loss train_spread test_loss test_spread"
    assert list(row) == names.split()


def test_nan_stops_the_training_and_says_where():
    loader, X, y = data()
    X_bad = X.clone()
    X_bad[5] = math.nan
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    class Loader:
        """Good in the first epoch, with a NaN in the second batch of the next."""

        epoch = 0

        def __iter__(self):
            self.epoch += 1
            yield from zip(
                (X if self.epoch == 1 else X_bad).split(4), y.split(4), strict=True
            )

    rows = engine.train_epochs(
        model, Loader(), loader, optimizer, nn.CrossEntropyLoss(), 5, "cpu"
    )
    assert next(rows)["epoch"] == 1
    problem = r"epoch 2: NaN or infinity at step 2 of 3 \(its loss: nan\): the model is"
    with pytest.raises(FloatingPointError, match=problem):
        next(rows)
    assert not all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("label", [3, 7, -1])
def test_labels_outside_the_classes(label):
    model, loss_fn = network(), nn.CrossEntropyLoss()
    batches = [(torch.randn(4, 4), torch.tensor([0, 1, 2, label]))]
    optimizer = torch.optim.SGD(model.parameters())
    problem = f"label {label} does not fit a model with 3 outputs, .* 0 to 2"
    with pytest.raises(ValueError, match=problem):
        engine.train_step(model, batches, loss_fn, optimizer, "cpu")
    with pytest.raises(ValueError, match=problem):
        engine.test_step(model, batches, loss_fn, "cpu")


def test_the_label_that_pytorch_ignores_is_allowed():
    def loss(labels):
        batches = [(torch.randn(len(labels), 4), torch.tensor(labels))]
        return engine.test_step(network(), batches, nn.CrossEntropyLoss(), "cpu")[0]

    assert math.isfinite(loss([0, 1, 2, -100]))
    with pytest.raises(ValueError, match="label -1 does not fit"):
        loss([-100, -1])
    labels = torch.tensor([0, -100, 1, -100])
    assert accuracy(torch.eye(4, 3)[[0, 0, 0, 2]], labels) == 0.5


def test_whole_numbers_to_predict_are_no_class_labels():
    loss_fn = nn.L1Loss()
    batches = [(torch.randn(4, 4), torch.tensor([[7, 9, -3]] * 4))]
    loss, metric = engine.test_step(network(), batches, loss_fn, "cpu", metric=loss_fn)
    assert math.isfinite(loss) and loss == metric


def test_a_last_step_that_breaks_the_parameters_is_noticed_in_its_epoch():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e38)
    batches = [(torch.full((2, 1), 1e3), torch.zeros(2, 1))]
    options = {"metric": nn.L1Loss()}
    with pytest.raises(FloatingPointError, match="step 1 of 1"):
        engine.train_step(model, batches, nn.MSELoss(), optimizer, "cpu", **options)


def test_an_empty_or_used_up_dataloader():
    loader, X, y = data()
    model, loss_fn, once = network(), nn.CrossEntropyLoss(), iter([(X, y)])
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ValueError, match="gave no batches"):
        engine.train(model, [], loader, optimizer, loss_fn, 1, "cpu")
    with pytest.raises(ValueError, match="used up"):
        engine.train(model, once, loader, optimizer, loss_fn, 2, "cpu")
    with pytest.raises(ValueError, match="gave no batches"):
        engine.test_step(model, [], loss_fn, "cpu")


def test_a_model_on_another_device_than_asked():
    model = network().to("meta")  # on every machine: shapes without numbers
    problem = r"the model is on meta but device is cpu: call model.to\('cpu'\)"
    with pytest.raises(ValueError, match=problem):
        engine.test_step(model, data()[0], nn.CrossEntropyLoss(), "cpu")


@pytest.mark.parametrize("name", ["cpu", "meta"])
def test_the_first_device_of_a_kind_may_have_its_number(name):
    model = network().to(name)
    optimizer = torch.optim.SGD(model.parameters())
    check_device(model, f"{name}:0", optimizer)
    with pytest.raises(ValueError, match=f"on {name} but device is {name}:1: call"):
        check_device(model, f"{name}:1", optimizer)


def test_no_epochs():
    with pytest.raises(ValueError, match="epochs is 0"):
        engine.train(network(), [], [], None, nn.CrossEntropyLoss(), 0, "cpu")


def test_an_update_of_ones_own_stands_in_for_update_weights():
    def update(model, X, labels, loss_fn, optimizer, device, max_norm):
        asked.append(max_norm)
        return engine.update_weights(
            model, X, labels, loss_fn, optimizer, device, max_norm
        )

    (loader, *_), asked = data(), []
    models, results = [network(), network()], []
    for model, options in zip(models, ({"update": update}, {}), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        arguments = (model, loader, loader, optimizer, nn.CrossEntropyLoss(), 2, "cpu")
        torch.manual_seed(2)
        results.append(engine.train(*arguments, max_norm=0.5, **options))
    assert results[0] == results[1] and asked == [0.5] * 6


def test_first_epoch_is_where_an_interrupted_training_goes_on():
    loader, *_ = data()
    model = network()
    optimizer = torch.optim.SGD(model.parameters())
    arguments = (model, loader, loader, optimizer, nn.CrossEntropyLoss(), 4, "cpu")
    rows = engine.train_epochs(*arguments, first_epoch=3)
    assert [row["epoch"] for row in rows] == [3, 4]


class Ends(nn.Module):
    """A network of three inputs that ends in a function of its logits."""

    def __init__(self, end, outputs=1):
        super().__init__()
        torch.manual_seed(3)
        self.layer, self.end = nn.Linear(2, outputs), end

    def forward(self, X):
        return self.end(self.layer(X))


def points(classes=2, n=200):
    """Return one batch of points that few of 0's and 1's lines separate."""
    generator = torch.Generator().manual_seed(5)
    X = torch.randn(n, 2, generator=generator)
    y = (X[:, 0] > 0.8).long() + (X[:, 1] > 1.2).long() * (classes > 2)
    return X, y


SIGMOIDS = {  # what ends in probabilities of class 1
    "module": nn.Sigmoid(),
    "function": torch.sigmoid,
    "method": lambda logits: logits.sigmoid(),
    "squeezed": lambda logits: torch.sigmoid(logits).squeeze(1),
    "clamped": lambda logits: torch.sigmoid(logits).clamp(1e-6, 1 - 1e-6),
    "times one": lambda logits: logits.sigmoid() * 1.0,
    "half a tanh": lambda logits: (torch.tanh(logits) + 1) / 2,
    "hard": nn.Hardsigmoid(),
}
SOFTMAXES = {
    "module": nn.Softmax(dim=1),
    "function": lambda logits: nn.functional.softmax(logits, dim=-1),
    "by hand": lambda logits: logits.exp() / logits.exp().sum(dim=1, keepdim=True),
    "of logarithms": lambda logits: logits.log_softmax(dim=1).exp(),
}


def own_loss(outputs, y):
    return ((outputs - y) ** 2).mean()


@pytest.mark.parametrize(
    "loss_fn",
    [nn.BCELoss(), nn.functional.binary_cross_entropy, nn.MSELoss(), own_loss],
    ids=["class", "function", "squares", "own"],
)
@pytest.mark.parametrize("name", SIGMOIDS)
def test_the_accuracy_of_a_model_that_ends_in_a_sigmoid(name, loss_fn):
    model, (X, y) = Ends(SIGMOIDS[name]), points()
    y = y.float() if name == "squeezed" else y.float()[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    arguments = (model, [(X, y)], [(X, y)], optimizer, loss_fn, 12, "cpu")
    rows = engine.train(*arguments)
    with torch.no_grad():
        expected = ((model(X) > 0.5) == (y > 0.5)).float().mean().item()
    assert rows["test_acc"][-1] == pytest.approx(expected)
    assert 0.6 < expected < 1 and rows["train_acc"][-1] > 0.6
    assert engine.test_step(model, [(X, y)], loss_fn, "cpu")[1] == rows["test_acc"][-1]


@pytest.mark.parametrize(
    "loss_fn",
    [
        nn.BCEWithLogitsLoss(),
        nn.functional.binary_cross_entropy_with_logits,
        functools.partial(
            nn.functional.binary_cross_entropy_with_logits, reduction="mean"
        ),
    ],
    ids=["class", "function", "partial"],
)
@pytest.mark.parametrize("name", SIGMOIDS)
def test_a_sigmoid_before_a_loss_of_logits_is_refused(name, loss_fn):
    model, (X, y) = Ends(SIGMOIDS[name]), points()
    y = y.float() if name == "squeezed" else y.float()[:, None]
    optimizer = torch.optim.SGD(model.parameters())
    problem = "gives probabilities, .*logits takes none: remove the sigmoid or softmax"
    problem = problem if not isinstance(loss_fn, nn.Module) else "WithLogitsLoss takes"
    with pytest.raises(ValueError, match=problem):
        engine.train_step(model, [(X, y)], loss_fn, optimizer, "cpu")
    with pytest.raises(ValueError, match=problem):
        engine.test_step(model, [(X, y)], loss_fn, "cpu")


class Weighted(nn.CrossEntropyLoss):
    """A loss of one's own that takes logits."""


@pytest.mark.parametrize(
    "loss_fn", [nn.CrossEntropyLoss(), nn.functional.cross_entropy, Weighted()]
)
@pytest.mark.parametrize("name", SOFTMAXES)
def test_a_softmax_before_a_loss_of_logits_is_refused(name, loss_fn):
    model, batches = Ends(SOFTMAXES[name], 3), [points(3)]
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ValueError, match=r"takes none: .*nn.LogSoftmax"):
        engine.train_step(model, batches, loss_fn, optimizer, "cpu")
    with pytest.raises(ValueError, match=r"takes none: .*nn.LogSoftmax"):
        engine.test_step(model, batches, loss_fn, "cpu")


@pytest.mark.parametrize("name", SOFTMAXES)
def test_a_lone_item_does_not_hide_a_softmax(name):
    model, (X, y) = Ends(SOFTMAXES[name], 3), points(3, n=4)
    batches = list(zip(X.split(1), y.split(1), strict=True))
    with pytest.raises(ValueError, match="CrossEntropyLoss takes none"):
        engine.test_step(model, batches, nn.CrossEntropyLoss(), "cpu")
    logits, _ = engine.predict(model, batches, "cpu")
    torch.testing.assert_close(logits, model.layer(X).log_softmax(dim=1).detach())


FINE = {  # logits that look like probabilities, and what is allowed
    "in 0 to 1": (lambda z: (z - z.min()) / (z.max() - z.min()), nn.CrossEntropyLoss()),
    "near 1 in sum": (lambda z: 1 / 3 + z * 1e-3, nn.CrossEntropyLoss()),
    "gated": (lambda z: z.sigmoid() * 0.9, nn.CrossEntropyLoss()),
    "constant": (lambda z: z * 0 + 1 / 3, nn.CrossEntropyLoss()),
    "zeros": (lambda z: z * 0, nn.CrossEntropyLoss()),
    "one-hot": (lambda z: (z >= z.amax(1, True)) + z * 0, nn.CrossEntropyLoss()),
    "log-softmax": (nn.LogSoftmax(dim=1), nn.NLLLoss()),
    "log-softmax twice": (nn.LogSoftmax(dim=1), nn.CrossEntropyLoss()),
    "attention": (lambda z: z @ z.T.softmax(dim=1).T.mT @ z, nn.CrossEntropyLoss()),
}


@pytest.mark.parametrize("name", FINE)
def test_logits_that_look_like_probabilities_pass(name):
    end, loss_fn = FINE[name]
    model, (X, y) = Ends(end, 3), points(3)
    if name == "attention":
        X, y = X[:3], y[:3]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    rows = engine.train(model, [(X, y)], [(X, y)], optimizer, loss_fn, 1, "cpu")
    expected = (model(X).argmax(dim=1) == y).float().mean().item()
    assert rows["test_acc"] == [pytest.approx(expected)]


@pytest.mark.parametrize("name", ["module", "squeezed", "clamped"])
def test_predict_returns_logits_also_of_a_model_that_ends_in_a_sigmoid(name):
    model, (X, y) = Ends(SIGMOIDS[name]), points()
    logits, _ = engine.predict(model, zip(X.split(60), y.split(60), strict=True), "cpu")
    expected = model.layer(X).detach()
    torch.testing.assert_close(logits.flatten(), expected.flatten(), atol=1e-4, rtol=0)


def test_confident_probabilities_of_one_class_are_no_softmax():
    X = torch.tensor([11.0, 10, 12, 11, 3, 2, 1, -1])[:, None]
    batches = list(zip(X.split(4), (X > 0).float().split(4), strict=True))
    logits, _ = engine.predict(nn.Sigmoid(), batches, "cpu")
    torch.testing.assert_close(logits, X, atol=0.05, rtol=0)
    assert engine.test_step(nn.Sigmoid(), batches, nn.MSELoss(), "cpu")[1] == 1


def test_probabilities_of_exactly_1_are_right_for_class_1():
    X, y = torch.tensor([22.0, 28, 25, 3, -2])[:, None], torch.ones(5, 1)
    batches = list(zip(X.split(3), y.split(3), strict=True))
    assert engine.test_step(nn.Sigmoid(), batches, nn.BCELoss(), "cpu")[1] == 0.8


LABELS = {  # what is compared, and which share is right
    "integers": (torch.tensor([2, 0, 1, 1, 0]), torch.tensor([2, 0, 1, 0, 1]), 0.6),
    "bytes": (torch.tensor([3, 1], dtype=torch.uint8), torch.tensor([3, 2]), 0.5),
    "a byte of 156": (
        torch.tensor([156, 1]),
        torch.tensor([156, 0], dtype=torch.uint8),
        0.5,
    ),
    "bools": (torch.tensor([True, False, True]), torch.tensor([0, 0, 1]), 2 / 3),
    "whole floats": (torch.tensor([2.0, 0, 1, 4]), torch.tensor([2, 0, 0, 4]), 0.75),
    "a column": (torch.tensor([[2], [0], [1]]), torch.tensor([2, 0, 0]), 2 / 3),
    "columns": (torch.tensor([[2.0], [0], [1]]), torch.tensor([[2], [0], [0]]), 2 / 3),
    "maps": (torch.tensor([[[0, 2], [1, 1]]]), torch.tensor([[[0, 2], [0, 0]]]), 0.5),
    "rounded": (torch.tensor([0.0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]), 0.75),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_place_of_logits_are_compared(name):
    predictions, labels, share = LABELS[name]
    assert accuracy(predictions, labels).item() == pytest.approx(share)
    assert accuracy_fn(labels, predictions) == pytest.approx(100 * share)
    assert accuracy_fn(y_true=labels, y_pred=predictions) == pytest.approx(100 * share)


def test_labels_in_a_column_do_not_broadcast_against_predictions():
    logits, labels = torch.eye(4)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 3])
    assert accuracy(logits, labels[:, None]) == accuracy(logits, labels) == 0.75
    whole = torch.tensor([3.0, -1.0, 2.0])  # whole numbers, but no labels
    assert accuracy(whole, torch.tensor([1, 0, 1])) == 1


MIXES = {
    "mixup": v2.MixUp(num_classes=4),
    "cutmix": v2.CutMix(num_classes=4),
    "smoothed": lambda X, y: (X, nn.functional.one_hot(y, 4) * 0.9 + 0.025),
    "one-hot": lambda X, y: (X, nn.functional.one_hot(y, 4).float()),
}


@pytest.mark.parametrize("update", [engine.update_weights, Updater(accumulate=2)])
@pytest.mark.parametrize("n", [4, 6, 7])  # as many items as classes, more, an odd one
@pytest.mark.parametrize("name", MIXES)
def test_labels_that_share_an_item_among_classes(name, n, update):
    torch.manual_seed(n)
    batches = [MIXES[name](torch.rand(n, 3, 8, 8), torch.arange(n) % 4)]
    batches += [MIXES[name](torch.rand(2, 3, 8, 8), torch.arange(2))]
    model, loss_fn = (
        nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),
        nn.CrossEntropyLoss(),
    )
    X, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        expected = -(y * model(X).log_softmax(dim=1)).sum(dim=1).mean().item()
        right = (model(X).argmax(dim=1) == y.argmax(dim=1)).float().mean().item()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    results = [engine.test_step(model, batches, loss_fn, "cpu")]
    step = (model, batches, loss_fn, optimizer, "cpu")
    results.append(engine.train_step(*step, update=update))
    for result in results:
        assert result == pytest.approx((expected, right), abs=1e-6)


def test_two_classes_mixed_with_one_logit():
    logits, labels = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([0.9, 0.2, 0.3])
    assert accuracy(logits, labels).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "targets", [[[1.0, 1, 0], [0, 1, 0]], [[0.0, 0, 0], [1, 0, 0]], [[2.5, -1, 7]] * 2]
)
def test_several_classes_an_item_take_another_metric(targets):
    batches, loss_fn = [(torch.randn(2, 4), torch.tensor(targets))], nn.MSELoss()
    with pytest.raises(ValueError, match=r"labels \(2, 3\) are no shares.*metric="):
        engine.test_step(network(), batches, loss_fn, "cpu")
    engine.test_step(network(), batches, loss_fn, "cpu", metric=nn.L1Loss())


class Several(nn.Module):
    """A network that hands out more than its logits."""

    def __init__(self, pack):
        super().__init__()
        torch.manual_seed(4)
        self.layer, self.pack = nn.Linear(4, 3), pack

    def forward(self, X):
        logits = self.layer(X)
        return self.pack(logits, X)


Pair = collections.namedtuple("Pair", "prediction features")
PACKS = {
    "tuple": lambda logits, X: (logits, X),
    "list": lambda logits, X: [logits, X, X],
    "namedtuple": Pair,
    "dict": lambda logits, X: {"features": X, "logits": logits},
    "torchvision's dict": lambda logits, X: {"out": logits, "aux": logits * 0},
    "ordered": lambda logits, X: {"scores": logits, "features": X},
    "object": lambda logits, X: types.SimpleNamespace(loss=None, logits=logits),
}


@pytest.mark.parametrize("update", [engine.update_weights, Updater()])
@pytest.mark.parametrize("name", PACKS)
def test_a_network_with_several_outputs_learns_by_its_logits(name, update):
    loader, X, y = data()
    model, plain = Several(PACKS[name]), Several(lambda logits, X: logits)
    results = []
    for each in (model, plain):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        arguments = (each, loader, loader, optimizer, nn.CrossEntropyLoss(), 2, "cpu")
        results.append(engine.train(*arguments, update=update))
    assert results[0] == results[1]
    for found, wanted in zip(
        engine.predict(model, loader, "cpu"),
        engine.predict(plain, loader, "cpu"),
        strict=True,
    ):
        assert torch.equal(found, wanted)


def test_googlenet_learns_with_its_auxiliary_heads():
    model = torchvision.models.googlenet(num_classes=3, init_weights=False)
    batches = [(torch.rand(2, 3, 64, 64), torch.tensor([0, 2]))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rows = engine.train(
        *(model, batches, batches, optimizer, nn.CrossEntropyLoss(), 1, "cpu")
    )
    assert math.isfinite(rows["train_loss"][0])


@pytest.mark.parametrize("pack", [None, "text", (), {}, ("text", 1), {"out": None}])
def test_a_network_without_logits_is_refused(pack):
    model = Several(lambda logits, X: pack)
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(
        ValueError, match=r"the model gave .*not a tensor: .*return log"
    ):
        engine.train_step(model, data()[0], nn.CrossEntropyLoss(), optimizer, "cpu")


@pytest.mark.parametrize(
    "model",
    [
        network(),
        nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.BatchNorm1d(3)),
        nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.BatchNorm2d(4), nn.Flatten()),
    ],
)
def test_a_batch_norm_and_a_batch_of_one_item(model):
    loader, loss_fn = data(n=9)[0], nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    problem = (
        r"a batch norm cannot learn from a batch of 1 item: choose .*drop_last=True"
    )
    with pytest.raises(ValueError, match=problem):
        engine.train_step(model, loader, loss_fn, optimizer, "cpu")
    engine.test_step(model, loader, loss_fn, "cpu")  # there it is allowed


def replaced(model, optimizer):
    model[4] = nn.Linear(8, 3)  # a new head, which the optimizer does not know


def frozen_but(model, optimizer):
    model.requires_grad_(False)
    model[4] = nn.Linear(8, 3)


def emptied(model, optimizer):
    optimizer.param_groups[0]["params"] = [model[0].bias]
    model[0].bias.requires_grad = False


@pytest.mark.parametrize("change", [replaced, frozen_but, emptied])
def test_an_optimizer_that_misses_what_should_learn(change):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    change(model, optimizer)
    problem = r"the optimizer holds \d of the model's \d trainable .*model.parameters"
    with pytest.raises(ValueError, match=problem):
        engine.train_step(model, data()[0], nn.CrossEntropyLoss(), optimizer, "cpu")


def test_an_optimizer_of_another_model():
    model, old = network(), network()
    arguments = (data()[0], nn.CrossEntropyLoss(), torch.optim.SGD(old.parameters()))
    with pytest.raises(ValueError, match=r"holds 0 of .* 6 of another model"):
        engine.train_step(model, *arguments, "cpu")
    with pytest.raises(ValueError, match="0 of the model's 0 .* requires_grad=True"):
        engine.train_step(old.requires_grad_(False), *arguments, "cpu")


@pytest.mark.parametrize("chosen", ["part", "moved", "more"])
def test_an_optimizer_that_fits(chosen):
    model, extra = network(), nn.Parameter(torch.ones(1))
    learning = list(model.parameters())[-2:] if chosen == "part" else model.parameters()
    learning = [*learning, extra] if chosen == "more" else learning  # of the loss
    optimizer = torch.optim.SGD(learning, lr=0.1)
    model = model.double().float() if chosen == "moved" else model
    before = copy.deepcopy(model[4].weight)
    engine.train_step(model, data()[0], nn.CrossEntropyLoss(), optimizer, "cpu")
    assert not torch.equal(model[4].weight, before)


def test_train_step_keeps_no_copy_of_the_weights():
    model, (X, y) = nn.Linear(2, 2), points()
    optimizer = torch.optim.Adam(model.parameters())
    with mock.patch.object(nn.Module, "state_dict", side_effect=AssertionError):
        engine.train_step(model, [(X, y)], nn.CrossEntropyLoss(), optimizer, "cpu")
