"""Answers to lesson 01's exercises: plausible wrong ones, unusual right ones."""

from tests.notebooks import changed

SPLIT = """\
def split_in_order(X, y, fraction):
    n = int(fraction * len(X))
    return X[:n], y[:n], X[n:], y[n:]
"""

MSE = """\
def mean_squared_error(predictions, targets):
    return RESULT
"""

GRADIENTS = """\
def squared_error_gradients(X, y, weight, bias):
    error = weight * X + bias - y
    return RESULT
"""

UPDATE = """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p -= lr * p.grad
            p.grad = None
"""

FIT = """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
"""

EVALUATE = """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item() * len(y)
            count += len(y)
    return total / count
"""

CURVE = """\
def fit_curve(X, y):
    def features(x):
        speeds = torch.arange(1, 7)
        return torch.cat([x, torch.sin(speeds * x), torch.cos(speeds * x)], dim=1)

    model = nn.Linear(13, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(1000):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(features(X)), y).backward()
        optimizer.step()
    return lambda x: model(features(x))
"""

WRONG = {
    "01.1": [
        changed(SPLIT, ("X[:n], y[:n], X[n:], y[n:]", "X[:n], X[n:], y[:n], y[n:]")),
        changed(SPLIT, ("X[:n], y[:n], X[n:], y[n:]", "X[n:], y[n:], X[:n], y[:n]")),
        changed(
            SPLIT, ("X[:n], y[:n], X[n:], y[n:]", "X[:n], y[:n], X[n + 1:], y[n + 1:]")
        ),
        """\
def split_in_order(X, y, fraction):
    return X[:40], y[:40], X[40:], y[40:]
""",
        changed(SPLIT, ("int(fraction * len(X)", "round(fraction * len(X) + 0.5")),
        changed(
            SPLIT,
            (
                "    return",
                "    order = torch.randperm(len(X))\n    X, y = X[order], y[order]\n    return",
            ),
        ),
        changed(SPLIT, ("    return", "    y = y.float()\n    return")),
        changed(SPLIT, ("    return", "    X -= X.mean()\n    return")),
    ],
    "01.2": [
        MSE.replace("RESULT", result)
        for result in (
            "((predictions - targets) ** 2).sum()",
            "(predictions - targets).mean() ** 2",
            "(predictions - targets) ** 2",
            "(predictions - targets).abs().mean()",
            "((predictions - targets) ** 2).detach().mean()",
            "((predictions - targets) ** 2).mean().item()",
            "nn.MSELoss()(predictions, targets)",
            "((predictions - targets) ** 2).mean().sqrt()",
            "((predictions - targets) * (predictions - targets).detach()).mean()",
            "((predictions - targets) ** 2).median()",
        )
    ],
    "01.3": [
        GRADIENTS.replace("RESULT", result)
        for result in (
            "(2 * error).mean(), (2 * error * X).mean()",
            "(2 * error * X).sum(), (2 * error).sum()",
            "(error * X).mean(), error.mean()",
            "2 * error * X, 2 * error",
            "2 * error.mean() * X.mean(), 2 * error.mean()",
        )
    ]
    + [
        """\
def squared_error_gradients(X, y, weight, bias):
    error = y - weight * X - bias
    return (2 * error * X).mean(), (2 * error).mean()
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    w = torch.tensor(weight, requires_grad=True)
    b = torch.tensor(bias, requires_grad=True)
    ((w * X + b - y) ** 2).mean().backward()
    return w.grad, b.grad
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    w = torch.tensor(weight, requires_grad=True)
    b = torch.tensor(bias, requires_grad=True)
    return torch.autograd.grad(((w * X + b - y) ** 2).mean(), (w, b))
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    sign = torch.sign(weight * X + bias - y)
    return (sign * X).mean(), sign.mean()
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    X *= weight
    error = X + bias - y
    return (2 * error * X / weight).mean(), (2 * error).mean()
""",
    ],
    "01.4": [
        "def sgd_update(loss, parameters, lr):\n    gradients = torch.autograd.grad(loss, parameters)\n    for i, (p, g) in enumerate(zip(list(parameters), gradients)):\n        parameters[i] = (p - lr * g).detach().requires_grad_()",
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    for p in parameters:
        p -= lr * p.grad
        p.grad = None
""",
        changed(UPDATE, ("    for p in parameters:\n        p.grad = None\n", "")),
        changed(UPDATE, ("-", "+")),
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    for p in parameters:
        p = p - lr * p.grad
""",
        changed(UPDATE, ("            p.grad = None\n", "")),
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    for p in parameters:
        p.requires_grad_(False)
    for p in parameters:
        p -= lr * p.grad
        p.grad = None
""",
        changed(
            UPDATE,
            (
                "        for p in parameters:\n            p -= lr * p.grad\n",
                "        for k, p in enumerate(parameters):\n            parameters[k] = p - lr * p.grad\n",
            ),
        ),
        changed(
            UPDATE,
            (
                "            p -= lr * p.grad\n",
                "            p -= lr * torch.sign(p.grad)\n",
            ),
        ),
        changed(
            UPDATE, ("            p.grad = None\n", "            p.grad.zero_()\n")
        ),
        changed(
            UPDATE,
            ("            p -= lr * p.grad\n", "            p -= 0.01 * p.grad\n"),
        ),
    ],
    "01.5": [
        changed(FIT, ("        optimizer.zero_grad()\n", "")),
        changed(FIT, ("        optimizer.step()\n", "")),
        changed(
            FIT,
            ("    losses = []\n", "    losses = []\n    optimizer.zero_grad()\n"),
            ("        optimizer.zero_grad()\n", ""),
        ),
        changed(FIT, ("loss.item()", "loss")),
        changed(FIT, ("loss_fn(model(X), y)", "loss_fn(y, model(X))")),
        changed(FIT, ("    return losses\n", "    return losses[-1]\n")),
        changed(FIT, ("loss.item", "loss_fn(model(X), y).item")),
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        optimizer.step()
        loss.backward()
        losses.append(loss.item())
    return losses
""",
        changed(
            FIT,
            ("        optimizer.zero_grad()\n", ""),
            (
                "        loss.backward()\n",
                "        loss.backward()\n        optimizer.zero_grad()\n",
            ),
        ),
        changed(FIT, ("    for _ in range(epochs):\n", "    for _ in range(200):\n")),
        changed(
            FIT,
            (
                "        loss = loss_fn(model(X), y)\n",
                "        loss = nn.functional.mse_loss(model(X), y)\n",
            ),
        ),
        changed(
            FIT,
            (
                "    losses = []\n",
                "    losses = []\n    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)\n",
            ),
        ),
        changed(
            FIT,
            ("    losses = []\n", "    losses = []\n    predictions = model(X)\n"),
            (
                "        loss = loss_fn(model(X), y)\n        loss.backward()\n",
                "        loss = loss_fn(predictions, y)\n        loss.backward(retain_graph=True)\n",
            ),
        ),
    ],
    "01.6": [
        changed(
            EVALUATE,
            (" * len(y)\n            count += len(y)", "\n            count += 1"),
        ),
        changed(EVALUATE, ("    model.eval()\n", "")),
        changed(EVALUATE, ("X, y = X.to(device), y.to(device)", "pass")),
        changed(EVALUATE, (", y.to(device)", ", y")),
        changed(EVALUATE, ("with torch.inference_mode()", "if True")),
        changed(EVALUATE, ("total / count", "total")),
        changed(EVALUATE, (" * len(y)", "")),
        changed(EVALUATE, (".item()", "")),
        changed(EVALUATE, ("    return", "            break\n    return")),
        """\
def evaluate(model, dataloader, loss_fn, device):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total, count = 0.0, 0
    for X, y in dataloader:
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        count += len(y)
    return total / count
""",
        changed(
            EVALUATE,
            ("            count += len(y)\n", "            count += len(dataloader)\n"),
        ),
    ],
    "01.challenge": [
        """\
def fit_curve(X, y):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(1000):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), y).backward()
        optimizer.step()
    return model
""",
        """\
def fit_curve(X, y):
    return lambda x: y[torch.cdist(x, X).argmin(dim=1)]
""",
        """\
def fit_curve(X, y):
    return lambda x: y.mean().expand(len(x), 1)
""",
        changed(
            CURVE,
            (
                "    return lambda x: model(features(x))\n",
                "    return lambda x: model(features(x)).flatten()\n",
            ),
        ),
        changed(CURVE, ("lambda x: model(features(x", "model(features(X")),
        """\
def fit_curve(X, y):
    powers = torch.arange(3)
    solution = torch.linalg.lstsq(X**powers, y).solution
    return lambda x: x**powers @ solution
""",
        changed(CURVE, ("        optimizer.zero_grad()\n", "")),
        changed(CURVE, ("0.2", "2.0")),
        """\
def fit_curve(X, y):
    powers = torch.arange(60)
    solution = torch.linalg.lstsq((X**powers).double(), y.double()).solution
    return lambda x: ((x**powers).double() @ solution).float()
""",
    ],
}

