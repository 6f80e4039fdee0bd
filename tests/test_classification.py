"""Lessons 01 and 02: the models and the figures of training."""

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from going_modular.model_builder import ClassificationModel, LinearRegressionModel
from going_modular.plots import (
    new_axes,
    plot_confusion_matrix,
    plot_curves,
)
from illustrations.results import plot_decision_boundary, plot_predictions


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def make_points(count, num_classes=2):
    """Return points of classes in turn, (N, 2), and their labels, (N,)."""
    points = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    return points, torch.arange(count) % num_classes


def test_model_shapes_parameters_and_negative_logits():
    torch.manual_seed(0)
    model = ClassificationModel(in_features=2, hidden_units=16, out_features=3)
    logits = model(torch.randn(100, 2))
    assert logits.shape == (100, 3) and logits.min() < 0  # no ReLU after the last layer
    layers = (2 * 16 + 16) + (16 * 16 + 16) + (16 * 3 + 3)
    assert sum(p.numel() for p in model.parameters()) == layers
    x = torch.randn(100, 2)
    middle, ends = model(torch.zeros(1, 2)), model(x) + model(-x)
    assert not torch.allclose(ends, 2 * middle, atol=1e-4)  # it bends


def test_the_line_model_is_a_line():
    model, x = LinearRegressionModel(), torch.randn(5, 1)
    assert len(list(model.parameters())) == 2
    torch.testing.assert_close(model(x), model.weight * x + model.bias)


