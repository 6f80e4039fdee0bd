"""tools/export.py: the package is what the notebooks say; what cannot be exported is refused by cell."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import export

DOC = '"""A docstring."""'


def course(folder, *notebooks):
    """Write notebooks 00, 01, ... of the given code cells into ``folder``."""
    for number, cells in enumerate(notebooks):
        nbformat.write(
            new_notebook(cells=[new_code_cell(cell) for cell in cells]), folder / f"{number:02}_lesson.ipynb"
        )
    return folder


def test_the_committed_package_is_what_the_notebooks_say(root, capsys):
    assert export.main(["--check", "--root", str(root)]) == 0, capsys.readouterr().out


def test_twice_gives_identical_bytes(root):
    assert export.build(root) == export.build(root)


def test_imports_are_resolved_hoisted_and_absolute(tmp_path):
    first = ["import numpy as np\nimport os", f"#| export utils\ndef zeros(n):\n    {DOC}\n    return np.zeros(n)"]
    second = [f"#| export engine\nfrom math import tau\n\n\ndef turn():\n    {DOC}\n    return zeros(3) + tau"]
    export.export(course(tmp_path, first, second))
    utils, engine = ((tmp_path / "going_modular" / name).read_text() for name in ("utils.py", "engine.py"))
    assert "import numpy as np" in utils and "import os" not in utils
    assert engine.index("from math import tau") < engine.index("from going_modular.utils import zeros")
    assert "00_lesson.ipynb" in utils.splitlines()[0] and "01_lesson.ipynb" in engine.splitlines()[0]


def test_one_module_from_two_notebooks(tmp_path):
    files = export.build(
        course(tmp_path, [f"#| export utils\ndef a():\n    {DOC}"], [f"#| export utils\ndef b():\n    {DOC}\n    a()"])
    )
    assert "00_lesson.ipynb, 01_lesson.ipynb" in files["utils.py"] and "import" not in files["utils.py"].split('"""')[2]


def test_a_main_guard_goes_to_the_end_of_its_module(tmp_path):
    guard = f"#| export utils\n{export.MAIN_GUARD}\n    sys.exit(main())"
    cells = ["import sys", guard, f"#| export utils\ndef main():\n    {DOC}"]
    text = export.build(course(tmp_path, cells))["utils.py"]
    assert text.endswith(f"\n\n\n{export.MAIN_GUARD}\n    sys.exit(main())\n") and "import sys" in text


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [f"#| export utils\ndef a():\n    {DOC}", f"#| export plots\ndef a():\n    {DOC}"],
            "cell 2: a is defined already",
        ),
        (["#| export utils\n%matplotlib inline"], "cell 1: a magic"),
        (["#| export utils\nlisting = !ls"], "cell 1: a magic"),
        (["x = 1", "#| export utils\ndef a(:\n    pass"], "cell 2: syntax error in line 2"),
        (["#| export utils\ndef a():\n    return 1"], "cell 1: a needs a docstring"),
        (["#| export utils\nclass A:\n    pass"], "cell 1: A needs a docstring"),
        (["#| export nowhere\nA = 1"], "cell 1: 'nowhere' is no module"),
        (["#| export\nA = 1"], "cell 1: '' is no module"),
        (["#| export utils\nprint('hello')"], "cell 1: line 2 defines nothing"),
        (['#| export utils\nif __name__ == "__main__":\n    main()'], "a command's cell begins if __name__"),
        ([f"#| export utils\n{export.MAIN_GUARD}\n    pass\nprint('hello')"], "cell 1: line 2 defines nothing"),
        (["x = 1", f"#| export utils\ndef a():\n    {DOC}\n    return x"], "cell 2: x is neither imported"),
        (
            [f"#| export engine\ndef a():\n    {DOC}", f"#| export utils\ndef b():\n    {DOC}\n    a()"],
            "cell 2: utils may not use a of engine",
        ),
    ],
)
def test_refusals_name_notebook_and_cell_and_write_nothing(tmp_path, capsys, cells, message):
    course(tmp_path, cells)
    assert export.main(["--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 00_lesson.ipynb, ") and message in error
    assert not (tmp_path / "going_modular").exists()


def test_an_unreadable_notebook_is_refused(tmp_path, capsys):
    (tmp_path / "00_lesson.ipynb").write_text("not JSON")
    assert export.main(["--root", str(tmp_path)]) == 2
    assert "00_lesson.ipynb is no readable notebook" in capsys.readouterr().err


@pytest.fixture
def exported(tmp_path):
    export.export(course(tmp_path, [f"#| export utils\ndef a():\n    {DOC}\n    return 1"]))
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
    assert status == 1 and "utils.py is not what the notebooks say" in output and "-    return 2" in output


def test_check_fails_on_a_stale_module(exported, capsys):
    course(exported, [f"#| export utils\ndef a():\n    {DOC}\n    return 3"])
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
