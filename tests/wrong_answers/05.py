CHECKPOINT = """
PARTS = {}


def save(path, model, optimizer, epoch):
    PARTS.update(model=model.state_dict(), optimizer=optimizer.state_dict())
    torch.save({KEPT}, path)


def load(path, model, optimizer):
    kept = torch.load(path, weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept.get("optimizer"))
    torch.set_rng_state(kept["random"])
    return kept["epoch"]
"""


def checkpoint(kept, part="", other=""):
    """Return an answer to 05.3 that keeps this, with a part of its text replaced."""
    return CHECKPOINT.replace("KEPT", kept).replace(part or "KEPT", other)


SCRIPT = """
import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--epochs", type=int)
parser.add_argument("--out", type=Path)
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
pictures = ImageFolder(options.data, transform)
dataloader = DataLoader(pictures, batch_size=16, shuffle=True)
model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(24 * 24 * 3, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
checkpoint, first = options.out / "last.pt", 0
if checkpoint.exists():
    kept = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["random"])
    first = kept["epoch"]
for epoch in range(first + 1, options.epochs + 1):
    for X, y in dataloader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        optimizer.step()
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    kept |= {"random": torch.get_rng_state(), "epoch": epoch}
    torch.save(kept, f"{checkpoint}.tmp")
    Path(f"{checkpoint}.tmp").replace(checkpoint)
    print("epoch", epoch, flush=True)
torch.save(model.state_dict(), options.out / "model.pt")
"""


def survivor(part, other):
    """Return an answer to the challenge: a script with a part of it replaced."""
    assert part in SCRIPT
    script = SCRIPT.replace(part, other)
    return (
        "import tempfile\n"
        "survivor = Path(tempfile.mkdtemp()) / 'survivor.py'\n"
        f"_ = survivor.write_text({script!r})"
    )


def changed(same, names="first.keys() | second.keys()", result="sorted"):
    """Return an answer to 05.4 that calls tensors a and b the same where this holds."""
    return f"""\
def same_numbers(a, b):
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def same(a, b):
    return {same}


def changed(first, second):
    return {result}(
        name
        for name in {names}
        if name not in first
        or name not in second
        or not same(first[name], second[name])
    )
"""


def mean(value, weights_only=True):
    """Return an answer to 05.5 that keeps this for each name."""
    return f"""\
def average(paths):
    states = [torch.load(path, weights_only={weights_only}) for path in paths]
    mean = {{}}
    for name, last in states[-1].items():
        values = [state[name] for state in states]
        mean[name] = {value}
    return mean
"""


