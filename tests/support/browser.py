"""`browser(...)`: a real Chromium without a window, driven over WebDriver. Nothing is downloaded: both programs are the
system's, and the page's own server is all that it may reach.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest

__all__ = ["barriers", "browser", "needs_browser", "prefer"]

_PROGRAMS = ("chromium", "chromedriver")
_PACKAGES = ("selenium", "axe_selenium_python")
_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


def needs_browser() -> None:
    """Skip where there is no browser; with `MESSAGES_REQUIRE_BROWSER`, as in CI, that is a failure."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    missing += [name for name in _PACKAGES if find_spec(name) is None]
    if not missing:
        return
    reason = f"{' and '.join(missing)} missing: apt-get install chromium chromium-driver, make setup"
    if os.environ.get("MESSAGES_REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser(
    folder: Path, *, scheme: Literal["light", "dark"] = "light", size: tuple[int, int] = (1280, 900)
) -> Iterator[Any]:
    """A Selenium driver.

    Args:
        folder: Where its profile goes, a new one.
        scheme: The colours that its user prefers.
        size: Of the window, in pixels.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for switch in (*_SWITCHES, f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Named, so that Selenium looks for no other.
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        prefer(driver, scheme)
        yield driver
    finally:
        driver.quit()


def prefer(driver: Any, scheme: Literal["light", "dark"]) -> None:
    """Prefer these colours from now on."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def barriers(driver: Any) -> list[str]:
    """What axe finds wrong with the page for people with disabilities."""
    axe = files("axe_selenium_python").joinpath("node_modules/axe-core/axe.min.js").read_text()
    driver.execute_script(axe)
    found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]
