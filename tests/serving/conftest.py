"""A judge with a byte-level tokenizer whose model is never asked, and the miniature behind HTTP."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import pathlib
import threading
import types

import pytest
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, pre_tokenizers

from libra_jax.judges import model
from libra_jax.judging.prompt import load_template
from libra_jax.miniature import arithmetic
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.serving import http as http_layer
from libra_jax.serving.http import LimitsConfig
from libra_jax.serving.service import Service, ServiceConfig
from libra_jax.text import tokenizer as tokenizers

CHECKPOINT = pathlib.Path(arithmetic.__file__).parent / "checkpoint"
SAMPLING = SamplingConfig(max_new_tokens=48, batch_size=16)


@pytest.fixture(scope="session")
def silent():
    """A ModelJudge without a model, whose tokens are bytes and control tokens."""
    vocab = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    hf = HfTokenizer(models.BPE(vocab=vocab, merges=[]))
    hf.pre_tokenizer, hf.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    hf.add_special_tokens(["<|im_start|>", "<|im_end|>", "<think>", "</think>"])
    return model.ModelJudge(config=model.ModelJudgeConfig(name="silent", sampling=SAMPLING), model_config=None,
                            params=None, tokenizer=tokenizers.JsonTokenizer(json.loads(hf.to_str())),
                            template=load_template("miniature"))


@pytest.fixture(scope="session")
def miniature():
    """The miniature as a ModelJudge."""
    return model.load(CHECKPOINT, model.ModelJudgeConfig(name="miniature", sampling=SAMPLING),
                      load_template("miniature"))


class Client:
    """Requests to a service in a thread; `service` is the running one."""

    def __init__(self, service, port, loop, stop):
        self.service, self.port, self.loop, self._stop = service, port, loop, stop

    def __call__(self, path, fields=None, *, method=None, headers=None, timeout=60):
        """Status, headers and body, from JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            body = fields if fields is None or isinstance(fields, bytes) else json.dumps(fields).encode()
            connection.request(method or ("GET" if body is None else "POST"), path, body,
                               ({} if body is None else {"Content-Type": "application/json"}) | (headers or {}))
            reply = connection.getresponse()
            said = reply.read()
            kind = reply.getheader("Content-Type")
            return types.SimpleNamespace(status=reply.status, headers=dict(reply.getheaders()), raw=said,
                                         json=json.loads(said) if kind == "application/json" else None)

    def stop(self):
        """Asks it to stop, as SIGTERM does."""
        self.loop.call_soon_threadsafe(self._stop.set)


@contextlib.contextmanager
def serving(judge, token="", limits=None, **changes):
    """A service of `judge` at a free port, until the end of the block.

    Its longest prompt makes the shapes those of a ModelJudge that judges prompts of 49 to 64 tokens: one compilation.
    """
    config = dataclasses.replace(ServiceConfig(longest=64, segment=8), **changes)
    ready, made = threading.Event(), {}

    async def main():
        made["loop"], made["stop"] = asyncio.get_running_loop(), asyncio.Event()
        try:
            made["service"] = Service(judge, config, limits or LimitsConfig(), token)
            bound = http_layer.bind("127.0.0.1", 0)
            made["port"] = bound.getsockname()[1]
            await made["service"].run(bound, made["stop"], ready.set)
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    ready.wait()
    client = Client(**made)
    try:
        yield client
    finally:
        client.stop()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def start(miniature):
    """How to serve the miniature: start(token=..., limits=..., fields of ServiceConfig...)."""
    def begin(**changes):
        return serving(changes.pop("judge", miniature), **changes)

    return begin


@pytest.fixture(scope="session")
def client(start):
    """The miniature behind HTTP, for all tests that leave it as it is."""
    with start() as running:
        yield running
