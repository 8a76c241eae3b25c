"""`python -m tests.fuzz [--seconds N] [TARGET ...]`: coverage-guided fuzzing by atheris, each target in its turn.

What breaks a promise is left in the working directory as `crash-*`; put it into `tests/fuzz/corpus/TARGET/` when it is
mended, and the tests will run it. What was found on the way is kept in a folder that goes with the run.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

MAX_INPUT_BYTES = 4096
HANG_SECONDS = 10

with atheris.instrument_imports(include=["llama_stack_messages_provider"]):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS


def _one(name: str, seconds: int, folder: Path) -> None:
    """Fuzz one target in this process, which ends with it."""
    for number, data in enumerate(seeds(name)):
        (folder / f"seed-{number:04}").write_bytes(data[:MAX_INPUT_BYTES])
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={HANG_SECONDS}",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder)], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Each target in a process of its own; 1 if one of them broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="for all targets together")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", default=[], choices=[*TARGETS, []])
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    each = max(1, options.seconds // len(names))
    failed = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            if options.one:
                _one(name, each, Path(folder))
            command = [sys.executable, "-m", "tests.fuzz", "--one", "--seconds", str(each), name]
            print(f"--- {name}, {each} s", flush=True)
            if subprocess.run(command, check=False).returncode:
                failed.append(name)
    print(f"broken: {', '.join(failed)}" if failed else "every target kept its promise")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
