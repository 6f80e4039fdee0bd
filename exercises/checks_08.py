"""Checks of notebook 08 · Replicating the ViT paper."""

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import MLPBlock, interpolate_embeddings

from exercises import (
    Calls,
    Wrong,
    capstone,
    exercise,
    small_network,
    ten_logits,
    timed,
)
from going_modular.datasets import FashionMNISTTensors
from going_modular.vit import ViT, ViTConfig

SINGLE = {"tolist", "numpy", "__array__"}


def _watched(
    function: Callable,
    inputs: tuple[Tensor, ...],
    forbidden: tuple[str, ...] = (),
    most: int = 5_000,
) -> Tensor:
    """Return ``function(*inputs)``, a tensor; raise ``Wrong`` at forbidden means.

    Args:
        function: the answer.
        inputs: what it is called with; must be as before afterwards.
        forbidden: parts of the names of torch's functions that do the task at once.
        most: calls of torch's functions; more of them are a loop.
    """
    copies = [value.clone() for value in inputs]
    with Calls() as calls:
        answer = function(*copies)
    used = [name for name in calls.names if any(part in name for part in forbidden)]
    if used:
        raise Wrong(
            f"your answer calls `{used[0]}`",
            hint="the task is to do without: which means does it name?",
        )
    if SINGLE & calls.names.keys():
        raise Wrong(
            "your answer takes single numbers out of a tensor",
            hint="stay with tensors: reshape, permute, products.",
        )
    if calls.names.total() > most:
        raise Wrong(
            f"your answer calls torch {calls.names.total():,} times",
            hint="a loop is not wanted: move whole axes.",
        )
    if not isinstance(answer, Tensor):
        raise Wrong(
            f"your answer gives {type(answer).__name__}, not a tensor",
            hint="does it end with return?"
            if answer is None
            else "return the tensor alone, in no tuple or list.",
        )
    if not all(map(torch.equal, copies, inputs)):
        raise Wrong(
            "your answer changed a tensor that it was given",
            hint="operations with an underscore at the end, and `+=`, work in place.",
        )
    return answer


def _same(got: Tensor, expected: Tensor, atol: float = 1e-5) -> bool:
    """Tell whether two tensors agree in shape, type and numbers."""
    return (
        got.shape == expected.shape
        and got.dtype == expected.dtype
        and torch.allclose(got, expected, atol=atol, rtol=1e-5)
    )


def _difference(got: Tensor, expected: Tensor) -> str:
    """Return in words where a tensor differs from the expected one."""
    if got.shape != expected.shape:
        return f"the result is {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.dtype != expected.dtype:
        return f"the result is {got.dtype}, expected {expected.dtype}"
    off = (got - expected).abs().nan_to_num(torch.inf)
    place = tuple(int(i) for i in torch.unravel_index(off.argmax(), off.shape))
    return (
        f"the largest difference is at {list(place)}: {got[place]:.4f}, "
        f"expected {expected[place]:.4f}"
    )


@exercise("08.1", "Patches without a loop")
def check_patchify(patchify: Callable) -> None:
    for channels in (1, 3):
        patch, rows, columns = random.randint(5, 7), 21, random.randint(22, 24)
        images = torch.randn(2, channels, rows * patch, columns * patch)
        if channels == 3:
            images = (50 * images).to(torch.uint8)
        got = _watched(
            lambda images, size=patch: patchify(images, size),
            (images,),
            ("unfold", "conv", "stack", "cat"),
            most=40,
        )
        windows = images.unfold(2, patch, patch).unfold(3, patch, patch)
        # (B, C, rows, columns, P, P) -> (B, N, C P P)
        expected = windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        if _same(got, expected):
            continue
        if got.shape == expected.shape and got.dtype != expected.dtype:
            raise Wrong(
                _difference(got, expected), "moving numbers leaves their type as it is"
            )
        if got.shape == expected.shape:
            by_column = windows.permute(0, 3, 2, 1, 4, 5).flatten(3).flatten(1, 2)
            if torch.equal(got, by_column):
                raise Wrong(
                    "the patches come column by column",
                    "row by row: the column's number changes fastest",
                )
            if torch.equal(got.sort(dim=2).values, expected.sort(dim=2).values):
                raise Wrong(
                    f"with {channels} channels each patch holds the right numbers in "
                    "another order",
                    "within a patch the order is channel, row, column: C, P, P",
                )
        raise Wrong(
            _difference(got.double(), expected.double())
            if got.dtype == expected.dtype
            else _difference(got, expected),
            "a reshape alone only renames axes in memory order; split H and W into "
            "(H / P, P) and (W / P, P), then permute, then reshape",
        )


