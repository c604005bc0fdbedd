"""`tickstock ui` as a running process, and a headless Chromium that looks at it."""

import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.end_to_end.commands import free_port, other_holders, start
from tests.storage.servers import wait_until

PROJECT = Path(__file__).parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
START_SECONDS = 300
WAIT_MILLISECONDS = 120_000
expect.set_options(timeout=WAIT_MILLISECONDS)


@contextmanager
def running_ui(home: Path, log: Path, **variables: str) -> Iterator[str]:
    """Run `tickstock ui` on a home and give its address; afterwards nothing of it may be left."""
    port = free_port()
    process = start("ui", "--port", str(port), home=home, log=log, **variables)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_served(address, log)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)
    assert address in log.read_text()
    assert "Warning" not in log.read_text()
    wait_until(lambda: not other_holders(home))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; skip the test where there is none, which in CI is a mistake."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        assert "CI" not in os.environ, f"expected one of {', '.join(PROGRAMS)} on the path, found none"
        pytest.skip("no Chromium on the path; the pages of the web UI stay untested")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, address: str, screen: ViewportSize) -> Iterator[Page]:
    """Open a page of the UI, for a browser that has never been there."""
    page = browser.new_page(base_url=address, viewport=screen)
    page.set_default_timeout(WAIT_MILLISECONDS)
    yield page
    page.close()


def pictures(otherwise: Path) -> Path:
    """Return where pictures go: where the documents have theirs, when that is asked for."""
    return PROJECT / "docs/images" if os.environ.get("TICKSTOCK_SCREENSHOTS") == "1" else otherwise


def _wait_until_served(address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/server_info", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
