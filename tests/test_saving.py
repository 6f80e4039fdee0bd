"""save_model and load_model: the same model again, or a clear error and nothing harmed."""

import errno
import os
import pickle
import subprocess

import pytest
import torch
from torch import nn

from going_modular.utils import load_model, save_model


def test_a_loaded_model_gives_the_same_outputs(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    path = save_model(model=model, target_dir=tmp_path / "new" / "folder", model_name="line.pth")
    assert path.name == "line.pth" and load_model(other, path) is other
    X = torch.randn(5, 3)
    assert torch.equal(model(X), other(X))


@pytest.mark.parametrize("name", ["line", "line.txt"])
def test_a_name_that_is_no_weights_file(tmp_path, name):
    with pytest.raises(ValueError, match=f"model_name is '{name}'; it must end in .pt or .pth"):
        save_model(nn.Linear(1, 1), tmp_path, name)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write .*line\.pth.*Choose a folder"):
        save_model(nn.Linear(1, 1), tmp_path / "taken", "line.pth")


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere")
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
    assert path.read_bytes() == old and [file.name for file in tmp_path.iterdir()] == ["line.pth"]


def test_whatever_fails_no_temporary_file_stays(tmp_path):
    model = nn.Linear(1, 1)
    model.state_dict = lambda: {"weight": lambda: None}  # what cannot be pickled
    with pytest.raises(Exception, match="local object"):  # Python 3.11 and 3.13 word it differently around this
        save_model(model, tmp_path, "line.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        load_model(nn.Linear(1, 1), tmp_path / "gone.pth")


class Attack:
    """Unpickling this would run a command."""

    def __reduce__(self):
        return subprocess.check_call, (["touch", "attacked"],)


@pytest.mark.parametrize("content", [Attack(), nn.Linear(1, 1)], ids=["command", "whole model"])
def test_a_pickled_object_is_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": content}, "object.pth")
    with pytest.raises(ValueError, match=r"object\.pth holds no plain weights.*refused"):
        load_model(nn.Linear(1, 1), tmp_path / "object.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=r"plain\.pth holds no plain weights"):
        load_model(nn.Linear(1, 1), tmp_path / "plain.pth")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"hello world", b"PK\x03\x04 not really a zip"])
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


def test_a_tensor_alone(tmp_path):
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match="holds a Tensor, not named tensors"):
        load_model(nn.Linear(1, 1), tmp_path / "tensor.pth")


def test_the_weights_of_another_model_leave_this_one_unchanged(tmp_path):
    path = save_model(nn.Linear(3, 2), tmp_path, "line.pth")
    model = nn.Linear(3, 4)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=r"another model: 2 entries differ, first 'bias', which is \(2,\).*\(4,\)"):
        load_model(model, path)
    assert torch.equal(model.weight, before)
