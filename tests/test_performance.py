"""Lesson 10: measuring, profiling, counting, and faster ways to learn."""

import copy
import json
import re
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import record_function

from going_modular.commands import profile_command
from going_modular.engine import train, train_step, update_weights
from going_modular.measure import (
    Timing,
    benchmark,
    count_flops,
    list_costs,
    matmul_rate,
    profile_model,
    quartiles,
    speedup,
    synchronize,
)
from going_modular.model_builder import CNNModel, TinyVGG
from going_modular.updates import Updater, compile_model
from going_modular.vit import ViT, ViTConfig
from tests.benchmarks import precision

CPU = torch.device("cpu")


# Measuring


def test_synchronize_takes_any_name_of_a_device():
    synchronize("cpu")
    synchronize(CPU)


def test_benchmark_counts_calls_and_finds_the_faster():
    calls = {"slow": 0, "fast": 0}

    def function(name, seconds):
        calls[name] += 1
        time.sleep(seconds)

    functions = {
        "slow": lambda: function("slow", 0.03),
        "fast": lambda: function("fast", 0.003),
    }
    timings = benchmark(functions, repeats=4, warmup=3, device=CPU)
    assert calls == {"slow": 7, "fast": 7} and list(timings) == ["slow", "fast"]
    assert (
        timings["slow"].median >= 0.03
        and timings["slow"].median > 2 * timings["fast"].median
    )
    for timing in timings.values():
        assert timing.low <= timing.median <= timing.high and len(timing.rounds) == 4


def test_benchmark_changes_the_order_and_leaves_the_seeds_alone():
    order, state = [], torch.get_rng_state()
    benchmark(
        {name: lambda name=name: order.append(name) for name in "abc"},
        repeats=20,
        warmup=0,
        device=CPU,
    )
    rounds = [tuple(order[k : k + 3]) for k in range(0, 60, 3)]
    assert (
        all(sorted(one) == ["a", "b", "c"] for one in rounds) and len(set(rounds)) > 2
    )
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("wrong", [{"functions": {}}, {"repeats": 0}, {"warmup": -1}])
def test_benchmark_refuses(wrong):
    with pytest.raises(ValueError, match="need at least"):
        benchmark(**{"functions": {"nothing": int}} | wrong)


def test_quartiles_of_known_numbers():
    assert quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (3.0, 2.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_speedup_divides_round_by_round():
    before, after = Timing(0, 0, 0, [2.0, 20.0, 4.0]), Timing(0, 0, 0, [1.0, 10.0, 2.0])
    assert speedup(before, after) == (2.0, 2.0, 2.0)


# Profiling


def test_profile_finds_the_expensive_operation_quietly(capfd, tmp_path):
    matrix, vector = torch.rand(300, 300), torch.rand(300)
    trace = tmp_path / "new" / "trace.json"
    rows = profile_model(lambda: (matrix @ matrix) + vector, steps=4, trace=trace)
    assert (
        rows[0]["operation"] == "aten::mm"
        and rows[0]["calls"] == 1
        and rows[0]["ms"] > 0
    )
    assert [row["ms"] for row in rows] == sorted(
        (row["ms"] for row in rows), reverse=True
    )
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"aten::mm", "aten::add"} <= names
    assert capfd.readouterr() == ("", "")


def test_profile_lists_named_blocks_and_may_have_nothing_to_list():
    def step():
        with record_function('mine: a "b"'):
            torch.rand(50, 50) @ torch.rand(50, 50)

    names = {row["operation"] for row in profile_model(step, steps=2)}
    assert {'mine: a "b"', "aten::mm"} <= names
    assert profile_model(int) == []


def average_of(key, cpu, gpu, kind="CPU"):
    """Return what the profiler says of an operation: microseconds of four calls."""
    return SimpleNamespace(
        key=key,
        is_user_annotation=key == "mine",
        self_cpu_time_total=cpu,
        self_device_time_total=gpu,
        count=4,
        device_type=SimpleNamespace(name=kind),
    )


