"""An open engine draws what `generate` draws, whoever enters or leaves meanwhile."""

import dataclasses

import jax
import numpy as np
import pytest

from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.sampling.engine import SamplingConfig, generate
from libra_jax.sampling.session import Session

CONFIG = ModelConfig(vocab_size=37, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                     feedforward_size=48, max_length=128)
SAMPLING = SamplingConfig(max_new_tokens=40, batch_size=16, cache_tokens=640)  # 20 pages, of 48 that rows may want
STOP = (5,)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda x: 3 * x, transformer.init(CONFIG, key=jax.random.key(0)))


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(0)
    return [rng.integers(6, 37, size).tolist() for size in (3, 40, 1, 12, 7, 30, 2, 9)]


def alone(params, prompt, samples, *, seed=0, id=0, temperature=1.0, budget=40):
    config = dataclasses.replace(SAMPLING, seed=seed, temperature=temperature, num_samples=len(samples))
    found = generate(CONFIG, params, [prompt], config, stop_ids=STOP, ids=[id], first_sample=samples[0],
                     budgets=[budget], longest=40)
    return [(sample.sample, sample.tokens.tolist(), sample.logprobs.tolist(), sample.finish) for sample in found]


def opened(params, **changes):
    return Session(CONFIG, params, SAMPLING, **{"longest": 40, "stop_ids": STOP, "segment": 8} | changes)


def drain(session, found=None):
    found = {} if found is None else found
    while session.busy:
        for sample in session.step():
            found.setdefault(sample.prompt, []).append(
                (sample.sample, sample.tokens.tolist(), sample.logprobs.tolist(), sample.finish))
    return {ticket: sorted(samples) for ticket, samples in found.items()}


@pytest.mark.parametrize("segment", [3, 64])
def test_samples_are_those_of_generate_whenever_they_enter(params, prompts, segment):
    session = opened(params, segment=segment)
    wants = [dict(samples=range(2), seed=number % 3, id=number + 7, budget=40 - number)
             for number in range(len(prompts))]
    tickets, found = {}, {}
    for number in (3, 0, 7):  # some at once, the others one after another while those are drawn
        tickets[number] = session.add(prompts[number], **wants[number])
    for number in (1, 2, 4, 5, 6):
        for sample in session.step():
            found.setdefault(sample.prompt, []).append(
                (sample.sample, sample.tokens.tolist(), sample.logprobs.tolist(), sample.finish))
        done = {ticket: list(samples) for ticket, samples in found.items() if len(samples) == 2}
        for known, ticket in list(tickets.items()):
            if ticket in done:  # so its ticket is free for another
                assert sorted(done[ticket]) == alone(params, prompts[known], range(2), **_how(wants[known]))
                del found[ticket], tickets[known]
        tickets[number] = session.add(prompts[number], **wants[number])
    left = drain(session, found)
    for number, ticket in tickets.items():
        assert left[ticket] == alone(params, prompts[number], range(2), **_how(wants[number])), number


def _how(want):
    return {name: want[name] for name in ("seed", "id", "budget")}


def test_more_prompts_than_rows_and_few_pages(params, prompts):
    session = opened(params, segment=64)
    tickets = [session.add(prompt, range(6), seed=1, id=number, budget=40) for number, prompt in enumerate(prompts)]
    found = drain(session)
    assert session._run.schedule.num_preempted  # so rows lost their pages and were drawn again
    for number, ticket in enumerate(tickets):
        expected = alone(params, prompts[number], range(6), seed=1, id=number)
        assert found[ticket] == expected


def test_what_is_cancelled_leaves_and_changes_nothing(params, prompts):
    session = opened(params)
    gone = session.add(prompts[0], range(20), seed=0, id=0, budget=40)  # more than there are rows: some still wait
    kept = session.add(prompts[1], range(2), seed=0, id=1, budget=40)
    session.step()
    assert session.num_rows > 3
    session.cancel(gone)
    assert session.num_rows == 0 and session.busy
    again = session.add(prompts[2], range(3), seed=0, id=2, budget=40)
    assert again == gone  # the same ticket, and nothing of its former samples
    found = drain(session)
    assert set(found) == {kept, again}
    assert found[kept] == alone(params, prompts[1], range(2), id=1)
    assert found[again] == alone(params, prompts[2], range(3), id=2)


def test_what_is_drawn_can_be_seen_meanwhile(params, prompts):
    session = opened(params)
    ticket = session.add(prompts[1], range(2), seed=0, id=1, budget=40)
    expected, seen = alone(params, prompts[1], range(2), id=1), 0
    while session.busy:
        for sample, (tokens, logprobs) in session.drawn(ticket).items():
            assert tokens.tolist() == expected[sample][1][: len(tokens)] and len(logprobs) == len(tokens)
            seen += 1
        session.step()
    assert seen > 1 and session.drawn(ticket) == {}


def test_the_temperature_changes_between_draws_only(params, prompts):
    session = opened(params)
    ticket = session.add(prompts[3], range(2), seed=0, id=4, budget=40)
    with pytest.raises(ValueError, match="wait until none"):
        session.temperature = 0.0
    assert drain(session)[ticket] == alone(params, prompts[3], range(2), id=4)
    session.temperature = 0.0
    ticket = session.add(prompts[3], range(2), seed=0, id=4, budget=40)
    assert drain(session)[ticket] == alone(params, prompts[3], range(2), id=4, temperature=0.0)


@pytest.mark.parametrize("change, message", [
    ({"prompt": []}, "is empty"), ({"prompt": [6] * 41}, "longest=40"), ({"budget": 41}, "max_new_tokens"),
    ({"budget": 0}, "budget 0"), ({"samples": ()}, "no samples"), ({"seed": 2**40}, "32 bits")])
def test_what_does_not_fit_is_refused_and_nothing_else_harmed(params, change, message):
    session = opened(params)
    with pytest.raises(ValueError, match=message):
        session.add(**{"prompt": [7], "samples": range(1), "seed": 0, "id": 0, "budget": 40} | change)
    assert not session.busy and session.step() == []


def test_settings_out_of_range(params):
    for changes, message in (({"segment": 0}, "segment=0"), ({"segment": 65}, "segment=65"), ({"longest": 100}, "128")):
        with pytest.raises(ValueError, match=message):
            opened(params, **changes)
    with pytest.raises(ValueError, match="cache_dtype"):
        Session(CONFIG, params, SamplingConfig(cache_dtype="int8"), longest=4, stop_ids=STOP)
