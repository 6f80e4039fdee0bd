# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""What keeps a page up: who is answered, for how long, what is kept."""

import asyncio
import atexit
import contextlib
import functools
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol


@functools.cache
def upload_folder() -> Path:
    """Return this process's own folder for what visitors upload, removed at its end.

    Gradio would take one folder for all users of a machine; it is told of this one.
    """
    folder = Path(tempfile.mkdtemp(prefix="uploads-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = gr.routes.DEFAULT_TEMP_DIR = str(folder)
    return folder


ROUTES = re.compile(  # what the page and programs ask for
    r"/(config|theme\.css|favicon\.ico|manifest\.json|(assets|static|svelte)/.+)?"
    r"|/gradio_api/(info|startup-events|app_id|upload|queue/(join|data)"
    r"|(run|call)/predict|call/predict/\w+|file=(?!https?:).+)/?"
)


def guarded(page: Callable) -> Callable:
    """Return an ASGI app that answers the page itself, and no other website."""

    async def answer(scope: Any, receive: Callable, send: Callable) -> None:
        app = page
        if scope["type"] == "http":
            headers = Request(scope).headers
            hosts = headers.get("host", ""), headers.get("x-forwarded-host")
            if not ROUTES.fullmatch(scope["path"]):
                app = PlainTextResponse("There is nothing here.", 404)
            elif urlsplit(headers.get("origin", "//" + hosts[0])).netloc not in hosts:
                app = PlainTextResponse("Other websites are not answered.", 403)
            elif scope["method"] == "POST":
                is_upload = scope["path"].startswith("/gradio_api/upload")
                receive = limited(receive, 10_100_000 if is_upload else 100_000)
                scope["query_string"] = b""  # gradio would keep an upload's progress
        with contextlib.suppress(Exception):  # at one, uvicorn would cut the connection
            await app(scope, receive, send)

    return answer


def limited(receive: Callable, max_bytes: int) -> Callable:
    """Return an ASGI ``receive`` for a body of up to max_bytes, within a minute.

    It raises MultiPartException, at which gradio removes the pieces of an upload, for
    one that is larger, slower or broken off.
    """
    end, more = time.monotonic() + 60, True

    async def receive_in_time() -> dict:
        nonlocal max_bytes, more
        if not more:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), end - time.monotonic())
            more = message["more_body"]  # not there: broken off
            max_bytes -= len(message["body"])
        except (TimeoutError, KeyError):
            max_bytes = -1
        if max_bytes < 0:
            raise MultiPartException(
                "This is above the maximum allowed size, or took longer than a minute."
            )
        return message

    return receive_in_time


class Connection(H11Protocol):
    """A connection that is cut if no request comes, or if a new one needs its place."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if len(self.connections) > 400:  # a process may have 1,024 files open
            oldest = min(self.connections, key=Connection.patience)
            oldest._unset_keepalive_if_required()
            oldest.transport.abort()

    def patience(self) -> float:
        """Return when it is cut; never while a request is answered."""
        timer = self.timeout_keep_alive_task
        return timer.when() if timer else math.inf

    def data_received(self, data: bytes) -> None:
        self.conn.receive_data(data)  # the timer runs until a request's head is there
        self.handle_events()
