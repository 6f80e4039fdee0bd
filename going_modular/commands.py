# Written by tools/export.py from 09_deployment.ipynb, 10_performance.ipynb: edit there,
# not here.
"""What subcommands do with a model: predict, serve, export, profile."""

import functools
import sys
import tempfile
from pathlib import Path
from typing import Any

from going_modular.config import Choices, Config
from going_modular.networks import NETWORKS


def predict_command(run: str, pictures: list) -> None:
    """Say what is in pictures: the three most probable classes of each.

    Args:
        run: folder of a training, such as runs/first
        pictures: files, folders, or http addresses

    Raises:
        ValueError: at the end, if some pictures cannot be read.
    """
    from going_modular.pictures import list_pictures
    from going_modular.predictions import Predictor

    predictor = Predictor.load(run)
    sources = []
    for name in pictures:
        sources += list_pictures(name) if Path(name).is_dir() else [name]
    errors = 0
    for source in sources:
        try:
            ranked = [f"{name} {prob:.3f}" for name, prob in predictor(source)[:3]]
            print(f"{source}: {', '.join(ranked)}")
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            errors += 1
    if errors:
        raise ValueError(f"{errors} of {len(sources)} pictures could not be read")


def serve_command(run: str, port: int = 0, examples: list | None = None) -> None:
    """Serve a trained model as a page, for this machine alone, until Ctrl-C.

    Args:
        run: folder of a training, such as runs/first
        port: 1 to 65535; 0: the first that is free from 7860 on
        examples: pictures to try, shown below the page

    Raises:
        OSError: if the port is taken.
        ValueError: if it is none.
    """
    from going_modular.app import build_app, serve
    from going_modular.pictures import read_picture
    from going_modular.predictions import Predictor

    if not 0 <= port <= 65_535:
        raise ValueError(f"{port} is no port: choose a number from 1 to 65535")
    for path in examples or ():
        read_picture(path)  # raises for a broken one
    app = build_app(Predictor.load(run), examples or ())
    try:
        serve(app, port=port or None)
    except OSError:
        if not port:
            raise  # gradio says which ports it tried
        raise OSError(f"port {port} is taken: choose another --port") from None


EXPORTS = Choices(  # format -> name in the run
    "format", {"onnx": "model.onnx", "int8": "model_int8.onnx", "demo": "demo"}
)


def some_pictures(folder: Path, count: int) -> list[str]:
    """Return the paths of up to ``count`` pictures, taken evenly from a folder."""
    from going_modular.pictures import list_pictures

    paths = list_pictures(folder)
    return paths[:: max(len(paths) // count, 1)][:count]


def write_export(format: str, predictor: Any, target: Path, data: Path) -> None:
    """Write a Predictor as ``target``.

    Args:
        format: one of EXPORTS.
        predictor: the Predictor.
        target: a file or, for a demo, a folder.
        data: a folder with train/, to calibrate on, and valid/, for examples.
    """
    if format == "demo":
        from going_modular.demo import build_demo

        valid = data / "valid"
        build_demo(target, predictor, some_pictures(valid, 3) if valid.is_dir() else ())
        return
    import torch

    from going_modular.onnx_export import export_onnx, quantize
    from going_modular.pictures import read_picture

    with tempfile.TemporaryDirectory() as folder:
        whole = target if format == "onnx" else Path(folder) / "model.onnx"
        export_onnx(predictor.model, whole, predictor.config.image_size)
        if format == "int8":
            images = [
                predictor.transform(read_picture(path))
                for path in some_pictures(data / "train", 128)
            ]
            quantize(whole, target, torch.stack(images).split(32))


def export_command(
    run: str, format: str = "onnx", to: str | None = None, data: str | None = None
) -> None:
    """Write a trained model for elsewhere.

    onnx: one file for onnxruntime; what goes in and out is printed. int8: the same in 8
    bits, a large model's a quarter of the size. demo: a folder with app, weights and
    Dockerfile, ready to host.

    Args:
        run: folder of a training, such as runs/first
        format: onnx, int8 or demo
        to: file, or for a demo a folder, to write; by default in the run
        data: int8, demo: folder with train/ and valid/; by default the training's

    Raises:
        FileExistsError: if the file or folder to write exists already.
    """
    from going_modular.predictions import Predictor

    predictor = Predictor.load(run)
    target = Path(to or Path(run) / EXPORTS[format])
    if to and target.exists():
        raise FileExistsError(f"{target} is there already: choose another --to")
    config = predictor.config
    write_export(format, predictor, target, Path(data or config.data))
    files = [path for path in [target, *target.rglob("*")] if path.is_file()]
    print(f"{target}: {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")
    if format != "demo":
        size = config.image_size
        print(
            f"in: images (B, 3, {size}, {size}) float32, RGB, "
            f"{NETWORKS[config.model].pixels}; out: logits of "
            f"{', '.join(predictor.class_names)}"
        )


def profile_command(trace: str | None = None, **settings: Any) -> None:
    """Measure how fast a model trains here, and where the time goes.

    Args:
        trace: file for a trace, .json: open it at https://ui.perfetto.dev
        **settings: of a Config.
    """
    import torch

    from going_modular.checkpoints import whole_file
    from going_modular.experiment import setup
    from going_modular.measure import benchmark, count_flops, matmul_rate, profile_model
    from going_modular.updates import PRECISIONS

    if trace:
        with whole_file(trace):
            pass  # raises, before the work, if it cannot be written
    config = Config(**settings)
    batch_size = config.batch_size
    images = torch.rand(batch_size, 3, config.image_size, config.image_size)
    batch = (images, torch.arange(batch_size) % 10)
    made = setup(config, loaders=([batch], [batch], [""] * 10))
    model, device = made.model.train(), made.device
    loss_fn = torch.nn.CrossEntropyLoss()
    step = functools.partial(
        made.update, model, *batch, loss_fn, made.optimizer, device
    )
    seconds = benchmark({"step": step}, device=device)["step"].median
    flops = count_flops(model, images.to(device))
    if next(model.parameters()).requires_grad:
        flops *= 3  # backward is two more, but not if frozen
    limit = matmul_rate(device, PRECISIONS[config.precision])
    print(
        f"{config.model} on {device}, {config.precision}: {batch_size / seconds:,.0f} "
        f"pictures a second, {flops / batch_size / 1e9:.3f} GFLOP each\n"
        f"{flops / seconds / 1e9:,.1f} of {limit / 1e9:,.1f} GFLOP a second that "
        f"matrix products reach here: {flops / seconds / limit:.0%}"
    )
    rows = profile_model(step, trace=trace)
    if trace:
        print(f"the trace is in {trace}: open it at https://ui.perfetto.dev")
    for row in rows[:10]:
        print(
            f"{row['share']:6.1%} {row['ms']:9.2f} ms {row['calls']:6.0f} calls  "
            f"{row['operation']}"
        )
