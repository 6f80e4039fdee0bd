"""Answers to the exercises of notebook 10 that are wrong, and unusual right ones."""

ALL = (
    '"A": "frozen layer", "B": "dead units", "C": "learning rate too large", '
    '"D": "exploding weights", "E": "slow loader", "F": "leak", '
    '"G": "eval forgotten", "H": "shifted labels"'
)
CURE = """def cure(patient, illness):
    if illness in ("dead units", "exploding weights"):
        for layer in patient.linears():
            layer.reset_parameters()
    elif illness == "frozen layer":
        patient.model.requires_grad_(True)
    elif illness == "eval forgotten":
        patient.before_judging = patient.model.eval
    elif illness == "slow loader":
        patient.load = patient.load_batch
    elif illness == "leak":
        known = {x.numpy().tobytes() for x in patient.valid_images}
        apart = [k for k, x in enumerate(patient.images)
                 if x.numpy().tobytes() not in known]
        patient.images, patient.labels = patient.images[apart], patient.labels[apart]
    elif illness == "shifted labels":
        patient.train(3)
        patient.model.eval()
        found = patient.model((patient.valid_images - 0.286) / 0.353).argmax(dim=1)
        shift = ((found - patient.valid_labels) % 10).mode().values
        patient.labels = (patient.labels - shift) % 10
    patient.optimizer = torch.optim.AdamW(patient.model.parameters(), lr=4e-3)
"""
TURNS = """def times_faster(before, after, rounds):
    before(), after()
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        before()
        middle = time.perf_counter()
        after()
        end = time.perf_counter()
        ratios.append((middle - start) / (end - middle))
    return statistics.median(ratios)
"""
SPEED = """def whole_speedup(rows, operation, factor):
    share = next(r["share"] for r in rows if r["operation"] == operation)
    return 1 / (1 - share + share / factor)
"""
SIZE = """def flops_of(layer, X):
    with FlopCounterMode(display=False) as counter:
        layer(X)
    return counter.get_total_flops()


def intensity(layer, X):
    size = X.nbytes + layer(X).nbytes + sum(p.nbytes for p in layer.parameters())
    return flops_of(layer, X) / size
"""
TIMER = """def seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_in_turns(functions, repeats):
    for function in functions.values():
        function()
    rounds = {name: [] for name in functions}
    for _ in range(repeats):
        for name in random.sample(list(functions), len(functions)):
            rounds[name].append(seconds_of(functions[name]))
    return rounds


"""
PARTS = """def accumulate_gradients(model, loss_fn, parts):
    total = sum(len(y) for _, y in parts)
    model.zero_grad()
    for X, y in parts:
        (loss_fn(model(X), y) * len(y) / total).backward()
"""
RUN = """def speedrun(model, images, labels):
    batches = torch.randperm(len(images)).split(20)
    optimizer = torch.optim.NAdam(model.parameters(), lr=0.004)
    for number, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 0.004 * (1 - number / len(batches))
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
WRONG = {
    "10.1": [
        TURNS.replace("    before(), after()\n", ""),
        TURNS.replace("statistics.median", "statistics.mean"),
        TURNS.replace(
            "(middle - start) / (end - middle)", "(end - middle) / (middle - start)"
        ),
        TIMER
        + "def times_faster(before, after, rounds):\n    before(), after()\n    times = [[seconds_of(f) for _ in range(rounds)] for f in (before, after)]\n    return statistics.median(b / a for b, a in zip(*times))",
        TIMER
        + "def times_faster(before, after, rounds):\n    times = time_in_turns({'b': before, 'a': after}, rounds)\n    return statistics.median(times['b']) / statistics.median(times['a'])",
        TIMER
        + "def times_faster(before, after, rounds):\n    times = time_in_turns({'b': before, 'a': after}, rounds)\n    return min(times['b']) / max(times['a'])",
        TIMER
        + "def times_faster(before, after, rounds):\n    times = time_in_turns({'b': before, 'a': after}, 1)\n    return times['b'][0] / times['a'][0]",
        TIMER
        + "def times_faster(before, after, rounds):\n    time_in_turns({'b': before, 'a': after}, rounds)",
        TIMER + "def times_faster(before, after, rounds):\n    return 2.0",
    ],
    "10.2": [
        SPEED.replace("1 / (1 - share + share / factor)", "1 - share + share / factor"),
        SPEED.replace("1 / (1 - share + share / factor)", "1 + share * (factor - 1)"),
        SPEED.replace("1 / (1 - share + share / factor)", "1 / (1 - share)"),
        SPEED.replace("1 / (1 - share + share / factor)", "factor"),
        SPEED.replace("return", "rows.pop()\n    return"),
        SPEED.replace(
            "1 / (1 - share + share / factor)",
            "1 / (1 - share + share / max(factor, 2))",
        ),
        SPEED.replace(
            'next(r["share"] for r in rows if r["operation"] == operation)',
            "rows[0]['share']",
        ),
        SPEED.replace("return", "answer ="),
        SPEED.replace('r["operation"] == operation', 'operation in r["operation"]'),
        SPEED.replace("next", "sum").replace(
            'r["operation"] == operation', 'operation in r["operation"]'
        ),
    ],
    "10.3": [
        SIZE.replace("X.nbytes + layer(X)", "layer(X)"),
        SIZE.replace("X.nbytes + layer(X).nbytes", "X.nbytes"),
        SIZE.replace(" + sum(p.nbytes for p in layer.parameters())", ""),
        SIZE.replace(
            "p.nbytes for p in layer.parameters()", "layer.weight.nbytes for _ in [0]"
        ),
        SIZE.replace("nbytes", "numel()").replace("/ size", "/ size / 4"),
        SIZE.replace("nbytes", "numel()"),
        SIZE.replace("flops_of(layer, X) / size", "size / flops_of(layer, X)"),
        SIZE.replace("flops_of(layer, X) / size", "flops_of(layer, X) / 2 / size"),
        SIZE.replace("    size", "    X *= 2\n    size"),
    ],
    "10.4": [
        PARTS.replace("len(y) / total", "1 / len(parts)"),
        PARTS.replace(" * len(y) / total", ""),
        PARTS.replace("    model.zero_grad()\n", ""),
        PARTS.replace("        (loss", "        model.zero_grad()\n        (loss"),
        "def accumulate_gradients(model, loss_fn, parts):\n    model.zero_grad()\n    return sum(loss_fn(model(X), y) for X, y in parts)",
        PARTS + "    torch.optim.SGD(model.parameters(), lr=0.1).step()\n",
        "def accumulate_gradients(model, loss_fn, parts):\n    model.zero_grad()\n    total = sum(len(y) for _, y in parts)\n    sum(loss_fn(model(X), y) * len(y) / total for X, y in parts).backward()",
        "def accumulate_gradients(model, loss_fn, parts):\n    model.zero_grad()\n    X, y = (torch.cat(part) for part in zip(*parts))\n    loss_fn(model(X), y).backward()",
    ],
    "10.5": [
        f"diagnoses = {{{ALL.replace('frozen layer', 'leak')}}}",
        f"diagnoses = {{{ALL.replace('shifted labels', 'batches too large')}}}",
        f"diagnoses = {{{ALL.replace('leak', 'a leak')}}}",
        f"diagnoses = {{{ALL.split(', ', 1)[1]}}}",
        'diagnoses = ["leak"] * 8',
        f'diagnoses = {{{ALL}, "I": "leak"}}',
    ],
    "10.6": [
        CURE.replace("requires_grad_(True)", "requires_grad_(False)"),
        CURE.replace("layer.reset_parameters()", "pass"),
        CURE.replace(
            "patient.before_judging = patient.model.eval",
            "patient.model = patient.model[:3] + patient.model[4:6] + patient.model[7:]",
        ),
        CURE.replace(
            "patient.before_judging = patient.model.eval",
            "patient.judge = lambda: 0.8",
        ),
        CURE.replace(
            "patient.before_judging = patient.model.eval",
            "torch.manual_seed(0)",
        ),
        CURE.replace(
            "patient.before_judging = patient.model.eval",
            "for layer in patient.model.modules():\n"
            "            if isinstance(layer, nn.Dropout):\n"
            "                layer.p = 1e-9",
        ),
        CURE.replace(
            "patient.load = patient.load_batch",
            "patient.load = lambda numbers: (patient.images[numbers], patient.labels[numbers])",
        ),
        CURE.replace("patient.load = patient.load_batch", "pass"),
        CURE.replace(
            "patient.images, patient.labels = patient.images[apart], patient.labels[apart]",
            "patient.images, patient.labels = patient.images[:500], patient.labels[:500]",
        ),
        CURE.replace(
            "patient.images, patient.labels = patient.images[apart], patient.labels[apart]",
            "patient.images = patient.images[apart]",
        ),
        CURE.replace(
            "patient.labels = (patient.labels - shift) % 10",
            "patient.valid_labels = (patient.valid_labels + shift) % 10",
        ),
        CURE.replace("patient.labels - shift", "patient.labels + shift"),
        CURE.replace("patient.labels - shift", "patient.labels - 1"),
        CURE.replace(
            "patient.optimizer = torch.optim.AdamW(patient.model.parameters(), lr=4e-3)",
            "patient.optimizer.step()",
        ),
        CURE.replace("lr=4e-3", "lr=1e-7"),
    ],
    "10.challenge": [
        "def speedrun(model, images, labels):\n    model.train()",
        RUN.replace(".split(20)", ".split(500)"),
        RUN.replace(
            "torch.randperm(len(images))", "torch.randperm(len(images)).repeat(2)"
        ),
        RUN.replace("optimizer.step()", "optimizer.step"),
        # another network, and a copy
        RUN.replace(
            "    batches", "    mine, model = model, CNNModel()\n    batches", 1
        )
        + "    mine.load_state_dict(model.state_dict())\n",
        RUN.replace("    batches", "    model = copy.deepcopy(model)\n    batches", 1),
    ],
}
RIGHT = {
    "10.1": [
        TURNS,
        TURNS.replace(
            "    before(), after()\n",
            "    for _ in range(3):\n        before(), after()\n",
        ),
        TIMER
        + "def times_faster(before, after, rounds):\n    times = time_in_turns({'b': before, 'a': after}, rounds + 2).values()\n    return statistics.median(b / a for b, a in zip(*times))",
    ],
    "10.2": [
        SPEED,
        "def whole_speedup(rows, operation, factor):\n    times = {r['operation']: r['ms'] for r in rows}\n    before = sum(times.values())\n    times[operation] /= factor\n    return before / sum(times.values())",
    ],
    "10.3": [
        "def intensity(layer, X):\n    with torch.no_grad(), FlopCounterMode(display=False) as counter:\n        y = layer(X)\n    tensors = [X, y, *layer.state_dict().values()]\n    return torch.tensor(counter.get_total_flops() / sum(t.numel() * t.element_size() for t in tensors), dtype=torch.float64)",
        SIZE.replace(
            "p.nbytes for p in layer.parameters()",
            "p.numel() * X.element_size() for p in layer.parameters()",
        ),
    ],
    "10.4": [
        PARTS.replace("model(X)", "model.forward(X)"),
        "def accumulate_gradients(model, loss_fn, parts):\n    for p in model.parameters():\n        p.grad = None\n    total = sum(y.shape[0] for _, y in parts)\n    for X, y in parts:\n        loss_fn(model(X), y).mul(len(X) / total).backward()",
        "def accumulate_gradients(model, loss_fn, parts):\n    model.zero_grad(set_to_none=False)\n    for X, y in parts:\n        (loss_fn(model(X), y) * len(y)).backward()\n    for p in model.parameters():\n        p.grad /= sum(len(y) for _, y in parts)",
        "def accumulate_gradients(model, loss_fn, parts):\n    total, weights = sum(len(y) for _, y in parts), list(model.parameters())\n    sums = [torch.zeros_like(p) for p in weights]\n    for X, y in parts:\n        loss = loss_fn(model(X), y) * len(y) / total\n        for part, grad in zip(sums, torch.autograd.grad(loss, weights)):\n            part += grad\n    for p, grad in zip(weights, sums):\n        p.grad = grad",
    ],
    "10.5": [
        f"diagnoses = dict(reversed({{{ALL}}}.items()))",
        # two lists, zipped
        f"letters, names = zip(*{{{ALL}}}.items())\ndiagnoses = dict(zip(letters, names))",
    ],
    "10.6": [
        CURE,
        CURE.replace(
            "patient.load = patient.load_batch",
            "patient.load = lambda numbers: ((patient.images[numbers] - 0.286) / 0.353, patient.labels[numbers])",
        ),
    ],
    "10.challenge": [RUN],
}
