"""Is the course true on this machine's GPU, and how fast is it there?

    python tests/gpu.py                                   # all of it, on a GPU
    python tests/gpu.py --only notebooks,determinism      # some of it
    python tests/gpu.py --cpu                             # tiny, on any machine

Needs neither a network nor Jupyter, and of the course's packages only torch,
torchvision and matplotlib: what needs another that is missing is left out, and named.
The parts:

notebooks    every notebook from its first cell to its last, side by side, each in a
             plain Python process; lists every cell that fails.
tests        the tests that touch a device.
determinism  two trainings of the command give the same bits, and so does one that was
             stopped and resumed.
cost         what that costs a training step.
accuracy     an epoch of lesson 08's ViT on Fashion-MNIST, in each precision.
tables       those of tests/benchmarks/README.md for a GPU, by its scripts.

Prints Markdown, each line as soon as it is known, and writes what was measured to
tests/benchmarks/gpu.json, in place of older figures. The exit status is 1 if anything
failed.
"""

import argparse
import ast
import builtins
import concurrent.futures
import contextlib
import datetime
import functools
import importlib.util
import itertools
import json
import linecache
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
import types
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # in place of tests/
OFFLINE = ROOT / "tests" / "offline"
LONGEST_FIRST = ["10", "05", "03", "07", "09", "06", "04", "08", "02", "01", "00"]


# The notebooks, without Jupyter


def missing_package(error: BaseException) -> str | None:
    """Return the package for want of which a cell failed, or None."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        said = [str(error), str(getattr(error, "stderr", None) or "")]
        if found := re.search(r"No module named '(\w+)", " ".join(said)):
            return found[1]
        error = error.__cause__ or error.__context__
    return None


def bound_names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement would have bound."""
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names


class PlainNotebook:
    """Executes a notebook's cells in this process, as a kernel does.

    Attributes:
        lost: name -> why it was never bound: a package's name, or "cell N".
        report: called with (cell, "failed" or "left out", message).
    """

    def __init__(self, path: Path, report):
        self.cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        self.report, self.lost = report, {}
        self.main = types.ModuleType("__main__")
        self.main.__builtins__ = builtins
        sys.modules["__main__"] = self.main  # where pickles look for a cell's classes

    def run(self) -> None:
        start = time.perf_counter()
        for index, cell in enumerate(self.cells):
            if cell["cell_type"] == "code":
                must_raise = "raises-exception" in cell["metadata"].get("tags", [])
                seconds = time.perf_counter() - start
                print(f"--- cell {index} at {seconds:.1f} s", flush=True)
                self.run_cell(index, "".join(cell["source"]), must_raise)

    def run_cell(self, index: int, source: str, must_raise: bool) -> None:
        name = f"<cell {index}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)  # for inspect
        if source.startswith("%%writefile "):
            first, _, rest = source.partition("\n")
            Path(first.split()[1]).write_text(rest, encoding="utf-8")
            return
        for statement in ast.parse(source).body:
            code = compile(ast.Module([statement], []), name, "exec", dont_inherit=True)
            try:
                exec(code, vars(self.main))
            except (Exception, SystemExit) as error:
                package = missing_package(error)
                is_import = isinstance(statement, ast.Import | ast.ImportFrom)
                if must_raise and package is None:
                    return
                reason = self.note(index, error, package)
                for lost in bound_names(statement):
                    self.lost.setdefault(lost, reason)
                if not is_import:
                    for later in ast.parse(source).body:
                        if later.lineno > statement.lineno:
                            for lost in bound_names(later):
                                self.lost.setdefault(lost, reason)
                    return
        if must_raise:
            self.report(index, "failed", "it was to raise an exception, and did not")

    def note(self, index: int, error: BaseException, package: str | None) -> str:
        """Report an error; return what it comes from: a package, or "cell N"."""
        reason = package or (
            self.lost.get(error.name) if isinstance(error, NameError) else None
        )
        if package or (reason and not reason.startswith("cell")):
            self.report(index, "left out", f"needs {reason}")
        elif reason:
            self.report(index, "left out", f"follows {reason}, which failed")
        else:
            traceback.print_exception(error)
            where = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in where if frame.filename.startswith("<cell")]
            line = (own or where)[-1]
            said = str(error).strip() or linecache.getline(line.filename, line.lineno)
            text = f"{type(error).__name__}: {' '.join(said.split())[:300]}"
            self.report(index, "failed", f"line {line.lineno}: {text}")
        return reason or f"cell {index}"


