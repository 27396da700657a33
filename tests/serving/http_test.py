"""The HTTP layer alone, over real sockets: what it reads, refuses, bounds and streams."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import pytest

from libra_jax.serving import http
from libra_jax.serving.http import LimitsConfig, Refused, Reply


class Running:
    """A server in a thread; `answer` of a test is a coroutine function of (running, request)."""

    def __init__(self, limits, answer):
        self.counted, self.cancelled, self.checked = [], threading.Event(), []
        self._answer, self._limits, self._ready = answer, limits, threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _main(self):
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()

        async def answer(request):
            try:
                return await self._answer(self, request)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        self.server = http.Server(self._limits, self.check, answer, lambda *what: self.counted.append(what))
        bound = http.bind("127.0.0.1", 0)
        self.port = bound.getsockname()[1]
        await self.server.start(bound)
        self._ready.set()
        await self.stop.wait()
        await self.server.stop()

    def check(self, request):
        self.checked.append(request)
        if request.path == "/no":
            raise Refused(403, "not you")

    def connect(self):
        return contextlib.closing(socket.create_connection(("127.0.0.1", self.port), timeout=10))

    def say(self, data):
        """All that the server says to these bytes, until it closes."""
        with self.connect() as client:
            with contextlib.suppress(OSError):
                client.sendall(data)
            said = b""
            with contextlib.suppress(OSError):
                while piece := client.recv(65536):
                    said += piece
            return said


async def echo(running, request):
    return Reply(body=json.dumps([request.method, request.path, request.body.decode()]).encode())


@pytest.fixture(scope="module")
def echoing():
    limits = LimitsConfig(body=1000, read_seconds=0.4, idle_seconds=0.4, write_seconds=0.5, connections=8)
    with Running(limits, echo) as running:
        yield running


def post(body, *headers, path="/x", last=True):
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, *(["Connection: close"] if last else []), "", ""]).encode() + body


def body_of(said):
    return json.loads(said.partition(b"\r\n\r\n")[2])


def test_requests_follow_each_other_on_a_connection_also_sent_at_once(echoing):
    said = echoing.say(post(b"one", last=False) + post(b"two", path="/y?z=1"))
    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert b'["POST", "/x", "one"]' in said and body_of(said.split(b'"one"]')[1]) == ["POST", "/y", "two"]


@pytest.mark.parametrize("data, status", [
    (b"hello\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\n\r\n", 400),
    (b"GET http://other/ HTTP/1.1\r\n\r\n", 400),
    (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA: b\nContent-Length: 3\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n\r\n", 411),
    (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    (b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, 413),
    (b"GET /" + b"a" * 20000, 431),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4000 + b"\r\n", 431),
    (b"POST /no HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 403),  # before the body has come
])
def test_what_is_no_request_is_refused_and_the_connection_closed(echoing, data, status):
    said = echoing.say(data + post(b"smuggled"))
    assert said.startswith(f"HTTP/1.1 {status} ".encode()) and said.count(b"Connection: ") == 1
    assert b"Connection: close" in said and body_of(said)["error"]["code"] == status
    assert b"smuggled" not in said


def test_a_client_that_does_not_finish_is_told_in_time(echoing):
    for data in (b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"):
        start = time.monotonic()
        assert echoing.say(data).startswith(b"HTTP/1.1 408 ")
        assert 0.3 < time.monotonic() - start < 5
    with echoing.connect() as client:  # a byte now and then does not keep it open
        with pytest.raises(OSError):
            for _ in range(100):
                client.sendall(b"x")
                time.sleep(0.05)
    start = time.monotonic()
    assert echoing.say(b"") == b"" and time.monotonic() - start < 5  # one that says nothing


def test_replies_are_counted_by_path_and_status(echoing):
    echoing.counted.clear()
    echoing.say(post(b"", path="/one", last=False) + post(b"", path="/no"))
    echoing.say(b"nonsense\r\n\r\n")
    assert echoing.counted == [("/one", 200), ("/no", 403), ("", 400)]


def test_a_large_body_waits_for_permission(echoing):
    with echoing.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_one_connection_too_many(echoing):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(echoing.connect()).sendall(b"GET")
        deadline = time.monotonic() + 5
        while echoing.server.num_connections < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        said = echoing.say(post(b""))
        assert said.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in said
    deadline = time.monotonic() + 5
    while not echoing.say(post(b"")).startswith(b"HTTP/1.1 200") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert echoing.say(post(b"")).startswith(b"HTTP/1.1 200")


def test_a_client_that_leaves_cancels_its_answer():
    async def never(running, request):
        await asyncio.Event().wait()

    with Running(LimitsConfig(), never) as running:
        with running.connect() as client:
            client.sendall(post(b"x"))
            time.sleep(0.1)
            assert running.server.num_active == 1 and not running.cancelled.is_set()
        assert running.cancelled.wait(5)
        deadline = time.monotonic() + 5
        while running.server.num_active and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.server.num_active == 0


def test_pieces_come_as_they_are_made_and_a_client_that_takes_none_is_left():
    closed = threading.Event()

    async def stream(running, request):
        async def pieces():
            try:
                for number in range(3 if request.path == "/few" else 10**6):
                    yield b"%d" % number * (1 if request.path == "/few" else 100_000)
            finally:
                closed.set()

        return Reply(kind="text/event-stream", pieces=pieces())

    with Running(LimitsConfig(write_seconds=0.3), stream) as running:
        said = running.say(post(b"", path="/few"))
        assert b"Transfer-Encoding: chunked" in said
        assert said.endswith(b"\r\n\r\n1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n")
        closed.clear()
        with running.connect() as client:
            client.sendall(post(b"", path="/many"))
            assert closed.wait(10)


def test_a_fault_in_the_limits_is_named():
    with pytest.raises(ValueError, match="read_seconds=0"):
        LimitsConfig(read_seconds=0)


def test_an_address_where_somebody_listens_is_refused():
    with contextlib.closing(http.bind("127.0.0.1", 0)) as bound:
        bound.listen()
        with pytest.raises(OSError, match=rf"127.0.0.1, port {bound.getsockname()[1]}: .*a free port"):
            http.bind(*bound.getsockname())
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        http.bind("192.0.2.1", 0)
