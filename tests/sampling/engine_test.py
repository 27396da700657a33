import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes
from libra_jax.sampling import engine, programs, store
from libra_jax.sampling.engine import SamplingConfig, generate
from libra_jax.sampling.watch import Acceptance

CONFIG = ModelConfig(vocab_size=37, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                     feedforward_size=48)
STOP = 5


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda x: 3 * x, transformer.init(CONFIG, key=jax.random.key(0)))  # less uniform than fresh


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(0)
    return [rng.integers(6, 37, size).tolist() for size in (3, 40, 1, 12, 7)]


def run(params, prompts, mesh=None, stop_ids=(STOP,), **kwargs):
    outer = {name: kwargs.pop(name) for name in ("ids", "first_sample", "skip", "progress", "budgets", "acceptance")
             if name in kwargs}
    config = SamplingConfig(**{"max_new_tokens": 20, "batch_size": 8} | kwargs)
    return list(generate(CONFIG, params, prompts, config, stop_ids=stop_ids, mesh=mesh, **outer))


def tokens(samples):
    return [sample.tokens.tolist() for sample in samples]


@jax.jit
def forward(params, row):
    """Logits [T, V] and log-probabilities [T] of a plain forward pass over a row of tokens [T]."""
    positions = jnp.arange(row.shape[0])[None]
    logprobs = transformer.token_logprobs(CONFIG, params, row[None], positions=positions)
    return transformer.apply(CONFIG, params, row[None], positions=positions)[0], logprobs[0]


def teacher_forced(params, prompt, sample_tokens):
    """Logits [n, V] that each sampled token was drawn from, and its log-probability [n]; padded to compile once."""
    row = np.zeros(192, np.int32)
    both = [*prompt, *sample_tokens]
    row[: len(both)] = both
    logits, logprobs = forward(params, row)
    return np.asarray(logits)[len(prompt) - 1 : len(both) - 1], np.asarray(logprobs)[len(prompt) : len(both)]


def test_greedy_is_the_argmax_of_the_full_pass(params, prompts):
    for sample in run(params, prompts, temperature=0.0):
        logits, _ = teacher_forced(params, prompts[sample.prompt], sample.tokens)
        assert sample.tokens.tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 5, "top_p": 0.8}, {"temperature": 0.0}])
def test_logprobs_are_the_teacher_forced_ones_under_every_filter(params, prompts, settings):
    samples = run(params, prompts, num_samples=2, max_new_tokens=70, stop_ids=(), **settings)
    assert [len(sample.tokens) for sample in samples] == [70] * 10  # so rows took a second page
    for sample in samples:
        _, expected = teacher_forced(params, prompts[sample.prompt], sample.tokens)
        np.testing.assert_allclose(sample.logprobs, expected, atol=1e-4)


def test_draws_follow_the_filtered_distribution(params):
    samples = run(params, [[7, 8]], num_samples=4000, batch_size=1000, max_new_tokens=1, temperature=0.8, top_k=4)
    drawn = np.bincount([sample.tokens[0] for sample in samples], minlength=37) / 4000
    logits = teacher_forced(params, [7, 8], [0])[0][0] / 0.8
    wanted = np.where(logits >= np.sort(logits)[-4], np.exp(logits - logits.max()), 0)
    np.testing.assert_allclose(drawn, wanted / wanted.sum(), atol=0.04)


def bits(samples):
    return [(s.prompt, s.sample, s.finish, s.tokens.tobytes(), s.logprobs.tobytes()) for s in samples]


def test_bits_do_not_depend_on_batch_size_slot_or_order_of_arrival(params, prompts):
    ids = [11, 22, 33, 44, 2**40 + 55]
    whole = run(params, prompts, num_samples=3, ids=ids, batch_size=56)
    assert [(s.prompt, s.sample) for s in whole] == [(p, n) for p in range(5) for n in range(3)]
    for batch_size in (1, 16, 100):  # rows are used several times, and ended ones skipped
        assert bits(run(params, prompts, num_samples=3, ids=ids, batch_size=batch_size)) == bits(whole)
    backwards = run(params, prompts[::-1], num_samples=3, ids=ids[::-1], batch_size=8)
    assert sorted(each[3:] for each in bits(backwards)) == sorted(each[3:] for each in bits(whole))
    later = run(params, prompts[1:2], num_samples=1, ids=ids[1:2], first_sample=2)
    assert tokens(later) == tokens(whole[5:6]) and later[0].sample == 2
    assert len({tuple(t) for t in tokens(whole)}) == 15  # ids and samples differ in their draws
    assert tokens(run(params, prompts, num_samples=3, ids=ids, seed=1)) != tokens(whole)


