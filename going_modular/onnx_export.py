# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""A model as an ONNX file, with 32 or 8 bits."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from going_modular.checkpoints import whole_file
from going_modular.utils import model_mode


def export_onnx(
    model: nn.Module, path: str | Path, image_size: int, channels: int = 3
) -> Path:
    """Write a model as one ONNX file and return its path.

    The file computes images (B, channels, image_size, image_size) float32 -> logits,
    for any B, in evaluation mode. The model is left as it was.

    Raises:
        OSError: as ``whole_file``.
    """
    device = next((parameter.device for parameter in model.parameters()), None)
    with model_mode(model, training=False):
        program = torch.onnx.export(
            model,
            (torch.zeros(1, channels, image_size, image_size, device=device),),
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=[{0: "batch"}],
        )
    with whole_file(path) as file:  # program.save may put the weights into a second one
        file.write(program.model_proto.SerializeToString())
    return Path(path)


def quantize(
    path: str | Path,
    target: str | Path,
    batches: Iterable[torch.Tensor],
) -> Path:
    """Write an ONNX file with weights and activations of 8 bits; return its path.

    Args:
        path: the file as ``export_onnx`` wrote it.
        target: the file to write.
        batches: (B, C, H, W) transformed training images, which show what values occur.

    Raises:
        OSError: as ``whole_file``.
    """
    from onnxruntime import quantization  # here: to export takes no onnxruntime

    feeds = ({"images": images.cpu().numpy()} for images in batches)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict | None:
            return next(feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = f"{folder}/prepared.onnx"
        result = f"{folder}/int8.onnx"
        quantization.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            result,
            Reader(),
            per_channel=True,
            reduce_range=True,  # weights of 7 bits: with 8, older processors overflow
            activation_type=quantization.QuantType.QUInt8,
        )
        with whole_file(target) as file:
            file.write(Path(result).read_bytes())
    return Path(target)
