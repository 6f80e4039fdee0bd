"""Checks of notebook 09: a page, a file, a threshold, an export, eight bits."""

import copy
import io
import math
import os
import random
import string
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from exercises import Wrong, capstone, exercise


def _picture() -> Image.Image:
    """Return a small picture of one color, which names it."""
    return Image.new("RGB", (24, 16), tuple(random.choices(range(256), k=3)))


def _words(count: int) -> list[str]:
    return ["".join(random.sample(string.ascii_lowercase, 6)) for _ in range(count)]


class _Ranker:
    """A predictor that knows four classes, and answers each picture otherwise."""

    def __init__(self):
        self.names = _words(4)
        self.asked: list[Any] = []

    def __call__(self, picture: Any) -> list[tuple[str, float]]:
        self.asked.append(picture)
        if not isinstance(picture, Image.Image):
            raise TypeError(f"it was given a {type(picture).__name__}, no PIL picture")
        color: Any = picture.convert("RGB").getpixel((0, 0))
        probs = torch.tensor([*color, 90.0]).mul(0.02).softmax(dim=0).tolist()
        pairs = zip(self.names, probs, strict=True)
        return sorted(pairs, key=lambda pair: -pair[1])


def _ask(url: str, path: Path) -> Any:
    """Return what a page says of a picture, asked as a program asks."""
    from gradio_client import Client, handle_file

    try:
        client = Client(url, verbose=False)
        return client.predict(handle_file(path), api_name="/predict")
    except Exception as error:  # whatever the page says
        raise Wrong(
            f"a program that asked your page was told: {str(error)[:200]}",
            "the input is gr.Image(type='pil'), the function takes one picture and "
            "returns a dict, and api_name='predict' is what programs call.",
        ) from None


@exercise("09.1", "A page of your own")
def check_make_page(make_page: Callable) -> None:
    import gradio as gr

    ranker = _Ranker()
    page = make_page(ranker)
    if not isinstance(page, gr.Blocks):
        raise Wrong(
            f"your function returned {type(page).__name__}, no page",
            "return the gr.Interface itself, not what launch() gives.",
        )
    if page.is_running:
        page.close(verbose=False)
        raise Wrong(
            "your page is launched already",
            "return the page as gr.Interface makes it; the check launches it.",
        )
    if getattr(page, "flagging_mode", "never") != "never":
        raise Wrong(
            "your page keeps visitors' pictures, or has a button for it",
            'flagging_mode="never" takes it away.',
        )
    options: Any = {"share": False, "inline": False, "ssr_mode": False, "quiet": True}
    options["show_error"] = True  # tells what the function raised
    with tempfile.TemporaryDirectory() as folder:
        try:
            _, url, _ = page.launch(prevent_thread_lock=True, **options)
            for number in range(2):
                path, picture = Path(folder) / f"{number}.png", _picture()
                picture.save(path)
                _check_bars(_ask(url, path), ranker, picture)
        finally:
            page.close(verbose=False)


def _check_bars(answer: Any, ranker: _Ranker, picture: Image.Image) -> None:
    """Raise Wrong if an answer is not the three most likely classes, as bars."""
    expected = ranker(picture)
    if not isinstance(answer, dict) or not answer.get("confidences"):
        raise Wrong(
            f"your page answered {str(answer)[:100]!r}, without bars",
            "give gr.Label a dict: {class name: probability}.",
        )
    bars = {bar["label"]: bar["confidence"] for bar in answer["confidences"]}
    top = dict(expected[:3])
    if bars.keys() != top.keys():
        raise Wrong(
            f"your page shows bars for {sorted(bars)}; the three most likely classes "
            f"are {sorted(top)}",
            "gr.Label has an argument for how many classes it shows."
            if len(bars) != 3
            else "three is right: are they the first of this picture's own ranking?",
        )
    far = [name for name in bars if abs(bars[name] - top[name]) > 1e-4]
    if far:
        raise Wrong(
            f"your page says {far[0]} {bars[far[0]]:.3f}, and the predictor "
            f"{top[far[0]]:.3f}",
            "ask the predictor about each visitor's picture anew, and leave its "
            "probabilities as they are: no rounding, no scaling.",
        )


class _Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _small_network() -> nn.Module:
    size = random.randint(4, 9)
    return nn.Sequential(
        nn.Linear(size, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)
    )


