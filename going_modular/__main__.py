# Written by tools/export.py from 10_performance.ipynb: edit there, not here.
"""The course as one command."""

import argparse
import contextlib
import dataclasses
import functools
import io
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import v2

from going_modular.data_setup import list_pictures, read_picture
from going_modular.model_builder import lite0_transform
from going_modular.performance import (
    ALONE,
    PRECISIONS,
    Shard,
    Updater,
    benchmark,
    check_sizes,
    compile_model,
    count_flops,
    matmul_rate,
    mean_row,
    process_group,
    profile_model,
)
from going_modular.predictions import Predictor, build_architecture, read_model_config
from going_modular.tracking import BACKBONES, TRACKERS, Tracker
from going_modular.train import (
    MODELS,
    OneLineParser,
    TrainConfig,
    Training,
    add_options,
    add_run_options,
    best_row,
    best_sentence,
    config_of,
    exit_status,
    option,
    run,
    setup_training,
)
from going_modular.utils import get_device, read_checkpoint, set_seeds, whole_file

WITH_MORE = MODELS | {
    "effnet_lite0": BACKBONES["effnet_lite0"],
    "vit": lambda config, num_classes, channels=3: build_architecture(dataclasses.asdict(config), num_classes)[0],
}


@dataclass(frozen=True)
class CourseConfig(TrainConfig):
    """A TrainConfig with all models of the course, and with what lesson 10 adds.  Raises ValueError as it does."""

    models = WITH_MORE
    may_change = (*TrainConfig.may_change, "accumulate", "compile", "tracker")
    model: str = option("tinyvgg", f"one of {', '.join(WITH_MORE)}; effnet_lite0 knows ImageNet, its head is trained")
    batch_size: int = option(32, "pictures a step, in each process")
    patch_size: int = option(8, "vit: pixels a side of a patch")
    embed_dim: int = option(64, "vit: length of a token's vector")
    depth: int = option(4, "vit: blocks")
    num_heads: int = option(4, "vit: heads of attention")
    mlp_dim: int = option(128, "vit: hidden units of a block's MLP")
    precision: str = option("fp32", f"one of {', '.join(PRECISIONS)}")
    accumulate: int = option(
        1, "parts in which a batch is worked through: less memory, the same result, but for batch norm"
    )
    compile: bool = option(False, "compile the model first: takes seconds to minutes, pays in long trainings")
    tracker: str = option(
        "none", f"one of {', '.join(TRACKERS)}: writes to the folder tracking in --out, wandb offline"
    )

    def __post_init__(self):
        super().__post_init__()
        Updater(self.precision, self.accumulate)  # raises for what it does not take
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}: a batch of {self.batch_size} has no more parts than pictures"
            )
        if self.tracker not in TRACKERS:
            raise ValueError(f"unknown tracker {self.tracker!r}: choose one of {', '.join(TRACKERS)}")
        if self.model == "vit":
            with torch.device("meta"):
                self.models["vit"](self, 2)


@dataclass(frozen=True)
class TrackedConfig(CourseConfig):
    """The config of a run that is tracked, with where it is recorded: what a ``Tracker`` needs."""

    log_dir: str = option("", "set from --out")
    name: str = option("", "set from --out")
    address: str = option("", "of a W&B or MLflow server; empty: files in log_dir")


def open_tracker(config, out):
    """Return the Tracker of a run, in out/tracking, with the epochs before a resumption logged again."""
    place = {"log_dir": str(Path(out) / "tracking"), "name": "run"}
    tracker = Tracker(TrackedConfig(**dataclasses.asdict(config), **place))
    if (Path(out) / "last.pt").exists():
        for row in read_checkpoint(Path(out) / "last.pt")["rows"]:
            log_row(tracker, row)
    return tracker


def log_row(tracker, row):
    """Log an epoch's row of results."""
    tracker.log({name: value for name, value in row.items() if name != "epoch"}, step=row["epoch"])


