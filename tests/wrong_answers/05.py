WRONG = {
    "05.1": [
        "def quiet_rand(n, seed):\n    torch.manual_seed(seed)\n    return torch.rand(n)",
        "def quiet_rand(n, seed):\n    with torch.random.fork_rng(devices=[]):\n        return torch.rand(n)",
        "def quiet_rand(n, seed):\n    state = torch.get_rng_state()\n    torch.manual_seed(seed)\n    torch.set_rng_state(state)\n    return torch.rand(n)",
        "def quiet_rand(n, seed):\n    return torch.rand(1, n, generator=torch.Generator().manual_seed(seed))",
    ],
    "05.2": [
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        if '#| export' in source:\n            first, _, rest = source.partition('\\n')\n            modules.setdefault(first.split()[-1], []).append(rest)\n    return {m: '\\n\\n'.join(t) for m, t in modules.items()}",
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        if source.startswith('#| export '):\n            module = source.splitlines()[0].split()[-1]\n            modules.setdefault(module, []).append(source)\n    return {m: '\\n\\n'.join(t) for m, t in modules.items()}",
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        if source.startswith('#| export '):\n            first, _, rest = source.partition('\\n')\n            modules[first.split()[-1]] = rest\n    return modules",
        "def export_cells(sources):\n    return [s for s in sources if s.startswith('#| export')]",
    ],
    "05.3": [
        "def changed(old, new):\n    a, b = dataclasses.asdict(old), dataclasses.asdict(new)\n    return {k: (a[k], b[k]) for k in a}",
        "def changed(old, new):\n    a, b = dataclasses.asdict(old), dataclasses.asdict(new)\n    return {k: (b[k], a[k]) for k in a if a[k] != b[k]}",
        "def changed(old, new):\n    a, b = dataclasses.asdict(old), dataclasses.asdict(new)\n    return [k for k in a if a[k] != b[k]]",
        "def changed(old, new):\n    a, b = dataclasses.asdict(old), dataclasses.asdict(new)\n    return {k: b[k] for k in a if a[k] != b[k]}",
    ],
    "05.4": [
        "def read_log(text):\n    return [json.loads(line) for line in text.splitlines()]",
        "def read_log(text):\n    rows = []\n    for line in text.splitlines():\n        try:\n            rows.append(json.loads(line))\n        except ValueError:\n            pass\n    return rows",
        "def read_log(text):\n    return [json.loads(line) for line in text.splitlines()[:-1]]",
    ],
    "05.5": [
        "def to_arguments(config):\n    return [str(x) for name, value in dataclasses.asdict(config).items() for x in ('--' + name, value)]",
        "def to_arguments(config):\n    return [x for name, value in dataclasses.asdict(config).items() for x in ('--' + name.replace('_', '-'), str(value))]",
        "def to_arguments(config):\n    return ['--epochs', str(config.epochs)]",
        "def to_arguments(config):\n    found = []\n    for name, value in dataclasses.asdict(config).items():\n        option = name.replace('_', '-')\n        if isinstance(value, bool):\n            found.append(f'--{option}' if value else f'--no-{option}')\n        else:\n            found += [f'--{option}', str(value)]\n    return found",
        "def to_arguments(config):\n    return ' '.join(f'--{k} {v}' for k, v in dataclasses.asdict(config).items())",
    ],
    "05.6": [
        "def test_accuracy(accuracy):\n    accuracy(torch.eye(3), torch.arange(3))",
        "def test_accuracy(accuracy):\n    logits = torch.eye(3)\n    assert accuracy(logits, torch.arange(3)) == 1",
        "def test_accuracy(accuracy):\n    assert accuracy(torch.eye(3), torch.tensor([1, 2, 0])) == 0",
        "def test_accuracy(accuracy):\n    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0]])\n    assert accuracy(logits, torch.tensor([0, 1])) == 0.5",
        "def test_accuracy(accuracy):\n    assert accuracy(torch.eye(3), torch.arange(3)) == 3",
    ],
}
