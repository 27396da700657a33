r"""TeX in text of models as MathML, which a browser shows without a script; what is not understood stays text.

Understood is what responses to mathematics use: fractions, roots, scripts, delimiters, accents, matrices, cases and
aligned lines, and the symbols of mathml_symbols.py. Nothing of the text becomes markup: every letter is escaped, and
elements and attributes come from this file alone. Work is bounded: a formula has at most LONGEST characters and DEEPEST
groups within each other, and is read once from left to right.
"""

from __future__ import annotations

import html
import re

from libra_jax.bench import mathml_symbols as symbols

LONGEST = 4000
DEEPEST = 30

_SPACE = "\u00a0"  # MathML trims others at the ends of its text
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+|\s+|.", re.DOTALL)


class Unsupported(ValueError):
    """TeX that this room does not understand."""


def convert(tex: str, *, display: bool = False) -> str | None:
    """One formula without its delimiters as a <math> element; None if it is not understood or beyond the bounds."""
    if not tex.strip() or len(tex) > LONGEST:
        return None
    try:
        inner = _Reader(tex).whole()
    except Unsupported:
        return None
    block = ' display="block"' if display else ""
    source = html.escape(tex.strip())
    return (f'<math{block}><semantics><mrow>{inner}</mrow><annotation encoding="application/x-tex">{source}'
            "</annotation></semantics></math>")


