"""The templates of text/chat.py as Jinja, for tokenizer_config.json: what transformers, vLLM and others render by.

apply_chat_template then gives the tokens of chat.render wherever (1) no message holds the text of a control token,
which those libraries would take for the token itself, (2) no message begins or ends with a blank or a line break, since
they encode a whole conversation at once and a token may then reach over the seam, and (3) the tokens that open a turn
(`<think>`) are control tokens of the tokenizer, or no token reaches over their end.
"""

from __future__ import annotations

from collections.abc import Sequence

from libra_jax.records import Control
from libra_jax.text.tokenizer import Tokenizer, family_of

Opening = Sequence[str | Control]

_LOOP = "{%- for message in turns -%}"
_SYSTEM = (
    "{%- set system = '' -%}{%- set turns = messages -%}"
    "{%- if messages[0]['role'] == 'system' and messages|length > 1 and messages[1]['role'] == 'user' -%}"
    "{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}{%- endif -%}")
_TEMPLATES = {
    "chatml": (
        "{%- for message in messages -%}{{- ('' if loop.first else '\\n') + '<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + END -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '\\n<|im_start|>assistant\\n' + OPENING -}}{%- endif -%}"),
    "llama3": (
        "{{- BEGIN -}}{%- for message in messages -%}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>"
        "\\n\\n' + message['content'] + END -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|start_header_id|>"
        "assistant<|end_header_id|>\\n\\n' + OPENING -}}{%- endif -%}"),
    "gemma": (
        "{{- BEGIN -}}" + _SYSTEM + _LOOP + "{{- ('' if loop.first else '\\n') + '<start_of_turn>' + ('model' if "
        "message['role'] == 'assistant' else 'user') + '\\n' + (system + '\\n\\n' if loop.first and system else '') + "
        "message['content'] + END -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '\\n<start_of_turn>model\\n' + OPENING -}}{%- endif -%}"),
    "llama2": (
        _SYSTEM + _LOOP + "{%- if message['role'] == 'assistant' -%}{{- (BEGIN if loop.first else '') + ' ' + "
        "message['content'] + END -}}{%- else -%}{{- (BEGIN if loop.first or turns[loop.index0 - 1]['role'] == "
        "'assistant' else '') + ' [INST] ' + ('<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if loop.first and system "
        "else '') + message['content'] + ' [/INST]' -}}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- OPENING -}}{%- endif -%}"),
}
_BEGINS = {"llama3": "<|begin_of_text|>", "gemma": "<bos>", "llama2": "<s>"}


def jinja(tokenizer: Tokenizer, *, thinking: Opening = (), without: Opening = ()) -> str:
    """The Jinja source of the tokenizer's family. ValueError for a tokenizer of no known family.

    `thinking` is what opens the assistant's turn (add_generation_prompt), `without` the same where a caller sets
    enable_thinking to false. Both become string literals: nothing in them is evaluated.
    """
    family = family_of(tokenizer)
    if family is None:
        raise ValueError("the tokenizer is of no known chat family, so it has no chat template")
    begin = _BEGINS.get(family.name, "")
    begins = begin if tokenizer.control(begin) is not None else ""
    openings = [_text(tokenizer, family.name, opening) for opening in (thinking, without)]
    opening = literal(openings[0])
    if openings[0] != openings[1]:
        opening = f"({literal(openings[1])} if enable_thinking is defined and not enable_thinking else {opening})"
    source = _TEMPLATES[family.name]
    for name, value in (("BEGIN", literal(begins)), ("END", literal(tokenizer.decode([tokenizer.eos_id]))),
                        ("OPENING", opening)):
        source = source.replace(name, value)
    return source


def literal(text: str) -> str:
    """A text as a Jinja string literal in single quotes."""
    escaped = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "'" + "".join(escaped.get(letter, letter) for letter in text) + "'"


def _text(tokenizer: Tokenizer, family: str, opening: Opening) -> str:
    text = "".join(part.text if isinstance(part, Control) else part for part in opening)
    first = opening[0] if opening else ""
    spelt = isinstance(first, Control) and tokenizer.control(first.text) is None
    return " " + text if family == "llama2" and spelt else text