class Sign(nn.Module):
    """Class 1 where feature 1 is positive; refuses to be asked in training mode."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, x):
        assert not self.training
        return self.frozen(x[:, :1]) * self.scale


def test_boundary_of_one_logit_colors_the_sides_and_leaves_the_model_alone():
    model = Sign().train()
    model.frozen.eval()
    X = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.5, -1.0]])
    y = torch.tensor([[0.0], [1.0], [1.0]])
    ax = plot_decision_boundary(model, X.requires_grad_(), y, title="Sides")
    assert model.training and not model.frozen.training and model.scale.grad is None
    image = ax.images[0].get_array()
    blue, orange = image[75, 10], image[75, -10]
    assert blue[2] > blue[0] and orange[0] > orange[2]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert ax.get_title() == "Sides" and legend == ["class 0", "class 1"]


def test_rows_of_the_picture_run_upwards():
    class Above(nn.Module):
        def forward(self, x):
            return 50 * x[:, 1:]

    ax = plot_decision_boundary(
        Above(), torch.tensor([[0.0, -1.0], [3.0, 1.0]]), torch.tensor([0, 1])
    )
    image = ax.images[0].get_array()
    assert ax.images[0].origin == "lower" and image[-5, 75, 0] > image[5, 75, 0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_classes", [2, 3, 12])
def test_boundary_of_many_classes_in_a_given_panel(num_classes):
    X, y = make_points(60, num_classes)
    _, (left, right) = plt.subplots(1, 2)
    model = ClassificationModel(2, 8, num_classes).double()
    assert plot_decision_boundary(model, X.double(), y, ax=right) is right
    assert len(left.images) == 0 and len(right.images) == 1
    line = nn.Linear(2, num_classes)
    ax = plot_decision_boundary(line, X, torch.zeros(60))  # classes without points
    assert len(ax.get_legend().get_texts()) == num_classes


def draw_boundary(**options):
    return plot_decision_boundary(nn.Linear(2, 1), *make_points(20), **options)


def test_a_boundary_goes_to_the_current_axes_if_they_are_empty():
    figure = plt.figure(figsize=(12, 6))
    plt.subplot(1, 2, 1)
    plt.title("Train")
    draw_boundary()
    plt.subplot(1, 2, 2)
    draw_boundary(title="Test")
    left, right = figure.axes
    assert [left.get_title(), right.get_title()] == ["Train", "Test"]
    assert len(left.images) == len(right.images) == 1 and len(plt.get_fignums()) == 1


def test_boundaries_do_not_cover_each_other():
    figure = plt.figure()
    first = draw_boundary()
    assert first.figure is figure and draw_boundary() is not first
    plt.plot([1, 2])
    assert draw_boundary().figure not in (figure, first.figure)
    assert len(plt.get_fignums()) == 3
    _, (left, _) = plt.subplots(1, 2)
    plt.sca(left)
    assert draw_boundary() is left


@pytest.mark.parametrize("end", [torch.sigmoid, nn.Sigmoid()])
def test_boundary_of_a_model_that_ends_in_a_sigmoid(end):
    class Ends(ClassificationModel):
        def forward(self, x):
            return end(super().forward(x))

    torch.manual_seed(0)
    model = Ends(2, 8, 1)
    same = ClassificationModel(2, 8, 1)
    same.load_state_dict(model.state_dict())
    X, y = make_points(40)
    found, expected = (
        plot_decision_boundary(each, X, y, ax=new_axes(3, 3)[0]).images[0].get_array()
        for each in (model, same)
    )
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_boundary_of_a_model_on_a_gpu():
    model = ClassificationModel(2, 8, 1).cuda()
    X, y = make_points(50)
    plot_decision_boundary(model, X.cuda(), y.cuda())
    assert next(model.parameters()).is_cuda


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(4), r"X is \(4, 3\)"),
        (torch.zeros(4), torch.zeros(4), r"X is \(4,\)"),
        (torch.zeros(4, 2), torch.zeros(3), r"y \(3,\)"),
        (torch.zeros(4, 2), torch.full((4,), 2), "from 2 to 2, .* knows 2 classes"),
        (torch.zeros(4, 2), torch.full((4,), -1), "from -1"),
    ],
)
def test_boundary_refuses(X, y, message):
    with pytest.raises(ValueError, match=message):
        plot_decision_boundary(nn.Linear(2, 1), X, y)
    assert not plt.get_fignums()


def test_boundary_refuses_a_model_without_an_axis_of_classes():
    model = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"the logits are \(22500,\)"):
        plot_decision_boundary(model, torch.zeros(4, 2), torch.zeros(4))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "convert", [torch.tensor, lambda m: torch.tensor(m).numpy(), list]
)
def test_confusion_matrix_shows_counts_and_shares(convert):
    matrix = convert([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    ax = plot_confusion_matrix(matrix, ["a", "b", "c"], title="T")
    assert [text.get_text() for text in ax.texts] == list("820130000")
    shares = torch.tensor([[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]])
    found = torch.tensor(ax.images[0].get_array().tolist())
    torch.testing.assert_close(found, shares)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert ax.get_title() == "T"


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        (torch.zeros(2, 2), "abc"),
        (torch.zeros(2, 3), "ab"),
        (torch.zeros(4), "abcd"),
    ],
)
def test_confusion_matrix_refuses(matrix, names):
    with pytest.raises(ValueError, match=f"{len(names)} class names"):
        plot_confusion_matrix(matrix, list(names))


def test_curves_have_a_panel_for_the_loss_and_each_metric():
    parts = {"train_loss": [2, 1], "test_loss": [3, 2]}
    parts |= {"train_acc": [0.1, 0.2], "test_acc": [0, 0.1]}
    figure = plot_curves(parts | {"train_MAE": [5, 4], "test_MAE": [6, 5]}, title="T")
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels == ["loss", "accuracy", "MAE"] and figure.get_suptitle() == "T"
    train, test = figure.axes[1].lines
    assert train.get_xydata().tolist() == [[1, 0.1], [2, 0.2]]
    assert (train.get_label(), test.get_label()) == ("train", "test")


@pytest.mark.parametrize("shown", [False, True])
def test_predictions_are_drawn_over_the_test_points(shown):
    X, y = torch.rand(4, 1), torch.rand(3, 1)
    predictions = torch.rand(3, 1, requires_grad=True) if shown else None
    ax = plot_predictions(X, X, y, 2 * y, predictions, title="T")
    drawn = [torch.as_tensor(points.get_offsets().data) for points in ax.collections]
    assert len(drawn) == 2 + shown and ax.get_title() == "T"
    torch.testing.assert_close(drawn[1], torch.hstack([y, 2 * y]).double())
    if shown:
        expected = torch.hstack([y, predictions.detach()]).double()
        torch.testing.assert_close(drawn[2], expected)
