WRONG = {
    "08.1": [
        "def num_tokens(height, width, patch_size):\n    return (height // patch_size) * (width // patch_size)",
        "def num_tokens(height, width, patch_size):\n    return (height // patch_size) ** 2 + 1",
        "def num_tokens(height, width, patch_size):\n    return height * width // patch_size**2 + 1",
        "def num_tokens(height, width, patch_size):\n    return (height / patch_size) * (width / patch_size) + 1",
    ],
    "08.2": [
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    return images.reshape(B, -1, C * patch_size * patch_size)",
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    P = patch_size\n    split = images.reshape(B, C, H // P, P, W // P, P)\n    return split.permute(0, 2, 4, 3, 5, 1).reshape(B, -1, P * P * C)[:, :, torch.arange(P * P * C).roll(1)]",
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    P = patch_size\n    split = images.reshape(B, C, H // P, P, W // P, P)\n    return split.permute(0, 4, 2, 1, 3, 5).reshape(B, -1, C * P * P)",
        "def patchify(images, patch_size):\n    B, C, H, W = images.shape\n    P = patch_size\n    split = images.reshape(B, C, P, H // P, P, W // P)\n    return split.permute(0, 3, 5, 1, 2, 4).reshape(B, -1, C * P * P)",
        "def patchify(images, patch_size):\n    return images.unfold(2, patch_size, patch_size)",
    ],
    "08.3": [
        "def masked_attention(query, key, value, allowed):\n    return (query @ key.T / query.shape[1] ** 0.5).softmax(dim=1) @ value",
        "def masked_attention(query, key, value, allowed):\n    weights = (query @ key.T / query.shape[1] ** 0.5).softmax(dim=1) * allowed\n    return weights @ value",
        "def masked_attention(query, key, value, allowed):\n    scores = (query @ key.T).masked_fill(~allowed, -math.inf)\n    return scores.softmax(dim=1) @ value",
        "def masked_attention(query, key, value, allowed):\n    scores = query @ key.T / query.shape[1] ** 0.5\n    return scores.masked_fill(~allowed, 0).softmax(dim=1) @ value",
        "def masked_attention(query, key, value, allowed):\n    scores = query @ key.T / query.shape[1] ** 0.5\n    return scores.masked_fill(allowed, -math.inf).softmax(dim=1) @ value",
        "def masked_attention(query, key, value, allowed):\n    scores = query @ key.T / query.shape[1] ** 0.5\n    return scores.masked_fill(~allowed.T, -math.inf).softmax(dim=1) @ value",
    ],
    "08.4": [
        "def block_parameters(embed_dim, mlp_dim):\n    D, M = embed_dim, mlp_dim\n    return 4 * D * D + 4 * D + 2 * D * M + M + D",
        "def block_parameters(embed_dim, mlp_dim):\n    D, M = embed_dim, mlp_dim\n    return 4 * D + 4 * D * D + 2 * D * M",
        "def block_parameters(embed_dim, mlp_dim):\n    D, M = embed_dim, mlp_dim\n    return 4 * D + 3 * D * D + 3 * D + 2 * D * M + M + D",
        "def block_parameters(embed_dim, mlp_dim):\n    D, M = embed_dim, mlp_dim\n    return 2 * D + 4 * D * D + 4 * D + 2 * D * M + M + D",
    ],
    "08.5": [
        "def learning_rate(step, steps, warmup_steps, peak, floor):\n    if step < warmup_steps:\n        return peak * step / warmup_steps\n    progress = (step - warmup_steps) / (steps - warmup_steps)\n    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2",
        "def learning_rate(step, steps, warmup_steps, peak, floor):\n    if step < warmup_steps:\n        return peak * (step + 1) / warmup_steps\n    return floor + (peak - floor) * (1 + math.cos(math.pi * step / steps)) / 2",
        "def learning_rate(step, steps, warmup_steps, peak, floor):\n    if step < warmup_steps:\n        return peak * (step + 1) / warmup_steps\n    progress = (step - warmup_steps) / (steps - warmup_steps)\n    return floor + peak * (1 + math.cos(math.pi * progress)) / 2",
        "def learning_rate(step, steps, warmup_steps, peak, floor):\n    if step < warmup_steps:\n        return peak * (step + 1) / warmup_steps\n    progress = (step - warmup_steps) / (steps - warmup_steps)\n    return peak - (peak - floor) * progress",
    ],
    "08.6": [
        "def patch_box(token, image_size, patch_size):\n    row, column = divmod(token, image_size // patch_size)\n    return row * patch_size, column * patch_size, (row + 1) * patch_size, (column + 1) * patch_size",
        "def patch_box(token, image_size, patch_size):\n    if token == 0:\n        return None\n    row, column = divmod(token, image_size // patch_size)\n    return row * patch_size, column * patch_size, (row + 1) * patch_size, (column + 1) * patch_size",
        "def patch_box(token, image_size, patch_size):\n    if token == 0:\n        return None\n    column, row = divmod(token - 1, image_size // patch_size)\n    return row * patch_size, column * patch_size, (row + 1) * patch_size, (column + 1) * patch_size",
        "def patch_box(token, image_size, patch_size):\n    if token == 0:\n        return None\n    row, column = divmod(token - 1, image_size // patch_size)\n    top, left = row * patch_size, column * patch_size\n    return top, left, top + patch_size - 1, left + patch_size - 1",
    ],
}
