"""A training run of milliseconds, whose loop, state and checkpoints are the real ones, and a way to kill it 50 times.

    python tests/train/toy_runs.py KILLS SEED FOLDER

One process imports everything and forks a run at a time, so that a kill costs no start of an interpreter; prints what
was hit as one line of JSON, and fails where a killed run does not end as the uninterrupted one, byte for byte.
"""

import collections
import functools
import hashlib
import json
import mmap
import os
import pathlib
import random
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import tensorboardX  # noqa: F401  before the forks, each of which would import it

from libra_jax.train import checkpoint, loop, optimizer, step
from libra_jax.train.state import TrainState

STEPS, SAVE_EVERY = 16, 3
PLACES = {0: "starting", 1: "drawing", 2: "in a step", 3: "between", 4: "ending"}


def loss(params, batch):
    gap = batch["x"] @ params["w"] - batch["y"]
    value = jnp.sum(gap**2) / batch["rows"]
    return value, {"loss": value}


def batch_at(number, params):
    """Depends on the parameters as in RL; two in a row have no finite loss, and one has no gradient."""
    x = np.random.default_rng(number).normal(size=(8, 64)).astype(np.float32) + np.asarray(params["w"])[0]
    y = np.full_like(x, np.nan) if number in (5, 6) else 2 * x
    return {"x": 0 * x if number == 9 else x, "y": 0 * x if number == 9 else y, "rows": np.float32(8)}


def start(mesh):
    """(state, step) of a run that has not begun."""
    adam = optimizer.make(optimizer.OptimizerConfig(learning_rate=1e-2), STEPS)
    layout = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    w = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    params, zero = jax.device_put({"w": w}, layout), jax.device_put(np.int32(0), layout)
    opt_state = jax.jit(adam.init, out_shardings=layout)(params)
    return TrainState(step=zero, skipped=zero + 0, params=params, opt_state=opt_state), step.make(loss, adam)


def run(workdir, *, num_steps=STEPS, batch_at=batch_at, save_every=SAVE_EVERY, mark=None, devices=1, **options):
    """The state at the end, on the host; `mark(place)` is told where the run is."""
    mark = mark or (lambda place: None)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]).reshape(1, -1), ("data", "fsdp"))
    state, once = start(mesh)

    def draw(number, params):
        mark(1)
        return batch_at(number, params)

    def learn(state, batch):
        mark(2)
        result = jax.block_until_ready(once(state, batch))
        mark(3 if int(result[0].step) < num_steps else 4)
        return result

    return jax.device_get(loop.fit(state, learn, draw, num_steps, label="toy", workdir=pathlib.Path(workdir), mesh=mesh,
                                   save_every=save_every, **options))


def end(workdir):
    """All that must be equal: a hash of the state at the end, and the metrics."""
    return (workdir / "end").read_text(), (workdir / "metrics.jsonl").read_bytes()


def fork(workdir, place, *, die_in_save_of=0):
    """Starts the run in a fork; it leaves its words in `workdir`/log, the hash of its state in `workdir`/end."""
    workdir.mkdir(exist_ok=True)
    if child := os.fork():
        return child
    log = os.open(workdir / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        if die_in_save_of:
            seal = checkpoint.seal

            def die(folder):
                if folder.name.startswith(f"{die_in_save_of}."):
                    os.kill(os.getpid(), signal.SIGKILL)
                seal(folder)
            checkpoint.seal = die
        state = run(workdir, mark=functools.partial(place.__setitem__, 0))
        digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)))
        (workdir / "end").write_text(digest.hexdigest())
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def kill_one(workdir, place, chance, duration):
    """Starts a run and kills it at a random moment of its `duration`; returns (where it was hit, how), or None where
    it had ended before."""
    how = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    place[0] = 0
    child = fork(workdir, place)
    time.sleep(chance.uniform(0, duration))  # the random moment itself; nothing waits for it
    os.kill(child, how)
    begin = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if (workdir / "end").exists():
        (workdir / "end").unlink()  # had done all but been noticed
        return None
    assert time.monotonic() - begin < 30, "not ended in the time that a preemption gives"
    heard = place[0] > 0
    assert status == -how or (how == signal.SIGTERM and status == 143), (status, how, (workdir / "log").read_text())
    assert not (how == signal.SIGTERM and heard and status != 143), "SIGTERM in the loop did not end with status 143"
    where = PLACES[place[0]]
    if list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*")):
        where = "in a save"
    elif not list((workdir / "checkpoints").glob("[0-9]*")):
        where += ", before the first save"
    return where, how.name


def main(kills, seed, folder):
    folder, chance, place = pathlib.Path(folder), random.Random(seed), mmap.mmap(-1, 1)
    hits, hows, begin, done, rounds = collections.Counter(), collections.Counter(), time.monotonic(), 0, 0

    def finish(workdir, **options):
        child = fork(workdir, place, **options)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, (status, (workdir / "log").read_text())

    finish(folder / "whole")
    whole, duration = end(folder / "whole"), time.monotonic() - begin
    # The first kill comes in the midst of the second save, by itself.
    workdir = folder / "saving"
    os.waitpid(fork(workdir, place, die_in_save_of=2 * SAVE_EVERY), 0)
    finish(workdir)
    assert end(workdir) == whole
    log = (workdir / "log").read_text()
    assert f"{2 * SAVE_EVERY}.orbax-checkpoint-tmp is unfinished" in log and f"from step {SAVE_EVERY}," in log, log
    hits["in a save"], hows["SIGKILL"], done = 1, 1, 1
    while done < kills:
        workdir, rounds = folder / str(rounds), rounds + 1
        for _ in range(chance.choice([1, 1, 2])):  # some are killed again while they go on
            if hit := kill_one(workdir, place, chance, duration):
                hits[hit[0]] += 1
                hows[hit[1]] += 1
                done += 1
        finish(workdir)
        assert end(workdir) == whole, f"{workdir}: not the bytes of the uninterrupted run"
    print(json.dumps({"kills": done, "runs": rounds + 1, "seconds": round(time.monotonic() - begin, 1),
                      "uninterrupted_seconds": round(duration, 2), "where": hits, "how": hows}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
