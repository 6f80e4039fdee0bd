# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""A trained model written for elsewhere: ONNX, 8 bits, two folders."""

import json
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from going_modular.config import Choices, check_new, run_files
from going_modular.networks import NETWORKS

EXPORTS = Choices(  # format -> name in the run
    "format",
    {"onnx": "model.onnx", "int8": "model_int8.onnx", "web": "web", "demo": "demo"},
)


def build_web(folder: Path, model: Path) -> None:
    """Write a folder with a page that answers in the visitor's browser, or nothing.

    Args:
        folder: gets the page, the model and, out of its metadata, model.json.
        model: an ONNX file as ``write_export`` writes it.
    """
    import onnx

    from going_modular.checkpoints import whole_folder, write_json  # it loads torch

    facts = {
        x.key: x.value if x.key == "resize" else json.loads(x.value)
        for x in onnx.load(model).metadata_props
    }
    with whole_folder(folder) as made:
        page = resources.files("going_modular") / "web"
        shutil.copytree(str(page), made, dirs_exist_ok=True)
        shutil.copy(model, made / "model.onnx")
        write_json(made / "model.json", facts)


def write_export(format: str, predictor: Any, target: Path, data: Path) -> None:
    """Write a Predictor as ``target``.

    Args:
        format: one of EXPORTS.
        predictor: the Predictor.
        target: a file or, for web and demo, a folder.
        data: what ``find_splits`` takes: train, to calibrate on, valid, for examples.
    """
    from going_modular.folders import find_splits
    from going_modular.onnx_export import export_onnx, quantize
    from going_modular.pictures import list_pictures, read_picture

    def some(part: str, count: int) -> list[str]:
        splits = find_splits(data)  # which may have train, or valid, alone
        paths = list_pictures(splits.get(part) or [*splits.values()][0])
        return paths[:: max(len(paths) // count, 1)][:count]

    if format == "demo":
        from going_modular.demo import build_demo

        build_demo(target, predictor, some("valid", 3) if data.exists() else ())
        return
    config, network = predictor.config, NETWORKS[predictor.config.model]
    metadata = {
        "class_names": json.dumps(predictor.class_names),
        "image_size": str(config.image_size),
        "resize": config.resize,
        "mean": json.dumps(network.mean or (0, 0, 0)),
        "std": json.dumps(network.std or (1, 1, 1)),
        "unsure_below": json.dumps(predictor.unsure_below),
    }
    with tempfile.TemporaryDirectory() as folder:
        whole = target if format == "onnx" else f"{folder}/model.onnx"
        export_onnx(predictor.model, whole, config.image_size, metadata=metadata)
        if format != "onnx":
            pictures = (read_picture(path) for path in some("train", 128))
            small = target if format == "int8" else Path(folder) / "int8.onnx"
            quantize(whole, small, (predictor.transform(p)[None] for p in pictures))
            if format == "web":
                build_web(target, small)


def export_command(
    run: str, format: str = "onnx", to: str = "", data: str = ""
) -> None:
    """Write a trained model for elsewhere.

    onnx: one file for onnxruntime; what goes in and out is printed, and in the file's
    metadata. int8: the same in 8 bits, a large model's a quarter of the size. web: a
    folder of static files, whose page answers in the visitor's browser. demo: a folder
    with app, weights and Dockerfile, ready to host.

    Args:
        run: folder of a training, such as runs/first
        format: onnx, int8, web or demo
        to: file, for web and demo a folder, to write; by default in the run
        data: int8, web, demo: pictures to calibrate on, or to show; by default the
            training's

    Raises:
        FileExistsError: if ``to``, or the run's web or demo, exists already; its
            model.onnx and model_int8.onnx are written anew.
    """
    from going_modular.predictions import Predictor

    predictor = Predictor.load(run)
    target = Path(to or run_files(run)[0] / EXPORTS[format])
    check_new(target if format == "web" else to, "--to")
    config = predictor.config
    kept = json.loads((run_files(run)[0] / "config.json").read_bytes())
    data = data or kept.get("data", "--data, not given")  # save leaves it out
    write_export(format, predictor, target, Path(data))
    files = [path for path in [target, *target.rglob("*")] if path.is_file()]
    print(f"{target}: {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")
    if format == "web":
        print(
            "the page loads onnxruntime-web from cdn.jsdelivr.net; pictures stay in "
            f"the browser. Look: python -m http.server --bind 127.0.0.1 -d {target}"
        )
    elif format != "demo":
        size = config.image_size
        print(
            f"in: images (B, 3, {size}, {size}) float32, RGB, resized by "
            f"{config.resize}, {NETWORKS[config.model].pixels}; out: logits of "
            f"{', '.join(predictor.class_names)}"
        )
