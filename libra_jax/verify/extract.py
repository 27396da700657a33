"""Finds the final answer of a solution by the field's conventions, the most explicit one first.

The last \\boxed{...}, else the last "#### x", else the last line "A: x" (or "Answer: x"), else the last "the answer is
x". Linear in the text; only its last MAX_TEXT characters are looked at.
"""

from __future__ import annotations

import re

MAX_TEXT = 200_000
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?=[{ ])")
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]*)$", re.MULTILINE)
_LABEL = re.compile(r"^(?:\*\*)?(?:A|Answer|Final answer)(?:\*\*)?:(?:\*\*)?[ \t]*(\S[^\n]*)$",
                    re.MULTILINE | re.IGNORECASE)
_SENTENCE = re.compile(r"answer is:?[ \t]+((?:(?!answer is)[^\n])+)", re.IGNORECASE)


def extract(text: str) -> str | None:
    """The final answer as written, without surrounding dollars and the sentence's full stop; None if there is none."""
    text = text[-MAX_TEXT:]
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    for pattern in (_HASHES, _LABEL, _SENTENCE):
        found = None
        for found in pattern.finditer(text):
            pass
        if found:
            return _trim(found[1])
    return None


def _last_boxed(text: str) -> str | None:
    """The content of the last \\boxed whose braces close; "\\boxed 5" takes what follows up to a space or dollar."""
    for found in reversed(list(_BOXED.finditer(text))):
        start = found.end()
        if text[start : start + 1] == " ":
            rest = re.match(r"\s*([^\s$]+)", text[start : start + 200])
            if rest and not rest[1].startswith("{"):
                return rest[1]
            start = text.find("{", start)
            if start < 0:
                continue
        depth = 0
        for place in range(start, min(len(text), start + 20_000)):
            char = text[place]
            if char == "{" and text[place - 1] != "\\":
                depth += 1
            elif char == "}" and text[place - 1] != "\\":
                depth -= 1
                if depth == 0:
                    return text[start + 1 : place].strip()
    return None


def _trim(answer: str) -> str:
    answer = answer.strip().rstrip(".").strip()
    if len(answer) > 1 and answer[0] == answer[-1] == "$":
        answer = answer[1:-1]
    return answer.strip()
