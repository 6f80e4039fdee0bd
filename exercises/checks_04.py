"""Checks of the exercises in 04_custom_datasets.ipynb."""

import random
from collections.abc import Callable

import torch
from torchvision.transforms import v2

from exercises import Wrong, exercise


def _tensor(
    value: object, shape: tuple[int, ...], dtype: torch.dtype, case: str
) -> torch.Tensor:
    """Return ``value``; raise ``Wrong`` unless it has this shape and dtype."""
    if not isinstance(value, torch.Tensor):
        raise Wrong(
            f"{case} you returned {type(value).__name__}, not a tensor",
            hint="does it end with return?",
        )
    if tuple(value.shape) != shape:
        raise Wrong(
            f"{case} your result has shape {tuple(value.shape)}, wanted is {shape}",
            hint=(
                "print the shape after each step and compare it with the one you "
                "expect."
            ),
        )
    if value.dtype != dtype:
        raise Wrong(f"{case} your result is {value.dtype}", hint=f"wanted is {dtype}.")
    return value


@exercise("04.1", "A name that stays inside")
def check_is_safe(is_safe: Callable) -> None:
    folder, file = (
        random.choice(["cat", "dog", "train"]),
        f"{random.randint(0, 999):03}.png",
    )
    safe = [
        f"{folder}/{file}",
        file,
        f"a/b/c/{file}",
        f"{folder}/a..b.png",
        f"..{file}",
        f"{folder}/...",
        f"{folder}../{file}",
    ]
    reasons = {
        f"../{file}": "`..` leads one folder up, also where it comes first.",
        f"{folder}/../../{file}": (
            "look at every part of the name, not at its beginning alone."
        ),
        f"{folder}/..": "the last part may be `..` too.",
        f"/{file}": "a name that begins with a slash starts from the root of the disk.",
        f"/{folder}/{file}": (
            "a name that begins with a slash starts from the root of the disk."
        ),
        f"..\\{file}": "Windows takes a backslash for a separator.",
        f"{folder}\\..\\{file}": "Windows takes a backslash for a separator.",
        f"C:/{file}": "a colon names a drive of Windows.",
        f"C:{file}": "a colon names a drive of Windows.",
        f"{folder}/C:/{file}": "a colon anywhere, not at the second place alone.",
    }
    cases = [(name, True) for name in safe] + [(name, False) for name in reasons]
    random.shuffle(cases)
    for name, expected in cases:
        answer = is_safe(name)
        if not isinstance(answer, bool):
            raise Wrong(
                f"for {name!r} you answered {answer!r}", hint="return True or False."
            )
        if answer == expected:
            continue
        if expected:
            raise Wrong(
                f"{name!r} is safe, and you refuse it",
                hint="two dots are dangerous only as a whole part of the name.",
            )
        raise Wrong(f"{name!r} is not safe, and you let it pass", hint=reasons[name])


@exercise("04.2", "Labels from paths")
def check_labels_from(labels_from: Callable) -> None:
    for start in ("train", "data/photos/train", "cat"):
        classes = random.sample(
            ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"], random.randint(3, 5)
        )
        classes.sort(
            reverse=True
        )  # not in alphabetical order, and each class several times
        paths = [
            f"{start}/{name}/{random.randint(0, 99)}.png"
            for _ in range(3)
            for name in classes
        ]
        expected = {name: label for label, name in enumerate(sorted(classes))}
        answer = labels_from(list(paths))
        case = f"for {paths[: len(classes)]} and so on"
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise Wrong(
                f"{case} you returned {answer!r}",
                hint="return two things: the dict, and the list of labels.",
            )
        class_to_idx, labels = answer
        if not isinstance(class_to_idx, dict) or not isinstance(labels, list):
            kinds = f"a {type(class_to_idx).__name__} and a {type(labels).__name__}"
            raise Wrong(
                f"{case} you returned {kinds}", hint="a dict comes first, then a list."
            )
        if class_to_idx != expected:
            if class_to_idx.keys() != expected.keys():
                hint = (
                    "the class is the folder directly above the file, wherever the "
                    "path begins."
                )
            elif sorted(class_to_idx.values()) != sorted(expected.values()):
                hint = "the labels run from 0 on, one for each class."
            else:
                hint = "in which order are the names to be numbered?"
            raise Wrong(f"{case} your dict is {class_to_idx}", hint=hint)
        if labels != [expected[path.split("/")[-2]] for path in paths]:
            raise Wrong(
                f"{case} the dict is right, but your labels begin with "
                f"{labels[: len(classes)]}",
                hint=(
                    "one label for each path, in the order of the paths, looked up in "
                    "the dict."
                ),
            )


