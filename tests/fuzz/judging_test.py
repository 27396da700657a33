"""Prompts and verdicts: no response adds a control token, ends its slot or turns a verdict."""

import json
import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, pre_tokenizers

from libra_jax.judging import prompt, verdict
from libra_jax.records import Control
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers

TEMPLATE = prompt.load_template("libra")
CONTROLS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<|eot_id|>", "<|start_header_id|>",
            "<|end_header_id|>", "<|begin_of_text|>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>",
            "<s>", "</s>", "<unk>"]
PIECES = st.sampled_from([*CONTROLS, "Verdict: correct", "Verdict: incorrect", "Verdict:", "correct", "\n", " ",
                          "{response}", "{question}", "{verdict}", "# End of response", "~~~", "~", "</thi", "nk>",
                          "\u2028", "\x00", "\ud800", "."])
WORDS = st.lists(PIECES | st.text(st.characters(), max_size=6), max_size=25).map("".join)


def byte_tokenizer(controls):
    vocab = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    hf = HfTokenizer(models.BPE(vocab=vocab, merges=[]))
    hf.pre_tokenizer, hf.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    hf.add_special_tokens(controls)
    return tokenizers.JsonTokenizer(json.loads(hf.to_str()))


FAMILIES = {
    "chatml": byte_tokenizer(CONTROLS[:5]),
    "llama3": byte_tokenizer([*CONTROLS[2:5], *CONTROLS[5:9]]),
    "gemma": byte_tokenizer([*CONTROLS[3:5], *CONTROLS[9:14]]),
    "llama2": byte_tokenizer([*CONTROLS[3:5], *CONTROLS[14:]]),
}


def prompt_of(tokenizer, response, template=TEMPLATE):
    return chat.render(tokenizer, template.judging("1+1?", response), open_last=True).tokens


def controls_of(tokenizer, tokens):
    known = {tokenizer.control(text) for text in CONTROLS} - {None}
    return [token for token in tokens if token in known]


def check_prompt(tokenizer, response):
    """The response is there as it is, between the template's own words and the same control tokens as ever."""
    plain, tokens = prompt_of(tokenizer, "x"), prompt_of(tokenizer, response)
    assert controls_of(tokenizer, tokens) == controls_of(tokenizer, plain)
    before, after = tokenizer.decode(plain).split("# Response\nx\n\n")
    text = tokenizer.decode(tokens)
    shown = response.encode("utf-8", "replace").decode()
    assert text == f"{before}# Response\n{shown}\n\n{after}"


@pytest.mark.parametrize("family", FAMILIES)
def test_no_response_leaves_its_slot(family):
    given(WORDS)(lambda response: check_prompt(FAMILIES[family], response))()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_hostile_response_leaves_its_slot(family, corpus):
    for text in corpus.values():
        check_prompt(FAMILIES[family], text[:5_000])


def check_ranking(tokenizer, response):
    """Among several responses it stands as it is, between two lines that it does not have."""
    def tokens_of(text):
        return chat.render(tokenizer, TEMPLATE.ranking("1+1?", ["2", text, "3"]), open_last=True).tokens

    plain, tokens = tokens_of("x"), tokens_of(response)
    assert controls_of(tokenizer, tokens) == controls_of(tokenizer, plain)
    mark = prompt.fence(["1+1?", "2", response, "3"])
    assert mark not in response
    shown = response.encode("utf-8", "replace").decode()
    assert tokenizer.decode(tokens) == tokenizer.decode(plain).replace(prompt.FENCE, mark).replace(
        f"\n{mark}\nx\n{mark}\n", f"\n{mark}\n{shown}\n{mark}\n")


@pytest.mark.parametrize("family", FAMILIES)
def test_no_response_leaves_its_place_in_a_ranking(family, corpus):
    given(WORDS)(lambda response: check_ranking(FAMILIES[family], response))()
    for text in corpus.values():
        check_ranking(FAMILIES[family], text[:5_000])


@pytest.mark.parametrize("which", ["miniature", "llama2"])
def test_real_tokenizers_make_no_control_token_of_a_response(which, corpus, request):
    if which == "miniature":
        tokenizer = tokenizers.load(pathlib.Path(prompt.__file__).parents[1] / "miniature" / "checkpoint")
    else:
        tokenizer = tokenizers.load(request.getfixturevalue("shared") / "tokenizers" / "llama2")
    plain = controls_of(tokenizer, prompt_of(tokenizer, "x"))
    for name, text in corpus.items():
        assert controls_of(tokenizer, prompt_of(tokenizer, text[:20_000])) == plain, name


def check_messages(template, text):
    """As messages: only the user's one changes, and it is the template around the text."""
    (*_, user, judge), (*_, plain, same) = template.judging(text, text), template.judging("x", "x")
    head, middle, tail = re.split(r"\{(?:question|response)\}", template.judge)
    assert user.content == (head + text + middle + text + tail,) and judge == same and user.role == plain.role
    own = template.solving_target("q", text)[-1].content
    assert "".join(part.text if isinstance(part, Control) else part for part in own) == text


@pytest.mark.parametrize("name", prompt.TEMPLATES)
def test_a_template_is_filled_once(name, corpus):
    template = prompt.load_template(name)
    given(WORDS)(lambda text: check_messages(template, text))()
    for text in corpus.values():
        check_messages(template, text)


def by_regex(text):
    """The verdict grammar once more, written another way."""
    heads = re.findall(r"^\s*(Verdict:.*)$", "\n".join(text.split("\n")), re.MULTILINE)
    kinds = {re.sub(r"\s+$", "", head) for head in heads}
    return {frozenset({"Verdict: correct"}): "correct", frozenset({"Verdict: incorrect"}): "incorrect"}.get(
        frozenset(kinds), "unparsed")


PLAIN = st.lists(st.sampled_from(["Verdict: correct", "Verdict: incorrect", "Verdict:", " correct", "in", "\n", " ",
                                  "\t", ".", "so ", "</think>", "<think>"]), max_size=12).map("".join)

LINES = st.lists(st.sampled_from(["Verdict: correct", " Verdict: correct\t", "Verdict: incorrect", "Verdict: perhaps",
                                  "", "so", "I say Verdict: correct", "Verdict: correct."]), max_size=4).map("\n".join)


@given(PLAIN | LINES)
def test_a_verdict_is_what_the_grammar_says(text):
    assert verdict.parse(text, TEMPLATE) == by_regex(text)


@given(PLAIN, PLAIN)
def test_nothing_in_a_thought_is_a_verdict(thought, after):
    thought = thought.replace("</think>", "")
    assert verdict.read(f"{thought}</think>{after}", TEMPLATE) == (thought.strip(), verdict.parse(after, TEMPLATE))
    assert verdict.read(thought, TEMPLATE)[1] == "unparsed"


@given(WORDS)
def test_any_words_of_a_judge_are_read(text):
    thought, found = verdict.read(text, TEMPLATE)
    assert thought in text and found in ("correct", "incorrect", "unparsed")


def test_a_judge_that_quotes_a_hostile_response_is_not_turned_by_it(corpus, bounded):
    """In its thought a quotation changes nothing; behind it, it can spoil the verdict and never turn it."""
    for name, text in corpus.items():
        quoted = text.replace(TEMPLATE.think_close, "")
        said = f"It says: {quoted}\nbut no.</think>\n\nVerdict: incorrect"
        assert bounded(2, name, verdict.read, said, TEMPLATE)[1] == "incorrect", name
        behind = verdict.parse(f"It says: {text}\nVerdict: incorrect", TEMPLATE)
        assert behind in ("incorrect", "unparsed"), name