def forward_of(model, config, group, device):
    """Return what is called in place of the model: that compiled, or in DistributedDataParallel, or both."""
    if config.compile:
        model = compile_model(model, device)
    return DistributedDataParallel(model) if group.size > 1 else model


def setup_course(config, device, *, group=ALONE, tracker=None):
    """Return the Training that a CourseConfig describes, for this process of a group.  Errors as ``setup_training``.

    tracker: called without arguments, when all else stands, for the Tracker that gets every epoch's row.
    """
    training = setup_training(config, device)
    loaders = training.train_dataloader, training.valid_dataloader
    if config.model == "effnet_lite0":
        for data in (loader.dataset for loader in loaders):
            data.transform = v2.Compose([data.transform, lite0_transform(config.image_size)])
    check_sizes(group, config.batch_size, *(len(loader.dataset) for loader in loaders))
    shards = [Shard(loader, group) for loader in loaders]
    forward = forward_of(training.model, config, group, device)
    update = Updater(config.precision, config.accumulate, device, forward=forward, group=group)
    tracker = tracker() if tracker and group.rank == 0 else None

    def finish_row(row):
        counts = dict(zip(("train", "valid"), (shard.count for shard in shards), strict=True))
        row = mean_row(row, group, counts, device)
        if tracker:
            log_row(tracker, row)
        return row

    return Training(*shards, *training[2:6], update, finish_row, is_main=group.rank == 0)


def group_config(options, group):
    """Return the CourseConfig that the options describe for a group of processes: it counts the pictures of all."""
    if "batch_size" in options or "resume" not in options:
        per_process = options.get("batch_size", CourseConfig.batch_size)
        options = options | {"batch_size": per_process * group.size}
    return config_of(options, CourseConfig)


def train_in_group(options, group):
    """Train as the options say, as one of the processes of a group."""
    out = Path(options["out"])
    if out.is_file():
        raise ValueError(f"{out} is a file: choose a folder as --out")
    config = group_config(options, group)
    with contextlib.ExitStack() as stack:
        tracker = None if config.tracker == "none" else lambda: stack.enter_context(open_tracker(config, out))
        setup = functools.partial(setup_course, group=group, tracker=tracker)
        rows = run(config, out, resume="resume" in options, setup=setup)
    if group.rank == 0:
        print(best_sentence(rows, config, out))
        num_classes = len(read_model_config(out / "config.json")["class_names"])
        if best_row(rows)["valid_acc"] < 1.2 / num_classes:
            print(
                f"With {num_classes} classes that is no better than guessing: try --model effnet_lite0 --image-size 160"
            )


def train_command(options):
    """Train as the options say, alone or with the other processes that torchrun started."""
    try:
        with process_group() as group:
            train_in_group(options, group)
    except ConnectionAbortedError as error:
        last = Path(options["out"]) / "last.pt"
        epochs = read_checkpoint(last)["epoch"] if last.exists() else 0
        raise ConnectionAbortedError(f"{error}; epochs kept in {last.parent}: {epochs}; go on with --resume") from None
    except KeyboardInterrupt:
        if int(os.environ.get("RANK", 0)) > 0:
            sys.exit(130)  # the first process says it, for all
        raise


def predict_command(options):
    """Print the three likeliest classes of each picture. Raises ValueError, at the end, where some cannot be read."""
    predictor, broken = Predictor.load(options["run"], get_device()), 0
    sources = [
        path for name in options["pictures"] for path in (list_pictures(name) if Path(name).is_dir() else [name])
    ]
    for source in sources:
        try:
            ranked = predictor(source)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            broken += 1
        else:
            print(f"{source}: {', '.join(f'{name} {prob:.3f}' for name, prob in ranked[:3])}")
    if broken:
        raise ValueError(f"{broken} of {len(sources)} pictures could not be read")


