"""The web as Llama Stack's own search providers see it: their services' addresses lead to one scripted server.

```
with SearchServices(folder) as web:
    with Stack(run_config(..., tool_runtime=[search_provider("tavily")]), folder, env=web.env): ...
    web.found(page("https://otters.test/a", "Otters", "They swim."))   # what the next searches find
    web.queries                                                        # what was searched for
    web.services.reply(TAVILY, json_reply({}, status=500))
```
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.support.tls import TlsProxy, self_signed
from tests.support.upstream import Personality, ScriptedUpstream, json_reply
from tests.support.wire import Json

__all__ = ["BRAVE", "TAVILY", "SearchServices", "page"]

TAVILY = "POST /search"
BRAVE = "GET /res/v1/web/search"
HOSTS = ("api.tavily.com", "api.search.brave.com")


def page(url: str, title: str, text: str = "") -> Json:
    """A page that a search finds."""
    return {"url": url, "title": title, "content": text}


class SearchServices:
    """Tavily and Brave; a context manager.

    Args:
        folder: Where certificates go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened = ExitStack()
        self.services = ScriptedUpstream(Personality("search"))
        self.env: Mapping[str, str] = {}

    def found(self, *pages: Json) -> None:
        """What searches find from now on."""
        self.services.reply(TAVILY, lambda request: json_reply({"query": request.json["query"], "results": pages}))
        web = [
            {"type": "search_result", "url": page["url"], "title": page["title"], "description": page["content"]}
            for page in pages
        ]
        order = [{"type": "web", "index": index, "all": False} for index in range(len(web))]
        self.services.reply(BRAVE, json_reply({"mixed": {"main": order}, "web": {"results": web}}))

    @property
    def queries(self) -> list[str]:
        """What was searched for, in order."""
        return [
            request.json["query"] if request.json else parse_qs(urlsplit(request.target).query)["q"][0]
            for request in self.services.requests
        ]

    def __enter__(self) -> Self:
        self._opened.enter_context(self.services)
        certificate, key = self_signed(self._folder, *HOSTS)
        proxy = self._opened.enter_context(TlsProxy(self.services.port, certificate, key))
        self.env = {"HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": str(certificate)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
