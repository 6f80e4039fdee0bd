# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""A model as an ONNX file, with 32 or 8 bits."""

import copy
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from going_modular.checkpoints import whole_file


def onnx_answers(
    content: bytes, shape: tuple[int, ...]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (images, logits) of an ONNX file for a batch of one image, and of three.

    Args:
        content: of the file.
        shape: of an image, (C, H, W).
    """
    from onnxruntime import InferenceSession

    session: Any = InferenceSession(content)
    for count in (1, 3):
        images = torch.linspace(-1, 1, count * math.prod(shape)).reshape(count, *shape)
        yield images, torch.tensor(session.run(None, {"images": images.numpy()})[0])


def export_onnx(
    model: nn.Module,
    path: str | Path,
    image_size: int,
    channels: int = 3,
    *,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a model as one ONNX file and return its path.

    The file computes images (B, channels, image_size, image_size) float32 -> logits,
    for any B, in evaluation mode: it is checked before it is written. The model is left
    as it was.

    Args:
        model: from images to logits (B, K).
        path: the file to write.
        image_size: side length of an image, in pixels.
        channels: of an image.
        metadata: texts that the file shall keep, by name.

    Raises:
        ValueError: if no file computes what the model does, for any B, or a package
            is missing.
        OSError: as ``whole_file``.
    """
    model = copy.deepcopy(model).cpu().eval()
    shape = (channels, image_size, image_size)
    try:
        import onnx

        content = torch.onnx.export(
            model,
            (torch.zeros(2, *shape),),  # a batch of 1 may be taken for a constant
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=[{0: "batch"}],
        ).model_proto
        onnx.helper.set_model_props(content, metadata or {})
        content = content.SerializeToString()
        with torch.inference_mode():
            for images, found in onnx_answers(content, shape):
                wanted = model(images)
                limit = 1e-3 * (1 + wanted.abs().max().item())
                torch.testing.assert_close(found, wanted, atol=limit, rtol=0)
    except ImportError as error:
        raise ValueError(f"{error}: pip install onnx onnxscript onnxruntime") from None
    except Exception as error:  # each layer of the exporter has its own
        cause = " ".join(str(error.__cause__ or error).split())
        raise ValueError(
            f"{type(model).__name__} cannot be exported: {cause}; its forward must "
            "return one tensor, treat batches of any size alike and leave nothing to "
            "chance"
        ) from None
    with whole_file(path) as file:  # program.save may put the weights into a second one
        file.write(content)
    return Path(path)


def quantize(
    path: str | Path,
    target: str | Path,
    batches: Iterable[torch.Tensor],
) -> Path:
    """Write an ONNX file with weights and activations of 8 bits; return its path.

    Args:
        path: the file as ``export_onnx`` wrote it.
        target: the file to write; it keeps the metadata.
        batches: (B, C, H, W) transformed training images, which show what values occur.

    Raises:
        OSError: as ``whole_file``.
    """
    import onnx
    from onnxruntime import quantization  # here: it takes a while

    feeds = ({"images": images.cpu().numpy()} for images in batches)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict | None:
            return next(feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, result = f"{folder}/prepared.onnx", f"{folder}/int8.onnx"
        quantization.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            result,
            Reader(),
            per_channel=True,
            reduce_range=True,  # weights of 7 bits: with 8, older processors overflow
            activation_type=quantization.QuantType.QUInt8,
        )
        small = onnx.load(result)
    whole = onnx.load(path)
    onnx.helper.set_model_props(small, {x.key: x.value for x in whole.metadata_props})
    content = small.SerializeToString()
    sizes = whole.graph.input[0].type.tensor_type.shape.dim[1:]
    list(onnx_answers(content, tuple(size.dim_value for size in sizes)))
    with whole_file(target) as file:
        file.write(content)
    return Path(target)