def test_costs_of_a_gpu_are_those_of_operations_alone():
    averages = [
        average_of("aten::mm", 10, 300),
        average_of("cudaLaunchKernel", 50, 0),
        average_of("cudaDeviceSynchronize", 900, 0),
        average_of("Activity Buffer Request", 500, 700),
        average_of("mine", 5, 0),
        average_of("mine", 0, 100, "CUDA"),
        average_of("sgemm", 0, 300, "CUDA"),
        average_of("MyFunction", 3, 100),
    ]
    kinds = {
        "aten::mm": "cpu_op",
        "MyFunction": "cpu_op",
        "mine": "user_annotation",
        "cudaLaunchKernel": "cuda_runtime",
        "cudaDeviceSynchronize": "cuda_runtime",
        "Activity Buffer Request": "overhead",
        "sgemm": "kernel",
    }
    events = [{"name": name, "cat": kind} for name, kind in kinds.items()]
    events.append({"name": "process_name", "ph": "M"})
    found = [tuple(row.values()) for row in list_costs(averages, events, 2)]
    wanted = [("aten::mm", 2, 0.15, 0.75), ("MyFunction", 2, 0.05, 0.25)]
    assert found == [*wanted, ("mine", 2, 0, 0)]


def test_profile_refuses_no_steps():
    with pytest.raises(ValueError, match="0 steps"):
        profile_model(int, steps=0)


def test_profile_refuses_a_trace_to_compress_before_the_work(tmp_path):
    def step():
        raise AssertionError("the work has begun")

    with pytest.raises(ValueError, match=r"b\.json\.gz would be compressed"):
        profile_model(step, trace=tmp_path / "b.json.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_fails_leaves_no_trace(tmp_path):
    with pytest.raises(ValueError, match="does not divide image_size 33"):
        profile_command(str(tmp_path / "a.json"), model="vit", image_size=33)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unfreeze", [0, 2])
def test_a_profile_says_what_its_flops_leave_out(unfreeze, capsys):
    sizes = {"model": "effnet_lite0", "image_size": 32, "batch_size": 2}
    profile_command(unfreeze=unfreeze, **sizes)
    left_out = "without the backward pass of the blocks set free"
    assert (left_out in capsys.readouterr().out) == bool(unfreeze)


# Counting


def test_flops_of_a_linear_layer_and_a_convolution():
    assert count_flops(nn.Linear(30, 20), torch.rand(5, 30)) == 2 * 5 * 30 * 20
    convolution = nn.Conv2d(3, 8, kernel_size=5, padding=2, stride=2)
    assert (
        count_flops(convolution, torch.rand(4, 3, 16, 16)) == 2 * 4 * 8 * 8 * 8 * 3 * 25
    )


def test_flops_of_attention_are_counted_on_the_cpu_too():
    class Attention(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x)

    assert count_flops(Attention(), torch.rand(2, 3, 10, 8)) == 2 * (
        2 * 2 * 3 * 10 * 10 * 8
    )


def test_flops_of_pytorchs_own_encoder_are_those_of_its_products():
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    N, D, M = 17, 64, 128
    by_hand = 2 * (2 * N * D * 4 * D + 2 * 2 * N * N * D + 2 * 2 * N * D * M)
    was_fast = torch.backends.mha.get_fastpath_enabled()
    assert count_flops(model, torch.rand(2, N, D)) == by_hand
    with pytest.raises(AssertionError):
        count_flops(model, torch.rand(2, N, D + 1))
    assert torch.backends.mha.get_fastpath_enabled() == was_fast


def test_flops_of_a_vit_by_hand_and_its_mode_is_kept():
    config = ViTConfig(
        image_size=12,
        patch_size=4,
        num_classes=5,
        embed_dim=16,
        depth=1,
        num_heads=2,
        mlp_dim=24,
    )
    model, N, D, M = ViT(config).train(), 10, 16, 24
    first = 2 * 9 * (3 * 16) * D  # the patches' projection
    attention = (
        2 * N * D * 3 * D + 2 * 2 * N * D + 2 * D * D
    )  # the last block has only the class token's outputs
    by_hand = 3 * (first + attention + 2 * 2 * D * M + 2 * D * 5)
    assert count_flops(model, torch.rand(3, 3, 12, 12)) == by_hand
    assert model.training


def test_flops_grow_with_the_batch():
    model = CNNModel()
    assert count_flops(model, torch.rand(6, 1, 28, 28)) == 3 * count_flops(
        model, torch.rand(2, 1, 28, 28)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matmul_rate_is_that_of_a_computer(dtype):
    assert 1e7 < matmul_rate(CPU, dtype, size=256) < 1e16


# Updater


def make(batch_norm=False, seed=0):
    """Return a small network for (B, 3, 8, 8), its optimizer, and its loss."""
    torch.manual_seed(seed)
    norm = [nn.BatchNorm2d(4)] if batch_norm else []
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), *norm, nn.Tanh(), nn.Flatten(), nn.Linear(144, 5)
    )
    return (
        model,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        nn.CrossEntropyLoss(),
    )


