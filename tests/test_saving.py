"""Models and files: whole and the same again, or a clear error and nothing harmed."""

import errno
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from going_modular import checkpoints
from going_modular.checkpoints import (
    lock_folder,
    read_plain,
    whole_file,
    whole_folder,
    write_json,
)
from going_modular.distributed import raise_lost
from going_modular.states import (
    read_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    understood,
)
from going_modular.utils import load_model, save_model


def test_a_loaded_model_gives_the_same_outputs(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    folder = tmp_path / "new" / "folder"
    path = save_model(model=model, target_dir=folder, model_name="line.pth")
    assert path.name == "line.pth" and load_model(other, path) is other
    X = torch.randn(5, 3)
    assert torch.equal(model(X), other(X))


@pytest.mark.parametrize("name", ["line", "line.txt"])
def test_a_name_that_is_no_weights_file(tmp_path, name):
    with pytest.raises(
        ValueError, match=f"model_name is '{name}'; it must end in .pt or .pth"
    ):
        save_model(nn.Linear(1, 1), tmp_path, name)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write .*line\.pth.*Choose a folder"):
        save_model(nn.Linear(1, 1), tmp_path / "taken", "line.pth")


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0,
    reason="root may write anywhere",
)
def test_a_folder_where_one_may_not_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot write .*Choose a folder"):
        save_model(nn.Linear(1, 1), tmp_path, "line.pth")


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = save_model(nn.Linear(1, 1), tmp_path, "line.pth")
    old = path.read_bytes()

    def fail(content, file):  # as on a full disk
        file.write(b"half a fi")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left on device"):
        save_model(nn.Linear(1, 1), tmp_path, "line.pth")
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_whatever_fails_no_temporary_file_stays(tmp_path):
    model = nn.Linear(1, 1)
    model.state_dict = lambda: {"weight": lambda: None}  # what cannot be pickled
    # Python 3.11 and 3.13 word it differently around this.
    with pytest.raises(Exception, match="local object"):
        save_model(model, tmp_path, "line.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth is no file"):
        load_model(nn.Linear(1, 1), tmp_path / "gone.pth")


def test_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path.name} is no file"):
        load_model(nn.Linear(1, 1), tmp_path)


class Attack:
    """Unpickling this would run a command."""

    def __reduce__(self):
        return subprocess.check_call, (["touch", "attacked"],)


@pytest.mark.parametrize(
    "content", [Attack(), nn.Linear(1, 1)], ids=["command", "whole model"]
)
def test_a_pickled_object_is_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": content}, "object.pth")
    problem = r"object\.pth holds no plain weights.*refused"
    with pytest.raises(ValueError, match=problem):
        load_model(nn.Linear(1, 1), tmp_path / "object.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=r"plain\.pth holds no plain weights"):
        load_model(nn.Linear(1, 1), tmp_path / "plain.pth")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"hello world", b"PK\x03\x04 not really a zip"]
)
def test_a_file_that_is_not_weights(tmp_path, content):
    (tmp_path / "text.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.pth holds no plain weights"):
        load_model(nn.Linear(1, 1), tmp_path / "text.pth")