@exercise("08.2", "Who may look at whom")
def check_masked_attention(masked_attention: Callable) -> None:
    ready = ("scaled_dot_product", "multi_head", "multihead")
    for n, d in ((4, 16), (random.randint(5, 7), random.randint(9, 12)), (6, 32)):
        query, key = 2 * torch.randn(n, d), 2 * torch.randn(n, d)
        value = torch.randn(n, d)
        allowed = torch.rand(n, n) < 0.5
        allowed.fill_diagonal_(True)
        allowed[1] = False
        allowed[1, 1] = True  # one row that may look only at itself
        allowed[2, 3], allowed[3, 2] = True, False  # rows and columns differ
        got = _watched(masked_attention, (query, key, value, allowed), ready)
        if got.shape != value.shape or got.dtype != value.dtype:
            raise Wrong(
                _difference(got, value),
                "one vector of d numbers comes back per token, of the type of `value`",
            )
        if got.isnan().any():
            raise Wrong(
                "the result holds NaN",
                "0 times infinity is NaN, and so is the softmax of a row that is all "
                "minus infinity; True in `allowed` means it may look",
            )
        scores = query @ key.T / d**0.5
        expected = scores.masked_fill(~allowed, -torch.inf).softmax(dim=1) @ value
        if _same(got, expected, 1e-4):
            continue
        flipped = scores.masked_fill(~allowed.T, -torch.inf).softmax(dim=1)
        if _same(got, flipped @ value, 1e-4):
            raise Wrong(
                "rows and columns of `allowed` are exchanged",
                "its row is the token that takes, its column the one it takes from",
            )
        inverted = scores.masked_fill(allowed, -torch.inf).softmax(dim=1)
        if _same(got, scores.softmax(dim=1) @ value, 1e-4):
            raise Wrong(
                "every token looks at all others",
                "nothing is masked yet: where does `allowed` come in?",
            )
        if _same(got, inverted.nan_to_num() @ value, 1e-4):
            raise Wrong(
                "each token looks at what it may not",
                "True means it may look: fill in where it is False",
            )
        if not torch.allclose(got[1], value[1], atol=1e-4):
            raise Wrong(
                "token 1 may look only at itself, so its output should be its value, "
                f"but {_difference(got[1], value[1])}",
                "with one column allowed, its weight is 1: mask before the softmax, "
                "with minus infinity, and take the softmax along each row",
            )
        raise Wrong(
            _difference(got, expected),
            "divide the scores by √d, take the softmax along the keys, and mind which "
            "axis of `allowed` is who takes",
        )


def _build(make: Any, *sizes: Any) -> nn.Module:
    """Return ``make(*sizes)``, a module in evaluation mode, or raise ``Wrong``."""
    module = make(*sizes)
    if not isinstance(module, nn.Module):
        raise Wrong(
            f"your answer makes {type(module).__name__}, no module",
            "write a class that inherits from nn.Module, and hand in the class",
        )
    ready = [
        name
        for name in (type(part).__name__ for part in module.modules())
        if "MultiheadAttention" in name or "Transformer" in name
    ]
    if ready:
        raise Wrong(
            f"your module uses a ready `{ready[0]}`",
            "write it from linear layers: that is the exercise",
        )
    return module.eval()


def _give(module: nn.Module, name: str, theirs: Any) -> None:
    """Copy the numbers of a layer into the module's layer ``name``."""
    layer = getattr(module, name, None)
    if not isinstance(layer, nn.Module):
        raise Wrong(
            f"your module has no layer `{name}`",
            f"set `self.{name} = ...` in `__init__`, after `super().__init__()`",
        )
    shapes = {key: tuple(value.shape) for key, value in layer.state_dict().items()}
    wanted = {key: tuple(value.shape) for key, value in theirs.items()}
    if shapes != wanted:
        raise Wrong(
            f"`{name}` holds {shapes}, expected {wanted}",
            "how many numbers go in, how many come out, and is there a bias?",
        )
    layer.load_state_dict(theirs)


