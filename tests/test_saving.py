"""Models and files: whole and the same again, or a clear error and nothing harmed."""

import errno
import os
import pickle
import subprocess

import pytest
import torch
from torch import nn

from going_modular.checkpoints import whole_file, whole_folder
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
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        load_model(nn.Linear(1, 1), tmp_path / "gone.pth")


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
    problem = f"holds a {type(content).__name__}, not named tensors"
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
