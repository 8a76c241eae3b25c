"""Takes the pictures of the status page in docs/: `python scripts/status_pictures.py`.

The page is the real one, in a real browser; what it shows is made up, an hour of it, and goes through the same code.
"""

import asyncio
import itertools
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from llama_stack_messages_provider.errors import MessagesError, OverloadedError, RateLimitError, UpstreamTimeoutError
from llama_stack_messages_provider.status.config import StatusConfig
from llama_stack_messages_provider.status.noted import Noted
from llama_stack_messages_provider.status.page import PAGE, PAGE_HEADERS
from llama_stack_messages_provider.status.report import StatusReport
from llama_stack_messages_provider.status.tally import Tally
from tests.support.browser import browser, prefer

DOCS = Path(__file__).parents[1] / "docs"
NOW = 1_795_950_000.0 + 41
SIZE = (1200, 900)
MODELS: list[dict[str, Any]] = [
    {
        "model": "anthropic/claude-sonnet-5",
        "provider": "anthropic",
        "engine": "anthropic",
        "route": "native",
        "window": 10**6,
    },
    {
        "model": "llama-cpp/gemma-4-12b",
        "provider": "llama-cpp",
        "engine": "llama.cpp",
        "route": "native",
        "window": 32768,
    },
    {
        "model": "openai/gpt-oss-120b",
        "provider": "openai",
        "engine": "openai",
        "route": "translation",
        "window": 131072,
    },
    {"model": "vllm/qwen3-32b", "provider": "vllm", "engine": "vllm", "route": "native", "window": 131072},
]
UPSTREAMS = {"anthropic": None, "llama-cpp": "connection refused", "openai": None, "vllm": None}
WEIGHTS = (2, 1, 4, 9)
BATCHES: list[dict[str, Any]] = [
    {"status": "in_progress", "done": 6130, "total": 10000, "failed": 0, "created_at": NOW - 1500, "ended_at": None},
    {"status": "canceling", "done": 212, "total": 400, "failed": 0, "created_at": NOW - 300, "ended_at": None},
    {"status": "ended", "done": 1200, "total": 1200, "failed": 3, "created_at": NOW - 9000, "ended_at": NOW - 7100},
]
FAILURES: tuple[tuple[MessagesError, str], ...] = (
    (OverloadedError("-"), "openai/gpt-oss-120b"),
    (RateLimitError("-"), "openai/gpt-oss-120b"),
    (UpstreamTimeoutError("-"), "vllm/qwen3-32b"),
    (MessagesError("-", status=502), "llama-cpp/gemma-4-12b"),
)


class _Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def made_up() -> Tally:
    """An hour of a busy afternoon."""
    chance, clock = random.Random(7), _Clock()
    clock.now = NOW - 3 * 3600
    tally = Tally(clock)
    for minute in range(60):
        clock.now = NOW - 60 * (59 - minute)
        for _ in range(int(14 + 9 * chance.random() + minute / 4)):
            model = chance.choices(MODELS, WEIGHTS)[0]["model"]
            _ask(tally, model, chance)
        if 21 <= minute <= 24 or chance.random() < 0.02:
            error, model = chance.choice(FAILURES)
            _ask(tally, model, chance, error)
    clock.now = NOW
    for part, count in {"top_k": 214, "thinking": 96, "service_tier": 12, "metadata": 3}.items():
        for _ in range(count):
            tally.drop(part)
    tally.adapt("openai/gpt-oss-120b", "CapMaxTokens")
    tally.adapt("vllm/qwen3-32b", "MergeSystem")
    tally.running = 3
    return tally


def _ask(tally: Tally, model: str, chance: random.Random, error: MessagesError | None = None) -> None:
    request_id = f"req_{chance.randbytes(12).hex()}"
    noted = Noted("chat", request_id, {"model": model, "stream": chance.random() < 0.8}, tally=tally)
    noted.label = model
    try:
        with noted:
            if error is not None:
                raise error
            prompt = int(2000 + 9000 * chance.random())
            cached = int(prompt * (0.5 + 0.4 * chance.random()))
            usage = {"input_tokens": prompt - cached, "cache_read_input_tokens": cached}
            noted.answered({"usage": {**usage, "output_tokens": int(1800 * chance.random())}})
            figures = tally.figures(model)
            figures.first_tokens += 1
            figures.first_token_seconds += 0.2 + 0.5 * chance.random()
    except MessagesError:
        pass


def report() -> bytes:
    """What the page is given."""

    async def models(most: int) -> list[dict[str, Any]]:
        return [{**model, "label": model["model"]} for model in MODELS]

    async def upstreams() -> dict[str, str | None]:
        return UPSTREAMS

    async def batches(limit: int) -> list[dict[str, Any]]:
        chance = random.Random(3)
        return [{"id": f"msgbatch_01m{chance.randbytes(11).hex()}", **batch} for batch in BATCHES]

    made = asyncio.run(StatusReport(StatusConfig(), models, upstreams, batches, made_up()).current())
    return orjson.dumps({**made, "process": {**made["process"], "pid": 4711}})


@contextmanager
def served(*bodies: bytes) -> Iterator[str]:
    """The page at a URL, which is given these numbers in turn."""
    turns = itertools.cycle(bodies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_page = self.path == "/status"
            headers = PAGE_HEADERS | {"content-type": "text/html"} if is_page else {"content-type": "application/json"}
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(PAGE if is_page else next(turns))

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/status"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Write the pictures."""
    from PIL import Image
    from selenium.webdriver.support.ui import WebDriverWait

    with served(report()) as url, tempfile.TemporaryDirectory() as folder, browser(Path(folder), size=SIZE) as driver:
        driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "UTC"})
        driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        driver.get(url)
        WebDriverWait(driver, 20).until(lambda found: found.find_element("id", "all").is_displayed())
        for scheme in ("light", "dark"):
            prefer(driver, scheme)
            # Only the page: the window may be another size than was asked for.
            height = driver.execute_script("return document.documentElement.scrollHeight")
            metrics = {"width": SIZE[0], "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            picture = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            # A page of few colours: a palette is a third of the size.
            picture.quantize(128).save(DOCS / f"status-{scheme}.png", optimize=True)


if __name__ == "__main__":
    main()
