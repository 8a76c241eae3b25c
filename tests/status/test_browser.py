"""The status page as people have it: a real browser, keyboard, both colour schemes, and what axe says of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest

from scripts.status_pictures import report, served
from tests.support import personalities
from tests.support.browser import barriers, browser, needs_browser, prefer
from tests.support.replies import FOREVER, Reply
from tests.support.stack import Stack, custom_auth, free_port, openai_provider, run_config, vllm_provider
from tests.support.upstream import RecordedRequest, ScriptedUpstream, chat_reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

SECRET = "the otters are plotting"
KEY = "sk-very-secret"
CHAT = "/v1/chat/completions"
HOSTILE = "<script>document.title='otters'</script>"
RESTING = free_port()
USERS = {"admin-key": ("ada", {"roles": ["admin"]}), "user-key": ("ulf", {"roles": ["user"]})}


class Page:
    """The page in a browser.

    Args:
        driver: Selenium's.
        stack: The server, where it is a real one.
    """

    def __init__(self, driver: Any, stack: Stack | None = None) -> None:
        self.driver = driver
        self.stack = stack

    def open(self) -> None:
        assert self.stack is not None
        self.driver.get_log("browser")
        self.driver.get(f"{self.stack.base_url}/v1/messages/status")

    def text(self, ident: str = "all") -> str:
        return str(self.driver.find_element("id", ident).text)

    def says(self, words: str, ident: str = "all") -> None:
        """It says so, at its next look at the latest."""
        eventually(lambda: words in self.text(ident), within=60, what=f"{words!r} in #{ident}")

    def colour_of(self, selector: str, name: str = "background-color") -> str:
        return str(self.driver.find_element("css selector", selector).value_of_css_property(name))

    def complaints(self) -> list[str]:
        """What the browser has against the page: refused by its policy, or failed."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    needs_browser()
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def openai() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(personalities.openai_style(models=["chat-model", HOSTILE])) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, openai: ScriptedUpstream, chromium: Any) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("status")
    with ScriptedUpstream(personalities.vllm(models=["native-model"])) as vllm:
        # `resting` has a port that nobody listens on until a test does.
        inference = [vllm_provider(vllm.url), openai_provider(openai.url, api_key=KEY)]
        inference.append(openai_provider(f"http://127.0.0.1:{RESTING}", "resting"))
        models = [{"model_id": "rested", "provider_id": "resting", "provider_model_id": "rested", "model_type": "llm"}]
        messages = {"batches": {"concurrency": 1, "concurrency_per_batch": 1, "poll_seconds": 0.2}}
        config = run_config(folder, inference=inference, messages=messages, models=models)
        with Stack(config, folder) as stack:
            yield stack


@pytest.fixture
def page(chromium: Any, stack: Stack) -> Page:
    page = Page(chromium, stack)
    prefer(chromium, "light")
    page.open()
    page.says("Live", "live")
    return page


