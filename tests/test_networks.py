"""The registry: torchvision's networks by name, their sizes, weights and refusals."""

import re
import shutil

import pytest
import torch
from torchvision import models

from going_modular.__main__ import main
from going_modular.config import Config
from going_modular.networks import NETWORKS, blueprint
from going_modular.states import load_weights
from going_modular.utils import set_seeds
from tests.folders import weights_of, write_pictures


def config_of(name, image_size=64, **more):
    return Config(model=f"torchvision:{name}", image_size=image_size, **more)


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("mobilenet_v3_small", 64),
        ("vit_b_32", 96),
        ("inception_v3", 96),
        ("googlenet", 64),
        ("regnet_y_400mf", 64),
        ("squeezenet1_1", 64),
        ("densenet121", 64),
        ("efficientnet_v2_l", 64),
        ("maxvit_t", 224),
    ],
)
def test_any_classification_network_of_torchvision_is_known(name, image_size):
    network, model = blueprint(config_of(name, image_size), 5)
    images = torch.empty(2, 3, image_size, image_size, device="meta")
    assert model.to("meta").train()(images).shape == (2, 5)
    expected = models.get_model_weights(name).DEFAULT.transforms()
    assert (network.mean, network.std) == (expected.mean, expected.std)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:fasterrcnn_resnet50_fpn",
        "torchvision:deeplabv3_resnet50",
        "torchvision:r3d_18",
        "torchvision:quantized_resnet18",
        "torchvision:resnet19",
        "torchvision:",
        "resnet18",
        "timm:resnet18",
    ],
)
def test_all_else_is_refused_with_names_to_choose_from(name):
    with pytest.raises(ValueError, match="unknown model") as refusal:
        blueprint(Config(model=name))
    message = str(refusal.value)
    assert name in message and "\n" not in message
    assert "tinyvgg" in message and "torchvision:resnet18" in message


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("alexnet", 32),
        ("inception_v3", 64),
        ("vit_b_16", 100),
        ("vit_h_14", 64),
        ("maxvit_t", 96),
    ],
)
def test_a_size_that_does_not_fit_is_refused_in_one_line(name, image_size):
    with pytest.raises(ValueError, match=f"{name} does not go with image_size") as no:
        blueprint(config_of(name, image_size))
    assert str(image_size) in str(no.value) and "\n" not in str(no.value)


