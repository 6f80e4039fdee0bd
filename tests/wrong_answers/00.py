"""Plausible wrong answers to the exercises of 00_tensors.ipynb, and unusual right ones."""

WRONG = {
    "00.1": [
        "def batch_bytes(B, C, H, W, dtype):\n    return torch.zeros(B, C, H, W, dtype=dtype).nbytes",
        "def batch_bytes(B, C, H, W, dtype):\n    return B * C * H * W * 4",
        "def batch_bytes(B, C, H, W, dtype):\n    return B * H * W * dtype.itemsize",
        "def batch_bytes(B, C, H, W, dtype):\n    return B * C * H * W",
        "def batch_bytes(B, C, H, W, dtype):\n    print(B * C * H * W * dtype.itemsize)",
        "def batch_bytes(B, C, H, W, dtype):\n    return 8 * B * C * H * W * dtype.itemsize",
        # the digits of the name, which bool has not
        "def batch_bytes(B, C, H, W, dtype):\n"
        "    bits = int(''.join(c for c in str(dtype) if c.isdigit()))\n"
        "    return B * C * H * W * bits // 8",
        "def batch_bytes(B, C, H, W, dtype):\n    return describe(torch.empty(B, C, H, W, dtype=dtype, device='meta'))",
    ],
    "00.2": [
        "def linear(x, weight, bias):\n    return x @ weight + bias",
        "def linear(x, weight, bias):\n    return torch.stack([x @ row for row in weight], dim=1) + bias",
        "def linear(x, weight, bias):\n    return x @ weight.T",
        "def linear(x, weight, bias):\n    return weight @ x.T + bias[:, None]",
        "def linear(x, weight, bias):\n    return x * weight + bias",
        "def linear(x, weight, bias):\n    return x @ weight.reshape(weight.shape[1], weight.shape[0]) + bias",
        "def linear(x, weight, bias):\n    return x @ weight.T - bias",
        "def linear(x, weight, bias):\n    return x @ weight.T + bias.sum()",
        "def linear(x, weight, bias):\n    return torch.stack([weight @ row + bias for row in x])",
        "def linear(x, weight, bias):\n"
        "    rows = [[sum(a * b for a, b in zip(r, w)) for w in weight.tolist()] for r in x.tolist()]\n"
        "    return torch.tensor(rows, dtype=x.dtype) + bias",
        "def linear(x, weight, bias):\n    return (x.float() @ weight.float().T + bias.float())",
        "def linear(x, weight, bias):\n    return x @ weight.t_() + bias",
        "def linear(x, weight, bias):\n    return (x @ weight.T + bias).round(decimals=2)",
    ],
    "00.3": [
        "def to_batch(pictures):\n    batch = torch.stack(pictures).permute(0, 3, 1, 2).float()\n    return batch / batch.max()",
        "def to_batch(pictures):\n    return torch.stack([p.permute(2, 0, 1).float() / p.max() for p in pictures])",
        "def to_batch(pictures):\n"
        "    batch = torch.stack(pictures).permute(0, 3, 1, 2).float()\n"
        "    return (batch - batch.min()) / (batch.max() - batch.min())",
        "def to_batch(pictures):\n    return (torch.stack(pictures).permute(0, 3, 1, 2) // 255).float()",
        "def to_batch(pictures):\n"
        "    batch = torch.stack(pictures)\n"
        "    B, H, W, C = batch.shape\n"
        "    return batch.reshape(B, C, H, W).float() / 255",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 1, 2).float()",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 1, 2)",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 2, 1).float() / 255",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 256",
        "def to_batch(pictures):\n    return torch.stack(pictures).permute(0, 3, 1, 2).double() / 255",
        "def to_batch(pictures):\n    return torch.stack(pictures).float() / 255",
        "def to_batch(pictures):\n"
        "    parts = []\n"
        "    while pictures:\n"
        "        parts.append(pictures.pop(0).permute(2, 0, 1) / 255)\n"
        "    return torch.stack(parts)",
        "def to_batch(pictures):\n"
        "    batch = torch.stack(pictures).permute(0, 3, 1, 2) / 255\n"
        "    return batch.flip(1)",
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
        # a batch of one loses its axis
        "def hard_examples(images, probs, labels, threshold):\n"
        "    return images[probs.gather(1, labels.unsqueeze(1)).squeeze() < threshold]",
        # the hardest first
        "def hard_examples(images, probs, labels, threshold):\n"
        "    true = probs[range(len(labels)), labels]\n"
        "    order = true.argsort()\n"
        "    return images[order[true[order] < threshold]]",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    true = probs[range(len(labels)), labels]\n"
        "    images[true >= threshold] = 0\n"
        "    return images",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    true = probs[range(len(labels)), labels]\n"
        "    answer = images[true < threshold].clone()\n"
        "    images[true < threshold] = 0\n"
        "    return answer",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    return [i for i, p, k in zip(images, probs, labels) if p[k] < threshold]",
        # nothing below the threshold, nothing to stack
        "def hard_examples(images, probs, labels, threshold):\n"
        "    return torch.stack([i for i, p, k in zip(images, probs, labels) if p[k] < threshold])",
    ],
    "00.5": [
        "def standardize(images):\n    return (images - images.mean()) / images.std()",
        "def standardize(images):\n    return (images - images.mean(dim=(0, 2, 3))) / images.std(dim=(0, 2, 3))",
        "def standardize(images):\n"
        "    dims = (2, 3)\n"
        "    return (images - images.mean(dim=dims, keepdim=True)) / images.std(dim=dims, keepdim=True)",
        "def standardize(images):\n    return images - images.mean(dim=(0, 2, 3), keepdim=True)",
        "def standardize(images):\n"
        "    dims = (0, 2, 3)\n"
        "    return (images - images.mean(dim=dims, keepdim=True)) / images.var(dim=dims, keepdim=True)",
        "def standardize(images):\n"
        "    dims = (0, 2, 3)\n"
        "    images -= images.mean(dim=dims, keepdim=True)\n"
        "    images /= images.std(dim=dims, keepdim=True)\n"
        "    return images",
        "def standardize(images):\n"
        "    dims = (0, 2, 3)\n"
        "    images = images.float()\n"
        "    return (images - images.mean(dim=dims, keepdim=True)) / images.std(dim=dims, keepdim=True)",
        # a brightness scale in place of the spread
        "def standardize(images):\n"
        "    dims = (0, 2, 3)\n"
        "    return (images - images.mean(dim=dims, keepdim=True)) / images.amax(dim=dims, keepdim=True)",
        "def standardize(images):\n"
        "    dims = (0, 2, 3)\n"
        "    z = (images - images.mean(dim=dims, keepdim=True)) / images.std(dim=dims, keepdim=True)\n"
        "    return -z",
    ],
    "00.6": [
        # differences of neighbors, no autograd
        "def slopes(function, x):\n    return (function(x + 0.001) - function(x)) / 0.001",
        "def slopes(function, x):\n"
        "    x = x.detach().clone().requires_grad_()\n"
        "    return ((function(x + 0.01) - function(x - 0.01)) / 0.02).detach()",
        "def slopes(function, x):\n"
        "    h = 1e-4\n"
        "    x = x.double().requires_grad_()\n"
        "    rise = (function(x + h) - function(x - h)) / (2 * h)\n"
        "    return rise.detach().to(x.dtype)",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    function(point).backward()\n"
        "    return point.grad",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    function(point).mean().backward()\n"
        "    return point.grad",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    function(point).sum().backward()\n"
        "    return point.grad.abs()",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    function(point).sum().backward()\n"
        "    return point.grad.round(decimals=2)",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    function(point).sum().backward()\n"
        "    return point.grad.sum()",
        "def slopes(function, x):\n    x.requires_grad_()\n    function(x).sum().backward()\n    return x.grad",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    return function(point).sum().backward()",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    y = function(point)\n"
        "    y.sum().backward()\n"
        "    return y",
        # the caller's x has no gradient
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    function(point).sum().backward()\n"
        "    return x.grad",
        "def slopes(function, x):\n"
        "    point = x.detach().clone().requires_grad_()\n"
        "    function(point).sum().backward()\n"
        "    return function(x)",
        # one point after the other, and the gradients never cleared
        "def slopes(function, x):\n"
        "    point = torch.zeros((), dtype=x.dtype, requires_grad=True)\n"
        "    found = []\n"
        "    for value in x:\n"
        "        point.data = value\n"
        "        function(point).backward()\n"
        "        found.append(point.grad.item())\n"
        "    return torch.tensor(found, dtype=x.dtype)",
        "def slopes(function, x):\n"
        "    point = torch.tensor(x.tolist(), requires_grad=True)\n"
        "    function(point).sum().backward()\n"
        "    return point.grad.float()",
        "def slopes(function, x):\n    return 3 * x**2 - 10",
    ],
    "00.challenge": [
        "def restore(filtered, originals, others):\n    return others",
        # one straight line for each channel: the colors stay mixed
        "def restore(filtered, originals, others):\n"
        "    d = (0, 2, 3)\n"
        "    z = (others - filtered.mean(d, keepdim=True)) / filtered.std(d, keepdim=True)\n"
        "    return z * originals.std(d, keepdim=True) + originals.mean(d, keepdim=True)",
        # too few steps
        "def restore(filtered, originals, others):\n"
        "    x, y = filtered.permute(0, 2, 3, 1), originals.permute(0, 2, 3, 1)\n"
        "    weight, bias = torch.zeros(3, 3, requires_grad=True), torch.zeros(3, requires_grad=True)\n"
        "    for _ in range(100):\n"
        "        ((x @ weight.T + bias - y) ** 2).mean().backward()\n"
        "        with torch.no_grad():\n"
        "            for p in (weight, bias):\n"
        "                p -= 0.5 * p.grad\n"
        "                p.grad = None\n"
        "    return (others.permute(0, 2, 3, 1) @ weight.T + bias).permute(0, 3, 1, 2)",
        # gradients that pile up
        "def restore(filtered, originals, others):\n"
        "    x, y = filtered.permute(0, 2, 3, 1), originals.permute(0, 2, 3, 1)\n"
        "    weight, bias = torch.zeros(3, 3, requires_grad=True), torch.zeros(3, requires_grad=True)\n"
        "    for _ in range(200):\n"
        "        ((x @ weight.T + bias - y) ** 2).mean().backward()\n"
        "        with torch.no_grad():\n"
        "            for p in (weight, bias):\n"
        "                p -= 0.5 * p.grad\n"
        "                pass\n"
        "    return (others.permute(0, 2, 3, 1) @ weight.T + bias).permute(0, 3, 1, 2)",
        # channels last in the end
        "def restore(filtered, originals, others):\n    return others.permute(0, 2, 3, 1)",
        "def restore(filtered, originals, others):\n    return others - filtered.mean(0) + originals.mean(0)",
        # brightness levels in place of 0 to 1
        "def restore(filtered, originals, others):\n    return (255 * others).to(torch.uint8)",
        "def restore(filtered, originals, others):\n    return others * float('nan')",
    ],
}

