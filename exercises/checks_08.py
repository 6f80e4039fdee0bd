"""Checks of notebook 08 · Replicating the ViT paper."""

import math
import random

import torch
from torch.nn import functional as F

from exercises import Wrong, exercise


def _tensor(value, shape, hint):
    """Raise ``Wrong`` unless ``value`` is a tensor of this shape."""
    if not isinstance(value, torch.Tensor):
        raise Wrong(f"the result is a {type(value).__name__}", "return a tensor")
    if value.shape != shape:
        raise Wrong(
            f"the result is {tuple(value.shape)}, expected {tuple(shape)}", hint
        )


@exercise("08.1", "How many tokens")
def check_num_tokens(num_tokens):
    cases = [(32, 48, 8), (30, 29, 7)]
    cases += [
        (random.randint(20, 300), random.randint(20, 300), random.randint(2, 19))
        for _ in range(30)
    ]
    for height, width, patch in cases:
        got = num_tokens(height, width, patch)
        case = (
            f"for {height} × {width} pixels in patches of {patch} you answered {got!r}"
        )
        rows, columns = height // patch, width // patch
        if got == rows * columns + 1 and isinstance(got, int):
            continue
        if got == rows * columns:
            raise Wrong(case, "one token belongs to no patch: count it too")
        if isinstance(got, float):
            raise Wrong(
                case, "a whole number is asked for: which division rounds down?"
            )
        if got in (rows * rows + 1, columns * columns + 1):
            raise Wrong(
                case,
                "this picture is not square: height and width have each their own "
                "number of patches",
            )
        if got == height * width // patch**2 + 1:
            raise Wrong(
                case,
                "what is left at two sides does not make whole patches: round down "
                "for each side",
            )
        raise Wrong(
            case,
            f"{rows} rows of patches fit into the height; how many fit into the width?",
        )


@exercise("08.2", "Patches without a loop")
def check_patchify(patchify):
    for channels in (1, 3):
        patch, rows, columns = (
            random.randint(2, 4),
            random.randint(2, 3),
            random.randint(4, 5),
        )
        images = torch.randn(2, channels, rows * patch, columns * patch)
        given = images.clone()
        got = patchify(given, patch)
        _tensor(
            got,
            (2, rows * columns, channels * patch * patch),
            "one axis numbers the patches, the last holds the C · P · P numbers of "
            "one patch",
        )
        if not torch.equal(given, images):
            raise Wrong(
                "the pictures that were given are changed",
                "make a new tensor; change nothing in place",
            )
        windows = images.unfold(2, patch, patch).unfold(
            3, patch, patch
        )  # (B, C, rows, columns, P, P)
        expected = windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        if torch.equal(got, expected):
            continue
        if torch.equal(got.sort(dim=2).values, expected.sort(dim=2).values):
            raise Wrong(
                f"with {channels} channels each patch holds the right numbers in "
                "another order",
                "within a patch the order is channel, row, column: C, P, P",
            )
        by_column = windows.permute(0, 3, 2, 1, 4, 5).flatten(3).flatten(1, 2)
        if torch.equal(got, by_column):
            raise Wrong(
                "the patches come column by column",
                "row by row: the column's number changes fastest",
            )
        place = tuple(
            (got != expected).nonzero()[0].tolist()
        )  # where they differ first
        raise Wrong(
            f"patch {place[1]} of picture {place[0]} holds {got[place]:.2f} at place "
            f"{place[2]}, "
            f"expected {expected[place]:.2f}",
            "a reshape alone only renames axes in memory order; split them into P and "
            "the rest, then permute",
        )


@exercise("08.3", "Who may look at whom")
def check_masked_attention(masked_attention):
    for n, d in ((4, 16), (random.randint(5, 7), random.randint(9, 12)), (6, 32)):
        query, key, value = (
            2 * torch.randn(n, d),
            2 * torch.randn(n, d),
            torch.randn(n, d),
        )
        allowed = torch.rand(n, n) < 0.5
        allowed.fill_diagonal_(True)
        allowed[1] = False
        allowed[1, 1] = True  # one row that may look only at itself
        allowed[2, 3], allowed[3, 2] = True, False  # rows and columns differ
        got = masked_attention(
            query.clone(), key.clone(), value.clone(), allowed.clone()
        )
        _tensor(got, (n, d), "one vector of d numbers a token")
        if got.isnan().any():
            raise Wrong(
                "the result holds NaN",
                "where does `allowed` say True: where one may look, or where not?",
            )
        expected = F.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=allowed[None]
        )[0]
        if torch.allclose(got, expected, atol=1e-4):
            continue
        if torch.allclose(
            got,
            F.scaled_dot_product_attention(query[None], key[None], value[None])[0],
            atol=1e-4,
        ):
            raise Wrong(
                "every token looks at all others",
                "nothing is masked yet: where does `allowed` come in?",
            )
        inverted = (query @ key.T / d**0.5).masked_fill(allowed, -torch.inf).softmax(
            dim=1
        ).nan_to_num() @ value
        if torch.allclose(got, inverted, atol=1e-4):
            raise Wrong(
                "each token looks at what it may not",
                "True means it may look: fill in where it is False",
            )
        if not torch.allclose(got[1], value[1], atol=1e-4):
            raise Wrong(
                "token 1 may look only at itself, but its output begins "
                f"{got[1, 0]:.3f}, its value {value[1, 0]:.3f}",
                "with one column allowed, its weight is 1: mask before the softmax, "
                "with minus infinity, row by row",
            )
        row = int((got - expected).abs().amax(dim=1).argmax())
        raise Wrong(
            f"the output of token {row} begins {got[row, 0]:.3f}, expected "
            f"{expected[row, 0]:.3f}",
            "divide the scores by √d, take the softmax along the keys, and mind which "
            "axis of `allowed` is who takes",
        )


