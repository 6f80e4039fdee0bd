"""Checks of notebook 06 · Transfer learning."""

import random

import torch
from torch import nn

from exercises import Wrong, exercise


@exercise("06.1", "Padding, left and right")
def check_same_padding(same_padding):
    for size, kernel, stride in [
        (160, 3, 2),
        (160, 5, 2),
        (7, 2, 3),
        (9, 1, 2),
        (8, 1, 2),
    ] + [
        (random.randint(8, 300), random.choice([1, 2, 3, 5, 7]), random.randint(1, 3))
        for _ in range(40)
    ]:
        got = same_padding(size, kernel, stride)
        case = f"size {size}, kernel {kernel}, stride {stride}"
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"{case} gave {got!r}", "two numbers are asked for: before and after"
            )
        before, after = got
        windows = (size + before + after - kernel) // stride + 1
        if min(before, after) < 0:
            raise Wrong(
                f"{case} gave {got}: padding below 0",
                "where the windows fit without padding, there is none",
            )
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        if before + after != total:
            raise Wrong(
                f"{case} gave {got}, with which {windows} windows fit",
                f"{-(-size // stride)} windows are wanted, size / stride rounded up, "
                "and no pixel more than they need",
            )
        if before > after:
            raise Wrong(
                f"{case} gave {got}",
                "where the total is odd, the end gets the additional pixel",
            )
        if after - before > 1:
            raise Wrong(
                f"{case} gave {got}",
                "share the padding between the two ends, as evenly as it goes",
            )


@exercise("06.2", "Normalize")
def check_normalize(normalize):
    for _ in range(3):
        images = torch.randint(0, 256, (4, 3, 6, 5), dtype=torch.uint8)
        mean, std = (
            (torch.rand(3) * 0.5 + 0.2).tolist(),
            (torch.rand(3) * 0.3 + 0.2).tolist(),
        )
        given = images.clone()
        got = normalize(given, list(mean), list(std))
        if not isinstance(got, torch.Tensor) or got.shape != images.shape:
            raise Wrong(
                "the result is no tensor of the pictures' shape",
                "mean and std must become (3, 1, 1)",
            )
        if got.dtype != torch.float32:
            raise Wrong(
                f"the result is {got.dtype}",
                "float32 is asked for: convert before you calculate",
            )
        if not torch.equal(given, images):
            raise Wrong(
                "the pictures that were given are changed",
                "calculate new ones; change nothing in place",
            )
        m, s = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        if not torch.allclose(got, (images / 255 - m) / s, atol=1e-4):
            if torch.allclose(got, (images - m) / s, rtol=1e-3):
                raise Wrong(
                    "the pixels still run from 0 to 255",
                    "the mean is that of pictures scaled to 0 to 1",
                )
            raise Wrong(
                f"the first pixel became {got[0, 0, 0, 0]:.3f}, from "
                f"{images[0, 0, 0, 0]} with mean {mean[0]:.3f} and "
                f"standard deviation {std[0]:.3f}",
                "scale to 0 to 1, subtract each channel's mean, divide by its "
                "standard deviation, in this order",
            )


@exercise("06.3", "Freeze by name")
def check_freeze_except(freeze_except):
    cases = [
        (["classifier."], False),
        (["features.2.", "classifier."], True),
        ([], True),
        (["features."], False),
    ]
    for prefixes, trainable_before in cases:
        model = nn.Module()
        model.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, random.randint(5, 9), 3)
        )
        model.classifier = nn.Linear(8, random.randint(2, 5))
        model.requires_grad_(trainable_before)
        got = freeze_except(model, prefixes)
        for name, parameter in model.named_parameters():
            wanted = any(name.startswith(prefix) for prefix in prefixes)
            if parameter.requires_grad != wanted:
                state = "trainable" if parameter.requires_grad else "frozen"
                raise Wrong(
                    f"with the prefixes {prefixes}, {name} is {state}",
                    "those named become trainable, whatever they were; all others "
                    "become frozen",
                )
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if got != count:
            raise Wrong(
                f"you returned {got!r}",
                "count the numbers in the trainable parameters, with numel()",
            )


@exercise("06.4", "Two learning rates")
def check_parameter_groups(parameter_groups):
    for _ in range(3):
        backbone, head = (
            nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)),
            nn.Linear(5, 2),
        )
        backbone[0].requires_grad_(False)
        lr = random.random() / 100 + 1e-4
        groups = parameter_groups(backbone, head, lr)
        try:
            optimizer = torch.optim.SGD(groups, lr=1.0)
        except (TypeError, ValueError, KeyError) as error:
            raise Wrong(
                f"an optimizer does not take what you returned: {error}",
                'a list of {"params": [...], "lr": ...}',
            ) from None
        if len(optimizer.param_groups) != 2:
            raise Wrong(
                f"there are {len(optimizer.param_groups)} groups",
                "two: the backbone's, then the head's",
            )
        wanted = [list(backbone[1].parameters()), list(head.parameters())]
        for number, (group, parameters) in enumerate(
            zip(optimizer.param_groups, wanted, strict=True)
        ):
            if [id(p) for p in group["params"]] != [id(p) for p in parameters]:
                raise Wrong(
                    f"group {number} holds {len(group['params'])} parameters, "
                    f"expected {len(parameters)} of the "
                    f"{'head' if number else 'backbone'}",
                    "the backbone first, and only parameters that take a gradient",
                )
        rates = [group["lr"] for group in optimizer.param_groups]
        if abs(rates[0] - lr / 10) > 1e-9 or abs(rates[1] - lr) > 1e-9:
            raise Wrong(
                f"for lr {lr:.5f} the groups have {rates}",
                "a tenth for the backbone, all of it for the head",
            )


@exercise("06.5", "A class activation map")
def check_activation_map(activation_map):
    for _ in range(3):
        n, d, k = random.randint(4, 6), random.randint(7, 9), 3
        maps, weight, labels = (
            torch.randn(n, d, 4, 5),
            torch.randn(k, d),
            torch.randint(0, k, (n,)),
        )
        labels[:2] = torch.tensor([0, 1])  # not all the same
        got = activation_map(maps.clone(), weight.clone(), labels.clone())
        if not isinstance(got, torch.Tensor) or got.shape != (n, 4, 5):
            shape = (
                tuple(got.shape)
                if isinstance(got, torch.Tensor)
                else type(got).__name__
            )
            raise Wrong(
                f"the result is {shape}, expected ({n}, 4, 5)",
                "one map a picture: sum over the D channels",
            )
        expected = torch.einsum("nd,ndhw->nhw", weight[labels], maps)
        if not torch.allclose(got, expected, atol=1e-4):
            number = int((got - expected).abs().amax(dim=(1, 2)).argmax())
            raise Wrong(
                f"map {number} begins with {got[number, 0, 0]:.3f}, expected "
                f"{expected[number, 0, 0]:.3f}",
                "each picture is weighted with the row of its own label, and the "
                "products are added, not averaged",
            )
