"""Run the benchmarks: ``python -m benchmarks [--quick] [--only ours,host,direct]``.

Everything runs on 127.0.0.1, on two cores of Linux: the servers on one, upstream and load on the other.
"""

import argparse
import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import orjson

from benchmarks import report
from benchmarks.load import Job, Result
from benchmarks.measures import MEASURES, Measure, Rounds, check_bounds, figures_of
from benchmarks.targets import ROOT, TARGETS, WORK, Server, Target, Upstreams, start, start_upstream, versions

RESULTS = Path(__file__).parent / "results"
QUICK_SECONDS = 0.5
ALL_MEASURES = ",".join(measure.name for measure in MEASURES)
Generator = subprocess.Popen[bytes]


def arguments() -> argparse.Namespace:
    """The command line."""
    groups = list(dict.fromkeys(target.group for target in TARGETS.values()))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, in about three minutes")
    parser.add_argument("--only", default=",".join(groups), help=f"some of {','.join(groups)} (default: all)")
    parser.add_argument("--measures", help=f"some of {ALL_MEASURES} (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds of every measure")
    parser.add_argument("--results", type=Path, help="folder for latest.json and latest.svg")
    options = parser.parse_args()
    if options.results is None:
        options.results = WORK / "results" if sys.argv[1:] else RESULTS
    return options


def chosen_measures(options: argparse.Namespace) -> list[Measure]:
    """The measures that the options ask for."""
    names = (options.measures or ALL_MEASURES).split(",")
    measures = [measure for measure in MEASURES if measure.name in names]
    if options.quick:
        measures = [replace(each, rounds=1, after=0, seconds=min(each.seconds, QUICK_SECONDS)) for each in measures]
    if options.rounds:
        measures = [replace(each, rounds=options.rounds, after=0) for each in measures]
    return measures


@contextmanager
def work_folder() -> Iterator[None]:
    """The folder for environments, configurations and logs, for one run at a time."""
    (WORK / "run").mkdir(parents=True, exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def started(targets: list[Target], load_core: int, server_core: int) -> Iterator[dict[str, Server]]:
    """All servers, ready; stopped afterwards."""
    with ExitStack() as stack:

        def keep(server: Server) -> Server:
            stack.callback(server.stop)
            return server

        native = keep(start_upstream("anthropic", load_core))
        chat = keep(start_upstream("openai", load_core))
        native.wait_until_ready()
        chat.wait_until_ready()
        upstreams = Upstreams(native.url, chat.url)
        servers = {each.name: keep(start(each, upstreams, server_core)) if each.launch else native for each in targets}
        for name, server in servers.items():
            server.wait_until_ready()
            print(f"{TARGETS[name].title} is up", flush=True)
        yield servers


@contextmanager
def load_generator(core: int) -> Iterator[Generator]:
    """The load generator's process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        os.sched_setaffinity(process.pid, {core})
        yield process


def ask(generator: Generator, measure: Measure, target: Target, server: Server) -> Result:
    """Have the load generator do one measure."""
    job = Job(
        pid=server.process.pid,
        port=server.port,
        dialect=target.dialect,
        case=measure.case,
        model=target.model_prefix + measure.case,
        concurrency=measure.concurrency,
        seconds=measure.seconds,
        stagger=measure.stagger,
        warm=measure.warm,
    )
    assert generator.stdin
    assert generator.stdout
    generator.stdin.write(orjson.dumps(asdict(job)) + b"\n")
    generator.stdin.flush()
    return Result(**orjson.loads(generator.stdout.readline()))


def race(generator: Generator, measures: list[Measure], targets: list[Target], servers: dict[str, Server]) -> Rounds:
    """Every measure on every target, round by round; each round starts with another target."""
    rounds: Rounds = {target.name: {measure.name: [] for measure in measures} for target in targets}
    for number in range(max(measure.after + measure.rounds for measure in measures)):
        shift = number % len(targets)
        for measure in measures:
            if not measure.after <= number < measure.after + measure.rounds:
                continue
            print(f"round {number + 1}, {measure.name}", flush=True)
            for target in targets[shift:] + targets[:shift]:
                result = ask(generator, measure, target, servers[target.name])
                rounds[target.name][measure.name].append(result)
                for failure in result.failures:
                    print(f"  {target.name}: {failure[:500]}", flush=True)
    return rounds


def main() -> int:
    """Run, print, save; 1 if an answer was wrong."""
    options = arguments()
    groups = set(options.only.split(","))
    targets = [target for target in TARGETS.values() if target.group in groups]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the servers, one for the load")
    os.sched_setaffinity(0, {cores[0]})
    # 500 streams are 1,000 sockets in a server; where limits are low, that is one too many.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the servers are stopped.
    with (
        work_folder(),
        started(targets, cores[0], cores[1]) as servers,
        load_generator(cores[0]) as generator,
    ):
        rounds = race(generator, chosen_measures(options), targets, servers)
    figures = figures_of(rounds)
    checks = check_bounds(figures)
    print(f"\n{report.table(figures)}\n\n{report.check_table(checks)}\n")
    print("\n".join(f"- {note}" for note in report.NOTES))
    report.save(options.results, report.document(rounds, figures, checks, versions(groups)))
    print(f"- written to {options.results}")
    wrong = report.failures(rounds)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
