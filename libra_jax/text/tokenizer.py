"""One interface over Hugging Face `tokenizer.json` and sentencepiece `tokenizer.model` files.

Text never becomes a control token: `encode("<|im_end|>")` gives the tokens of those ten characters. Control tokens are
reached by `control(text)` alone. Encoding adds no prefix space and no BOS, so encoded parts can be put side by side:
decode(encode(a) + encode(b)) == a + b wherever the tokenizer itself is lossless.

Deviation from the source libraries: both match added tokens (special ones, and also plain ones such as Qwen3's
`<think>`) inside ordinary text, and sentencepiece models of the Llama kind put a space before it; here they do not.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

# Added tokens that are markup rather than text (Gemma also adds runs of spaces and newlines, which stay text).
_MARKER = re.compile(r"<.+>|\[.+\]", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A convention for conversations, known by its control tokens.

    Attributes:
      name: chatml, llama3, gemma or llama2.
      opens: the control token by which the family is recognised.
      stops: tokens that end an assistant turn; the first is the one that rendering writes.
      pads: tokens fit for padding, the best first.
    """

    name: str
    opens: str
    stops: tuple[str, ...]
    pads: tuple[str, ...]


FAMILIES = (
    Family(name="chatml", opens="<|im_start|>", stops=("<|im_end|>", "<|endoftext|>"), pads=("<|endoftext|>",)),
    Family(name="llama3", opens="<|start_header_id|>", stops=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
           pads=("<|finetune_right_pad_id|>", "<|end_of_text|>")),
    Family(name="gemma", opens="<start_of_turn>", stops=("<end_of_turn>", "<eos>"), pads=("<pad>",)),
    Family(name="llama2", opens="<s>", stops=("</s>",), pads=("<pad>", "<unk>", "</s>")),
)


class Tokenizer(Protocol):
    """What the rest of the package knows of a tokenizer; ids are ints in [0, vocab_size)."""

    vocab_size: int
    pad_id: int
    eos_id: int
    stop_ids: tuple[int, ...]

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; never a control token, no prefix space, no BOS. Empty text gives []."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; a control token is shown by its own text."""

    def control(self, text: str) -> int | None:
        """Id of the control token with this text, or None if the tokenizer has none."""


class JsonTokenizer:
    """A `tokenizer.json`, read by the tokenizers library; `about` is the content of tokenizer_config.json, or {}."""

    def __init__(self, raw: dict[str, Any], about: dict[str, Any] | None = None):
        import tokenizers

        raw = _without_prefix(raw)
        unknown = _unknown(raw["model"])
        known = {
            token["content"]: token["id"]
            for token in raw.get("added_tokens") or ()
            if token.get("special") or _MARKER.fullmatch(token["content"])
        }
        # The unknown token is what rare text becomes, not a control token.
        self._controls = {text: index for text, index in known.items() if text != unknown}
        self._full = tokenizers.Tokenizer.from_str(json.dumps(raw))
        self._plain = tokenizers.Tokenizer.from_str(json.dumps(_without_controls(raw, self._controls)))
        self._forbidden = frozenset(self._controls.values())
        self.vocab_size = max(self._full.get_vocab(with_added_tokens=True).values()) + 1
        self.eos_id, self.stop_ids, self.pad_id = _ends(known.get, about or {})

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text. Lone surrogates become "?". Raises ValueError if a control id were to come out."""
        ids = self._plain.encode(_clean(text), add_special_tokens=False).ids
        return _checked(ids, self._forbidden)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens shown by their text; bytes that are not UTF-8 become U+FFFD."""
        return self._full.decode([int(i) for i in ids], skip_special_tokens=False)

    def control(self, text: str) -> int | None:
        """Id of the control token with this text, or None."""
        return self._controls.get(text)


class SentencePieceTokenizer:
    """A sentencepiece `tokenizer.model`, given as bytes."""

    def __init__(self, serialized: bytes, about: dict[str, Any] | None = None):
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as proto

        model = proto.ModelProto.FromString(serialized)
        kinds = proto.ModelProto.SentencePiece
        self._controls, self._texts, unknown = {}, {}, None
        for index, piece in enumerate(model.pieces):
            marker = piece.type == kinds.USER_DEFINED and _MARKER.fullmatch(piece.piece)
            if piece.type == kinds.CONTROL or marker:
                self._controls[piece.piece] = index
                self._texts[index] = piece.piece
                if marker:
                    piece.type = kinds.UNUSED  # the encoder then spells it out instead of matching it
            elif piece.type == kinds.UNKNOWN:
                unknown = (piece.piece, index)
        # A prefix space would appear wherever two encoded parts meet.
        model.normalizer_spec.add_dummy_prefix = False
        self._model = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        self._forbidden = frozenset(self._texts)
        self.vocab_size = len(model.pieces)
        known = dict(self._controls, **({unknown[0]: unknown[1]} if unknown else {}))
        self.eos_id, self.stop_ids, self.pad_id = _ends(known.get, about or {})

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text. Lone surrogates become "?". Raises ValueError if a control id were to come out."""
        return _checked(self._model.encode(_clean(text)), self._forbidden)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens shown by their text."""
        text, run = "", []
        for index in map(int, ids):
            if index in self._texts:
                text += self._model.decode(run) + self._texts[index]
                run = []
            else:
                run.append(index)
        return text + self._model.decode(run)

    def control(self, text: str) -> int | None:
        """Id of the control token with this text, or None."""
        return self._controls.get(text)


