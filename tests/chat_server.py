"""A chat-completions server on this machine, whose every answer a test decides, down to the bytes on the wire.

The fixtures here are those of tests/judges and tests/stages, whose conftest.py load this file.
"""

import http.server
import json
import threading
import time

import pytest


class Server(http.server.ThreadingHTTPServer):
    """`answer(request, handler)` of a test says what to do: a dict or list is sent as JSON, bytes as the body of a 200,
    (status, headers, body) as they are, and None means that it wrote to `handler.wfile` itself."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = lambda request, handler: completion("Verdict: correct")
        self.requests, self.headers, self.times, self.inside, self.most_inside = [], [], [], 0, 0
        self.lock, self.released = threading.Lock(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """A client that has given up is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(request)
            server.headers.append((self.path, dict(self.headers)))
            server.times.append(time.monotonic())
            server.inside += 1
            server.most_inside = max(server.most_inside, server.inside)
        try:
            said = server.answer(request, self)
        finally:
            with server.lock:
                server.inside -= 1
        self.close_connection = True
        if said is None:
            return
        status, headers, body = said if isinstance(said, tuple) else (200, {}, said)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST


def completion(content, *, usage=(100, 10), **message):
    """The body of a chat completion."""
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}
                         | message}],
            "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}}


def start():
    """A server in a thread; whoever starts it ends it with `stop`."""
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def stop(server):
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def chat():
    """How to write a completion."""
    return completion


@pytest.fixture
def server():
    made = start()
    yield made
    stop(made)


@pytest.fixture
def another_server():
    made = start()
    yield made
    stop(made)