@pytest.fixture
def client(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
        yield client


def asked(model: str = "openai/chat-model") -> Any:
    return {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": SECRET}]}


def held(request: RecordedRequest) -> Reply:
    """An answer that waits until it is released."""
    reply = chat_reply(SECRET)
    made = reply(request) if callable(reply) else reply
    return replace(made, before=(FOREVER,))


def test_it_shows_a_batch_that_moves(page: Page, client: anthropic.Anthropic, openai: ScriptedUpstream) -> None:
    openai.forget()
    openai.reply(CHAT, held)
    requests: Any = [{"custom_id": f"otter-{number}", "params": asked()} for number in range(2)]
    batch = client.messages.batches.create(requests=requests)
    page.says("0 of 2", "batches")
    assert batch.id in page.text("batches")
    for done in range(1, 3):
        eventually(lambda n=done: len(openai.requests_to(CHAT)) == n)
        openai.release()
        page.says(f"{done} of 2", "batches")
    page.says("ended", "batches")
    page.says("2 in the hour", "tiles")
    assert SECRET not in page.driver.page_source
    assert "otter-" not in page.driver.page_source


def test_it_shows_an_upstream_that_comes_and_goes(page: Page) -> None:
    page.says("down: resting", "live")
    with ScriptedUpstream(personalities.openai_style(models=["rested"]), port=RESTING):
        eventually(lambda: page.text("live") == "Live", what="an upstream that is back")
    page.says("down: resting", "live")
    page.says("down: ", "models")


def test_it_shows_failures_by_their_request_ids_and_nobody_s_words(
    page: Page, client: anthropic.Anthropic, openai: ScriptedUpstream
) -> None:
    openai.forget()
    openai.reply(CHAT, chat_reply(SECRET))
    client.messages.create(**asked(), system=SECRET)
    list(client.messages.create(**asked(), stream=True))
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(**asked(f"{HOSTILE}{KEY}"))
    page.says(str(refused.value.response.headers["request-id"]), "failures")
    page.says("not_found_error", "failures")
    for word in (SECRET, "sk-test", "user-key"):
        assert word not in page.driver.page_source


def test_it_adds_up_the_processes_that_answer_it(chromium: Any) -> None:
    first, second = (orjson.loads(report()) for _ in range(2))
    for each in (first, second):
        each["process"]["workers"] = 3
    running = first["tally"]["running"]
    requests = sum(minute["requests"] for minute in first["tally"]["minutes"])
    with served(orjson.dumps(first), orjson.dumps(second)) as url:
        chromium.get(url)
        page = Page(chromium)
        page.says("the sum of the 1 of 3 processes", "whose")
        page.says("the sum of the 2 of 3 processes", "whose")
        page.says(f"Running now\n{2 * running}\n", "tiles")
        page.says(f"{2 * requests / 1000:.1f}K in the hour", "tiles")
        assert len(chromium.find_elements("css selector", "#failures tbody tr")) == 2 * len(first["tally"]["failures"])
        assert barriers(chromium) == []


def test_names_that_are_markup_are_text(page: Page) -> None:
    page.says(f"openai/{HOSTILE}", "models")
    assert page.driver.title == "Status of the Messages API"
    assert len(page.driver.find_elements("tag name", "script")) == 1
    assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_anybody(page: Page, scheme: Any) -> None:
    prefer(page.driver, scheme)
    page.driver.execute_script("document.querySelector('details').open = true")
    assert barriers(page.driver) == []


def test_it_follows_the_colour_scheme(page: Page) -> None:
    light = page.colour_of("body"), page.colour_of("body", "color")
    prefer(page.driver, "dark")
    dark = page.colour_of("body"), page.colour_of("body", "color")
    assert _brightness(light[0]) > 200 > 100 > _brightness(light[1])
    assert _brightness(dark[0]) < 60 < 200 < _brightness(dark[1])


def _brightness(colour: str) -> float:
    parts = colour.partition("(")[2].rstrip(")").split(",")[:3]
    return sum(map(float, parts)) / 3


def test_the_keyboard_reaches_all_that_can_be_done(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    reached = []
    for _ in range(8):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        focused = page.driver.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.get_attribute("aria-label") or focused.tag_name)
        if focused.tag_name in ("button", "summary"):
            assert focused.value_of_css_property("outline-style") == "solid"
    tables = [f"Table: {name}" for name in ("models", "batches", "last failures", "what did not reach models")]
    assert reached[:6] == ["pause", "summary", *tables]
    button = page.driver.find_element("id", "pause")
    button.send_keys(Keys.ENTER)
    page.says("Paused", "live")
    assert button.get_attribute("aria-pressed") == "true"
    button.send_keys(Keys.SPACE)
    page.says("Live", "live")


def test_a_screen_reader_is_told_what_the_plots_show_and_what_changes(page: Page) -> None:
    live = page.driver.find_element("id", "live")
    assert (live.get_attribute("role"), live.get_attribute("aria-live")) == ("status", "polite")
    for ident, words in {"requests": "Requests in each minute", "tokens": "Tokens in each minute"}.items():
        plot = page.driver.find_element("id", ident)
        assert plot.get_attribute("role") == "img"
        assert words in str(plot.get_attribute("aria-label"))
    for table in page.driver.find_elements("tag name", "table"):
        assert table.find_element("tag name", "caption").get_attribute("textContent")
        assert all(head.get_attribute("scope") for head in table.find_elements("tag name", "th"))


def test_it_asks_for_an_administrator_s_key_and_says_when_the_server_is_gone(
    chromium: Any, openai: ScriptedUpstream, tmp_path: Path
) -> None:
    with ExitStack() as opened:
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(USERS)))
        config = run_config(tmp_path, inference=[openai_provider(openai.url)], messages={}, auth=custom_auth(auth.url))
        stack = opened.enter_context(Stack(config, tmp_path))
        page = Page(chromium, stack)
        page.open()
        page.says("A key is needed", "live")
        give = _giver(page)
        assert page.driver.switch_to.active_element.get_attribute("id") == "key"
        assert barriers(page.driver) == []
        give("unknown-key")
        page.says("does not know this key", "ask")
        give("user-key")
        page.says("the key is not one's", "ask")
        assert "chat-model" not in page.driver.page_source
        give("admin-key")
        page.says("openai/chat-model", "models")
        assert not page.driver.find_element("id", "ask").is_displayed()
        assert "admin-key" not in page.driver.page_source
        stack.stop()
        page.says("The server does not answer; all this is of", "live")
        assert "chat-model" in page.text("models")
        stack.start()
        page.says("Live", "live")


def _giver(page: Page) -> Callable[[str], None]:
    from selenium.webdriver.common.keys import Keys

    def give(key: str) -> None:
        field = page.driver.find_element("id", "key")
        field.clear()
        field.send_keys(key, Keys.ENTER)

    return give
