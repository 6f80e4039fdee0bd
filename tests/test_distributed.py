"""Lesson 10: several processes train as one, and outlive the loss of one of them."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import PIPE
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from going_modular.__main__ import main
from going_modular.config import read_config
from going_modular.data_setup import EpochBatches
from going_modular.distributed import ALONE, Group, check_batch_split, process_group
from going_modular.engine import update_weights
from going_modular.states import read_checkpoint, train_epoch
from going_modular.updates import Updater
from tests.folders import (
    free_port,
    rows_of,
    train_arguments,
    weights_of,
    write_pictures,
)
from tools import launch


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of 69 training and 17 validation pictures: uneven parts for two."""
    folder = tmp_path_factory.mktemp("own")
    write_pictures(folder, ("night", "day"), {"train": 35, "valid": 9})
    for split in ("train", "valid"):
        (folder / split / "day" / "0.png").unlink()
    return folder


VIT = "--model vit --patch-size 4 --embed-dim 16 --depth 2 --lr 5e-4"


# What starts several processes; PyTorch for Windows lacks what torchrun needs.
TORCHRUN, LAUNCH = "torch.distributed.run", "tools.launch"
STARTER = LAUNCH if os.name == "nt" else TORCHRUN
no_torchrun = pytest.mark.skipif(os.name == "nt", reason="Windows has no torchrun")


def torchrun(processes, arguments, meeting="", starter=STARTER):
    """Start the command in several processes, as a user does."""
    words = [starter, "--nproc-per-node", str(processes), *meeting.split()]
    command = [sys.executable, "-m", *words, "-m", "going_modular", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=PIPE, stderr=PIPE, text=True, env=environment
    )


def one_of_several(variables, arguments):
    os.environ |= variables
    sys.exit(main(arguments))


def train_with(processes, arguments):
    """Run the command in so many processes, told of each other as torchrun does it.

    Torchrun itself would import everything anew.
    """
    start = "spawn" if sys.platform == "win32" else "forkserver"
    context = multiprocessing.get_context(start)
    context.set_forkserver_preload(["tests.test_distributed"])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    children = []
    for rank in map(str, range(processes)):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        given = (place | sizes | ranks, arguments)
        children.append(context.Process(target=one_of_several, args=given))
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * processes


def assert_same_training(found, wanted, atol):
    """Assert that two folders hold the same rows, to 1e-5, and weights, to ``atol``."""
    for row, other in zip(rows_of(found), rows_of(wanted), strict=True):
        assert row == pytest.approx(other, abs=1e-5, rel=0)
    first, second = weights_of(found, "last.pt"), weights_of(wanted, "last.pt")
    torch.testing.assert_close(first, second, rtol=0, atol=atol)


@pytest.mark.parametrize("starter", [pytest.param(TORCHRUN, marks=no_torchrun), LAUNCH])
def test_two_processes_are_one_with_twice_the_batch(data, tmp_path, capsys, starter):
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = train_arguments(data, two, f"{VIT} --batch-size 8")
    run = torchrun(2, arguments, starter=starter)
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert main(train_arguments(data, one, f"{VIT} --batch-size 16")) == 0
    assert printed == capsys.readouterr().out.replace(str(one), str(two))
    assert_same_training(two, one, atol=1e-4)
    assert (two / "config.json").read_bytes() == (one / "config.json").read_bytes()
    assert sorted(os.listdir(two)) == sorted(os.listdir(one))


def test_processes_meet_without_libuv_and_a_failed_one_ends_them(tmp_path, capfd):
    """What torchrun needs and PyTorch for Windows lacks."""
    script = tmp_path / "meet.py"
    script.write_text(
        "import sys\n"
        "from torch import distributed as d\n"
        "made = d.TCPStore\n"
        "def watched(*arguments, **options):\n"
        "    print(options['use_libuv'], flush=True)\n"
        "    return made(*arguments, **options)\n"
        "d.rendezvous.__globals__['TCPStore'] = watched\n"
        "d.init_process_group('gloo')\n"
        "if d.get_rank() == 1:\n"
        "    sys.exit(3)\n"
        "d.barrier()\n"
    )
    assert launch.launch(2, [str(script)]) == 1
    assert capfd.readouterr().out.splitlines() == ["False", "False"]


