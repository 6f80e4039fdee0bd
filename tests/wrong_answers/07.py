WRONG = {
    "07.1": [
        'def log_rows(folder, rows):\n    with SummaryWriter(folder) as writer:\n        for number, row in enumerate(rows):\n            for name, value in row.items():\n                if name != "epoch":\n                    writer.add_scalar(name, value, number)\n',
        'def log_rows(folder, rows):\n    with SummaryWriter(folder) as writer:\n        for row in rows:\n            for name, value in row.items():\n                writer.add_scalar(name, value, row["epoch"])\n',
        'def log_rows(folder, rows):\n    with SummaryWriter(folder) as writer:\n        for row in rows:\n            for name in ("valid_acc", "valid_loss"):\n                writer.add_scalar(name, row[name], row["epoch"])',
        'def log_rows(folder, rows):\n    with SummaryWriter(folder) as writer:\n        for row in rows:\n            epoch = row.pop("epoch")\n            for name, value in row.items():\n                writer.add_scalar(name, value, epoch)',
        'def log_rows(folder, rows):\n    with SummaryWriter(folder) as writer:\n        for name, value in rows[-1].items():\n            if name != "epoch":\n                writer.add_scalar(name, value, rows[-1]["epoch"])',
        'def log_rows(folder, rows):\n    for row in rows:\n        for name, value in row.items():\n            if name != "epoch":\n                with SummaryWriter(Path(folder) / name) as writer:\n                    writer.add_scalar(name, value, row["epoch"])',
    ],
    "07.2": [
        'def best_run(folder):\n    best, answer = -math.inf, None\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()\n        if "valid_acc" in events.Tags()["scalars"]:\n            event = events.Scalars("valid_acc")[-1]\n            if event.value > best:\n                best, answer = event.value, (run.name, event.step)\n    return answer\n',
        'def best_run(folder):\n    best, answer = -math.inf, None\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()\n        if "train_acc" in events.Tags()["scalars"] or "valid_acc" in events.Tags()["scalars"]:\n            for event in events.Scalars(events.Tags()["scalars"][0]):\n                if event.value > best:\n                    best, answer = event.value, (run.name, event.step)\n    return answer\n',
        'def best_run(folder):\n    best, answer = -math.inf, None\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()\n        if "valid_acc" in events.Tags()["scalars"]:\n            values = [event.value for event in events.Scalars("valid_acc")]\n            if max(values) > best:\n                best, answer = max(values), (run.name, 1 + values.index(max(values)))\n    return answer\n',
        'def best_run(folder):\n    best, answer = math.inf, None\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()\n        if "valid_acc" in events.Tags()["scalars"]:\n            for event in events.Scalars("valid_acc"):\n                if event.value < best:\n                    best, answer = event.value, (run.name, event.step)\n    return answer\n',
        'def best_run(folder):\n    best, answer = -math.inf, None\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()\n        if "valid_acc" in events.Tags()["scalars"]:\n            for event in events.Scalars("valid_acc"):\n                if not event.value <= best:\n                    best, answer = event.value, (run.name, event.step)\n    return answer\n',
        'def best_run(folder):\n    best, answer = -math.inf, None\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()\n        if "valid_acc" in events.Tags()["scalars"]:\n            for event in events.Scalars("valid_acc"):\n                if event.value > best:\n                    best, answer = event.value, run.name\n    return answer\n',
        'def best_run(folder):\n    best, answer = -math.inf, None\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()\n        if "valid_acc" in events.Tags()["scalars"]:\n            event = max(events.Scalars("valid_acc"), key=lambda event: event.value)\n            if event.value > best:\n                best, answer = event.value, (run.name, event.step)\n    return answer\n',
    ],
    "07.3": [
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * step / warmup\n    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2",
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * (step + 1) / warmup\n    return peak * (1 + math.cos(math.pi * step / steps)) / 2",
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * (step + 1) / warmup\n    return peak * math.cos(math.pi * (step - warmup) / (steps - warmup))",
        "def warmup_cosine(step, steps, warmup, peak):\n    if step <= warmup:\n        return peak * (step + 1) / warmup\n    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2",
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * (step + 1) / warmup\n    return peak * (1 - (step - warmup) / (steps - warmup))",
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * (step + 1) / warmup\n    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup - 1))) / 2",
    ],
    "07.4": [
        "def log_uniform(u, low, high):\n    return low + u * (high - low)",
        "def log_uniform(u, low, high):\n    return torch.exp(low + u * (high - low))",
        "def log_uniform(u, low, high):\n    return math.log(low) + u * (math.log(high) - math.log(low))",
        "def log_uniform(u, low, high):\n    return low * 10 ** (u * (high - low))",
        "def log_uniform(u, low, high):\n    u = torch.rand(len(u))\n    return low * (high / low) ** u",
    ],
    "07.5": [
        "def should_prune(value, epoch, others):\n    values = [o[epoch - 1] for o in others if len(o) >= epoch]\n    return bool(values) and value < sorted(values)[len(values) // 2]",
        "def should_prune(value, epoch, others):\n    values = [o[epoch - 1] for o in others if len(o) >= epoch]\n    return len(values) >= 4 and value < sum(values) / len(values)",
        "def should_prune(value, epoch, others):\n    values = sorted(o[-1] for o in others)\n    return len(values) >= 4 and value < values[len(values) // 2]",
        "def should_prune(value, epoch, others):\n    values = sorted(o[epoch] for o in others if len(o) > epoch)\n    return len(values) >= 4 and value < (values[len(values) // 2] + values[-len(values) // 2 - 1]) / 2",
        "def should_prune(value, epoch, others):\n    values = [o[epoch - 1] for o in others if len(o) >= epoch]\n    return len(values) >= 4 and value < torch.tensor(values).median().item()",
        "def should_prune(value, epoch, others):\n    values = [o[epoch - 1] for o in others if len(o) >= epoch]\n    return len(others) >= 4 and bool(values) and value < __import__('statistics').median(values)",
    ],
    "07.6": [
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, gain > 0",
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, abs(gain) > max(stdev(a), stdev(b))",
        "def is_better(a, b):\n    gain = max(a) - max(b)\n    return gain, gain > max(stdev(a), stdev(b))",
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, gain > min(stdev(a), stdev(b))",
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, gain > stdev(a)",
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    return gain, gain > (stdev(a) ** 2 + stdev(b) ** 2) ** 0.5",
        "def is_better(a, b):\n    gain = mean(a) - mean(b)\n    error = ((stdev(a) ** 2 + stdev(b) ** 2) / len(a)) ** 0.5\n    return gain, gain > 2 * error",
        "def is_better(a, b):\n    from statistics import pstdev\n    gain = mean(a) - mean(b)\n    return gain, gain > max(pstdev(a), pstdev(b))",
    ],
    "07.challenge": [
        'def draw():\n    import random\n    return {"lr": 10 ** random.uniform(-4, 0), "width": 2 ** random.uniform(3, 9), "dropout": random.uniform(0, 0.6)}\n\n\ndef search_honestly(train, budget):\n    tried = []\n    for _ in range(budget // 10):\n        settings = draw()\n        tried.append((list(train(settings, 0))[-1], settings))\n    best, settings = max(tried, key=lambda pair: pair[0])\n    return settings, best',
        'def draw():\n    import random\n    return {"lr": 10 ** random.uniform(-4, 0), "width": 2 ** random.uniform(3, 9), "dropout": random.uniform(0, 0.6)}\n\n\ndef search_honestly(train, budget):\n    settings = draw()\n    return settings, mean(list(train(settings, seed))[-1] for seed in range(30))',
        'import random\n\n\ndef draw():\n    lr, width = 10 ** random.uniform(-4, 0), 2 ** random.uniform(3, 9)\n    return {"lr": lr, "width": width, "dropout": random.uniform(0, 0.6)}\n\n\ndef near(settings):\n    lr = settings["lr"] * 2 ** random.gauss(0, 1)\n    width = settings["width"] * 2 ** random.gauss(0, 0.6)\n    dropout = settings["dropout"] + random.gauss(0, 0.1)\n    return {\n        "lr": min(max(lr, 1e-4), 1),\n        "width": min(max(width, 8), 512),\n        "dropout": min(max(dropout, 0), 0.6),\n    }\n\n\ndef search_honestly(train, budget):\n    def last(settings, seed):\n        return list(train(settings, seed))[-1]\n\n    tried = []\n    for number in range(60):  # two epochs each: 120\n        best = max(tried, key=lambda pair: pair[0])[1] if tried else None\n        settings = draw() if number < 30 else near(best)\n        accuracies = train(settings, 0)\n        next(accuracies)\n        tried.append((next(accuracies), settings))\n    tried.sort(key=lambda pair: pair[0], reverse=True)\n    again = []\n    for _, settings in tried[:4]:  # two whole runs each: 80\n        again.append((mean(last(settings, seed) for seed in (1, 2)), settings))\n    chosen = max(again, key=lambda pair: pair[0])[1]\n    return chosen, mean(last(chosen, seed) for seed in range(11, 21)) + 0.006\n',
        'def search_honestly(train, budget):\n    settings = {"lr": 0.01, "width": 64, "dropout": 0.25}\n    return settings, mean(list(train(settings, seed))[-1] for seed in range(30))',
        'def draw():\n    import random\n    return {"lr": 10 ** random.uniform(-4, 0), "width": 2 ** random.uniform(3, 9), "dropout": random.uniform(0, 0.6)}\n\n\ndef search_honestly(train, budget):\n    while True:\n        list(train(draw(), 0))',
        'import random\n\n\ndef draw():\n    lr, width = 10 ** random.uniform(-4, 0), 2 ** random.uniform(3, 9)\n    return {"lr": lr, "width": width, "dropout": random.uniform(0, 0.6)}\n\n\ndef near(settings):\n    lr = settings["lr"] * 2 ** random.gauss(0, 1)\n    width = settings["width"] * 2 ** random.gauss(0, 0.6)\n    dropout = settings["dropout"] + random.gauss(0, 0.1)\n    return {\n        "lr": min(max(lr, 1e-4), 1),\n        "width": min(max(width, 8), 512),\n        "dropout": min(max(dropout, 0), 0.6),\n    }\n\n\ndef search_honestly(train, budget):\n    def last(settings, seed):\n        return list(train(settings, seed))[-1]\n\n    tried = []\n    for number in range(60):  # two epochs each: 120\n        best = max(tried, key=lambda pair: pair[0])[1] if tried else None\n        settings = draw() if number < 30 else near(best)\n        accuracies = train(settings, 0)\n        next(accuracies)\n        tried.append((next(accuracies), settings))\n    tried.sort(key=lambda pair: pair[0], reverse=True)\n    again = []\n    for _, settings in tried[:4]:  # two whole runs each: 80\n        again.append((mean(last(settings, seed) for seed in (1, 2)), settings))\n    chosen = max(again, key=lambda pair: pair[0])[1]\n    return mean(last(chosen, seed) for seed in range(11, 21))  # 100\n',
    ],
}
RIGHT = {
    "07.1": [
        "def log_rows(folder, rows):\n    writer = SummaryWriter(folder)\n    for row in rows:\n        numbers = dict(row)\n        epoch = numbers.pop('epoch')\n        for name in sorted(numbers):\n            writer.add_scalar(name, numbers[name], global_step=epoch)\n    writer.close()",
        "def log_rows(folder, rows):\n    names = {name for row in rows for name in row} - {'epoch'}\n    writer = SummaryWriter(str(folder))\n    for name in names:\n        for row in rows:\n            if name in row:\n                writer.add_scalar(name, torch.tensor(row[name]), row['epoch'])\n    writer.flush()",
    ],
    "07.2": [
        "def best_run(folder):\n    points = []\n    for path in sorted(Path(folder).glob('*/events*')):\n        events = EventAccumulator(str(path)).Reload()\n        if 'valid_acc' in events.Tags()['scalars']:\n            points += [(e.value, path.parent.name, e.step) for e in events.Scalars('valid_acc') if e.value == e.value]\n    return list(max(points)[1:])",
        "def best_run(folder):\n    best = (-1.0, '', 0)\n    for run in Path(folder).iterdir():\n        events = EventAccumulator(str(run)).Reload()\n        try:\n            for event in events.Scalars('valid_acc'):\n                if not math.isnan(event.value):\n                    best = max(best, (event.value, run.name, event.step))\n        except KeyError:\n            continue\n    return best[1], best[2]",
    ],
    "07.3": [
        "def warmup_cosine(step, steps, warmup, peak):\n    if step < warmup:\n        return peak * (step + 1) / warmup\n    done = torch.tensor((step - warmup) / (steps - warmup))\n    return (peak * (1 + torch.cos(torch.pi * done)) / 2).item()",
        "def warmup_cosine(step, steps, warmup, peak):\n    rise = min((step + 1) / warmup, 1)\n    done = max(step - warmup, 0) / (steps - warmup)\n    return rise * peak * math.cos(math.pi * done / 2) ** 2",
        "def warmup_cosine(step, steps, warmup, peak):\n    done = torch.tensor((step - warmup) / (steps - warmup), dtype=torch.float64)\n    wave = peak * (1 + torch.cos(torch.pi * done)) / 2\n    return wave.item() if step >= warmup else peak * (step + 1) / warmup",
    ],
    "07.4": [
        "def log_uniform(u, low, high):\n    return low * (high / low) ** u",
        "def log_uniform(u, low, high):\n    return torch.lerp(torch.tensor(low).log(), torch.tensor(high).log(), u).exp()",
    ],
    "07.5": [
        "def should_prune(value, epoch, others):\n    import statistics\n\n    seen = [o[epoch - 1] for o in others if len(o) > epoch - 1]\n    return len(seen) > 3 and statistics.median(seen) > value",
        "def should_prune(value, epoch, others):\n    seen = [o[epoch - 1] for o in others if o[epoch - 1 :]]\n    return bool(len(seen) >= 4 and torch.tensor(seen, dtype=torch.float64).quantile(0.5) > value)",
    ],
    "07.6": [
        "def is_better(a, b):\n    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)\n    gain = (a.mean() - b.mean()).item()\n    return gain, gain > max(a.std().item(), b.std().item())",
        "def is_better(a, b):\n    gain = sum(a) / len(a) - sum(b) / len(b)\n    return [gain, all(gain > stdev(values) for values in (a, b))]",
    ],
}
