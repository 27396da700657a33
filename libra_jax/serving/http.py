"""HTTP/1.1 for clients that nobody trusts: every size, wait and number of connections is bounded.

Requests have a Content-Length and a body in memory; answers are bodies or streams of pieces. What is not needed is
refused: other transfer encodings, upgrades, bodies on GET. A client that goes away cancels what is done for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http
import json
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

_HEAD = 16 << 10  # bytes of request line and headers
_PIECE = 64 << 10
_LINGER = 2.0  # seconds in which a refused client may still send what nobody reads, so that it sees the refusal
_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]{0,2047}) HTTP/1\.([01])")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What a connection may cost.

    Attributes:
      connections: open at once; one more is told 503 and closed.
      body: bytes of a request's body; a larger one is refused with 413 before it is read.
      read_seconds: from a request's first byte to its last.
      write_seconds: in which a client takes each piece of an answer.
      idle_seconds: between two requests of a connection.
    """

    connections: int = 512
    body: int = 4 << 20
    read_seconds: float = 20.0
    write_seconds: float = 20.0
    idle_seconds: float = 60.0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not value > 0:
                raise ValueError(f"limits.{name}={value}: expected a number above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One request; `headers` by lower-case name; `path` without its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer: `body`, or `pieces` that are sent as they come."""

    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pieces: AsyncGenerator[bytes, None] | None = None


class Refused(Exception):
    """A request that is not served, with the status and headers of its answer; the message is for the client."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})

    def reply(self) -> Reply:
        """The answer, in the shape of OpenAI's errors."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return Reply(status=self.status, headers=self.headers,
                     body=to_json({"error": {"message": str(self), "type": kind, "code": self.status}}))


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address where nobody listens, itself not listening yet. OSError where it cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise OSError(f"{host}, port {port}: {error}; expected an address of this machine and a free port (0: any that "
                      "is free)") from None
    return bound


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; lone surrogates, which UTF-8 has not, become "?"."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