@no_torchrun
@pytest.mark.parametrize(
    "meeting",
    [
        "--nnodes 2 --node-rank {} --master-addr 127.0.0.1 --master-port {}",
        "--nnodes 2 --rdzv-conf is_host={} --rdzv-backend c10d "
        "--rdzv-endpoint 127.0.0.1:{}",
    ],
    ids=["static", "c10d"],
)
def test_two_machines_are_one_with_twice_the_batch(data, tmp_path, meeting):
    """Two torchruns here, each with one process, as two machines would start them."""
    one, two, port = tmp_path / "one", tmp_path / "two", free_port()
    given = train_arguments(data, two, f"{VIT} --batch-size 8 --epochs 1")
    runs = [torchrun(1, given, meeting.format(rank, port)) for rank in (0, 1)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    more = f"{VIT} --batch-size 16 --epochs 1"
    assert main(train_arguments(data, one, more)) == 0
    assert_same_training(two, one, atol=1e-4)
    assert sorted(len(printed) > 0 for printed, _ in said) == [False, True]


@pytest.mark.parametrize("more", ["", "--accumulate 2", "--augment light"])
def test_processes_with_uneven_parts_are_one(tmp_path, more):
    """Batches of 5 and 2, on 2 processes: 3 + 2 and 1 + 1 pictures."""
    one, two, counts = tmp_path / "one", tmp_path / "two", {"train": 6, "valid": 4}
    data = write_pictures(tmp_path / "data", ("night", "day"), counts)
    (data / "valid" / "night" / "0.png").unlink()  # 7 are left
    options = f"{VIT} --augment none --batch-size 5 {more}"
    assert main(train_arguments(data, one, options)) == 0
    two.mkdir()
    shutil.copy(one / "config.json", two)  # whose batch is that of all processes
    train_with(2, ["train", "--out", str(two), "--resume"])
    assert read_config(two)[0].batch_size == 5
    assert_same_training(two, one, atol=1e-5)


def training_pair(data, place, epochs, starter=STARTER):
    """Return torchrun and its two processes, which have finished an epoch."""
    more = f"{VIT} --batch-size 6 --epochs {epochs}"
    run = torchrun(2, train_arguments(data, place, more), starter=starter)
    while not (place / "last.pt").exists():
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    return run, psutil.Process(run.pid).children()


def test_a_killed_process_ends_the_run_with_a_message_and_any_number_goes_on(
    data, tmp_path
):
    place = tmp_path / "killed"
    run, children = training_pair(data, place, epochs=20)
    (second,) = [one for one in children if one.environ().get("RANK") == "1"]
    second.kill()
    _, errors = run.communicate(timeout=60)
    epochs = read_checkpoint(place / "last.pt")["epoch"]
    (told,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert run.returncode == 1 and 1 <= epochs < 20, errors
    assert "another process of the group ended" in told and "--resume" in told
    assert f"epochs kept in {place}: {epochs};" in told
    for processes in (1, 2, 3):
        out = shutil.copytree(place, tmp_path / str(processes))
        train_with(processes, ["train", "--out", str(out), "--resume"])
        rows = rows_of(out)
        assert len(rows) == 20 and rows[:epochs] == rows_of(place)[:epochs]
        # As the first two processes had it.
        assert read_config(out)[0].batch_size == 12
        assert rows[-1] == pytest.approx(rows_of(tmp_path / "1")[-1], abs=1e-3)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM")
def test_a_launch_that_is_ended_ends_its_processes(data, tmp_path):
    place = tmp_path / "ended"
    run, children = training_pair(data, place, 2000, starter=LAUNCH)
    run.terminate()
    run.communicate(timeout=60)
    assert run.returncode == 1 and not psutil.wait_procs(children, 10)[1]
    assert not list(place.glob("*.tmp")) and not list(place.glob(".lock"))


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a dead parent's number")
def test_processes_whose_torchrun_was_killed_end_too(data, tmp_path):
    place = tmp_path / "left"
    run, children = training_pair(data, place, epochs=2000)
    run.kill()
    _, alive = psutil.wait_procs(children, 30)
    assert len(children) == 2 and not alive
    assert "go on with --resume" in run.communicate()[1]
    assert 1 <= read_checkpoint(place / "last.pt")["epoch"] < 2000
    assert not list(place.glob("*.tmp")) and not list(place.glob(".lock"))


def test_a_mistake_is_told_once(data, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(data, tmp_path / "own")
    for path in (tmp_path / "own" / "valid" / "day").glob("*.png"):
        path.unlink()
    arguments = train_arguments(tmp_path / "own", out, VIT)
    run = torchrun(2, arguments)
    _, errors = run.communicate(timeout=120)
    (told,) = [line for line in errors.splitlines() if line.startswith("error")]
    assert run.returncode == 1 and "day holds no picture" in told, errors
    assert not out.exists()


LOST = "[/gloo/transport/tcp/pair.cc:538] Connection closed by peer"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("there is no folder data/igloo"), FileNotFoundError),
        (ValueError("Gloom.png is not a picture"), ValueError),
        (RuntimeError(LOST), ConnectionAbortedError),
        (torch.distributed.DistBackendError("NCCL"), ConnectionAbortedError),
    ],
    ids=["a folder", "a picture", "gloo", "nccl"],
)
def test_only_what_gloo_says_is_the_loss_of_a_process(error, kind, monkeypatch):
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    names = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": 1}
    for name, value in (names | {"RANK": 0, "LOCAL_RANK": 0}).items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(kind) as caught, process_group():
        raise error
    assert (caught.value is error) == (type(error) is kind)


# ---- The weights in its averages, on processes that are threads