def test_the_rest_after_skip_has_the_same_bits(params, prompts):
    whole = run(params, prompts, num_samples=3)
    assert bits(run(params, prompts, num_samples=3, skip=7)) == bits(whole[7:])
    assert run(params, prompts, num_samples=3, skip=15) == []


def test_long_prompts_are_prefilled_in_chunks_and_their_pages_shared(params, monkeypatch):
    long = [np.random.default_rng(1).integers(6, 37, size).tolist() for size in (150, 129, 65)]
    whole = run(params, long, num_samples=4)
    for sample in whole:
        _, expected = teacher_forced(params, long[sample.prompt], sample.tokens)
        np.testing.assert_allclose(sample.logprobs, expected, atol=1e-4)
    calls = []
    prefill = programs.prefill
    monkeypatch.setattr(store, "CHUNK", 64)
    monkeypatch.setattr(programs, "prefill", lambda *args: (calls.append(args[4].count), prefill(*args))[1])
    again = run(params, long, num_samples=4)
    assert tokens(again) == tokens(whole)
    for a, b in zip(again, whole, strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)
    assert np.sum(calls) == 149 + 128 + 64  # each prompt once, whatever its number of samples


def test_budgets_end_each_prompt_at_its_own_length(params, prompts):
    budgets = [3, 20, 1, 7, 12]
    samples = run(params, prompts, num_samples=2, stop_ids=(), budgets=budgets)
    free = run(params, prompts, num_samples=2, stop_ids=())
    assert [len(sample.tokens) for sample in samples] == [budget for budget in budgets for _ in range(2)]
    for sample, longer in zip(samples, free, strict=True):
        assert longer.tokens[: len(sample.tokens)].tolist() == sample.tokens.tolist()
    with pytest.raises(ValueError, match="budget 21 of prompt 0: expected 1 to max_new_tokens=20"):
        run(params, prompts, budgets=[21] * 5)


def test_a_small_cache_puts_rows_off_and_changes_no_sample(params, prompts):
    settings = {"num_samples": 6, "max_new_tokens": 90, "stop_ids": ()}
    seen = []
    small = run(params, prompts, cache_tokens=16 * 32, progress=seen.append, **settings)
    assert bits(small) == bits(run(params, prompts, **settings))
    assert seen[-1].num_preempted > 0 and "put off for want of cache" in seen[-1].line()
    with pytest.raises(ValueError, match=r"cache_tokens=128: .* 4 pages of 32 positions.*need 5 .*at least 192"):
        run(params, prompts, cache_tokens=128, **settings)


def test_an_eight_bit_cache_is_near_and_does_not_depend_on_the_batch(params, prompts):
    exact = run(params, prompts, num_samples=2, temperature=0.0, stop_ids=())
    rough = run(params, prompts, num_samples=2, temperature=0.0, stop_ids=(), cache_dtype="int8")
    assert bits(rough) == bits(run(params, prompts, num_samples=2, temperature=0.0, stop_ids=(), cache_dtype="int8",
                                   batch_size=40))
    differences = np.concatenate([np.abs(a.logprobs - b.logprobs) for a, b in zip(exact, rough, strict=True)
                                  if a.tokens.tolist() == b.tokens.tolist()])
    assert differences.size and 1e-5 < differences.mean() < 0.1


def test_stop_token_ends_a_sample_and_belongs_to_it(params, prompts):
    samples = run(params, prompts, num_samples=8, batch_size=40, max_new_tokens=40, temperature=2.0)
    assert {sample.finish for sample in samples} == {"stop", "length"}
    for sample in samples:
        at = np.flatnonzero(sample.tokens == STOP)
        assert at.tolist() == ([len(sample.tokens) - 1] if sample.finish == "stop" else [])
        assert sample.finish == "stop" or len(sample.tokens) == 40
    free = run(params, prompts, num_samples=8, batch_size=40, max_new_tokens=40, temperature=2.0, stop_ids=())
    for sample, longer in zip(samples, free, strict=True):  # stopping, and the smaller batch after it, change no draw
        assert longer.tokens[: len(sample.tokens)].tolist() == sample.tokens.tolist() and longer.finish == "length"


