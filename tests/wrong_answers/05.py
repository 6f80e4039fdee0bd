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
        "def read_log(text):\n    return [json.loads(line) for line in text.split('\\n')[:-1] if line]",
        "def read_log(text):\n    return [json.loads(line) for line in text.split('\\n')[:-1] if line.endswith('}')]",
        "def read_log(text):\n    return [json.loads(line) for line in text.splitlines()]",
        "def read_log(text):\n    rows = []\n    for line in text.splitlines():\n        try:\n            rows.append(json.loads(line))\n        except ValueError:\n            pass\n    return rows",
        "def read_log(text):\n    return [json.loads(line) for line in text.splitlines()[:-1]]",
        # cut a text that holds U+2028
        "def read_log(text):\n    lines = text.splitlines(keepends=True)\n    return [json.loads(line) for line in lines if line.endswith('\\n')]",
        "def read_log(text):\n    whole = text[: text.rfind('\\n') + 1]\n    return [json.loads(line) for line in whole.splitlines()]",
        "def read_log(text):\n    *lines, last = text.splitlines()\n    rows = [json.loads(line) for line in lines]\n    return rows + ([json.loads(last)] if text.endswith('\\n') else [])",
    ],
    "05.5": [
        "def to_arguments(config):\n    found = []\n    for name, value in dataclasses.asdict(config).items():\n        if name == 'channels':\n            continue\n        if isinstance(value, bool):\n            found.append(f'--{name}' if value else f'--no-{name}')\n        else:\n            found += [f'--{name}', str(value)]\n    return [text.replace('_', '-') for text in found]",
        "def to_arguments(config):\n    return [str(x) for name, value in dataclasses.asdict(config).items() for x in ('--' + name, value)]",
        "def to_arguments(config):\n    return [x for name, value in dataclasses.asdict(config).items() for x in ('--' + name.replace('_', '-'), str(value))]",
        "def to_arguments(config):\n    return ['--epochs', str(config.epochs)]",
        "def to_arguments(config):\n    found = []\n    for name, value in dataclasses.asdict(config).items():\n        option = name.replace('_', '-')\n        if isinstance(value, bool):\n            found.append(f'--{option}' if value else f'--no-{option}')\n        else:\n            found += [f'--{option}', str(value)]\n    return found",
        "def to_arguments(config):\n    return ' '.join(f'--{k} {v}' for k, v in dataclasses.asdict(config).items())",
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
        # line by line, with their ends, as a file gives them
        """\
def read_log(text):
    import io
    rows = []
    for line in io.StringIO(text):
        if line.endswith("\\n"):
            rows.append(json.loads(line))
    return rows
""",
        # the end is cut off first
        """\
def read_log(text):
    whole = text[: text.rfind("\\n") + 1]
    return [json.loads(line) for line in whole.split("\\n")[:-1]]
""",
    ],
    "05.5": [
        # name and value in one text
        """\
def to_arguments(config):
    texts = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        option = "--" + field.name.replace("_", "-")
        if value is True:
            texts.append(option)
        elif value is False:
            texts.append(option.replace("--", "--no-", 1))
        elif field.name != "channels":
            texts.append(f"{option}={value}")
    return texts
""",
        # in another order
        """\
def to_arguments(config):
    values = dataclasses.asdict(config)
    del values["channels"]
    switches = {k: v for k, v in values.items() if type(v) is bool}
    found = ["--" + "no-" * (not v) + k.replace("_", "-") for k, v in switches.items()]
    for name in reversed(values.keys() - switches.keys() and list(values)):
        if name not in switches:
            found.extend(("--" + name.replace("_", "-"), str(values[name])))
    return found
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
