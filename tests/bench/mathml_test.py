r"""TeX to MathML: what responses use, by hand; what is not understood is refused; bounds hold."""

import re
import time
import xml.etree.ElementTree as tree

import pytest

from libra_jax.bench import mathml, mathml_symbols


def inner(tex):
    """The MathML of a formula without what is around every one."""
    found = re.fullmatch(r"<math><semantics><mrow>(.*)</mrow><annotation .*</annotation></semantics></math>",
                         mathml.convert(tex), re.DOTALL)
    return found[1]


def drawn(tex):
    """The characters that a reader sees, without the source that lies beside them."""
    root = tree.fromstring(mathml.convert(tex))
    return "".join("".join(part.itertext()) for part in root[0] if part.tag == "mrow")


@pytest.mark.parametrize("tex, expected", [
    ("x+1", "<mi>x</mi><mo>+</mo><mn>1</mn>"),
    ("-2.5", "<mo>−</mo><mn>2.5</mn>"),
    ("1,000,000", "<mn>1,000,000</mn>"),
    ("x^2_1", "<msubsup><mi>x</mi><mn>1</mn><mrow><mn>2</mn></mrow></msubsup>"),
    ("x^12", "<msup><mi>x</mi><mrow><mn>1</mn></mrow></msup><mn>2</mn>"),
    (r"\frac12", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
    (r"\sqrt{x}", "<msqrt><mrow><mi>x</mi></mrow></msqrt>"),
    (r"\sqrt[3]{x}", "<mroot><mrow><mi>x</mi></mrow><mrow><mn>3</mn></mrow></mroot>"),
    (r"\alpha\le\pi", "<mi>α</mi><mo>≤</mo><mi>π</mi>"),
    (r"\Omega\sigma\omega", "<mi>Ω</mi><mi>σ</mi><mi>ω</mi>"),
    ("f''", "<msup><mi>f</mi><mrow><mo>′</mo><mo>′</mo></mrow></msup>"),
    (r"\text{if } 5\%", "<mtext>if\u00a0</mtext><mn>5</mn><mi>%</mi>"),
    (r"\operatorname{lcm}", '<mi mathvariant="normal">lcm</mi>'),
    (r"\boxed{4}", '<mrow class="boxed"><mrow><mn>4</mn></mrow></mrow>'),
    (r"\overline{AB}", '<mrow class="over"><mrow><mi>A</mi><mi>B</mi></mrow></mrow>'),
    (r"\left(\frac{1}{2}\right.",
     '<mrow><mo stretchy="true">(</mo><mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac></mrow>'),
    (r"\begin{cases}1&2\\3&4\\\end{cases}",
     '<mrow><mo>{</mo><mtable class="cases"><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd><mn>3</mn>'
     "</mtd><mtd><mn>4</mn></mtd></mtr></mtable><mo></mo></mrow>"),
    (r"\not=", "<mo>≠</mo>"),
    (r"\mathbb{R}", "<mi>ℝ</mi>"),
])
def test_by_hand(tex, expected):
    assert inner(tex) == expected


def test_limits_stand_below_what_takes_them():
    assert inner(r"\sum_{i}^{n}").startswith('<munderover><mo movablelimits="true">∑</mo>')
    assert inner(r"\lim_{x\to0}").startswith("<munder><mo movablelimits")
    assert inner(r"\int_0^1").startswith("<msubsup>") and inner(r"\sin^2").startswith("<msup>")


@pytest.mark.parametrize("tex", [
    r"\href{javascript:alert(1)}{x}", r"\unicode{x}", r"\frac{1}", r"\sqrt[3{x}", "{x", "x}", r"\left(x", r"x\right)",
    r"\begin{pmatrix}1&2",
    r"\begin{foo}1\end{foo}", r"\begin{matrix}1\end{pmatrix}", r"\text{a $x$}", "x^2^3", "#", "$",
    r"\mathbb{x1}", r"\not x", r"\left x y \right)", "", "   ", "\\", "&", "%" + "x" * 5000,
])
def test_what_is_not_understood_is_none(tex):
    assert mathml.convert(tex) is None


def test_every_letter_is_escaped_and_only_our_elements_come_out():
    evil = r"\text{<script>alert(1)</script>\& '} < > \alpha_{<img src=x onerror=1>} \operatorname{</math><b>}"
    root = tree.fromstring(mathml.convert(evil))
    assert {part.tag for part in root.iter()} <= {"math", "semantics", "annotation", "mrow", "mtext", "mo", "mi", "mn",
                                                  "msub"}
    assert {name for part in root.iter() for name in part.attrib} <= {"encoding", "stretchy", "mathvariant", "lspace",
                                                                      "rspace"}
    assert "<script>alert(1)</script>" in "".join(root.itertext())


def test_the_source_goes_along_for_search_and_copies():
    shown = mathml.convert(r"\frac{a}{b}<1 ")
    assert r'<annotation encoding="application/x-tex">\frac{a}{b}&lt;1</annotation>' in shown
    assert mathml.convert("x", display=True).startswith('<math display="block">')


@pytest.mark.parametrize("tex", [
    "{" * 2000 + "}" * 2000, "^" * 4000, r"\frac" * 800, "x_" * 2000, r"\left(" * 660, "'" * 4000, "9" * 4000,
    r"\begin{matrix}" * 280, r"\sqrt[" * 600, "&" * 4000, r"\text{" * 600, r"\not" * 1000,
    "{" * 20 + "x" * 3000 + "}" * 20,
])
def test_hostile_formulas_end_at_once(tex):
    start = time.process_time()
    assert len(tex) <= mathml.LONGEST
    shown = mathml.convert(tex)
    assert time.process_time() - start < 1 and (shown is None or len(shown) < 60 * len(tex))


def test_every_symbol_is_shown():
    for name in mathml_symbols.LETTERS | mathml_symbols.OPERATORS | mathml_symbols.BIG | mathml_symbols.FUNCTIONS:
        assert drawn("\\" + name).strip(), name
    for name in mathml_symbols.ACCENTS | mathml_symbols.LINES:
        assert "x" in drawn(f"\\{name}{{x}}"), name
    for name in mathml_symbols.SPACES.keys() | mathml_symbols.IGNORED:
        assert drawn(f"x\\{name} y") == "xy", name
    for name in mathml_symbols.ENVIRONMENTS:
        columns = "{cc}" if name == "array" else ""
        assert "12" in drawn(rf"\begin{{{name}}}{columns}1&2\end{{{name}}}"), name
    for mark in mathml_symbols.DELIMITERS:
        assert drawn(rf"\left{mark} x\right)").endswith("x)"), mark
    assert all(mathml.convert(rf"\not{mark}") for mark in mathml_symbols.NEGATED)


def test_every_reader_is_there():
    for command in ("frac", "sqrt", "text", "mathrm", "mathbf", "mathcal", "mathbb", "phantom", "boxed", "overset",
                    "pmod", "not", "Bigl", "left", "begin"):
        assert hasattr(mathml._Reader, "_" + mathml._READERS[command]), command
    assert all(hasattr(mathml._Reader, "_" + name) for name in mathml._READERS.values())