@exercise("09.2", "A stranger's file")
def check_load_weights(load_weights: Callable) -> None:
    model = _small_network()
    other = copy.deepcopy(model)
    nn.init.normal_(other[0].weight)
    untouched = copy.deepcopy(model)  # differs from every file, also from its parts
    good = other.state_dict()
    lacking = {name: value for name, value in good.items() if "3" not in name}
    nan = good | {"0.bias": torch.full((5,), torch.nan)}
    infinite = good | {"1.running_var": torch.full((5,), math.inf)}
    bad = {
        "a file that runs code": None,
        "a file without the last layer": lacking,
        "a file with an entry too many": good | {"more": torch.ones(2)},
        "a file whose layer has another shape": good | {"3.weight": torch.ones(4, 5)},
        "a file whose layer lies on its side": good | {"3.weight": torch.ones(5, 3)},
        "half a file": None,
        "a file with NaN in it": nan,
        "a file with infinity in it": infinite,
    }
    with tempfile.TemporaryDirectory() as folder:
        path, trace = Path(folder) / "weights.pt", Path(folder) / "it_ran"
        torch.save(good, path)
        answer = load_weights(model, path)
        state = getattr(answer, "state_dict", dict)()
        same = state.keys() == good.keys() and all(
            torch.equal(state[name], good[name]) for name in good
        )
        if not same:
            raise Wrong(
                f"of a good file your function returned {type(answer).__name__}, "
                "without the file's weights",
                "load_state_dict puts them into the model; return the model.",
            )
        for what, content in random.sample(list(bad.items()), len(bad)):
            if what == "a file that runs code":
                content = good | {"0.bias": _Trap(trace)}
            torch.save(content or good, path)
            if what == "half a file":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            fresh = copy.deepcopy(untouched)
            before = {k: v.clone() for k, v in fresh.state_dict().items()}
            answer = "no error"
            try:
                load_weights(fresh, path)
            except ValueError:
                answer = None
            except Exception as error:
                answer = error
            if trace.exists():
                raise Wrong(
                    "your function ran the code in a stranger's file: a folder is "
                    "there that was not",
                    "torch.load has an argument for that.",
                )
            if isinstance(answer, Exception):
                raise Wrong(
                    f"at {what} your function raised {type(answer).__name__}",
                    "whatever is wrong with a file, raise a ValueError: catch what "
                    "torch raises, and compare names and shapes before you use them.",
                )
            if answer is not None:
                raise Wrong(
                    f"your function raised no error at {what}",
                    "raise ValueError: for what cannot be loaded, and for numbers that "
                    "are not finite (torch.isfinite).",
                )
            after = fresh.state_dict()
            if any(not torch.equal(after[name], before[name]) for name in before):
                raise Wrong(
                    f"{what} was refused, and the model's weights were changed",
                    "look at all that the file holds first, and load then. "
                    "load_state_dict fills what it can before it complains.",
                )


def _smallest_threshold(
    probs: torch.Tensor, labels: torch.Tensor, wanted: float
) -> float:
    best, guesses = probs.max(dim=1)
    for threshold in best.sort().values:
        if (guesses == labels)[best >= threshold].double().mean() >= wanted:
            return threshold.item()
    return math.inf


