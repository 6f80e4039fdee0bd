"""How fast does a Vision Transformer train on a GPU, change by change, beside timm's?

    python tests/benchmarks/precision.py [--model B] [--image-size 224]
                                         [--batch-size 64] [--rounds 20]
                                         [--rows "bfloat16 weights,8 times"]
    python tests/benchmarks/precision.py --tiny         # seconds, on any CPU

Prints a table in Markdown. Each row adds a change to the row above: float32, TF32,
bfloat16 autocast, torch.compile, the fused AdamW, four times the batch, bfloat16
weights beside float32 masters, eight times the batch, and for ours an attention of its
own, ``short_attention.py``. Within a row our training steps and timm's, of the same
size, take turns in random order, both through ``updates.Updater``. "% of bf16": the
counted work, three times the forward pass's, as a share of what the device reaches in
plain bfloat16 matrix products just before or just after the row, the higher of the two,
which the last column shows. "ours / timm": how many times
faster ours is, median and quartiles over rounds; "noise": the same for ours against
itself. A CPU leaves out TF32, which it lacks, compiling, and the attention.
"""

import argparse
import contextlib
import datetime
import functools
import sys
from pathlib import Path

import timm
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from going_modular import measure, updates, utils, vit

TIMM_NAMES = {"Ti": "tiny", "S": "small", "B": "base", "L": "large", "H": "huge"}
CHANGES = {  # what a row changes in the setting of the row above
    "float32": {
        "precision": "fp32",
        "tf32": False,
        "compiled": False,
        "fused": False,
        "batches": 1,
        "short": False,
    },
    "TF32": {"tf32": True},
    "bfloat16 autocast": {"precision": "bf16"},
    "+ compile": {"compiled": True},
    "+ fused AdamW": {"fused": True},
    "+ 4 times the batch": {"batches": 4},
    "+ bfloat16 weights": {"precision": "bf16_weights"},
    "+ 8 times the batch": {"batches": 8},
    "+ an attention for short rows": {"short": True},
}
GPU_ONLY = ("TF32", "+ compile", "+ an attention for short rows")


@contextlib.contextmanager
def float32_products(tf32):
    """Let a GPU compute float32 matrix products and convolutions in TF32, or not.

    It holds within the block.
    """
    found = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(found[0])
        torch.backends.cudnn.allow_tf32 = found[1]


def build(size, image_size, device):
    """Return {"ours": model, "timm": model} of one size on ``device``."""
    config = vit.ViTConfig(**vit.VIT_SIZES[size], image_size=image_size)
    ours = vit.ViT(config)
    theirs = timm.create_model(
        f"vit_{TIMM_NAMES[size]}_patch{config.patch_size}_224", img_size=image_size
    )
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == counts[1], f"not the same size: {counts}"
    return {"ours": ours.to(device), "timm": theirs.to(device)}


def make_step(model, images, labels, setting):
    """Return a function without arguments that does one training step."""
    device = images.device
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, fused=setting["fused"] or None
    )  # None: torch's default
    forward = torch.compile(model) if setting["compiled"] else None
    update = updates.Updater(setting["precision"], device=device, forward=forward)
    return lambda: update(
        model, images, labels, nn.functional.cross_entropy, optimizer, device
    )


def time_steps(size, image_size, batch_size, setting, rounds, device):
    """Time training steps of both, ours twice.

    Returns:
        {"ours", "ours again", "timm"}: Timing of a step;
        {"ours", "timm"}: operations of one picture's step.
    """
    utils.set_seeds(0)
    if setting["compiled"]:
        torch.compiler.reset()  # forget the models of the row above
    models = build(size, image_size, device)
    images = torch.randn(batch_size, 3, image_size, image_size, device=device)
    labels = torch.randint(1000, (batch_size,))
    work = {
        name: 3 * measure.count_flops(model, images[:1])
        for name, model in models.items()
    }
    if setting["short"]:
        from tests.benchmarks.short_attention import attend

        for block in models["ours"].blocks:
            block.attention.forward = functools.partial(attend, block.attention)
    steps = {
        name: make_step(model, images, labels, setting)
        for name, model in models.items()
    }
    steps["ours again"] = steps["ours"]
    with float32_products(setting["tf32"]):
        return measure.benchmark(steps, repeats=rounds, warmup=2, device=device), work


def describe_row(name, batch_size, timings, work, limit):
    """Return a row of the table in Markdown."""
    cells = [name, f"{batch_size}"]
    for key in ("ours", "timm"):
        speed = batch_size / timings[key].median
        cells += [f"{speed:,.0f}", f"{100 * speed * work[key] / limit:.1f}"]
    for key in ("timm", "ours again"):
        cells.append(
            "{:.3f} ({:.3f} to {:.3f})".format(
                *measure.speedup(timings[key], timings["ours"])
            )
        )
    return f"| {' | '.join(cells)} | {limit / 1e12:,.2f} |"


def main(arguments=None):
    """Print the table and return {row: its Timings}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=TIMM_NAMES, default="B")
    parser.add_argument("--image-size", type=int, default=224, help="pixels a side")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=64,
        help="pictures; four and eight times as many in later rows",
    )
    parser.add_argument(
        "--rounds", type=int, default=20, help="training steps of each in a row"
    )
    parser.add_argument(
        "--rows", default="", help="parts of rows' names, by commas; by default all"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="Ti at 32 pixels, batches of 8, 3 rounds"
    )
    options = parser.parse_args(arguments)
    if options.tiny:
        options.model, options.image_size, options.batch_size, options.rounds = (
            "Ti",
            32,
            8,
            3,
        )
    device = utils.get_device()
    on_gpu = device.type == "cuda"
    hardware = (
        torch.cuda.get_device_name()
        if on_gpu
        else f"{device}, {torch.get_num_threads()} threads"
    )
    print(
        f"{datetime.date.today()}, {hardware}, torch {torch.__version__}, timm "
        f"{timm.__version__}; ViT {options.model} at {options.image_size} pixels, "
        f"{options.rounds} interleaved rounds\n"
    )
    print(
        "| | batch | ours, pictures/s | % of bf16 | timm, pictures/s | its % of bf16 | "
        "ours / timm | noise | bf16 products, TFLOP/s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    setting, table = {}, {}
    for name, change in CHANGES.items():
        if name in GPU_ONLY and not on_gpu:
            continue
        setting |= change
        if not any(part in name for part in options.rows.split(",")):
            continue
        batch_size = options.batch_size * setting["batches"]
        before = measure.matmul_rate(device, torch.bfloat16)
        timings, work = time_steps(
            options.model,
            options.image_size,
            batch_size,
            setting,
            options.rounds,
            device,
        )
        limit = max(before, measure.matmul_rate(device, torch.bfloat16))
        print(describe_row(name, batch_size, timings, work, limit), flush=True)
        table[name] = timings
    return table


if __name__ == "__main__":
    main()
