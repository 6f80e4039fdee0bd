# Written by tools/export.py from 09_deployment.ipynb, 10_performance.ipynb: edit there,
# not here.
"""What subcommands do: check, evaluate, predict, serve, profile."""

import functools
import sys
from pathlib import Path
from typing import Any

from going_modular.config import Config, check_new, run_files


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

    lines, findings = check_folder(folder)
    for title, items in findings.items():
        lines += [f"{title}: {len(items)}", *(f"    {item}" for item in items)]
    print("\n".join(lines))
    if broken := findings["broken"]:
        raise ValueError(f"{len(broken)} pictures are broken: mend or remove them")


def evaluate_command(
    run: str, folder: Path | None = None, batch_size: int = 32
) -> None:
    """Say how often a trained model is right on pictures that it has not seen.

    The results are in RUN/evaluation-NAME: evaluation.json, pictures.csv, and as
    pictures the confusion matrix, how reliable the probabilities are, and the mistakes.

    Args:
        run: folder of a training, such as runs/first
        folder: one with a folder for each class; by default the test pictures of the
            training's data
        batch_size: pictures that the model answers at once

    Raises:
        ValueError: at the end, if some pictures cannot be read.
    """
    from going_modular.evaluation import evaluate
    from going_modular.folders import find_splits
    from going_modular.predictions import Predictor
    from going_modular.utils import get_device

    predictor = Predictor.load(run, get_device())
    given, splits = folder or Path(predictor.config.data), {}
    if not any((given / name).is_dir() for name in predictor.class_names):
        splits = find_splits(given)
    chosen = next((splits[n] for n in ("test", "valid", "train") if n in splits), given)
    if not folder and "test" not in splits:
        print(f"{given} has no test: the training has seen the pictures in {chosen}")
    result = evaluate(predictor, chosen, batch_size=batch_size)
    target = run_files(run)[0] / f"evaluation-{(folder or chosen).resolve().name}"
    target.mkdir(exist_ok=True)
    result.save(target)
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
    run: str, pictures: list, top: int = 3, csv: str = "", batch_size: int = 32
) -> None:
    """Say what is in pictures: the most probable classes of each.

    Args:
        run: folder of a training, such as runs/first
        pictures: files or folders
        top: how many classes to name
        csv: file to write, with the probabilities of all classes
        batch_size: pictures that the model answers at once

    Raises:
        FileExistsError: if the file to write exists already.
        ValueError: at the end, if some pictures cannot be read.
    """
    from going_modular.pictures import list_pictures
    from going_modular.predictions import Predictor, sort_probs

    if top < 1:
        raise ValueError(f"top is {top}: choose 1 or more")
    check_new(csv, "--csv")
    predictor = Predictor.load(run)
    names, sources, rows = predictor.class_names, [], []
    for name in pictures:
        sources += list_pictures(name) if Path(name).is_dir() else [name]
    answers = predictor.probs(sources, batch_size)
    for source, probs in zip(sources, answers, strict=True):
        if isinstance(probs, BaseException):
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
) -> None:
    """Serve a trained model as a page, for this machine alone, until Ctrl-C.

    Args:
        run: folder of a training, such as runs/first
        port: 1 to 65535; 0: the first that is free from 7860 on
        examples: pictures to try, shown below the page
        unsure_below: say "not sure" where the highest probability is below; by default
            as the run's config.json says, or 0.5

    Raises:
        OSError: if the port is not free.
    """
    from going_modular.app import build_app, serve
    from going_modular.predictions import Predictor

    predictor = Predictor.load(run, unsure_below=unsure_below)
    serve(build_app(predictor, examples or ()), port=port)


def profile_command(trace: str | None = None, **settings: Any) -> None:
    """Measure how fast a model trains here, and where the time goes.

    Args:
        trace: file for a trace, .json: open it at https://ui.perfetto.dev
        **settings: of a Config.

    Raises:
        FileExistsError: if the trace exists already.
    """
    import torch

    from going_modular.checkpoints import whole_file
    from going_modular.experiment import setup
    from going_modular.measure import benchmark, count_flops, matmul_rate, profile_model
    from going_modular.updates import PRECISIONS

    check_new(trace, "--trace")
    if trace:  # before the work
        with whole_file(trace):
            pass  # raises if it cannot be written
        Path(trace).unlink()  # the work may fail, and be tried again
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
    elif config.unfreeze:
        print("the GFLOP are without the backward pass of the blocks set free")
    limit = matmul_rate(device, PRECISIONS[config.precision])
    print(
        f"{config.model} on {device}, {config.precision}: {batch_size / seconds:,.0f} "
        f"pictures a second, {flops / batch_size / 1e9:.3f} GFLOP each\n"
        f"{flops / seconds / 1e9:,.1f} of {limit / 1e9:,.1f} GFLOP a second that "
        f"matrix products reach here: {flops / seconds / limit:.0%}"
    )
    for row in profile_model(step, trace=trace)[:10]:
        print(
            f"{row['share']:6.1%} {row['ms']:9.2f} ms {row['calls']:6.0f} calls  "
            f"{row['operation']}"
        )
    if trace:
        print(f"the trace is in {trace}: open it at https://ui.perfetto.dev")
