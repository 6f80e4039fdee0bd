# Written by tools/export.py from 08_paper_replicating_vit.ipynb: edit there, not here.
"""The Vision Transformer, part by part."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from going_modular.model_builder import check_images
from going_modular.utils import check_fit


def check_divides(part_name, part, whole_name, whole):
    """Raise ValueError unless ``part`` divides ``whole``, both whole numbers of at least 1; it names those that do."""
    if not (isinstance(part, int) and isinstance(whole, int) and part >= 1 and whole >= 1):
        raise ValueError(f"{part_name} is {part!r} and {whole_name} {whole!r}: both must be whole numbers, 1 or more")
    if whole % part:
        divisors = ", ".join(str(number) for number in range(1, whole + 1) if whole % number == 0)
        raise ValueError(f"{part_name} {part} does not divide {whole_name} {whole}: choose one of {divisors}")


class PatchEmbedding(nn.Module):
    """Picture to tokens, equation 1: (B, in_channels, image_size, image_size) float -> (B, N + 1, embed_dim).

    N = (image_size / patch_size)² patches, row by row, each through the same linear layer; before them a class token;
    a position embedding is added to each.  Raises ValueError where patch_size does not divide image_size.
    """

    def __init__(self, image_size, patch_size, in_channels, embed_dim):
        super().__init__()
        check_divides("patch_size", patch_size, "image_size", image_size)
        num_patches = (image_size // patch_size) ** 2
        self.projection = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(1, num_patches + 1, embed_dim))

    def forward(self, images):
        patches = self.projection(images)  # (B, C, H, W) -> (B, D, H / P, W / P)
        patches = patches.flatten(2).transpose(1, 2)  # (B, D, H / P, W / P) -> (B, N, D)
        class_token = self.class_token.expand(images.shape[0], -1, -1)  # (1, 1, D) -> (B, 1, D)
        return torch.cat([class_token, patches], dim=1) + self.position_embeddings  # (B, N + 1, D)


class MultiheadSelfAttentionBlock(nn.Module):
    """LayerNorm and multi-head self-attention, equation 2 without its residual: (B, N, embed_dim) -> the same.

    attention_dropout: share of the weights between tokens set to 0 in training; dropout: that of the outputs.
    Raises ValueError where num_heads does not divide embed_dim.
    """

    def __init__(self, embed_dim, num_heads, attention_dropout=0.0, dropout=0.0):
        super().__init__()
        check_divides("num_heads", num_heads, "embed_dim", embed_dim)
        self.num_heads, self.attention_dropout = num_heads, attention_dropout
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)  # queries, keys and values in one product
        self.projection = nn.Linear(embed_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def split_heads(self, tokens):
        """Return queries, keys and values of all heads: (B, N, D) -> three (B, heads, N, D / heads)."""
        qkv = self.qkv(self.norm(tokens)).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, heads, D / heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind()  # -> (3, B, heads, N, D / heads) -> its three parts

    def weights(self, tokens):
        """Return what each token (row) takes from each (column): (B, N, D) -> (B, heads, N, N); rows sum to 1."""
        query, key, _ = self.split_heads(tokens)
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # (B, heads, N, N)
        return scores.softmax(dim=3)

    def forward(self, tokens, num_outputs=None):
        """num_outputs: compute only the first so many tokens' outputs, (B, num_outputs, D); None: all."""
        query, key, value = self.split_heads(tokens)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query[:, :, :num_outputs], key, value, dropout_p=dropout)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, heads, N, D / heads) -> (B, N, D)
        return self.dropout(self.projection(mixed))


class MLPBlock(nn.Module):
    """LayerNorm and two layers for each token alone, equation 3 without residual: (B, N, embed_dim) -> the same.

    mlp_dim: width within.  dropout: share set to 0 in training after each layer.
    """

    def __init__(self, embed_dim, mlp_dim, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(embed_dim, eps=1e-6),
            nn.Linear(embed_dim, mlp_dim),  # (B, N, D) -> (B, N, mlp_dim)
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, embed_dim),  # (B, N, mlp_dim) -> (B, N, D)
            nn.Dropout(dropout),
        )

    def forward(self, tokens):
        return self.layers(tokens)


class TransformerEncoderBlock(nn.Module):
    """Attention, then MLP, each added to what it got (equations 2 and 3): (B, N, embed_dim) -> the same.

    Arguments and errors as for its two parts.
    """

    def __init__(self, embed_dim, num_heads, mlp_dim, attention_dropout=0.0, dropout=0.0):
        super().__init__()
        self.attention = MultiheadSelfAttentionBlock(embed_dim, num_heads, attention_dropout, dropout)
        self.mlp = MLPBlock(embed_dim, mlp_dim, dropout)

    def forward(self, tokens, num_outputs=None):
        """num_outputs: compute only the first so many tokens' outputs, (B, num_outputs, D); None: all."""
        tokens = tokens[:, :num_outputs] + self.attention(tokens, num_outputs)
        return tokens + self.mlp(tokens)


