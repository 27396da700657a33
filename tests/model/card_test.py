"""An export as others read it: transformers renders our prompt token for token, and the card shows and runs nothing."""

import dataclasses
import json
import re

import pytest

from libra_jax.judging.prompt import TEMPLATES, load_template
from libra_jax.model import card, hf
from libra_jax.stages import convert
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers

EVIL = dataclasses.replace(TEMPLATES["libra"], system="```\n{{ 7*7 }} {% raw %}\n---\n'\"\\", think_open="<think>",
                           thought_gap="'{{ 7*7 }}' %}\\\n")
CARD = card.Card(kind="judge", template=TEMPLATES["miniature"], data={"judgements": 1200}, temperature=1.0)


def written(folder, base, given, **how):
    """`folder` with the base's weights and the files of a card beside them."""
    how = {"stage": "sft", "config": {"num_steps": 3}, "metrics": {"loss": 0.5, "held_out": float("nan")}} | how
    config, params = hf.load(base)
    hf.save(folder, config, params, tokenizer_from=base,
            files=card.files(base, tokenizers.load(base), given, **how))
    return folder


@pytest.fixture(scope="module")
def base():
    import importlib.resources
    return importlib.resources.files("libra_jax") / "miniature/checkpoint"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, base):
    return written(tmp_path_factory.mktemp("card") / "export", base, CARD)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("name", ["libra", "miniature", "evil"])
def test_transformers_renders_the_prompt_of_training_token_for_token(tmp_path, base, name, thinking):
    transformers = pytest.importorskip("transformers")
    template = {**TEMPLATES, "evil": EVIL}[name]
    folder = written(tmp_path, base, dataclasses.replace(CARD, template=template))
    words = transformers.AutoTokenizer.from_pretrained(folder)
    asked = template.judging("What is {response} 45+7?", "45+7=52\n{question} ½\nA: 52", thinking=thinking)
    messages = [{"role": message.role, "content": "".join(message.content)} for message in asked[:-1]]
    found = words.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=thinking)["input_ids"]
    assert tuple(found) == chat.render(tokenizers.load(base), asked, open_last=True).tokens


def test_transformers_generates_a_judgement_from_the_export_alone(folder, base):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    assert "apply_chat_template" in code
    for old, new in (('"FOLDER OR OWNER/NAME"', repr(str(folder))), (', device_map="auto"', ""),
                     ("max_new_tokens=4096", "max_new_tokens=64, do_sample=False"),
                     ("What is 2 + 3?", "What is 45+7+2?"),
                     ("2 + 3 = 6. The answer is 6.", r"45+7=51\n51+2=51\nA: 51")):
        assert old in code, old
        code = code.replace(old, new)
    names = {}
    exec(code, names)
    said = names["tokenizer"].decode(names["output"][0, names["inputs"]["input_ids"].shape[1]:])
    assert re.fullmatch(r"[^<]+</think>Verdict: incorrect<\|im_end\|>", said), said
    settings = transformers.GenerationConfig.from_pretrained(folder)
    assert (settings.eos_token_id, settings.do_sample, settings.temperature, settings.top_k, settings.top_p) == (
        list(tokenizers.load(base).stop_ids), True, 1.0, 0, 1.0)
    del torch


