"""tools/export.py: the package is what the notebooks say, or a cell is refused."""

import ast
import os
import re
import subprocess
import sys
import textwrap

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import export

DOC = '"""A docstring."""'
UTILS = "#| module utils: Small things."
ENGINE = "#| module engine: The loop."
NETWORKS = (
    "#| module networks: The registry.\n#| export networks\nNETWORKS = {'tiny': 1}"
)


def function(module, name, body="pass"):
    """Return an exported cell with one function of the given body."""
    return f"#| export {module}\ndef {name}():\n    {DOC}\n    {body}"


def course(folder, *notebooks):
    """Write notebooks 00, 01, ... of the given code cells into ``folder``."""
    for number, cells in enumerate(notebooks):
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        nbformat.write(notebook, folder / f"{number:02}_lesson.ipynb")
    return folder


def test_the_committed_package_is_what_the_notebooks_say(root, capsys):
    status = export.main(["--check", "--root", str(root)])
    assert status == 0, capsys.readouterr()


def build_elsewhere(root, seed):
    """Build the package in a process whose strings hash by ``seed``."""
    code = "import sys; from pathlib import Path; from tools.export import build\n"
    code += "print(build(Path(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        cwd=export.ROOT,
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_processes_with_other_hash_seeds_give_identical_bytes(root):
    assert build_elsewhere(root, "1") == build_elsewhere(root, "2")


def test_a_small_course_is_built_alike_with_other_hash_seeds(tmp_path):
    names = ["copy", "io", "json", "math", "os", "re", "time"]
    first = [f"import {', '.join(names)}", UTILS, "import os.path, json.decoder"]
    body = f"return {', '.join(names)}, json.decoder, os.path"
    course(tmp_path, [*first, function("utils", "a", body)])
    texts = {build_elsewhere(tmp_path, seed) for seed in ("1", "2", "3")}
    assert len(texts) == 1 and "import json.decoder" in texts.pop()


def test_imports_are_resolved_hoisted_and_absolute(tmp_path):
    zeros = (
        f"{UTILS}\n#| export utils\ndef zeros(n):\n    {DOC}\n    return np.zeros(n)"
    )
    second = [
        "from math import tau",
        f"{ENGINE}\n{function('engine', 'turn', 'return zeros(3) + tau')}",
    ]
    export.export(course(tmp_path, ["import numpy as np\nimport os", zeros], second))
    package = tmp_path / "going_modular"
    utils = (package / "utils.py").read_text()
    engine = (package / "engine.py").read_text()
    assert "import numpy as np" in utils and "import os" not in utils
    own = engine.index("from going_modular.utils import zeros")
    assert engine.index("from math import tau") < own
    assert "00_lesson.ipynb" in utils.splitlines()[0]
    assert "01_lesson.ipynb" in engine.splitlines()[0]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (
            'return importlib.metadata.version("torch"), importlib.util',
            ["import importlib.metadata", "import importlib.util"],
        ),
        ("return importlib.util", ["import importlib.util"]),
        (
            'return importlib.import_module("os")',
            ["import importlib.metadata", "import importlib.util"],
        ),
    ],
)
def test_submodules_of_one_root_are_all_imported(tmp_path, body, wanted):
    imports = ["import importlib.metadata", "import importlib.util"]
    cells = [*imports, UTILS, function("utils", "a", body)]
    text = export.build(course(tmp_path, cells))["utils.py"]
    assert re.findall("^import .*", text, re.MULTILINE) == wanted


def test_submodules_used_in_two_cells_of_a_module(tmp_path):
    first = ["import importlib.metadata", UTILS]
    first += [function("utils", "a", "return importlib.metadata")]
    second = ["import importlib.util"]
    second += [function("utils", "b", "return importlib.util")]
    text = export.build(course(tmp_path, first, second))["utils.py"]
    assert "import importlib.metadata\nimport importlib.util\n" in text


def test_the_last_import_of_a_name_wins(tmp_path):
    cells = ["from math import pi as x", "from math import tau as x", UTILS]
    cells += [function("utils", "a", "return x")]
    text = export.build(course(tmp_path, cells))["utils.py"]
    assert "from math import tau as x" in text and "pi" not in text


def test_the_package_itself_may_be_imported_for_its_version(tmp_path):
    cells = ["import going_modular", ENGINE]
    cells += [function("engine", "a", "return going_modular.__version__")]
    text = export.build(course(tmp_path, cells))["engine.py"]
    assert "\nimport going_modular\n" in text


def test_one_module_from_two_notebooks(tmp_path):
    second = [function("utils", "b", "a()")]
    course(tmp_path, [UTILS, function("utils", "a")], second)
    text = export.build(tmp_path)["utils.py"]
    assert "00_lesson.ipynb, 01_lesson.ipynb" in text
    assert "import" not in text.split('"""')[2]


