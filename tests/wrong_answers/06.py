def changed(source, *edits):
    """Return source with the edits, pairs of old and new text, each found once."""
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


NORMALIZE = """\
def normalize(images, mean, std):
    mean = torch.tensor(mean)[:, None, None]
    std = torch.tensor(std)[:, None, None]
    return (images.float() / 255 - mean) / std
"""
MEANS = """\
def nearest_mean(features, labels, queries):
    classes = range(int(labels.max()) + 1)
    means = torch.stack([features[labels == k].mean(dim=0) for k in classes])
    return torch.cdist(queries, means).argmin(dim=1)
"""
FREEZE = """\
def freeze_except(model, prefixes):
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith(tuple(prefixes)))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
"""
GROUPS = """\
def parameter_groups(backbone, head, lr):
    ps = [p for p in backbone.parameters() if p.requires_grad]
    return [{'params': ps, 'lr': lr / 10}, {'params': list(head.parameters()), 'lr': lr}]
"""
COVER = """\
def occlusion_map(model, image, label, patch):
    C, H, W = image.shape
    drops = torch.zeros(H // patch, W // patch)
    with torch.inference_mode():
        before = model(image[None])[0, label]
        for i in range(H // patch):
            for j in range(W // patch):
                covered = image.clone()
                covered[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] = 0
                drops[i, j] = before - model(covered[None])[0, label]
    return drops
"""
PADDING = """\
def same_padding(size, kernel, stride):
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
"""
FEW = """\
def label_the_rest(features, labels, unlabeled):
    features, unlabeled = F.normalize(features), F.normalize(unlabeled)
    means = torch.stack([features[labels == k].mean(dim=0) for k in range(3)])
    return torch.cdist(unlabeled, means).argmin(dim=1)
"""