def run_plainly(path: Path, results: Path) -> None:
    """Execute a notebook here; write what did not run to ``results`` as it goes."""
    import matplotlib
    from matplotlib import pyplot as plt

    matplotlib.use("agg")
    plt.show = lambda *_, **__: plt.close("all")  # as a notebook closes its figures
    warnings.filterwarnings("default", module="__main__")
    sys.argv = [str(path)]
    with open(results, "w", encoding="utf-8") as file:

        def report(*row):
            print(json.dumps(row), file=file, flush=True)

        PlainNotebook(path, report).run()
        report(None, "end", "")


def run_notebook(path: Path, folder: Path, threads: int, deadline: float) -> dict:
    """Execute a notebook in a process of its own, until ``deadline`` at most.

    Returns:
        {"notebook", "seconds", "failed", "left out"}: the last two of (cell, message).
    """
    log, results = folder / f"{path.stem}.log", folder / f"{path.stem}.json"
    start = time.perf_counter()
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, __file__, "--notebook", str(path), str(results)],
            cwd=ROOT,
            env=environment(threads),
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            ended = f"it ended with status {process.wait(max(0, deadline - start))}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended = "stopped here, as time was up"
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    if not rows or rows[-1][1] != "end":
        at = re.findall(r"--- cell (\d+)", log.read_text(encoding="utf-8")) or ["?"]
        rows.append((at[-1], "failed", ended))
    return {
        "notebook": path.stem,
        "seconds": time.perf_counter() - start,
        **{
            kind: [(cell, text) for cell, found, text in rows if found == kind]
            for kind in ("failed", "left out")
        },
    }


def cores() -> list[int]:
    """Return the processor's cores that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def environment(threads: int | None = None) -> dict[str, str]:
    """Return the environment of a process that stays on this machine."""
    paths = [str(OFFLINE), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "agg"}
    return found | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def run_notebooks(options) -> bool:
    """Execute all notebooks side by side; print what did not run."""
    from torchvision.datasets import FashionMNIST

    from going_modular.archives import unpack

    FashionMNIST(ROOT / "data", download=True)  # unpacked before two ask
    photographs = ROOT / "data" / "cat_dog_horse"
    if not photographs.exists():
        unpack(f"{photographs}.zip", photographs)
    paths = {path.stem[:2]: path for path in ROOT.glob("[0-9][0-9]_*.ipynb")}
    chosen = [n for n in LONGEST_FIRST if n in paths and n in (options.lessons or n)]
    workers = max(1, min(len(chosen), len(cores()) - 4))
    threads, deadline = max(1, len(cores()) // workers), time.perf_counter()
    deadline += options.seconds
    print(f"## Notebooks, {workers} side by side\n", flush=True)
    right = True
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(run_notebook, paths[n], options.logs, threads, deadline)
            for n in chosen
        ]
        for job in concurrent.futures.as_completed(jobs):
            row = job.result()
            right &= not row["failed"]
            counts = f"{len(row['failed'])} failed, {len(row['left out'])} left out"
            print(f"- {row['notebook']}: {row['seconds']:.0f} s, {counts}", flush=True)
            for kind in ("failed", "left out"):
                for cell, text in row[kind]:
                    print(f"    - cell {cell} {kind}: {text}", flush=True)
    return right


# Tests


def run_tests(options) -> bool:
    """Run the tests that touch a device."""
    print("\n## Tests\n", flush=True)
    if importlib.util.find_spec("pytest") is None:
        print("left out: pytest is missing")
        return True
    files = ["engine", "performance", "train", "utils", "vision", "vit", "transfer"]
    files = ["utils"] if options.cpu else files
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts="]
    command += [f"tests/test_{name}.py" for name in files]
    for name, flag in (("nbval", "no:nbval"), ("xdist", "no:xdist")):
        if importlib.util.find_spec(name):
            command += ["-p", flag]
    done = run_limited(command, 180)
    print("\n".join(done.stdout.splitlines()[-25:]))
    return done.returncode == 0


def run_limited(
    command: list, seconds: float, threads: int | None = None
) -> subprocess.CompletedProcess:
    """Run a command for ``seconds`` at most and return what it printed meanwhile."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(threads),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            print(f"(stopped after {seconds:.0f} s)", file=file)
        file.seek(0)
        return subprocess.CompletedProcess(command, status, file.read())