RIGHT = {
    "00.1": [
        "def batch_bytes(*lengths_and_dtype):\n"
        "    *lengths, dtype = lengths_and_dtype\n"
        "    bytes = torch.zeros((), dtype=dtype).element_size()\n"
        "    for length in lengths:\n"
        "        bytes *= length\n"
        "    return bytes",
        "def batch_bytes(B, C, H, W, dtype):\n    return torch.empty(B, C, H, W, dtype=dtype, device='meta').nbytes",
    ],
    "00.2": [
        "def linear(x, weight, bias):\n    return torch.einsum('bd,kd->bk', x, weight) + bias",
        "def linear(x, weight, bias):\n    return (x[:, None, :] * weight).sum(dim=-1) + bias",
        "linear = torch.nn.functional.linear",
        "def linear(x, weight, bias):\n    out = weight @ x.T\n    out += bias[:, None]\n    return out.T",
    ],
    "00.3": [
        "def to_batch(pictures):\n"
        "    pictures = [p.numpy().transpose(2, 0, 1) for p in pictures]\n"
        "    return torch.from_numpy(np.stack(pictures)).to(torch.float32).div_(255)",
        "def to_batch(pictures):\n"
        "    batch = torch.empty(len(pictures), 3, *pictures[0].shape[:2])\n"
        "    for picture, place in zip(pictures, batch):\n"
        "        for c in range(3):\n"
        "            place[c] = picture[..., c] / 255\n"
        "    return batch",
    ],
    "00.4": [
        "def hard_examples(images, probs, labels, threshold):\n"
        "    hard = [k for k in range(len(labels)) if probs[k, labels[k]] < threshold]\n"
        "    return images[torch.tensor(hard, dtype=torch.int64)]",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    is_true = torch.nn.functional.one_hot(labels, probs.shape[1])\n"
        "    return images[(probs * is_true).sum(dim=1) < threshold]",
        "def hard_examples(images, probs, labels, threshold):\n"
        "    true = probs[torch.arange(len(labels)), labels]\n"
        "    return images.index_select(0, (true < threshold).nonzero().flatten())",
    ],
    "00.5": [
        "def standardize(images):\n    return torch.nn.functional.batch_norm(images, None, None, training=True, eps=1e-9)",
        "def standardize(images):\n"
        "    rows = images.transpose(0, 1).flatten(1)\n"
        "    std, mean = torch.std_mean(rows, dim=1)\n"
        "    return (images - mean[:, None, None]) / std.reshape(-1, 1, 1)",
    ],
    "00.6": [
        "def slopes(function, x):\n    return torch.func.grad(lambda p: function(p).sum())(x)",
        "def slopes(function, x):\n    return torch.func.vmap(torch.func.grad(function))(x)",
        "def slopes(function, x):\n"
        "    point = x.clone().requires_grad_()\n"
        "    y = function(point)\n"
        "    return torch.autograd.grad(y, point, torch.ones_like(y))[0]",
        "def slopes(function, x):\n"
        "    found = []\n"
        "    for value in x.tolist():\n"
        "        point = torch.tensor(value, dtype=x.dtype, requires_grad=True)\n"
        "        function(point).backward()\n"
        "        found.append(point.grad)\n"
        "    return torch.stack(found)",
    ],
    "00.challenge": [
        # least squares
        "def restore(filtered, originals, others):\n"
        "    def rows(images):\n"
        "        x = images.permute(0, 2, 3, 1).reshape(-1, 3)\n"
        "        return torch.cat([x, torch.ones(len(x), 1)], dim=1)\n"
        "    solution = torch.linalg.lstsq(rows(filtered), rows(originals)[:, :3]).solution\n"
        "    B, C, H, W = others.shape\n"
        "    return (rows(others) @ solution).reshape(B, H, W, C).permute(0, 3, 1, 2)",
        # a 1 × 1 convolution and a ready-made optimizer
        "def restore(filtered, originals, others):\n"
        "    layer = torch.nn.Conv2d(3, 3, 1)\n"
        "    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200)\n"
        "    def closure():\n"
        "        optimizer.zero_grad()\n"
        "        loss = 1000 * ((layer(filtered) - originals) ** 2).mean()\n"
        "        loss.backward()\n"
        "        return loss\n"
        "    for _ in range(3):\n"
        "        optimizer.step(closure)\n"
        "    return layer(others)",
    ],
}
