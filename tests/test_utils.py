"""Seeds, the device, tensors in one line, probabilities, and lesson 00's figure."""

import os
import random
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from going_modular.utils import class_probs, describe, get_device, set_seeds
from illustrations.tensors import plot_grids


def draws() -> tuple[float, float, torch.Tensor, torch.Tensor]:
    on_device = torch.rand(3, device=get_device()).cpu()
    return random.random(), float(np.random.rand()), torch.rand(3), on_device


def test_set_seeds_reproduces_python_numpy_and_torch():
    set_seeds(7)
    first = draws()
    set_seeds(7)
    second = draws()
    set_seeds(8)
    other = draws()
    assert (
        first[:2] == second[:2]
        and torch.equal(first[2], second[2])
        and torch.equal(first[3], second[3])
    )
    assert all(a != b for a, b in zip(first[:2], other[:2], strict=True))
    assert not torch.equal(first[2], other[2]) and not torch.equal(first[3], other[3])


def test_set_seeds_defaults_to_42():
    set_seeds()
    first = torch.rand(3)
    set_seeds(42)
    assert torch.equal(first, torch.rand(3))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_set_seeds_refuses_what_numpy_cannot_take_and_changes_nothing(seed):
    set_seeds(1)
    expected = draws()[:2]
    set_seeds(1)
    with pytest.raises(ValueError, match=f"{seed}.*0 to 4294967295"):
        set_seeds(seed)
    assert draws()[:2] == expected


@pytest.fixture
def free_choice(monkeypatch):
    monkeypatch.delenv("GOING_MODULAR_DEVICE", raising=False)


def test_get_device_is_usable_and_the_best(free_choice):
    device = get_device()
    assert isinstance(device, torch.device)
    assert torch.ones(2, device=device).sum().item() == 2
    assert (device.type == "cuda") == torch.cuda.is_available()


@pytest.mark.parametrize("best", ["cuda", "mps", "cpu"])
def test_get_device_on_every_machine(free_choice, monkeypatch, best):
    def current_accelerator(check_available=False):
        assert check_available  # else it names what torch was built for
        return None if best == "cpu" else torch.device(best)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: best == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: best == "mps")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", current_accelerator)
    monkeypatch.setattr(torch, "empty", lambda *_, device: None)  # any can be used
    assert get_device().type == best
    monkeypatch.setenv("GOING_MODULAR_DEVICE", "meta")
    assert get_device() == torch.device("meta")


@pytest.mark.parametrize("name", ["hpu", "privateuseone"])
def test_get_device_refuses_what_torch_has_no_module_for(name):
    with pytest.raises(ValueError, match=f"device is '{name}': choose .*, or cpu"):
        get_device(name)


@pytest.fixture
def found_determinism(monkeypatch):
    """Put PyTorch's settings back as they were."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    found = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(found)
    torch.backends.cudnn.benchmark = cudnn


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("wanted", [None, False, True])
def test_set_seeds_asks_for_equal_bits_or_leaves_it(found_determinism, before, wanted):
    torch.use_deterministic_algorithms(before)
    torch.backends.cudnn.benchmark = True
    set_seeds(3, deterministic=wanted)
    enabled = torch.are_deterministic_algorithms_enabled()
    assert enabled == (before if wanted is None else wanted)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.benchmark == (wanted is not True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_set_seeds_keeps_the_workspace_that_is_set(found_determinism, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_seeds(3, deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.zeros(2, 3), "(2, 3) float32 on cpu, 24 bytes"),
        (torch.tensor(1), "() int64 on cpu, 8 bytes"),
        (torch.zeros(4, dtype=torch.bool), "(4,) bool on cpu, 4 bytes"),
        (torch.zeros(0, 5, dtype=torch.bfloat16), "(0, 5) bfloat16 on cpu, 0 bytes"),
        (
            torch.zeros(10, 3, 32, 32, dtype=torch.uint8),
            "(10, 3, 32, 32) uint8 on cpu, 30,720 bytes",
        ),
        (
            torch.zeros(2, dtype=torch.float64, device="meta"),
            "(2,) float64 on meta, 16 bytes",
        ),
        (torch.zeros(2, requires_grad=True), "(2,) float32 on cpu, 8 bytes"),
    ],
)
def test_describe(tensor, expected):
    assert describe(tensor) == expected


@pytest.mark.parametrize("thing", [[1, 2], np.ones(2), 3.0, None])
def test_describe_refuses_what_is_no_tensor(thing):
    with pytest.raises(TypeError, match=f"got {type(thing).__name__}.*torch.as_tensor"):
        describe(thing)


@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_class_probs(num_classes):
    logits = 5 * torch.randn(7, num_classes)
    probs = class_probs(logits)
    if num_classes == 1:
        assert probs.shape == (7, 2)
        torch.testing.assert_close(probs[:, 1:], torch.sigmoid(logits))
    else:
        torch.testing.assert_close(probs, torch.softmax(logits, dim=1))
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(7))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_class_probs_of_another_shape(shape):
    with pytest.raises(ValueError, match=re.escape(f"the logits are {shape}")):
        class_probs(torch.zeros(shape))


def test_plot_grids_writes_every_number_and_pales_what_is_repeated():
    column = torch.tensor([[0.0], [10.0]], requires_grad=True)
    grids = {"stretched": column.expand(2, 3), "vector": torch.arange(4)}
    figure = plot_grids(grids | {"flags": torch.ones(1, 1) > 0}, title="t")
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert texts[0] == [*"000", "10", "10", "10", "dim 1", "dim 0"]
    assert texts[1] == [*"0123", "dim 0"]
    stretched = figure.axes[0]
    shades = np.asarray(stretched.collections[0].get_array()).reshape(2, 3)
    assert (shades[:, 0] > shades[:, 1]).all() and (shades[:, 1] == shades[:, 2]).all()
    assert stretched.yaxis_inverted() and figure.get_suptitle() == "t"
    plt.close(figure)


def test_plot_grids_refuses_other_numbers_of_axes():
    with pytest.raises(ValueError, match="one or two axes, got {'cube': 3}"):
        plot_grids({"fine": torch.ones(2), "cube": torch.ones(2, 2, 2)})