# Determinism


def train_three_times(settings: str, folder: Path) -> str:
    """Train by the command: twice, and stopped after an epoch and resumed.

    Returns:
        In what the last two differ from the first; nothing if in no bit.
    """
    import torch

    name = settings.replace(" ", "").replace("/", "")
    outs = [folder / f"{name}{k}" for k in range(3)]
    command = [sys.executable, "-m", "going_modular", "train", "--out"]
    with contextlib.ExitStack() as stack:
        jobs = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, str(out), *settings.split()],
                    cwd=ROOT,
                    env=environment(1),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for out in outs
        ]
        while jobs[2].poll() is None and not (outs[2] / "last.pt").exists():
            time.sleep(0.02)
        jobs[2].kill()
        said = [job.communicate()[1] for job in jobs]
    if any(job.returncode for job in jobs[:2]):
        return f"the training failed: {said[0].strip()[-500:]}"
    stopped = torch.load(outs[2] / "last.pt", map_location="cpu")["epoch"]
    resumed = run_limited([*command, str(outs[2]), "--resume"], 120, 1)
    if resumed.returncode:
        return f"the resumed training failed: {resumed.stdout.strip()[-500:]}"
    whole, *others = (
        torch.load(out / "last.pt", map_location="cpu")["parts"]["model"]
        for out in outs
    )
    found = []
    for other, kind in zip(others, ("again", f"stopped after {stopped}"), strict=True):
        pairs = [(whole[name].double(), other[name].double()) for name in whole]
        if difference := max((a - b).abs().max().item() for a, b in pairs):
            found.append(f"{kind}: a weight differs by {difference:.2g}")
    return ", ".join(found + ([f"warned: {said[0][-300:]}"] if said[0].strip() else []))


def draw_pictures(folder: Path) -> Path:
    """Write 48 pictures of noise, in two classes, for train and valid each."""
    import torch
    from torchvision.transforms.functional import to_pil_image

    for split, name in itertools.product(("train", "valid"), "ab"):
        (folder / split / name).mkdir(parents=True)
        for k in range(24):
            picture = to_pil_image(torch.rand(3, 16, 16) * (1 if name == "a" else 0.7))
            picture.save(folder / split / name / f"{k}.png")
    return folder


