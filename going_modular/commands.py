# Written by tools/export.py from 09_deployment.ipynb, 10_performance.ipynb: edit there,
# not here.
"""What subcommands do: check, evaluate, predict, serve, profile."""

import functools
import shutil
import sys
from pathlib import Path
from typing import Any

from going_modular.config import Config
from going_modular.exports import free_place


def check_command(folder: str) -> None:
    """Look through pictures before a training: what is there, and what is wrong.

    Pictures are counted by class and part; listed are those that are broken, skipped,
    or there several times.

    Args:
        folder: what --data of a training takes

    Raises:
        ValueError: at the end, if some pictures are broken.
    """
    from going_modular.folders import check_folder

    report = check_folder(folder)
    print(report)
    if broken := report.findings["broken"]:
        raise ValueError(f"{len(broken)} pictures are broken: mend or remove them")


def evaluate_command(
    run: str,
    folder: Path | None = None,
    to: str | None = None,
    device: str | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
) -> None:
    """Say how often a trained model is right on pictures that it has not seen.

    The results are in RUN/evaluation-NAME: evaluation.json, pictures.csv, and as
    pictures the confusion matrix, how reliable the probabilities are, and the mistakes.

    Args:
        run: folder of a training, such as runs/first
        folder: one with a folder for each class; by default the test pictures of the
            training's data
        to: folder to write, by default in RUN
        device: such as cpu or cuda; by default the best there is
        batch_size: pictures that the model answers at once
        num_workers: processes that read pictures

    Raises:
        FileExistsError: if the folder to write exists already.
        ValueError: at the end, if some pictures cannot be read.
    """
    from going_modular.checkpoints import whole_folder
    from going_modular.evaluation import evaluate
    from going_modular.folders import find_splits
    from going_modular.predictions import Predictor
    from going_modular.utils import get_device

    predictor = Predictor.load(run, get_device(device))
    given, splits = Path(folder or predictor.config.data), {}
    if not any((given / name).is_dir() for name in predictor.class_names):
        splits = find_splits(given)
    chosen = next((splits[n] for n in ("test", "valid", "train") if n in splits), given)
    if not folder and "test" not in splits:
        print(f"{given} has no test: the training has seen the pictures in {chosen}")
    name = (folder or chosen).resolve().name
    target = free_place(run, f"evaluation-{name}", to)
    result = evaluate(predictor, chosen, batch_size=batch_size, num_workers=num_workers)
    with whole_folder(target) as temporary:
        result.save(temporary)
        shutil.rmtree(target, ignore_errors=True)  # an earlier evaluation
    facts = result.summary()
    for name, row in facts["classes"].items():
        print(
            f"{name}: precision {row['precision']:.3f}, recall {row['recall']:.3f}, "
            f"F1 {row['f1_score']:.3f}, {row['pictures']} pictures"
        )
    for problem in result.broken:
        print(f"error: {problem}", file=sys.stderr)
    print(
        f"{target}: accuracy {facts['accuracy']:.3f} ± {facts['standard_error']:.3f} "
        f"on {facts['pictures']} pictures of {chosen}, balanced "
        f"{facts['balanced_accuracy']:.3f}, calibration error "
        f"{facts['calibration_error']:.3f}"
    )
    if result.broken:
        raise ValueError(f"{len(result.broken)} pictures could not be read")


def predict_command(
    run: str,
    pictures: list,
    top: int = 3,
    csv: str | None = None,
    device: str | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
) -> None:
    """Say what is in pictures: the most probable classes of each.

    Args:
        run: folder of a training, such as runs/first
        pictures: files or folders
        top: how many classes to name
        csv: file to write, with the probabilities of all classes
        device: such as cpu or cuda; by default cpu
        batch_size: pictures that the model answers at once
        num_workers: processes that read pictures

    Raises:
        ValueError: at the end, if some pictures cannot be read; or at once, if one is
            an address.
    """
    from going_modular.pictures import list_pictures
    from going_modular.predictions import Predictor, sort_probs
    from going_modular.utils import get_device

    if top < 1:
        raise ValueError(f"top is {top}: choose 1 or more")
    predictor = Predictor.load(run, get_device(device or "cpu"))
    names, sources, rows = predictor.class_names, [], []
    for name in pictures:
        if "://" in name:
            raise ValueError(f"{name} is an address: download it, and give the file")
        sources += list_pictures(name) if Path(name).is_dir() else [name]
    answers = predictor.probs(sources, batch_size, num_workers)
    for source, probs in zip(sources, answers, strict=True):
        if isinstance(probs, Exception):
            print(f"error: {probs}", file=sys.stderr)
            continue
        ranked = sort_probs(probs, names)
        rows.append([source, ranked[0][0], *probs])
        shown = [f"{name} {prob:.3f}" for name, prob in ranked[:top]]
        print(f"{source}: {', '.join(shown)}")
    if csv:
        from going_modular.evaluation import write_csv

        write_csv(csv, [["path", "predicted", *names], *rows])
    if errors := len(sources) - len(rows):
        raise ValueError(f"{errors} of {len(sources)} pictures could not be read")


def serve_command(
    run: str,
    port: int = 0,
    examples: list | None = None,
    unsure_below: float | None = None,
    device: str | None = None,
) -> None:
    """Serve a trained model as a page, for this machine alone, until Ctrl-C.

    Args:
        run: folder of a training, such as runs/first
        port: 1 to 65535; 0: the first that is free from 7860 on
        examples: pictures to try, shown below the page
        unsure_below: the page says "not sure" where the highest probability is below
            this; by default 0.5, or what the model was saved with
        device: such as cpu or cuda; by default cpu

    Raises:
        OSError: if the port is taken.
        ValueError: if it is none.
    """
    from going_modular.app import build_app, serve
    from going_modular.pictures import read_picture
    from going_modular.predictions import Predictor
    from going_modular.utils import get_device

    if not 0 <= port <= 65_535:
        raise ValueError(f"{port} is no port: choose a number from 1 to 65535")
    for path in examples or ():
        read_picture(path)  # raises for a broken one
    found = get_device(device or "cpu")
    predictor = Predictor.load(run, found, unsure_below=unsure_below)
    app = build_app(predictor, examples or ())
    try:
        serve(app, port=port or None)
    except OSError:
        if not port:
            raise  # gradio says which ports it tried
        raise OSError(f"port {port} is taken: choose another --port") from None


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
