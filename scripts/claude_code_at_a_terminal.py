"""A real Claude Code at a terminal, started by `launch claude`: what `try_claude_code.py --interactive` looks at."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.terminal import DOWN, ENTER, ESCAPE, Terminal
from scripts.try_claude_code import EXPLANATION, NOWHERE, OUTCOMES, QUESTION, ROUTES, SECONDS, Script, scripted, set_up
from tests.support.stack import Stack, embedded_provider, run_config

# What it asks at its first start, in a home that it has never seen.
FIRST_START = {
    "Choose the text style": [ENTER],
    "Press Enter to continue": [ENTER],
    "Yes, I trust this folder": [DOWN, ENTER],
}
# It then judges calls itself, in requests of 144 kB that are not streamed.
NOTICE = "session isn't eligible"
# Behind the names of models that are not the stack's.
PRICE = "per Mtok"


def observations(client: Path) -> Iterator[tuple[str, bool]]:
    """What was seen, in words, and whether it is as it should be."""
    with tempfile.TemporaryDirectory() as name, Script() as script:
        folder = Path(name)
        with scripted(script, folder) as stack:
            for route in ROUTES:
                for outcome in OUTCOMES:
                    yield commanded(client, stack, script, folder / f"{route}-{outcome}", route, outcome)
        with scripted(script, folder, safeguards={"enabled": False}) as stack:
            yield noticed(client, stack, script, folder / "unjudged")
    for route in ("native", "translation"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = run_config(folder, inference=[embedded_provider()], messages={"route": route})
            with Stack(config, folder) as stack:
                yield answered(client, stack, folder / "home", route)


def commanded(client: Path, stack: Stack, script: Script, home: Path, route: str, outcome: str) -> tuple[str, bool]:
    """The model wants to delete a folder."""
    _, victim = set_up(script, home, outcome)
    with launched(client, stack, home, f"{route}/m") as terminal:
        started = starts(terminal)
        listed = lists(terminal, *(f"{each}/m" for each in ROUTES))
        terminal.press(QUESTION, ENTER)
        done = terminal.shows("\n● Done.", NOTICE, seconds=SECONDS)
        explained, notice = EXPLANATION in terminal.text(), NOTICE in terminal.text()
    ran = not victim.exists()
    own = len([seen for seen in script.asked() if not seen.json.get("stream")]) - len(script.judged())
    flagged = outcome == "flagged"
    right = (started, listed, done, ran, explained, own, notice) == (True, True, True, not flagged, flagged, 0, False)
    words = f"ran {ran!s:5} explained {explained!s:5} own judging {own} notice {notice}"
    return f"{route:11} {outcome:11} started {started} /model {listed} {words}", right


def noticed(client: Path, stack: Stack, script: Script, home: Path) -> tuple[str, bool]:
    """Where nobody judges, this sees what it looks for."""
    set_up(script, home, "flagged")
    with launched(client, stack, home, "native/m") as terminal:
        starts(terminal)
        terminal.press(QUESTION, ENTER)
        notice = terminal.shows(NOTICE, seconds=SECONDS)
    return f"native      not judged  notice {notice}", notice


def answered(client: Path, stack: Stack, home: Path, route: str) -> tuple[str, bool]:
    """SmolLM2 answers; `--bare` because all that the client says otherwise does not fit into its window."""
    (home / "work").mkdir(parents=True)
    with launched(client, stack, home, "llama-cpp/smollm2", "--bare") as terminal:
        started = starts(terminal)
        listed = lists(terminal, "llama-cpp/smollm2")
        terminal.press("Say hello.", ENTER)
        said = terminal.shows("\n● ", NOTICE, seconds=SECONDS)
        notice = NOTICE in terminal.text()
    right = (started, listed, said, notice) == (True, True, True, False)
    return f"{route:11} SmolLM2     started {started} /model {listed} answered {said} notice {notice}", right


def launched(client: Path, stack: Stack, home: Path, model: str, *arguments: str) -> Terminal:
    """`launch claude` in the home's folder `work`."""
    tools = home / "bin"
    tools.mkdir()
    (tools / "claude").symlink_to(client)
    launch = [str(Path(sys.executable).with_name("llama-stack-messages")), "launch", "claude"]
    return Terminal(
        [*launch, "--url", stack.base_url, "--model", model, "--", *arguments],
        home / "work",
        {**NOWHERE, "HOME": str(home), "PATH": f"{tools}:/usr/bin:/bin"},
    )


def starts(terminal: Terminal) -> bool:
    """Whether it comes up in auto mode."""
    for words, keys in FIRST_START.items():
        if not terminal.shows(words):
            return False
        terminal.press(*keys)
    return terminal.shows("auto mode on")


def lists(terminal: Terminal, *names: str) -> bool:
    """Whether `/model` has these, and none that the stack has not."""
    terminal.press("/model", ENTER)
    terminal.shows("Select model")
    listed = terminal.text().rpartition("Select model")[2]
    terminal.press(ESCAPE)
    return all(name in listed for name in names) and PRICE not in listed
