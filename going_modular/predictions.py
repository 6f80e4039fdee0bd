# Written by tools/export.py from 04_custom_datasets.ipynb: edit there, not here.
"""From a picture to ranked class probabilities."""

import matplotlib.pyplot as plt
import torch
from torchvision.transforms import v2

from going_modular.data_setup import read_picture
from going_modular.engine import check_device, model_mode
from going_modular.plots import class_probs


def pred_and_plot_image(model, image_path, class_names, image_size=(224, 224), transform=None, device=None):
    """Predict one photograph, draw it under the answer, and return [(class name, probability), ...], the surest first.

    model: from (1, 3, H, W) to logits (1, K), or one logit for two classes.  transform: from PIL image to (3, H, W);
    without one, resized to image_size (height, width; or one number for both) and float32 in 0..1, as in the course.
    device: that of the model by default.  Errors as for ``read_picture``; ValueError for a model on another device, for
    class names that do not fit its outputs, and for a transform that gives no tensor.
    """
    picture = read_picture(image_path)
    if transform is None:
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        transform = v2.Compose([v2.Resize(size), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    if device is None:
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    check_device(model, device)
    image = transform(picture)
    if not isinstance(image, torch.Tensor):
        kind = type(image).__name__
        raise ValueError(f"the transform gave a {kind}, not a tensor: end it with PILToTensor and ToDtype(float32)")
    with model_mode(model, training=False), torch.inference_mode():
        probs = class_probs(model(image[None].to(device)))[0].tolist()  # (C, H, W) -> (1, C, H, W) -> (1, K) -> (K,)
    if len(probs) != len(class_names):
        raise ValueError(f"the model knows {len(probs)} classes, but there are {len(class_names)} names: {class_names}")
    ranked = sorted(zip(class_names, probs, strict=True), key=lambda pair: -pair[1])
    _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    ax.imshow(picture)
    ax.set_title(f"{ranked[0][0]}: probability {ranked[0][1]:.2f}")
    ax.axis("off")
    return ranked
