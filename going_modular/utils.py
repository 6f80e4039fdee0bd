# Written by tools/export.py from 00_tensors.ipynb, 01_workflow.ipynb, 05_going_modular.ipynb: edit there, not here.
"""Seeds, the device, a tensor described in one line, weights saved and loaded."""

import contextlib
import os
import random
from pathlib import Path

import numpy as np
import torch


def describe(tensor: torch.Tensor) -> str:
    """Return shape, dtype, device and size of a tensor in one line, such as "(2, 3) float32 on cpu, 24 bytes".

    tensor: any shape, dtype and device. Raises TypeError for anything that is not a tensor.
    """
    if not isinstance(tensor, torch.Tensor):
        kind = type(tensor).__name__
        raise TypeError(
            f"describe needs a torch.Tensor, got {kind}; convert it first (torch.as_tensor for lists and arrays)"
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{tuple(tensor.shape)} {dtype} on {tensor.device}, {tensor.nbytes:,} bytes"


def get_device() -> torch.device:
    """Return the best device of this machine: cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def set_seeds(seed: int = 42) -> None:
    """Seed Python, NumPy and torch, on the CPU and every accelerator, so that random numbers repeat.

    seed: 0 to 2**32 - 1, the range that all three accept. Raises ValueError outside it.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed} is out of range; choose one from 0 to {2**32 - 1}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # covers the accelerators too


@contextlib.contextmanager
def whole_file(path):
    """Give a binary file to write to, which becomes ``path`` when the block ends: all of it, or what was there before.

    The folder is made where it is missing.  Raises OSError, naming the path, where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save may report a full disk as a RuntimeError
        raise OSError(
            f"cannot write {path}: {error}. Choose a folder that you may write to, with space left."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def save_model(model, target_dir, model_name):
    """Save the weights of ``model``, its state dict, as target_dir/model_name and return that path.

    The folder is made where it is missing.  Raises ValueError unless the name ends in .pt or .pth, and OSError where
    the file cannot be written; a file that was there before is then still whole.
    """
    if not str(model_name).endswith((".pt", ".pth")):
        raise ValueError(f"model_name is {model_name!r}; it must end in .pt or .pth")
    path = Path(target_dir) / model_name
    with whole_file(path) as file:
        torch.save(model.state_dict(), file)
    return path


def read_plain(path):
    """Read what torch.save wrote, tensors on the CPU and plain values only, without ever running code from the file.

    Raises FileNotFoundError, PermissionError, or ValueError where the file is damaged or holds anything else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; check the path, or save it first")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception:  # a damaged file can make the reader stumble in many ways
        raise ValueError(
            f"{path} holds no plain weights: it is damaged, or it holds a pickled object, "
            "which is refused because loading one can run any code. Save the weights again, with save_model."
        ) from None


def read_weights(path):
    """Read a state dict, {name: tensor on the CPU}.

    Raises as ``read_plain`` does, and ValueError where the file holds anything but named tensors.
    """
    state = read_plain(path)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} holds a {type(state).__name__}, not named tensors; save it with save_model")
    return state


def check_fit(state, model, path):
    """Raise ValueError, naming the file at ``path``, unless the state dict has the model's names and shapes."""
    shapes, wanted = ({name: tuple(value.shape) for name, value in d.items()} for d in (state, model.state_dict()))
    names = sorted(shapes.keys() | wanted.keys(), key=str)
    differing = [name for name in names if shapes.get(name) != wanted.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path} holds the weights of another model: {len(differing)} entries differ, first {name!r}, "
            f"which is {shapes.get(name, 'missing')} in the file and {wanted.get(name, 'missing')} in the model"
        )


def load_model(model, path):
    """Load the weights at ``path`` into ``model``, on the device where it is, and return it.

    Raises FileNotFoundError, or ValueError where the file holds no plain weights or those of another architecture;
    the model is then unchanged.
    """
    state = read_weights(path)
    check_fit(state, model, path)
    model.load_state_dict(state)
    return model


def random_states():
    """Return the states of Python's, NumPy's and torch's random generators: plain values and tensors, to be saved."""
    name, keys, *rest = np.random.get_state()
    states = {"python": random.getstate(), "torch": torch.get_rng_state()}
    states["numpy"] = (name, torch.from_numpy(keys.astype(np.int64)), *rest)
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states):
    """Put the random generators back into the states that ``random_states`` returned."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    if torch.backends.mps.is_available() and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def save_checkpoint(path, parts, rows, config):
    """Write all that a training needs to go on after its last finished epoch; ``restore_checkpoint`` is the way back.

    parts: {name: object with a state dict}: "model", "optimizer", "scheduler".  rows: its results, one an epoch.
    config: a dict of plain values.  The random states come along.  Raises OSError as ``whole_file`` does.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    content = {"parts": states, "epoch": len(rows), "rows": rows, "config": config, "random": random_states()}
    with whole_file(path) as file:
        torch.save(content, file)


def read_checkpoint(path):
    """Return what a checkpoint holds: {"parts", "epoch", "rows", "config", "random"}.

    Raises as ``read_plain`` does, and ValueError for a file that holds anything else.
    """
    content = read_plain(path)
    if not isinstance(content, dict) or not content.keys() >= {"parts", "epoch", "rows", "config", "random"}:
        raise ValueError(f"{path} is no checkpoint: give it the file last.pt of a training's folder")
    return content


def restore_checkpoint(path, content, parts):
    """Put parts and random generators into the state that ``content``, read from ``path``, holds.

    Raises ValueError, and changes nothing, where the parts are others or the model has another architecture.
    """
    if parts.keys() != content["parts"].keys():
        raise ValueError(f"{path} holds {sorted(content['parts'])}, but {sorted(parts)} are to be restored")
    check_fit(content["parts"]["model"], parts["model"], path)
    for name, part in parts.items():
        part.load_state_dict(content["parts"][name])
    restore_random_states(content["random"])