def batch(size, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 8, 8, generator=draw), torch.randint(
        5, (size,), generator=draw
    )


def gradients(update, X, y, max_norm=None):
    model, optimizer, loss_fn = make()
    outputs, labels, loss = update(model, X, y, loss_fn, optimizer, "cpu", max_norm)
    return [p.grad for p in model.parameters()], outputs, labels, loss


def test_an_updater_without_extras_is_the_engines_update():
    for first, second in zip(
        gradients(Updater(), *batch(32)),
        gradients(update_weights, *batch(32)),
        strict=True,
    ):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("max_norm", [None, 0.1])
@pytest.mark.parametrize(
    ("size", "parts"), [(128, 4), (100, 4), (10, 4), (7, 3), (2, 4), (128, 128)]
)
def test_parts_give_the_gradients_of_the_whole_batch(size, parts, max_norm):
    whole = gradients(update_weights, *batch(size), max_norm)
    found = gradients(Updater(accumulate=parts), *batch(size), max_norm)
    for first, second in zip(found, whole, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_parts_let_the_engine_learn_the_same_with_an_incomplete_last_batch():
    X, y = batch(300)
    batches = list(zip(X.split(128), y.split(128), strict=True))  # 128, 128, 44
    losses = {}
    for parts in (1, 4):
        model, optimizer, loss_fn = make()
        losses[parts] = [
            train_step(
                model,
                batches,
                loss_fn,
                optimizer,
                "cpu",
                update=Updater(accumulate=parts),
            )
            for _ in range(3)
        ]
    torch.testing.assert_close(losses[4], losses[1], rtol=0, atol=1e-6)


def test_batch_norm_sees_the_parts():
    X, y = batch(64)
    found = []
    for parts in (1, 4):
        model, optimizer, loss_fn = make(batch_norm=True)
        Updater(accumulate=parts)(model, X, y, loss_fn, optimizer, "cpu")
        found.append(model[0].weight.grad)
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16", "bf16_weights"])
@pytest.mark.parametrize("parts", [1, 3])
def test_half_the_bits_give_nearly_the_same_gradients(precision, parts):
    whole, _, _, loss = gradients(update_weights, *batch(32))
    found, outputs, _, half_loss = gradients(Updater(precision, parts), *batch(32))
    assert outputs.dtype == half_loss.dtype == torch.float32
    torch.testing.assert_close(half_loss, loss, rtol=0.02, atol=0.02)
    for first, second in zip(found, whole, strict=True):
        torch.testing.assert_close(first, second, rtol=0.1, atol=0.01)


def test_the_scaler_skips_an_overflow_and_recovers():
    model, optimizer, loss_fn = make()
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    updater = Updater("fp16")
    updater.scaler.scale(torch.ones(1))  # it sets itself up at first use
    updater.scaler.update(2.0**32)
    before = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings(action="error"):
        train_step(
            model,
            [batch(64)],
            loss_fn,
            optimizer,
            "cpu",
            scheduler=scheduler,
            update=updater,
        )
        assert updater.scaler.get_scale() == 2.0**31
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        options = {"scheduler": scheduler, "update": updater, "max_norm": 1.0}
        losses = [
            train_step(model, [batch(64)], loss_fn, optimizer, "cpu", **options)[0]
            for _ in range(40)
        ]
    assert updater.scaler.get_scale() <= 2.0**24
    assert losses[0] == losses[1] and losses[-1] < 0.7 * losses[0]


def test_labels_outside_the_classes_are_named_in_any_part():
    model, optimizer, loss_fn = make()
    X, y = batch(16)
    y[13] = 7
    with pytest.raises(ValueError, match="label 7 does not fit"):
        Updater(accumulate=4)(model, X, y, loss_fn, optimizer, "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("fp8",), "unknown precision 'fp8'"), (("fp32", 0), "accumulate is 0")],
)
def test_what_an_updater_cannot_do_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Updater(*arguments)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "bf16_weights"])
def test_the_engine_trains_with_an_updater(precision):
    torch.manual_seed(0)
    model, X, y = (
        TinyVGG(1, 4, 2, image_size=28),
        torch.rand(64, 1, 28, 28),
        torch.arange(64) % 2,
    )
    batches = [
        (X[k : k + 20] * (1 + y[k : k + 20, None, None, None]), y[k : k + 20])
        for k in range(0, 64, 20)
    ]
    optimizer, update = (
        torch.optim.AdamW(model.parameters(), lr=1e-2),
        Updater(precision, accumulate=3),
    )
    results = train(
        model, batches, batches, optimizer, nn.CrossEntropyLoss(), 8, CPU, update=update
    )
    assert results["train_loss"][-1] < 0.7 * results["train_loss"][0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


class Tied(nn.Module):
    """One matrix for words that come in and for those that go out."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, X):
        return self.head(self.words(X).tanh().mean(1))


class Scaled(nn.Module):
    """A network that computes with buffers, of floats and of numbers of places."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 5)
        self.register_buffer("table", torch.linspace(-1, 1, 30).reshape(5, 6))
        self.register_buffer("order", torch.arange(5).flip(0))

    def forward(self, X):
        return self.head(X) @ self.head(self.table)[self.order]


def small_vit():
    size = {"image_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 16}
    model = ViT(ViTConfig(**size, depth=2, num_heads=2, mlp_dim=32))
    nn.init.normal_(model.head.weight, std=0.1)
    return model


ROUNDED = {
    "vit": (small_vit, lambda: torch.randn(12, 3, 8, 8)),
    "tied words": (Tied, lambda: torch.randint(7, (12, 4))),
    "group norm": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Tanh(), nn.Flatten()
        ),
        lambda: torch.randn(12, 3, 5, 5),
    ),
    "batch norm": (lambda: make(batch_norm=True)[0], lambda: torch.randn(12, 3, 8, 8)),
    "buffers": (Scaled, lambda: torch.randn(12, 6)),
}


