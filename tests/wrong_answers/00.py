"""Plausible wrong answers to the exercises of 00_tensors.ipynb."""

WRONG = {
    "00.1": [
        "def batch_bytes(B, C, H, W, dtype):\n    return torch.zeros(B, C, H, W, dtype=dtype).nbytes",
        "def batch_bytes(B, C, H, W, dtype):\n    return B * C * H * W * 4",
        "def batch_bytes(B, C, H, W, dtype):\n    return B * H * W * dtype.itemsize",
        "def batch_bytes(B, C, H, W, dtype):\n    return B * C * H * W",
        "def batch_bytes(B, C, H, W, dtype):\n    print(B * C * H * W * dtype.itemsize)",
    ],
    "00.2": [
        "def linear(x, weight, bias):\n    return x @ weight + bias",
        "def linear(x, weight, bias):\n    return x @ weight.T",
        "def linear(x, weight, bias):\n    return weight @ x.T + bias[:, None]",
        "def linear(x, weight, bias):\n    return x * weight + bias",
        "def linear(x, weight, bias):\n    return x @ weight.reshape(weight.shape[1], weight.shape[0]) + bias",
    ],
    "00.3": [
        "def to_batch(pictures):\n    batch = torch.stack(pictures).permute(0, 3, 1, 2).float()\n    return batch / batch.max()",
        "def to_batch(pictures):\n    return (torch.stack(pictures).permute(0, 3, 1, 2) // 255).float()",
        "def to_batch(pictures):\n"
        "    batch = torch.stack(pictures)\n"
        "    B, H, W, C = batch.shape\n"
        "    return batch.reshape(B, C, H, W).float() / 255",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 1, 2).float()",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 1, 2)",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 2, 1).float() / 255",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 256",
        "def to_batch(pictures):\n    return torch.stack(pictures).float() / 255",
    ],
    "00.4": [
        "def hard_examples(images, probs, labels, threshold):\n    return images[probs.argmax(dim=1) != labels]",
        "def hard_examples(images, probs, labels, threshold):\n    true = probs.gather(1, labels[:, None]).squeeze(1)\n    return images[true <= threshold]",
        "def hard_examples(images, probs, labels, threshold):\n    true = probs.gather(1, labels[:, None]).squeeze(1)\n    return images[true < 0.5]",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    return images[probs.gather(1, labels.unsqueeze(1)).squeeze(1) > threshold]",
        "def hard_examples(images, probs, labels, threshold):\n    return images[probs.max(dim=1).values < threshold]",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    return images[probs.gather(1, labels.unsqueeze(1)) < threshold]",
        "def hard_examples(images, probs, labels, threshold):\n    return images[probs[:, labels] < threshold]",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    return probs.gather(1, labels.unsqueeze(1)).squeeze(1) < threshold",
    ],
    "00.5": [
        "def standardize(images):\n    return (images - images.mean()) / images.std()",
        "def standardize(images):\n    return (images - images.mean(dim=(0, 2, 3))) / images.std(dim=(0, 2, 3))",
        "def standardize(images):\n"
        "    dims = (2, 3)\n"
        "    return (images - images.mean(dim=dims, keepdim=True)) / images.std(dim=dims, keepdim=True)",
        "def standardize(images):\n    return images - images.mean(dim=(0, 2, 3), keepdim=True)",
    ],
    "00.6": [
        "def slope(function, x):\n    x = torch.tensor(x, requires_grad=True)\n    function(x).backward()\n    return x.grad",
        "def slope(function, x):\n    point = torch.tensor(float(x))\n    function(point).backward()\n    return point.grad.item()",
        "def slope(function, x):\n    point = torch.tensor(float(x), requires_grad=True)\n    return function(point).item()",
        "def slope(function, x):\n    return 3 * x**2 + 2",
        "def slope(function, x):\n    return (function(x + 0.001) - function(x)) / 0.001",
        "def slope(function, x):\n"
        "    point = torch.tensor(float(x), requires_grad=True)\n"
        "    return function(point).backward()",
    ],
}
