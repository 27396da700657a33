"""One POST over real HTTP: bounded in time and in bytes whatever the server does, and sent nowhere else."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc

import pytest

from libra_jax.judges import wire


def client(server, timeout=5.0, **settings):
    return wire.Client(server.url + "/chat/completions", {"X-Own": "1"}, timeout=timeout, **settings)


def raw(*pieces, pause=0.0):
    """An answer of exactly these bytes, with pauses between them; the connection is closed behind them."""
    def answer(request, handler):
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            if handler.server.released.wait(pause):
                return
    return answer


def test_a_reply_is_status_headers_and_body(server):
    server.answer = lambda request, handler: (418, {"X-Kind": "Tea"}, {"said": request})
    reply = client(server).post(b'{"a": "\xc3\xa9"}')
    assert (reply.status, reply.headers["x-kind"]) == (418, "Tea")
    assert reply.body == b'{"said": {"a": "\\u00e9"}}'
    ((path, headers),) = server.headers
    assert path == "/v1/chat/completions" and headers["X-Own"] == "1" and headers["Accept-Encoding"] == "identity"
    assert headers["Content-Type"] == "application/json"


def test_chunks_are_joined(server):
    server.answer = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n",
                        b"2\r\nde\r\n0\r\n\r\n")
    assert client(server).post(b"{}").body == b"abcde"


@pytest.mark.parametrize("pieces, message", [
    ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"], "cut off 7 bytes before its end"),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"], "IncompleteRead"),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"], "no whole HTTP answer"),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b"x" * 5000], "no whole HTTP answer|without end"),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", b"x" * 5000], "IncompleteRead"),
    ([b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\nx"], "more than 1,000 bytes"),
    ([b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1001], "more than 1,000 bytes"),
    ([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b"], "packed \\(gzip\\)"),
    ([b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 200 + b"\r\n"], "got more than 100 headers"),
    ([b"HTTP/1.1 200 OK\r\na: ", b"b" * 70_000], "LineTooLong"),
    ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], "BadStatusLine"),
    ([b"HTTP/1.1 99999 OK\r\n\r\n"], "BadStatusLine"),
    ([b"\x16\x03\x01\x00\xff" * 40], "BadStatusLine"),
    ([], "without response"),
])
def test_what_is_no_whole_answer_is_an_error(server, pieces, message):
    server.answer = raw(*pieces)
    with pytest.raises(OSError, match=message):
        client(server, max_body=1000).post(b"{}")


def test_a_body_without_end_is_left_in_time_and_memory(server):
    def endless(request, handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not server.released.is_set():
            handler.wfile.write(b"x" * 65536)

    server.answer = endless
    tracemalloc.start()
    with pytest.raises(wire.BrokenAnswer, match="more than 2,000,000 bytes"):
        client(server, max_body=2_000_000).post(b"{}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("pieces", [
    [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 1000],
    [b"HTTP/1.1 200 OK\r\nX-Slow: ", *[b"x"] * 1000],
    [b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000,
    [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 1000],
    [b"", b""],
], ids=["body", "head", "continue", "chunks", "silence"])
def test_a_slow_drip_ends_with_the_time_limit(server, pieces):
    server.answer = raw(*pieces, pause=0.05 if len(pieces) > 2 else 30)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        client(server, timeout=0.5).post(b"{}")
    assert time.monotonic() - start < 20


def test_a_server_that_reads_nothing_does_not_hold_up_the_sender():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            wire.Client(url, {}, timeout=0.5).post(b"x" * 50_000_000)
        assert time.monotonic() - start < 20


def test_a_refused_connection_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        wire.Client(f"http://127.0.0.1:{port}/", {}, timeout=5).post(b"{}")


def test_a_redirect_is_a_reply_like_any_other(server, another_server):
    server.answer = lambda request, handler: (307, {"Location": another_server.url}, b"")
    assert client(server).post(b"{}").status == 307
    assert another_server.requests == []


def test_close_ends_what_is_under_way_and_all_that_comes(server):
    server.answer = lambda request, handler: server.released.wait(30) and None
    one = client(server, timeout=30)
    threading.Timer(0.3, one.close).start()
    start = time.monotonic()
    with pytest.raises(OSError):  # which one depends on what it was at
        one.post(b"{}")
    with pytest.raises(OSError, match="closed"):
        one.post(b"{}")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("url", [
    "", "localhost:8000", "ftp://h/v1", "http://", "http://h:0/", "http://h:99999/", "http://h:x/", "http://[::1",
    "http://h/a b", "http://h/\r\nX-Evil: 1", "http://hé/", "http://user:hunter22@h/", "http://h/?key=hunter22",
    "http://h/#hunter22", "file:///etc/passwd"])
def test_urls_that_are_refused_and_show_no_secret(url):
    with pytest.raises(ValueError, match="url") as caught:
        wire.check(url)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://api.example.com", "http://[::1]:80/v1"])
def test_urls_that_are_taken(url):
    wire.check(url)


@pytest.fixture
def certificate(tmp_path):
    """A certificate of this machine that nobody has signed, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]], check=True,
                   capture_output=True)
    return paths


def test_tls_is_checked_and_bounded_too(server, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(ssl.SSLCertVerificationError):
        client(server).post(b"{}")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert b"Verdict: correct" in client(server).post(b"{}").body
    server.answer = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 1000, pause=0.05)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        client(server, timeout=1.0).post(b"{}")
    assert time.monotonic() - start < 20