def learn(precision, kind, steps=1, accumulate=1, start=None, wrap=None):
    """Return a model of ROUNDED and its AdamW after steps on the same batch."""
    build, draw = ROUNDED[kind]
    torch.manual_seed(0)
    model, X = build(), draw()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if start:
        model.load_state_dict(start[0])
        optimizer.load_state_dict(start[1])
    forward = wrap(model) if wrap else None
    update = Updater(precision, accumulate, forward=forward)
    for _ in range(steps):
        update(model, X, torch.arange(12) % 5, F.cross_entropy, optimizer, "cpu", 1.0)
    return model, optimizer


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kind", ROUNDED)
def test_rounded_weights_give_gradients_that_differ_by_rounding(kind):
    found, whole = (gradient(learn(p, kind)[0]) for p in ("bf16_weights", "fp32"))
    assert found.dtype == torch.float32
    # A dozen roundings in a row, of 2**-8 each at most, some of them amplified.
    assert 0 < relative(found, whole) < 16 * 2**-8


@pytest.mark.parametrize("kind", ["vit", "tied words", "group norm"])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_rounded_weights_add_up_parts_in_float32(kind, parts):
    found, whole = (
        gradient(learn("bf16_weights", kind, accumulate=count)[0])
        for count in (parts, 1)
    )
    assert relative(found, whole) < 4 * 2**-8


