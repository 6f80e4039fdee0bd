# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""A trained model served to people."""

import ast
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import gradio as gr
import torch

from going_modular.data_setup import decode_picture, read_picture
from going_modular.engine import model_mode
from going_modular.utils import whole_file


def read_upload(upload):
    """Return an uploaded file, gradio's ImageData, as a PIL image in RGB. Raises gr.Error, which the visitor reads."""
    if upload is None or not upload.path:
        raise gr.Error("Choose a picture first.", print_exception=False)
    try:
        with open(upload.path, "rb") as file:
            return decode_picture(file, "The file")
    except (ValueError, OSError) as error:
        reason = str(error) if isinstance(error, ValueError) else "The file cannot be read: "
        message = f"{reason.rpartition(':')[0]}. Choose another picture."  # behind the colon: advice for folders
        raise gr.Error(message, print_exception=False) from None


def picture_input():
    """Return a gr.Image whose pictures are read by ``read_upload``, and which accepts no URL."""
    box = gr.Image(sources=["upload", "clipboard"], label="Picture")
    keep = box.async_move_resource_to_block_cache

    async def keep_upload(path):
        if "://" in str(path):  # gradio would fetch it, with no limit
            raise gr.Error("Addresses are not fetched here. Upload the picture itself.", print_exception=False)
        return await keep(path)

    box.preprocess, box.async_move_resource_to_block_cache = read_upload, keep_upload
    return box


def build_app(predictor, examples=(), title="What is in the picture?"):
    """Return the web app, a gr.Interface: a picture in, the three likeliest classes out, as bars.

    predictor: a ``Predictor``.  examples: paths of pictures to try.  Programs call it as api_name="/predict".
    """
    keeps_nothing = {"flagging_mode": "never", "analytics_enabled": False, "delete_cache": (600, 3600)}  # seconds
    return gr.Interface(
        lambda picture: dict(predictor(picture)),
        picture_input(),
        gr.Label(num_top_classes=3, label="Answer"),
        examples=[[str(path)] for path in examples] or None,
        cache_examples=False,
        title=title,
        api_name="predict",
        concurrency_limit=2,
        **keeps_nothing,
    )


def serve(app, *, port=None, wait=True):
    """Start the app and serve it until interrupted; without ``wait``, return its address and serve in the background.

    It answers this machine alone; GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, set from outside, change that.
    """
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # no downloads
    settings = {"share": False, "max_file_size": "10mb", "theme": theme, "ssr_mode": False, "inline": False}
    _, url, _ = app.launch(server_port=port, prevent_thread_lock=True, quiet=True, footer_links=["api"], **settings)
    if wait:
        print(f"Open {url} in a browser; Ctrl-C ends it.", flush=True)
        app.block_thread()
    return url


def modules_needed(package, names):
    """Return (module names, names of what they import from outside), both sorted, for these modules to run."""
    modules, outside, waiting = set(), set(), list(names)
    while waiting:
        module = waiting.pop()
        modules.add(module)
        for node in ast.parse((package / f"{module}.py").read_text(encoding="utf-8")).body:
            aliases = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for imported in [node.module] if isinstance(node, ast.ImportFrom) else aliases:
                top, _, inner = imported.partition(".")
                if top == package.name:
                    waiting += {inner} - modules
                elif top not in sys.stdlib_module_names:
                    outside.add(top)
    return sorted(modules), sorted(outside)


def pin(imported):
    """Return requirements, "name==version" as installed here, for names of top-level imports."""
    distributions = importlib.metadata.packages_distributions()
    names = {distributions[name][0].lower() for name in imported}
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in sorted(names)]


DEMO_APP = '''"""Serve the model in this folder: python app.py"""

from pathlib import Path

from going_modular.app import build_app, serve
from going_modular.predictions import Predictor

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    examples = sorted((folder / "examples").glob("*"))
    serve(build_app(Predictor.load(folder), examples))
'''


