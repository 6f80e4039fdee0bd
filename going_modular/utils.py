# Written by tools/export.py from 00_tensors.ipynb, 01_workflow.ipynb,
# 02_classification.ipynb, 05_going_modular.ipynb: edit there, not here.
"""Seeds, the device, a tensor in one line, weights saved and loaded."""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from going_modular.checkpoints import check_fit, read_plain, save_plain


def describe(tensor: torch.Tensor) -> str:
    """Describe a tensor in one line: "(2, 3) float32 on cpu, 24 bytes".

    Raises:
        TypeError: if it is not a tensor.
        RuntimeError: if it is sparse in COO format, where PyTorch counts no bytes.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"describe needs a torch.Tensor, got {type(tensor).__name__}; convert it "
            "first (torch.as_tensor for lists and arrays)"
        )
    return (
        f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on "
        f"{tensor.device}, {tensor.nbytes:,} bytes"
    )


def get_device(name: torch.device | str | None = None) -> torch.device:
    """Return the device of this name: cpu, cuda, cuda:1, mps and so on.

    By default the one that the environment variable GOING_MODULAR_DEVICE names, or else
    the best one here: an accelerator, or the CPU.

    Raises:
        ValueError: if there is no such device.
    """
    best = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    name = name or os.environ.get("GOING_MODULAR_DEVICE") or best
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, ImportError):
        raise ValueError(
            f"device is {str(name)!r}: choose {best} here, or cpu"
        ) from None


def set_seeds(seed: int = 42, deterministic: bool | None = None) -> None:
    """Seed Python, NumPy and torch, on the CPU and every accelerator.

    Args:
        seed: 0 to 2**32 - 1, the range that all three accept.
        deterministic: whether a GPU, too, computes the same bits in every run, slower;
            an operation that cannot raises RuntimeError then. None: as it was.

    Raises:
        ValueError: if the seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(
            f"seed {seed} is out of range; choose one from 0 to {2**32 - 1}"
        )
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # covers the accelerators too
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at first use
    if deterministic is not None:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False  # it takes time
    if deterministic:
        torch.backends.cudnn.benchmark = False  # it may choose anew in every run


def save_model(model: nn.Module, target_dir: str | Path, model_name: str) -> Path:
    """Save the model's state dict as target_dir/model_name and return that path.

    Args:
        model: the model.
        target_dir: a folder; it is made if it is missing.
        model_name: a file name that ends in .pt or .pth.

    Raises:
        ValueError: if the name ends in anything else.
        OSError: if the file cannot be written; an earlier one is then still whole.
    """
    if not str(model_name).endswith((".pt", ".pth")):
        raise ValueError(f"model_name is {model_name!r}; it must end in .pt or .pth")
    path = Path(target_dir) / model_name
    save_plain(model.state_dict(), path)
    return path


def load_model(model: nn.Module, path: str | Path) -> nn.Module:
    """Load the weights at ``path`` into the model, where it is, and return it.

    They may have been saved from the model wrapped, by torch.compile for instance.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds no plain weights, or those of another
            architecture; the model is then unchanged.
    """
    model.load_state_dict(check_fit(read_plain(path), model, path))
    return model


@contextlib.contextmanager
def model_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put every layer into training or evaluation mode within the block.

    After it, each layer is in the mode in which it was found.
    """
    found = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in found:
            module.training = was_training


def check_device(
    model: nn.Module,
    device: torch.device | str,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Raise ValueError unless the model's parameters are on ``device``.

    Or, with an optimizer, if it holds nothing that the model can learn, or parameters
    of another model in place of some.
    """
    wanted, own = torch.device(device), set(model.parameters())
    for found in {parameter.device for parameter in own}:
        if found.type != wanted.type or wanted.index not in (None, found.index or 0):
            raise ValueError(
                f"the model is on {found} but device is {wanted}: "
                f"call model.to({str(wanted)!r}) first"
            )
    if optimizer is None:
        return
    held = {p for group in optimizer.param_groups for p in group["params"]}
    trainable = {p for p in own if p.requires_grad}
    others = held - own
    if not held & trainable or (others and trainable - held):
        raise ValueError(
            f"the optimizer holds {len(held & trainable)} of the model's "
            f"{len(trainable)} trainable parameters, and {len(others)} of another "
            "model: set requires_grad=True for what shall learn, such as the head, and "
            "make the optimizer from model.parameters() when the model is complete"
        )


def read_outputs(outputs: object, labels: torch.Tensor | None = None) -> torch.Tensor:
    """Return the logits among all that a model gave, after a look at class labels.

    Args:
        outputs: a tensor; or a tuple or list that begins with it; or an object or dict
            with ``logits``, a dict with ``out`` or one that begins with it.
        labels: looked at if they are integers on the CPU: a GPU would be waited for.

    Raises:
        ValueError: if there is no tensor at this place, or a label lies outside 0..K-1
            for logits (B, K, ...).
    """
    found = getattr(outputs, "logits", outputs)
    if isinstance(found, dict):
        found = [found[name] for name in ("logits", "out", *found) if name in found]
    if isinstance(found, (tuple, list)) and found:
        found = found[0]
    if not isinstance(found, torch.Tensor):
        raise ValueError(
            f"the model gave {outputs!r:.60}, not a tensor: end its forward with "
            "'return logits', a tensor (B, K), or with a tuple that begins with it"
        )
    if labels is None or labels.device.type != "cpu" or labels.is_floating_point():
        return found
    K = found.shape[1] if found.ndim == labels.ndim + 1 else 1
    labels = labels.long()  # a smaller dtype may be too small for K
    wrong = labels[(labels != -100) & (labels.clamp(0, K - 1) != labels)]  # -100: none
    if K > 1 and len(wrong):  # one output: a number or a logit
        raise ValueError(
            f"label {wrong[0]} does not fit a model with {K} outputs, whose labels are "
            f"0 to {K - 1}: number the classes from 0, or give the model more outputs"
        )
    return found


def class_probs(logits: torch.Tensor) -> torch.Tensor:
    """Return the probability of every class.

    Args:
        logits: (N, K) for K classes, or (N, 1) for two.

    Returns:
        (N, K), rows that sum to 1; K is 2 for one logit.

    Raises:
        ValueError: if the logits have another shape.
    """
    if logits.ndim != 2:
        raise ValueError(f"the logits are {tuple(logits.shape)}; need (N, 1) or (N, K)")
    if logits.shape[1] == 1:  # the score of class 0 is 0
        logits = nn.functional.pad(logits, (1, 0))  # one column to the left: (N, 2)
    return logits.softmax(dim=1)


def check_memory(model: nn.Module) -> None:
    """Raise ValueError if this machine has no memory to train a model of this size.

    Args:
        model: may be on the device meta.
    """
    # as if all learned: each weight with a gradient, and two means of AdamW's
    needed = 4 * sum(weight.nbytes for weight in model.parameters())
    with contextlib.suppress(AttributeError):  # Windows does not say
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > memory:
            raise ValueError(
                f"a model of this size takes {needed / 1e9:,.0f} GB to train, this "
                f"machine has {memory / 1e9:,.0f}: choose a smaller one"
            )