def serve_command(options):
    """Serve a trained model as a page, until Ctrl-C."""
    from going_modular.app import build_app, serve  # here: gradio takes seconds to import

    examples = options.get("examples", [])
    for path in examples:
        read_picture(path)  # raises for a broken one
    app, port = build_app(Predictor.load(options["run"]), examples), options.get("port")
    try:
        serve(app, port=port)
    except OSError:
        if port is None:
            raise  # gradio says which ports it tried
        raise OSError(f"port {port} is taken: choose another --port") from None


EXPORTS = {"onnx": "model.onnx", "int8": "model_int8.onnx", "demo": "demo"}  # format -> name in the run's folder
PIXELS = {"effnet_lite0": "(pixel - 127) / 128"}  # what a model wants; all others pixel / 255


def some_pictures(folder, count):
    """Return the paths of up to ``count`` pictures, taken evenly from a folder and those within."""
    paths = list_pictures(folder)
    return paths[:: max(len(paths) // count, 1)][:count]


def calibration_batches(predictor, data):
    """Return batches (32, 3, H, W) of up to 128 training pictures, from data/train."""
    chosen = some_pictures(data / "train", 128)
    return torch.stack([predictor.transform(read_picture(path)) for path in chosen]).split(32)


def write_export(form, predictor, target, data):
    """Write a Predictor as ``target``, in a format of EXPORTS; data: the folder with train/ and valid/."""
    from going_modular.app import build_demo, export_onnx, quantize

    size = predictor.config["image_size"]
    if form == "demo":
        build_demo(target, predictor, some_pictures(data / "valid", 3) if (data / "valid").is_dir() else ())
    elif form == "onnx":
        export_onnx(predictor.model, target, size)
    else:
        batches = calibration_batches(predictor, data)
        with tempfile.TemporaryDirectory() as folder:
            quantize(export_onnx(predictor.model, Path(folder) / "model.onnx", size), target, batches)


def export_command(options):
    """Write a trained model as an ONNX file, one of 8 bits, or a folder ready to host, and print what it needs."""
    run, form = Path(options["run"]), options.get("format", "onnx")
    predictor, target = Predictor.load(run), Path(options.get("to") or run / EXPORTS[form])
    if "to" in options and target.exists():
        raise FileExistsError(f"{target} is there already: choose another --to")
    write_export(form, predictor, target, Path(options.get("data") or predictor.config.get("data", "data")))
    written = sum(path.stat().st_size for path in [target, *target.rglob("*")] if path.is_file())
    print(f"{target}: {written / 1e6:.2f} MB")
    if form != "demo":
        size, names = predictor.config["image_size"], ", ".join(predictor.class_names)
        pixels = PIXELS.get(predictor.config["model"], "pixel / 255")
        print(f"in: images (B, 3, {size}, {size}) float32, RGB, {pixels}; out: logits of {names}")


PROFILED = (
    "model",
    "hidden_units",
    "image_size",
    "batch_size",
    "patch_size",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_dim",
    "precision",
    "accumulate",
    "compile",
)


def profile_command(options):
    """Print how fast a model trains here, the share of the machine's limit, and the operations that take longest."""
    trace, num_classes = options.pop("trace", None), 10
    config, device = CourseConfig(**options), get_device()
    if trace:
        with whole_file(trace):
            pass  # raises, before the work, where it cannot be written
    set_seeds(config.seed)
    model = config.models[config.model](config, num_classes).to(device)
    images = torch.rand(config.batch_size, 3, config.image_size, config.image_size)
    labels = torch.randint(num_classes, (config.batch_size,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    update = Updater(config.precision, config.accumulate, device, forward=forward_of(model, config, ALONE, device))

    def step():
        update(model, images, labels, nn.CrossEntropyLoss(), optimizer, device)

    model.train()
    seconds = benchmark({"step": step}, device=device)["step"].median
    passes = 3 if next(model.parameters()).requires_grad else 1  # backward is two more, but not through frozen layers
    flops = passes * count_flops(model, images.to(device)) / config.batch_size
    limit = matmul_rate(device, PRECISIONS[config.precision])
    rate = config.batch_size / seconds
    print(
        f"{config.model} on {device}, {config.precision}: {rate:,.0f} pictures a second, {flops / 1e9:.3f} GFLOP each"
    )
    print(
        f"{rate * flops / 1e9:,.1f} of {limit / 1e9:,.1f} GFLOP a second that matrix products reach here: "
        f"{rate * flops / limit:.0%}"
    )
    rows = profile_model(step, trace=trace)
    if trace:
        print(f"the trace is in {trace}: open it at https://ui.perfetto.dev")
    for row in rows[:10]:
        print(f"{row['share']:6.1%} {row['ms']:9.2f} ms {row['calls']:6.0f} calls  {row['operation']}")


TRAIN_HELP = """
DATA holds train/CLASS/*.png and valid/CLASS/*.png, a folder for each class; jpg and others do as well. The best answers
from few pictures: --model effnet_lite0 --image-size 160. Two processes, which train as one with twice the batch:
torchrun --nproc-per-node 2 -m going_modular train ... Ctrl-C keeps the finished epochs, --resume goes on with them.
The results are in --out: then predict, export, serve."""


EXPORT_HELP = """
onnx: one file for onnxruntime; what goes in and out is printed. int8: the same in 8 bits, a large
model's a quarter of the size. demo: a folder with app, weights and Dockerfile, ready to host."""


def port_number(text):
    """Return a port, an int from 1 to 65535. Raises ArgumentTypeError."""
    if not (text.isdecimal() and 1 <= int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: choose a number from 1 to 65535")
    return int(text)


def build_course_parser():
    """Return the parser of ``python -m going_modular``."""
    parser = OneLineParser(prog="python -m going_modular", description="The course as one command. In this order:")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name, command, help, epilog=None):
        text = f"{help[0].upper()}{help[1:]}."
        added = commands.add_parser(
            name, help=help, description=text, epilog=epilog, argument_default=argparse.SUPPRESS
        )
        added.set_defaults(command=command)
        return added

    train = add("train", train_command, "train a classifier on a folder of pictures", TRAIN_HELP)
    add_options(train, CourseConfig)
    add_run_options(train)
    predict = add("predict", predict_command, "say what is in pictures")
    predict.add_argument("run", help="folder of a training, such as runs/first")
    predict.add_argument("pictures", nargs="+", help="files, folders, or addresses that begin with http")
    serve = add("serve", serve_command, "serve a trained model as a page, for this machine alone")
    serve.add_argument("run", help="folder of a training, such as runs/first")
    serve.add_argument("--port", type=port_number, metavar="int", help="default: the first that is free from 7860 on")
    serve.add_argument("--examples", nargs="+", metavar="PICTURE", help="pictures to try, shown below the page")
    export = add("export", export_command, "write a trained model for elsewhere", EXPORT_HELP)
    export.add_argument("run", help="folder of a training, such as runs/first")
    export.add_argument("--format", choices=EXPORTS, help="default: onnx")
    export.add_argument("--to", help="file, or for a demo a folder, to write (default: in the training's folder)")
    export.add_argument("--data", help="int8, demo: folder with train/ and valid/ (default: that of the training)")
    profile = add("profile", profile_command, "measure how fast a model trains here, and where the time goes")
    add_options(profile, CourseConfig, PROFILED)
    profile.add_argument("--trace", help="file for a trace, .json: open it at https://ui.perfetto.dev")
    return parser


def command_line(arguments=None):
    """Do what the command line says, and return the exit status: 0, 1 for NaN, 2 for bad input, 130 for Ctrl-C."""
    others = io.StringIO() if int(os.environ.get("RANK", 0)) > 0 else sys.stderr
    with contextlib.redirect_stderr(others):  # what is wrong with the arguments, one process of a group says for all
        options = vars(build_course_parser().parse_args(arguments))
    return exit_status(options.pop("command"), options)


if __name__ == "__main__" and "__file__" in globals():
    sys.exit(command_line())