@exercise("04.3", "A coin for each")
def check_flip_some(flip_some: Callable) -> None:
    for shape in ((4, 3, 5, 7), (6, 1, 4, 4), (5, 2, 6, 3)):
        B = shape[0]
        images = torch.rand(shape)
        coins = torch.arange(B) % 2 == random.randint(0, 1)
        given = images.clone()
        case = f"for images {shape} and coins {coins.tolist()}"
        answer = flip_some(given, coins.clone())
        if not torch.equal(given, images):
            raise Wrong(
                f"{case} the images you were given changed",
                hint="work on a copy, or make a new tensor.",
            )
        _tensor(answer, shape, torch.float32, case)
        mirrored = images.flip(dims=[3])
        if torch.equal(
            answer, torch.where(coins[:, None, None, None], mirrored, images)
        ):
            continue
        if torch.equal(answer, mirrored) or torch.equal(answer, images):
            raise Wrong(
                f"{case} you treat all pictures alike",
                hint="each picture has its own coin: line up `coins` with B.",
            )
        if torch.equal(
            answer, torch.where(coins[:, None, None, None], images, mirrored)
        ):
            raise Wrong(
                f"{case} you mirror those whose coin is False",
                hint="which argument of where comes first?",
            )
        for dim, name in ((0, "the batch"), (1, "the channels"), (2, "top and bottom")):
            if torch.equal(
                answer,
                torch.where(
                    coins[:, None, None, None], images.flip(dims=[dim]), images
                ),
            ):
                raise Wrong(
                    f"{case} you swap {name}",
                    hint="left to right is the axis W of (B, C, H, W).",
                )
        raise Wrong(
            f"{case} your pictures differ",
            hint="compare your first picture with the one you were given.",
        )


@exercise("04.4", "Leaks between tensors")
def check_leaked(leaked: Callable) -> None:
    for N, M in ((9, 6), (5, 8), (7, 7)):
        shape = (random.randint(1, 3), random.randint(3, 5), random.randint(3, 5))
        train = torch.randint(0, 256, (N, *shape), dtype=torch.uint8)
        test = torch.randint(0, 256, (M, *shape), dtype=torch.uint8)
        near = train[0].clone()
        near[-1, -1, -1] += 1  # 255 + 1 is 0
        test[1], test[3], test[4] = (
            train[N - 1],
            near,
            train[2].flip(dims=[2]).flip(dims=[1]),
        )
        test[5] = train[1]
        expected = torch.stack(
            [(train == image).flatten(1).all(dim=1).any() for image in test]
        )
        case = f"for train {tuple(train.shape)} and test {tuple(test.shape)}"
        answer = leaked(train.clone(), test.clone())
        if isinstance(answer, torch.Tensor) and answer.shape == (M, N):
            raise Wrong(
                f"{case} you returned shape {(M, N)}",
                hint="one answer per test picture: is there *some* twin?",
            )
        _tensor(answer, (M,), torch.bool, case)
        if torch.equal(answer, expected):
            continue
        if answer[3] and not expected[3]:
            raise Wrong(
                f"{case} you report picture 3, which differs from a training picture "
                "in one number",
                hint="`any` and `all`: which of the two belongs to the pixels?",
            )
        if answer[4] and not expected[4]:
            raise Wrong(
                f"{case} you report picture 4, which has the same pixels as a "
                "training picture, but in other places",
                hint="a mean or a sum is not enough: compare pixel by pixel.",
            )
        if expected[1] and not answer[1]:
            raise Wrong(
                f"{case} you miss picture 1, which is the last training picture",
                hint=(
                    "each test picture must be compared with *every* training "
                    "picture, not with the one at its place."
                ),
            )
        raise Wrong(
            f"{case} you answered {answer.tolist()}",
            hint="compare (M, 1, D) with (1, N, D) and look at the axes.",
        )