def _answers(
    size: int, classes: int, digits: int, wanted: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (probs, labels): surer answers are right more often; there are ties.

    No share of right answers equals ``wanted``: rounding is for a case of its own.
    """
    while True:
        probs = (2.5 * torch.randn(size, classes, dtype=torch.float64)).softmax(dim=1)
        labels = probs.multinomial(1)[:, 0]
        probs = ((probs * 10**digits).round() / 10**digits).float()
        best, guesses = probs.max(dim=1)
        is_right = (guesses == labels).double()
        shares = torch.stack([is_right[best >= t].mean() for t in best])
        if ((shares - wanted).abs() > 1e-6).all():
            return probs, labels


@exercise("09.3", "Not sure")
def check_choose_threshold(choose_threshold: Callable) -> None:
    ties = torch.tensor([[0.9, 0.1], [0.75, 0.25], [0.75, 0.25], [0.25, 0.75]])
    never = torch.tensor([[0.5, 0.5], [0.75, 0.25]])
    sure_and_wrong = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    ten = torch.linspace(0.51, 0.96, 10)  # the second of them will be wrong
    nine_of_ten = torch.stack([ten, 1 - ten], dim=1)
    cases = [
        (ties, torch.tensor([0, 0, 1, 1]), 0.8),
        (ties, torch.tensor([0, 0, 0, 1]), 1.0),
        (never, torch.tensor([1, 1]), 0.9),
        (sure_and_wrong, torch.tensor([1, 0, 0, 0]), 0.7),
        (nine_of_ten, (torch.arange(10) == 1).long(), 0.9),
    ]
    cases += [
        (*_answers(random.randint(150, 250), classes, digits, wanted), wanted)
        for classes, digits, wanted in [(3, 2, 0.9), (3, 4, 0.95), (5, 2, 0.8)] * 2
    ]
    for probs, labels, wanted in cases:
        expected = _smallest_threshold(probs, labels, wanted)
        given = probs.clone(), labels.clone()
        answer = choose_threshold(*given, wanted)
        if not (torch.equal(given[0], probs) and torch.equal(given[1], labels)):
            raise Wrong(
                "your function changed probs or labels",
                "operations that end with an underscore work in place.",
            )
        if isinstance(answer, torch.Tensor) and answer.numel() == 1:
            answer = answer.item()
        if not isinstance(answer, int | float):
            raise Wrong(
                f"your function returned {type(answer).__name__}",
                "return one number, the threshold; .item() makes it one.",
            )
        case = f"for {len(probs)} answers, wanted {wanted}:"
        best, guesses = probs.max(dim=1)
        if math.isinf(expected):
            if answer != math.inf:
                raise Wrong(
                    f"{case} you returned {answer:.3f}, and no threshold does it",
                    "return math.inf: such a page is never sure.",
                )
            continue
        kept = best >= answer
        right = (guesses == labels)[kept].double().mean().item()
        if not kept.any():
            raise Wrong(
                f"{case} at your threshold {answer:.4f} the page never answers, and "
                f"{expected:.4f} would do",
                "try the highest probabilities themselves as thresholds, from the "
                "smallest up, and take the first that does it. A share of exactly "
                "`wanted` does it.",
            )
        if right < wanted:
            raise Wrong(
                f"{case} at your threshold {answer:.4f} the page answers "
                f"{int(kept.sum())} times and is right in {right:.3f} of them",
                "an answer is given where the highest probability is at least the "
                "threshold; count all of those, also the ties.",
            )
        if probs is nine_of_ten and kept.sum() == 8:  # the next that does it
            raise Wrong(
                f"{case} at your threshold {answer:.4f} the page answers 8 times; "
                f"with {expected:.4f} it answers 10 times, and 9 of them are right",
                "9 of 10 is 0.9. A float32 mean made into a Python float is "
                "0.89999998: count, or compare as tensors.",
            )
        if not torch.equal(kept, best >= expected):
            raise Wrong(
                f"{case} at your threshold {answer:.8g} the page answers "
                f"{int(kept.sum())} times; with {expected:.8g} it answers "
                f"{int((best >= expected).sum())} times, and that often enough right",
                "try the highest probabilities themselves as thresholds, from the "
                "smallest up, and take the first that does it.",
            )


class _Plain(nn.Module):
    """A network with batch norm that adds noise in training, for one picture size."""

    def __init__(self, size: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3 * size * size, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = self.norm(images)
        if self.training:
            images = images + torch.randn_like(images)
        return self.head(images.flatten(1))


@exercise("09.4", "To ONNX")
def check_to_onnx(to_onnx: Callable) -> None:
    from onnxruntime import InferenceSession

    size = random.randint(6, 10)
    model = _Plain(size)
    with torch.no_grad():  # a pass in training mode moves its running statistics
        model.train()(3 + 2 * torch.randn(8, 3, size, size))
    model.norm.eval()  # frozen, as lesson 06 does it
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a model in training mode
        path = Path(folder) / "model.onnx"
        to_onnx(model, path, size)
        if not (model.training and model.head.training):
            raise Wrong(
                "a model or layer in training mode came back in evaluation mode",
                "export a copy.deepcopy of it, or put it back.",
            )
        if model.norm.training:
            raise Wrong(
                "a batch norm in evaluation mode came back in training mode",
                "train() switches every layer, also those that were frozen; a "
                "copy.deepcopy leaves all of them alone.",
            )
        found = sorted(each.name for each in Path(folder).iterdir())
        if found != ["model.onnx"]:
            raise Wrong(
                f"in the folder is {found or 'nothing'}, wanted is model.onnx alone",
                "program.save(path) writes one file.",
            )
        session: Any = InferenceSession(path.read_bytes())
    names = [session.get_inputs()[0].name], [session.get_outputs()[0].name]
    if names != (["images"], ["logits"]):
        raise Wrong(
            f"the file's input and output are called {names[0][0]} and {names[1][0]}",
            'they shall be "images" and "logits".',
        )
    model.eval()
    for batch in random.sample([1, 2, 5, 8], 3):
        images = 3 + 2 * torch.randn(batch, 3, size, size)
        try:
            (answer,) = session.run(None, {"images": images.numpy()})
        except Exception as error:
            raise Wrong(
                f"asked about {batch} pictures, the file raised {type(error).__name__}",
                "dynamic_shapes says which axis may have any length: axis 0.",
            ) from None
        with torch.inference_mode():
            expected = model(images)
        answer = torch.from_numpy(answer)
        if answer.shape != expected.shape:
            raise Wrong(
                f"for {batch} pictures the file answers {tuple(answer.shape)}, not "
                f"{tuple(expected.shape)}",
                "dynamic_shapes says which axis may have any length: axis 0.",
            )
        if not torch.allclose(answer, expected, atol=1e-3):
            raise Wrong(
                f"the file's logits are up to {(answer - expected).abs().max():.2g} "
                "away from the model's in evaluation mode",
                "which mode was the model in when it was exported? A model may do "
                "something else in training: dropout, batch norm, noise.",
            )


def _rounded(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return a weight rounded to steps of its own for each output channel."""
    most = 2 ** (bits - 1) - 1
    largest = weight.abs().flatten(1).amax(dim=1)
    scale = torch.where(largest == 0, 1.0, largest / most)
    scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
    return (weight / scale).round() * scale


@exercise("09.5", "Fewer bits")
def check_round_weights(round_weights: Callable) -> None:
    for bits in random.sample([8, 7, 4, 3], 4):
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6)),
            nn.LayerNorm([6, 4, 4]),  # its weight has several axes, too
            nn.Flatten(),
            nn.Linear(6 * 4 * 4, 5),
        )
        with torch.no_grad():
            chosen: Any = (model[0], model[2][1], model[5])
            for layer in chosen:
                shape = [-1, *[1] * (layer.weight.dim() - 1)]
                layer.weight *= 10 ** torch.randn(len(layer.weight)).reshape(shape)
                largest = layer.weight.abs().flatten(1).amax(dim=1).reshape(shape)
                parts = (layer.weight / largest * (2 ** (bits - 1) - 1)).frac().abs()
                layer.weight[(parts - 0.5).abs() < 0.01] = 0  # may round either way
            model[0].weight[random.randrange(6)] = 0
            model[1].weight.normal_()
            model[3].weight.normal_()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        answer = round_weights(model, bits)
        if not isinstance(answer, nn.Module):
            raise Wrong(
                f"your function returned {type(answer).__name__}",
                "return a network: copy.deepcopy makes one to change.",
            )
        after = model.state_dict()
        if any(not torch.equal(after[name], before[name]) for name in before):
            raise Wrong(
                "your function changed the model that it was given",
                "change a copy.deepcopy of it.",
            )
        _check_rounded(answer.state_dict(), before, bits)