@pytest.mark.parametrize("keep", [10, 0.5, 0.95])
def test_a_truncated_file(tmp_path, keep):
    path = save_model(nn.Linear(100, 100), tmp_path, "line.pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep > 1 else int(keep * len(whole))])
    with pytest.raises(ValueError, match=r"line\.pth holds no plain weights"):
        load_model(nn.Linear(100, 100), path)


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {"weight": [1.0]}])
def test_plain_values_that_are_no_named_tensors(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    problem = f"holds a {type(content).__name__}, not named tensors with values"
    with pytest.raises(ValueError, match=problem):
        load_model(nn.Linear(1, 1), tmp_path / "other.pth")


def test_the_weights_of_another_model_leave_this_one_unchanged(tmp_path):
    path = save_model(nn.Linear(3, 2), tmp_path, "line.pth")
    model = nn.Linear(3, 4)
    before = model.weight.clone()
    problem = r"another model: 2 entries differ, first 'bias', which is \(2,\).*\(4,\)"
    with pytest.raises(ValueError, match=problem):
        load_model(model, path)
    assert torch.equal(model.weight, before)


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "file.bin"
    for content in (b"first", b"second"):
        old = path.read_bytes() if path.exists() else None
        with whole_file(path) as file:
            file.write(content)
            assert (path.read_bytes() if path.exists() else None) == old
        assert path.read_bytes() == content
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half a fi")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"second" and list(path.parent.iterdir()) == [path]


STOP = """
import sys
from torch import nn, serialization
from going_modular.utils import save_model

def stop(*args):
    raise KeyboardInterrupt

serialization._open_zipfile_writer_buffer.__exit__ = stop
try:
    save_model(nn.Linear(3, 2), sys.argv[1], "line.pth")
except KeyboardInterrupt:
    print("stopped")
"""


def test_a_program_that_is_stopped_while_it_saves_goes_on(tmp_path):
    (tmp_path / "line.pth").write_bytes(b"the old one")
    command = [sys.executable, "-c", STOP, str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True)
    assert (child.returncode, child.stdout, child.stderr) == (0, "stopped\n", "")
    assert (tmp_path / "line.pth").read_bytes() == b"the old one"
    assert os.listdir(tmp_path) == ["line.pth"]


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses while a file is open")
def test_who_reads_a_file_reads_one_version_of_it(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"the old one")
    with open(path, "rb", buffering=0) as reader:
        assert reader.read(4) == b"the "
        with whole_file(path) as file:
            file.write(b"the new one")
        assert reader.read() == b"old one" and path.read_bytes() == b"the new one"


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_appears_when_it_is_whole(tmp_path, is_there):
    path = tmp_path / "new" / "folder"
    if is_there:
        path.mkdir(parents=True)
    with whole_folder(path) as temporary:
        (temporary / "file").write_text("content")
        assert path.is_dir() == is_there and not list(path.glob("*"))
    assert [file.name for file in path.iterdir()] == ["file"]
    assert list(path.parent.iterdir()) == [path]
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_fails_or_comes_too_late_vanishes(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), whole_folder(path) as temporary:
        (temporary / "file").write_text("half a fi")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError), whole_folder(path):
        path.mkdir()
        (path / "theirs").write_text("theirs")
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "theirs").read_text() == "theirs"


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("may not be read")

    path = save_model(nn.Linear(1, 1), tmp_path, "line.pth")
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(PermissionError, match="may not be read"):
        load_model(nn.Linear(1, 1), path)


def test_a_file_for_which_memory_is_lacking_is_not_called_damaged(
    tmp_path, monkeypatch
):
    def fill(*_, **__):
        torch.empty(2**62, dtype=torch.uint8)

    path = save_model(nn.Linear(1, 1), tmp_path, "line.pth")
    monkeypatch.setattr(torch, "load", fill)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        load_model(nn.Linear(1, 1), path)


# ---- Damaged, odd and wrapped weights


def flat(content, place=""):
    """Return {place: value} of nested plain values."""
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        return {place: content}
    parts = [flat(value, f"{place}/{name}") for name, value in content.items()]
    return {place: value for part in parts for place, value in part.items()}


def assert_same_or_refused(path, read, wanted):
    """Assert that a file is refused as damaged, or harmlessly so."""
    try:
        found = flat(read(path))
    except ValueError as error:
        assert path.name in str(error)
        return
    wanted = flat(wanted)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        same = torch.equal if isinstance(value, torch.Tensor) else type(value).__eq__
        assert same(value, wanted[name]), name


def with_flipped(whole, at, bit):
    changed = bytearray(whole)
    changed[at] ^= 1 << bit
    return changed


def test_no_changed_bit_of_a_files_directory_changes_a_weight(tmp_path):
    """Its entry of a tensor, and its end: one of these bits marks a folder."""
    path, wanted = tmp_path / "w.pt", {"w": torch.arange(4.0)}
    torch.save(wanted, path)
    whole = path.read_bytes()
    entry = whole.rindex(b"PK\1\2", 0, whole.rindex(b"w/data/0"))
    places = [*range(entry, entry + 54), *range(whole.rindex(b"PK\1\2"), len(whole))]
    for at in places:
        for bit in range(8):
            path.write_bytes(with_flipped(whole, at, bit))
            assert_same_or_refused(path, read_plain, wanted)