DEMO_README = """---
title: What is in the picture?
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
---

Answers with one of: {names}. Start it here: `pip install -r requirements.txt`, then `python app.py`.
In a container: `docker build -t picture . && docker run -p 127.0.0.1:7860:7860 picture`.
"""


DEMO_DOCKERFILE = """FROM python:{python}-slim
RUN useradd --create-home --uid 1000 app && mkdir /app && chown app /app
USER app
WORKDIR /app
COPY --chown=app requirements.txt .
RUN pip install --user --no-cache-dir -r requirements.txt
COPY --chown=app . .
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_ANALYTICS_ENABLED=False
EXPOSE 7860
CMD ["python", "app.py"]
"""


def write_demo_texts(folder, class_names, requirements):
    """Write app.py, README.md, Dockerfile and requirements.txt into ``folder``."""
    gradio = next(line.partition("==")[2] for line in requirements if line.startswith("gradio=="))
    values = {"gradio": gradio, "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    texts = {"app.py": DEMO_APP, "requirements.txt": "\n".join(requirements) + "\n"}
    texts["README.md"] = DEMO_README.format(**values, names=", ".join(class_names))
    texts["Dockerfile"] = DEMO_DOCKERFILE.format(**values)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def fill_demo(folder, predictor, examples):
    """Write all files of a demo into ``folder``, which exists and is empty."""
    package = Path(importlib.util.find_spec("going_modular").origin).parent
    modules, outside = modules_needed(package, ["app", "predictions"])
    write_demo_texts(folder, predictor.class_names, pin(outside))
    predictor.save(folder)
    (folder / "going_modular").mkdir()
    for module in ["__init__", *modules]:
        shutil.copy(package / f"{module}.py", folder / "going_modular")
    (folder / "examples").mkdir()
    for number, path in enumerate(examples, start=1):
        read_picture(path)  # raises for a broken one
        shutil.copy(path, folder / "examples" / f"{number}{Path(path).suffix.lower()}")


def build_demo(folder, predictor, examples=()):
    """Write a folder that serves ``predictor`` anywhere: app, weights, examples, requirements, Dockerfile. Return it.

    It is written whole or not at all.  Raises FileExistsError for a folder with content, ValueError for a predictor
    without config, and as ``read_picture`` for the examples.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already: choose another folder, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        fill_demo(temporary, predictor, examples)
        temporary.chmod(0o755)  # a temporary folder is its owner's alone
        if folder.is_dir():
            folder.rmdir()  # it is empty, and not every system would replace it
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def export_onnx(model, path, image_size, channels=3):
    """Write ``model`` as one ONNX file, images (B, channels, image_size, image_size) -> logits, and return its path.

    B may be any number.  The model, in evaluation mode meanwhile, is left as it was.  Raises OSError as ``whole_file``.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    images = torch.zeros(1, channels, image_size, image_size, device=device)
    names = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": ({0: "batch"},)}
    with model_mode(model, training=False):
        program = torch.onnx.export(model, (images,), dynamo=True, verbose=False, **names)
    with whole_file(path) as file:  # program.save would write the weights into a second one
        file.write(program.model_proto.SerializeToString())
    return Path(path)


class CalibrationBatches:
    """Batches (B, C, H, W) of tensors in the form in which onnxruntime's quantizer asks for them, one after another."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def get_next(self):
        """Return the next batch, {"images": array}, or None after the last."""
        images = next(self.batches, None)
        return None if images is None else {"images": images.cpu().numpy()}


def quantize(path, target, batches):
    """Write the ONNX file at ``path`` with weights and values of 8 bits as ``target``, and return its path.

    batches: tensors (B, C, H, W) of training pictures, transformed, that show which values occur.
    """
    from onnxruntime import quantization as q  # here: a server of the model itself needs no onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        q.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        reader = CalibrationBatches(batches)
        kinds = {"per_channel": True, "activation_type": q.QuantType.QUInt8}
        q.quantize_static(prepared, result, reader, reduce_range=True, **kinds)  # 7 bits: older processors overflow
        with whole_file(target) as file:
            file.write(result.read_bytes())
    return Path(target)
