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
             stopped and resumed; what that costs.
precision, small, speedrun, loaders
             the tables of tests/benchmarks/README.md, by its scripts.

Prints Markdown and writes what was measured to tests/benchmarks/gpu.json, which
lesson 10 draws. The exit status is 1 if anything failed.
"""

import argparse
import ast
import builtins
import concurrent.futures
import contextlib
import datetime
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
        for index, cell in enumerate(self.cells):
            if cell["cell_type"] == "code":
                must_raise = "raises-exception" in cell["metadata"].get("tags", [])
                print(f"--- cell {index}", flush=True)
                self.run_cell(index, "".join(cell["source"]), must_raise)

    def run_cell(self, index: int, source: str, must_raise: bool) -> None:
        name = f"<cell {index}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)  # for inspect
        for statement in ast.parse(source).body:
            code = compile(ast.Module([statement], []), name, "exec", dont_inherit=True)
            try:
                exec(code, vars(self.main))
            except (Exception, SystemExit) as error:
                package = missing_package(error)
                is_import = isinstance(statement, ast.Import | ast.ImportFrom)
                if must_raise and package is None:
                    return
                self.note(index, error, package)
                for lost in bound_names(statement):
                    self.lost.setdefault(lost, package or f"cell {index}")
                if not is_import:
                    for later in ast.parse(source).body:
                        if later.lineno > statement.lineno:
                            for lost in bound_names(later):
                                self.lost.setdefault(lost, package or f"cell {index}")
                    return
        if must_raise:
            self.report(index, "failed", "it was to raise an exception, and did not")

    def note(self, index: int, error: BaseException, package: str | None) -> None:
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


def run_notebook(path: Path, folder: Path, threads: int, seconds: float) -> dict:
    """Execute a notebook in a process of its own.

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
            ended = f"it ended with status {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended = f"it took more than {seconds:.0f} s"
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
    workers = max(1, min(len(chosen), len(cores()) // 2))
    threads, folder = max(1, len(cores()) // workers), options.logs
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(run_notebook, paths[n], folder, threads, options.seconds)
            for n in chosen
        ]
        rows = [job.result() for job in jobs]
    print(f"## Notebooks, {workers} side by side\n")
    print("| notebook | seconds | failed | left out |\n|---|---|---|---|")
    rows.sort(key=lambda row: row["notebook"])
    for row in rows:
        counts = f"{len(row['failed'])} | {len(row['left out'])}"
        print(f"| {row['notebook']} | {row['seconds']:.0f} | {counts} |")
    print()
    for row in rows:
        for kind in ("failed", "left out"):
            for cell, text in row[kind]:
                print(f"- {row['notebook']}, cell {cell}, {kind}: {text}")
    return not any(row["failed"] for row in rows)


# Tests


def run_tests(options) -> bool:
    """Run the tests that touch a device."""
    print("\n## Tests\n")
    if importlib.util.find_spec("pytest") is None:
        print("left out: pytest is missing")
        return True
    files = ["engine", "performance", "train", "utils", "vision", "vit", "transfer"]
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts="]
    command += [f"tests/test_{name}.py" for name in files]
    for name, flag in (("nbval", "no:nbval"), ("xdist", "no:xdist")):
        if importlib.util.find_spec(name):
            command += ["-p", flag]
    done = run_limited(command, 180)
    print("\n".join(done.stdout.splitlines()[-25:]))
    return done.returncode == 0


def run_limited(command: list, seconds: float) -> subprocess.CompletedProcess:
    """Run a command for ``seconds`` at most and return what it printed meanwhile."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT
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

    outs = [folder / f"{settings.replace(' ', '')}{k}" for k in range(3)]
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
    resumed = run_limited([*command, str(outs[2]), "--resume"], 120)
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


def run_determinism(options) -> bool:
    """Compare trainings by the command, bit by bit."""
    print("\n## Determinism\n")
    cases = ["tinyvgg --epochs 2 --image-size 32"]
    if not options.cpu:
        models = ("tinyvgg", "cnn", "vit")
        cases = [f"{name} --precision {p}" for name in models for p in ("fp32", "bf16")]
        cases.append("tinyvgg --precision fp16 --accumulate 3")
    cases = [f"--model {case}" for case in cases]
    right = True
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(max(1, len(cores()) // 2)) as pool,
    ):
        found = pool.map(train_three_times, cases, itertools.repeat(Path(folder)))
        for case, differences in zip(cases, found, strict=True):
            text = differences or "equal in every bit, twice whole and once resumed"
            print(f"- `{case}`: {text}", flush=True)
            right &= not differences or differences.startswith("warned")
    return right


PARTS = {
    "notebooks": run_notebooks,
    "tests": run_tests,
    "determinism": run_determinism,
}


def describe_machine() -> str:
    """Return date, device and versions in a line."""
    import torch
    import torchvision

    device = "CPU"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return (
        f"{datetime.date.today()}, {device}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}"
    )


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--lessons", help="numbers of notebooks, separated by commas")
    parser.add_argument(
        "--seconds", type=float, default=240, help="that a notebook may take"
    )
    parser.add_argument("--cpu", action="store_true", help="tiny, in a minute")
    parser.add_argument("--logs", type=Path, help="folder for the notebooks' outputs")
    parser.add_argument("--notebook", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.notebook:
        run_plainly(*options.notebook)
        return 0
    if options.cpu:
        os.environ["GOING_MODULAR_DEVICE"] = "cpu"
    print(f"# The course on this machine\n\n{describe_machine()}\n", flush=True)
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
    print(f"\nfailed: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
