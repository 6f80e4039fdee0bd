"""Plausible wrong answers to the exercises of notebook 02."""

WRONG = {
    "02.1": [
        "def collapse(first, second):\n    return second.weight @ first.weight, second.bias",
        "def collapse(first, second):\n    return second.weight @ first.weight, second.weight @ first.bias",
        "def collapse(first, second):\n    weight = first.weight.T @ second.weight.T\n"
        "    return weight, second.weight @ first.bias + second.bias",
        "def collapse(first, second):\n"
        "    return first.weight @ second.weight, second.weight @ first.bias + second.bias",
        "def collapse(first, second):\n    return second.weight @ first.weight",
        "def collapse(first, second):\n    return second.weight @ first.weight, first.bias + second.bias",
        "def collapse(first, second):\n    second.weight.data = second.weight.data @ first.weight.data\n    return second.weight, second.bias",
        "def collapse(first, second):\n    weight = second.weight @ first.weight\n    bias = second.weight @ first.bias - second.bias\n    return weight, bias",
        "def collapse(first, second):\n    bias = second.weight @ first.bias + second.bias\n    second.bias.data += 1\n    return second.weight @ first.weight, bias",
    ],
    "02.2": [
        "def logits_to_labels(logits, threshold):\n    return (logits > threshold).float()",
        "def logits_to_labels(logits, threshold):\n    return torch.round(torch.sigmoid(logits))",
        "def logits_to_labels(logits, threshold):\n    return torch.sigmoid(logits) > threshold",
        "def logits_to_labels(logits, threshold):\n    return (torch.sigmoid(logits) > threshold).float().squeeze()",
        "def logits_to_labels(logits, threshold):\n    return (torch.softmax(logits, dim=1) > threshold).float()",
        "def logits_to_labels(logits, threshold):\n    return (torch.sigmoid(logits) < threshold).float()",
        "def logits_to_labels(logits, threshold):\n    return (torch.sigmoid(logits) >= threshold).float()",
        "def logits_to_labels(logits, threshold):\n    return (logits.sigmoid_() > threshold).float()",
        "def logits_to_labels(logits, threshold):\n    return (torch.sigmoid(logits) > threshold).long()",
        "def logits_to_labels(logits, threshold):\n    return (torch.sigmoid(logits) > 0.5).float()",
    ],
    "02.3": [
        """\
def f_beta(predictions, labels, beta):
    tp = (predictions & labels).sum().item()
    if not tp:
        return 0.0
    p, r = tp / predictions.sum().item(), tp / labels.sum().item()
    return (1 + beta**2) * p * r / (beta**2 * p + r)
""",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return (1 + beta**2) * p * r / (beta**2 * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return 2 * p * r / (p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    r, p = tp / predictions.sum().item(), tp / labels.sum().item()\n    return (1 + beta**2) * p * r / (beta**2 * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return (1 + beta) * p * r / (beta * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum()\n    p, r = tp / predictions.sum(), tp / labels.sum()\n    return (1 + beta**2) * p * r / (beta**2 * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return 5 * p * r / (4 * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return round((1 + beta**2) * p * r / (beta**2 * p + r), 2)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    p, r = tp / max(predictions.sum().item(), 1), tp / len(labels)\n    return (1 + beta**2) * p * r / (beta**2 * p + r + 1e-12)",
        "def f_beta(predictions, labels, beta):\n    tp = labels.mul_(predictions).sum().item()\n    if not tp:\n        return 0.0\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return (1 + beta**2) * p * r / (beta**2 * p + r)",
    ],
    "02.4": [
        "def pick_threshold(probs, labels, min_recall):\n    return probs[labels == 1].min().item()",
        "def pick_threshold(probs, labels, min_recall):\n    return probs[labels == 1].max().item()",
        "def pick_threshold(probs, labels, min_recall):\n    return torch.quantile(probs, 1 - min_recall).item()",
        "def pick_threshold(probs, labels, min_recall):\n"
        "    return torch.quantile(probs[labels == 1], 1 - min_recall).item()",
        "def pick_threshold(probs, labels, min_recall):\n"
        "    positives = probs[labels == 1].sort(descending=True).values\n"
        "    return positives[int(min_recall * len(positives)) - 1].item()",
        "def pick_threshold(probs, labels, min_recall):\n    return 1 - min_recall",
        "def pick_threshold(probs, labels, min_recall):\n    positives = probs[labels == 1].sort(descending=True).values\n    recalls = torch.arange(1, len(positives) + 1) / len(positives)\n    return positives[recalls > min_recall][0].item()",
        "def pick_threshold(probs, labels, min_recall):\n    positives = probs[labels == 1].unique().flip(0)\n    recalls = torch.arange(1, len(positives) + 1) / len(positives)\n    return positives[recalls >= min_recall][0].item()",
        "def pick_threshold(probs, labels, min_recall):\n    for t in probs.sort(descending=True).values:\n        if ((probs > t) & (labels == 1)).sum() / labels.sum() >= min_recall:\n            return t.item()\n    return 0.0",
        "def pick_threshold(probs, labels, min_recall):\n    probs[labels == 0] = 0\n    positives = probs.sort(descending=True).values[: int(labels.sum())]\n    recalls = torch.arange(1, len(positives) + 1) / len(positives)\n    return positives[recalls >= min_recall][0].item()",
        """\
def pick_threshold(probs, labels, min_recall):
    for t in probs.sort(descending=True).values:
        if (probs[labels == 1] >= t).float().mean() > min_recall:
            return t
""",
    ],
    "02.5": [
        "def log_softmax(logits):\n    powers = logits.exp()\n    return (powers / powers.sum(dim=1, keepdim=True)).log()",
        "def log_softmax(logits):\n    return torch.softmax(logits, dim=1).log()",
        "def log_softmax(logits):\n    shifted = logits - logits.max()\n"
        "    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()",
        "def log_softmax(logits):\n    shifted = logits - logits.amax(dim=0)\n"
        "    return shifted - shifted.exp().sum(dim=0).log()",
        "def log_softmax(logits):\n    return logits - logits.exp().sum(dim=1, keepdim=True).log()",
        "def log_softmax(logits):\n    shifted = logits - logits.amax(dim=1, keepdim=True)\n"
        "    return shifted - shifted.sum(dim=1, keepdim=True).log()",
        "def log_softmax(logits):\n    return torch.log_softmax(logits, dim=1)",
        "def log_softmax(logits):\n    return logits - logits.logsumexp(dim=1, keepdim=True)",
        "def log_softmax(logits):\n    return nn.LogSoftmax(dim=1)(logits)",
        "def log_softmax(logits):\n    s = logits - logits.amax(dim=1, keepdim=True)\n    return s - (s.exp().sum(dim=1, keepdim=True) + 1e-3).log()",
        "def log_softmax(logits):\n    return (torch.softmax(logits, dim=1) + 1e-12).log()",
        "def log_softmax(logits):\n    logits -= logits.amax(dim=1, keepdim=True)\n    return logits - logits.exp().sum(dim=1, keepdim=True).log()",
        "def log_softmax(logits):\n    s = (logits - logits.amax(dim=1, keepdim=True)).detach()\n    return s - s.exp().sum(dim=1, keepdim=True).log()",
        """\
def log_softmax(logits):
    s = logits - logits.amax(dim=1, keepdim=True)
    return s - s.detach().exp().sum(dim=1, keepdim=True).log()
""",
    ],
    "02.6": [
        "def confusion_matrix(predictions, labels, num_classes):\n"
        "    from torchmetrics import ConfusionMatrix\n"
        '    return ConfusionMatrix(task="multiclass", num_classes=num_classes)(predictions, labels)',
        "def confusion_matrix(predictions, labels, num_classes):\n    counts = torch.bincount(labels * 10 + predictions, minlength=100)\n    return counts[:100].reshape(10, 10)[:num_classes, :num_classes]",
        "def confusion_matrix(predictions, labels, num_classes):\n"
        "    counts = torch.bincount(predictions * num_classes + labels, minlength=num_classes**2)\n"
        "    return counts.reshape(num_classes, num_classes)",
        "def confusion_matrix(predictions, labels, num_classes):\n"
        "    return torch.bincount(labels * num_classes + predictions).reshape(num_classes, num_classes)",
        "def confusion_matrix(predictions, labels, num_classes):\n"
        "    counts = torch.bincount(labels + predictions, minlength=num_classes**2)\n"
        "    return counts.reshape(num_classes, num_classes)",
        "def confusion_matrix(predictions, labels, num_classes):\n"
        "    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)\n"
        "    matrix[labels, predictions] += 1\n    return matrix",
        "def confusion_matrix(predictions, labels, num_classes):\n"
        "    return torch.bincount(labels * num_classes + predictions, minlength=num_classes**2)",
        "def confusion_matrix(predictions, labels, num_classes):\n    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)\n    for true, predicted in zip(labels, predictions, strict=True):\n        matrix[true, predicted] += 1\n    return matrix",
        "def confusion_matrix(predictions, labels, num_classes):\n    K = range(num_classes)\n    return torch.tensor([[((labels == r) & (predictions == c)).sum() for c in K] for r in K])",
        "def confusion_matrix(predictions, labels, num_classes):\n    labels *= num_classes\n    labels += predictions\n    counts = torch.bincount(labels, minlength=num_classes**2)\n    return counts.reshape(num_classes, num_classes)",
        "def confusion_matrix(predictions, labels, num_classes):\n    return multiclass_confusion_matrix(predictions, labels, num_classes=num_classes)",
    ],
    "02.challenge": [
        """\
def moons(X_train, y_train, X_new):
    targets = y_train.float().unsqueeze(dim=1)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        nn.BCEWithLogitsLoss()(model(X_train), targets).backward()
        optimizer.step()
    return (model(X_new) > 0).squeeze(dim=1).long()
""",
        """\
def moons(X_train, y_train, X_new):
    model = ClassificationModel(2, 16, 1)
    targets = y_train.float().unsqueeze(dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.BCEWithLogitsLoss()(model(X_train), targets).backward()
        optimizer.step()
    return torch.sigmoid(model(X_new)).squeeze(dim=1)
""",
        """\
def moons(X_train, y_train, X_new):
    model = ClassificationModel(2, 16, 1)
    return (model(X_new) > 0).squeeze(dim=1).long()
""",
        """\
def moons(X_train, y_train, X_new):
    model = nn.Sequential(ClassificationModel(2, 16, 1), nn.Sigmoid())
    targets = y_train.float().unsqueeze(dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.BCEWithLogitsLoss()(model(X_train), targets).backward()
        optimizer.step()
    return (model(X_new) > 0).squeeze(dim=1).long()
""",
        """\
def moons(X_train, y_train, X_new):
    model = ClassificationModel(2, 16, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(model(X_train), y_train).backward()
        optimizer.step()
    return model(X_new).argmin(dim=1)
""",
        """\
def moons(X_train, y_train, X_new):
    X_new -= X_new.mean(dim=0)
    return (X_new[:, 0] > 0).long()
""",
    ],
}

RIGHT = {
    "02.1": [
        # the columns of the weight are what the unit vectors become, without the bias
        """\
def collapse(first, second):
    bias = second(first(torch.zeros(first.in_features)))
    weight = (second(first(torch.eye(first.in_features))) - bias).T
    return weight.detach(), bias.detach()
""",
        """\
def collapse(first, second):
    weight = torch.einsum("kh,hd->kd", second.weight, first.weight)
    return [weight, second(first.bias)]
""",
    ],
    "02.2": [
        # the threshold becomes a logit
        """\
def logits_to_labels(logits, threshold):
    return (logits > math.log(threshold / (1 - threshold))).float()
""",
        """\
def logits_to_labels(logits, threshold):
    labels = torch.zeros_like(logits)
    labels[1 / (1 + torch.exp(-logits)) > threshold] = 1
    return labels
""",
    ],
    "02.3": [
        # from the counts alone, and torchmetrics
        """\
def f_beta(predictions, labels, beta):
    tp = int(((predictions == 1) & (labels == 1)).sum())
    fp, fn = int((predictions > labels).sum()), int((predictions < labels).sum())
    if not tp:
        return 0.0
    return (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp)
""",
        """\
def f_beta(predictions, labels, beta):
    from torchmetrics.functional.classification import binary_fbeta_score
    return binary_fbeta_score(predictions.int(), labels.int(), beta=float(beta))
""",
    ],
    "02.4": [
        # every threshold in turn, and all at once
        """\
def pick_threshold(probs, labels, min_recall):
    for threshold in probs.unique().flip(0):
        found = ((probs >= threshold) & (labels == 1)).sum()
        if found / labels.sum() >= min_recall:
            return threshold
""",
        """\
def pick_threshold(probs, labels, min_recall):
    found = (probs[:, None] >= probs) & (labels[:, None] == 1)
    enough = found.sum(dim=0) >= min_recall * labels.sum()
    return probs[enough].max()
""",
    ],
    "02.5": [
        # the largest logit goes back in, and a loop over the rows
        """\
def log_softmax(logits):
    top = logits.max(dim=1, keepdim=True).values
    return logits - (top + torch.log(torch.exp(logits - top).sum(1, keepdim=True)))
""",
        """\
def log_softmax(logits):
    rows = [row - row.max() for row in logits]
    return torch.stack([row - row.exp().sum().log() for row in rows])
""",
    ],
    "02.6": [
        # a product of one-hot matrices, and an addition at places
        """\
def confusion_matrix(predictions, labels, num_classes):
    one_hot = nn.functional.one_hot
    return one_hot(labels, num_classes).T @ one_hot(predictions, num_classes)
""",
        """\
def confusion_matrix(predictions, labels, num_classes):
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    one = torch.ones_like(labels)
    return matrix.index_put_((labels, predictions), one, accumulate=True)
""",
    ],
    "02.challenge": [
        """\
def moons(X_train, y_train, X_new):
    # two logits and cross-entropy
    model = ClassificationModel(2, 32, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(model(X_train), y_train).backward()
        optimizer.step()
    return model(X_new).argmax(dim=1)
""",
        """\
def moons(X_train, y_train, X_new):
    # no network: the vote of the five nearest points, as booleans
    nearest = torch.cdist(X_new, X_train).topk(5, largest=False).indices
    return y_train[nearest].float().mean(dim=1) > 0.5
""",
    ],
}
