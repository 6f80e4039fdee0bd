"""Lesson 03: the Fashion-MNIST loaders, the CNNs, the figures and ``predict``."""

import gzip
import shutil
import socket
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchvision import transforms
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

import helper_functions
from going_modular.datasets import (
    FashionMNISTTensors,
    as_is,
    create_fashion_mnist_dataloaders,
)
from going_modular.engine import predict
from going_modular.going_modular import data_setup, engine, model_builder, utils
from going_modular.model_builder import CNNModel, TinyVGG
from going_modular.plots import plot_images
from illustrations.results import plot_feature_maps
from tests.folders import write_pictures

ARCHIVES = [name for name, _ in FashionMNIST.resources]


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture(scope="module")
def pictures(root):
    return FashionMNISTTensors(root / "data", train=False)


@pytest.fixture
def copy_of_data(root, tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(root / "data" / "FashionMNIST" / "raw" / name, raw)
    return tmp_path


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("train", [True, False])
def test_samples_equal_torchvisions(root, train):
    data = root / "data"
    reference = FashionMNIST(data, train=train, download=True, transform=ToTensor())
    ours = FashionMNISTTensors(data, train=train)
    assert len(ours) == len(reference) == (60_000 if train else 10_000)
    assert ours.classes == reference.classes
    assert torch.equal(ours.labels, reference.targets)
    assert torch.equal(ours.images[:, 0], reference.data)
    for index in [*range(40), -1, len(ours) - 1]:
        (image, label), (expected, expected_label) = ours[index], reference[index]
        assert torch.equal(image, expected) and image.dtype == expected.dtype
        assert label == expected_label and type(label) is int


def test_a_batch_equals_its_samples(pictures):
    indices = [5, 0, 9_999, 5]
    images, labels = pictures.__getitems__(indices)
    assert images.shape == (4, 1, 28, 28) and images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(images, torch.stack([pictures[i][0] for i in indices]))
    assert labels.tolist() == [pictures[i][1] for i in indices]
    assert pictures.images.dtype == torch.uint8 and pictures.images.max() == 255


def test_an_index_too_large_is_an_index_error(pictures):
    with pytest.raises(IndexError):
        pictures[10_000]


def test_parts_of_the_dataset_load_in_batches_too(pictures):
    part, _ = random_split(pictures, [10, 9_990])
    loader = DataLoader(part, batch_size=4, collate_fn=as_is)
    assert [(len(X), len(y)) for X, y in loader] == [(4, 4), (4, 4), (2, 2)]


def test_dataloaders(root, no_network):
    loaders = create_fashion_mnist_dataloaders(root / "data", batch_size=1_024)
    train_dataloader, test_dataloader, class_names = loaders
    assert class_names[0] == "T-shirt/top" and class_names[9] == "Ankle boot"
    assert len(class_names) == 10
    assert len(train_dataloader) == 59 and len(test_dataloader) == 10
    first, second = (torch.cat([y for _, y in train_dataloader]) for _ in range(2))
    assert len(first) == 60_000 and first.bincount().tolist() == [6_000] * 10
    assert not torch.equal(first, second)  # a new order each epoch
    labels = torch.cat([y for _, y in test_dataloader])  # in their own order
    assert torch.equal(labels, test_dataloader.dataset.labels)
    X, _ = next(iter(test_dataloader))
    assert X.shape == (1_024, 1, 28, 28) and X.min() == 0 and X.max() == 1


def test_the_seed_alone_decides_the_order(root):
    def order(seed):
        torch.rand(3)  # a draw from the global generator changes nothing
        loader, *_ = create_fashion_mnist_dataloaders(root / "data", 256, seed)
        return next(iter(loader))[1]

    assert torch.equal(order(1), order(1)) and not torch.equal(order(1), order(2))


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_missing_archive_is_named(copy_of_data, no_network, name):
    (copy_of_data / "FashionMNIST" / "raw" / name).unlink()
    problem = rf"{name} is missing.*git checkout -- data/FashionMNIST"
    with pytest.raises(OSError, match=problem):
        create_fashion_mnist_dataloaders(copy_of_data)


def flip_a_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "one byte": flip_a_bit,
    "another archive": lambda content: gzip.compress(b"other"),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_named(copy_of_data, no_network, name, damage):
    path = copy_of_data / "FashionMNIST" / "raw" / name
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    problem = rf"{name} is missing, or damaged.*git checkout -- data/FashionMNIST"
    with pytest.raises(OSError, match=problem):
        create_fashion_mnist_dataloaders(copy_of_data)
    path.write_bytes(content)  # once restored, nothing half unpacked is in the way
    is_train = name.startswith("train")
    restored = FashionMNISTTensors(copy_of_data, train=is_train)
    assert len(restored) == (60_000 if is_train else 10_000)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(ARCHIVES)


def test_what_torchvision_left_half_unpacked_does_no_harm(copy_of_data, no_network):
    raw = copy_of_data / "FashionMNIST" / "raw"
    for name in ARCHIVES:
        (raw / name.removesuffix(".gz")).write_bytes(b"half")
    assert len(FashionMNISTTensors(copy_of_data, train=False)) == 10_000


def test_tiny_vgg_parameters():
    assert count_parameters(TinyVGG(1, 10, 10, image_size=28)) == 4_440
    # The widely used version: 64 × 64 pixels, a classifier from hidden_units * 13 * 13.
    known = TinyVGG(3, 10, 3)
    assert known.classifier[1].in_features == 10 * 13 * 13
    convolutions = (3 * 9 + 1) * 10 + 3 * (10 * 9 + 1) * 10
    assert count_parameters(known) == convolutions + (1690 + 1) * 3


@pytest.mark.parametrize("image_size", [16, 17, 28, 31, 32, 64])
def test_tiny_vgg_sizes(image_size):
    images = torch.rand(2, 3, image_size, image_size)
    assert TinyVGG(3, 4, 7, image_size=image_size)(images).shape == (2, 7)


@pytest.mark.parametrize("image_size", [-1, 0, 4, 15])
def test_tiny_vgg_too_small(image_size):
    problem = f"image_size {image_size} is too small, at least 16"
    with pytest.raises(ValueError, match=problem):
        TinyVGG(1, 10, 10, image_size=image_size)


def test_cnn_model_parameters():
    model = CNNModel()
    first = 16 * 9 + 2 * 16  # one convolution and its batch norm
    stages = sum(9 * o * (i + o) + 4 * o for i, o in ((16, 32), (32, 64)))
    assert count_parameters(model) == first + stages + 64 * 3 * 3 * 10 + 10 == 75_450
    for stage, i, o in zip(model.features, (1, 16, 32), (16, 32, 64), strict=True):
        assert stage(torch.rand(1, i, 8, 8)).shape == (1, o, 4, 4)


@pytest.mark.parametrize("image_size", [8, 9, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_cnn_model_sizes(image_size, channels):
    model = CNNModel(channels, 5, image_size=image_size).eval()
    assert model(torch.rand(2, channels, image_size, image_size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("image_size", "widths"), [(7, (16, 32, 64)), (0, (4,)), (-8, (4, 4, 4))]
)
def test_cnn_model_too_small(image_size, widths):
    with pytest.raises(ValueError, match=rf"image_size {image_size}"):
        CNNModel(widths=widths, image_size=image_size)


@pytest.mark.parametrize(
    "build",
    [lambda: CNNModel(), lambda: TinyVGG(1, 4, 10, image_size=28)],
    ids=["cnn", "vgg"],
)
@pytest.mark.parametrize(
    "shape", [(2, 1, 32, 32), (2, 3, 28, 28), (1, 28, 28), (28, 28), (2, 1, 28, 27)]
)
def test_images_of_another_shape_are_refused(build, shape):
    with pytest.raises(ValueError) as caught:
        build()(torch.zeros(shape))
    message = str(caught.value)
    assert "(B, 1, 28, 28)" in message and str(shape) in message


def test_cnn_model_learns_in_channels_last_as_in_any_layout():
    torch.manual_seed(0)
    models = [CNNModel(dropout=0.0) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    models[1].to(memory_format=torch.channels_last)
    X, y = torch.rand(8, 1, 28, 28), torch.arange(8)
    for model in models:
        F.cross_entropy(model(X), y).backward()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_predict_restores_every_mode(training):
    model = CNNModel().train(training)
    model.features[1].train(not training)  # a part in another mode than the rest
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [
        (torch.rand(3, 1, 28, 28), torch.tensor([1, 2, 3])),
        (torch.rand(2, 1, 28, 28), torch.tensor([4, 5])),
    ]
    logits, labels = predict(model, batches, "cpu")
    assert [module.training for module in model.modules()] == modes
    assert all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )
    assert logits.shape == (5, 10) and labels.tolist() == [1, 2, 3, 4, 5]
    torch.testing.assert_close(logits, model.eval()(torch.cat([X for X, _ in batches])))
    assert not logits.requires_grad and not logits.is_inference()


def test_predict_restores_the_mode_after_an_error():
    model = CNNModel().train()
    with pytest.raises(ValueError, match="this model takes images"):
        predict(model, [(torch.rand(2, 1, 5, 5), torch.zeros(2))], "cpu")
    assert model.training


def test_predict_with_bad_input():
    with pytest.raises(ValueError, match="no batches"):
        predict(nn.Linear(2, 2), [], "cpu")
    elsewhere, batches = nn.Linear(2, 2, device="meta"), [(torch.rand(1, 2), [0])]
    with pytest.raises(ValueError, match="call model.to"):
        predict(elsewhere, batches, "cpu")


@pytest.mark.parametrize(
    "images",
    [torch.rand(3, 1, 28, 28), torch.randint(256, (5, 3, 8, 9), dtype=torch.uint8)],
)
def test_plot_images(images):
    labels = [f"picture\n{k}" for k in range(len(images))]
    figure = plot_images(images, labels, title="a title", columns=2)
    drawn = [ax for ax in figure.axes if ax.images]
    assert len(drawn) == len(images) and drawn[0].get_title() == "picture\n0"
    assert figure.get_suptitle() == "a title"
    if images.shape[1] == 1:  # black is 0, not the darkest pixel
        assert drawn[0].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("shape", [(28, 28), (3, 28, 28), (2, 4, 8, 8), (0, 1, 8, 8)])
def test_plot_images_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\)"):
        plot_images(torch.zeros(shape))


def test_plot_feature_maps():
    maps = torch.randn(5, 6, 6, requires_grad=True)
    figure = plot_feature_maps(maps, title="a title", columns=3)
    drawn = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in drawn] == ["0", "1", "2", "3", "4"]
    low, high = drawn[0].images[0].get_clim()
    assert -low == high == pytest.approx(maps.abs().max().item())
    zeros = torch.zeros(2, 3, 3)
    figure = plot_feature_maps(zeros, labels=["a", "b"], quantity="weight")
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a", "b"]
    assert figure.axes[-1].get_ylabel() == "weight"


def test_plots_with_bad_input():
    with pytest.raises(ValueError, match=r"maps must be \(C, H, W\)"):
        plot_feature_maps(torch.zeros(1, 2, 3, 3))
    with pytest.raises(ValueError, match="2 images but 1 labels"):
        plot_feature_maps(torch.zeros(2, 3, 3), labels=["a"])
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        plot_images(torch.zeros(2, 1, 3, 3), ["a", "b", "c"])


# ---- The calls of scripts written for learnpytorch.io


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A working folder with data/shapes, in train and test."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data/shapes", ("dark", "light"), {"train": 6, "test": 3})
    return tmp_path / "data" / "shapes"


def load_shapes(photographs):
    steps = [transforms.Resize((64, 64)), transforms.ToTensor()]
    return data_setup.create_dataloaders(
        train_dir=photographs / "train",
        test_dir=str(photographs / "test"),
        transform=transforms.Compose(steps),
        batch_size=4,
    )


def test_the_other_courses_calls_train_save_draw_and_predict(photographs):
    train_dataloader, test_dataloader, class_names = load_shapes(photographs)
    assert class_names == ["dark", "light"] and len(test_dataloader) == 2
    helper_functions.set_seeds()
    model = model_builder.TinyVGG(
        input_shape=3, hidden_units=4, output_shape=len(class_names)
    ).to("cpu")
    results = engine.train(
        model=model,
        train_dataloader=train_dataloader,
        test_dataloader=test_dataloader,
        loss_fn=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=torch.optim.Adam(params=model.parameters(), lr=0.001),
        epochs=2,
        device="cpu",
    )
    assert set(results) == {"train_loss", "train_acc", "test_loss", "test_acc"}
    assert all(len(values) == 2 for values in results.values())
    helper_functions.plot_loss_curves(results)
    utils.save_model(model=model, target_dir="models", model_name="shapes.pth")
    again = model_builder.TinyVGG(3, 4, 2)
    again.load_state_dict(torch.load(f="models/shapes.pth"))
    for image_path in photographs.glob("test/light/*.png"):
        helper_functions.pred_and_plot_image(
            model=again,
            image_path=image_path,
            class_names=class_names,
            image_size=(64, 64),
            device=torch.device("cpu"),
        )
    assert len(plt.get_fignums()) == 1 + 3


def test_the_other_courses_steps_in_a_loop_of_ones_own(photographs):
    train_dataloader, test_dataloader, _ = load_shapes(photographs)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    optimizer = torch.optim.SGD(params=model.parameters(), lr=0.5)
    loss_fn, losses = nn.CrossEntropyLoss(), []
    for _ in range(12):
        train_loss, train_acc = engine.train_step(
            model=model,
            dataloader=train_dataloader,
            loss_fn=loss_fn,
            optimizer=optimizer,
            device="cpu",
        )
        test_loss, test_acc = engine.test_step(
            model=model, dataloader=test_dataloader, loss_fn=loss_fn, device="cpu"
        )
        losses.append((train_loss, test_loss))
    assert losses[-1][0] < losses[0][0] and 0 <= train_acc <= 1
    model.eval()
    images, labels = next(iter(test_dataloader))
    found = helper_functions.accuracy_fn(
        y_true=labels, y_pred=model(images).argmax(dim=1)
    )
    assert found == 100 * (model(images).argmax(dim=1) == labels).float().mean()
    assert 0 <= test_acc <= 1


def test_the_other_courses_helpers(photographs, monkeypatch, capsys):
    asked = []

    def fetch(url, path):
        asked.append(url)
        shutil.copy("shapes.zip", path)

    shutil.make_archive("shapes", "zip", photographs)
    monkeypatch.setattr(helper_functions, "urlretrieve", fetch)
    for _ in range(2):  # the second finds it unpacked
        folder = helper_functions.download_data(
            source="https://example.org/raw/shapes_20.zip", destination="shapes_20"
        )
    assert folder == Path("data/shapes_20") and len(asked) == 1
    assert not Path("data/shapes_20.zip").exists()
    assert len(list(folder.glob("train/*/*.png"))) == 12
    helper_functions.walk_through_dir(folder)
    assert helper_functions.print_train_time(start=1.0, end=3.5, device="cpu") == 2.5
    printed = capsys.readouterr().out
    assert "0 folders, 6 files" in printed and "on cpu: 2.500 seconds" in printed
    helper_functions.plot_decision_boundary(
        model=nn.Linear(2, 3), X=torch.rand(9, 2), y=torch.arange(9) % 3
    )
    line = torch.arange(4.0)[:, None]
    helper_functions.plot_predictions(
        train_data=line,
        train_labels=line,
        test_data=line,
        test_labels=line,
        predictions=2 * line,
    )
