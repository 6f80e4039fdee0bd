"""Take the pictures of live pages that lessons show, docs/*.jpg, in a headless browser.

    python tools/screenshots.py [NAME ...]    all of PAGES if none is named

A page is served from what its lesson left behind, so run the notebook first. It needs
playwright, and a Chromium: the system's, or that of `playwright install chromium`.
Exit status 1: a page cannot be served or shown; its old picture stays.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 150_000  # bytes of a picture
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 90  # until a server must answer


class ShotError(Exception):
    """A page that cannot be served or shown; the message says what to do."""


@dataclass(frozen=True)
class Page:
    """A page to take a picture of.

    Attributes:
        needs: a folder, from the root, that the lesson made.
        command: what serves it, after `python`; {port} is filled in.
        address: after http://127.0.0.1:PORT.
        prepare: brings the page into the state to show; gets playwright's page.
        size: width and height in CSS pixels.
    """

    needs: str
    command: tuple[str, ...]
    address: str
    prepare: Callable[[Any], None]
    size: tuple[int, int] = (960, 640)


def show_dashboard(page: Any) -> None:
    """Wait until TensorBoard has drawn its curves; close the column of settings."""
    page.wait_for_selector("scalar-card svg path", state="attached", timeout=60_000)
    page.click('button[aria-label="Close side pane"]')
    page.wait_for_timeout(3_000)  # curves are drawn in several steps


def ask_about(picture: str) -> Callable[[Any], None]:
    """Return what uploads a picture to lesson 09's page, and waits for the answer."""

    def prepare(page: Any) -> None:
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", ROOT / picture)
        page.get_by_role("button", name="Submit").click()
        page.wait_for_selector(".confidence-set", timeout=60_000)
        page.wait_for_timeout(1_000)  # bars grow

    return prepare


ANIMALS = "runs/lesson_09/demo"
ANIMALS_PAGE = (
    *("-m", "going_modular", "serve", ANIMALS, "--port", "{port}", "--examples"),
    *(f"{ANIMALS}/examples/{number}.png" for number in (1, 2, 3)),
)
PAGES = {
    "page": Page(
        ANIMALS, ANIMALS_PAGE, "/", ask_about(f"{ANIMALS}/examples/2.png"), (880, 560)
    ),
    "not_sure": Page(
        ANIMALS, ANIMALS_PAGE, "/", ask_about("runs/lesson_09/doubtful.png"), (880, 560)
    ),
    "dashboard": Page(
        needs="runs/lesson_07/first",
        command=(
            *("-m", "tensorboard.main", "--logdir", "runs/lesson_07/first"),
            *("--port", "{port}", "--load_fast=false"),
        ),
        address="/?darkMode=false&smoothing=0&tagFilter=valid#timeseries",
        prepare=show_dashboard,
    ),
}


def free_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serve(page: Page, root: Path) -> Iterator[str]:
    """Yield the address of a page while it is served.

    Raises:
        ShotError: if what it needs is missing, or the server ends or does not answer.
    """
    if not (root / page.needs).exists():
        raise ShotError(f"{page.needs} is missing: run the lesson's notebook first")
    port = free_port()
    command = [word.format(port=port) for word in page.command]
    server = subprocess.Popen(
        [sys.executable, *command],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address, limit = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
        while not answers(address):
            if server.poll() is not None or time.monotonic() > limit:
                raise ShotError(f"nothing is served by: python {' '.join(command)}")
            time.sleep(0.2)
        yield address + page.address
    finally:
        server.terminate()
        server.wait(timeout=30)


def answers(address: str) -> bool:
    """Tell whether somebody serves this address."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextmanager
def browser_page(size: tuple[int, int]) -> Iterator[Any]:
    """Yield a page of headless Chromium that reaches this machine alone.

    Raises:
        ShotError: if playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ShotError("playwright is not installed: pip install playwright") from None
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        paths = [path for path in (own, *map(shutil.which, BROWSERS)) if path]
        if not (paths := [path for path in paths if os.path.exists(path)]):
            raise ShotError("there is no Chromium here: playwright install chromium")
        only_here = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        browser = playwright.chromium.launch(
            executable_path=paths[0], args=["--no-sandbox", only_here]
        )
        width, height = size
        yield browser.new_page(
            viewport={"width": width, "height": height}, device_scale_factor=1.25
        )
        browser.close()


def take(name: str, root: Path) -> Path:
    """Take the picture of a page into docs/NAME.jpg; return its path.

    Raises:
        ShotError: if it cannot be served or shown, or is too large in bytes.
    """
    page = PAGES[name]
    with serve(page, root) as address, browser_page(page.size) as tab:
        tab.goto(address, timeout=60_000)
        page.prepare(tab)
        for quality in (85, 75, 60, 45):
            shot = tab.screenshot(type="jpeg", quality=quality)
            if len(shot) < LARGEST:
                break
        else:
            raise ShotError(f"{name} has {len(shot):,} bytes: make its page smaller")
    path = root / "docs" / f"{name}.jpg"
    path.write_bytes(shot)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PAGES))
    names = parser.parse_args(arguments).names or list(PAGES)
    if unknown := [name for name in names if name not in PAGES]:
        parser.error(f"no page {unknown[0]!r}; there are: {', '.join(PAGES)}")
    for name in names:
        try:
            path = take(name, ROOT)
        except Exception as error:  # playwright's own errors too
            print(f"error: {name}: {error}", file=sys.stderr)
            return 1
        print(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
