"""A real browser, and a server of this machine for it; both end with their block."""

import functools
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from tools import screenshots

WIDE, PHONE = (1280, 900), (390, 844)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    """Yield the address at which a folder is served."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextmanager
def a_browser():
    """Yield a headless browser; skip the test where there is none."""
    try:
        with screenshots.browser_page(WIDE) as page:
            yield page.context.browser
    except screenshots.ShotError as error:
        pytest.skip(str(error))


def open_page(browser, address, size=WIDE, scheme="light"):
    """Return a new page, and the list that its faults and outside requests go to."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",  # no color on its way to another one
    )
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "data:", "blob:"))
            else faults.append(request.url)
        ),
    )
    page.on(
        "response",
        lambda answer: (
            faults.append(f"{answer.status} {answer.url}")
            if answer.status >= 400
            else None
        ),
    )
    return page, faults


def axe():
    """Return the source of axe-core, which judges what a page looks like."""
    if not (found := find_spec("axe_playwright_python")):
        pytest.skip("axe-core is not at hand: pip install axe-playwright-python")
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")


def violations(page):
    """Return {where: what axe-core says of it} for contrast, names and lists."""
    rules = ["color-contrast", "image-alt", "link-name", "button-name", "list"]
    rules += ["label", "aria-meter-name"]
    options = {"runOnly": {"type": "rule", "values": rules}}
    options["resultTypes"] = ["violations"]
    page.evaluate(axe())
    report = page.evaluate("options => axe.run(document, options)", options)
    assert report["passes"]
    return {
        f"{found['id']} {node['target'][0]}": node["failureSummary"].split("\n")[1]
        for found in report["violations"]
        for node in found["nodes"]
    }
