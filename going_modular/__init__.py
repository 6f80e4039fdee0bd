# Written by tools/export.py: edit there, not here.
"""The library that the notebooks export.

utils: Seeds, the device, a tensor described in one line, weights saved and loaded.
plots: Every figure that the course draws twice.
data_setup: Toy data, data sets and the loaders that serve them in batches.
model_builder: The models of the course, from a straight line to a convolutional network.
vit: The Vision Transformer, part by part.
engine: The training loop: one step, one epoch, a whole training.
train: Training from the command line.
tracking: Experiments recorded, and compared.
predictions: From a picture to ranked class probabilities.
performance: Measuring speed, and the changes that improve it.
app: A trained model served to people.
__main__: The course as one command.
"""
