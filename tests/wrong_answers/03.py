from tests.notebooks import changed

BATCHES = """\
def make_batches(images, labels, batch_size, generator):
    order = torch.randperm(len(images), generator=generator)
    return [
        (images[part].unsqueeze(1).float() / 255, labels[part])
        for part in order.split(batch_size)
    ]
"""
CONVOLVE = """\
def convolve(images, weight, bias):
    K = weight.shape[-1]
    windows = images.unfold(2, K, 1).unfold(3, K, 1)
    maps = [
        (windows * kernel[:, None, None]).sum(dim=(1, 4, 5)) + shift
        for kernel, shift in zip(weight, bias)
    ]
    return torch.stack(maps, dim=1)
"""
POOL = """\
def max_pool(images):
    B, C, H, W = images.shape
    even = images[:, :, : H // 2 * 2, : W // 2 * 2]
    return even.reshape(B, C, H // 2, 2, W // 2, 2).amax(dim=(3, 5))
"""
CLASSIFIER = """\
def classifier_for(features, image_shape, num_classes):
    out = features(torch.zeros(1, *image_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(out.numel(), num_classes))
"""
CONFUSED = """\
def most_confused(matrix):
    matrix = matrix.clone().fill_diagonal_(0)
    return divmod(matrix.argmax().item(), len(matrix))
"""

CHALLENGE = """\
def train_network(images, labels):
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 6 * 6, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for part in torch.randperm(2_000).split(64):
        loss = F.cross_entropy(model(images[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
"""