WRONG = {
    "06.1": [
        changed(NORMALIZE, (" / 255", "")),
        changed(
            NORMALIZE,
            (
                "(images.float() / 255 - mean) / std",
                "images.float() / 255 - mean / std",
            ),
        ),
        changed(
            NORMALIZE,
            (
                "mean = torch.tensor(mean)[:, None, None]",
                "mean = torch.tensor(mean)[0]",
            ),
        ),
        # meets the last axis
        changed(NORMALIZE, ("torch.tensor(mean)[:, None, None]", "torch.tensor(mean)")),
        changed(NORMALIZE, (") / std", ") * std")),
        changed(NORMALIZE, (") / std", ") / std.square()")),
        changed(NORMALIZE, ("images.float()", "images.double()")),
        "def normalize(images, mean, std):\n    return (images.float() / 255 - images.float().mean() / 255) / 0.5",
        changed(
            NORMALIZE,
            (
                "    return (images.float() / 255 - mean) / std",
                "    result = (images.float() / 255 - mean) / std\n    images.zero_()\n    return result",
            ),
        ),
    ],
    "06.2": [
        changed(
            MEANS, ("torch.cdist(queries, means).argmin", "(queries @ means.T).argmax")
        ),
        changed(
            MEANS,
            (
                "    return torch.cdist(queries, means).argmin(dim=1)",
                "    return labels[torch.cdist(queries, features).argmin(dim=1)]",
            ),
        ),
        changed(MEANS, (".mean(dim=0)", ".sum(dim=0)")),
        changed(MEANS, (".argmin(dim=1)", ".argmax(dim=1)")),
        changed(MEANS, (".mean(dim=0)", ".median(dim=0).values")),
        changed(MEANS, ("range(int(labels.max()) + 1)", "range(3)")),
        changed(MEANS, (".argmin(dim=1)", ".min(dim=1).values")),
        "def nearest_mean(features, labels, queries):\n    return torch.zeros(len(queries), dtype=torch.int64)",
    ],
    "06.3": [
        changed(
            FREEZE,
            (
                "        p.requires_grad_(name.startswith(tuple(prefixes)))",
                "        if not name.startswith(tuple(prefixes)):\n            p.requires_grad_(False)",
            ),
        ),
        changed(FREEZE, ("p.numel() for", "1 for")),
        changed(FREEZE, ("(name.startswith", "(not name.startswith")),
        changed(
            FREEZE,
            ("name.startswith(tuple(prefixes))", "any(x in name for x in prefixes)"),
        ),
        "def freeze_except(model, prefixes):\n    count = 0\n    for name, p in model.named_parameters():\n        p.requires_grad_(False)\n    for x in prefixes:\n        for name, p in model.named_parameters():\n            if name.startswith(x):\n                p.requires_grad_(True)\n                count += p.numel()\n    return count",
        changed(FREEZE, ("if p.requires_grad", "")),
        "def freeze_except(model, prefixes):\n    return 0",
    ],
    "06.4": [
        "def parameter_groups(backbone, head, lr):\n    return [{'params': list(backbone.parameters()), 'lr': lr / 10}, {'params': list(head.parameters()), 'lr': lr}]",
        changed(
            GROUPS, ("'lr': lr / 10", "'lr': lr"), ("'lr': lr}]", "'lr': lr / 10}]")
        ),
        changed(
            GROUPS,
            (
                "[{'params': ps, 'lr': lr / 10}, {'params': list(head.parameters()), 'lr': lr}]",
                "[{'params': list(head.parameters()), 'lr': lr}, {'params': ps, 'lr': lr / 10}]",
            ),
        ),
        "def parameter_groups(backbone, head, lr):\n    return {'backbone': lr / 10, 'head': lr}",
        changed(GROUPS, ("lr / 10", "lr * 10")),
        changed(
            GROUPS,
            (
                "p for p in backbone.parameters()",
                "p.clone().detach().requires_grad_() for p in backbone.parameters()",
            ),
        ),
        "def parameter_groups(backbone, head, lr):\n    return [{'params': list(backbone[1].parameters()), 'lr': lr / 10}, {'params': list(head.parameters()), 'lr': lr}]",
    ],
    "06.5": [
        changed(
            COVER,
            (
                "before - model(covered[None])[0, label]",
                "model(covered[None])[0, label] - before",
            ),
        ),
        changed(COVER, ("covered = image.clone()", "covered = image")),
        changed(
            COVER,
            ("                covered = image.clone()\n", ""),
            ("        before =", "        covered = image.clone()\n        before ="),
        ),
        changed(COVER, ("] = 0", "] = image.mean()")),
        changed(
            COVER,
            (
                "before = model(image[None])[0, label]",
                "before = model(image[None])[0, 0]",
            ),
            ("covered[None])[0, label]", "covered[None])[0, 0]"),
        ),
        changed(
            COVER,
            ("model(image[None])[0, label]", "model(image[None]).softmax(1)[0, label]"),
            (
                "model(covered[None])[0, label]",
                "model(covered[None]).softmax(1)[0, label]",
            ),
        ),
        changed(COVER, ("covered[:, i", "covered[0, i")),
        changed(COVER, ("    return drops", "    return drops.T")),
        # rows and columns exchanged
        changed(
            COVER,
            (
                "i * patch : (i + 1) * patch, j * patch : (j + 1) * patch",
                "j * patch : (j + 1) * patch, i * patch : (i + 1) * patch",
            ),
        ),
        changed(COVER, ("before - model", "model")),
        # left in another mode; put there for a while, with dropout
        changed(COVER, ("    C, H, W", "    model.eval()\n    C, H, W")),
        changed(COVER, ("    return drops", "    model.train()\n    return drops")),
        changed(
            COVER,
            ("    C, H, W", "    model.train()\n    C, H, W"),
            ("    return drops", "    model.eval()\n    return drops"),
        ),
        "def occlusion_map(model, image, label, patch):\n    was = model.training\n    model.train()\n    h, w = image.shape[1] // patch, image.shape[2] // patch\n    drops = torch.zeros(h, w)\n    for i in range(h):\n        for j in range(w):\n            other = image.clone()\n            other[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] = 0\n            drops[i, j] = model(image[None])[0, label] - model(other[None])[0, label]\n    model.train(was)\n    return drops",
    ],
    "06.6": [
        "def same_padding(size, kernel, stride):\n    return (kernel - 1) // 2, (kernel - 1) // 2",
        changed(
            PADDING,
            (
                "return total // 2, total - total // 2",
                "return total - total // 2, total // 2",
            ),
        ),
        changed(PADDING, ("max(", "("), (", 0)", ")")),
        changed(PADDING, ("-(-size // stride)", "(size // stride)")),
        changed(PADDING, ("total // 2, total - total // 2", "0, total")),
        changed(PADDING, ("total // 2, total - total // 2", "total / 2, total / 2")),
    ],
    "06.challenge": [
        # the lesson's own head; a constant; wrong order of answers; probabilities
        "def label_the_rest(features, labels, unlabeled):\n    head = nn.Linear(1280, 3)\n    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)\n    for _ in range(100):\n        optimizer.zero_grad()\n        F.cross_entropy(head(features), labels).backward()\n        optimizer.step()\n    return head(unlabeled).argmax(dim=1)",
        "def label_the_rest(features, labels, unlabeled):\n    return torch.ones(len(unlabeled), dtype=torch.int64)",
        changed(FEW, (".argmin(dim=1)", ".argmax(dim=1)")),
        changed(FEW, (".argmin(dim=1)", "")),
        changed(
            FEW,
            (
                "features, unlabeled = F.normalize(features), F.normalize(unlabeled)",
                "features, unlabeled = features[:, :20], unlabeled[:, :20]",
            ),
        ),
    ],
}