@pytest.mark.parametrize("kind", ["best.pt", "last.pt"])
def test_changed_bits_are_not_resumed_from(tmp_path, kind):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(9, 5))
    optimizer = torch.optim.AdamW(model.parameters())
    read, path = read_plain, save_model(model, tmp_path, "best.pt")
    if kind == "last.pt":
        read, path = read_checkpoint, tmp_path / "last.pt"
        parts = {"model": model, "optimizer": optimizer}
        save_checkpoint(path, parts, [{"epoch": 1, "lr": 0.1}], {"seed": 1})
    whole, wanted, draw = path.read_bytes(), read(path), random.Random(0)
    for _ in range(100):
        at, bit = draw.randrange(len(whole)), draw.randrange(8)
        path.write_bytes(with_flipped(whole, at, bit))
        assert_same_or_refused(path, read, wanted)


ODD_CHECKPOINTS = {
    "parts that are no dict": ({"parts": [1]}, "no checkpoint"),
    "an epoch in words": ({"epoch": "five"}, "no checkpoint"),
    "no config": ({"config": None}, "no checkpoint"),
    "odd generators": ({"random": {"python": 3}}, "another kind of training"),
    "an odd optimizer": (
        {"parts": {"model": nn.Linear(1, 1).state_dict(), "optimizer": {"x": 1}}},
        "another kind of training",
    ),
    "another optimizer's": (
        {"parts": {"model": nn.Linear(1, 1).state_dict(), "optimizer": [1]}},
        "another kind of training",
    ),
}


@pytest.mark.parametrize(("change", "message"), ODD_CHECKPOINTS.values())
def test_odd_checkpoints_end_in_a_sentence(tmp_path, change, message):
    model, path = nn.Linear(1, 1), tmp_path / "last.pt"
    parts = {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}
    save_checkpoint(path, parts, [], {})
    torch.save(read_checkpoint(path) | change, path)
    with pytest.raises(ValueError, match=rf"(last\.pt|the checkpoint) is .*{message}"):
        restore_checkpoint(path, read_checkpoint(path), parts)


def test_weights_in_torchs_older_format_are_read(tmp_path):
    model, other, path = nn.Linear(3, 2), nn.Linear(3, 2), tmp_path / "old.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_model(other, path).weight, model.weight)


def small_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def only_matrices(change):
    return lambda value: change(value) if value.ndim == 2 else value


ODD = {
    "half": lambda value: value.half(),
    "bfloat16": lambda value: value.bfloat16(),
    "double": lambda value: value.double(),
    "beyond float32": lambda value: value.double() * 0 + 1e300,
    "complex": lambda value: value.to(torch.complex64),
    "float8_e5m2": lambda value: value.to(torch.float8_e5m2),
    "int64": lambda value: value.long(),
    "bool": lambda value: value.bool(),
    "quantized": lambda value: torch.quantize_per_tensor(
        value.float(), 0.1, 0, torch.qint8
    ),
    "sparse_csr": only_matrices(lambda value: value.to_sparse_csr()),
    "sparse_coo": only_matrices(lambda value: value.to_sparse()),
    "meta": lambda value: value.to("meta"),
    "nested": lambda value: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "a number": lambda value: 1.0,
}


@pytest.mark.filterwarnings("ignore")  # about sparse tensors, nested ones and others
@pytest.mark.parametrize("kind", ODD)
def test_weights_that_the_model_cannot_have_are_refused(tmp_path, kind):
    model = small_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = {name: ODD[kind](value) for name, value in before.items()}
    torch.save(changed, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"odd\.pt holds ") as told:
        load_model(model, tmp_path / "odd.pt")
    assert len(str(told.value).splitlines()) == 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


class Own(nn.Module):
    """A network whose own name for a part is one that wrappers use as well."""

    def __init__(self):
        super().__init__()
        self.module, self.head = nn.Linear(2, 3), nn.Linear(3, 2)


def compile_first(model):
    first, *_ = model.named_children()
    setattr(model, first[0], torch.compile(first[1]))
    return model


WRAPPERS = {
    "parallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled, parallel": lambda model: nn.DataParallel(torch.compile(model)),
    "parallel, compiled": lambda model: torch.compile(nn.DataParallel(model)),
    "averaged": AveragedModel,
    "a part compiled": compile_first,
    "not at all": lambda model: model,
}