def run_determinism(options) -> bool:
    """Compare trainings by the command, bit by bit."""
    print("\n## Determinism\n", flush=True)
    cases = ["cnn --precision bf16", "vit --precision bf16_weights --accumulate 2"]
    cases = [f"--model {case} --epochs 2" for case in cases]
    right = True
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(max(1, len(cores()) // 2)) as pool,
    ):
        if options.cpu:
            data = draw_pictures(Path(folder) / "noise")
            cases = [f"--model tinyvgg --image-size 16 --epochs 5 --data {data}"]
        jobs = {
            pool.submit(train_three_times, case, Path(folder)): case for case in cases
        }
        for job in concurrent.futures.as_completed(jobs):
            case, differences = jobs[job], job.result()
            text = differences or "equal in every bit, twice whole and once resumed"
            print(f"- `{case}`: {text}", flush=True)
            right &= not differences or differences.startswith("warned")
    return right


# What is measured


def measure_cost(options) -> bool:
    """Measure how much longer a training step takes if it gives equal bits."""
    import torch

    from going_modular import measure, model_builder, updates, utils, vit

    device = utils.get_device()
    utils.set_seeds(0)
    small = vit.ViTConfig(**vit.VIT_SIZES["Ti"], image_size=64, num_classes=10)
    models = {
        "TinyVGG, 64 pixels": model_builder.TinyVGG(3, 10, 10),
        "CNNModel, 28 pixels": model_builder.CNNModel(),
        "ViT Ti/16, 64 pixels": vit.ViT(small),
    }
    print("\n## Determinism's cost\n")
    count = 4 if options.cpu else 64
    print(f"| a training step, {count} pictures | deterministic / free | noise |")
    print("|---|---|---|", flush=True)
    cost = options.found["determinism"] = {}
    for name, model in models.items():
        channels, side = (1, 28) if "28" in name else (3, 64)
        X = torch.rand(count, channels, side, side, device=device)
        optimizer = torch.optim.AdamW(model.to(device).parameters(), lr=1e-4)
        update = updates.Updater("fp32" if options.cpu else "bf16", device=device)
        batch = (model, X, torch.arange(count) % 10, torch.nn.functional.cross_entropy)

        def step(on, update=update, batch=batch, optimizer=optimizer):
            torch.use_deterministic_algorithms(on)
            update(*batch, optimizer, device)

        kinds = {"free": False, "again": False, "deterministic": True}
        timings = measure.benchmark(
            {kind: functools.partial(step, on) for kind, on in kinds.items()},
            repeats=3 if options.cpu else 50,
            device=device,
        )
        row = [
            "{:.3f} ({:.3f} to {:.3f})".format(
                *measure.speedup(timings[kind], timings["free"])
            )
            for kind in ("deterministic", "again")
        ]
        print(f"| {name} | {' | '.join(row)} |", flush=True)
        cost[name] = float(row[0].split()[0])
    torch.use_deterministic_algorithms(False)
    return True


def measure_accuracy(options) -> bool:
    """Train lesson 08's ViT for an epoch in each precision, with three seeds.

    Returns:
        Whether bfloat16 weights cost no more than autocast's seeds differ.
    """
    import torch

    from going_modular import datasets, engine, schedules, updates, utils, vit

    device = utils.get_device()
    data = {}
    for is_train in (True, False):
        found = datasets.FashionMNISTTensors("data", train=is_train)
        count = 640 if options.cpu else len(found.labels)
        images = found.images[:count].to(device) / 255
        data[is_train] = images, found.labels[:count]
    images, labels = data[True]
    held_out = list(zip(*(part.split(1000) for part in data[False]), strict=True))
    sizes = {"embed_dim": 64, "depth": 3, "num_heads": 4, "mlp_dim": 128}
    sizes |= {"image_size": 28, "patch_size": 7, "in_channels": 1, "num_classes": 10}
    loss_fn, accuracies = torch.nn.CrossEntropyLoss(), {}
    print("\n## Accuracy after an epoch, lesson 08's ViT\n", flush=True)
    seeds = range(1 if options.cpu else 3)
    print(f"| precision | {' | '.join(f'seed {seed}' for seed in seeds)} |")
    print("|---" * (len(seeds) + 1) + "|", flush=True)
    for precision in ("fp32", "bf16", "bf16_weights"):
        accuracies[precision] = []
        for seed in seeds:
            utils.set_seeds(seed)
            model = vit.ViT(vit.ViTConfig(**sizes)).to(device)
            groups = schedules.decay_groups(model, 0.05)
            optimizer = torch.optim.AdamW(groups, lr=3e-3, fused=True)
            order = torch.randperm(len(labels))
            batches = [(images[k.to(device)], labels[k]) for k in order.split(64)]
            steps = len(batches)
            scheduler = schedules.warmup_cosine(optimizer, steps, steps // 10)
            (row,) = engine.train_epochs(
                model,
                batches,
                held_out,
                optimizer,
                loss_fn,
                1,
                device,
                scheduler=scheduler,
                per_batch=True,
                max_norm=1.0,
                update=updates.Updater(precision, device=device),
            )
            accuracies[precision].append(row["test_acc"])
        cells = " | ".join(f"{accuracy:.4f}" for accuracy in accuracies[precision])
        print(f"| {precision} | {cells} |", flush=True)
    options.found["accuracy"] = accuracies
    means = {name: sum(each) / len(each) for name, each in accuracies.items()}
    spread = max(0.01, max(accuracies["bf16"]) - min(accuracies["bf16"]))
    return options.cpu or means["bf16_weights"] >= means["bf16"] - spread


HEADINGS = {  # a table's, as they are called in gpu.json
    "": "name",
    "ours, pictures/s": "pictures_per_second",
    "% of bf16": "share",
    "timm, pictures/s": "timm",
    "engine, pictures/s": "engine",
    "by hand": "by_hand",
}


def read_table(text: str) -> list[dict[str, str | float]]:
    """Return the rows of the tables in a Markdown text: {heading: cell}.

    A cell that begins with a number is that number.
    """
    rows, headings = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            headings = None
        elif headings is None:
            headings = [HEADINGS.get(heading, heading) for heading in cells]
        elif not line.startswith("|---"):
            found = [re.match(r"[\d.,]+(?= \(|$)", cell) for cell in cells[1:]]
            numbers = [n and json.loads(n[0].replace(",", "")) for n in found]
            pairs = zip(cells[1:], numbers, strict=True)
            values = [cell if n is None else n for cell, n in pairs]
            rows.append(dict(zip(headings, [cells[0], *values], strict=True)))
    return rows


TABLES = {  # script: its options, and the seconds that it may take
    "precision.py": ("--rounds 10", 240),
    "speedrun.py": ("--without", 120),
    "small.py": ("--pictures 12800 --epochs 2 --seconds 4 --limit 80", 90),
}


def make_tables(options) -> bool:
    """Run the benchmarks that are for a GPU."""
    right = True
    for script, (arguments, seconds) in TABLES.items():
        if options.cpu and script != "small.py":
            continue
        print(f"\n## {script}\n", flush=True)
        if script == "precision.py" and importlib.util.find_spec("timm") is None:
            print("left out: timm is missing")
            continue
        path = ROOT / "tests" / "benchmarks" / script
        more = ["--tiny"] if options.cpu else arguments.split()
        done = run_limited([sys.executable, str(path), *more], seconds)
        lines = [line for line in done.stdout.splitlines() if "Warn" not in line]
        print("\n".join(lines[-60:]), flush=True)
        options.found[script.removesuffix(".py")] = read_table(done.stdout)
        right &= done.returncode == 0
    return right


PARTS = {
    "notebooks": run_notebooks,
    "tests": run_tests,
    "determinism": run_determinism,
    "cost": measure_cost,
    "accuracy": measure_accuracy,
    "tables": make_tables,
}


def describe_machine() -> dict[str, str]:
    """Return date, device and versions."""
    import torch
    import torchvision

    has_gpu = torch.cuda.is_available()
    return {
        "date": str(datetime.date.today()),
        "device": torch.cuda.get_device_name() if has_gpu else "CPU",
        "cores": f"{os.cpu_count()} cores",
        "python": f"Python {platform.python_version()}",
        "torch": f"torch {torch.__version__}",
        "torchvision": f"torchvision {torchvision.__version__}",
    }


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--lessons", help="numbers of notebooks, separated by commas")
    parser.add_argument(
        "--seconds", type=float, default=240, help="that the notebooks may take"
    )
    parser.add_argument("--cpu", action="store_true", help="tiny, in a minute")
    parser.add_argument("--json", type=Path, help="where to write what was measured")
    parser.add_argument("--logs", type=Path, help="folder for the notebooks' outputs")
    parser.add_argument("--notebook", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.notebook:
        run_plainly(*options.notebook)
        return 0
    if options.cpu:
        os.environ["GOING_MODULAR_DEVICE"] = "cpu"
        options.lessons = options.lessons or "00"
    elif options.json is None:
        options.json = ROOT / "tests" / "benchmarks" / "gpu.json"
    options.found = describe_machine()
    print(f"# The course on this machine\n\n{', '.join(options.found.values())}\n")
    names = options.only.split(",") if options.only else list(PARTS)
    with contextlib.ExitStack() as stack:
        if options.logs is None:
            options.logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options.logs.mkdir(parents=True, exist_ok=True)
        failed = []
        for name in names:
            start = time.perf_counter()
            if not PARTS[name](options):
                failed.append(name)
            print(f"\n({name}: {time.perf_counter() - start:.0f} s)", flush=True)
    if options.json:
        kept = options.json.read_text("utf-8") if options.json.exists() else "{}"
        text = json.dumps(json.loads(kept) | options.found, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    print(f"\nfailed: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