def load(path: str | os.PathLike) -> Tokenizer:
    """Reads a tokenizer from a file, or from a folder that holds tokenizer.json or tokenizer.model.

    Where a folder has both, tokenizer.json wins; its tokenizer_config.json names the padding token. Raises
    FileNotFoundError when there is neither, ValueError when the tokenizer has no end token that is known.
    """
    path = pathlib.Path(path)
    files = [path / "tokenizer.json", path / "tokenizer.model"] if path.is_dir() else [path]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(f"no tokenizer at {path}: expected a tokenizer.json or tokenizer.model, or a folder "
                                "that holds one (a checkpoint in Hugging Face format does)")
    about_file = file.with_name("tokenizer_config.json")
    about = _json(about_file) if about_file.is_file() else {}
    if file.suffix == ".json":
        raw = _json(file)
        try:
            found: Tokenizer = JsonTokenizer(raw, about)
        except ValueError:
            raise
        except Exception as error:  # the tokenizers library raises plain Exception, and a KeyError is ours
            raise ValueError(f"{file}: no tokenizer that can be read ({error}); download or copy it again") from error
    else:
        found = SentencePieceTokenizer(file.read_bytes(), about)
    _check_size(found, file)
    return found


def _json(file: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not readable JSON ({error}); download or copy it again") from None


def _check_size(found: Tokenizer, file: pathlib.Path) -> None:
    """ValueError where the model beside the tokenizer has fewer tokens: ids beyond its table mean nothing."""
    beside = file.with_name("config.json")
    if not beside.is_file():
        return
    about = _json(beside)
    size = about.get("vocab_size", (about.get("text_config") or {}).get("vocab_size"))
    if isinstance(size, int) and found.vocab_size > size:
        raise ValueError(f"{file} has {found.vocab_size:,} tokens, and the model beside it vocab_size={size:,}; "
                         "expected the model's own tokenizer: copy it from where the model is from")


def family_of(tokenizer: Tokenizer) -> Family | None:
    """The family whose opening control token the tokenizer has, or None."""
    return next((family for family in FAMILIES if tokenizer.control(family.opens) is not None), None)


def _ends(find: Callable[[str], int | None], about: dict[str, Any]) -> tuple[int, tuple[int, ...], int]:
    """(eos, stops, pad) ids. The family's end of turn goes before `eos_token`, which base models set otherwise."""
    family = next((family for family in FAMILIES if find(family.opens) is not None), None)
    named = [_token_text(about.get("eos_token"))]
    found = [find(text) for text in [*(family.stops if family else ()), *named] if text]
    stops = tuple(dict.fromkeys(index for index in found if index is not None))
    if not stops:
        raise ValueError(f"the tokenizer has no end token: none of {[f.stops[0] for f in FAMILIES]} is a control token "
                         f"and tokenizer_config.json gives eos_token={named[0]!r}; set eos_token there")
    pads = [_token_text(about.get("pad_token")), *(family.pads if family else ())]
    padding = [index for index in (find(text) for text in pads if text) if index is not None]
    return stops[0], stops, (padding or stops)[0]


def _token_text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _checked(ids: list[int], forbidden: frozenset[int]) -> list[int]:
    if not forbidden.isdisjoint(ids):
        found = sorted(forbidden.intersection(ids))
        raise ValueError(f"plain text gave the control ids {found}; this tokenizer's model cannot be made safe")
    return ids


def _without_prefix(raw: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer without padding, truncation, and any space put before text or stripped from its decoding."""
    raw = dict(raw, padding=None, truncation=None)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        raw[part] = _walk(raw.get(part), part)
    return raw


def _walk(step: dict[str, Any] | None, part: str) -> dict[str, Any] | None:
    if step is None:
        return None
    kind = step.get("type")
    if kind == "Sequence":
        name = next(name for name in ("normalizers", "pretokenizers", "decoders") if name in step)
        inner = [_walk(item, part) for item in step[name]]
        return {**step, name: [item for item in inner if item is not None]}
    if kind == "Prepend" or (part == "decoder" and kind == "Strip" and step.get("content") == " "):
        return None
    if kind == "Metaspace":
        return {**{k: v for k, v in step.items() if k != "add_prefix_space"}, "prepend_scheme": "never"}
    if kind == "ByteLevel" and part == "pre_tokenizer":
        return {**step, "add_prefix_space": False}
    return step


def _unknown(model: dict[str, Any]) -> str | None:
    if model.get("unk_id") is not None:
        return model["vocab"][model["unk_id"]][0]
    return model.get("unk_token")


def _without_controls(raw: dict[str, Any], controls: dict[str, int]) -> dict[str, Any]:
    """The same tokenizer, but no text matches `controls`: neither as added tokens nor as entries of the vocabulary.

    They are renamed, not removed, so that all ids stay; the new names cannot be guessed.
    """
    renamed = {text: f"{secrets.token_hex(16)} {index}" for text, index in controls.items()}
    model = dict(raw["model"])
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        model["vocab"] = {renamed.get(text, text): index for text, index in vocab.items()}
    elif vocab:  # unigram: [text, log-probability]; the unknown token is known by its index
        model["vocab"] = [[renamed.get(text, text), score] for text, score in vocab]
    if model.get("merges"):
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if renamed.keys().isdisjoint((a, b, a + b))]
    # The library numbers added tokens by their order, so they too are renamed rather than left out.
    added = [{**t, "content": renamed.get(t["content"], t["content"])} for t in raw.get("added_tokens") or ()]
    return dict(raw, model=model, added_tokens=added, post_processor=None)
