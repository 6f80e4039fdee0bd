WRONG = {
    "06.1": [
        "def same_padding(size, kernel, stride):\n    return (kernel - 1) // 2, (kernel - 1) // 2",
        "def same_padding(size, kernel, stride):\n    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)\n    return total - total // 2, total // 2",
        "def same_padding(size, kernel, stride):\n    total = (-(-size // stride) - 1) * stride + kernel - size\n    return total // 2, total - total // 2",
        "def same_padding(size, kernel, stride):\n    total = max((size // stride - 1) * stride + kernel - size, 0)\n    return total // 2, total - total // 2",
    ],
    "06.2": [
        "def normalize(images, mean, std):\n    return (images.float() - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]",
        "def normalize(images, mean, std):\n    return images.float() / 255 - torch.tensor(mean)[:, None, None] / torch.tensor(std)[:, None, None]",
        "def normalize(images, mean, std):\n    return (images.float() / 255 - torch.tensor(mean)) / torch.tensor(std)",
        "def normalize(images, mean, std):\n    return (images.float() / 255 - torch.tensor(mean)[:, None, None]) * torch.tensor(std)[:, None, None]",
    ],
    "06.3": [
        "def freeze_except(model, prefixes):\n    for name, p in model.named_parameters():\n        if not name.startswith(tuple(prefixes)):\n            p.requires_grad_(False)\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
        "def freeze_except(model, prefixes):\n    for name, p in model.named_parameters():\n        p.requires_grad_(name.startswith(tuple(prefixes)))\n    return sum(1 for p in model.parameters() if p.requires_grad)",
        "def freeze_except(model, prefixes):\n    for name, p in model.named_parameters():\n        p.requires_grad_(not name.startswith(tuple(prefixes)))\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
    ],
    "06.4": [
        "def parameter_groups(backbone, head, lr):\n    return [{'params': list(backbone.parameters()), 'lr': lr / 10}, {'params': list(head.parameters()), 'lr': lr}]",
        "def parameter_groups(backbone, head, lr):\n    ps = [p for p in backbone.parameters() if p.requires_grad]\n    return [{'params': ps, 'lr': lr}, {'params': list(head.parameters()), 'lr': lr / 10}]",
        "def parameter_groups(backbone, head, lr):\n    return [{'params': list(head.parameters()), 'lr': lr}, {'params': [p for p in backbone.parameters() if p.requires_grad], 'lr': lr / 10}]",
        "def parameter_groups(backbone, head, lr):\n    return {'backbone': lr / 10, 'head': lr}",
    ],
    "06.5": [
        "def activation_map(maps, weight, labels):\n    return (weight[labels][:, :, None, None] * maps).mean(dim=1)",
        "def activation_map(maps, weight, labels):\n    return torch.einsum('d,ndhw->nhw', weight[labels[0]], maps)",
        "def activation_map(maps, weight, labels):\n    return torch.einsum('kd,ndhw->nkhw', weight, maps)",
        "def activation_map(maps, weight, labels):\n    return maps.sum(dim=1)",
    ],
}
