"""Plausible wrong answers to the exercises of notebook 09: every one must be graded "wrong", with a hint."""

PAGE = """\
def make_page(predictor):
    return gr.Interface(
        lambda picture: dict(predictor(picture)),
        gr.Image(type="pil"),
        gr.Label(num_top_classes=3),
        api_name="predict",
        flagging_mode="never",
    )
"""
LOAD = """\
def load_weights(model, path):
    def shapes(state):
        return {name: value.shape for name, value in state.items()}

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = shapes(state)
    except Exception as error:
        raise ValueError(f"{path} holds more than weights") from error
    if found != shapes(model.state_dict()):
        raise ValueError(f"{path} holds the weights of another model")
    if not all(value.isfinite().all() for value in state.values()):
        raise ValueError(f"{path} holds numbers that are not finite")
    model.load_state_dict(state)
    return model
"""
THRESHOLD = """\
def choose_threshold(probs, labels, wanted):
    best, guesses = probs.max(dim=1)
    is_right = (guesses == labels).double()
    for threshold in best.sort().values:
        if is_right[best >= threshold].mean() >= wanted:
            return threshold.item()
    return math.inf
"""
EXPORT = """\
def to_onnx(model, path, size):
    program = torch.onnx.export(
        copy.deepcopy(model).eval(),
        (torch.zeros(2, 3, size, size),),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),
    )
    program.save(path)
"""
ROUND = """\
def round_weights(model, bits):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                weight = layer.weight
                scale = weight.abs().flatten(1).amax(dim=1) / (2 ** (bits - 1) - 1)
                scale[scale == 0] = 1
                scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
                weight.copy_((weight / scale).round() * scale)
    return model
"""
PACK = """\
def pack(model, images, path):
    torch.onnx.export(
        model,
        (images[:2],),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),
    ).save(path)
"""


def changed(source, *pairs):
    """Return source with parts replaced, each of which must be there."""
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


