# Written by tools/export.py: edit there, not here.
"""The library that the notebooks export.

base:
    config: A training described by one frozen object, and the file that keeps it.
    checkpoints: Whole files, and weights read without running code.
    utils: Seeds, the device, a tensor in one line, weights saved and loaded.
    plots: Figures of data and results.

data:
    datasets: Fashion-MNIST, read from its archives.
    archives: Zips, unpacked completely or not at all.
    pictures: Pictures: read safely, whatever they are, and found in folders.
    image_folder: The image-folder data set, and pictures that two folders share.
    data_setup: Transforms, and seeded loaders of image folders.
    folders: Data sets of pictures: where their parts are, and what is wrong.

networks:
    freezing: Which parts of a network stand still in a training.
    model_builder: From a straight line to pretrained networks.
    effnet: EfficientNet-Lite0: network, published weights, transform.
    vit: The Vision Transformer, part by part.
    networks: The networks by name: one entry makes a network known everywhere.

learning:
    metrics: What a batch was worth: exact means, accuracy, checks for mistakes.
    engine: The training loop: one step, one epoch, a whole training.
    schedules: Learning rate schedules, and parameter groups for weight decay.
    updates: Learning from a batch: half precision, micro-batches, compiled.
    distributed: Processes that train together.

running:
    trackers: Observers of a training's rows: TensorBoard, W&B, MLflow.
    runs: Runs in folders: a folder of its own for each, read back and compared.
    states: All that a training needs to go on: saved, read, restored.
    experiment: An experiment: set up from a config, run, kept, resumed.

doors:
    predictions: From a picture to ranked class probabilities.
    onnx_export: A model as an ONNX file, with 32 or 8 bits.
    evaluation: What a trained model is worth on pictures that it has not seen.
    guard: What keeps a page up: who is answered, for how long, what is kept.
    app: A trained model served to people.
    demo: A folder that serves a model anywhere.
    measure: Speed and cost of a training, measured.
    exports: A trained model written for elsewhere: ONNX, 8 bits, two folders.
    training: The command train: from a folder of pictures to results.
    commands: What subcommands do: check, evaluate, predict, serve, profile.
    __main__: The course as one command, ``python -m going_modular``.
    train: ``python -m going_modular.train``, a door that other courses know.
"""

import os
import signal
import sys

__version__ = "2.0.0"


def stop(*_: object) -> None:
    """End the program, which has begun nothing yet."""
    os.write(2, b"interrupted: nothing had begun\n")
    os._exit(130)


# python -m going_modular: an import that Ctrl-C breaks off fails in many ways.
if "-m" in sys.argv[:1] and callable(signal.getsignal(signal.SIGINT)):
    signal.signal(signal.SIGINT, stop)

# Scripts of other courses say `from going_modular.going_modular import engine`.
sys.modules[f"{__name__}.going_modular"] = sys.modules[__name__]
