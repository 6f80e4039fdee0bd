"""Lesson 08: the Vision Transformer against PyTorch's, torchvision's and timm's."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from going_modular.engine import train_epochs, train_step
from going_modular.schedules import decay_groups, warmup_cosine
from going_modular.utils import load_model, save_model
from going_modular.vit import (
    VIT_SIZES,
    MLPBlock,
    MultiheadSelfAttentionBlock,
    PatchEmbedding,
    TransformerEncoderBlock,
    ViT,
    ViTConfig,
)

SMALL = {"image_size": 12, "patch_size": 4, "in_channels": 3, "num_classes": 5}
SMALL |= {"embed_dim": 16, "depth": 3, "num_heads": 4, "mlp_dim": 24}
PUBLISHED = {"Ti": 5_717_416, "S": 22_050_664, "B": 86_567_656}
PUBLISHED |= {"L": 304_326_632, "H": 632_045_800}


def small(head_std=0.1, **changes):
    """Return a small ViT whose head is not zero: its logits depend on the image."""
    torch.manual_seed(0)
    model = ViT(ViTConfig(**SMALL | changes))
    nn.init.normal_(model.head.weight, std=head_std)
    return model


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def batches(n=3):
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.rand(8, 3, 12, 12, generator=generator) for _ in range(n)]
    return [(X, torch.randint(5, (8,), generator=generator)) for X in pictures]


# Equation 1


@pytest.mark.parametrize(
    ("size", "patch", "channels"), [(12, 4, 3), (6, 6, 1), (5, 1, 2)]
)
def test_patch_embedding_is_cut_flatten_multiply(size, patch, channels):
    torch.manual_seed(0)
    embedding = PatchEmbedding(size, patch, channels, 8)
    nn.init.normal_(embedding.class_token)
    images = torch.randn(2, channels, size, size)
    weight, bias = embedding.projection.weight.flatten(1), embedding.projection.bias
    tokens = [embedding.class_token[0].expand(2, 8)]
    for row in images.split(patch, dim=2):  # (2, C, size, size) -> (2, C, P, size)
        for cut in row.split(patch, dim=3):  # -> (2, C, P, P)
            tokens.append(F.linear(cut.flatten(1), weight, bias))
    expected = torch.stack(tokens, dim=1) + embedding.position_embeddings
    torch.testing.assert_close(embedding(images), expected)


@pytest.mark.parametrize(
    ("size", "patch", "channels"), [(224, 16, 3), (28, 7, 1), (30, 10, 4), (6, 1, 2)]
)
def test_patch_embedding_is_its_convolution(size, patch, channels):
    torch.manual_seed(0)
    embedding = PatchEmbedding(size, patch, channels, 24)
    images = torch.randn(2, channels, size, size)
    expected = embedding.projection(images).flatten(2).transpose(1, 2)
    found = embedding(images) - embedding.position_embeddings
    torch.testing.assert_close(found[:, 1:], expected, rtol=0, atol=1e-5)


# Equation 2


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attention_equals_torchs_module(heads):
    torch.manual_seed(0)
    ours = MultiheadSelfAttentionBlock(16, heads)
    reference = nn.MultiheadAttention(16, heads, batch_first=True)
    state = {"in_proj_weight": ours.qkv.weight, "in_proj_bias": ours.qkv.bias}
    reference.load_state_dict(state | ours.projection.state_dict(prefix="out_proj."))
    tokens = torch.randn(2, 7, 16)
    normed = ours.norm(tokens)
    expected, expected_weights = reference(
        normed, normed, normed, average_attn_weights=False
    )
    torch.testing.assert_close(ours(tokens), expected)
    torch.testing.assert_close(ours.weights(tokens), expected_weights)


def test_attention_is_the_equation():
    torch.manual_seed(0)
    block = MultiheadSelfAttentionBlock(12, 3)
    tokens = torch.randn(2, 5, 12)
    query, key, value = block.split_heads(tokens)
    assert query.shape == key.shape == value.shape == (2, 3, 5, 4)
    by_hand = torch.softmax(query @ key.mT / math.sqrt(4), dim=-1) @ value
    by_torch = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(by_hand, by_torch)
    joined = by_hand.transpose(1, 2).reshape(2, 5, 12)
    torch.testing.assert_close(block(tokens), block.projection(joined))


# Equation 3, and the block


def test_block_equals_torchvisions():
    torch.manual_seed(0)
    theirs = models.vision_transformer.EncoderBlock(
        4, 16, 24, dropout=0.0, attention_dropout=0.0
    )
    ours = TransformerEncoderBlock(16, 4, 24)
    nn.init.normal_(theirs.ln_1.weight), nn.init.normal_(theirs.mlp[0].bias)
    order = "ln_1 self_attention.in_proj self_attention.out_proj ln_2 mlp.0 mlp.3"
    state = theirs.state_dict()
    names = [name for part in order.split() for name in state if name.startswith(part)]
    values = [state[name] for name in names]
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    tokens = torch.randn(3, 9, 16)
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def test_gelu_is_exact():
    mlp = MLPBlock(1, 1)
    for layer in (mlp.layers[1], mlp.layers[4]):
        nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
    mlp.layers[0] = nn.Identity()
    x = torch.linspace(-4, 4, 9)[:, None]
    torch.testing.assert_close(mlp(x), x * torch.distributions.Normal(0, 1).cdf(x))


@pytest.mark.parametrize("n", [1, 4])
def test_fewer_outputs_are_the_first_ones(n):
    torch.manual_seed(0)
    block, tokens = TransformerEncoderBlock(16, 4, 24), torch.randn(2, 6, 16)
    torch.testing.assert_close(block(tokens, num_outputs=n), block(tokens)[:, :n])


# Equation 4: the whole


@pytest.mark.parametrize("size", PUBLISHED)
def test_counts_are_the_published_ones(size):
    with torch.device("meta"):
        assert count(ViT(ViTConfig(**VIT_SIZES[size]))) == PUBLISHED[size]


@pytest.mark.parametrize(
    ("size", "name"), [("Ti", "tiny"), ("S", "small"), ("B", "base")]
)
def test_counts_are_timms(size, name):
    timm = pytest.importorskip("timm", reason="a development dependency")
    with torch.device("meta"):
        ours = ViT(ViTConfig(**VIT_SIZES[size]))
        theirs = timm.create_model(f"vit_{name}_patch16_224")
    assert count(ours) == count(theirs)


@pytest.mark.parametrize(
    ("size", "name"), [("B", "vit_b_16"), ("L", "vit_l_16"), ("H", "vit_h_14")]
)
def test_counts_are_torchvisions(size, name):
    with torch.device("meta"):
        ours, theirs = ViT(ViTConfig(**VIT_SIZES[size])), getattr(models, name)()
    assert count(ours) == count(theirs)


def torchvisions(**changes):
    torch.manual_seed(0)
    sizes = {"image_size": 12, "patch_size": 4, "num_classes": 5}
    sizes |= {"num_layers": 3, "num_heads": 4, "hidden_dim": 16, "mlp_dim": 24}
    theirs = models.VisionTransformer(**sizes | changes)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    return theirs


NAMES = """\
class_token embedding.class_token
conv_proj. embedding.projection.
encoder.pos_embedding embedding.position_embeddings
encoder.layers.encoder_layer_ blocks.
self_attention.in_proj_ attention.qkv.
self_attention.out_proj. attention.projection.
.ln_1. .attention.norm.
.mlp.0. .mlp.layers.1.
.mlp.3. .mlp.layers.4.
.ln_2. .mlp.layers.0.
encoder.ln. norm.
heads.head. head.
"""  # part of a name in torchvision's ViT, and in ours


def ours_of(state):
    """Return torchvision's state dict with our names."""
    for there, here in map(str.split, NAMES.splitlines()):
        state = {name.replace(there, here): value for name, value in state.items()}
    return state