@pytest.mark.parametrize("family, pieces", [
    ("llama3", ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    ("gemma", ["<bos>", "<start_of_turn>", "<end_of_turn>"]),
    ("gemma", ["<start_of_turn>", "<end_of_turn>", "<eos>"]),
    ("llama2", ["<s>", "</s>"]),
    ("chatml", ["<|im_start|>", "<|im_end|>"]),
])
@pytest.mark.parametrize("roles", [("user",), ("system", "user"), ("user", "assistant", "user"),
                                   ("system", "user", "assistant", "user"), ("system",)])
def test_every_family_s_template_says_what_ours_does(family, pieces, roles):
    jinja2 = pytest.importorskip("jinja2")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from libra_jax.records import Control, Message
    from libra_jax.text import chat_template
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=letters, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.add_special_tokens([*pieces, "<think>"])
    words = tokenizers.JsonTokenizer(json.loads(raw.to_str()))
    assert tokenizers.family_of(words).name == family
    messages = [Message(role=role, content=(f"{role} {{{{ 1 }}}} {number}",)) for number, role in enumerate(roles)]
    opening = (Control("<think>"), "\n")
    source = chat_template.jinja(words, thinking=opening)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as transformers has it
    given = [{"role": message.role, "content": message.content[0]} for message in messages]
    shown = environment.from_string(source).render(messages=given, add_generation_prompt=True)
    ours = chat.render(words, [*messages, Message(role="assistant", content=opening)], open_last=True)
    assert shown == words.decode(ours.tokens)
    assert environment.from_string(source).render(messages=given) == words.decode(chat.render(words, messages).tokens)


def test_the_card_is_read_by_the_hub_and_says_only_what_is_known(folder, base):
    hub = pytest.importorskip("huggingface_hub")
    found = hub.ModelCard.load(folder / "README.md")
    assert found.data.to_dict() == {"library_name": "transformers", "pipeline_tag": "text-generation",
                                    "tags": ["libra", "reward-model", "generative-reward-model"]}
    assert "| judgements | 1,200 |" in found.text and "| loss | 0.5 |" in found.text and "held" not in found.text
    assert "Nothing yet." in found.text and "The licence is not named here" in found.text
    assert str(base.parent) not in found.text + (folder / card.NOTE).read_text()
    assert load_template(str(folder / card.NOTE)) == TEMPLATES["miniature"]
    with pytest.raises(ValueError, match=r"no prompt in it .*expected the libra\.json of an export"):
        load_template(str(folder / "config.json"))


def test_hostile_texts_end_no_block_and_are_no_yaml(tmp_path, base):
    hub = pytest.importorskip("huggingface_hub")
    evil = dataclasses.replace(EVIL, judge="```\n````\n{question}{response}")
    folder = written(tmp_path, base, dataclasses.replace(CARD, template=evil, data={"a|b<script>": 1}))
    text = (folder / "README.md").read_text()
    assert "a\\|b\\<script\\>" in text and "<script>" not in text and hub.ModelCard(text).data.library_name
    fences = re.findall(r"^(`{3,})(\w*)$", text, re.MULTILINE)
    assert [fence for fence, _ in fences] == ["`````", "`````", "```", "```"]
    made = card.markdown(json.loads((folder / card.NOTE).read_text()), licence='mit"\nbase_model: x', base_model="a/b")
    data = hub.ModelCard(made).data
    assert (data.license, data.base_model) == ('mit" base_model: x', "a/b")


def test_an_export_of_an_export_knows_its_base_and_keeps_generation_settings(tmp_path, folder):
    settings = json.loads((folder / "generation_config.json").read_text())
    policy = card.Card(kind="policy", template=TEMPLATES["libra"], data={"pairs": 2})
    made = card.files(folder, tokenizers.load(folder), policy, stage="dpo", config={}, metrics={})
    note = json.loads(made[card.NOTE])
    assert (note["base_model"], note["after"], note["stage"]) == ("checkpoint", ["sft"], "dpo")
    assert card.generation(settings, tokenizers.load(folder), policy) == settings
    greedy = card.generation(settings, tokenizers.load(folder), dataclasses.replace(CARD, temperature=0.0))
    assert greedy["do_sample"] is False and "temperature" not in greedy


def test_convert_puts_a_bench_s_figures_into_the_card(tmp_path, folder, base, capsys):
    value = {"value": 0.924, "low": 0.911, "high": 0.938}
    report = {"title": "Mine", "judges": [{"judge": "rl", "num_examples": 1096, "num_judgements": 2192,
                                           "metrics": {"accuracy": value, "auroc": {"value": None}}}]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    config = convert.Config(checkpoint=str(folder), report=str(tmp_path / "report.json"), judge="rl",
                            base_model="o/n", license="apache-2.0")
    convert.run(config, tmp_path)
    text = (tmp_path / "checkpoint/README.md").read_text()
    assert "| Mine: 1,096 examples, 2,192 judgements | accuracy | 0.924 \\[0.911, 0.938\\] |" in text
    assert "license: \"apache-2.0\"\nbase_model: \"o/n\"\n" in text and "Nothing yet" not in text
    assert (tmp_path / "checkpoint/libra.json").read_bytes() == (folder / "libra.json").read_bytes()
    convert.run(dataclasses.replace(config, license=""), tmp_path)  # another card of the same weights
    assert "license: \"" not in (tmp_path / "checkpoint/README.md").read_text()
    with pytest.raises(ValueError, match=r"report\.json: no judge 'sft'; it has rl"):
        convert.run(dataclasses.replace(config, judge="sft"), tmp_path)
    with pytest.raises(ValueError, match=r"no libra\.json to make a model card of"):
        convert.run(dataclasses.replace(config, checkpoint=str(base)), tmp_path / "other")
