# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""A trained model served to people."""

import contextlib
import io
import math
import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import uvicorn
from gradio.http_server import INITIAL_PORT_VALUE, LOCALHOST_NAME, Server
from gradio.processing_utils import save_file_to_cache
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware

from going_modular.guard import Connection, guarded, upload_folder
from going_modular.pictures import read_picture
from going_modular.predictions import Predictor


class HastyFile(io.BytesIO):
    """Bytes that can be read for three seconds: by then a picture is decoded."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self.end = time.monotonic() + 3

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self.end:
            raise TimeoutError("it takes too long")
        return super().read(size)


def read_upload(upload: dict | None, max_pixels: int = 12_000_000) -> Image.Image:
    """Return an uploaded picture in RGB.

    Args:
        upload: what gradio says of a file; "path" is where.
        max_pixels: a larger picture is refused.

    Raises:
        gr.Error: if there is none or it cannot be read; the visitor sees its message.
    """
    if not upload:
        raise gr.Error("Choose a picture first.", print_exception=False)
    try:
        file = HastyFile(Path(upload["path"]).read_bytes())
        return read_picture(file, name="The file", max_pixels=max_pixels)
    except ValueError as error:
        reason = str(error).rpartition(":")[0]  # after it: advice for folders
    except OSError:
        reason = "The file is no longer here"
    raise gr.Error(f"{reason}. Choose another picture.", print_exception=False)


def as_upload(value: Any) -> Any:
    """Return an input of the page; of a file nothing but the path, if it is an upload.

    Raises:
        Exception: of any kind, if it is not.
    """
    if value is None or isinstance(value, int):  # no picture; an example's number
        return value
    path = Path(value["path"]).resolve()
    path.relative_to(upload_folder())
    return {"path": str(path)}


class Page(gr.Interface):
    """An interface that looks at uploads alone, whatever a request says."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list, state: Any, explicit_call: bool = False
    ) -> list:
        try:
            inputs = [as_upload(value) for value in inputs]
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except Exception:  # a request can be wrong in many ways
            raise gr.Error(
                "Upload the picture itself. Addresses are not fetched here, and no "
                "other file is opened.",
                print_exception=False,
            ) from None


def build_app(
    predictor: Predictor,
    examples: Sequence[str | Path] = (),
) -> gr.Interface:
    """Return the web app: a picture in, the three most likely classes out, as bars.

    Above them stands the best class, or "not sure" where its probability is below
    ``predictor.unsure_below``. Programs call it as api_name="/predict".

    Args:
        predictor: what answers.
        examples: paths of pictures to try.

    Raises:
        FileNotFoundError, ValueError: if an example is missing or broken.
    """
    limit = min(predictor.max_pixels, 12_000_000)  # of pixels, or the largest example's
    for path in examples:
        picture = read_picture(path, max_pixels=predictor.max_pixels)
        limit = max(limit, math.prod(picture.size))
    pool = ThreadPoolExecutor(2)  # torch keeps memory for each thread it meets

    def predict(upload: dict | None) -> dict:
        best = pool.submit(lambda: predictor(read_upload(upload, limit))[:3]).result()
        bars = [{"label": name, "confidence": prob} for name, prob in best]
        is_sure = best[0][1] >= predictor.unsure_below
        label = best[0][0] if is_sure else "not sure"
        return {"label": label, "confidences": bars}

    shown = f"{upload_folder()}/examples"
    copies = [save_file_to_cache(path, shown) for path in examples]
    app = Page(
        predict,
        gr.Image(sources=["upload", "clipboard"], label="Picture"),
        gr.Label(label="Answer"),
        examples=copies or None,
        cache_examples=False,
        title="What is in the picture?",
        concurrency_limit=2,
        delete_cache=(10, 600),  # seconds: look so often for uploads that are so old
        flagging_mode="never",
        analytics_enabled=False,
    )
    app.fns[0].preprocess = app.fns[0].postprocess = False  # predict does both itself
    return app.queue(max_size=100, api_open=False)


def serve(app: gr.Blocks, *, port: int = 0, wait: bool = True) -> str:
    """Serve the app and return its address.

    It answers this machine alone; the environment variables GRADIO_SERVER_NAME and
    GRADIO_SERVER_PORT change that.

    Args:
        app: what to serve.
        port: 1 to 65535; 0: the first that is free from 7860 on.
        wait: serve until Ctrl-C or SIGTERM, and give the answers in hand first; else
            in the background, until app.close().

    Raises:
        OSError: if the port is not free.
    """
    host, wanted = LOCALHOST_NAME, port
    for port in [wanted] if wanted else range(INITIAL_PORT_VALUE, 65_536):
        with contextlib.suppress(OSError, OverflowError):
            socket.create_server((host, port)).close()
            break
    else:
        raise OSError(f"{port} is no free port of {host}: choose another, 1 to 65535")
    app.state_session_capacity = 100  # of visitors: each has a copy of the page
    page = gr.mount_gradio_app(
        fastapi.FastAPI(),
        app,
        "/",
        footer_links=["api"],
        run_history=False,
        show_error=False,
        ssr_mode=False,
    )
    local = ["127.0.0.1", "localhost"]
    config = uvicorn.Config(
        TrustedHostMiddleware(guarded(page), local if host in local else ["*"]),
        host,
        port,
        http=Connection,
        ws="none",
        log_level="critical",  # else each bad request writes lines
        headers=[("Cache-Control", "no-store")],
        backlog=100,
        timeout_graceful_shutdown=8,  # seconds; docker kills after 10
    )
    app.server = Server(config)
    url = f"http://{host.replace('0.0.0.0', 'localhost')}:{port}/"
    if not wait:
        app.server.run_in_thread()
        return url
    print(f"Open {url} in a browser; Ctrl-C ends it.", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    with contextlib.suppress(KeyboardInterrupt):
        app.server.run()
    return url