RIGHT = {
    "06.1": [
        # torchvision's own, and everything in one broadcast over lists
        "def normalize(images, mean, std):\n    return v2.functional.normalize(images.float() / 255, mean, std)",
        "def normalize(images, mean, std):\n    parts = [(images[:, c] / 255 - mean[c]) / std[c] for c in range(3)]\n    return torch.stack(parts, dim=1)",
    ],
    "06.2": [
        # by hand, with one-hot sums
        "def nearest_mean(features, labels, queries):\n    hot = F.one_hot(labels).float()\n    means = hot.T @ features / hot.sum(dim=0)[:, None]\n    return ((queries[:, None] - means) ** 2).sum(2).argmin(1)",
        # |q - m|² without |q|²
        "def nearest_mean(features, labels, queries):\n    means = torch.stack([features[labels == k].mean(0) for k in labels.unique()])\n    return (queries @ means.T - means.square().sum(1) / 2).argmax(1)",
    ],
    "06.3": [
        "def freeze_except(model, prefixes):\n    model.requires_grad_(False)\n    count = 0\n    for name, p in model.named_parameters():\n        if any(name.startswith(x) for x in prefixes):\n            p.requires_grad = True\n            count += p.numel()\n    return count",
        "def freeze_except(model, prefixes):\n    count = 0\n    for name, p in model.named_parameters():\n        p.requires_grad = any(name[:len(x)] == x for x in prefixes)\n        count += p.numel() * p.requires_grad\n    return count",
    ],
    "06.4": [
        "def parameter_groups(backbone, head, lr):\n    return [dict(params=filter(lambda p: p.requires_grad, backbone.parameters()), lr=lr / 10), dict(params=head.parameters(), lr=lr)]",
        "def parameter_groups(backbone, head, lr):\n    ps = [p for p in backbone.parameters() if p.requires_grad]\n    return ({'params': ps[::-1], 'lr': 0.1 * lr}, {'params': [head.bias, head.weight], 'lr': lr})",
    ],
    "06.5": [
        # all covered images as one batch
        "def occlusion_map(model, image, label, patch):\n    C, H, W = image.shape\n    h, w = H // patch, W // patch\n    holes = torch.eye(h * w).reshape(-1, 1, h, w)\n    holes = holes.repeat_interleave(patch, 2).repeat_interleave(patch, 3)\n    logits = model(torch.cat([image[None], image * (1 - holes)]))[:, label]\n    return (logits[0] - logits[1:]).reshape(h, w)",
        # in eval(), and back where it was
        changed(
            COVER,
            ("    C, H, W", "    was = model.training\n    model.eval()\n    C, H, W"),
            ("    return drops", "    model.train(was)\n    return drops"),
        ),
        # as nested lists
        "def occlusion_map(model, image, label, patch):\n    rows = []\n    for top in range(0, image.shape[1], patch):\n        row = []\n        for left in range(0, image.shape[2], patch):\n            other = image.detach().clone()\n            other[:, top:top + patch, left:left + patch] = 0\n            both = model(torch.stack([image, other]))\n            row.append((both[0, label] - both[1, label]).item())\n        rows.append(row)\n    return torch.tensor(rows)",
    ],
    "06.6": [
        "def same_padding(size, kernel, stride):\n    import math\n    total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)\n    return [total // 2, (total + 1) // 2]",
        "def same_padding(size, kernel, stride):\n    total = max(kernel - 1 - (size - 1) % stride, 0)\n    return total // 2, -(-total // 2)",
    ],
    "06.challenge": [
        # cosines with the summed features of each class
        "def label_the_rest(features, labels, unlabeled):\n    features, unlabeled = F.normalize(features), F.normalize(unlabeled)\n    hot = F.one_hot(labels, 3).float()\n    means = F.normalize(hot.T @ features)\n    return (unlabeled @ means.T).argmax(dim=1)",
        # by principal directions of all
        "def label_the_rest(features, labels, unlabeled):\n    both = F.normalize(torch.cat([features, unlabeled]))\n    _, _, V = torch.pca_lowrank(both, q=100)\n    flat = (both - both.mean(dim=0)) @ V\n    n = len(features)\n    means = torch.stack([flat[:n][labels == k].mean(dim=0) for k in range(3)])\n    return torch.cdist(flat[n:], means).argmin(dim=1)",
    ],
}
