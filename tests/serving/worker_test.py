"""The drawing thread, over an engine that a test controls."""

import queue
import threading
import time

import numpy as np
import pytest

from libra_jax.sampling.engine import Sample
from libra_jax.serving.worker import Job, Worker


class Engine:
    """As Session: every step gives each prompt one token, and a sample ends at its budget. Budget 13 breaks it."""

    made = 0

    def __init__(self):
        Engine.made += 1
        self.temperature, self.log, self.held, self.num_tokens = 1.0, [], {}, 0
        self.gate = None

    busy = property(lambda self: bool(self.held))
    num_rows = property(lambda self: len(self.held))

    def add(self, prompt, samples, *, seed, id, budget):
        if not len(prompt):
            raise ValueError("an empty prompt")
        ticket = next(number for number in range(99) if number not in self.held)
        self.held[ticket] = (list(samples), budget, [0])
        self.log.append(("add", id, self.temperature))
        return ticket

    def step(self):
        if self.gate:
            self.gate.acquire()
        if any(budget == 13 for _, budget, _ in self.held.values()):
            raise MemoryError("no memory")
        found = []
        for ticket, (samples, budget, drawn) in list(self.held.items()):
            drawn[0] += 1
            self.num_tokens += len(samples)
            if drawn[0] == budget:
                del self.held[ticket]
                found += [Sample(ticket, number, np.arange(budget), np.zeros(budget), "stop") for number in samples]
        return found

    def wants(self, ticket):
        return ticket in self.held

    def drawn(self, ticket):
        samples, _, drawn = self.held[ticket]
        return {number: (np.arange(drawn[0]), np.zeros(drawn[0])) for number in samples}

    def cancel(self, ticket):
        self.log.append(("cancel", ticket))
        del self.held[ticket]


@pytest.fixture
def worker():
    engines = []

    def make():
        engines.append(Engine())
        return engines[-1]

    found = Worker(make)
    found.engines = engines
    found.start()
    engines[0].log.clear()
    yield found
    for engine in engines:
        engine.gate = None
    found.stop()
    assert not found._thread.is_alive()


class Heard:
    """A job, and what its callbacks heard."""

    def __init__(self, id=0, budget=2, samples=range(1), temperature=1.0, prompt=(1,), looks=False):
        self.events = queue.Queue()
        self.job = Job(prompt=prompt, samples=samples, seed=0, id=id, budget=budget, temperature=temperature,
                       done=lambda sample: self.events.put(("done", sample.sample)),
                       failed=lambda error: self.events.put(("failed", str(error))),
                       drawn=(lambda drawn: self.events.put(("drawn", len(drawn[0][0])))) if looks else None)

    def next(self):
        return self.events.get(timeout=10)


def test_samples_reach_their_jobs_and_looks_come_between(worker):
    plain, looking = Heard(samples=range(2)), Heard(id=1, budget=3, looks=True)
    worker.submit(plain.job)
    worker.submit(looking.job)
    assert [plain.next(), plain.next()] == [("done", 0), ("done", 1)]
    assert [looking.next() for _ in range(3)] == [("drawn", 1), ("drawn", 2), ("done", 0)]
    assert worker.num_tokens == 2 * 2 + 3  # what warms it up is not counted


def test_another_temperature_waits_for_what_is_drawn_and_nobody_overtakes(worker):
    engine = worker.engines[0]
    engine.gate = threading.Semaphore(0)
    jobs = [Heard(id=number, temperature=temperature) for number, temperature in enumerate((1.0, 0.0, 1.0, 0.0))]
    for each in jobs:
        worker.submit(each.job)
    engine.gate.release(20)
    for each in jobs:
        assert each.next() == ("done", 0)
    assert engine.log == [("add", 0, 1.0), ("add", 1, 0.0), ("add", 2, 1.0), ("add", 3, 0.0)]


def test_a_cancelled_job_leaves_the_engine_or_the_queue(worker):
    engine = worker.engines[0]
    engine.gate = threading.Semaphore(0)
    running, waiting, last = Heard(budget=10), Heard(id=1, temperature=0.0), Heard(id=2, temperature=0.5)
    worker.submit(running.job)
    deadline = time.monotonic() + 10
    while not engine.log and time.monotonic() < deadline:
        time.sleep(0.001)
    for each in (waiting, last):
        worker.submit(each.job)
    for each in (waiting, running, running):  # twice does no harm
        worker.cancel(each.job)
    engine.gate.release(20)
    assert last.next() == ("done", 0)
    assert waiting.events.empty() and running.events.empty()
    assert engine.log == [("add", 0, 1.0), ("cancel", 0), ("add", 2, 0.5)]


def test_a_job_that_does_not_fit_fails_alone(worker):
    good, bad = Heard(), Heard(prompt=())
    worker.submit(bad.job)
    worker.submit(good.job)
    assert bad.next() == ("failed", "an empty prompt") and good.next() == ("done", 0)
    assert worker.num_failures == 0


def test_an_engine_that_fails_is_made_again(worker, capsys):
    broken, after = Heard(budget=13), Heard(id=5)
    worker.submit(broken.job)
    assert broken.next() == ("failed", "no memory")
    worker.submit(after.job)
    assert after.next() == ("done", 0)
    assert len(worker.engines) == 2 and worker.num_failures == 1 and worker.dead is None
    assert "MemoryError" in capsys.readouterr().err


def test_one_that_cannot_be_made_again_leaves_a_dead_worker(worker, capsys):
    def fail():
        raise RuntimeError("gone")

    worker._make = fail
    broken, after = Heard(budget=13), Heard(id=5)
    worker.submit(broken.job)
    assert broken.next() == ("failed", "no memory")
    assert str(worker.dead) == "gone"
    worker.submit(after.job)
    assert after.next() == ("failed", "gone")


def test_one_that_cannot_be_made_at_all_says_so():
    def fail():
        raise ValueError("does not fit")

    with pytest.raises(ValueError, match="does not fit"):
        Worker(fail).start()