def _check_rounded(
    found: dict[str, torch.Tensor], before: dict[str, torch.Tensor], bits: int
) -> None:
    most = 2 ** (bits - 1) - 1
    for name, value in before.items():
        if name in ("0.weight", "2.1.weight", "5.weight"):
            value = _rounded(value, bits)
        if name not in found or found[name].shape != value.shape:
            raise Wrong(
                f"the entry {name} is missing, or of another shape",
                "keep every layer as it is, and change its numbers.",
            )
        got = found[name]
        if not got.isfinite().all():
            raise Wrong(
                f"with {bits} bits {name} holds NaN",
                "a channel of zeros has the scale 0: divide it by 1 instead.",
            )
        step = value.abs().flatten(1).amax(1) / most if value.dim() > 1 else None
        if torch.allclose(got, value, rtol=1e-4, atol=1e-6):
            continue
        if step is None or name not in ("0.weight", "2.1.weight", "5.weight"):
            raise Wrong(
                f"{name} was changed",
                "round the weights of Conv2d and Linear, and nothing else.",
            )
        if torch.equal(got, before[name]):
            inside = ": a layer inside a block was not rounded"
            raise Wrong(
                f"with {bits} bits, {name} came back as it was"
                + inside * (name == "2.1.weight"),
                "children() are the outermost layers alone; modules() finds them all. "
                "Conv2d and Linear are both rounded, and what comes out is written "
                "into the copy's weight.",
            )
        k = (got - value).abs().flatten(1).amax(1).div(step + 1e-9).argmax()
        off = ((got[k] - value[k]).abs().max() / (step[k] + 1e-9)).item()
        raise Wrong(
            f"with {bits} bits, a weight in channel {k} of {name} is {off:.1f} steps "
            f"of {step[k]:.2g} away from its rounded value",
            "an output channel's scale is its largest absolute weight / "
            f"(2 ** (bits - 1) - 1), here {most}; divide, round, multiply.",
        )


