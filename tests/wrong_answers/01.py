WRONG = {
    "01.1": [
        "def split_in_order(X, y, fraction):\n    n = int(fraction * len(X))\n    return X[:n], X[n:], y[:n], y[n:]",
        "def split_in_order(X, y, fraction):\n    n = int(fraction * len(X))\n    return X[n:], y[n:], X[:n], y[:n]",
        "def split_in_order(X, y, fraction):\n    n = int(fraction * len(X))\n    return X[:n], y[:n], X[n + 1:], y[n + 1:]",
        "def split_in_order(X, y, fraction):\n    return X[:40], y[:40], X[40:], y[40:]",
    ],
    "01.2": [
        "def mean_squared_error(predictions, targets):\n    return ((predictions - targets) ** 2).sum()",
        "def mean_squared_error(predictions, targets):\n    return (predictions - targets).mean() ** 2",
        "def mean_squared_error(predictions, targets):\n    return (predictions - targets) ** 2",
        "def mean_squared_error(predictions, targets):\n    return (predictions - targets).abs().mean()",
    ],
    "01.3": [
        "def squared_error_gradients(X, y, weight, bias):\n"
        "    error = weight * X + bias - y\n    return (2 * error).mean(), (2 * error * X).mean()",
        "def squared_error_gradients(X, y, weight, bias):\n"
        "    error = weight * X + bias - y\n    return (2 * error * X).sum(), (2 * error).sum()",
        "def squared_error_gradients(X, y, weight, bias):\n"
        "    error = weight * X + bias - y\n    return (error * X).mean(), error.mean()",
        "def squared_error_gradients(X, y, weight, bias):\n"
        "    error = y - weight * X - bias\n    return (2 * error * X).mean(), (2 * error).mean()",
        "def squared_error_gradients(X, y, weight, bias):\n"
        "    error = weight * X + bias - y\n    return 2 * error * X, 2 * error",
    ],
    "01.4": [
        "def sgd_update(loss, parameters, lr):\n    for p in parameters:\n        p.grad = None\n    loss.backward()\n"
        "    for p in parameters:\n        p -= lr * p.grad\n        p.grad = None",
        "def sgd_update(loss, parameters, lr):\n    loss.backward()\n    with torch.no_grad():\n"
        "        for p in parameters:\n            p -= lr * p.grad\n            p.grad = None",
        "def sgd_update(loss, parameters, lr):\n    for p in parameters:\n        p.grad = None\n    loss.backward()\n"
        "    with torch.no_grad():\n        for p in parameters:\n            p += lr * p.grad\n            p.grad = None",
        "def sgd_update(loss, parameters, lr):\n    for p in parameters:\n        p.grad = None\n    loss.backward()\n"
        "    for p in parameters:\n        p = p - lr * p.grad",
        "def sgd_update(loss, parameters, lr):\n    for p in parameters:\n        p.grad = None\n    loss.backward()\n"
        "    with torch.no_grad():\n        for p in parameters:\n            p -= lr * p.grad",
    ],
    "01.5": [
        "def exact_mean(means, lengths):\n    return sum(means) / len(means)",
        "def exact_mean(means, lengths):\n    return sum(m * n for m, n in zip(means, lengths)) / len(means)",
        "def exact_mean(means, lengths):\n    return sum(m * n for m, n in zip(means, lengths))",
    ],
}