def test_torchvisions_weights_give_torchvisions_logits():
    theirs, ours = torchvisions().eval(), small().eval()
    ours.load_state_dict(ours_of(theirs.state_dict()))
    images = torch.randn(4, 3, 12, 12)
    torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)


def test_small_vit_equals_timms():
    timm = pytest.importorskip("timm", reason="a development dependency")
    sizes = {name: SMALL[name] for name in ("patch_size", "num_classes", "embed_dim")}
    sizes |= {"img_size": 12, "depth": 3, "num_heads": 4, "mlp_ratio": 1.5}
    theirs, ours = timm.models.VisionTransformer(**sizes).eval(), small().eval()
    names = {
        "cls_token": "embedding.class_token",
        "pos_embed": "embedding.position_embeddings",
    }
    names |= {
        "patch_embed.proj": "embedding.projection",
        "norm1": "attention.norm",
        "attn.qkv": "attention.qkv",
    }
    names |= {"attn.proj": "attention.projection", "norm2": "mlp.layers.0"}
    names |= {"mlp.fc1": "mlp.layers.1", "mlp.fc2": "mlp.layers.4"}
    state = {}
    for name, value in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = torch.randn_like(value) * 0.3
    ours.load_state_dict(state)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_any_batch_size(batch_size):
    model = small().eval()
    images = torch.randn(7, 3, 12, 12)
    torch.testing.assert_close(model(images[:batch_size]), model(images)[:batch_size])


