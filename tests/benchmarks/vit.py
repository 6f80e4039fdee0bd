"""How fast does our Vision Transformer train beside timm's and torchvision's?

    python tests/benchmarks/vit.py

All have the same sizes. Runs training steps (zero the gradients, forward, loss,
backward, AdamW) of all three in turn, in random order, on the same batch in float32,
and prints the ratio of the median times: above 1, ours is faster. Ours runs twice a
round: how far its ratio to itself lies from 1 is the noise of this machine. On a GPU
also with bfloat16 autocast.
"""

import random
import statistics
import sys
import time
from pathlib import Path

import timm
import torch
from torch import nn
from torchvision import models

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from going_modular import utils, vit  # noqa: E402

SMALL = {"image_size": 28, "patch_size": 7, "in_channels": 1, "num_classes": 10}
SMALL |= {"embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_dim": 128}
# What it is called, its sizes, pictures in a batch, rounds on the CPU and on a GPU.
CASES = [
    ("the lesson's ViT, 28 px, batch 128", vit.ViTConfig(**SMALL), 128, (60, 200)),
    ("Ti/16, 224 px, batch 8", vit.ViTConfig(**vit.VIT_SIZES["Ti"]), 8, (20, 100)),
]
GPU_CASES = [("B/16, 224 px, batch 64", vit.ViTConfig(), 64, (0, 30))]


def build(config):
    """Return {name: model} of the same sizes, ours and theirs."""
    c = config
    theirs = models.VisionTransformer(
        c.image_size,
        c.patch_size,
        c.depth,
        c.num_heads,
        c.embed_dim,
        c.mlp_dim,
        num_classes=c.num_classes,
    )
    if c.in_channels != 3:  # torchvision's takes only three channels
        theirs.conv_proj = nn.Conv2d(
            c.in_channels, c.embed_dim, c.patch_size, stride=c.patch_size
        )
    timms = timm.models.VisionTransformer(
        c.image_size,
        c.patch_size,
        c.in_channels,
        c.num_classes,
        embed_dim=c.embed_dim,
        depth=c.depth,
        num_heads=c.num_heads,
        mlp_ratio=c.mlp_dim / c.embed_dim,
    )
    return {
        "ours": vit.ViT(c),
        "ours again": vit.ViT(c),
        "timm": timms,
        "torchvision": theirs,
    }


def seconds(model, optimizer, X, y, autocast):
    """Do one training step and return the seconds that it took."""
    start = time.perf_counter()
    optimizer.zero_grad()
    with torch.autocast(X.device.type, torch.bfloat16, enabled=autocast):
        loss = nn.functional.cross_entropy(model(X), y)
    loss.backward()
    optimizer.step()
    loss.item()  # waits for an accelerator
    if X.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(name, config, batch_size, rounds, device, autocast):
    utils.set_seeds(0)
    contestants = {key: model.to(device) for key, model in build(config).items()}
    sizes = {
        sum(p.numel() for p in model.parameters()) for model in contestants.values()
    }
    assert len(sizes) == 1, f"not the same size: {sizes}"
    optimizers = {
        key: torch.optim.AdamW(model.parameters(), lr=1e-4)
        for key, model in contestants.items()
    }
    X = torch.randn(
        batch_size,
        config.in_channels,
        config.image_size,
        config.image_size,
        device=device,
    )
    y = torch.randint(config.num_classes, (batch_size,), device=device)
    times = {key: [] for key in contestants}
    for round_number in range(rounds + 3):
        for key in random.sample(
            list(contestants), len(contestants)
        ):  # none always comes first
            elapsed = seconds(contestants[key], optimizers[key], X, y, autocast)
            if round_number > 2:  # the first rounds warm up
                times[key].append(elapsed)
    medians = {key: statistics.median(values) for key, values in times.items()}
    precision = "bfloat16 autocast" if autocast else "float32"
    listing = ", ".join(
        f"{key} {value / medians['ours']:.3f}" for key, value in medians.items()
    )
    print(
        f"{name}, {precision}: ours {batch_size / medians['ours']:,.0f} pictures a "
        f"second; time / ours': {listing}"
    )


def main():
    device = utils.get_device()
    on_gpu = device.type == "cuda"
    print(
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"timm {timm.__version__}, interleaved"
    )
    for name, config, batch_size, rounds in CASES + (GPU_CASES if on_gpu else []):
        for autocast in (False, True) if on_gpu else (False,):
            compare(name, config, batch_size, rounds[on_gpu], device, autocast)


if __name__ == "__main__":
    main()