class _Reader:
    """Reads tokens from left to right; every method returns MathML or raises Unsupported."""

    def __init__(self, tex: str):
        self._tex = tex
        self._at = 0
        self._token: str | None = None  # the one at `_at`, once it was looked for
        self._depth = 0

    def whole(self) -> str:
        made = self._row(())
        if self._peek():
            raise Unsupported(self._peek())
        return made

    def _peek(self, *, skip: bool = True) -> str:
        """The token that comes next, "" at the end; spaces before it are passed over."""
        while True:
            if self._token is None:
                match = _TOKEN.match(self._tex, self._at)
                self._token = match[0] if match else ""
            if not (skip and self._token.isspace()):
                return self._token
            self._advance()

    def _advance(self) -> None:
        self._at += len(self._token or "")
        self._token = None

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise Unsupported("the formula ends too early")
        self._advance()
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise Unsupported(f"expected {token}")

    def _row(self, stops: tuple[str, ...]) -> str:
        """Everything up to one of `stops`, which stays, or to the end."""
        made = []
        while (token := self._peek()) and token not in stops and token not in ("}", "&", r"\\", r"\end", r"\right"):
            made.append(self._scripted())
        return "".join(made)

    def _scripted(self) -> str:
        """An atom with its primes, subscript and superscript."""
        limits = self._peek() in symbols.LIMITS
        base = "<mrow></mrow>" if self._peek() in ("^", "_") else self._atom()
        below = above = ""
        while (token := self._peek()) in ("^", "_", "'", r"\limits", r"\nolimits"):
            self._advance()
            if token == "'":
                above += "<mo>′</mo>"
            elif token == "_" and not below:
                below = self._argument()
            elif token == "^" and (not above or above.startswith("<mo>′")):
                above += self._argument()
            elif token in ("^", "_"):
                raise Unsupported("two scripts of one kind")
        above = f"<mrow>{above}</mrow>" if above else ""
        if below and above:
            name = "munderover" if limits else "msubsup"
            return f"<{name}>{base}{below}{above}</{name}>"
        if below or above:
            name = ("munder" if below else "mover") if limits else ("msub" if below else "msup")
            return f"<{name}>{base}{below}{above}</{name}>"
        return base

    def _argument(self) -> str:
        """A group, or one token: of a number its first digit."""
        token = self._peek()
        if token[:1].isdigit() and len(token) > 1:
            self._token = token[0]
            self._advance()
            return f"<mn>{token[0]}</mn>"
        return self._atom()

    def _group(self) -> str:
        self._expect("{")
        inner = self._row(())
        self._expect("}")
        return f"<mrow>{inner}</mrow>"

    def _words(self) -> str:
        """The characters of a group of plain words, as in \text{...}."""
        self._expect("{")
        words = []
        while (token := self._peek(skip=False)) != "}":
            if not token or token in ("{", "$") or (token.startswith("\\") and token[1:] not in symbols.ESCAPED):
                raise Unsupported("mathematics within text")
            words.append(symbols.ESCAPED[token[1:]] if token.startswith("\\") else token)
            self._advance()
        self._advance()
        text = "".join(words)
        inner = text.strip()
        start = len(text) - len(text.lstrip())
        return html.escape(f"{_SPACE * start}{inner}{_SPACE * (len(text) - start - len(inner))}")

    def _atom(self) -> str:
        """What one token, or the group or command that it opens, shows."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unsupported("too deep")
        made = self._shallow()
        self._depth -= 1
        return made

    def _shallow(self) -> str:
        token = self._peek()
        if token == "{":
            return self._group()
        self._next()
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return f"<mn>{html.escape(token)}</mn>"
        if token.startswith("\\"):
            return self._command(token[1:])
        if token.isalpha():
            return f"<mi>{html.escape(token)}</mi>"
        if token in "#^_&}$":
            raise Unsupported(token)
        how = ' stretchy="false"' if token in "()[]/|" else ""
        how += ' lspace="0" rspace="0"' if token in ".|!" else ""
        return f"<mo{how}>{html.escape('−' if token == '-' else ' ' if token == '~' else token)}</mo>"

    def _command(self, name: str) -> str:
        if name in symbols.LETTERS:
            return f"<mi>{html.escape(symbols.LETTERS[name])}</mi>"
        if name in symbols.OPERATORS:
            return f"<mo>{html.escape(symbols.OPERATORS[name])}</mo>"
        if name in symbols.BIG:
            return f'<mo movablelimits="true">{symbols.BIG[name]}</mo>'
        if name in symbols.FUNCTIONS:
            limits = ' movablelimits="true"' if "\\" + name in symbols.LIMITS else ""
            return f'<mo{limits} lspace="0" rspace="0.17em">{symbols.FUNCTIONS[name]}</mo>'
        if name in symbols.SPACES:
            return f'<mspace width="{symbols.SPACES[name]}"></mspace>'
        if name in symbols.IGNORED:
            return ""
        if name in symbols.LINES:
            return f'<mrow class="{symbols.LINES[name]}">{self._argument()}</mrow>'
        if name in symbols.ACCENTS:
            place = "munder" if name.startswith("under") else "mover"
            wide = str(name.startswith(("over", "under", "wide"))).lower()
            mark = f'<mo stretchy="{wide}">{symbols.ACCENTS[name]}</mo>'
            return f'<{place} accent="true">{self._argument()}{mark}</{place}>'
        made = getattr(self, f"_{_READERS[name]}", None) if name in _READERS else None
        if made is None:
            raise Unsupported(name)
        return made(name)

    def _fraction(self, name: str) -> str:
        style = {"d": ' displaystyle="true"', "t": ' displaystyle="false"'}.get(name[0], "")
        above, below = self._argument(), self._argument()
        if name.endswith("binom"):
            return (f'<mrow><mo>(</mo><mfrac linethickness="0"{style}>{above}{below}</mfrac><mo>)</mo></mrow>')
        return f"<mfrac{style}>{above}{below}</mfrac>"

    def _root(self, _: str) -> str:
        if self._peek() != "[":
            return f"<msqrt>{self._argument()}</msqrt>"
        self._advance()
        degree = self._row(("]",))
        self._expect("]")
        return f"<mroot>{self._argument()}<mrow>{degree}</mrow></mroot>"

    def _text(self, name: str) -> str:
        if name in ("mathrm", "operatorname"):
            return f'<mi mathvariant="normal">{self._words()}</mi>'
        bold = ' style="font-weight:bold"' if name in ("textbf", "mathbf", "boldsymbol", "bm") else ""
        return f"<mtext{bold}>{self._words()}</mtext>"

    def _bold(self, _: str) -> str:
        return f'<mrow style="font-weight:bold">{self._argument()}</mrow>'

    def _plain(self, _: str) -> str:
        return self._argument()

    def _blackboard(self, _: str) -> str:
        letters = self._words()
        if not letters or any(letter not in symbols.BLACKBOARD for letter in letters):
            raise Unsupported(letters)
        return f"<mi>{''.join(symbols.BLACKBOARD[letter] for letter in letters)}</mi>"

    def _phantom(self, _: str) -> str:
        return f"<mphantom>{self._argument()}</mphantom>"

    def _boxed(self, _: str) -> str:
        return f'<mrow class="boxed">{self._argument()}</mrow>'

    def _stacked(self, name: str) -> str:
        extra, base = self._argument(), self._argument()
        place = "munder" if name == "underset" else "mover"
        return f"<{place}>{base}{extra}</{place}>"

    def _modulo(self, name: str) -> str:
        if name == "bmod":
            return '<mo lspace="0.3em" rspace="0.3em">mod</mo>'
        opened, closed = ("<mo>(</mo>", "<mo>)</mo>") if name == "pmod" else ("", "")
        space = '<mspace width="0.3em"></mspace>'
        return f"{space}{space}<mrow>{opened}<mi>mod</mi>{space}{self._argument()}{closed}</mrow>"

    def _negated(self, _: str) -> str:
        token = self._next()
        if token not in symbols.NEGATED:
            raise Unsupported(token)
        return f"<mo>{symbols.NEGATED[token]}</mo>"

    def _delimiter(self, *, stretchy: bool) -> str:
        token = self._next()
        shown = symbols.DELIMITERS.get(token)
        if shown is None:
            raise Unsupported(token)
        return f'<mo stretchy="{str(stretchy).lower()}">{html.escape(shown)}</mo>' if shown else ""

    def _sized(self, _: str) -> str:
        return self._delimiter(stretchy=False)

    def _left(self, _: str) -> str:
        made = [self._delimiter(stretchy=True)]
        while True:
            made.append(self._row((r"\middle",)))
            token = self._next()
            if token not in (r"\middle", r"\right"):
                raise Unsupported(token)
            made.append(self._delimiter(stretchy=True))
            if token == r"\right":
                return f"<mrow>{''.join(made)}</mrow>"

    def _environment(self, _: str) -> str:
        name = self._words()
        if name not in symbols.ENVIRONMENTS:
            raise Unsupported(name)
        if name == "array":
            self._words()  # the columns' alignment
        rows = self._table()
        if self._words() != name:
            raise Unsupported("another environment ends")
        opened, closed, kind = symbols.ENVIRONMENTS[name]
        table = f'<mtable class="{kind}">{rows}</mtable>'
        return f"<mrow><mo>{opened}</mo>{table}<mo>{closed}</mo></mrow>" if opened or closed else table

    def _table(self) -> str:
        """Rows up to and with the end command."""
        rows, cells = [], []
        while True:
            cells.append(f"<mtd>{self._row(())}</mtd>")
            token = self._next()
            if token == "&":
                continue
            rows.append(f"<mtr>{''.join(cells)}</mtr>")
            cells = []
            if token == r"\end":
                return "".join(rows[:-1] if rows[-1] == "<mtr><mtd></mtd></mtr>" and len(rows) > 1 else rows)
            if token != r"\\":
                raise Unsupported(token)


_READERS = {
    **dict.fromkeys(("frac", "dfrac", "tfrac", "cfrac", "binom", "dbinom", "tbinom"), "fraction"),
    "sqrt": "root",
    **dict.fromkeys(("text", "textbf", "textit", "textrm", "textnormal", "textsf", "emph", "mbox"), "text"),
    **dict.fromkeys(("mathrm", "operatorname"), "text"),
    **dict.fromkeys(("mathbf", "boldsymbol", "bm"), "bold"),
    **dict.fromkeys(("mathit", "mathsf", "mathcal", "mathscr", "mathfrak", "mathop"), "plain"),
    "mathbb": "blackboard",
    **dict.fromkeys(("phantom", "hphantom"), "phantom"),
    **dict.fromkeys(("boxed", "fbox"), "boxed"),
    **dict.fromkeys(("overset", "underset", "stackrel"), "stacked"),
    **dict.fromkeys(("pmod", "bmod", "mod"), "modulo"),
    "not": "negated",
    **dict.fromkeys((size + side for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r", "m")), "sized"),
    "left": "left",
    "begin": "environment",
}