WRONG = {
    "05.1": [
        "def quiet_rand(n, seed):\n    torch.manual_seed(seed)\n    return torch.rand(n)",
        "def quiet_rand(n, seed):\n    with torch.random.fork_rng(devices=[]):\n        return torch.rand(n)",
        "def quiet_rand(n, seed):\n    state = torch.get_rng_state()\n    torch.manual_seed(seed)\n    torch.set_rng_state(state)\n    return torch.rand(n)",
        "def quiet_rand(n, seed):\n    return torch.rand(1, n, generator=torch.Generator().manual_seed(seed))",
    ],
    "05.2": [
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        first, _, rest = source.partition('\\n')\n        if first.startswith('#|'):\n            modules.setdefault(first.split()[-1], []).append(rest)\n    return {m: '\\n\\n'.join(t) for m, t in modules.items()}",
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        first, _, rest = source.partition('\\n')\n        if first.startswith('#| export '):\n            modules.setdefault(first.split()[-1], []).append(rest.strip())\n    return {m: '\\n\\n'.join(t) for m, t in modules.items()}",
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        if '#| export' in source:\n            first, _, rest = source.partition('\\n')\n            modules.setdefault(first.split()[-1], []).append(rest)\n    return {m: '\\n\\n'.join(t) for m, t in modules.items()}",
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        if source.startswith('#| export '):\n            module = source.splitlines()[0].split()[-1]\n            modules.setdefault(module, []).append(source)\n    return {m: '\\n\\n'.join(t) for m, t in modules.items()}",
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        if source.startswith('#| export '):\n            first, _, rest = source.partition('\\n')\n            modules[first.split()[-1]] = rest\n    return modules",
        "def export_cells(sources):\n    modules = {}\n    for source in sources:\n        first = source.splitlines()[0]\n        if first.startswith('#| export '):\n            modules.setdefault(first.split()[-1], []).append(source.partition('\\n')[2])\n    return {m: '\\n\\n'.join(t) for m, t in modules.items()}",
        "def export_cells(sources):\n    return [s for s in sources if s.startswith('#| export')]",
    ],
    "05.3": [
        checkpoint(
            """**PARTS, "epoch": epoch, "random": torch.get_rng_state()""",
            "model.load_state_dict",
            "(lambda state: None)",
        ),
        checkpoint(
            """ "model": model.state_dict(), "epoch": epoch, "random": torch.get_rng_state() """,
            "optimizer.load_state_dict",
            "(lambda state: None)",
        ),
        checkpoint(
            """**PARTS, "epoch": epoch, "random": torch.get_rng_state()""",
            "torch.set_rng_state",
            "(lambda state: None)",
        ),
        checkpoint(
            """**PARTS, "epoch": epoch, "random": torch.get_rng_state()""",
            'return kept["epoch"]',
            "return kept",
        ),
        # the running means of batch norm are lost
        checkpoint(
            """ "model": list(model.parameters()), "optimizer": optimizer.state_dict(), "epoch": epoch, "random": torch.get_rng_state() """,
            "model.load_state_dict",
            "(lambda kept: [p.data.copy_(k) for p, k in zip(model.parameters(), kept)])",
        ),
        checkpoint("""**PARTS, "epoch": epoch + 1, "random": torch.get_rng_state()"""),
        checkpoint(
            """**PARTS, "epoch": epoch, "random": torch.get_rng_state(), "whole": model"""
        ),
        checkpoint(
            """**PARTS, "epoch": epoch, "random": torch.get_rng_state()""",
            "weights_only=True",
            "weights_only=False",
        ),
        "def save(path, model, optimizer, epoch):\n    print(epoch)\n\n\ndef load(path, model, optimizer):\n    return 0",
    ],
    "05.4": [
        changed("a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)"),
        changed(
            "a.shape == b.shape and torch.allclose(a.double(), b.double(), equal_nan=True)"
        ),
        changed("a.shape == b.shape and same_numbers(a, b)"),
        changed(
            "a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())"
        ),
        changed(
            "a.dtype == b.dtype and a.numel() == b.numel() and same_numbers(a.flatten(), b.flatten())",
            names="first",
        ),
        changed(
            "a.dtype == b.dtype and a.numel() == b.numel() and same_numbers(a.flatten(), b.flatten())"
        ),
        changed(
            "a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())"
        ),
        changed(
            "a.shape == b.shape and a.dtype == b.dtype and same_numbers(a.abs(), b.abs())"
        ),
        changed(
            "a.shape == b.shape and a.dtype == b.dtype and same_numbers(a.sum(), b.sum())"
        ),
        changed(
            "a.shape == b.shape and a.dtype == b.dtype and (torch.allclose(a, b, equal_nan=True) if a.isnan().any() else (a.double() - b.double()).sum() == 0)"
        ),
        changed(
            "a.shape == b.shape and a.dtype == b.dtype and same_numbers(a, b)",
            names="first.keys() & second.keys()",
        ),
        changed(
            "a.shape == b.shape and a.dtype == b.dtype and same_numbers(a, b)",
            names="first.keys()",
        ),
        changed(
            "a.shape == b.shape and a.dtype == b.dtype and same_numbers(a, b)",
            result="set",
        ),
    ],
    "05.5": [
        mean("torch.stack(values).float().mean(dim=0)"),
        mean("torch.stack(values).double().mean(dim=0).to(last.dtype)"),
        mean("sum(values) if last.is_floating_point() else last"),
        mean("sum(values) / len(values) if last.is_floating_point() else values[0]"),
        mean("(values[0] + last) / 2 if last.is_floating_point() else last"),
        mean("sum(values) / len(values) if last.is_floating_point() else last.float()"),
        mean(
            "sum(values) / len(values) if last.is_floating_point() else last",
            weights_only=False,
        ),
        mean("torch.stack(values).mean() if last.is_floating_point() else last"),
        "def average(paths):\n    return torch.load(paths[-1], weights_only=True)",
        "def average(paths):\n    return [torch.load(path, weights_only=True) for path in paths]",
    ],
    "05.6": [
        "def test_accuracy(accuracy):\n    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 4.0], [5.0, 1.0, 0.0]])\n    if abs(float(accuracy(logits, torch.tensor([0, 1, 2, 1]))) - 0.75) > 1e-6:\n        raise ValueError('wrong')",
        "def test_accuracy(accuracy):\n    accuracy(torch.eye(3), torch.arange(3))",
        "def test_accuracy(accuracy):\n    logits = torch.eye(3)\n    assert accuracy(logits, torch.arange(3)) == 1",
        "def test_accuracy(accuracy):\n    assert accuracy(torch.eye(3), torch.tensor([1, 2, 0])) == 0",
        "def test_accuracy(accuracy):\n    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0]])\n    assert accuracy(logits, torch.tensor([0, 1])) == 0.5",
        "def test_accuracy(accuracy):\n    assert accuracy(torch.eye(3), torch.arange(3)) == 3",
    ],
    "05.challenge": [
        "survivor = Path('nowhere/survivor.py')",
        survivor('    torch.set_rng_state(kept["random"])\n', ""),
        survivor("if checkpoint.exists():", "if False:"),
        survivor('options.out / "model.pt"', 'options.out / "weights.pt"'),
    ],
}


