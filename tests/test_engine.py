"""The engine against a loop written by hand, and its errors."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from going_modular import engine
from going_modular.metrics import accuracy


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