def _shaken(module: Any) -> Any:
    """Return the module, in double precision, with numbers in which nothing hides."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                0.4 * torch.randn_like(parameter) + (parameter == 1).float()
            )
    return module.double().eval()


@exercise("08.3", "Many heads")
def check_self_attention(make: Callable) -> None:
    for dim, heads, n in ((12, 3, 5), (16, 2, 7), (8, 8, 4)):
        theirs = _shaken(nn.MultiheadAttention(dim, heads, batch_first=True))
        ours = _build(make, dim, heads).double()
        weight, bias = theirs.in_proj_weight, theirs.in_proj_bias
        _give(ours, "qkv", {"weight": weight, "bias": bias})
        _give(ours, "projection", theirs.out_proj.state_dict())
        tokens = torch.randn(3, n, dim, dtype=torch.float64)
        with torch.no_grad():
            expected = theirs(tokens, tokens, tokens)[0]
            got = _watched(ours, (tokens,))
        if _same(got, expected):
            continue
        raise Wrong(
            f"with PyTorch's weights for D = {dim} and {heads} heads "
            + _difference(got, expected),
            _attention_hint(tokens, got, weight, bias, heads, theirs.out_proj),
        )


def _attention_hint(
    tokens: Tensor, got: Tensor, weight: Tensor, bias: Tensor, heads: int, last: Any
) -> str:
    """Return which known mistake gives this output, as a hint."""
    B, N, D = tokens.shape
    qkv = F.linear(tokens, weight, bias)
    query, key, value = (
        part.unflatten(2, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2)
    )
    scores = query @ key.mT
    scale = (D // heads) ** 0.5

    def join(mixed: Tensor) -> Tensor:
        return mixed.transpose(1, 2).flatten(2)

    right = join((scores / scale).softmax(dim=3) @ value)
    wrong = {
        "what is left out is the last layer, `projection`": right,
        "divide the scores by √d, where d = D / heads": last(
            join(scores.softmax(dim=3) @ value)
        ),
        "d in √d is the numbers of one head, D / heads, not D": last(
            join((scores / D**0.5).softmax(dim=3) @ value)
        ),
        "the softmax runs along the keys, the last axis": last(
            join((scores / scale).softmax(dim=2) @ value)
        ),
        "the softmax runs along the keys, the last axis, not the heads": last(
            join((scores / scale).softmax(dim=1) @ value)
        ),
        "bring the heads back beside their numbers before you flatten: transpose": last(
            ((scores / scale).softmax(dim=3) @ value).reshape(B, N, D)
        ),
    }
    query, key, value = qkv.chunk(3, dim=2)
    one_head = (query @ key.mT / D**0.5).softmax(dim=2) @ value
    wrong["the residual belongs to the encoder block, not here"] = tokens + last(right)
    wrong["all D numbers attend as one head: split them into `num_heads`"] = last(
        one_head
    )
    for hint, output in wrong.items():
        if _same(got, output):
            return hint
    return (
        "the 3 · D outputs of `qkv` are, in this order: which of the three, head, "
        "number. Print the shape after every step: (B, N, 3, heads, d)"
    )


@exercise("08.4", "Each token by itself")
def check_mlp(make: Callable) -> None:
    for dim, hidden in ((6, 20), (9, 13)):
        theirs = _shaken(MLPBlock(dim, hidden, 0.0))
        ours = _build(make, dim, hidden).double()
        for name, layer in (("linear_1", theirs[0]), ("linear_2", theirs[3])):
            _give(ours, name, layer.state_dict())
        tokens = 2 * torch.randn(2, 5, dim, dtype=torch.float64)
        with torch.no_grad():
            expected = theirs(tokens)
            got = _watched(ours, (tokens,))
            inner = theirs[0](tokens)
            wrong = {
                "the bend between the layers is GELU, not ReLU": theirs[3](
                    inner.relu()
                ),
                "nothing bends between the two layers": theirs[3](inner),
                "the exact GELU is wanted, not its approximation": theirs[3](
                    F.gelu(inner, approximate="tanh")
                ),
                "GELU stands between the two layers only": F.gelu(expected),
                "the residual belongs to the encoder block, not here": (
                    expected + tokens
                ),
                "the layer norm belongs to the encoder block, not here": theirs(
                    F.layer_norm(tokens, (dim,), eps=1e-6)
                ),
            }
        if _same(got, expected):
            continue
        hint = next((h for h, output in wrong.items() if _same(got, output)), "")
        raise Wrong(
            "with torchvision's weights " + _difference(got, expected),
            hint or "first linear_1, then GELU, then linear_2",
        )


class _Alone(nn.Module):
    """Self-attention of torchvision's block as (B, N, D) -> (B, N, D)."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.inner = attention

    def forward(self, tokens: Tensor) -> Tensor:
        return self.inner(tokens, tokens, tokens, need_weights=False)[0]