RIGHT = {
    "05.1": [
        # the stream is put back as it was
        """\
def quiet_rand(n, seed):
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    numbers = torch.rand(n)
    torch.set_rng_state(before)
    return numbers
""",
        """\
def quiet_rand(n, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.empty(n).uniform_()
""",
    ],
    "05.2": [
        # a regular expression reads the first line
        """\
def export_cells(sources):
    import re
    found = [re.fullmatch(r"#\\| export (\\w+)[ ]*\\n?(.*)", s, re.DOTALL) for s in sources]
    pairs = [match.groups() for match in found if match]
    return {
        name: "\\n\\n".join(text for module, text in pairs if module == name)
        for name, _ in pairs
    }
""",
        # texts that grow
        """\
def export_cells(sources):
    modules = {}
    for source in sources:
        first, *rest = source.split("\\n")
        if first[:10] == "#| export ":
            name = first.split()[2]
            before = modules[name] + "\\n\\n" if name in modules else ""
            modules[name] = before + "\\n".join(rest)
    return modules
""",
    ],
    "05.3": [
        # a list in place of a dictionary
        """\
def save(path, model, optimizer, epoch):
    parts = [part.state_dict() for part in (model, optimizer)]
    torch.save([*parts, torch.get_rng_state(), epoch], path)


def load(path, model, optimizer):
    *states, random_state, epoch = torch.load(path, weights_only=True)
    for part, state in zip((model, optimizer), states, strict=True):
        part.load_state_dict(state)
    torch.set_rng_state(random_state)
    return epoch
""",
        # the epoch as a tensor, an open file
        """\
def save(path, model, optimizer, epoch):
    kept = dict(epoch=torch.tensor(epoch), random=torch.random.get_rng_state())
    kept["states"] = (model.state_dict(), optimizer.state_dict())
    with open(path, "wb") as file:
        torch.save(kept, file)


def load(path, model, optimizer):
    with open(path, "rb") as file:
        kept = torch.load(file, weights_only=True)
    model.load_state_dict(kept["states"][0])
    optimizer.load_state_dict(kept["states"][1])
    torch.random.set_rng_state(kept["random"])
    return kept["epoch"].item()
""",
    ],
    "05.4": [
        # a comparison that raises
        """\
def changed(first, second):
    found = []
    for name in sorted({**first, **second}):
        try:
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, equal_nan=True)
        except (AssertionError, KeyError):
            found.append(name)
    return found
""",
        # lists of Python numbers, as texts
        """\
def changed(first, second):
    def words(tensor):
        return None if tensor is None else (tensor.dtype, str(tensor.tolist()))
    names = set(first) | set(second)
    return sorted(n for n in names if words(first.get(n)) != words(second.get(n)))
""",
    ],
    "05.5": [
        # a running sum
        """\
def average(paths):
    total = {}
    for path in paths:
        for name, tensor in torch.load(path, weights_only=True).items():
            if name in total and tensor.is_floating_point():
                total[name] += tensor
            else:
                total[name] = tensor
    return {k: t / len(paths) if t.is_floating_point() else t for k, t in total.items()}
""",
        # a mean that moves with each file
        """\
def average(paths):
    mean = torch.load(paths[0], weights_only=True)
    for seen, path in enumerate(paths[1:], start=2):
        for name, tensor in torch.load(path, weights_only=True).items():
            if tensor.dtype.is_floating_point:
                mean[name].lerp_(tensor, 1 / seen)
            else:
                mean[name].copy_(tensor)
    return mean
""",
    ],
    "05.6": [
        # random logits against a count by hand
        """\
def test_accuracy(accuracy):
    generator = torch.Generator().manual_seed(1)
    for count in (1, 7, 50):
        logits = torch.randn(count, 4, generator=generator)
        labels = torch.randint(4, (count,), generator=generator)
        right = sum(int(row.argmax()) == int(y) for row, y in zip(logits, labels))
        torch.testing.assert_close(float(accuracy(logits, labels)), right / count)
""",
        # each label of the same logits
        """\
def test_accuracy(accuracy):
    logits = torch.tensor([[0.1, 3.0, -2.0], [4.0, -1.0, 0.5], [-3.0, -2.0, -1.0]])
    for shift, wanted in enumerate((1, 0, 0)):
        labels = (torch.tensor([1, 0, 2]) + shift) % 3
        assert float(accuracy(logits, labels)) == wanted
    mixed = float(accuracy(logits, torch.tensor([1, 0, 0])))
    assert abs(mixed - 2 / 3) < 1e-6
""",
    ],
}
