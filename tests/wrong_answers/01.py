"""Answers to lesson 01's exercises: plausible wrong ones, unusual right ones."""

WRONG = {
    "01.1": [
        """\
def split_in_order(X, y, fraction):
    n = int(fraction * len(X))
    return X[:n], X[n:], y[:n], y[n:]
""",
        """\
def split_in_order(X, y, fraction):
    n = int(fraction * len(X))
    return X[n:], y[n:], X[:n], y[:n]
""",
        """\
def split_in_order(X, y, fraction):
    n = int(fraction * len(X))
    return X[:n], y[:n], X[n + 1:], y[n + 1:]
""",
        """\
def split_in_order(X, y, fraction):
    return X[:40], y[:40], X[40:], y[40:]
""",
        """\
def split_in_order(X, y, fraction):
    n = round(fraction * len(X) + 0.5)
    return X[:n], y[:n], X[n:], y[n:]
""",
        """\
def split_in_order(X, y, fraction):
    n = int(fraction * len(X))
    order = torch.randperm(len(X))
    X, y = X[order], y[order]
    return X[:n], y[:n], X[n:], y[n:]
""",
        """\
def split_in_order(X, y, fraction):
    n = int(fraction * len(X))
    y = y.float()
    return X[:n], y[:n], X[n:], y[n:]
""",
        """\
def split_in_order(X, y, fraction):
    n = int(fraction * len(X))
    X -= X.mean()
    return X[:n], y[:n], X[n:], y[n:]
""",
    ],
    "01.2": [
        """\
def mean_squared_error(predictions, targets):
    return ((predictions - targets) ** 2).sum()
""",
        """\
def mean_squared_error(predictions, targets):
    return (predictions - targets).mean() ** 2
""",
        """\
def mean_squared_error(predictions, targets):
    return (predictions - targets) ** 2
""",
        """\
def mean_squared_error(predictions, targets):
    return (predictions - targets).abs().mean()
""",
        """\
def mean_squared_error(predictions, targets):
    return ((predictions - targets) ** 2).detach().mean()
""",
        """\
def mean_squared_error(predictions, targets):
    return ((predictions - targets) ** 2).mean().item()
""",
        """\
def mean_squared_error(predictions, targets):
    return nn.MSELoss()(predictions, targets)
""",
        """\
def mean_squared_error(predictions, targets):
    return ((predictions - targets) ** 2).mean().sqrt()
""",
        """\
def mean_squared_error(predictions, targets):
    return ((predictions - targets) * (predictions - targets).detach()).mean()
""",
        """\
def mean_squared_error(predictions, targets):
    return ((predictions - targets) ** 2).median()
""",
    ],
    "01.3": [
        """\
def squared_error_gradients(X, y, weight, bias):
    error = weight * X + bias - y
    return (2 * error).mean(), (2 * error * X).mean()
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    error = weight * X + bias - y
    return (2 * error * X).sum(), (2 * error).sum()
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    error = weight * X + bias - y
    return (error * X).mean(), error.mean()
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    error = y - weight * X - bias
    return (2 * error * X).mean(), (2 * error).mean()
""",
        """\
def squared_error_gradients(X, y, weight, bias):
    error = weight * X + bias - y
    return 2 * error * X, 2 * error
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
    error = weight * X + bias - y
    return 2 * error.mean() * X.mean(), 2 * error.mean()
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
        """\
def sgd_update(loss, parameters, lr):
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p -= lr * p.grad
            p.grad = None
""",
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p += lr * p.grad
            p.grad = None
""",
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    for p in parameters:
        p = p - lr * p.grad
""",
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p -= lr * p.grad
""",
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
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for k, p in enumerate(parameters):
            parameters[k] = p - lr * p.grad
            p.grad = None
""",
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p -= lr * torch.sign(p.grad)
            p.grad = None
""",
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p -= lr * p.grad
            p.grad.zero_()
""",
        """\
def sgd_update(loss, parameters, lr):
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p in parameters:
            p -= 0.01 * p.grad
            p.grad = None
""",
    ],
    "01.5": [
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    optimizer.zero_grad()
    for _ in range(epochs):
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1]
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss_fn(model(X), y).item())
    return losses
""",
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
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
""",
        """\
def fit(model, X, y, loss_fn, optimizer, epochs):
    losses = []
    predictions = model(X)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_fn(predictions, y)
        loss.backward(retain_graph=True)
        optimizer.step()
        losses.append(loss.item())
    return losses
""",
    ],
    "01.6": [
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item()
            count += 1
    return total / count
""",
        """\
def evaluate(model, dataloader, loss_fn, device):
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item() * len(y)
            count += len(y)
    return total / count
""",
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    if True:
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item() * len(y)
            count += len(y)
    return total / count
""",
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item() * len(y)
            count += len(y)
    return total
""",
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item()
            count += len(y)
    return total / count
""",
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y) * len(y)
            count += len(y)
    return total / count
""",
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item() * len(y)
            count += len(y)
            break
    return total / count
""",
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
        """\
def evaluate(model, dataloader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            total += loss_fn(model(X), y).item() * len(y)
            count += len(dataloader)
    return total / count
""",
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
        """\
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
    return lambda x: model(features(x)).flatten()
""",
        """\
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
    return model(features(X))
""",
        """\
def fit_curve(X, y):
    powers = torch.arange(3)
    solution = torch.linalg.lstsq(X**powers, y).solution
    return lambda x: x**powers @ solution
""",
        """\
def fit_curve(X, y):
    def features(x):
        speeds = torch.arange(1, 7)
        return torch.cat([x, torch.sin(speeds * x), torch.cos(speeds * x)], dim=1)

    model = nn.Linear(13, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(1000):
        nn.functional.mse_loss(model(features(X)), y).backward()
        optimizer.step()
    return lambda x: model(features(x))
""",
        """\
def fit_curve(X, y):
    def features(x):
        speeds = torch.arange(1, 7)
        return torch.cat([x, torch.sin(speeds * x), torch.cos(speeds * x)], dim=1)

    model = nn.Linear(13, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    for _ in range(1000):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(features(X)), y).backward()
        optimizer.step()
    return lambda x: model(features(x))
""",
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
    means = torch.stack([loss_fn(model(X), y) for X, y in dataloader])
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