PIXEL_BY_PIXEL = """\
def convolve(images, weight, bias):
    B, C, H, W = images.shape
    K = weight.shape[-1]
    out = images.new_zeros(B, len(weight), H - K + 1, W - K + 1)
    for i in range(H - K + 1):
        for j in range(W - K + 1):
            window = images[:, None, :, i : i + K, j : j + K]
            out[:, :, i, j] = (window * weight).sum(dim=(2, 3, 4)) + bias
    return out
"""
LOOPS = """\
def convolve(images, weight, bias):
    B, C, H, W = images.shape
    out, _, K, _ = weight.shape
    h, w = H - K + 1, W - K + 1
    result = torch.zeros(B, out, h, w, dtype=images.dtype)
    for n in range(B):
        for o in range(out):
            for c in range(C):
                for a in range(K):
                    for b in range(K):
                        part = images[n, c, a : a + h, b : b + w]
                        result[n, o] += part * weight[o, c, a, b]
            result[n, o] += bias[o]
    return result
"""
WRONG = {
    "03.1": [
        # shuffled only inside each batch
        """\
def make_batches(images, labels, batch_size, generator):
    parts = torch.arange(len(images)).split(batch_size)
    mixed = [p[torch.randperm(len(p), generator=generator)] for p in parts]
    return [(images[p, None] / 255, labels[p]) for p in mixed]
""",
        # the file's order, from a random start
        """\
def make_batches(images, labels, batch_size, generator):
    N = len(images)
    order = (torch.arange(N) + torch.randint(N, (1,), generator=generator)) % N
    return [(images[p, None] / 255, labels[p]) for p in order.split(batch_size)]
""",
        "def make_batches(images, labels, batch_size, generator):\n    order = torch.randperm(len(images), generator=generator)\n    return [((images[part].unsqueeze(1) / images[part].max()).float(), labels[part]) for part in order.split(batch_size)]",
        # not shuffled
        changed(
            BATCHES,
            (
                "torch.randperm(len(images), generator=generator)",
                "torch.arange(len(images))",
            ),
        ),
        # the generator is not used
        changed(BATCHES, (", generator=generator)", ")")),
        # pictures and labels by two orders
        changed(
            BATCHES, ("labels[part])", "labels[part[torch.randperm(len(part))]])")
        ),
        # the channel axis is missing
        changed(BATCHES, (".unsqueeze(1)", "")),
        # integers from 0 to 255, divided by a whole
        changed(BATCHES, (".float() / 255", " // 255")),
        changed(BATCHES, (".float() / 255", ".float()")),
        changed(BATCHES, ("/ 255", "/ 256")),
        # the last batch is left out
        changed(
            BATCHES,
            (
                "order.split(batch_size)",
                "order[: len(order) // batch_size * batch_size].split(batch_size)",
            ),
        ),
        # drawn with repetition
        changed(
            BATCHES,
            (
                "torch.randperm(len(images), generator=generator)",
                "torch.randint(0, len(images), (len(images),), generator=generator)",
            ),
        ),
        # each epoch alike
        changed(BATCHES, ("generator=generator", "generator=generator.manual_seed(0)")),
        # an empty batch at the end
        changed(BATCHES, ("    return [", "    return (lambda b: b + [b[0]])([")).rstrip()
        + ")\n",
        # torch's own loader, as it is and as a list
        """\
def make_batches(images, labels, batch_size, generator):
    data = torch.utils.data.TensorDataset(images[:, None] / 255, labels)
    return DataLoader(data, batch_size, shuffle=True, generator=generator)
""",
        """\
def make_batches(images, labels, batch_size, generator):
    data = torch.utils.data.TensorDataset(images[:, None] / 255, labels)
    return list(DataLoader(data, batch_size, shuffle=True, generator=generator))
""",
        # pictures joined, without pairs
        changed(
            BATCHES,
            (
                "(images[part].unsqueeze(1).float() / 255, labels[part])",
                "images[part].unsqueeze(1).float() / 255",
            ),
        ),
    ],
    "03.2": [
        "def convolve(images, weight, bias):\n    return F.conv2d(images, weight, bias)",
        "def convolve(images, weight, bias):\n    layer = nn.Conv2d(weight.shape[1], len(weight), weight.shape[-1])\n"
        "    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)\n    return layer(images)",
        changed(CONVOLVE, (" + shift", "")),
        changed(CONVOLVE, ("in zip(weight", "in zip(weight.flip(2, 3)")),
        changed(CONVOLVE, (".sum(dim=(1, 4, 5))", ".mean(dim=(1, 4, 5))")),
        changed(CONVOLVE, ("dim=1)", "dim=0)")),
        changed(CONVOLVE, ("windows * kernel", "windows[:, :1] * kernel[:1]")),
        changed(CONVOLVE, ("windows * kernel", "windows[:1] * kernel")),
        PIXEL_BY_PIXEL,
        # in as few calls as can be
        changed(
            PIXEL_BY_PIXEL,
            ("images[:, None, :, i", "images[:, :, i"),
            (
                "(window * weight).sum(dim=(2, 3, 4)) + bias",
                'torch.einsum("bcij,ocij->bo", window, weight)',
            ),
            ("return out", "return out + bias[:, None, None]"),
        ),
        # float32 whatever comes
        changed(CONVOLVE, ("dim=1)", "dim=1).float()")),
        # the images are changed
        changed(
            CONVOLVE, ("    maps = [", "    images.mul_(1.5).div_(2)\n    maps = [")
        ),
    ],
    "03.3": [
        f"def conv_output_size(size, kernel, stride, padding):\n    return {formula}"
        for formula in (
            "(size + 2 * padding - kernel) / stride + 1",
            "(size + padding - kernel) // stride + 1",
            "(size + 2 * padding - kernel) // stride",
            "(size + 2 * padding - kernel + 1) // stride",
            "-(-(size + 2 * padding - kernel) // stride) + 1",
            "size + 2 * padding - kernel // stride + 1",
            "round((size + 2 * padding - kernel) / stride) + 1",
            "1 if size <= kernel else (size + 2 * padding - kernel) // stride + 1",
            "torch.tensor((size + 2 * padding - kernel) // stride + 1)",
        )
    ],
    "03.4": [
        changed(POOL, ("amax", "mean")),
        changed(
            POOL, ("C, H // 2, 2, W // 2, 2).amax(dim=(3, 5))", "C, 2, H // 2, 2, W // 2).amax(dim=(2, 4))")
        ),
        "def max_pool(images):\n    return images[:, :, ::2, ::2]",
        changed(POOL, ("even.reshape", "images.reshape")),
        "def max_pool(images):\n    return F.max_pool2d(images, 2)",
        "def max_pool(images):\n    return nn.MaxPool2d(2)(images)",
        "def max_pool(images):\n    return F.adaptive_max_pool2d(images, (images.shape[2] // 2, images.shape[3] // 2))",
        "def max_pool(images):\n    return F.max_pool2d(images, 2, ceil_mode=True)",
        # a loop over the places
        """\
def max_pool(images):
    B, C, H, W = images.shape
    out = images.new_zeros(B, C, H // 2, W // 2)
    for i in range(H // 2):
        for j in range(W // 2):
            out[:, :, i, j] = images[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax(dim=(2, 3))
    return out
""",
        # zeros are larger than negative numbers
        "def max_pool(images):\n    padded = F.pad(images, (0, images.shape[3] % 2, 0, images.shape[2] % 2))\n"
        "    B, C, H, W = padded.shape\n    return padded.reshape(B, C, H // 2, 2, W // 2, 2).amax(dim=(3, 5))",
        changed(POOL, ("images.shape\n", "images.shape\n    images.clamp_(min=0)\n")),
        changed(POOL, ("dim=(3, 5))", "dim=(3, 5)).float()")),
        changed(POOL, ("dim=(3, 5))", "dim=(3, 5)).clamp(min=0)")),  # a maximum that begins at 0
        "def max_pool(images):\n    numbers = images.tolist()\n"
        "    return torch.tensor([[[[max(r[i][j], r[i][j + 1], r[i + 1][j], r[i + 1][j + 1])\n"
        "        for j in range(0, len(r[0]) - 1, 2)] for i in range(0, len(r) - 1, 2)]\n"
        "        for r in picture] for picture in numbers])",
    ],
    "03.5": [
        changed(CLASSIFIER, ("out.numel()", "10 * 13 * 13")),
        changed(CLASSIFIER, ("out.numel()", "out.shape[1]")),
        changed(CLASSIFIER, ("out.numel()", "out.shape[1] * out.shape[2] ** 2")),
        changed(CLASSIFIER, ("nn.Sequential(nn.Flatten(), nn.Linear(out.numel(), num_classes))", "nn.Linear(out.numel(), num_classes)")),
        changed(CLASSIFIER, ("zeros(1,", "zeros(8,")),
        "def classifier_for(features, image_shape, num_classes):\n    C, H, W = image_shape\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, num_classes))",
        changed(CLASSIFIER, ("num_classes))", "10))")),
        changed(CLASSIFIER, ("num_classes))", "num_classes), nn.Softmax(dim=1))")),
        changed(CLASSIFIER, ("num_classes))", "num_classes, bias=False))")),
        changed(CLASSIFIER, ("    out =", "    nn.init.zeros_(features[0].weight)\n    out =")),
        changed(CLASSIFIER, ("    return ", "    return features, ")),
        # left in evaluation mode, or in training mode
        changed(CLASSIFIER, ("    out =", "    features.eval()\n    out =")),
        changed(CLASSIFIER, ("    out =", "    features.train()\n    out =")),
    ],
    "03.6": [
        changed(CONFUSED, (".clone().fill_diagonal_(0)", ".clone()")),
        changed(CONFUSED, (".clone()", "")),
        changed(CONFUSED, ("fill_diagonal_(0)", "fill_diagonal_(0).T")),
        changed(CONFUSED, ("divmod(matrix.argmax().item(), len(matrix))", "matrix.argmax().item()")),
        changed(CONFUSED, ("divmod(matrix.argmax().item(), len(matrix))", "(matrix.argmax() // len(matrix), matrix.argmax() % len(matrix))")),
        changed(CONFUSED, ("len(matrix))", "10)")),
        changed(CONFUSED, ("divmod(matrix.argmax().item(), len(matrix))", "divmod(matrix.argmax().item(), len(matrix))[::-1]")),
        # shares of the class, both directions added, one triangle only
        changed(CONFUSED, ("    return", "    matrix = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)\n    return")),
        changed(CONFUSED, ("    return", "    matrix = matrix + matrix.T\n    return")),
        changed(CONFUSED, ("    return", "    matrix = matrix.triu()\n    return")),
        changed(CONFUSED, ("return divmod(matrix.argmax().item(), len(matrix))", "return list(divmod(matrix.argmax().item(), len(matrix)))")),
        # the class with the most mistakes, and what it is taken for
        "def most_confused(matrix):\n    matrix = matrix.clone().fill_diagonal_(0)\n"
        "    return matrix.sum(dim=0).argmax().item(), matrix.sum(dim=1).argmax().item()",
    ],
    "03.challenge": [
        CHALLENGE,  # one epoch only
        changed(CHALLENGE, ("        loss.backward()\n", "")),
        changed(CHALLENGE, ("nn.Linear(32 * 6 * 6, 10)", "nn.Linear(32 * 6 * 6, 100), nn.ReLU(), nn.Linear(100, 10)")),
        changed(CHALLENGE, ("return model", "return model(images)")),
        changed(CHALLENGE, ("return model", "return nn.Sequential(model, nn.Flatten(0))")),
        changed(CHALLENGE, ("labels[part])", "labels[torch.randperm(2_000)[: len(part)]])")),
    ],
}  # fmt: skip
RIGHT = {
    "03.1": [
        # a generator function
        """\
def make_batches(images, labels, batch_size, generator):
    order = torch.randperm(len(images), generator=generator).tolist()
    while order:
        now, order = order[:batch_size], order[batch_size:]
        yield images[now, None] / 255, labels[now]
""",
        # random numbers, sorted, and the batches cut from shuffled copies
        """\
def make_batches(images, labels, batch_size, generator):
    _, order = torch.rand(len(labels), generator=generator).sort()
    pictures = images[order].div(255).reshape(-1, 1, 28, 28)
    return list(zip(pictures.split(batch_size), labels[order].split(batch_size)))
""",
    ],
    "03.2": [
        "def convolve(images, weight, bias):\n    K = weight.shape[-1]\n"
        "    windows = images.unfold(2, K, 1).unfold(3, K, 1)\n"
        '    return torch.einsum("bchwij,ocij->bohw", windows, weight) + bias[:, None, None]',
        # one shifted copy for each number of the kernel
        """\
def convolve(images, weight, bias):
    B, C, H, W = images.shape
    K = weight.shape[-1]
    result = bias[:, None, None]
    for a in range(K):
        for b in range(K):
            part = images[:, :, a : H - K + 1 + a, b : W - K + 1 + b]
            result = result + (part[:, None] * weight[:, :, a, b, None, None]).sum(dim=2)
    return result
""",
        # loops over everything but the pixels, and with single numbers of the kernels
        LOOPS,
        changed(LOOPS, ("weight[o, c, a, b]", "weight[o, c, a, b].item()"), ("bias[o]", "bias[o].item()")),
        "def convolve(images, weight, bias):\n    B, C, H, W = images.shape\n    K = weight.shape[-1]\n"
        "    columns = F.unfold(images, K)\n    maps = weight.flatten(1) @ columns + bias[:, None]\n"
        "    return maps.reshape(B, len(weight), H - K + 1, W - K + 1)",
    ],
    "03.3": [
        "def conv_output_size(size, kernel, stride, padding):\n"
        "    return len(range(0, size + 2 * padding - kernel + 1, stride))",
        "def conv_output_size(size, kernel, stride, padding):\n"
        '    layer = nn.Conv2d(1, 1, kernel, stride, padding, device="meta")\n'
        '    return layer(torch.empty(1, 1, size, size, device="meta")).shape[-1]',
    ],
    "03.4": [
        "def max_pool(images):\n    H, W = images.shape[2] // 2 * 2, images.shape[3] // 2 * 2\n"
        "    rows = torch.maximum(images[:, :, :H:2], images[:, :, 1:H:2])\n"
        "    return torch.maximum(rows[..., :W:2], rows[..., 1:W:2])",
        "def max_pool(images):\n    return images.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))",
    ],
    "03.5": [
        "def classifier_for(features, image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))",
        "def classifier_for(features, image_shape, num_classes):\n"
        "    part = nn.Sequential(features, nn.Flatten())\n"
        "    width = part(torch.rand(3, *image_shape)).shape[1]\n"
        "    return nn.Sequential(nn.Flatten(1), nn.Linear(width, num_classes))",
    ],
    "03.6": [
        "def most_confused(matrix):\n    K = len(matrix)\n"
        "    pairs = [(i, j) for i in range(K) for j in range(K) if i != j]\n"
        "    return max(pairs, key=lambda pair: matrix[pair].item())",
        "def most_confused(matrix):\n"
        "    off = torch.where(torch.eye(len(matrix), dtype=torch.bool), -1, matrix)\n"
        "    i, j = torch.unravel_index(off.argmax(), off.shape)\n    return i.item(), j.item()",
    ],
}  # fmt: skip