@dataclass(frozen=True)
class ViTConfig:
    """The sizes of a Vision Transformer, by default ViT-B/16; ``ViTConfig(**VIT_SIZES["Ti"], num_classes=3)``.

    Raises ValueError where patch_size does not divide image_size or num_heads embed_dim, where a size is no whole
    number of at least 1, and for a dropout outside 0 <= p < 1.
    """

    image_size: int = 224
    patch_size: int = 16
    in_channels: int = 3
    num_classes: int = 1000
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self):
        check_divides("patch_size", self.patch_size, "image_size", self.image_size)
        check_divides("num_heads", self.num_heads, "embed_dim", self.embed_dim)
        for name in ("in_channels", "num_classes", "depth", "mlp_dim"):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} is {size!r}: it must be a whole number, 1 or more")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a share from 0 up to, but not including, 1")


VIT_SIZES = {  # Ti and S: Touvron et al. 2021; B, L and H: Dosovitskiy et al. 2021, table 1
    "Ti": {"embed_dim": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768},
    "S": {"embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_dim": 1536},
    "B": {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072},
    "L": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "mlp_dim": 4096},
    "H": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "mlp_dim": 5120, "patch_size": 14},
}


class ViT(nn.Module):
    """A Vision Transformer: (B, in_channels, image_size, image_size) float -> logits (B, num_classes).

    config: a ``ViTConfig``.  A new model answers 0 for every class: its head begins at zero.
    Raises ValueError for images of another shape.  Dosovitskiy et al. 2021, equations 1 to 4.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.image_shape = (config.in_channels, config.image_size, config.image_size)
        self.embedding = PatchEmbedding(config.image_size, config.patch_size, config.in_channels, config.embed_dim)
        self.dropout = nn.Dropout(config.dropout)
        sizes = (config.embed_dim, config.num_heads, config.mlp_dim, config.attention_dropout, config.dropout)
        self.blocks = nn.ModuleList(TransformerEncoderBlock(*sizes) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)
        self.head = nn.Linear(config.embed_dim, config.num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)  # outputs as large as inputs
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.head.weight)

    def forward(self, images):
        check_images(images, self.image_shape)
        tokens = self.dropout(self.embedding(images))  # (B, C, H, W) -> (B, N + 1, D)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        class_token = self.blocks[-1](tokens, num_outputs=1)  # (B, N + 1, D) -> (B, 1, D): no other is read below
        return self.head(self.norm(class_token[:, 0]))  # (B, 1, D) -> (B, D) -> (B, K)


TORCHVISION_NAMES = {  # part of a name there: here
    "class_token": "embedding.class_token",
    "conv_proj.": "embedding.projection.",
    "encoder.pos_embedding": "embedding.position_embeddings",
    "encoder.layers.encoder_layer_": "blocks.",
    "self_attention.in_proj_": "attention.qkv.",
    "self_attention.out_proj.": "attention.projection.",
    ".ln_1.": ".attention.norm.",
    ".mlp.linear_1.": ".mlp.layers.1.",  # so the published files name them,
    ".mlp.linear_2.": ".mlp.layers.4.",
    ".mlp.0.": ".mlp.layers.1.",  # and so today's torchvision
    ".mlp.3.": ".mlp.layers.4.",
    ".ln_2.": ".mlp.layers.0.",
    "encoder.ln.": "norm.",
    "heads.head.": "head.",
}


def load_torchvision_weights(model, state):
    """Load the state dict of one of torchvision's Vision Transformers into a ``ViT`` of the same sizes, and return it.

    Raises ValueError, naming the first entry that does not fit, for another model's; the model is then unchanged.
    """
    renamed = {}
    for name, value in state.items():
        for theirs, ours in TORCHVISION_NAMES.items():
            name = name.replace(theirs, ours)
        renamed[name] = value
    check_fit(renamed, model, "torchvision's state dict")
    model.load_state_dict(renamed)
    return model


def warmup_cosine(optimizer, steps, warmup_steps):
    """Return a scheduler, stepped once a batch: the learning rate rises linearly to the optimizer's, then falls to 0.

    warmup_steps: the steps in which it rises; after them it follows half a cosine, and is 0 after ``steps``.
    Raises ValueError unless 0 <= warmup_steps < steps.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warmup_steps is {warmup_steps}, steps {steps}: the warm-up must end before training does")

    def factor(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = min((step - warmup_steps) / (steps - warmup_steps), 1.0)  # 0 to 1
        return 0.5 * (1 + math.cos(math.pi * done))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def decay_groups(model, weight_decay):
    """Return parameter groups for an optimizer: matrices with this weight decay, vectors (biases, norms) with none.

    Class token and position embeddings are one vector for each place and count as vectors.
    """
    matrices, vectors = [], []
    for parameter in model.parameters():
        is_vector = parameter.ndim <= 1 or (parameter.ndim == 3 and parameter.shape[0] == 1)
        (vectors if is_vector else matrices).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def attention_maps(model, images):
    """Return what every token takes from every other, in all blocks: (depth, B, heads, N + 1, N + 1), rows sum to 1.

    model: a ``ViT``; a copy in evaluation mode is asked.  images: (B, C, H, W), where the model is.  Token 0 is the
    class token, the others are the patches row by row.  Raises ValueError for images of another shape.
    """
    check_images(images, model.image_shape)
    model, maps = copy.deepcopy(model).eval(), []
    with torch.inference_mode():
        tokens = model.embedding(images)
        for block in model.blocks:
            maps.append(block.attention.weights(tokens))
            tokens = block(tokens)
    return torch.stack(maps)  # depth × (B, heads, N + 1, N + 1) -> (depth, B, heads, N + 1, N + 1)
