"""The load generator: a process that reads jobs, one JSON object a line, and answers each with its figures.

Raw asyncio over keep-alive connections. Answers are decoded and verified when the clock has stopped.
"""

import asyncio
import gc
import re
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field

import orjson

from benchmarks.payloads import CASES, FIRST_TOKEN, PATHS, Dialect, WrongAnswerError, request_body, verify
from benchmarks.proc import cpu_seconds, peak_bytes, reset_peak

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SETTLE_SECONDS = 0.1
JOB_SECONDS_LIMIT = 180


@dataclass(frozen=True)
class Job:
    """``concurrency`` clients ask for ``case``, each for ``seconds`` or, if that is 0, ``each`` times."""

    pid: int
    port: int
    dialect: Dialect
    case: str
    model: str
    concurrency: int
    seconds: float = 0.0
    each: int = 1
    stagger: float = 0.0  # seconds over which the clients' starts are spread
    warm: int = 0  # requests before the clock starts


@dataclass
class Result:
    """Times in seconds, memory in bytes; the failures' figures are not in the rest."""

    requests: int = 0
    events: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    latency: float = 0.0  # median
    first: float = 0.0  # median
    peak: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass
class Answer:
    """One response as it came, and when."""

    raw: bytes
    head_end: int
    sent: float
    first: float
    done: float


class Connection(asyncio.Protocol):
    """A keep-alive HTTP/1.1 connection that carries one request at a time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiter: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiter and not self.waiter.done():
            self.waiter.set_exception(ConnectionError("the server closed the connection"))

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send ``request``; the future holds its answer."""
        self.waiter = self.loop.create_future()
        self.parts: list[bytes] = []
        self.size = self.head_end = 0
        self.length: int | None = None
        self.first = 0.0
        self.sent = time.perf_counter()
        self.transport.write(request)
        return self.waiter

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.parts.append(data)
        self.size += len(data)
        if not self.head_end:
            self.read_head()
        if not self.first and FIRST_TOKEN in b"".join(self.parts):
            self.first = now
        if self.head_end and self.is_complete() and self.waiter and not self.waiter.done():
            self.waiter.set_result(Answer(b"".join(self.parts), self.head_end, self.sent, self.first, now))

    def read_head(self) -> None:
        """Find the head's end and the body's length, if it has one."""
        raw = b"".join(self.parts)
        end = raw.find(b"\r\n\r\n")
        if end < 0:
            return
        self.head_end = end + 4
        length = LENGTH.search(raw, 0, self.head_end)
        self.length = int(length[1]) if length else None

    def is_complete(self) -> bool:
        """Whether the body has ended: by its length, or by the last chunk, as no JSON event ends."""
        if self.length is not None:
            return self.size >= self.head_end + self.length
        tail = self.parts[-1] if len(self.parts[-1]) >= 5 else b"".join(self.parts[-5:])
        return tail.endswith(b"0\r\n\r\n")


def body_of(answer: Answer) -> bytes:
    """The body of a 200 answer, out of its chunks."""
    head, body = answer.raw[: answer.head_end].lower(), answer.raw[answer.head_end :]
    if not head.startswith(b"http/1.1 200 "):
        raise WrongAnswerError(answer.raw[:400].decode(errors="replace"))
    if b"\r\ntransfer-encoding: chunked" not in head:
        return body
    pieces: list[bytes] = []
    at = 0
    while size := int(body[at : (line_end := body.index(b"\r\n", at))], 16):
        pieces.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 4 + size
    return b"".join(pieces)


def encode_request(job: Job) -> bytes:
    """The whole request of ``job``."""
    body = request_body(CASES[job.case], job.dialect, job.model)
    head = (
        f"POST {PATHS[job.dialect]} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\nx-api-key: none\r\nauthorization: Bearer none\r\naccept: */*\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Run:
    """One job at work."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = encode_request(job)
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self.deadline = 0.0

    async def connect(self) -> Connection:
        """Open a connection to the server."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self.job.port)
        return connection

    async def client(self, connection: Connection, delay: float) -> None:
        """One client: ask, wait for the whole answer, ask again."""
        await asyncio.sleep(delay)
        asked = 0
        while time.perf_counter() < self.deadline if self.job.seconds else asked < self.job.each:
            asked += 1
            if connection.transport.is_closing():
                connection = await self.connect()
            try:
                self.answers.append(await connection.ask(self.request))
            except ConnectionError as error:
                self.failures.append(str(error))
        connection.transport.close()

    async def measure(self) -> Result:
        """Warm up, run, settle, verify."""
        job = self.job
        connections = [await self.connect() for _ in range(job.concurrency)]
        for index in range(job.warm):
            await connections[index % job.concurrency].ask(self.request)
        await asyncio.sleep(SETTLE_SECONDS)
        reset_peak(job.pid)
        cpu = cpu_seconds(job.pid)
        start = time.perf_counter()
        self.deadline = start + job.seconds
        gap = job.stagger / job.concurrency
        await asyncio.gather(*(self.client(connection, i * gap) for i, connection in enumerate(connections)))
        wall = max((answer.done for answer in self.answers), default=start) - start
        await asyncio.sleep(SETTLE_SECONDS)
        return self.figures(wall, cpu_seconds(job.pid) - cpu, peak_bytes(job.pid))

    def figures(self, wall: float, cpu: float, peak: int) -> Result:
        """Verify every answer and sum up."""
        case = CASES[self.job.case]
        for answer in self.answers:
            try:
                verify(case, self.job.dialect, body_of(answer))
            except (WrongAnswerError, LookupError, TypeError, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
        if not self.answers or self.failures:
            failures = [f"{len(self.failures)} failed of {len(self.answers)}", *self.failures[:1]]
            return Result(requests=len(self.answers), failures=failures)
        latencies = [answer.done - answer.sent for answer in self.answers]
        firsts = [answer.first - answer.sent for answer in self.answers]
        return Result(
            requests=len(latencies),
            events=len(latencies) * case.events,
            wall=wall,
            cpu=cpu,
            latency=statistics.median(latencies),
            first=statistics.median(firsts) if case.events else 0.0,
            peak=peak,
        )


async def run(job: Job) -> Result:
    """Do a job; whatever goes wrong is a failure in the result."""
    try:
        async with asyncio.timeout(JOB_SECONDS_LIMIT):
            return await Run(job).measure()
    except (OSError, TimeoutError) as error:
        return Result(failures=[f"{type(error).__name__}: {error}"])


def main() -> None:
    """Answer jobs until the input ends."""
    gc.disable()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(orjson.dumps(asdict(asyncio.run(run(Job(**orjson.loads(line)))))) + b"\n")
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
