PATCHIFY = """\
def patchify(images, patch_size):
    B, C, H, W = images.shape
    P = patch_size
    split = images.reshape(B, C, H // P, P, W // P, P)  # (B, C, rows, P, columns, P)
    patches = split.permute(0, 2, 4, 1, 3, 5)  # -> (B, rows, columns, C, P, P)
    return patches.reshape(B, -1, C * P * P)  # -> (B, rows * columns, C * P * P)
"""
MASKED = """\
def masked_attention(query, key, value, allowed):
    scores = query @ key.T / query.shape[1] ** 0.5  # (N, d) @ (d, N) -> (N, N)
    weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=1)
    return weights @ value  # (N, N) @ (N, d) -> (N, d)
"""
ATTENTION = """\
class SelfAttention(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens):
        B, N, D = tokens.shape
        d = D // self.num_heads
        qkv = self.qkv(tokens).reshape(B, N, 3, self.num_heads, d)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # three (B, heads, N, d)
        scores = query @ key.transpose(2, 3) / d**0.5  # -> (B, heads, N, N)
        mixed = scores.softmax(dim=3) @ value  # -> (B, heads, N, d)
        joined = mixed.transpose(1, 2).reshape(B, N, D)  # (B, N, heads, d) -> (B, N, D)
        return self.projection(joined)
"""
MLP = """\
class MLP(nn.Module):
    def __init__(self, embed_dim, mlp_dim):
        super().__init__()
        self.linear_1 = nn.Linear(embed_dim, mlp_dim)
        self.linear_2 = nn.Linear(mlp_dim, embed_dim)

    def forward(self, tokens):
        return self.linear_2(F.gelu(self.linear_1(tokens)))
"""
BLOCK = """\
class EncoderBlock(nn.Module):
    def __init__(self, attention, mlp, embed_dim):
        super().__init__()
        self.norm_1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attention = attention
        self.norm_2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = mlp

    def forward(self, tokens):
        tokens = self.attention(self.norm_1(tokens)) + tokens  # equation 2
        return self.mlp(self.norm_2(tokens)) + tokens  # equation 3
"""
RESIZE = """\
def resize_positions(positions, new_side):
    first, rest = positions[:, :1], positions[:, 1:]  # (1, 1, D), (1, N, D)
    side = round(rest.shape[1] ** 0.5)
    maps = rest.transpose(1, 2).unflatten(2, (side, side))  # -> (1, D, side, side)
    maps = F.interpolate(maps, (new_side, new_side), mode="bicubic", align_corners=True)
    return torch.cat([first, maps.flatten(2).transpose(1, 2)], dim=1)
"""
CHALLENGE = """\
def train_vit(images, labels):
    sizes = {"embed_dim": 64, "depth": 2, "num_heads": 4, "mlp_dim": 128}
    model = ViT(ViTConfig(28, 14, 1, 10, **sizes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for part in torch.randperm(len(images)).split(32):
        loss = F.cross_entropy(model(images[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
"""


def changed(source, *pairs):
    """Return source with parts replaced, each of which must be there."""
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


