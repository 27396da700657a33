r"""The final answer of a response: last \boxed, else the last of "#### x", "A: x", "Answer: x", "the answer is x".

Every pattern is linear in the length of the text, so that a hostile response costs milliseconds. A number that merely
stands somewhere in the text is never guessed to be the answer.
"""

from __future__ import annotations

import re

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\boxed\s?([A-Za-z0-9])(?![A-Za-z0-9])")
_JOINT = re.compile(r"[\s$.]*(?:,|;|and|or|,\s?and|,\s?or|\\text\s?\{\s?(?:and|or)\s?\})[\s$]*(?:[A-Za-z]\s?=\s?)?")
_LONGEST_JOINT = 40  # characters between two boxes of one answer
_LONGEST_LINE = 2_000  # characters of a line after a lone "Answer:"
_WRAPS = 5  # boxes around one answer
_MARK = re.compile(
    r"^[ \t]*(?P<hashes>\#{4}(?!\#))|^[ \t>*_]*(?P<letter>(?-i:A):)"
    r"|\banswer(?:[ \t]to[^\n.:=]{1,60}?)?[ \t]?[*_]{0,2}[ \t]?(?:is\b(?:[ \t]?:)?|:|=)",
    re.MULTILINE | re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<![AaPp]\.[Mm])[.!?](?=\s+[A-Z\\$*(]|\s*$)")
_I_HOPE = re.compile(r"[.,;]?\s{0,3}I hope\b.*$", re.IGNORECASE)


def extract(text: str) -> str | None:
    r"""Returns the final answer as it stands in `text`, without its surroundings, or None where none is given.

    The last complete \boxed{...} wins over all else; boxes joined by a comma, "and" or "or" are one answer of several
    parts. Otherwise the last marked answer counts: a line "#### x" or "A: x", or "(the) (final) answer is x" and
    "Answer: x", up to the end of its sentence; after "Answer:" at the end of a line, the next line.
    """
    box = _boxed(text)
    if box is not None:
        return box
    for mark in reversed(list(_MARK.finditer(text))):
        answer = _after(text, mark)
        if answer:
            return answer
    return None


def _boxed(text: str) -> str | None:
    starts = [start for start in (text.find("\\boxed"), text.find("\\fbox")) if start >= 0]
    if not starts:
        return None
    begin = min(starts)  # what opens before the first box ends no box
    while begin and text[begin - 1] == "\\":  # a backslash before it may escape its own
        begin -= 1
    opened: list[tuple[bool, int, int]] = []  # whether a box, start of the command, start of the content
    boxes: list[tuple[int, int, int]] = []  # start of the command, start and end of the content
    for match in _BRACES.finditer(text, begin):
        token = match.group()
        if token == "}":
            if opened:
                is_box, command, start = opened.pop()
                if is_box:
                    while boxes and boxes[-1][0] > command:  # the boxes inside this one
                        boxes.pop()
                    boxes.append((command, start, match.start()))
        elif token.endswith("{") and token != "\\{":
            opened.append((len(token) > 1, match.start(), match.end()))
    boxes = [box for box in boxes if text[box[1]:box[2]].strip()]
    if not boxes:
        bare = _BARE_BOX.findall(text)
        return bare[-1] if bare else None
    last = len(boxes) - 1
    first = last
    while first and _joined(text, boxes[first - 1], boxes[first]):
        first -= 1
    parts = list(dict.fromkeys(_unboxed(text[start:end]) for _, start, end in boxes[first:]))
    return ", ".join(parts)


def _joined(text: str, one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    between = text[one[2] + 1:min(other[0], one[2] + 2 + _LONGEST_JOINT)]
    return _JOINT.fullmatch(between) is not None


def _unboxed(content: str) -> str:
    r"""Takes away boxes that wrap the whole content, as in \boxed{\boxed{5}}."""
    content = content.strip()
    for _ in range(_WRAPS):
        match = re.match(r"\\(?:boxed|fbox)\s*\{", content)
        if not match or not content.endswith("}"):
            break
        content = content[match.end():-1].strip()
    return content


def _after(text: str, mark: re.Match) -> str:
    """What a mark announces: the rest of its line, or of its sentence if it is a sentence."""
    end = text.find("\n", mark.end())
    line = text[mark.end():] if end < 0 else text[mark.end():end]
    if mark["hashes"] or mark["letter"]:
        return _trimmed(line)
    if end >= 0 and not line.strip(" \t*_:$"):  # "Answer:" alone; the answer is on the next line
        line = text[end:end + _LONGEST_LINE].lstrip("\n").partition("\n")[0]
    line = _I_HOPE.sub("", line)
    stop = _SENTENCE_END.search(line)
    return _trimmed(line[:stop.start()] if stop else line)


def _trimmed(answer: str) -> str:
    """Without the blanks, emphasis, full stop and single pair of dollars around it."""
    answer = answer.strip(" \t\r\n*_:")
    if answer.endswith((".", ",", ";")) and not answer.lower().endswith("m."):  # "4:30 p.m." keeps its own
        answer = answer[:-1].rstrip(" *_")
    if len(answer) > 1 and answer[0] == answer[-1] == "$" and answer.count("$") == 2:
        answer = answer[1:-1]
    return answer.strip()