@exercise("08.5", "The encoder block, inside torchvision's network")
def check_encoder_block(make: Callable) -> None:
    theirs: Any = VisionTransformer(12, 4, 3, 4, 16, 24, num_classes=7)
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = _shaken(theirs)(images)
        blocks = list(theirs.encoder.layers)
        for place, block in enumerate(blocks):
            attention = _Alone(block.self_attention)
            ours = make(attention, block.mlp, 16)
            if not isinstance(ours, nn.Module):
                _build(lambda ours=ours: ours)
            for name, norm in (("norm_1", block.ln_1), ("norm_2", block.ln_2)):
                _give(ours, name, norm.state_dict())
                eps = getattr(getattr(ours, name), "eps", 1e-6)
                if eps != 1e-6:
                    raise Wrong(
                        f"`{name}` has eps={eps}",
                        "eps is 1e-6 here, not LayerNorm's default",
                    )
            ours = ours.double().eval()
            tokens = torch.randn(2, 10, 16, dtype=torch.float64)
            got, wanted = _watched(ours, (tokens,)), block(tokens)
            if not _same(got, wanted, 1e-3):
                raise Wrong(
                    f"block {place} with torchvision's weights: "
                    + _difference(got, wanted),
                    _block_hint(tokens, got, block, attention),
                )
            theirs.encoder.layers[place] = ours
        logits = theirs(images)
    if not _same(logits, expected, 1e-2):
        raise Wrong(
            "each of your blocks is right alone, but in torchvision's network "
            + _difference(logits, expected),
            "does a block keep something from one call to the next?",
        )


def _block_hint(tokens: Tensor, got: Tensor, block: Any, attention: nn.Module) -> str:
    """Return which known mistake gives this output, as a hint."""
    norm_1, norm_2, mlp = block.ln_1, block.ln_2, block.mlp
    middle = tokens + attention(norm_1(tokens))
    post = norm_1(tokens + attention(tokens))
    wrong = {
        "the residual of equation 2 is missing: + z": (
            attention(norm_1(tokens)) + mlp(norm_2(attention(norm_1(tokens))))
        ),
        "the residual of equation 3 is missing: + z′": mlp(norm_2(middle)),
        "equation 3 adds z′, what equation 2 gave, not the block's input": (
            tokens + mlp(norm_2(middle))
        ),
        "equation 3 reads z′, what equation 2 gave": middle + mlp(norm_2(tokens)),
        "in the ViT the norm comes before attention and MLP, not after the sum": (
            norm_2(post + mlp(post))
        ),
        "the norms are missing": (
            tokens + attention(tokens) + mlp(tokens + attention(tokens))
        ),
        "equation 2 is missing": tokens + mlp(norm_2(tokens)),
        "equation 3 is missing": middle,
    }
    for hint, output in wrong.items():
        if _same(got, output, 1e-4):
            return hint
    return "z′ = attention(norm_1(z)) + z, then mlp(norm_2(z′)) + z′"


@exercise("08.6", "Positions for another picture size")
def check_resize_positions(resize_positions: Callable) -> None:
    for old, new, dim in ((4, 6, 5), (5, 3, 8), (random.randint(6, 9), 12, 7)):
        positions = torch.randn(1, old**2 + 1, dim)
        got = _watched(
            lambda positions, side=new: resize_positions(positions, side), (positions,)
        )
        state = OrderedDict({"encoder.pos_embedding": positions.clone()})
        expected = interpolate_embeddings(new, 1, state)["encoder.pos_embedding"]
        if _same(got, expected, 1e-4):
            continue
        case = f"from {old} × {old} to {new} × {new} places: "
        if got.shape != expected.shape:
            raise Wrong(
                case + _difference(got, expected),
                "the class token's vector, which has no place, and new_side² others",
            )
        if not torch.equal(got[:, 0], positions[:, 0]):
            raise Wrong(
                case + "row 0 of the result is not the class token's vector",
                "it has no place on the grid: cut off row 0 first, and put it back "
                "in front, as it was",
            )
        raise Wrong(case + _difference(got, expected), _grid_hint(positions, got, new))


