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
    ],
    "02.2": [
        "def logits_to_labels(logits, threshold):\n    return (logits > threshold).float()",
        "def logits_to_labels(logits, threshold):\n    return torch.round(torch.sigmoid(logits))",
        "def logits_to_labels(logits, threshold):\n    return torch.sigmoid(logits) > threshold",
        "def logits_to_labels(logits, threshold):\n    return (torch.sigmoid(logits) > threshold).float().squeeze()",
        "def logits_to_labels(logits, threshold):\n    return (torch.softmax(logits, dim=1) > threshold).float()",
        "def logits_to_labels(logits, threshold):\n    return (torch.sigmoid(logits) < threshold).float()",
    ],
    "02.3": [
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return (1 + beta**2) * p * r / (beta**2 * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return 2 * p * r / (p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    r, p = tp / predictions.sum().item(), tp / labels.sum().item()\n    return (1 + beta**2) * p * r / (beta**2 * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum().item()\n    if not tp:\n        return 0.0\n    p, r = tp / predictions.sum().item(), tp / labels.sum().item()\n    return (1 + beta) * p * r / (beta * p + r)",
        "def f_beta(predictions, labels, beta):\n    tp = (predictions * labels).sum()\n    p, r = tp / predictions.sum(), tp / labels.sum()\n    return (1 + beta**2) * p * r / (beta**2 * p + r)",
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
    ],
    "02.6": [
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
    ],
}