@pytest.mark.parametrize("sizes", [{"data": 8, "fsdp": 1}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_eight_devices_draw_what_one_draws(params, prompts, sizes):
    mesh = meshes.make(meshes.MeshConfig(**sizes), jax.devices())
    assert tokens(run(params, prompts, num_samples=3, mesh=mesh)) == tokens(run(params, prompts, num_samples=3))


def test_new_parameters_and_settings_compile_nothing_new(params, prompts):
    jitted = (programs.decode, programs.prefill, programs.copy_pages)
    run(params, prompts, seed=0, num_samples=2)
    before = [each._cache_size() for each in jitted]
    run(jax.tree.map(lambda x: x + 0.01, params), prompts, seed=3, temperature=0.3, num_samples=2)
    assert before == [each._cache_size() for each in jitted]


def test_progress_counts_and_says_how_long(params, prompts, capsys):
    seen = []
    samples = run(params, prompts, progress=seen.append, skip=3)
    assert seen[-1].num_done == seen[-1].num_total == len(samples) == 2
    assert 0 < seen[-1].num_programs < 10
    line = dataclasses.replace(seen[-1], num_done=1, num_total=4, num_tokens=2000, seconds=2.0, num_programs=3).line()
    assert line == "1/4 samples, 1,000 tokens/s, 3 programs, 6 s left"
    engine.to_stderr("rollout")(seen[-1])
    assert capsys.readouterr().err.startswith("rollout: 2/2 samples")


@pytest.mark.parametrize("settings, message", [
    ({"temperature": -1.0}, "temperature"), ({"num_samples": 0}, "num_samples"), ({"top_p": 0.0}, "top_p"),
    ({"ids": [1]}, "1 ids for 5 prompts"), ({"budgets": [1]}, "1 budgets for 5"),
    ({"cache_tokens": -1}, "cache_tokens"), ({"cache_dtype": "int4"}, "cache_dtype")])
def test_bad_settings_are_refused_at_the_call(params, prompts, settings, message):
    with pytest.raises(ValueError, match=message):
        run(params, prompts, **settings)


def test_an_empty_prompt_is_refused(params):
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        run(params, [[1], []])


def test_a_prompt_that_leaves_no_room_in_the_context_is_refused(params):
    short = dataclasses.replace(CONFIG, max_length=32)
    fits = generate(short, params, [[1] * 12], SamplingConfig(max_new_tokens=20), stop_ids=())
    assert len(next(fits).tokens) == 20
    with pytest.raises(ValueError, match=r"prompt 1 has 13 tokens, and max_new_tokens=20: .*context of 32 .*; lower"):
        generate(short, params, [[1] * 12, [1] * 13], SamplingConfig(max_new_tokens=20), stop_ids=())


@pytest.mark.parametrize("enough, batch_size", [(1, 8), (2, 16), (2, 64)])
def test_stopping_at_enough_right_ones_is_sampling_all_and_leaving_the_rest_out(params, prompts, enough, batch_size):
    def right(prompt, drawn):
        return int(drawn.sum() + prompt) % 3 == 0

    whole = run(params, prompts, num_samples=9, max_new_tokens=70)
    wanted, counts = [], dict.fromkeys(range(5), 0)
    for sample in whole:
        if counts[sample.prompt] < enough:
            wanted.append(sample)
        counts[sample.prompt] += right(sample.prompt, sample.tokens)
    seen = []
    accepted = Acceptance(enough=enough, right=right, close_id=None, verdicts=[()] * 5)
    found = run(params, prompts, num_samples=9, max_new_tokens=70, batch_size=batch_size, acceptance=accepted,
                progress=seen.append)
    assert bits(found) == bits(wanted) and len(wanted) < len(whole)
    assert seen[-1].num_done == seen[-1].num_total == 5 and seen[-1].num_right >= 5
    assert seen[-1].line().startswith("5/5 prompts (")
    with pytest.raises(ValueError, match=r"acceptance.enough=0"):
        run(params, prompts, acceptance=dataclasses.replace(accepted, enough=0))