def test_headers_are_wrapped_at_88_columns(tmp_path):
    notebooks = [[function("utils", f"f{number}")] for number in range(9)]
    notebooks[0].insert(0, UTILS)
    text = export.build(course(tmp_path, *notebooks))["utils.py"]
    head = text.split('"""')[0].splitlines()
    assert len(head) > 1 and max(map(len, head)) <= 88
    assert all(line.startswith("# ") for line in head) and "08_lesson.ipynb" in head[-1]


def test_a_main_guard_goes_to_the_end_of_its_module(tmp_path):
    guard = f"#| export utils\n{export.MAIN_GUARD}\n    sys.exit(main())"
    cells = ["import sys", UTILS, guard, function("utils", "main")]
    text = export.build(course(tmp_path, cells))["utils.py"]
    assert text.endswith(f"\n\n\n{export.MAIN_GUARD}\n    sys.exit(main())\n")
    assert "import sys" in text


@pytest.mark.parametrize("where", ["own cell", "above", "below", "other notebook"])
def test_a_summary_stands_at_the_top_of_any_code_cell(tmp_path, where):
    cell = function("utils", "a")
    directive, _, rest = cell.partition("\n")
    notebooks = {
        "own cell": [[UTILS, cell]],
        "above": [[f"{UTILS}\n{cell}"]],
        "below": [[f"{directive}\n{UTILS}\n{rest}"]],
        "other notebook": [[cell], [f"{UTILS}\nx = 1"]],
    }
    text = export.build(course(tmp_path, *notebooks[where]))["utils.py"]
    assert (
        text.split("\n", 1)[1].startswith('"""Small things."""\n') and "#|" not in text
    )


def test_init_lists_the_modules_by_layer_and_holds_the_version(tmp_path):
    cells = [f"{ENGINE}\n{UTILS}", function("engine", "a"), function("utils", "b")]
    course(tmp_path, cells)
    text = export.build(tmp_path)["__init__.py"]
    assert (
        "base:\n    utils: Small things.\n\nlearning:\n    engine: The loop.\n" in text
    )
    assert '__version__ = "0"\n' in text
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert '__version__ = "1.2.3"\n' in export.build(tmp_path)["__init__.py"]