@pytest.mark.parametrize(
    "shape", [(2, 3, 12, 16), (2, 1, 12, 12), (3, 12, 12), (2, 3, 16, 16)]
)
def test_pictures_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes images \(B, 3, 12, 12\)"):
        small()(torch.zeros(shape))


def test_a_new_model_knows_nothing():
    torch.manual_seed(0)
    logits = ViT(ViTConfig(**SMALL))(torch.randn(2, 3, 12, 12))
    assert torch.equal(logits, torch.zeros(2, 5))


def test_every_parameter_gets_a_gradient():
    model = small()
    F.cross_entropy(model(torch.randn(4, 3, 12, 12)), torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_weights_survive_saving(tmp_path):
    model, other = small().eval(), small(head_std=1.0).eval()
    path = save_model(model, tmp_path, "vit.pt")
    images = torch.randn(2, 3, 12, 12)
    assert torch.equal(load_model(other, path)(images), model(images))


# The configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 5}, "patch_size 5 .* 12: choose one of 1, 2, 3, 4, 6, 12"),
        ({"patch_size": 24}, "patch_size 24 does not divide"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": -4}, "patch_size is -4"),
        ({"image_size": 12.0}, "image_size is 12.0"),
        ({"num_heads": 3}, "num_heads 3 .* embed_dim 16: choose one of 1, 2, 4, 8, 16"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"embed_dim": 0}, "embed_dim is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"depth": "12"}, "depth is '12'"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"mlp_dim": 1.5}, "mlp_dim is 1.5"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": math.nan}, "dropout is nan"),
    ],
)
def test_bad_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(**SMALL | changes)


def test_the_parts_refuse_sizes_that_do_not_divide():
    with pytest.raises(ValueError, match="patch_size 5"):
        PatchEmbedding(12, 5, 3, 8)
    with pytest.raises(ValueError, match="num_heads 3"):
        MultiheadSelfAttentionBlock(16, 3)


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        ViTConfig().depth = 3


# Training


def test_decay_groups():
    model = small()
    matrices, vectors = decay_groups(model, 0.3)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    decayed = {id(parameter) for parameter in matrices["params"]}
    named = list(model.named_parameters())
    names = {name for name, parameter in named if id(parameter) not in decayed}
    assert len(matrices["params"]) + len(vectors["params"]) == len(named)
    tables = {"embedding.class_token", "embedding.position_embeddings"}
    norms = re.compile(r"norm|\.mlp\.layers\.0")
    assert tables < names
    for name in names - tables:
        assert name.endswith("bias") or norms.search(name), name
    for name in ("embedding.projection", "head", "blocks.0.attention.qkv"):
        assert f"{name}.weight" not in names


@pytest.mark.parametrize("max_norm", [0.01, 1e6, None])
def test_a_step_with_max_norm_equals_clipping_by_hand(max_norm):
    model, by_hand, data, loss_fn = small(), small(), batches(), nn.CrossEntropyLoss()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.5) for m in (model, by_hand)]
    for X, y in data:
        optimizers[1].zero_grad()
        loss_fn(by_hand(X), y).backward()
        squares = [p.grad.square().sum().item() for p in by_hand.parameters()]
        length = math.sqrt(sum(squares))
        if max_norm is not None and length > max_norm:
            for parameter in by_hand.parameters():
                parameter.grad.mul_(max_norm / length)
        optimizers[1].step()
    train_step(model, data, loss_fn, optimizers[0], "cpu", max_norm=max_norm)
    for ours, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_clipping_hides_no_nan():
    model, data = small(), batches()
    data[1][0][0, 0, 0, 0] = math.nan
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    arguments = (model, data, data, optimizer, nn.CrossEntropyLoss(), 1, "cpu")
    problem = "epoch 1: NaN or infinity at step 2 of 3"
    with pytest.raises(FloatingPointError, match=problem):
        next(train_epochs(*arguments, max_norm=1.0))


def test_it_learns_a_batch_by_heart():
    torch.manual_seed(0)
    model, data = ViT(ViTConfig(**SMALL)), batches(1)
    optimizer = torch.optim.AdamW(decay_groups(model, 0.05), lr=1e-2)
    scheduler = warmup_cosine(optimizer, 60, 6)
    arguments = (model, data, data, optimizer, nn.CrossEntropyLoss(), 60, "cpu")
    rows = list(
        train_epochs(*arguments, scheduler=scheduler, per_batch=True, max_norm=1.0)
    )
    # A new model: every class equally likely.
    assert rows[0]["train_loss"] == pytest.approx(math.log(5), abs=1e-4)
    assert rows[-1]["test_acc"] == 1.0