SHAPES = ("disc", "square", "cross", "stripes")
TO_BEAT = 45_000  # bytes
AGREE = 0.95


def draw_shapes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (images (N, 3, 32, 32), labels (N,)): one of four shapes, and noise."""
    labels = torch.randint(0, 4, (count,))
    size = torch.rand(count, 1, 1) * 5 + 5
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    middle = torch.rand(2, count, 1, 1) * 12 + 10
    dx, dy = (x - middle[0]).abs(), (y - middle[1]).abs()
    inside = torch.maximum(dx, dy) < size
    masks = torch.stack(
        [
            dx**2 + dy**2 < (1.12 * size) ** 2,
            inside,
            inside & (torch.minimum(dx, dy) < size / 3),
            inside & ((dx % 4) < 2),
        ]
    )
    mask = masks[labels, torch.arange(count)].unsqueeze(1).float()
    color = torch.rand(count, 3, 1, 1)
    images = torch.where(mask > 0, color, (color + 0.5) % 1)  # never alike
    return (images + 0.05 * torch.randn(count, 3, 32, 32)).clamp(0, 1), labels


def make_large_network(steps: int = 300) -> nn.Module:
    """Return the network of the challenge, trained: 120,000 weights."""
    layers: list[nn.Module] = []
    for into, out in ((3, 40), (40, 80), (80, 128)):
        layers += [nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(out), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 4)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(steps):
        images, labels = draw_shapes(64)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _score(pack: Callable) -> tuple[int, float, int]:
    """Return (bytes of the file, share of equal answers, bytes of the weights)."""
    from onnxruntime import InferenceSession

    model = make_large_network()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    weights = io.BytesIO()
    torch.save(state, weights)
    images, fresh = draw_shapes(2_000)[0], draw_shapes(1_000)[0]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "small.onnx"
        pack(copy.deepcopy(model), images, path)
        if not path.exists():
            raise Wrong("there is no file at path", "write one ONNX file to `path`.")
        size = path.stat().st_size
        try:
            session: Any = InferenceSession(path.read_bytes())
        except Exception as error:
            raise Wrong(
                f"the file does not open by itself: {str(error)[:150]}",
                "write one ONNX file with its weights in it, not beside it.",
            ) from None
    with torch.inference_mode():
        wanted = model(fresh).argmax(dim=1)
    try:
        one = session.run(["logits"], {"images": fresh[:1].numpy()})[0]
        many = session.run(["logits"], {"images": fresh.numpy()})[0]
    except Exception as error:
        raise Wrong(
            f"asked about one picture, then 1,000, the file said: {str(error)[:150]}",
            'its input is "images", (N, 3, 32, 32) for any N, its output "logits".',
        ) from None
    if one.shape != (1, 4) or many.shape != (1_000, 4):
        raise Wrong(
            f"the file answers {one.shape} and {many.shape}",
            "wanted are logits (1, 4) for one picture and (1000, 4) for 1,000.",
        )
    same = (torch.from_numpy(many).argmax(dim=1) == wanted).double().mean().item()
    return size, same, len(weights.getvalue())


@capstone("09", "A small file")
def check_pack(pack: Callable) -> str:
    size, same, whole = _score(pack)
    score = (
        f"Your file has {size:,} bytes, the weights had {whole:,}; {same:.1%} of 1,000 "
        f"answers are the large network's. To beat: {TO_BEAT:,} bytes, with {AGREE:.0%}"
    )
    if same < AGREE:
        raise Wrong(
            score,
            "too many answers changed. Did you calibrate with pictures? If you trained "
            "a smaller network: longer, and on the large one's probabilities.",
        )
    if size >= TO_BEAT:
        raise Wrong(
            score,
            "8 bits make a quarter of it. What is left are channels that the task does "
            "not need: a smaller network can learn the large one's answers.",
        )
    return score + "."
