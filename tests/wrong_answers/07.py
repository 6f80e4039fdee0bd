WRONG = {
    "07.1": [
        "def unique_name(name, taken):\n    return name if name not in taken else f'{name}-2'",
        "def unique_name(name, taken):\n    return name if not taken else f'{name}-{len(taken) + 1}'",
        "def unique_name(name, taken):\n    number = 1\n    while f'{name}-{number}' in taken:\n        number += 1\n    return f'{name}-{number}'",
    ],
    "07.2": [
        "def read_rows(text):\n    return [json.loads(line) for line in text.splitlines()]",
        "def read_rows(text):\n    rows = []\n    for line in text.splitlines():\n        try:\n            rows.append(json.loads(line))\n        except ValueError:\n            pass\n    return rows",
        "def read_rows(text):\n    return [json.loads(line) for line in text.splitlines()[:-1]]",
    ],
    "07.3": [
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * step / warmup\n    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2",
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * (step + 1) / warmup\n    return peak * (1 + math.cos(math.pi * step / steps)) / 2",
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * (step + 1) / warmup\n    return peak * math.cos(math.pi * (step - warmup) / (steps - warmup))",
    ],
    "07.4": [
        "def log_uniform(u, low, high):\n    return low + u * (high - low)",
        "def log_uniform(u, low, high):\n    return torch.exp(low + u * (high - low))",
        "def log_uniform(u, low, high):\n    return math.log(low) + u * (math.log(high) - math.log(low))",
    ],
    "07.5": [
        "def should_prune(value, epoch, others):\n    values = [o[epoch - 1] for o in others if len(o) >= epoch]\n    return bool(values) and value < sorted(values)[len(values) // 2]",
        "def should_prune(value, epoch, others):\n    values = [o[epoch - 1] for o in others if len(o) >= epoch]\n    return len(values) >= 4 and value < sum(values) / len(values)",
        "def should_prune(value, epoch, others):\n    values = sorted(o[-1] for o in others)\n    return len(values) >= 4 and value < values[len(values) // 2]",
        "def should_prune(value, epoch, others):\n    values = sorted(o[epoch] for o in others if len(o) > epoch)\n    return len(values) >= 4 and value < (values[len(values) // 2] + values[-len(values) // 2 - 1]) / 2",
    ],
    "07.6": [
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, gain > 0",
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, abs(gain) > max(stdev(a), stdev(b))",
        "def is_better(a, b):\n    gain = max(a) - max(b)\n    return gain, gain > max(stdev(a), stdev(b))",
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, gain > min(stdev(a), stdev(b))",
    ],
}
