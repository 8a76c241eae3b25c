"""The source archive of the installed `anthropic` SDK, with the tests that its wheel leaves out.

It is fetched once with pip and kept in `.sdk-archive/`, beside the few plugins that those tests import.
"""

import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

__all__ = ["run_sdk_tests", "sdk_archive"]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".sdk-archive" / version("anthropic")
FETCH_SECONDS = 120
RUN_SECONDS = 200
FEWEST = 100
PLUGINS = ("respx", "inline-snapshot", "http-snapshot", "asttokens", "executing")
"""What `tests/conftest.py` of the archive imports and we do not need ourselves."""


def sdk_archive() -> Path:
    """The unpacked archive; skips the test where no registry can be reached."""
    sources = CACHE / f"anthropic-{version('anthropic')}"
    if not (sources / "tests").is_dir():
        wanted = f"anthropic=={version('anthropic')}"
        _pip("download", wanted, "--no-deps", "--no-binary", "anthropic", "--dest", str(CACHE))
        with tarfile.open(next(CACHE.glob("anthropic-*.tar.gz"))) as archive:
            archive.extractall(CACHE, filter="data")
    plugins = CACHE / "plugins"
    if not plugins.is_dir():
        _pip("install", *_pinned(sources), "--no-deps", "--target", str(plugins))
    return sources


def _pinned(sources: Path) -> list[str]:
    """The plugins, with the bounds that the archive's own development group gives them."""
    named = re.findall(
        r'^    "([a-z0-9-]+)(?:\[\w+\])?([^";]*)', (sources / "pyproject.toml").read_text(), re.MULTILINE
    )
    bounds = {name: bound.replace(" ", "") for name, bound in named}
    return [name + bounds.get(name, "") for name in PLUGINS]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    if done.returncode:
        pytest.skip(f"no registry has the SDK's source archive: {done.stderr.strip().splitlines()[-1]}")


def run_sdk_tests(base_url: str, folder: Path, *files: str) -> dict[str, str]:
    """Run test files of the archive against a server.

    Args:
        base_url: Of the server, without `/v1`.
        folder: Where the report goes.
        files: Paths below the archive's `tests/api_resources`.

    Returns:
        What went wrong, by the name of the test.

    Raises:
        AssertionError: Hardly any test was found.
    """
    sources, report = sdk_archive(), folder / "sdk-tests.xml"
    paths = [f"tests/api_resources/{file}" for file in files]
    # Their own options ask for a process for each core, which two cores do not thank.
    options = ["-o", "addopts=", "-p", "tests._alias_httpx", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, *paths],
        cwd=sources,
        env={"TEST_API_BASE_URL": base_url, "PYTHONPATH": str(CACHE / "plugins"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    cases = list(ElementTree.parse(report).iter("testcase"))
    assert len(cases) >= FEWEST, "the archive's tests are not where they were"
    return {case.attrib["name"]: _verdict(case) for case in cases if len(case)}


def _verdict(case: ElementTree.Element) -> str:
    return "; ".join(f"{part.tag}: {part.attrib.get('message', '')[:300]}" for part in case if part.tag != "system-out")