WRONG = {
    "08.1": [
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    return images.reshape(B, -1, C * patch_size * patch_size)",
        changed(PATCHIFY, ("0, 2, 4, 1, 3, 5", "0, 4, 2, 1, 3, 5")),
        changed(PATCHIFY, ("0, 2, 4, 1, 3, 5", "0, 2, 4, 3, 5, 1")),
        changed(PATCHIFY, ("0, 2, 4, 1, 3, 5", "0, 2, 4, 1, 5, 3")),
        changed(PATCHIFY, ("H // P, P, W // P, P)", "P, H // P, P, W // P)"), ("0, 2, 4, 1, 3, 5", "0, 3, 5, 1, 2, 4")),
        changed(PATCHIFY, ("B, C, H // P, P, W // P, P", "B, H // P, P, W // P, P, C")),
        changed(PATCHIFY, ("    return patches", "    return patches.float()")),
        "def patchify(images, patch_size):\n    return F.unfold(images.float(), patch_size, stride=patch_size).transpose(1, 2)",
        "def patchify(images, patch_size):\n    P = patch_size\n    return images.unfold(2, P, P).unfold(3, P, P).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)",
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    P = patch_size\n    patches = [images[:, :, i : i + P, j : j + P].flatten(1) for i in range(0, H, P) for j in range(0, W, P)]\n    return torch.stack(patches, dim=1)",
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    P = patch_size\n    out = images.new_empty(B, H // P, W // P, C * P * P)\n    for row in range(H // P):\n        part = images[:, :, row * P : (row + 1) * P].unflatten(3, (-1, P))\n        out[:, row] = part.permute(0, 3, 1, 2, 4).flatten(2)\n    return out.flatten(1, 2)",
        changed(PATCHIFY, ("    P = patch_size", "    P = patch_size\n    images -= 1")),
    ],
    "08.2": [
        changed(MASKED, (".masked_fill(~allowed, -math.inf)", "")),
        changed(MASKED, (".masked_fill(~allowed, -math.inf).softmax(dim=1)", ".softmax(dim=1) * allowed")),
        changed(MASKED, (" / query.shape[1] ** 0.5", "")),
        changed(MASKED, ("-math.inf", "0")),
        changed(MASKED, ("scores.masked_fill(~allowed, -math.inf)", "(scores + ~allowed * -math.inf)")),
        changed(MASKED, ("~allowed", "allowed")),
        changed(MASKED, ("~allowed", "~allowed.T")),
        changed(MASKED, ("softmax(dim=1)", "softmax(dim=0)")),
        changed(MASKED, ("query.shape[1]", "query.shape[0]")),
        changed(MASKED, ("masked_fill(", "masked_fill_("), ("    scores", "    allowed.logical_not_()\n    scores"), ("~allowed", "allowed")),
        "def masked_attention(query, key, value, allowed):\n    return F.scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=allowed[None])[0]",
    ],
    "08.3": [
        changed(ATTENTION, (" / d**0.5", "")),
        changed(ATTENTION, ("d**0.5", "D**0.5")),
        changed(ATTENTION, ("softmax(dim=3)", "softmax(dim=2)")),
        changed(ATTENTION, ("softmax(dim=3)", "softmax(dim=1)")),
        changed(ATTENTION, ("d = D // self.num_heads", "d = D"), ("3, self.num_heads, d", "3, 1, d")),
        changed(ATTENTION, ("mixed.transpose(1, 2).reshape", "mixed.reshape")),
        changed(ATTENTION, ("self.projection(joined)", "joined")),
        changed(ATTENTION, ("self.projection(joined)", "self.projection(joined) + tokens")),
        changed(ATTENTION, ("(B, N, 3, self.num_heads, d)", "(B, N, self.num_heads, 3, d)"), ("2, 0, 3, 1, 4", "3, 0, 2, 1, 4")),
        changed(ATTENTION, ("(B, N, 3, self.num_heads, d)", "(B, N, 3, d, self.num_heads)"), ("2, 0, 3, 1, 4", "2, 0, 4, 1, 3")),
        changed(ATTENTION, ("query, key, value =", "key, query, value =")),
        changed(ATTENTION, ("3 * embed_dim)", "3 * embed_dim, bias=False)")),
        changed(ATTENTION, ("self.qkv", "self.inner")),
        changed(ATTENTION, ("        return self.projection(joined)\n", "")),
        """class SelfAttention(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.inner = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)

    def forward(self, tokens):
        return self.inner(tokens, tokens, tokens)[0]
""",
    ],
    "08.4": [
        changed(MLP, ("F.gelu", "F.relu")),
        changed(MLP, ("F.gelu(self.linear_1(tokens))", "self.linear_1(tokens)")),
        changed(MLP, ('self.linear_1(tokens)', 'self.linear_1(tokens), approximate="tanh"')),
        changed(MLP, ("return self.linear_2(F.gelu(self.linear_1(tokens)))", "return F.gelu(self.linear_2(F.gelu(self.linear_1(tokens))))")),
        changed(MLP, ("tokens)))", "tokens))) + tokens")),
        changed(MLP, ("self.linear_1(tokens)", "self.linear_1(F.layer_norm(tokens, tokens.shape[2:]))")),
        changed(MLP, ("nn.Linear(mlp_dim, embed_dim)", "nn.Linear(mlp_dim, embed_dim, bias=False)")),
        changed(MLP, ("        super().__init__()\n", "")),
    ],
    "08.5": [
        changed(BLOCK, ("(self.norm_1(tokens)) + tokens", "(self.norm_1(tokens))")),
        changed(BLOCK, ("(self.norm_2(tokens)) + tokens", "(self.norm_2(tokens))")),
        changed(BLOCK, ("tokens = self.attention", "between = self.attention"), ("self.norm_2(tokens)", "self.norm_2(between)")),
        changed(BLOCK, ("tokens = self.attention", "between = self.attention"), ("+ tokens  # equation 3", "+ between")),
        changed(BLOCK, ("self.attention(self.norm_1(tokens)) + tokens", "self.norm_1(self.attention(tokens) + tokens)"), ("self.mlp(self.norm_2(tokens)) + tokens", "self.norm_2(self.mlp(tokens) + tokens)")),
        changed(BLOCK, ("self.attention(self.norm_1(tokens))", "self.attention(tokens)"), ("self.mlp(self.norm_2(tokens))", "self.mlp(tokens)")),
        changed(BLOCK, ("self.norm_2(tokens)", "self.norm_1(tokens)")),
        changed(BLOCK, ("self.norm_2 = nn.LayerNorm(embed_dim, eps=1e-6)", "self.norm_2 = self.norm_1")),
        changed(BLOCK, ("tokens = self.attention(self.norm_1(tokens)) + tokens", "tokens += self.attention(self.norm_1(tokens))")),
        changed(BLOCK, ("        tokens = self.attention(self.norm_1(tokens)) + tokens  # equation 2\n", "")),
        changed(BLOCK, (", eps=1e-6", "")),
        changed(BLOCK, ("self.norm_2 = nn.LayerNorm(embed_dim, eps=1e-6)", "self.norm_2 = nn.LayerNorm(embed_dim)")),
    ],
    "08.6": [
        changed(RESIZE, ("bicubic", "bilinear")),
        changed(RESIZE, ("align_corners=True", "align_corners=False")),
        changed(RESIZE, ("rest.transpose(1, 2).unflatten(2, (side, side))", "rest.reshape(1, -1, side, side)")),
        changed(RESIZE, ("maps.flatten(2)", "maps.mT.flatten(2)")),
        changed(RESIZE, ("return torch.cat([first, maps.flatten(2).transpose(1, 2)], dim=1)", "return maps.flatten(2).transpose(1, 2)")),
        changed(RESIZE, ("torch.cat([first, maps.flatten(2).transpose(1, 2)], dim=1)", "torch.cat([maps.flatten(2).transpose(1, 2), first], dim=1)")),
        changed(RESIZE, ("[first,", "[0 * first,")),
        changed(RESIZE, ('mode="bicubic", align_corners=True', 'mode="nearest"')),
        changed(RESIZE, ("positions[:, 1:]", "positions[:, :-1]")),
        "def resize_positions(positions, new_side):\n    return F.interpolate(positions.transpose(1, 2), new_side**2 + 1, mode=\"linear\").transpose(1, 2)",
        "def resize_positions(positions, new_side):\n    return positions[:, : new_side**2 + 1]",
    ],
    "08.challenge": [
        CHALLENGE,  # one epoch only
        changed(CHALLENGE, ("        loss.backward()\n", "")),
        changed(CHALLENGE, ('"depth": 2', '"depth": 8')),
        changed(CHALLENGE, ("return model", "return model(images)")),
        changed(CHALLENGE, ("model = ViT(ViTConfig(28, 14, 1, 10, **sizes))", "model = nn.Sequential(nn.Conv2d(1, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 13 * 13, 10))")),
        changed(CHALLENGE, ("model = ViT(ViTConfig(28, 14, 1, 10, **sizes))", "model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))")),
        changed(CHALLENGE, ("return model", "return nn.Sequential(model, nn.Flatten(0))")),
    ],
}  # fmt: skip
RIGHT = {
    "08.1": [
        "def patchify(images, patch_size):\n    P = patch_size\n    split = images.unflatten(3, (-1, P)).unflatten(2, (-1, P))\n    return split.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)",
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    P = patch_size\n    rows = images.view(B, C, H // P, P, W).transpose(1, 2)\n    return rows.reshape(B, H // P, C, P, W // P, P).movedim(4, 2).reshape(B, -1, C * P * P)",
    ],
    "08.2": [
        "def masked_attention(query, key, value, allowed):\n    scores = torch.einsum('nd,md->nm', query, key) / math.sqrt(key.shape[-1])\n    weights = scores.exp() * allowed\n    return (weights / weights.sum(dim=1, keepdim=True)) @ value",
        "def masked_attention(query, key, value, allowed):\n    scores = query @ key.T / query.shape[1] ** 0.5\n    return torch.where(allowed, scores, -1e9).softmax(dim=1) @ value",
        # number by number
        """def masked_attention(query, key, value, allowed):
    N, d = query.shape
    mixed = torch.zeros_like(value)
    for i in range(N):
        scores = torch.full((N,), -math.inf)
        for j in range(N):
            if allowed[i, j]:
                scores[j] = sum(query[i, k] * key[j, k] for k in range(d)) / d**0.5
        for j, weight in enumerate(scores.softmax(dim=0)):
            mixed[i] = mixed[i] + weight * value[j]
    return mixed
""",
    ],
    "08.3": [
        changed(ATTENTION, ("        scores = query @ key.transpose(2, 3) / d**0.5  # -> (B, heads, N, N)\n        mixed = scores.softmax(dim=3) @ value  # -> (B, heads, N, d)\n", "        mixed = F.scaled_dot_product_attention(query, key, value)\n")),
        # head by head
        """class SelfAttention(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.width = embed_dim // num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens):
        query, key, value = (p.split(self.width, dim=2) for p in self.qkv(tokens).chunk(3, dim=2))
        outputs = []
        for q, k, v in zip(query, key, value):
            outputs.append((q @ k.mT / self.width**0.5).softmax(dim=-1) @ v)
        return self.projection(torch.cat(outputs, dim=2))
""",
    ],
    "08.4": [
        """class MLP(nn.Module):
    def __init__(self, embed_dim, mlp_dim, dropout=0.0):
        super().__init__()
        self.linear_1 = nn.Linear(embed_dim, mlp_dim)
        self.linear_2 = nn.Linear(mlp_dim, embed_dim)
        self.bend = nn.GELU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens):
        return self.dropout(self.linear_2(self.dropout(self.bend(self.linear_1(tokens)))))
""",
        changed(MLP, ("F.gelu(self.linear_1(tokens))", "self.bend(self.linear_1(tokens))"), ("    def forward", "    def bend(self, x):\n        return x * 0.5 * (1 + torch.erf(x / 2**0.5))\n\n    def forward")),
    ],
    "08.5": [
        changed(BLOCK, ("        tokens = self.attention(self.norm_1(tokens)) + tokens  # equation 2\n        return self.mlp(self.norm_2(tokens)) + tokens", "        between = tokens + self.attention(self.norm_1(tokens))\n        change = self.mlp(self.norm_2(between))\n        return between + change")),
        """class EncoderBlock(nn.Module):
    def __init__(self, attention, mlp, embed_dim):
        super().__init__()
        self.norm_1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.norm_2 = nn.LayerNorm(embed_dim, 1e-6)
        self.parts = nn.ModuleList([attention, mlp])

    def forward(self, z):
        for norm, part in zip((self.norm_1, self.norm_2), self.parts):
            z = torch.add(z, part(norm(z)))
        return z
""",
    ],
    "08.6": [
        changed(RESIZE, ("round(rest.shape[1] ** 0.5)", "int(torch.tensor(rest.shape[1]).sqrt().item())")),
        "def resize_positions(positions, new_side):\n    D = positions.shape[2]\n    side = math.isqrt(positions.shape[1] - 1)\n    grid = positions[:, 1:].reshape(1, side, side, D).permute(0, 3, 1, 2)\n    grid = F.interpolate(grid, size=new_side, mode=\"bicubic\", align_corners=True)\n    rest = grid.permute(0, 2, 3, 1).reshape(1, -1, D)\n    return torch.cat((positions[:, :1], rest), 1)",
        "def resize_positions(positions, new_side):\n    from torchvision.models.vision_transformer import interpolate_embeddings\n    state = {\"encoder.pos_embedding\": positions.clone()}\n    return interpolate_embeddings(new_side, 1, state)[\"encoder.pos_embedding\"]",
    ],
}  # fmt: skip
