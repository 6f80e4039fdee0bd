# Written by tools/export.py from 06_transfer_learning.ipynb: edit there, not here.
"""Which parts of a network stand still in a training."""

from torch import nn


class FreezableBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose averages stand still while its weight is frozen."""

    def train(self, mode: bool = True) -> nn.Module:
        """Go into training mode, unless the weight is frozen."""
        # nn.BatchNorm2d's own train sets the mode; it gets True only if
        # training is asked for and the weight is not frozen
        return super().train(mode and self.weight.requires_grad)


def freeze(module: nn.Module) -> nn.Module:
    """Freeze parameters, stop each FreezableBatchNorm2d; return module."""
    # module.training is the mode it already has, True or False;
    # the call is there because it runs each norm's own train
    return module.requires_grad_(False).train(module.training)


def unfreeze(module: nn.Module) -> nn.Module:
    """Make the module's parameters trainable again; return it."""
    return module.requires_grad_(True).train(module.training)


def split_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the parts of a network that hold matrices, except auxiliary heads."""
    return [
        child
        for name, child in module.named_children()
        if any(weight.ndim > 1 for weight in child.parameters())
        and not name.lower().startswith("aux")
    ]


def unfreeze_last(model: nn.Module, count: int) -> nn.Module:
    """Make the last blocks of a pretrained network trainable, but no batch norm.

    A block is a child of the feature extractor, such as a ResNet's ``layer4``. All
    batch norms stand still from now on, torchvision's too: a batch says little of them.

    Args:
        model: frozen, but for the head, its last child, which stays as it is.
        count: how many blocks.

    Returns:
        The model.

    Raises:
        ValueError: if it does not have so many blocks.
    """
    blocks = split_blocks(model)[:-1]
    while 0 < len(blocks) < 3:  # nearly all is in one, such as "features"
        sizes = [sum(p.numel() for p in block.parameters()) for block in blocks]
        place = sizes.index(max(sizes))
        parts = split_blocks(blocks[place])
        if not parts:  # a single layer
            break
        blocks[place : place + 1] = parts
    if not 0 <= count <= len(blocks):
        raise ValueError(
            f"unfreeze is {count}, but {type(model).__name__} has {len(blocks)} blocks"
        )
    for block in blocks[len(blocks) - count :]:
        unfreeze(block)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = FreezableBatchNorm2d
            freeze(layer)
    return model.train(model.training)