def _grid_hint(positions: Tensor, got: Tensor, new: int) -> str:
    """Return which known mistake gives these positions, as a hint."""
    side = round((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    size = (new, new)

    def tokens(maps: Tensor) -> Tensor:
        return maps.flatten(2).transpose(1, 2)

    bicubic = F.interpolate(grid, size, mode="bicubic", align_corners=True)
    plain = F.interpolate(grid, size, mode="bicubic", align_corners=False)
    linear = F.interpolate(grid, size, mode="bilinear", align_corners=True)
    cut_end = positions[:, :-1].transpose(1, 2).unflatten(2, (side, side))
    wrong = {
        "the class token comes first: cut off row 0, not the last one": tokens(
            F.interpolate(cut_end, size, mode="bicubic", align_corners=True)
        ),
        "corners stay corners: align_corners=True": tokens(plain),
        'the mode is "bicubic"': tokens(linear),
        'mode="bicubic" is missing, and align_corners=True': tokens(
            F.interpolate(grid, size)
        ),
        'mode="bicubic" and align_corners=True are asked for': tokens(
            F.interpolate(grid, size, mode="bilinear")
        ),
        "row by row: rows and columns of the new grid are exchanged": tokens(
            bicubic.mT
        ),
    }
    for hint, output in wrong.items():
        if _same(got[:, 1:], output, 1e-4) or _same(got[:, :-1], output, 1e-4):
            return hint
    return (
        "F.interpolate wants (1, D, side, side): the D numbers are channels. Bring "
        "them before the places with transpose, and back afterwards"
    )


PARAMETERS, PASSES, GOAL = 150_000, 60, 0.78
SIZES = {"embed_dim": 64, "depth": 3, "num_heads": 4, "mlp_dim": 128}
ATTENDS = "scaled_dot_product", "softmax", "multi_head"


def _one_pass(images: Tensor, labels: Tensor) -> None:
    """Train the lesson's ViT for one pass over the pictures."""
    config = ViTConfig(image_size=28, patch_size=7, in_channels=1, num_classes=10)
    model = ViT(ViTConfig(**vars(config) | SIZES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for part in torch.randperm(len(images)).split(32):
        loss = F.cross_entropy(model(images[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _cuts_patches(*args: Any, **kwargs: Any) -> bool:
    """Tell whether conv2d is called with windows side by side, as patches are."""
    names = "input", "weight", "bias", "stride", "padding", "dilation"  # its arguments
    given = dict(zip(names, args, strict=False)) | kwargs
    stride = given.get("stride", 1)
    sides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    close = given.get("dilation", 1) in (1, (1, 1))
    return close and sides == tuple(given["weight"].shape[2:])


class _AllButPatches(Calls):
    """Counts torch's functions, but no cutting of patches and no softmax of logits."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        if func is torch.conv2d and _cuts_patches(*args, **options):
            return func(*args, **options)
        flat = args and isinstance(args[0], Tensor) and args[0].dim() < 3
        if flat and "softmax" in getattr(func, "__name__", ""):
            return func(*args, **options)  # of logits (B, 10): nothing attends
        return super().__torch_function__(func, types, args, kwargs)


def _score(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the accuracy of a network that attends and convolves only for patches."""
    with _AllButPatches() as calls:
        logits = ten_logits(model, images)
    if used := [name for name in calls.names if "conv" in name]:
        raise Wrong(
            f"your network calls `{used[0]}`",
            hint="only a convolution that cuts patches is allowed, with a stride as "
            "large as its kernel.",
        )
    if not any(part in name for part in ATTENDS for name in calls.names):
        raise Wrong(
            "in your network no token attends to others",
            hint="it shall be a transformer: blocks of attention and MLP.",
        )
    return (logits.argmax(dim=1) == labels).float().mean().item()


@capstone("08", "A better ViT from a thousand pictures")
def check_train_vit(train_vit: Callable) -> str:
    data = FashionMNISTTensors("data")
    images, labels = data.__getitems__(torch.randperm(len(data))[:6_000].tolist())
    train, test = (images[:1_000], labels[:1_000]), (images[1_000:], labels[1_000:])
    model, seconds = timed(train_vit, *train)
    size = small_network(
        model, PARAMETERS, "a block has about 4 D² + 2 · D · mlp_dim of them."
    )
    accuracy = _score(model, *test)
    _, one_pass = timed(_one_pass, *train)
    scores = (
        f"{accuracy:.1%} of 5,000 fresh pictures with {size:,} parameters, in "
        f"{seconds:.0f} s of {PASSES * one_pass:.0f}; to beat: {GOAL:.0%}"
    )
    if seconds > PASSES * one_pass + 1:
        raise Wrong(
            f"{scores}. It took {seconds:.1f} s of computing, one pass of the lesson's "
            f"ViT {one_pass:.2f} s: more than {PASSES} times as long",
            hint="fewer tokens cost less, and so do fewer epochs.",
        )
    if accuracy <= GOAL:
        raise Wrong(
            scores,
            hint="which changes of a picture leave its class as it is? And how many "
            "tokens does so small a training need?",
        )
    return f"The score: {scores}."
