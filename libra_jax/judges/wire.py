"""One HTTP POST of JSON to one server: bounded in time from end to end, bounded in bytes, redirected nowhere.

The standard library's time limits hold for a single read, so a server that sends a byte a second never meets them, and
its clients follow redirects with all headers. Here every read and write gets what is left of one time limit, whatever
comes in is counted, and an answer is an answer, whatever its status. Names are looked up by the system, in its own
time; proxies of the environment are not used.
"""

from __future__ import annotations

import dataclasses
import http.client
import io
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

MAX_BODY = 32 << 20  # bytes of an answer; 32,000 tokens with the probabilities of five others each are 20 MB
CONNECT = 30.0  # seconds at most until a server has accepted a connection
_PIECE = 1 << 16
_HEAD = 1 << 20  # bytes that head and framing may take beside the body


class BrokenAnswer(OSError):
    """An answer that is no HTTP, is cut off, or is too large."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """A status, headers by lower-case name, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Posts to one URL from any number of threads, a connection each time; `close` ends what is under way.

    Raises ValueError for a URL that is not http(s)://HOST[:PORT][/PATH].
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout: float, max_body: int = MAX_BODY):
        check(url)
        self._url, self._headers = urllib.parse.urlsplit(url), dict(headers)
        self._timeout, self._max_body = timeout, max_body
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None
        self._lock, self._open, self.closed = threading.Lock(), set(), threading.Event()

    def post(self, body: bytes) -> Reply:
        """The server's reply. OSError when there is none, in time and whole (TimeoutError, BrokenAnswer and others)."""
        deadline = time.monotonic() + self._timeout
        host, port, patience = self._url.hostname or "", self._url.port, min(self._timeout, CONNECT)
        if self._tls:
            connection = http.client.HTTPSConnection(host, port, timeout=patience, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=patience)
        connection.connect()
        sock = connection.sock
        try:
            with self._lock:
                self._open.add(sock)
            if self.closed.is_set():
                raise ConnectionAbortedError("closed")
            connection.sock = _Timed(sock, deadline, self._max_body + _HEAD)
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
            connection.request("POST", self._url.path or "/", body, headers | self._headers)
            return self._read(connection.getresponse())
        except (http.client.HTTPException, ValueError) as error:  # ValueError: of sizes and numbers that are none
            raise BrokenAnswer(f"no whole HTTP answer: {type(error).__name__}: {error}") from None
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def close(self) -> None:
        """Ends all requests under way with an OSError in their threads; later ones end at once."""
        self.closed.set()
        with self._lock:
            for sock in self._open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the other side was faster

    def _read(self, response: http.client.HTTPResponse) -> Reply:
        too_large = BrokenAnswer(f"an answer of more than {self._max_body:,} bytes")
        if (response.length or 0) > self._max_body:
            raise too_large
        encoding = response.getheader("Content-Encoding", "identity")
        if encoding.lower() != "identity":  # nobody asked for it, and a megabyte may unpack to a gigabyte
            raise BrokenAnswer(f"the answer is packed ({encoding[:40]}), which the request forbade")
        pieces, size = [], 0
        while piece := response.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_body:
                raise too_large
        if response.length:
            raise BrokenAnswer(f"cut off {response.length:,} bytes before its end")
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(status=response.status, headers=headers, body=b"".join(pieces))


def check(url: str) -> None:
    """ValueError for a URL that no Client takes; the message leaves out what could be secret in it."""
    expected = "expected http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, in ASCII"
    try:
        parts = urllib.parse.urlsplit(url)
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(f"the url is none ({error}); {expected}") from None
    if not fine or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"url {shown!r}: {expected}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"url {shown!r} and more: expected neither a name and password nor a query, since it is "
                         "written down; a key belongs into an environment variable")


class _Timed:
    """A connected socket as http.client uses one, each of whose steps gets what is left until `deadline`."""

    def __init__(self, sock: socket.socket, deadline: float, limit: int):
        self._sock, self._deadline, self._limit = sock, deadline, limit

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._hurry()
            rest = rest[self._sock.send(rest[:_PIECE]):]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Source(self))

    def receive_into(self, buffer: memoryview) -> int:
        self._hurry()
        size = self._sock.recv_into(buffer)
        self._limit -= size
        if self._limit < 0:
            raise BrokenAnswer("an answer without end")
        return size

    def close(self) -> None:
        """Nothing: http.client closes as soon as it has the head; Client.post does when it has all."""

    def _hurry(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)


class _Source(io.RawIOBase):
    def __init__(self, timed: _Timed):
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._timed.receive_into(buffer)
