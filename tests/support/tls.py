"""TLS in front of a scripted upstream.

```
certificate, key = self_signed(tmp_path, "api.test")     PEM files for 127.0.0.1 too; the certificate is its own CA
with TlsFront(upstream.port, certificate, key) as url:   "https://127.0.0.1:..."
with TlsProxy(upstream.port, certificate, key) as url:   "http://127.0.0.1:...", for HTTPS_PROXY: is every host
```
"""

import asyncio
import datetime
import ipaddress
import ssl
import threading
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["TlsFront", "TlsProxy", "self_signed"]

START_SECONDS = 60.0
PIECE_BYTES = 65_536


def self_signed(folder: Path, *hosts: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and other hosts, and its key, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, hosts)]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


class TlsFront:
    """Takes TLS connections on a free port and hands their bytes to a plain one; a context manager.

    Args:
        port: The plain server's port.
        certificate, key: PEM files.
    """

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        self._plain = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._closing = asyncio.Event()
        self.port = 0

    def __enter__(self) -> str:
        self._thread.start()
        assert self._started.wait(START_SECONDS), "the TLS front did not start"
        return f"https://127.0.0.1:{self.port}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await self._listen()
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._closing.wait()
        server.close()
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.sleep(0)  # a transport closes its socket in the turn after its end

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=self._context)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", self._plain)
        try:
            await asyncio.gather(_pipe(reader, plain_writer), _pipe(plain_reader, writer), return_exceptions=True)
        except asyncio.CancelledError:  # the front ends, and waits for nobody's end of TLS
            writer.transport.abort()
            plain_writer.transport.abort()


class TlsProxy(TlsFront):
    """A proxy for HTTPS that is itself the host that anyone asks for, with its certificate."""

    def __enter__(self) -> str:
        return super().__enter__().replace("https:", "http:")

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._tunnel, "127.0.0.1", 0)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.start_tls(self._context)
        await self._connect(reader, writer)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