@pytest.mark.parametrize("kind", [small_net, Own])
@pytest.mark.parametrize("into", ["not at all", "compiled"])
@pytest.mark.parametrize("wrapped", WRAPPERS)
def test_weights_of_a_wrapped_model_are_understood(tmp_path, kind, wrapped, into):
    model, other = kind(), kind()
    wanted = {name: value.clone() for name, value in model.state_dict().items()}
    save_model(WRAPPERS[wrapped](model), tmp_path, "wrapped.pt")
    load_model(WRAPPERS[into](other), tmp_path / "wrapped.pt")
    assert other.state_dict().keys() == wanted.keys()
    for name, value in other.state_dict().items():
        assert torch.equal(value, wanted[name])


class Both(nn.Module):
    """A network with two layers whose names differ as a wrapper's would."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.module = nn.ModuleDict({"head": nn.Linear(2, 3)})


PAIRS = {  # what is saved, and into what it is loaded
    "averaged": (AveragedModel, AveragedModel),
    "averaged, to compiled": (AveragedModel, lambda m: torch.compile(AveragedModel(m))),
    "compiled, to averaged": (lambda m: torch.compile(AveragedModel(m)), AveragedModel),
}


@pytest.mark.parametrize("name", PAIRS)
def test_an_averaged_model_keeps_its_count(tmp_path, name):
    saved, into = (wrap(small_net()) for wrap in PAIRS[name])
    saved.n_averaged += 3
    load_model(into, save_model(saved, tmp_path, "averaged.pt"))
    pairs = zip(into.state_dict().values(), saved.state_dict().values(), strict=True)
    assert all(torch.equal(found, wanted) for found, wanted in pairs)
    assert into.n_averaged == 3


def test_names_that_differ_as_a_wrappers_would_are_kept_apart(tmp_path):
    saved = Both()
    other = load_model(Both(), save_model(saved, tmp_path, "both.pt"))
    for name, value in other.state_dict().items():
        assert torch.equal(value, saved.state_dict()[name])


def test_a_wrapped_models_missing_weights_are_missed(tmp_path):
    state = nn.DataParallel(small_net()).state_dict()
    del state["module.2.bias"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(ValueError, match=r"1 entries differ, first '2\.bias'.*missing"):
        load_model(small_net(), tmp_path / "less.pt")


# ---- Interrupted, killed, cut off


class Faulty:
    """A file in which something happens when a part of a content is written."""

    def __init__(self, file, part, fault):
        self.file, self.part, self.fault = file, part, fault

    def write(self, content):
        self.file.write(content[: int(self.part * len(content))])
        self.file.flush()
        self.fault()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


PARTS = [0, 0.01, 0.5, 0.999, 1]


def fail_at(monkeypatch, part, fault):
    """Make whole files fail when a part of them is written."""

    def open_faulty(path, mode):
        return Faulty(open(path, mode), part, fault)

    monkeypatch.setattr(checkpoints, "open", open_faulty, raising=False)


def leave(*_):
    sys.exit(143)


SIGNALS = {
    "Ctrl-C": (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
    "SIGTERM": (signal.SIGTERM, leave, SystemExit),
    "torchrun's SIGTERM": (signal.SIGTERM, raise_lost, ConnectionAbortedError),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_in_any_moment_of_a_write_is_that_signal(
    tmp_path, monkeypatch, kind, part
):
    number, handler, error = SIGNALS[kind]
    path = save_model(small_net(), tmp_path, "net.pt")
    old, before = path.read_bytes(), signal.signal(number, handler)
    fail_at(monkeypatch, part, lambda: signal.raise_signal(number))
    try:
        with pytest.raises(error) as told:
            save_model(small_net(), tmp_path, "net.pt")
    finally:
        signal.signal(number, before)
    assert "space left" not in str(told.value)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["net.pt"]


@pytest.mark.parametrize("part", PARTS)
def test_a_disk_that_fills_up_in_any_moment_is_called_full(tmp_path, monkeypatch, part):
    def fill():
        raise OSError(errno.ENOSPC, "No space left on device")

    fail_at(monkeypatch, part, fill)
    with pytest.raises(OSError, match=r"cannot write .*net\.pt: .*No space left"):
        save_model(small_net(), tmp_path, "net.pt")
    assert os.listdir(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def flush(handle):
        done.append(os.fstat(handle).st_size)
        fsync(handle)

    def rename(*paths):
        done.append("renamed")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    write_json(tmp_path / "file.json", [1, 2])
    size = (tmp_path / "file.json").stat().st_size
    assert done == [size, "renamed"]


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    return child.pid


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path, dead):
    swept = [f"a.pt.{dead}.tmp", f"data.x1_y.{dead}.tmp", f"best.pt.{dead}.tmp"]
    others = [f"a.pt.{os.getppid()}.tmp", f"b.txt.{dead}.tmp", "a.pt.mine.tmp"]
    others += ["a.pt.tmp", "notes.tmp", f"a.pt.{10**12}.tmp", f"a.pt.{dead}.tmp.txt"]
    for name in (*swept[::2], *others):
        (tmp_path / name).write_text("half a fi")
    (tmp_path / swept[1] / "inside").mkdir(parents=True)
    # Windows knows a file in work by its being open.
    with open(tmp_path / others[0]), whole_file(tmp_path / "a.pt") as file:
        file.write(b"whole")
    assert not (tmp_path / swept[0]).exists()
    with whole_folder(tmp_path / "data"):
        pass
    assert not (tmp_path / swept[1]).exists() and (tmp_path / swept[2]).exists()
    with open(tmp_path / others[0]), lock_folder(tmp_path):
        assert not (tmp_path / swept[2]).exists()
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "a.pt", "data"])


HOLD = """
import os, signal, sys
from going_modular.checkpoints import lock_folder, whole_file
with lock_folder(sys.argv[1]), whole_file(sys.argv[1] + "/last.pt") as file:
    file.write(b"half a fi")
    file.flush()
    print("held", flush=True)
    signal.pause()
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_a_killed_training_frees_its_folder_and_leaves_nothing(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        problem = "run is in use by another training: wait for it, or choose another"
        with pytest.raises(OSError, match=problem), lock_folder(run):
            pass
        child.kill()
        child.wait()
        left = sorted(os.listdir(run))
        assert left == [".lock", f"last.pt.{child.pid}.tmp"]
        with lock_folder(run):
            assert os.listdir(run) == [".lock"]
            with whole_file(run / "last.pt") as file:
                file.write(b"whole")
    assert os.listdir(run) == ["last.pt"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_was_locked_for_nothing_is_as_before(tmp_path, is_there):
    path = tmp_path / "run"
    if is_there:
        path.mkdir()
    with pytest.raises(KeyError), lock_folder(path):
        assert path.is_dir()
        raise KeyError("a mistake in the settings")
    assert path.exists() == is_there and (not is_there or not os.listdir(path))
    with lock_folder(path), pytest.raises(OSError, match="in use"), lock_folder(path):
        pass


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / "file").write_text("a file")
    with (
        pytest.raises(OSError, match=r"cannot write into .*file.*Choose another"),
        lock_folder(tmp_path / "file"),
    ):
        pass


@pytest.mark.parametrize(
    "content",
    [
        [math.nan, 1.5],
        {"loss": math.inf, "rows": [{"a": -math.inf}, (1, math.nan)]},
        {"NaN": "NaN", "text": "Infinity"},
        [1e308, 5e-324, 2**70, True, None, "é\t\0"],
    ],
)
def test_json_files_are_always_valid(tmp_path, content):
    write_json(tmp_path / "file.json", content)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "file.json").read_text()
    found = flat(json.loads(text, parse_constant=refuse))
    for name, value in flat(content).items():
        is_number = isinstance(value, float) and not math.isfinite(value)
        assert found[name] == (None if is_number else value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("memory"), ValueError),
        (
            RuntimeError("several elements refer to a single memory location"),
            ValueError,
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError),
        (torch.OutOfMemoryError("CUDA out of memory."), RuntimeError),
    ],
)
def test_only_a_lack_of_memory_is_no_fault_of_a_checkpoint(error, kind):
    with pytest.raises(kind), understood():
        raise error
