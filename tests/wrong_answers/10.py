WRONG = {
    "10.1": [
        "def median_speedup(before, after):\n    return statistics.median(before) / statistics.median(after)",
        "def median_speedup(before, after):\n    return statistics.median(a / b for b, a in zip(before, after))",
        "def median_speedup(before, after):\n    return statistics.mean(b / a for b, a in zip(before, after))",
        "def median_speedup(before, after):\n    return min(before) / min(after)",
        "def median_speedup(before, after):\n    statistics.median(b / a for b, a in zip(before, after))",
    ],
    "10.2": [
        "def whole_speedup(share, factor):\n    return share * factor",
        "def whole_speedup(share, factor):\n    return 1 + share * (factor - 1)",
        "def whole_speedup(share, factor):\n    return (1 - share) + share / factor",
        "def whole_speedup(share, factor):\n    return 1 / (1 - share / factor)",
    ],
    "10.3": [
        "def accumulate_gradients(model, loss_fn, parts):\n    model.zero_grad()\n    for X, y in parts:\n        (loss_fn(model(X), y) / len(parts)).backward()",
        "def accumulate_gradients(model, loss_fn, parts):\n    model.zero_grad()\n    for X, y in parts:\n        loss_fn(model(X), y).backward()",
        "def accumulate_gradients(model, loss_fn, parts):\n    total = sum(len(y) for _, y in parts)\n    for X, y in parts:\n        (loss_fn(model(X), y) * len(y) / total).backward()",
        "def accumulate_gradients(model, loss_fn, parts):\n    total = sum(len(y) for _, y in parts)\n    for X, y in parts:\n        model.zero_grad()\n        (loss_fn(model(X), y) * len(y) / total).backward()",
        "def accumulate_gradients(model, loss_fn, parts):\n    model.zero_grad()\n    return sum(loss_fn(model(X), y) for X, y in parts)",
    ],
    "10.4": [
        "def conv_flops(in_channels, out_channels, kernel, height, width):\n    return in_channels * kernel * kernel * out_channels * height * width",
        "def conv_flops(in_channels, out_channels, kernel, height, width):\n    return 2 * in_channels * kernel * out_channels * height * width",
        "def conv_flops(in_channels, out_channels, kernel, height, width):\n    return 2 * in_channels * kernel * kernel * out_channels",
        "def conv_flops(in_channels, out_channels, kernel, height, width):\n    return 2 * kernel * kernel * out_channels * height * width",
        "def conv_flops(in_channels, out_channels, kernel, height, width):\n    return 2 * (in_channels * kernel * kernel + 1) * out_channels * height * width",
    ],
    "10.5": [
        "def worst_layer(norms):\n    return norms.index(max(norms))",
        "def worst_layer(norms):\n    factors = [norms[i + 1] / norms[i] for i in range(len(norms) - 1)]\n    return factors.index(max(factors))",
        "def worst_layer(norms):\n    factors = [norms[i] / norms[i + 1] for i in range(len(norms) - 1)]\n    return factors.index(max(factors)) + 1",
        "def worst_layer(norms):\n    growth = [norms[i] - norms[i + 1] for i in range(len(norms) - 1)]\n    return growth.index(max(growth))",
    ],
    "10.6": [
        "def piece(count, rank, size):\n    each = count // size\n    return rank * each, (rank + 1) * each",
        "def piece(count, rank, size):\n    each = -(-count // size)\n    return rank * each, min((rank + 1) * each, count)",
        "def piece(count, rank, size):\n    each, more = divmod(count, size)\n    return rank * each, count if rank == size - 1 else (rank + 1) * each",
        "def piece(count, rank, size):\n    each, more = divmod(count, size)\n    start = rank * each\n    return start, start + each + (rank < more)",
        "def piece(count, rank, size):\n    return rank * count // size, (rank + 1) * count // size",
        "def piece(count, rank, size):\n    return count // size + (rank < count % size)",
    ],
}