RIGHT = {
    "01.1": [
        """\
def split_in_order(X, y, fraction):
    sizes = [int(fraction * len(X)), len(X) - int(fraction * len(X))]
    return [part for pair in zip(X.split(sizes), y.split(sizes)) for part in pair]
""",
        """\
def split_in_order(X, y, fraction):
    first = torch.arange(len(X)) < int(fraction * len(X))
    return X[first], y[first], X[~first], y[~first]
""",
    ],
    "01.2": [
        """\
def mean_squared_error(predictions, targets):
    return (targets - predictions).square().sum() / targets.numel()
""",
        """\
def mean_squared_error(predictions, targets):
    errors = (predictions - targets).flatten()
    return errors @ errors / len(errors)
""",
    ],
    "01.3": [
        """\
def squared_error_gradients(X, y, weight, bias):
    n = len(X)
    total_w = total_b = 0.0
    for x, target in zip(X.flatten().tolist(), y.flatten().tolist()):
        error = weight * x + bias - target
        total_w += 2 * error * x / n
        total_b += 2 * error / n
    return total_w, total_b
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    error = y - bias - weight * X
    return [X.T @ error * -2 / len(X), -2 * error.mean(dim=0)]
""",
    ],
    "01.4": [
        """\
def sgd_update(loss, parameters, lr):
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients):
        parameter.data -= lr * gradient
        parameter.grad = None
""",
        """\
def sgd_update(loss, parameters, lr):
    optimizer = torch.optim.SGD(parameters, lr=lr)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
""",
    ],
    "01.5": [
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    optimizer.zero_grad()
    for _ in range(epochs):
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    def one():
        model.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return [one() for _ in range(epochs)]
""",
    ],
    "01.6": [
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.train(False)
    with torch.no_grad():
        pairs = [(model(X.to(device)), y.to(device)) for X, y in dataloader]
    outputs, targets = (torch.cat(parts) for parts in zip(*pairs))
    return loss_fn(outputs, targets).item()
""",
        """\
@torch.inference_mode()
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    sizes = torch.tensor([float(len(y)) for _, y in dataloader])
    moved = [(X.to(device), y.to(device=device)) for X, y in dataloader]
    means = torch.stack([loss_fn(model(X), y) for X, y in moved])
    return (means @ sizes / sizes.sum()).item()
""",
    ],
    "01.challenge": [
        """\
def fit_curve(X, y):
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(1500):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), y).backward()
        optimizer.step()
    return model
""",
        """\
def fit_curve(X, y):
    powers = torch.arange(11)
    solution = torch.linalg.lstsq(X**powers, y).solution
    return lambda x: x**powers @ solution
""",
    ],
}
