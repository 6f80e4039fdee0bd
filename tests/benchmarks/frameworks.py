"""How fast is our training beside a loop by hand, Lightning, Accelerate and fastai?

    pip install lightning accelerate fastai -c constraints.txt
    OMP_NUM_THREADS=1 python tests/benchmarks/frameworks.py [--rounds 30]

Trains TinyVGG on Fashion-MNIST with all of them, an epoch of each in turn, in random
order: the same first weights, batches from the same in-memory loader, the same SGD, and
of each the same four results an epoch, exact over the samples: loss and accuracy of
training and of test. They must be equal after every epoch, else the script stops: none
skips work. Prints pictures a second (those trained on, in the whole time of an epoch
with its test), medians, and how many times faster each is than the hand-written loop,
and ours than each: the median of the ratios within a round, which takes out what slowed
both. The loop takes part twice: how far its ratio to itself lies from 1 is the noise of
this machine. "Own cost" is what a step, with its share of the epoch's rest, takes
longer than in the loop by hand; it is measured with a model of one layer, where little
else hides it.

Each waits for its turn in a thread of its own, since no framework can be asked for one
epoch and then another; the first epoch, with all preparations in it, is not counted.

Each framework runs in its fastest documented way: Lightning's Trainer with
barebones=True, Accelerate without gather_for_metrics (which one process does not need),
fastai's Learner with TrainEvalCallback alone, around PyTorch's optimizer. So none has a
progress bar, a logger or checkpoints, and all keep account as the hand-written loop
does.
"""

import argparse
import functools
import importlib.metadata
import logging
import math
import random
import statistics
import sys
import threading
import time
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from going_modular import datasets, engine, model_builder, utils  # noqa: E402

TRAIN_PICTURES, TEST_PICTURES = 1_300, 260  # the last batches are smaller
LOSS_FN = nn.CrossEntropyLoss()


class Tally:
    """Keeps account of one pass over the data, and never waits for an accelerator."""

    def __init__(self):
        self.losses, self.right, self.sizes = [], [], []

    def add(self, loss, logits, y):
        self.losses.append(loss.detach())
        self.right.append((logits.argmax(dim=1) == y).sum())
        self.sizes.append(len(y))

    def results(self):
        """Return (loss, accuracy), exact over the samples."""
        losses, sizes = torch.stack(self.losses).cpu(), torch.tensor(self.sizes)
        return (losses @ sizes.float()).item() / sum(self.sizes), torch.stack(
            self.right
        ).sum().item() / sum(self.sizes)

    """Keeps account of a pass over the data, and never waits for an accelerator."""


# (train, test) loaders; after each it calls
# done(train_loss, train_acc, test_loss, test_acc).


def by_hand(model, optimizer, loaders, epochs, device, done):
    for _ in range(epochs):
        train, test = Tally(), Tally()
        model.train()
        for X, y in loaders[0]:
            X, y = X.to(device), y.to(device)
            optimizer.zero_grad()
            logits = model(X)
            loss = LOSS_FN(logits, y)
            loss.backward()
            optimizer.step()
            train.add(loss, logits, y)
        model.eval()
        with torch.inference_mode():
            for X, y in loaders[1]:
                X, y = X.to(device), y.to(device)
                logits = model(X)
                test.add(LOSS_FN(logits, y), logits, y)
        done(*train.results(), *test.results())


def ours(model, optimizer, loaders, epochs, device, done):
    for _ in range(epochs):
        results = engine.train(model, *loaders, optimizer, LOSS_FN, 1, device)
        done(*(values[0] for values in results.values()))


