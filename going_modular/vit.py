# Written by tools/export.py from 08_paper_replicating_vit.ipynb: edit there, not here.
"""The Vision Transformer, part by part."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from going_modular.model_builder import check_images


def check_divides(part_name: str, part: int, whole_name: str, whole: int) -> None:
    """Raise ValueError unless part divides whole, two whole numbers from 1."""
    fitting = [number for number in range(1, whole + 1) if whole % number == 0]
    if part not in fitting:
        raise ValueError(
            f"{part_name} {part} does not divide {whole_name} {whole}: choose one of "
            f"{str(fitting)[1:-1]}"
        )


class PatchEmbedding(nn.Module):
    """Image to tokens, equation 1: (B, C, size, size) float -> (B, N + 1, embed_dim).

    A class token, then N = (image_size / patch_size)² patches, row by row, through one
    linear layer; plus position embeddings. patch_size must divide image_size.
    """

    def __init__(
        self, image_size: int, patch_size: int, in_channels: int, embed_dim: int
    ):
        super().__init__()
        check_divides("patch_size", patch_size, "image_size", image_size)
        self.projection = nn.Conv2d(in_channels, embed_dim, patch_size, patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        positions = torch.randn(1, (image_size // patch_size) ** 2 + 1, embed_dim)
        self.position_embeddings = nn.Parameter(0.02 * positions)

    def forward(self, images: Tensor) -> Tensor:
        layer = self.projection
        sides = -1, layer.kernel_size[0]
        # (B, C, H, W) -> (B, C, H / P, P, W / P, P) -> (B, N, C P²) -> (B, N, D)
        patches = images.unflatten(3, sides).unflatten(2, sides)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        tokens = nn.functional.linear(patches, layer.weight.flatten(1), layer.bias)
        token = self.class_token.expand(images.shape[0], -1, -1)  # -> (B, 1, D)
        return self.position_embeddings + torch.cat([token, tokens], 1)  # (B, N+1, D)


class MultiheadSelfAttentionBlock(nn.Module):
    """LayerNorm, attention: equation 2, no residual, (B, N, D) -> same."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        check_divides("num_heads", num_heads, "embed_dim", embed_dim)
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)  # all in one product
        self.projection = nn.Linear(embed_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def split_heads(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """(B, N, D) -> query, key, value, each (B, heads, N, D / heads)."""
        qkv = self.qkv(self.norm(tokens)).unflatten(2, (3, self.num_heads, -1))
        return qkv.permute(2, 0, 3, 1, 4).unbind()  # of (B, N, 3, heads, d)

    def weights(self, tokens: Tensor) -> Tensor:
        """Return each token's weights: (B, heads, N, N), rows sum to 1."""
        query, key, _ = self.split_heads(tokens)
        return (query @ key.mT / query.shape[3] ** 0.5).softmax(dim=3)

    def forward(self, tokens: Tensor, num_outputs: int | None = None) -> Tensor:
        """Return outputs of the first num_outputs tokens; None: of all."""
        query, key, value = self.split_heads(tokens)
        attend = nn.functional.scaled_dot_product_attention
        mixed = attend(query[:, :, :num_outputs], key, value).transpose(1, 2)
        return self.dropout(self.projection(mixed.flatten(2)))


class MLPBlock(nn.Module):
    """LayerNorm, MLP: equation 3, no residual, (B, N, D) -> same."""

    def __init__(self, embed_dim: int, mlp_dim: int, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(embed_dim, eps=1e-6),
            nn.Linear(embed_dim, mlp_dim),  # (B, N, D) -> (B, N, mlp_dim)
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, embed_dim),  # (B, N, mlp_dim) -> (B, N, D)
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(tokens)


class TransformerEncoderBlock(nn.Module):
    """Attention, then MLP, each added to its input: (B, N, D) -> same."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_dim: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.attention = MultiheadSelfAttentionBlock(
            embed_dim,
            num_heads,
            dropout,
        )
        self.mlp = MLPBlock(embed_dim, mlp_dim, dropout)

    def forward(
        self,
        tokens: Tensor,
        num_outputs: int | None = None,
    ) -> Tensor:
        gathered = self.attention(tokens, num_outputs)
        tokens = tokens[:, :num_outputs] + gathered
        return tokens + self.mlp(tokens)


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a ViT, by default ViT-B/16; ``ViTConfig(**VIT_SIZES["Ti"])``.

    ValueError if sizes do not fit each other, or a number is out of range.
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

    def __post_init__(self):
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: take a share in 0 <= p < 1")
        for name, value in vars(self).items():
            if name == "dropout":
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}: take a whole number, 1 or more")
        check_divides("patch_size", self.patch_size, "image_size", self.image_size)
        check_divides("num_heads", self.num_heads, "embed_dim", self.embed_dim)


# Ti and S: Touvron et al. 2021; B, L and H: Dosovitskiy et al., table 1
VIT_SIZES = {
    "Ti": dict(embed_dim=192, depth=12, num_heads=3, mlp_dim=768),
    "S": dict(embed_dim=384, depth=12, num_heads=6, mlp_dim=1536),
    "B": dict(embed_dim=768, depth=12, num_heads=12, mlp_dim=3072),
    "L": dict(embed_dim=1024, depth=24, num_heads=16, mlp_dim=4096),
    "H": dict(
        embed_dim=1280,
        depth=32,
        num_heads=16,
        mlp_dim=5120,
        patch_size=14,
    ),
}


def keep_size(layer: nn.Module) -> None:
    """Draw a layer's weights so that outputs become as large as inputs."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class ViT(nn.Module):
    """A ViT: (B, in_channels, size, size) float -> logits (B, num_classes).

    Dosovitskiy et al. 2021, equations 1 to 4.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        c = config
        size, patch, channels = c.image_size, c.patch_size, c.in_channels
        self.config = config
        self.image_shape = (channels, size, size)
        self.embedding = PatchEmbedding(size, patch, channels, c.embed_dim)
        self.dropout = nn.Dropout(c.dropout)
        sizes = c.embed_dim, c.num_heads, c.mlp_dim, c.dropout
        blocks = [TransformerEncoderBlock(*sizes) for _ in range(c.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(c.embed_dim, eps=1e-6)
        self.head = nn.Linear(c.embed_dim, c.num_classes)
        self.apply(keep_size)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.image_shape)
        tokens = self.dropout(self.embedding(images))  # -> (B, N + 1, D)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        class_token = self.blocks[-1](tokens, num_outputs=1)  # -> (B, 1, D)
        return self.head(self.norm(class_token[:, 0]))  # -> (B, num_classes)