@pytest.mark.parametrize("kind", ROUNDED)
def test_a_training_with_rounded_weights_resumes_in_every_bit(kind):
    whole, _ = learn("bf16_weights", kind, 4)
    half, optimizer = learn("bf16_weights", kind, 2)
    kept = half.state_dict(), optimizer.state_dict()
    tensors = [*half.parameters(), *half.buffers()]
    assert {t.dtype for t in tensors} <= {torch.float32, torch.int64}
    resumed, _ = learn("bf16_weights", kind, 2, start=copy.deepcopy(kept))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_steps_too_small_for_bfloat16_add_up_in_float32():
    model = nn.Linear(4, 3)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    update, X, y = Updater("bf16_weights"), torch.ones(6, 4), torch.zeros(6).long()
    for _ in range(50):
        before = model.weight.detach().clone()
        update(model, X, y, F.cross_entropy, optimizer, "cpu")
        if torch.equal(before.bfloat16(), model.weight.bfloat16()):
            assert not torch.equal(before, model.weight)
    assert model.weight[0].min() > 1.01


@pytest.mark.parametrize("kind", ["vit", "tied words", "group norm"])
@pytest.mark.parametrize("parts", [1, 3])
def test_rounded_weights_learn_within_distributed_data_parallel(kind, parts, tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrap = nn.parallel.DistributedDataParallel
        found, _ = learn("bf16_weights", kind, 2, parts, wrap=wrap)
    finally:
        torch.distributed.destroy_process_group()
    alone, _ = learn("bf16_weights", kind, 2, parts)
    for first, second in zip(found.parameters(), alone.parameters(), strict=True):
        assert torch.equal(first, second)


def test_compile_model_says_where_it_cannot(monkeypatch):
    def no_compiler(function):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(ValueError, match="cannot compile"):
        compile_model(nn.Linear(2, 2), CPU)


def test_whatever_stands_in_for_the_model_is_called():
    class Wrapped(nn.Module):
        """As torch.compile's: with a length only if the model has one."""

        def __init__(self, model):
            super().__init__()
            self.model, self.calls = model, 0

        def __len__(self):
            raise TypeError("no len()")

        def forward(self, X):
            self.calls += 1
            return self.model(X)

    model, optimizer, loss_fn = make()
    forward = Wrapped(model)
    Updater(accumulate=3, forward=forward)(model, *batch(9), loss_fn, optimizer, "cpu")
    assert forward.calls == 3


# The benchmarks


def printed_by(root, script):
    """Return what a script of tests/benchmarks prints, in a fresh process."""
    path = root / "tests" / "benchmarks" / script
    command = [sys.executable, str(path)]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def test_an_epoch_and_a_prediction_pass_through_few_functions(root):
    lines = printed_by(root, "functions.py").splitlines()
    totals = {"epoch": 0, "prediction": 0}
    for line in lines:
        if match := re.match(r"(\w+): (\d+) functions in \d+ modules", line):
            name, told = match[1], int(match[2])
            totals[name] = told
    listed = sum(line.count(", ") + 1 for line in lines if line.startswith("    "))
    assert listed == sum(totals.values())
    assert 10 < totals["epoch"] <= 82 and 5 < totals["prediction"] <= 28


def test_the_help_takes_less_than_half_a_second(root):
    assert 0 < float(printed_by(root, "help.py")) < 0.5


def test_the_table_for_gpus_can_be_made_on_a_cpu(capsys):
    table = precision.main(["--tiny"])
    assert {
        "float32",
        "bfloat16 autocast",
        "+ fused AdamW",
        "+ 4 times the batch",
    } <= table.keys()
    printed = capsys.readouterr().out
    assert printed.count("| float32 |") == 1 and "TFLOP/s" in printed
    assert all(
        timing.median > 0 for timings in table.values() for timing in timings.values()
    )