@exercise("08.4", "The size of a block")
def check_block_parameters(block_parameters):
    for _ in range(20):
        d, m = random.randint(3, 400), random.randint(401, 2000)
        got = block_parameters(d, m)
        norms, attention, mlp = 4 * d, 4 * d * d + 4 * d, 2 * d * m + m + d
        case = (
            f"for embed_dim {d} and mlp_dim {m} you answered {got!r}, expected "
            f"{norms + attention + mlp}"
        )
        if got == norms + attention + mlp:
            continue
        difference = (
            got - (norms + attention + mlp) if isinstance(got, int | float) else None
        )
        if difference == -norms:
            raise Wrong(
                case,
                "the layer norms learn too: a scale and a shift for each number, and "
                "there are two",
            )
        if difference == -norms // 2:
            raise Wrong(
                case,
                "a layer norm has a scale and a shift, and a block has two layer norms",
            )
        if difference in (-(4 * d + m + d), -(5 * d + m + norms)):
            raise Wrong(case, "every linear layer has a bias for each of its outputs")
        if difference in (-(d * d + d), -d * d):
            raise Wrong(
                case,
                "after the heads there is one more layer, the projection from D to D",
            )
        raise Wrong(
            case,
            "list the four linear layers with inputs and outputs: D to 3D, D to D, D "
            "to mlp_dim, back",
        )


@exercise("08.5", "The learning rate at a step")
def check_learning_rate(learning_rate):
    for _ in range(10):
        warmup, steps = random.randint(3, 20), random.randint(40, 200)
        peak = random.uniform(1e-3, 1e-1)
        floor = peak * random.uniform(0.05, 0.3)
        for step in (
            0,
            1,
            warmup - 1,
            warmup,
            warmup + 1,
            (steps + warmup) // 2,
            steps - 3,
            steps,
        ):
            got = learning_rate(step, steps, warmup, peak, floor)
            if step < warmup:
                expected = peak * (step + 1) / warmup
            else:
                progress = (step - warmup) / (steps - warmup)
                expected = floor + (peak - floor) * 0.5 * (
                    1 + math.cos(math.pi * progress)
                )
            if isinstance(got, int | float) and abs(got - expected) < 1e-6 * peak:
                continue
            shown = f"{got:.6f}" if isinstance(got, float) else repr(got)
            case = (
                f"step {step} of {steps}, warm-up {warmup}, peak {peak:.6f}, floor "
                f"{floor:.6f} gave {shown}, "
                f"expected {expected:.6f}"
            )
            if (
                step >= warmup
                and isinstance(got, float)
                and abs(got - floor - peak * (expected - floor) / (peak - floor)) < 1e-9
            ):
                raise Wrong(
                    case, "above the floor there is only peak − floor left to share out"
                )
            if step < warmup:
                raise Wrong(
                    case,
                    "the first step, number 0, takes 1 / warmup_steps of the peak, "
                    "the last of them all",
                )
            if step == warmup:
                raise Wrong(
                    case,
                    "the cosine begins when the warm-up is over: progress is counted "
                    "from there",
                )
            if step == steps:
                raise Wrong(
                    case,
                    "at the end nothing but the floor is left, and it is there only "
                    "once",
                )
            raise Wrong(
                case,
                "half a cosine over the steps after the warm-up, scaled between floor "
                "and peak",
            )


@exercise("08.6", "Where is this token?")
def check_patch_box(patch_box):
    for patch, columns in (
        (7, 4),
        (16, 14),
        (random.randint(2, 9), random.randint(3, 8)),
    ):
        size = patch * columns
        got = patch_box(0, size, patch)
        if got is not None:
            raise Wrong(
                f"token 0 gave {got!r}",
                "token 0 is the class token, which has no place: return None",
            )
        for token in [
            1,
            columns,
            columns + 1,
            columns**2,
            *(random.randint(1, columns**2) for _ in range(10)),
        ]:
            got = patch_box(token, size, patch)
            row, column = divmod(token - 1, columns)
            expected = (
                row * patch,
                column * patch,
                (row + 1) * patch,
                (column + 1) * patch,
            )
            if isinstance(got, tuple | list) and tuple(got) == expected:
                continue
            case = (
                f"token {token} of a picture of {size} pixels with patches of {patch} "
                f"gave {got!r}"
            )
            if not isinstance(got, tuple | list) or len(got) != 4:
                raise Wrong(
                    case, "four numbers are asked for: top, left, bottom, right"
                )
            if tuple(got) == (expected[1], expected[0], expected[3], expected[2]):
                raise Wrong(
                    case,
                    "rows come first: top and bottom belong to the row, left and "
                    "right to the column",
                )
            if got[2] - got[0] != patch or got[3] - got[1] != patch:
                raise Wrong(
                    case,
                    f"a patch is {patch} pixels high and wide; bottom and right are "
                    "excluded",
                )
            raise Wrong(
                case,
                "patches are numbered from token 1 on, row by row; how many are in a "
                "row?",
            )