class Server:
    """Reads requests and writes replies. `check` sees a request before its body is read and may refuse it; `answer`
    makes the reply, and is cancelled when its client goes away. `count` hears (path, status) of every reply, with an
    empty path where none was understood."""

    def __init__(self, limits: LimitsConfig, check: Callable[[Request], None],
                 answer: Callable[[Request], Awaitable[Reply]], count: Callable[[str, int], None]):
        self.limits, self._check, self._answer, self._count = limits, check, answer, count
        self._tasks: set[asyncio.Task] = set()
        self.num_active = 0  # requests that are read and not yet answered
        self.closing = False

    @property
    def num_connections(self) -> int:
        """How many are open."""
        return len(self._tasks)

    async def start(self, bound: socket.socket) -> None:
        """Listens at a socket that `bind` gave."""
        self._server = await asyncio.start_server(self._connected, sock=bound, limit=_PIECE, backlog=1024)

    async def stop(self) -> None:
        """Listens no more, and closes what is open."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LINGER)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # so that drain waits for the client
        connection = _Connection(self, reader, writer)
        if len(self._tasks) >= self.limits.connections:
            task = connection.refuse(Refused(503, "too many connections", headers={"Retry-After": "1"}))
        else:
            mine = asyncio.current_task()
            if mine:
                self._tasks.add(mine)
            task = connection.serve()
        try:
            await task
        except (TimeoutError, OSError):
            pass  # the client is gone or too slow; nobody is left to be told
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.transport.abort()


class _Connection:
    """One client; `buffer` holds what came and is not yet a request."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.server, self.reader, self.writer, self.buffer = server, reader, writer, bytearray()
        self.path = ""  # of the request under way, once it is known

    async def serve(self) -> None:
        """Requests one after another, until one of the two sides is done."""
        again = True
        while again:
            self.path = ""
            try:
                request, again = await self._read()
                if request is None:
                    return
                again = again and not self.server.closing
            except Refused as refused:
                return await self.refuse(refused)
            self.server.num_active += 1
            try:
                reply = await self._made(request)
                if reply is None:
                    return
                again = again and not self.server.closing
                await self._write(reply, again)
                self.server._count(request.path, reply.status)
            finally:
                self.server.num_active -= 1

    async def refuse(self, refused: Refused) -> None:
        """Says why and closes, having let the client finish its sentence."""
        self.server._count(self.path, refused.status)
        await self._write(refused.reply(), False)
        if self.writer.can_write_eof():
            self.writer.write_eof()
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(_LINGER):
                while await self.reader.read(_PIECE):
                    pass

    async def _made(self, request: Request) -> Reply | None:
        """The reply, or None where the client went away meanwhile."""
        answering = asyncio.ensure_future(self.server._answer(request))
        leaving = asyncio.ensure_future(self._left())
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                return None
            try:
                return answering.result()
            except Refused as refused:
                return refused.reply()
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _left(self) -> None:
        """Returns when the client has closed; one that already sends its next request is not watched."""
        while not self.buffer:
            if not await self._more():
                return
        await asyncio.Event().wait()

    async def _more(self) -> bool:
        piece = await self.reader.read(_PIECE)
        self.buffer += piece
        return bool(piece)

    async def _read(self) -> tuple[Request | None, bool]:
        """The next request, None where there is none, and whether another may follow it."""
        try:
            if not self.buffer:
                async with asyncio.timeout(self.server.limits.idle_seconds):
                    if not await self._more():
                        return None, False
        except TimeoutError:
            return None, False
        try:
            async with asyncio.timeout(self.server.limits.read_seconds):
                return await self._request()
        except TimeoutError:
            raise Refused(408, f"the request did not come within {self.server.limits.read_seconds:g} s") from None

    async def _request(self) -> tuple[Request | None, bool]:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if len(self.buffer) > _HEAD:
                raise Refused(431, f"more than {_HEAD:,} bytes of headers")
            if not await self._more():
                return None, False
        if end > _HEAD:
            raise Refused(431, f"more than {_HEAD:,} bytes of headers")
        request, size, again = head(bytes(self.buffer[:end]))
        self.path = request.path
        self.server._check(request)
        if size > self.server.limits.body:
            raise Refused(413, f"a body of {size:,} bytes: expected at most {self.server.limits.body:,}")
        del self.buffer[: end + 4]
        if size > len(self.buffer) and request.headers.get("expect", "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self.buffer) < size:
            if not await self._more():
                return None, False
        body = bytes(self.buffer[:size])
        del self.buffer[:size]
        return dataclasses.replace(request, body=body), again

    async def _write(self, reply: Reply, again: bool) -> None:
        headers = {"Content-Type": reply.kind, "X-Content-Type-Options": "nosniff", **reply.headers,
                   "Connection": "keep-alive" if again else "close"}
        if reply.pieces is None:
            headers["Content-Length"] = str(len(reply.body))
        else:
            headers |= {"Transfer-Encoding": "chunked", "Cache-Control": "no-store"}
        lines = [f"HTTP/1.1 {reply.status} {http.HTTPStatus(reply.status).phrase}",
                 *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await self._send("\r\n".join(lines).encode("latin-1") + reply.body)
        if reply.pieces is None:
            return
        async with contextlib.aclosing(reply.pieces) as pieces:
            async for piece in pieces:
                await self._send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await self._send(b"0\r\n\r\n")

    async def _send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(self.server.limits.write_seconds):
            await self.writer.drain()


def head(raw: bytes) -> tuple[Request, int, bool]:
    """A request without its body, the body's size, and whether another may follow, from its head. Refused for others.

    What two readers could understand differently (two sizes, folded lines, a size beside a transfer encoding) is none.
    """
    first, *rest = raw.decode("latin-1").split("\r\n")
    line = _LINE.fullmatch(first)
    if not line:
        raise Refused(400, "the first line is no HTTP/1.1 request")
    headers: dict[str, str] = {}
    for text in rest:
        field = _FIELD.fullmatch(text)
        if not field:
            raise Refused(400, "a header is none")
        name = field[1].lower()
        if name in headers and name in ("content-length", "transfer-encoding", "authorization", "content-type", "host"):
            raise Refused(400, f"two headers {name}")
        headers[name] = field[2]
    if "transfer-encoding" in headers:
        raise Refused(411, "expected a Content-Length and no transfer encoding")
    size = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,15}", size):
        raise Refused(400, "the Content-Length is no number")
    if line[1] == "POST" and "content-length" not in headers:
        raise Refused(411, "expected a Content-Length")
    if line[1] != "POST" and int(size):
        raise Refused(400, f"a {line[1]} with a body")
    again = headers.get("connection", "keep-alive" if line[3] == "1" else "close").lower() == "keep-alive"
    return Request(method=line[1], path=line[2].partition("?")[0], headers=headers), int(size), again
