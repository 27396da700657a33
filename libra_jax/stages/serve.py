r"""Serves a checkpoint as a judge over HTTP: POST /score, and an OpenAI-compatible POST /v1/chat/completions.

    libra serve --workdir=runs/serve --config.checkpoint=FOLDER

Prints one line when it listens, has its address in serving.json of the workdir for as long, and serves until SIGTERM
or Ctrl-C: then it refuses what is new with 503, finishes what runs, and ends with status 0. docs/serve.md has the
requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.command import entry, lengths
from libra_jax.judging.prompt import load_template
from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
from libra_jax.sampling import engine
from libra_jax.serving import http
from libra_jax.serving.http import LimitsConfig
from libra_jax.serving.service import Service, ServiceConfig
from libra_jax.stages import judge as judging

_NOTE = "serving.json"
_SHORTEST = 16  # characters of a token


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is served where, and to whom.

    Attributes:
      checkpoint: folder in Hugging Face format, with its tokenizer.
      name: the model's name in requests and answers; default: the checkpoint's folder name.
      template: a name in judging/prompt.py, or a .py file with TEMPLATE (your own trusted code).
      thinking: without, the judge gets an empty thought and gives its verdict at once.
      mesh: over all devices of all hosts; by default each device holds a copy of the model. `tensor`, `fsdp`: parts.
      compute_dtype: of the model's parameters and computation.
      sampling: how requests are drawn that do not say it; `max_new_tokens` is the most that any may ask for,
        `batch_size` the rows that draw at once. top_p and top_k are the same for all.
      host, port: where to listen; port 0: one that is free. Beside 127.0.0.1 others reach it: use a token, and TLS in
        front of it.
      token_file, token_env: a file, or an environment variable, that holds the token which clients send as
        "Authorization: Bearer"; both empty: no token.
      service: what it takes on (serving/service.py).
      limits: what a connection may cost (serving/http.py).
    """

    checkpoint: Annotated[str, configs.Checkpoint()] = ""
    name: str = ""
    template: str = "libra"
    thinking: bool = True
    mesh: meshes.MeshConfig = judging.Config().mesh
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    sampling: engine.SamplingConfig = judging.Config().sampling
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Annotated[str, configs.File()] = ""
    token_env: str = ""
    service: ServiceConfig = ServiceConfig()
    limits: LimitsConfig = LimitsConfig()


def check(config: Config) -> None:
    """ValueError for a path that is missing, a template that is none, or a token that is none."""
    runs.need(config, "checkpoint")
    load_template(config.template)
    token(config)
    if not 0 <= config.port < 2**16:
        raise ValueError(f"--config.port={config.port}: expected 0 (one that is free) to {2**16 - 1}")
    context, most = hf.read_config(config.checkpoint).max_length, config.sampling.max_new_tokens
    if config.service.longest + most > context:
        raise ValueError(f"--config.service.longest={config.service.longest} and --config.sampling.max_new_tokens="
                         f"{most}: together more than the model's context of {context} (max_position_embeddings of its "
                         "config.json); lower one of them")


def look(config: Config) -> list[str]:
    """For --dry_run: the devices. ValueError where they are not what the mesh wants."""
    return [lengths.devices(config.mesh)]


def run(config: Config, workdir: pathlib.Path) -> None:
    """Serves until SIGTERM or SIGINT. ValueError for what cannot be loaded, OSError where it cannot listen."""
    asyncio.run(serve(config, workdir))


async def serve(config: Config, workdir: pathlib.Path) -> None:
    """As `run`, in a running event loop."""
    check(config)
    with contextlib.closing(http.bind(config.host, config.port)) as bound:  # before minutes of loading
        service, stop = make(config), asyncio.Event()
        with _signals(stop):
            try:
                await service.run(bound, stop, _listening(config, service, workdir, bound.getsockname()[1]))
            finally:
                (workdir / _NOTE).unlink(missing_ok=True)


def make(config: Config) -> Service:
    """The service that `config` describes, not yet listening. ValueError for what is wrong with it."""
    if runs.num_processes() > 1:
        raise ValueError("several processes would serve one port; start this stage on one host")
    key = token(config)
    how = judging.Config(checkpoint=config.checkpoint, name=config.name, template=config.template,
                         thinking=config.thinking, mesh=config.mesh, compute_dtype=config.compute_dtype,
                         sampling=config.sampling)
    return Service(judging.of_checkpoint(how), config.service, config.limits, key)


def token(config: Config) -> str:
    """The token that clients must bring; empty for none. ValueError for one that is missing or weak."""
    if config.token_file and config.token_env:
        raise ValueError("token_file and token_env are both given; expected one of them")
    if not config.token_file and not config.token_env:
        return ""
    where = config.token_file or f"the environment variable {config.token_env}"
    if config.token_file:
        found = pathlib.Path(config.token_file).read_text(encoding="utf-8").strip()
    else:
        found = os.environ.get(config.token_env, "").strip()
    if len(found) < _SHORTEST or not found.isascii() or not found.isprintable() or " " in found:
        raise ValueError(f"{where}: expected a token of at least {_SHORTEST} ASCII characters without spaces, such as "
                         "`openssl rand -hex 32` prints")  # the value itself goes into no message
    return found


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """While entered, SIGTERM and SIGINT set `stop`; only a process's main thread hears them."""
    loop, heard = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in heard:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


def _listening(config: Config, service: Service, workdir: pathlib.Path, port: int) -> Callable[[], None]:
    def tell() -> None:
        host = f"[{config.host}]" if ":" in config.host else config.host
        records.write_json(workdir / _NOTE, {"url": f"http://{host}:{port}", "model": service.judge.name,
                                                      "pid": os.getpid()})
        if not _is_local(config.host) and not (config.token_file or config.token_env):
            print(f"warning: {config.host} is reached from other machines, and no token is asked for; set "
                  "--config.token_file or --config.token_env", file=sys.stderr)
        print(f"serving {service.judge.name} at http://{host}:{port}", flush=True)

    return tell


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main(argv: Sequence[str] | None = None) -> int:
    """`libra serve`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=(_NOTE,), look=look)


if __name__ == "__main__":
    raise SystemExit(main())
