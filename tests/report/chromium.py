"""A headless Chromium for tests of reports; they are skipped where there is none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (the extra test)")

_BINARY = shutil.which("chromium")
_DRIVER = shutil.which("chromedriver")
NEEDS_CHROMIUM = pytest.mark.skipif(
    not (_BINARY and _DRIVER), reason="no chromium and chromedriver (Debian: chromium, chromium-driver)"
)
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium(*, javascript: bool = True) -> Iterator[Any]:
    """A browser with a profile of its own, which is removed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = _BINARY
        for argument in (*_QUIET, f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(argument)
        if not javascript:
            blocked = {"profile.managed_default_content_settings.javascript": 2}
            options.add_experimental_option("prefs", blocked)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
        try:
            yield browser
        finally:
            browser.quit()


def show(browser: Any, page: Path, state: str = "") -> None:
    """Open a page anew, whatever is open."""
    browser.get("about:blank")
    browser.get(page.as_uri() + state)


def resize(browser: Any, width: int) -> None:
    """The width of the view in CSS pixels; a window cannot be that narrow."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def axe_core() -> str:
    """The source of axe-core, which ``.ci/run`` fetches; the test is skipped without it."""
    path = os.environ.get("AXE_CORE")
    if not path:
        pytest.skip("AXE_CORE names no axe.min.js; .ci/run fetches it from npm")
    return Path(path).read_text(encoding="utf-8")
