"""Makes Markdown of a web page in a process of its own, which `html.py` starts and ends.

```
arguments   bytes of memory, seconds of CPU
stdin       {"url", "characters"} and a newline, then the page in UTF-8 up to its end
stdout      {"title", "text"}
```
"""

import html
import json
import re
import sys

from html_to_markdown import ConversionOptions, convert

from llama_stack_messages_provider.documents.worker_limits import limit

__all__ = ["main", "markdown"]

_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,1000})", re.IGNORECASE)
_HEAD = 256 * 1024


def main(memory_bytes: int, cpu_seconds: int) -> None:
    """Answer what comes on stdin."""
    limit(memory_bytes, cpu_seconds)
    asked = json.loads(sys.stdin.buffer.readline())
    page = sys.stdin.buffer.read().decode(errors="replace")
    title, text = markdown(page, asked["url"])
    answer = {"title": title, "text": text[: asked["characters"]]}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def markdown(page: str, url: str) -> tuple[str, str]:
    """The title and the text of a page, its links absolute; menus, scripts and pictures are left out."""
    found = _TITLE.search(page, 0, _HEAD)
    options = ConversionOptions(extract_metadata=False, skip_images=True, base_url=url)
    text = str(convert(page, options).content or "")
    return " ".join(html.unescape(found[1]).split()) if found else "", text.strip()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