def in_processes(parts, function):
    """Return [function(group, part), ...], called at once, with a fake Group for each.

    What one group is asked to sum is summed over all, as between real processes.
    """
    meeting, given = threading.Barrier(len(parts), timeout=30), {}

    class FakeGroup(Group):
        def sum(self, values, device):
            given[self.rank] = values
            meeting.wait()
            total = torch.tensor([given[rank] for rank in sorted(given)]).double()
            meeting.wait()  # nobody gives anew before all have read
            return total.sum(dim=0)

    groups = [FakeGroup(rank, len(parts)) for rank in range(len(parts))]
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(function, groups, parts))


def test_a_share_is_a_part_divided_by_the_mean_part():
    shares = in_processes([3, 2, 7], lambda group, count: group.share(count, "cpu"))
    assert [float(share) for share in shares] == pytest.approx([0.75, 0.5, 1.75])
    assert ALONE.share(5, "cpu") == 1


def samples(count):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(count, 6, generator=generator)
    return X, torch.randint(3, (count,), generator=generator)


def small_model():
    """Return the same model always, even from threads, which share torch's own seed."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    for values in model.parameters():
        nn.init.normal_(values, std=0.5, generator=generator)
    return model


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("sizes", [[3, 2], [1, 6], [2, 2, 5]])
def test_gradients_of_uneven_parts_average_to_the_whole_batchs(sizes, accumulate):
    X, y = samples(sum(sizes))
    models = [small_model() for _ in range(len(sizes) + 1)]

    def learn(update, model, X, y):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        update(model, X, y, nn.CrossEntropyLoss(), optimizer, "cpu")
        return [parameter.grad for parameter in model.parameters()]

    def learn_part(group, part):
        update = Updater(accumulate=accumulate, share=group.share)
        return learn(update, models[group.rank], *part)

    parts = list(zip(X.split(sizes), y.split(sizes), strict=True))
    found = in_processes(parts, learn_part)
    # DistributedDataParallel gives every process the mean over the processes.
    means = [torch.stack(each).mean(dim=0) for each in zip(*found, strict=True)]
    wanted = learn(update_weights, models[-1], X, y)
    torch.testing.assert_close(means, wanted, rtol=0, atol=1e-6)


class Batches(list):
    """Batches (X, y) as a loader has them, which knows how many items they hold."""

    def __init__(self, X, y, size):
        super().__init__(zip(X.split(size), y.split(size), strict=True))
        self.batch_sampler = SimpleNamespace(count=len(y))


def epoch_of(group, train, valid):
    """Train an epoch, in which nothing is learned, and return its row."""
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0)
    made = SimpleNamespace(
        config=SimpleNamespace(epochs=3),
        device="cpu",
        train_dataloader=train,
        valid_dataloader=valid,
        class_names=["a", "b", "c", "never there"],
        model=model,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer, 1),
        update=update_weights,
        group=group,
        loss_fn=nn.CrossEntropyLoss(),
    )
    return train_epoch(made, 2)


def test_an_epoch_of_uneven_batches_on_uneven_parts_is_that_of_all_samples():
    X, y = samples(12)
    model, loss_fn = small_model(), nn.CrossEntropyLoss()
    logits = model(X)
    right = logits.argmax(dim=1) == y
    shares = [right[y == k].double().mean().item() for k in y.unique()]
    balanced = sum(shares) / len(shares)
    loss, acc = loss_fn(logits, y).item(), right.double().mean().item()
    values = {"valid_loss": loss, "valid_acc": acc, "valid_balanced": balanced}
    wanted = {"epoch": 2, "train_loss": loss, "train_acc": acc} | values | {"lr": 0}
    assert epoch_of(ALONE, [(X, y)], [(X, y)]) == pytest.approx(wanted)
    # Of 7 samples batches of 3, 3 and 1; of 5 samples 4 and 1.
    parts = [(Batches(X[:7], y[:7], 3), Batches(X[:2], y[:2], 2))]
    parts.append((Batches(X[7:], y[7:], 4), Batches(X[2:], y[2:], 4)))
    found = in_processes(parts, lambda group, part: epoch_of(group, *part))
    assert found == [pytest.approx(wanted)] * 2


@pytest.mark.parametrize(
    ("batch_size", "train_size", "valid_size"), [(1, 9, 5), (4, 8, 1), (4, 1, 5)]
)
def test_a_process_without_pictures_is_refused(batch_size, train_size, valid_size):
    check_batch_split(ALONE, batch_size, train_size, valid_size)
    with pytest.raises(ValueError, match="too few for 2 processes"):
        check_batch_split(Group(0, 2), batch_size, train_size, valid_size)


@pytest.mark.parametrize(
    ("batch_size", "train_size"), [(4, 9), (2, 5), (8, 9), (4, 8), (4, 10)]
)
def test_a_lone_last_picture_is_no_batch_of_its_own(batch_size, train_size):
    check_batch_split(Group(0, 2), batch_size, train_size, valid_size=2)
    parts = [
        EpochBatches(range(train_size), batch_size, 0, rank=k, size=2) for k in (0, 1)
    ]
    first, second = map(list, parts)
    assert len(first) == len(second) == len(parts[0])  # none is without a part
