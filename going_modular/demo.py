# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""A folder that serves a model anywhere."""

import ast
import html
import shutil
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import gradio as gr

from going_modular.checkpoints import whole_folder
from going_modular.pictures import read_picture
from going_modular.predictions import Predictor


def modules_needed(package: Path, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return what modules of a package need, by the imports at their top level.

    Args:
        package: its folder.
        names: the modules to begin with.

    Returns:
        (modules of the package, top-level names imported from outside), both sorted.
    """
    modules = list(names)
    outside = set()
    for module in modules:  # grows on the way
        for node in ast.parse((package / f"{module}.py").read_bytes()).body:
            for alias in getattr(node, "names", []):  # of an import
                top, _, inner = getattr(node, "module", alias.name).partition(".")
                if top == package.name:
                    modules += {inner}.difference(modules)
                elif top not in sys.stdlib_module_names:
                    outside.add(top)
    return sorted(modules), sorted(outside)


def pin(imported: Iterable[str]) -> list[str]:
    """Return requirements, "name==version" as installed here, for imported names."""
    distributions = metadata.packages_distributions()
    names = {distributions[name][0].lower() for name in imported}
    return [f"{n}=={metadata.version(n).partition('+')[0]}" for n in sorted(names)]


DEMO_FILES = {  # name: text
    "app.py": '''"""Serve the model in this folder: python app.py"""

from pathlib import Path

from going_modular.app import build_app, serve
from going_modular.predictions import Predictor

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    examples = sorted((folder / "examples").glob("*"))
    serve(build_app(Predictor.load(folder), examples))
''',
    "README.md": """---
title: What is in the picture?
sdk: gradio
sdk_version: {gradio}
python_version: "{python.major}.{python.minor}"
app_file: app.py
---

Answers with one of: {names}.
Start it here: `pip install -r requirements.txt`, then `python app.py`.
In a container: `docker build -t picture .`, then
`docker run -p 127.0.0.1:7860:7860 picture`.
""",
    "Dockerfile": """FROM python:{python.major}.{python.minor}-slim
RUN useradd --create-home --uid 1000 app && mkdir /app && chown app /app
USER app
WORKDIR /app
COPY --chown=app requirements.txt .
RUN pip install --user --no-cache-dir -r requirements.txt
COPY --chown=app . .
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_ANALYTICS_ENABLED=False
EXPOSE 7860
CMD ["python", "app.py"]
""",
    "requirements.txt": "{requirements}\n",
}


def build_demo(
    folder: str | Path,
    predictor: Predictor,
    examples: Iterable[str | Path] = (),
) -> Path:
    """Write a folder that serves a predictor anywhere, or nothing; return its path.

    Args:
        folder: gets the app, the weights, the examples, the modules of this package
            that the model needs, their requirements and a Dockerfile.
        predictor: with a config.
        examples: paths of pictures.

    Raises:
        FileExistsError: if the folder has content.
        ValueError: if the predictor has no config, or an example is broken.
        FileNotFoundError: if an example is missing.
    """
    folder = Path(folder)
    if folder.is_file() or any(folder.glob("*")):
        raise FileExistsError(
            f"{folder} already exists: choose another folder, or remove it first"
        )
    package = Path(sys.modules["going_modular"].__path__[0])
    with whole_folder(folder) as made:
        predictor.save(made)
        model = Predictor.load(made).model  # none of its classes is a notebook's
        paths = {type(part).__module__.partition(".") for part in model.modules()}
        names = {"app", "predictions"}
        names |= {module for top, _, module in paths if top == package.name}
        modules, outside = modules_needed(package, names)
        facts = {
            "gradio": gr.__version__,
            "python": sys.version_info,
            "names": html.escape(", ".join(predictor.class_names)),
            "requirements": "\n".join(pin(outside)),
        }
        for name, text in DEMO_FILES.items():
            (made / name).write_text(text.format(**facts), encoding="utf-8")
        for name in "going_modular", "examples":
            (made / name).mkdir()
        for module in ["__init__", *modules]:
            shutil.copy(package / f"{module}.py", made / "going_modular")
        for number, path in enumerate(examples, 1):
            read_picture(
                path, max_pixels=predictor.max_pixels
            )  # raises for a broken one
            shutil.copy(path, made / f"examples/{number}{Path(path).suffix.lower()}")
    return folder