def lightning():
    """Return the contestant; raises ImportError where Lightning is not installed."""
    from lightning.pytorch import LightningModule, Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Task(LightningModule):
        def __init__(self, model, optimizer, done):
            super().__init__()
            self.model, self.optimizer, self.done = model, optimizer, done
            self.train_tally, self.test_tally = Tally(), Tally()

        def configure_optimizers(self):
            return self.optimizer

        def training_step(self, batch, batch_idx):
            X, y = batch
            logits = self.model(X)
            loss = LOSS_FN(logits, y)
            self.train_tally.add(loss, logits, y)
            return loss

        def validation_step(self, batch, batch_idx):
            X, y = batch
            logits = self.model(X)
            self.test_tally.add(LOSS_FN(logits, y), logits, y)

        def on_train_epoch_end(self):  # after the validation
            self.done(*self.train_tally.results(), *self.test_tally.results())
            self.train_tally, self.test_tally = Tally(), Tally()

    def run(model, optimizer, loaders, epochs, device, done):
        trainer = Trainer(
            max_epochs=epochs, accelerator=device.type, devices=1, barebones=True
        )
        trainer.fit(Task(model, optimizer, done), *loaders)

    return run


def accelerate():
    """Return the contestant; raises ImportError where Accelerate is not installed."""
    from accelerate import Accelerator

    def run(model, optimizer, loaders, epochs, device, done):
        accelerator = Accelerator(cpu=device.type == "cpu")
        model, optimizer, *loaders = accelerator.prepare(model, optimizer, *loaders)
        for _ in range(epochs):
            train, test = Tally(), Tally()
            model.train()
            for X, y in loaders[0]:
                optimizer.zero_grad()
                logits = model(X)
                loss = LOSS_FN(logits, y)
                accelerator.backward(loss)
                optimizer.step()
                train.add(loss, logits, y)
            model.eval()
            with torch.inference_mode():
                for X, y in loaders[1]:
                    logits = model(X)
                    test.add(LOSS_FN(logits, y), logits, y)
            done(*train.results(), *test.results())

    return run


def fastai():
    """Return the contestant; raises ImportError where fastai is not installed."""
    from fastai.callback.core import Callback, TrainEvalCallback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    class Account(Callback):
        def __init__(self, done):
            self.done = done

        def before_epoch(self):
            self.tallies = {True: Tally(), False: Tally()}

        def after_batch(self):
            self.tallies[self.training].add(self.loss, self.pred, self.y)

        def after_epoch(self):
            self.done(*self.tallies[True].results(), *self.tallies[False].results())

    def run(model, optimizer, loaders, epochs, device, done):
        callbacks, wrapped = (
            [TrainEvalCallback(), Account(done)],
            OptimWrapper(opt=optimizer),
        )
        learner = Learner(
            DataLoaders(*loaders),
            model,
            LOSS_FN,
            wrapped,
            default_cbs=False,
            cbs=callbacks,
        )
        learner.fit(epochs, lr=optimizer.param_groups[0]["lr"])

    return run


def find_contestants():
    """Return {name: contestant} of all that is installed; tell of what is not."""
    contestants = {"by hand": by_hand, "by hand again": by_hand, "ours": ours}
    for make in (lightning, accelerate, fastai):
        try:
            contestants[
                f"{make.__name__} {importlib.metadata.version(make.__name__)}"
            ] = make()
        except ImportError as error:  # PackageNotFoundError is one
            print(
                f"{make.__name__} skipped ({error}): pip install {make.__name__} -c "
                "constraints.txt"
            )
    return contestants


def tiny_vgg():
    return model_builder.TinyVGG(1, 10, 10, image_size=28), 0.1


def one_layer():
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)), 0.01


def load(batch_size):
    """Return (train, test) loaders of Fashion-MNIST's first pictures, in order."""
    loaders = []
    for train, count in ((True, TRAIN_PICTURES), (False, TEST_PICTURES)):
        data = datasets.FashionMNISTTensors(ROOT / "data", train=train)
        data.images, data.labels = data.images[:count], data.labels[:count]
        loaders.append(DataLoader(data, batch_size, collate_fn=datasets.as_is))
    return loaders