def test_other_courses_imports_reach_the_same_modules(tmp_path):
    cells = [
        f"{ENGINE}\n{function('engine', 'a')}",
        f"{UTILS}\n{function('utils', 'b')}",
    ]
    export.export(course(tmp_path, cells))
    code = (
        "import sys, going_modular\n"
        "assert not {'torch', 'going_modular.engine'} & sys.modules.keys()\n"
        "from going_modular.going_modular import engine, utils\n"
        "import going_modular.engine\n"
        "assert engine is going_modular.engine and utils.b"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_entries_follow_their_registry_in_the_notebooks_order(tmp_path):
    entries = ["#| export networks\nNETWORKS['vit'] = 2", "from math import tau"]
    entries.append("#| export networks\nNETWORKS['a'] = tau")
    text = export.build(course(tmp_path, [NETWORKS], entries))["networks.py"]
    places = [text.index(f'NETWORKS["{name}"] = ') for name in ("vit", "a")]
    assert text.index("NETWORKS = {") < places[0] < places[1]
    assert "from math import tau" in text and "import NETWORKS" not in text


def test_a_function_may_import_inside_itself(tmp_path):
    vit = "#| module vit: The network.\n#| export vit\nclass ViT:\n    " + DOC
    body = "from going_modular.vit import ViT\n    import json.decoder as d\n    ViT(d)"
    cells = [vit, "#| module networks: x.", function("networks", "build", body)]
    text = export.build(course(tmp_path, cells))["networks.py"]
    assert "\n    from going_modular.vit import ViT\n" in text
    assert "import" not in text.split("def build")[0].split('"""')[2]


def test_serving_draws_only_inside_a_function(tmp_path):
    plots = f"#| module plots: Figures.\n{function('plots', 'draw')}"
    body = "from going_modular.plots import draw\n    draw()"
    app = f"#| module app: A page.\n{function('app', 'page', body)}"
    assert "app.py" in export.build(course(tmp_path, [plots, app]))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [function("utils", "a"), function("plots", "a")],
            "cell 2: a is defined already in 00_lesson.ipynb, cell 1",
        ),
        (["#| export utils\n%matplotlib inline"], "cell 1: a magic"),
        (["#| export utils\nlisting = !ls"], "cell 1: a magic"),
        (["x = 1", "#| export utils\ndef a(:\n    pass"], "2: syntax error in line 2"),
        (["#| export utils\ndef a():\n    return 1"], "cell 1: a needs a docstring"),
        (["#| export utils\nclass A:\n    pass"], "cell 1: A needs a docstring"),
        (["#| export nowhere\nA = 1"], "cell 1: 'nowhere' is no module"),
        (["#| export\nA = 1"], "cell 1: '' is no module"),
        (["#| exports utils\nA = 1"], "'#| exports utils' is no directive"),
        (["#| export utils\nprint('hello')"], "cell 1: line 2 defines nothing"),
        (
            ['#| export utils\nif __name__ == "__main__":\n    main()'],
            "a command's cell begins if __name__",
        ),
        (
            [f"#| export utils\n{export.MAIN_GUARD}\n    pass\nprint('hello')"],
            "cell 1: line 2 defines nothing",
        ),
        ([UTILS, "x = 1", function("utils", "a", "return x")], "3: x is neither"),
        (
            [UTILS, ENGINE, function("engine", "a"), function("utils", "b", "a()")],
            "cell 4: utils may not import from engine: imports point",
        ),
        ([UTILS, function("utils", "a", "from . import b")], "line 4: import from"),
        # summaries
        (["x = 1", function("utils", "a")], "cell 2: utils has no summary"),
        (
            [UTILS, "x = 1", UTILS],
            "cell 3: utils has its summary in 00_lesson.ipynb, c",
        ),
        (["#| module nowhere: Nothing."], "cell 1: 'nowhere' is no module"),
        (["#| module utils:"], "cell 1: '#| module utils:' is no directive"),
        # registries
        (
            [NETWORKS, "#| export networks\nNETWORKS['tiny'] = 2"],
            "cell 2: NETWORKS['tiny'] is defined already",
        ),
        (
            [NETWORKS, *2 * ["#| export networks\nNETWORKS['vit'] = 2"]],
            "cell 3: NETWORKS['vit'] is defined already in 00_lesson.ipynb, cell 2",
        ),
        (
            [NETWORKS, "#| export engine\nNETWORKS['vit'] = 2"],
            "cell 2: NETWORKS['vit'] is no entry: no cell before exports NETWORKS to e",
        ),
        (
            ["#| export networks\nNETWORKS['vit'] = 2", NETWORKS],
            "1: NETWORKS['vit'] is",
        ),
        ([NETWORKS, "#| export networks\nNETWORKS.x = 2"], "line 2 defines nothing"),
        # layers, inside functions too
        (
            [UTILS, ENGINE, function("engine", "a")]
            + [function("utils", "b", "from going_modular.engine import a")],
            "cell 4: utils may not import from engine: imports point",
        ),
        (
            [UTILS, function("utils", "b", "import going_modular.engine as engine")],
            "cell 2: utils may not import from engine: imports point",
        ),
        (
            [UTILS, function("utils", "b", "from going_modular import utils")],
            "cell 2: utils may not import from utils: imports point",
        ),
        (
            [ENGINE, function("engine", "b", "from going_modular.utils import lost")],
            "cell 2: no cell exports going_modular.utils.lost",
        ),
        (
            [ENGINE, function("engine", "b", "from going_modular.lost import x")],
            "cell 2: no cell exports going_modular.lost.x",
        ),
        (
            [f"#| module app: x.\n{ENGINE}", function("engine", "a")]
            + [function("app", "b", "from going_modular.engine import a")],
            "cell 3: app may not import from engine: serving",
        ),
        (
            ["#| module app: x.", "#| module plots: x.", function("plots", "a")]
            + [function("app", "b", "a()")],
            "cell 4: app may not import from plots: serving",
        ),
        (
            ["#| module app: x.", "import matplotlib.pyplot as plt"]
            + [function("app", "b", "plt.show()")],
            "cell 3: app may import plt only inside a function",
        ),
    ],
)
def test_refusals_name_notebook_and_cell_and_write_nothing(
    tmp_path, capsys, cells, message
):
    course(tmp_path, cells)
    assert export.main(["--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 00_lesson.ipynb, cell") and message in error
    assert not (tmp_path / "going_modular").exists()


def test_an_unreadable_notebook_is_refused(tmp_path, capsys):
    (tmp_path / "00_lesson.ipynb").write_text("not JSON")
    assert export.main(["--root", str(tmp_path)]) == 2
    assert "00_lesson.ipynb is no readable notebook" in capsys.readouterr().err


@pytest.fixture
def exported(tmp_path):
    export.export(course(tmp_path, [UTILS, function("utils", "a", "return 1")]))
    return tmp_path


def check(folder, capsys):
    status = export.main(["--check", "--root", str(folder)])
    return status, capsys.readouterr().out


def test_check_passes_when_nothing_changed(exported, capsys):
    assert check(exported, capsys) == (0, "")


def test_check_fails_on_a_hand_edit(exported, capsys):
    module = exported / "going_modular" / "utils.py"
    module.write_text(module.read_text().replace("return 1", "return 2"))
    status, output = check(exported, capsys)
    assert status == 1 and "utils.py is not what the notebooks say" in output
    assert "-    return 2" in output


def test_check_fails_on_a_stale_module(exported, capsys):
    course(exported, [UTILS, function("utils", "a", "return 3")])
    status, output = check(exported, capsys)
    assert status == 1 and "+    return 3" in output


def test_check_fails_on_a_missing_module(exported, capsys):
    (exported / "going_modular" / "utils.py").unlink()
    status, output = check(exported, capsys)
    assert status == 1 and "utils.py is missing" in output


def test_check_fails_on_an_orphan_and_export_removes_it(exported, capsys):
    orphan = exported / "going_modular" / "plots.py"
    orphan.write_text(f"{export.MARK} from 09_gone.ipynb\n")
    status, output = check(exported, capsys)
    assert status == 1 and "plots.py is exported by no notebook" in output
    export.export(exported)
    assert not orphan.exists() and check(exported, capsys) == (0, "")


def test_a_module_written_by_hand_is_reported_and_kept(exported, capsys):
    by_hand = exported / "going_modular" / "mine.py"
    by_hand.write_text("x = 1\n")
    assert check(exported, capsys)[0] == 1
    assert export.main(["--root", str(exported)]) == 2
    assert "mine.py was written by hand" in capsys.readouterr().err and by_hand.exists()


ORDER = {  # the table of the layers, said a second time
    "base": ["config", "checkpoints", "utils", "plots"],
    "data": ["datasets", "archives", "pictures", "image_folder"]
    + ["data_setup", "folders"],
    "networks": ["freezing", "model_builder", "effnet", "vit", "networks"],
    "learning": ["metrics", "engine", "schedules", "updates", "distributed"],
    "running": ["trackers", "runs", "states", "experiment"],
    "doors": ["predictions", "onnx_export", "evaluation", "guard", "app", "demo"]
    + ["measure", "exports", "training", "commands", "__main__", "train"],
}
TRAINING = {*ORDER["learning"], *ORDER["running"]}


def imported_by(tree, inside_functions):
    """Return the modules that a module imports, as dotted names without the package."""
    found, nodes = [], [tree]
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "going_modular":
            found += [f"going_modular.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if inside_functions or not is_function:
            nodes += ast.iter_child_nodes(node)
    return {name.removeprefix("going_modular.") for name in found}


def faults_of_layers(package):
    """Return what in a folder of modules the table of layers forbids."""
    order = [*sum(ORDER.values(), [])]
    paths = {path.stem: path for path in sorted(package.glob("*.py"))}
    trees = {n: ast.parse(p.read_text()) for n, p in paths.items() if n != "__init__"}
    every = {name: imported_by(tree, True) for name, tree in trees.items()}
    at_once = {name: imported_by(tree, False) for name, tree in trees.items()}
    faults = [f"{name} is not in the table" for name in trees if name not in order]
    for name in [name for name in order if name in trees]:
        above = order[: order.index(name)]
        wrong = sorted(every[name] & ({*order} - {*above}) | every[name] & {""})
        faults += [f"{name} imports {other}" for other in wrong]
        if name in ("predictions", "onnx_export", "guard", "app"):
            reached = [name]
            for module in reached:
                new = at_once.get(module, set()) - {*reached}
                reached += sorted(new)
            loaded = {module.split(".")[0] for module in reached}
            forbidden = loaded & TRAINING | loaded & {"matplotlib"}
            forbidden |= every[name] & TRAINING
            faults += [f"{name} loads {other}" for other in sorted(forbidden)]
    return faults


def test_the_package_follows_the_layers(root):
    assert export.LAYERS == ORDER
    assert faults_of_layers(root / "going_modular") == []


@pytest.mark.parametrize(
    ("files", "faults"),
    [
        (
            {"utils": "def a():\n    from going_modular import vit"},
            ["utils imports vit"],
        ),
        ({"engine": "import going_modular.engine"}, ["engine imports engine"]),
        ({"tools": ""}, ["tools is not in the table"]),
        ({"app": "def a():\n    import matplotlib"}, []),
        (
            {
                "app": "from going_modular.utils import a",
                "utils": "import matplotlib.pyplot as plt",
            },
            ["app loads matplotlib"],
        ),
        (
            {"app": "def a():\n    from going_modular.engine import train"},
            ["app loads engine"],
        ),
        ({"train": "from going_modular.__main__ import main", "__main__": ""}, []),
    ],
)
def test_faults_of_layers_are_found(tmp_path, files, faults):
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    assert faults_of_layers(tmp_path) == faults