@exercise("04.5", "Patience")
def check_stop_early(stop_early: Callable) -> None:
    cases = [
        (
            [1.0, 0.8, 0.9, 0.85, 0.7, 0.6],
            2,
        ),  # stops although a better epoch would come
        ([0.9, 0.8, 0.7, 0.6], 2),  # improves to the end
        ([1.0, 0.5, 0.6, 0.7], 5),  # too short for the patience
        ([0.5, 0.6, 0.7, 0.4], 2),  # the first is the best
        ([1.0, 0.7, 0.7, 0.7, 0.6], 2),  # an equal loss is no improvement
        ([1.0, 0.9, 1.1, 0.8, 0.9, 1.0, 0.95, 0.1], 3),  # waiting begins anew
    ]
    cases += [
        ([round(random.uniform(0.2, 1.5), 2) for _ in range(12)], random.randint(1, 4))
        for _ in range(20)
    ]
    for losses, patience in cases:
        best_epoch = 1
        for epoch in range(1, len(losses) + 1):
            if losses[epoch - 1] < losses[best_epoch - 1]:
                best_epoch = epoch
            if epoch - best_epoch == patience:
                break
        expected = (epoch, best_epoch)
        answer = stop_early(list(losses), patience)
        case = f"for losses {losses} and patience {patience}"
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise Wrong(
                f"{case} you returned {answer!r}",
                hint="return two numbers, (last_epoch, best_epoch).",
            )
        if answer == expected:
            continue
        case = f"{case} you answered {answer}"
        if answer == (expected[0] - 1, expected[1] - 1):
            raise Wrong(case, hint="the first epoch is number 1.")
        if answer == (expected[1], expected[0]):
            raise Wrong(case, hint="which of the two comes first?")
        if answer[0] == expected[0] and answer[1] == answer[0]:
            raise Wrong(
                case,
                hint=(
                    "which weights are wanted: those of the last epoch, or those of "
                    "the best?"
                ),
            )
        if answer[0] == len(losses) > expected[0]:
            raise Wrong(
                case,
                hint=(
                    "the training ends early: what was the best epoch up to then, and "
                    "how long ago?"
                ),
            )
        if answer[0] > expected[0]:
            raise Wrong(
                case,
                hint=(
                    "you wait too long: count the epochs since the best one, and mind "
                    "equal losses."
                ),
            )
        if answer[0] < expected[0]:
            raise Wrong(
                case,
                hint="you stop too soon: after an improvement the waiting begins anew.",
            )
        raise Wrong(
            case,
            hint=(
                "the best epoch is the first of those, up to the stop, with the "
                "lowest loss."
            ),
        )


@exercise("04.6", "Fit the picture to the model")
def check_fit_picture(fit_picture: Callable) -> None:
    for C, H, W, size in ((3, 20, 30, 16), (1, 40, 24, 32), (3, 33, 21, 8)):
        image = torch.randint(0, 256, (H, W, C), dtype=torch.uint8)
        case = f"for a picture {(H, W, C)} and size {size}"
        answer = fit_picture(image.clone(), size)
        if isinstance(answer, torch.Tensor) and tuple(answer.shape) == (C, size, size):
            raise Wrong(
                f"{case} your result has shape {(C, size, size)}",
                hint="a model reads batches, also of one.",
            )
        if isinstance(answer, torch.Tensor) and answer.shape[-2:] != (size, size):
            raise Wrong(
                f"{case} your result has shape {tuple(answer.shape)}, wanted is "
                f"{(1, C, size, size)}",
                hint=(
                    "height and width are both `size` and come last: channels first, "
                    "then resize to [size, size]."
                ),
            )
        _tensor(answer, (1, C, size, size), torch.float32, case)
        if answer.max() > 1.001:
            raise Wrong(
                f"{case} your largest number is {answer.max():.0f}",
                hint="the range wanted is 0 to 1.",
            )
        resized = (
            v2.functional.resize(image.permute(2, 0, 1), [size, size])[None].float()
            / 255
        )
        if torch.allclose(
            answer, resized, atol=3 / 255
        ):  # resizing floats rounds differently
            continue
        if answer.max() < 0.1:
            raise Wrong(
                f"{case} your largest number is {answer.max():.4f}",
                hint="you scaled it down twice.",
            )
        raise Wrong(
            f"{case} shape and range are right, but the pixels are not those of the "
            "picture",
            hint=(
                "reshape keeps the order of the numbers, whatever axis they belong "
                "to; which function moves axes?"
            ),
        )