@pytest.mark.parametrize("name", ["tinyvgg", "torchvision:regnet_x_400mf"])
def test_a_blueprint_leaves_the_random_state_alone(name):
    set_seeds(1)
    expected = torch.rand(1)
    set_seeds(1)
    blueprint(Config(model=name))
    assert torch.equal(torch.rand(1), expected)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Torch's folder for weights, empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("name", "image_size", "anew"),
    [
        ("resnet18", 64, {"fc"}),
        ("mnasnet0_5", 64, {"classifier"}),
        ("squeezenet1_1", 64, {"classifier"}),
        ("inception_v3", 96, {"fc"}),
        ("vit_b_32", 64, {"heads", "encoder"}),  # other positions than at 224 pixels
    ],
)
def test_weights_in_torchs_cache_are_taken_and_stand_still(
    name, image_size, anew, cache
):
    options = {"init_weights": False} if name.startswith("inception") else {}
    known = models.get_model(name, **options)
    file = models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    torch.save(known.state_dict(), cache / file)
    config = config_of(name, image_size)
    model = NETWORKS[config.model].pretrained(config, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    assert {key.partition(".")[0] for key in trained} == anew and len(trained) <= 3
    model.train()(torch.rand(2, 3, image_size, image_size))
    for key, value in model.state_dict().items():
        if key not in trained:
            torch.testing.assert_close(value, known.state_dict()[key], rtol=0, atol=0)
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_without_weights_a_training_begins_untrained_and_says_so(cache, capsys):
    config = config_of("mobilenet_v3_small")
    model = NETWORKS[config.model].pretrained(config, 3)
    assert all(weight.requires_grad for weight in model.parameters())
    (line,) = capsys.readouterr().err.splitlines()
    assert "begins untrained" in line and str(cache) in line and "https://" in line


def densenets_older_names(state):
    """Return a state dict with the names in torchvision's files of DenseNets."""
    name = r"(denselayer\d+\.(?:norm|conv))([12])\."
    return {re.sub(name, r"\1.\2.", key): value for key, value in state.items()}


def without_counts(state):
    return {key: state[key] for key in state if "num_batches" not in key}


@pytest.mark.parametrize(
    ("name", "change", "unfreeze"),
    [
        ("resnet18", without_counts, 0),
        ("densenet121", densenets_older_names, 0),
        ("googlenet", dict, 0),  # two auxiliary heads more than ours
        ("mobilenet_v3_small", dict, 2),
    ],
)
def test_a_file_of_imagenets_weights_is_a_body(name, change, unfreeze, cache, tmp_path):
    options = {"init_weights": False} if name == "googlenet" else {}
    known = models.get_model(name, **options).state_dict()
    torch.save(change(known), tmp_path / "by_hand.pth")
    config = config_of(
        name, 64, weights=str(tmp_path / "by_hand.pth"), unfreeze=unfreeze
    )
    model = NETWORKS[config.model].pretrained(config, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    (note,) = load_weights(config, model, ["a", "b", "c"])
    assert "the last layer begins anew" in note
    new = {key for key in before if before[key].shape != known[key].shape}
    assert 0 < len(new) <= 2
    for key, value in model.state_dict().items():
        wanted = before if key in new or "num_batches" in key else known
        torch.testing.assert_close(value, wanted[key], rtol=0, atol=0)
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    assert trained == new if not unfreeze else trained > new
    assert len(trained) < len(list(model.parameters()))


def test_what_stood_still_does_so_after_an_interruption(cache, tmp_path):
    data = write_pictures(tmp_path / "data", ("a", "b"), {"train": 8, "valid": 4})
    torch.save(models.get_model("resnet18").state_dict(), tmp_path / "given.pth")
    more = "--model torchvision:resnet18 --image-size 32 --augment none --batch-size 8"
    more += f" --schedule constant --data {data} --weights {tmp_path / 'given.pth'}"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["train", "--out", str(whole), "--epochs", "2", *more.split()]) == 0
    assert main(["train", "--out", str(cut), "--epochs", "1", *more.split()]) == 0
    (tmp_path / "given.pth").unlink()  # it has its own by now
    assert main(["train", "--out", str(cut), "--resume", "--epochs", "2"]) == 0
    found, wanted = weights_of(cut, "last.pt"), weights_of(whole, "last.pt")
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("was_there", [True, False])
def test_a_training_goes_on_only_with_the_same_weights_in_torchs_cache(
    cache, tmp_path, capsys, was_there
):
    data = write_pictures(tmp_path / "data", ("a", "b"), {"train": 4, "valid": 4})
    file = cache / "shufflenetv2_x0.5-f707e7126e.pth"
    torch.save(models.get_model("shufflenet_v2_x0_5").state_dict(), tmp_path / "kept")
    more = ["--model", "torchvision:shufflenet_v2_x0_5", "--image-size", "32"]
    more += ["--data", str(data), "--out", str(tmp_path / "run"), "--resume"]
    for epochs, is_there in (("1", was_there), ("2", not was_there), ("2", was_there)):
        file.unlink(missing_ok=True)
        if is_there:
            shutil.copy(tmp_path / "kept", file)
        capsys.readouterr()
        status = main(["train", "--epochs", epochs, *more])
        assert status == (0 if is_there == was_there else 2)
        told = "other trainable ("
        assert (told in capsys.readouterr().err) == (status == 2)


@pytest.mark.parametrize("other", ["resnet34", "resnet50", "mobilenet_v2"])
def test_a_file_of_another_network_is_no_body(other, cache, tmp_path):
    torch.save(models.get_model(other).state_dict(), tmp_path / "other.pth")
    config = config_of("resnet18", 64, weights=str(tmp_path / "other.pth"))
    model = NETWORKS[config.model].pretrained(config, 3)
    with pytest.raises(ValueError, match=r"other\.pth holds the weights of another"):
        load_weights(config, model, ["a", "b", "c"])


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\3\4 and no more"])
def test_a_damaged_file_of_weights_is_refused(content, cache):
    (cache / "resnet18-f37072fd.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth holds no plain"):
        NETWORKS["torchvision:resnet18"].pretrained(config_of("resnet18"), 3)