class Training(threading.Thread):
    """A contestant's training of a fresh model, in a thread of its own.

    It waits for its turn before each epoch.

    Args:
        build: returns (model, learning rate).
    """

    def __init__(self, contestant, build, epochs, loaders, device):
        super().__init__(daemon=True)
        utils.set_seeds(0)
        model, lr = build()
        model = model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        self.work = functools.partial(
            contestant, model, optimizer, loaders, epochs, device, self.done
        )
        self.go, self.ready, self.results, self.error = (
            threading.Semaphore(0),
            threading.Semaphore(0),
            None,
            None,
        )

    def run(self):
        self.go.acquire()
        try:
            self.work()
        except Exception as error:
            self.error = error
        self.ready.release()

    def done(self, *results):
        """End an epoch: its contestant comes here, and waits here for the next turn."""
        self.results = results
        self.ready.release()
        self.go.acquire()

    def epoch(self):
        """Let it train for one epoch; return (seconds, results)."""
        start = time.perf_counter()
        self.go.release()
        self.ready.acquire()
        if self.error is not None:
            raise self.error
        return time.perf_counter() - start, self.results


def measure(contestants, build, batch_size, rounds, device):
    """Let all train for ``rounds`` epochs, one after another.

    Returns:
        ({name: seconds of its epoch in each round}, what all had learned at the end)

    Raises:
        RuntimeError: if one learned something else.
    """
    loaders, times = load(batch_size), {name: [] for name in contestants}
    trainings = {
        name: Training(work, build, rounds + 1, loaders, device)
        for name, work in contestants.items()
    }
    for training in trainings.values():
        training.start()
    for round_number in range(rounds + 1):
        for name in random.sample(
            list(trainings), len(trainings)
        ):  # none always comes first
            elapsed, _ = trainings[name].epoch()
            if round_number > 0:  # the first epoch has the preparations in it
                times[name].append(elapsed)
        expected = trainings["by hand"].results
        for name, training in trainings.items():
            if not all(
                math.isclose(*pair, abs_tol=1e-5)
                for pair in zip(training.results, expected, strict=True)
            ):
                raise RuntimeError(
                    f"{name} learned something else: {training.results} instead of "
                    f"{expected}"
                )
    for training in trainings.values():
        training.go.release()
        training.join()
    return times, expected


def faster(times, name, other):
    """Return how many times faster ``name`` is: the median of the rounds' ratios."""
    return statistics.median(
        b / a for a, b in zip(times[name], times[other], strict=True)
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="epochs of each")
    options = parser.parse_args(arguments)
    warnings.filterwarnings(
        "ignore"
    )  # the frameworks advise to use more workers, to save checkpoints, ...
    device, contestants = utils.get_device(), find_contestants()
    setting = f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{setting}, {options.rounds} interleaved rounds")
    for batch_size in (32, 128):
        costs, _ = measure(contestants, one_layer, batch_size, options.rounds, device)
        times, learned = measure(
            contestants, tiny_vgg, batch_size, options.rounds, device
        )
        steps = math.ceil(TRAIN_PICTURES / batch_size)
        print(f"\nbatch {batch_size}: all learned the same,", end=" ")
        print("loss {:.4f}, accuracy {:.3f}, test {:.4f}, {:.3f}".format(*learned))
        print(
            f"{'':20} pictures/s  ratio to the loop  ours to it  own cost, "
            "microseconds a step"
        )
        for name, values in times.items():
            to_loop, ours_to_it = (
                faster(times, name, "by hand"),
                faster(times, "ours", name),
            )
            cost = (
                statistics.median(
                    a - b for a, b in zip(costs[name], costs["by hand"], strict=True)
                )
                / steps
            )
            print(
                f"{name:20} {TRAIN_PICTURES / statistics.median(values):10,.0f}", end=""
            )
            print(f"{to_loop:19.3f} {ours_to_it:11.3f} {1e6 * cost:15,.0f}")


if __name__ == "__main__":
    main()