WRONG = {
    "09.1": [
        # all classes
        changed(PAGE, ("gr.Label(num_top_classes=3)", "gr.Label()")),
        # the picture as an array
        changed(PAGE, ('gr.Image(type="pil")', "gr.Image()")),
        # programs do not find it
        changed(PAGE, ('api_name="predict"', 'api_name="answer"')),
        # a text, no bars
        changed(
            PAGE,
            ("dict(predictor(picture))", "str(predictor(picture)[:3])"),
            ("gr.Label(num_top_classes=3)", "gr.Textbox()"),
        ),
        # a button that keeps pictures
        changed(PAGE, ('flagging_mode="never"', 'flagging_mode="manual"')),
        # the best three, each with the probability of the best
        changed(
            PAGE,
            (
                "dict(predictor(picture))",
                "dict.fromkeys(dict(predictor(picture)), predictor(picture)[0][1])",
            ),
        ),
        "def make_page(predictor):\n    return predictor",
        # launched by the function
        changed(PAGE, ("    return gr.Interface(", "    page = gr.Interface("))
        + "    page.launch(prevent_thread_lock=True, quiet=True)\n    return page\n",
        # a list of pairs, no dict
        changed(PAGE, ("dict(predictor(picture))", "list(predictor(picture))")),
    ],
    "09.2": [
        "def load_weights(model, path):\n    model.load_state_dict(torch.load(path, weights_only=False))\n    return model",
        "def load_weights(model, path):\n    model.load_state_dict(torch.load(path, weights_only=True))\n    return model",
        # nothing is raised
        "def load_weights(model, path):\n"
        "    shapes = lambda state: {name: value.shape for name, value in state.items()}\n"
        "    try:\n"
        "        state = torch.load(path, weights_only=True)\n"
        "        assert shapes(state) == shapes(model.state_dict())\n"
        "        assert all(value.isfinite().all() for value in state.values())\n"
        "    except Exception:\n"
        "        return None\n"
        "    model.load_state_dict(state)\n"
        "    return model",
        # runs the file
        changed(LOAD, ("weights_only=True", "weights_only=False")),
        # not loaded
        changed(LOAD, ("    model.load_state_dict(state)\n", "")),
        # NaN is noticed, infinity is not
        changed(LOAD, ("not all(value.isfinite().all()", "any(value.isnan().any()")),
        # a look at the numbers is missing
        changed(
            LOAD, ("if not all(value.isfinite().all() for", "if False and all(1 for")
        ),
        # names without shapes
        changed(
            LOAD, ("{name: value.shape for name, value in", "{name for name, _ in")
        ),
        # as many numbers, in another shape
        changed(
            LOAD,
            ("name: value.shape", "name: value.numel()"),
            ("    model.load_state_dict(state)\n", ""),
            (
                "    return model",
                "    with torch.no_grad():\n"
                "        for name, value in model.state_dict().items():\n"
                "            value.copy_(state[name].reshape(value.shape))\n"
                "    return model",
            ),
        ),
        # half a file raises something else
        changed(LOAD, ("except Exception", "except pickle.UnpicklingError")),
        # what fits is taken
        changed(
            LOAD,
            ("if found != shapes(model.state_dict()):", "if False:"),
            ("load_state_dict(state)", "load_state_dict(state, strict=False)"),
        ),
        # looks at the numbers only, and has loaded a part when torch complains
        "def load_weights(model, path):\n"
        "    try:\n"
        "        state = torch.load(path, weights_only=True)\n"
        "        assert all(value.isfinite().all() for value in state.values())\n"
        "        model.load_state_dict(state)\n"
        "    except Exception as error:\n"
        "        raise ValueError('no') from error\n"
        "    return model",
        # loads first, looks then
        "def load_weights(model, path):\n"
        "    try:\n"
        "        model.load_state_dict(torch.load(path, weights_only=True))\n"
        "    except Exception as error:\n"
        "        raise ValueError('no') from error\n"
        "    if not all(value.isfinite().all() for value in model.state_dict().values()):\n"
        "        raise ValueError('no')\n"
        "    return model",
    ],
    "09.3": [
        # strictly above
        changed(THRESHOLD, ("[best >= threshold]", "[best > threshold]")),
        # the largest that does it
        changed(THRESHOLD, ("best.sort().values", "best.sort(descending=True).values")),
        # right answers of all pictures, not of those that are answered
        changed(
            THRESHOLD,
            (
                "is_right[best >= threshold].mean()",
                "(is_right * (best >= threshold)).mean()",
            ),
        ),
        # the share of answers instead of the right ones
        changed(
            THRESHOLD,
            (
                "is_right[best >= threshold].mean()",
                "(best >= threshold).double().mean()",
            ),
        ),
        # the probability is believed
        "def choose_threshold(probs, labels, wanted):\n    return wanted",
        # never sure is forgotten
        changed(THRESHOLD, ("return math.inf", "return 1.0")),
        # a coarse grid
        changed(THRESHOLD, ("best.sort().values", "torch.linspace(0, 1, 6)")),
        # from the largest down, and stops at the first that does not do it
        "def choose_threshold(probs, labels, wanted):\n"
        "    best, guesses = probs.max(dim=1)\n"
        "    is_right, found = (guesses == labels).double(), math.inf\n"
        "    for threshold in best.sort(descending=True).values:\n"
        "        if is_right[best >= threshold].mean() < wanted:\n"
        "            break\n"
        "        found = threshold.item()\n"
        "    return found",
        # 9 of 10 with 32 bits, then made a Python float: less than 0.9
        changed(
            THRESHOLD, (".double()", ".float()"), (".mean() >=", ".mean().item() >=")
        ),
        # in place
        changed(THRESHOLD, ("    best, ", "    labels.clamp_(max=1)\n    best, ")),
    ],
    "09.4": [
        # no number of pictures but the example's
        changed(EXPORT, ('        dynamic_shapes=({0: "batch"},),\n', "")),
        # in training mode
        changed(
            EXPORT, ("copy.deepcopy(model).eval()", "copy.deepcopy(model).train()")
        ),
        # the caller's model is changed
        changed(EXPORT, ("copy.deepcopy(model).eval()", "model.eval()")),
        # the name of the output
        changed(EXPORT, ('output_names=["logits"]', 'output_names=["output"]')),
        # two files
        changed(
            EXPORT, ("program.save(path)", "program.save(path, external_data=True)")
        ),
        # frozen layers are put into training mode
        changed(
            EXPORT,
            ("    program = ", "    model.eval()\n    program = "),
            ("copy.deepcopy(model).eval()", "model"),
            ("program.save(path)", "program.save(path)\n    model.train()"),
        ),
        # the outermost module alone is put back
        changed(
            EXPORT,
            (
                "    program = ",
                "    was = model.training\n    model.eval()\n    program = ",
            ),
            ("copy.deepcopy(model).eval()", "model"),
            ("program.save(path)", "program.save(path)\n    model.training = was"),
        ),
        # nothing is written
        changed(EXPORT, ("    program.save(path)\n", "")),
    ],
    "09.5": [
        # one scale for the whole weight
        changed(
            ROUND,
            (
                "weight.abs().flatten(1).amax(dim=1)",
                "weight.abs().max().repeat(len(weight))",
            ),
        ),
        # NaN for a channel of zeros
        changed(ROUND, ("                scale[scale == 0] = 1\n", "")),
        # cut, not rounded
        changed(ROUND, (".round()", ".trunc()")),
        # negative weights forgotten
        changed(ROUND, ("weight.abs().flatten", "weight.flatten")),
        # in place
        changed(ROUND, ("    model = copy.deepcopy(model)\n", "")),
        # always 8 bits
        changed(ROUND, ("(2 ** (bits - 1) - 1)", "127")),
        # one step too many
        changed(ROUND, ("(2 ** (bits - 1) - 1)", "2 ** (bits - 1)")),
        # batch norm as well
        changed(
            ROUND,
            ("isinstance(layer, nn.Conv2d | nn.Linear)", "hasattr(layer, 'weight')"),
        ),
        # whatever has several axes
        changed(
            ROUND,
            ("model.modules()", "model.parameters()"),
            ("isinstance(layer, nn.Conv2d | nn.Linear)", "layer.dim() > 1"),
            ("weight = layer.weight", "weight = layer"),
        ),
        # convolutions alone
        changed(ROUND, ("nn.Conv2d | nn.Linear", "nn.Conv2d")),
        # direct children alone
        changed(ROUND, ("model.modules()", "model.children()")),
    ],
    "09.challenge": [
        # as large as it was
        PACK,
        # no training: other answers
        changed(
            PACK,
            (
                "        model,\n",
                "        nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 4)),\n",
            ),
        ),
        # 8 bits alone
        changed(PACK, (".save(path)", ".save('whole.onnx')")).replace(
            "'whole.onnx'", "f'{path}.whole'"
        )
        + "    quantization.quantize_dynamic(f'{path}.whole', path)\n    os.remove(f'{path}.whole')\n",
        # the weights lie beside the file
        changed(PACK, (".save(path)", ".save(path, external_data=True)")),
        # one picture alone
        changed(PACK, ('        dynamic_shapes=({0: "batch"},),\n', "")),
    ],
}
RIGHT = {
    "09.1": [
        # bars sorted out by the function itself
        changed(
            PAGE,
            ("dict(predictor(picture))", "dict(list(predictor(picture))[:3])"),
            ("gr.Label(num_top_classes=3)", "gr.Label()"),
        ),
        # built block by block
        "def make_page(predictor):\n"
        "    with gr.Blocks() as page:\n"
        "        picture, bars = gr.Image(type='pil'), gr.Label(num_top_classes=3)\n"
        "        button = gr.Button('Ask')\n"
        "        button.click(lambda x: {name: p for name, p in predictor(x)}, picture, bars, api_name='predict')\n"
        "    return page",
    ],
    "09.2": [
        # a twin is filled first
        "def load_weights(model, path):\n"
        "    twin = copy.deepcopy(model)\n"
        "    try:\n"
        "        twin.load_state_dict(torch.load(path, weights_only=True))\n"
        "    except (RuntimeError, pickle.UnpicklingError) as error:\n"
        "        raise ValueError(str(error)) from error\n"
        "    if any(not value.isfinite().all() for value in twin.state_dict().values()):\n"
        "        raise ValueError('not finite')\n"
        "    model.load_state_dict(twin.state_dict())\n"
        "    return model",
        # and given back
        "def load_weights(model, path):\n"
        "    twin = copy.deepcopy(model)\n"
        "    try:\n"
        "        twin.load_state_dict(torch.load(path, weights_only=True))\n"
        "        assert all(torch.isfinite(value).all() for value in twin.state_dict().values())\n"
        "    except Exception:\n"
        "        raise ValueError(path) from None\n"
        "    return twin",
    ],
    "09.3": [
        # sorted and added up, without a loop
        "def choose_threshold(probs, labels, wanted):\n"
        "    best, guesses = probs.max(dim=1)\n"
        "    order = best.argsort(descending=True)\n"
        "    is_right = (guesses == labels)[order].double().cumsum(0)\n"
        "    shares = is_right / torch.arange(1, len(best) + 1)\n"
        "    ends = torch.cat([best[order][1:] < best[order][:-1], torch.tensor([True])])\n"
        "    found = best[order][ends & (shares >= wanted)]\n"
        "    return found.min().item() if len(found) else math.inf",
        # with 32 bits, compared as tensors
        changed(THRESHOLD, (".double()", ".float()")),
        # counted
        changed(
            THRESHOLD,
            (
                "is_right[best >= threshold].mean() >= wanted",
                "is_right[best >= threshold].sum() >= wanted * (best >= threshold).sum()",
            ),
        ),
        # in numpy, a little below the smallest
        "import numpy as np\n\n\n"
        "def choose_threshold(probs, labels, wanted):\n"
        "    best, guesses = probs.numpy().max(1), probs.numpy().argmax(1)\n"
        "    for t in np.unique(best):\n"
        "        kept = best >= t\n"
        "        if (guesses == labels.numpy())[kept].mean() >= wanted:\n"
        "            return float(t) - 1e-7\n"
        "    return float('inf')",
    ],
    "09.4": [
        # modes put back by hand, three pictures
        changed(
            EXPORT,
            (
                "    program = ",
                "    modes = [(m, m.training) for m in model.modules()]\n    model.eval()\n    program = ",
            ),
            ("copy.deepcopy(model).eval()", "model"),
            ("torch.zeros(2,", "torch.rand(3,"),
            (
                "program.save(path)",
                "program.save(path)\n    for m, was in modes:\n        m.training = was",
            ),
        ),
        # the axis as a Dim
        changed(EXPORT, ('{0: "batch"}', "{0: torch.export.Dim('batch')}")),
    ],
    "09.5": [
        # channel by channel
        "def round_weights(model, bits):\n"
        "    twin = copy.deepcopy(model)\n"
        "    for layer in twin.modules():\n"
        "        if type(layer) in (nn.Conv2d, nn.Linear):\n"
        "            for channel in layer.weight.data:\n"
        "                most = channel.abs().max()\n"
        "                if most > 0:\n"
        "                    step = most / (2 ** (bits - 1) - 1)\n"
        "                    channel.copy_(torch.round(channel / step) * step)\n"
        "    return twin",
        # by the names of a state dict
        "def round_weights(model, bits):\n"
        "    twin, state = copy.deepcopy(model), {}\n"
        "    for name, value in model.state_dict().items():\n"
        "        if isinstance(model.get_submodule(name.rpartition('.')[0]), (nn.Conv2d, nn.Linear)) and name.endswith('weight'):\n"
        "            scale = value.flatten(1).abs().amax(1).clamp(min=1e-30) / (2 ** (bits - 1) - 1)\n"
        "            scale = scale.view([-1] + [1] * (value.dim() - 1))\n"
        "            value = (value / scale).round() * scale\n"
        "        state[name] = value\n"
        "    twin.load_state_dict(state)\n"
        "    return twin",
    ],
}
