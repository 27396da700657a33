"""Conversations as tokens and a loss mask, in the convention of the tokenizer's family.

Every string of a message is encoded by itself, so the end of a string is the end of a token: a prompt that ends where
a training target has a boundary is, in tokens, exactly a prefix of that target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from libra_jax.records import Control, Message
from libra_jax.text.tokenizer import FAMILIES, Tokenizer, family_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation: `tokens` [T] and `loss_mask` [T], True where the assistant speaks or ends its turn."""

    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...]


def render(tokenizer: Tokenizer, messages: Sequence[Message], *, open_last: bool = False) -> Rendered:
    """Renders a conversation in the family's own template, without a default system message.

    `open_last` is for prompting: a last assistant message is left without its end token, so that the model continues
    it; after any other last message an empty assistant turn is opened. Nothing follows the last end token. A Control
    that the tokenizer lacks is encoded as the plain text that it is. In the llama2 family the turns themselves are
    marked by plain text (`[INST]`), so there alone a message can imitate one.

    Raises ValueError for no messages, a system message that is not the first, or an unknown family.
    """
    messages = list(messages)
    if not messages:
        raise ValueError("no messages to render; expected at least one")
    if any(message.role == "system" for message in messages[1:]):
        raise ValueError("a system message stands after another message; only the first may be one")
    family = family_of(tokenizer)
    if family is None:
        raise ValueError("the tokenizer is of no known chat family: expected one of the control tokens "
                         f"{', '.join(known.opens for known in FAMILIES)}; add them to its tokenizer.json")
    if open_last and messages[-1].role != "assistant":
        messages.append(Message(role="assistant", content=()))
    writer = _Writer(tokenizer)
    _TEMPLATES[family.name](writer, messages, open_last)
    return Rendered(tokens=tuple(writer.tokens), loss_mask=tuple(writer.mask))


class _Writer:
    """Collects tokens and mask; `loss` says whether the assistant wrote them."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.tokens: list[int] = []
        self.mask: list[bool] = []

    def write(self, *parts: str | Control, loss: bool = False) -> None:
        for part in parts:
            if isinstance(part, Control):
                index = self.tokenizer.control(part.text)
                ids = self.tokenizer.encode(part.text) if index is None else [index]
            else:
                ids = self.tokenizer.encode(part)
            self.tokens += ids
            self.mask += [loss] * len(ids)

    def begin(self, text: str) -> None:
        """The token of the beginning, where the tokenizer has one."""
        if self.tokenizer.control(text) is not None:
            self.write(Control(text))

    def end(self, *, loss: bool) -> None:
        self.tokens.append(self.tokenizer.eos_id)
        self.mask.append(loss)


def _chatml(writer: _Writer, messages: Sequence[Message], open_last: bool) -> None:
    for number, message in enumerate(messages):
        speaks = message.role == "assistant"
        writer.write(*(["\n"] if number else []), Control("<|im_start|>"), message.role + "\n")
        writer.write(*message.content, loss=speaks)
        if not (open_last and number == len(messages) - 1):
            writer.end(loss=speaks)


def _llama3(writer: _Writer, messages: Sequence[Message], open_last: bool) -> None:
    writer.begin("<|begin_of_text|>")
    for number, message in enumerate(messages):
        speaks = message.role == "assistant"
        writer.write(Control("<|start_header_id|>"), message.role, Control("<|end_header_id|>"), "\n\n")
        writer.write(*message.content, loss=speaks)
        if not (open_last and number == len(messages) - 1):
            writer.end(loss=speaks)


def _gemma(writer: _Writer, messages: Sequence[Message], open_last: bool) -> None:
    """Gemma knows no system role; its text goes before the first user message, as in Gemma 3's template."""
    writer.begin("<bos>")
    system, turns = _take_system(messages)
    for number, message in enumerate(turns):
        speaks = message.role == "assistant"
        writer.write(*(["\n"] if number else []), Control("<start_of_turn>"), ("model" if speaks else "user") + "\n")
        if system and not number:
            writer.write(*system, "\n\n")
        writer.write(*message.content, loss=speaks)
        if not (open_last and number == len(turns) - 1):
            writer.end(loss=speaks)


def _llama2(writer: _Writer, messages: Sequence[Message], open_last: bool) -> None:
    """`<s> [INST] question [/INST] answer </s>`: each answer ends what its `<s>` began."""
    system, turns = _take_system(messages)
    begun = False
    for number, message in enumerate(turns):
        if not begun:
            writer.begin("<s>")
        begun = True
        if message.role == "user":
            text = plain(message.content)
            if system and not number:
                text = f"<<SYS>>\n{plain(system)}\n<</SYS>>\n\n{text}"
            writer.write(f" [INST] {text} [/INST]")
        else:
            first, *rest = message.content or ("",)
            if first == "" or (isinstance(first, Control) and writer.tokenizer.control(first.text) is not None):
                writer.write(first, *rest, loss=True)
            else:
                writer.write(" " + plain((first,)), *rest, loss=True)
            if not (open_last and number == len(turns) - 1):
                writer.end(loss=True)
                begun = False


def _take_system(messages: Sequence[Message]) -> tuple[tuple[str | Control, ...], Sequence[Message]]:
    """(system content, the other messages); a system message alone becomes a user message."""
    if messages[0].role != "system":
        return (), messages
    rest = list(messages[1:])
    if not rest or rest[0].role != "user":
        return (), [dataclasses.replace(messages[0], role="user"), *rest]
    return messages[0].content, rest


def plain(content: Sequence[str | Control]) -> str:
    """The text of a message, its control tokens as text too."""
    return "".join(part.text if isinstance(part, Control) else part for part in content)


_TEMPLATES: dict[str, Callable[[_Writer, Sequence[Message], bool], None]] = {
    "chatml": _chatml,
    "llama3": _llama3,
    "gemma": _gemma,
    "llama2": _llama2,
}
