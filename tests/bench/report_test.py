"""The report: one offline page whose text is inert, and the same numbers as JSON."""

import base64
import dataclasses
import json
import math
import pathlib
import re

import pytest

from libra_jax.bench import browser, report, score, slices
from libra_jax.bench.significance import Bootstrap
from libra_jax.records import Judgement, JudgingExample

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>{body}{title}$x^2$"


def examples(count=8, text="r"):
    return [JudgingExample(id=f"{n}", problem_id=f"{n // 2}", question=text, response=text, correct=n % 2 == 0,
                           policy=text, source=f"s{n % 3}") for n in range(count)]


def judge(name, verdicts, text="t"):
    return [Judgement(example_id=f"{n}", judge=name, sample=0, thought=text, verdict=verdict, num_tokens=5)
            for n, verdict in enumerate(verdicts)]


GOOD = ["correct", "incorrect"] * 4
FEW = Bootstrap(num_resamples=50)


def test_the_page_loads_nothing_and_its_plots_are_inline(tmp_path):
    report.write(tmp_path, title=EVIL, examples=examples(text=EVIL), judgements_by_judge={EVIL: judge("j", GOOD, EVIL)},
                 curves={f"{EVIL}/{EVIL}": [(0, 1.0), (1, 2.0)]}, tables=[(EVIL, (EVIL,), [(EVIL,)])], bootstrap=FEW)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://", page)
    (image,) = re.findall(r'src="(.*?)"', page)  # the others are text, whose quotes are escaped
    drawn = base64.b64decode(image.removeprefix("data:image/svg+xml;base64,")).decode()
    assert "<svg" in drawn and "<script" not in drawn
    assert page.count("<h1>") == 1 and page.count("<script>") == 1


def test_the_page_shows_judges_groups_examples_and_curves(tmp_path):
    half = ["correct", "unparsed"] * 4
    numbers = report.write(tmp_path / "deep" / "page.html", title="T", examples=examples(),
                           judgements_by_judge={"base": judge("base", half, "hm"), "sft": judge("sft", GOOD, "aha")},
                           curves={"sft/loss": [(1, 2.0), (2, float("nan"))]},
                           tables=[("Policy", ("when", "accuracy"), [("before", 0.25), ("after", None)])],
                           bootstrap=FEW)
    page = (tmp_path / "deep" / "page.html").read_text()
    for text in ("base", "sft", "s2", "hm", "aha", "Policy", "0.250", "unparsed", "0.500 [", "Training: sft",
                 "Differences, paired", "higher"):
        assert text in page, text
    assert page.count('<details class="example"') == 8 and "Few problems: s0 has 3, s1 has 3, s2 has 2." in page
    assert json.loads((tmp_path / "deep" / "page.json").read_text()) == numbers
    by_name = {each["judge"]: each for each in numbers["judges"]}
    assert by_name["base"]["metrics"]["accuracy"]["value"] == 0.5 and by_name["sft"]["metrics"]["accuracy"]["high"] == 1
    (pair,) = numbers["differences"]
    assert (pair["first"], pair["value"], pair["only_second"], pair["p_mcnemar"]) == ("base", 0.5, 4, 0.125)
    assert [each["kind"] for each in by_name["sft"]["slices"]] == ["source"]
    assert numbers["curves"]["sft/loss"] == [[1, 2.0], [2, None]]


def test_equal_input_gives_equal_bytes(tmp_path):
    for folder in ("a", "b"):
        report.write(tmp_path / folder, title="T", examples=examples(), judgements_by_judge={"j": judge("j", GOOD)},
                     curves={"loss": [(0, 1.0)]}, bootstrap=FEW)
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()


def test_no_judge_leaves_the_tables(tmp_path):
    numbers = report.write(tmp_path, title="T", examples=[], judgements_by_judge={}, tables=[("A", ("b",), [(1,)])])
    assert numbers["judges"] == [] and '<h2 id="a-0">A</h2>' in (tmp_path / "report.html").read_text()


def test_what_cannot_be_scored_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="no judgement"):
        report.write(tmp_path, title="T", examples=examples(), judgements_by_judge={"j": judge("j", GOOD[:3])})
    assert list(tmp_path.iterdir()) == []


def test_long_text_is_cut_and_says_so(tmp_path):
    report.write(tmp_path, title="T", examples=examples(), bootstrap=FEW,
                 judgements_by_judge={"j": judge("j", GOOD, "x" * (browser.LONGEST + 1500))})
    page = (tmp_path / "report.html").read_text()
    assert "[... 1,500 more characters]" in page and "x" * (browser.LONGEST + 1) not in page


def test_thousands_of_examples_are_capped_and_measured_whole(tmp_path):
    some = [JudgingExample(id=f"{n}", problem_id=f"{n // 2}", question="q" * 300, response="r" * 3000,
                           correct=n % 2 == 0, policy="p", source="s") for n in range(3000)]
    judged = {"j": judge("j", ["correct", "incorrect"] * 1500, "t" * 3000)}
    numbers = report.write(tmp_path, title="T", examples=some, judgements_by_judge=judged, bootstrap=FEW)
    page = (tmp_path / "report.html").read_text()
    assert "Few problems" not in page
    assert numbers["num_examples"] == 3000 and page.count('<details class="example"') == report.SHOWN
    assert "200 of 3,000 examples, chosen by the hashes" in page and len(page) < 2_000_000
    report.write(tmp_path, title="T", examples=some, judgements_by_judge=judged, bootstrap=FEW, shown=0)
    page = (tmp_path / "report.html").read_text()
    assert ">Examples</h2>" not in page and '<details class="example"' not in page
    with pytest.raises(ValueError, match="shown=-1"):
        report.write(tmp_path, title="T", examples=some, judgements_by_judge=judged, shown=-1)


def test_too_few_resamples_for_so_many_pairs_are_said(tmp_path):
    judged = {f"j{n}": judge(f"j{n}", GOOD) for n in range(4)}
    page = tmp_path / "report.html"
    report.write(page, title="T", examples=examples(), judgements_by_judge=judged, bootstrap=Bootstrap(
        num_resamples=239))
    assert "With 239 resamples no pair of 6 can be: give 240 or more." in page.read_text()
    report.write(page, title="T", examples=examples(), judgements_by_judge=judged, bootstrap=Bootstrap(
        num_resamples=240))
    assert "give 240 or more" not in page.read_text()


def test_slices_are_shown_and_their_gap_is_in_the_numbers(tmp_path):
    some = [dataclasses.replace(each, policy=("Qwen3-8B", "QwQ")[n % 4 // 2]) for n, each in enumerate(examples())]
    numbers = report.write(
        tmp_path, title="T", examples=some, judgements_by_judge={"j": judge("j", GOOD[:4] + ["unparsed"] * 4)},
        slicings=slices.divide(some, slices.SliceConfig(trained_on=("qwen3*",))), bootstrap=FEW)
    (family,) = [each for each in numbers["judges"][0]["slices"] if each["kind"] == "policy family"]
    assert [each["num_examples"] for each in family["slices"]] == [4, 4] and family["gap"]["value"] == 0
    page = (tmp_path / "report.html").read_text()
    assert "By policy family" in page and "in training − outside" in page


def test_report_json_is_what_the_schema_says(tmp_path):
    votes = [dataclasses.replace(each, sample=sample, score=0.5 if sample else None) for sample in range(3)
             for each in judge("votes", ["correct", "incorrect", "unparsed", "correct"] * 2)]
    report.write(tmp_path, title="T", examples=examples(), bootstrap=FEW,
                 judgements_by_judge={"j": judge("j", GOOD), "votes": votes, "same": judge("same", GOOD)},
                 curves={"sft/loss": [(1, 2.0), (2, float("nan"))]},
                 tables=[("A", ("b", "c"), [(1, None), ("x", 0.5)])])
    numbers = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads(pathlib.Path(report.__file__).with_name("report.schema.json").read_text())
    assert faults(numbers, schema, schema) == []
    assert schema["properties"]["version"]["const"] == report.VERSION
    assert list(schema["$defs"]["judge"]["properties"]["metrics"]["properties"]) == list(score.METRICS)
    for broken, why in (
        (numbers | {"version": 2}, ".version"), (numbers | {"more": 1}, ": 'more'"),
        (numbers | {"num_examples": -1}, ".num_examples"), ({"version": 1}, ": 'title'"),
        (numbers | {"curves": {"x": [[1]]}}, ".curves.x[0]"),
        (numbers | {"differences": [numbers["differences"][0] | {"p": "small"}]}, ".differences[0].p"),
    ):
        assert any(why in fault for fault in faults(broken, schema, schema)), why


TYPES = {"object": dict, "array": list, "string": str, "number": int | float, "integer": int, "null": type(None),
         "boolean": bool}
KNOWN = {"$schema", "$defs", "title", "description", "type", "properties", "required", "additionalProperties", "items",
         "prefixItems", "minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "const",
         "allOf", "anyOf", "$ref"}


def faults(value, schema, root, where=""):
    """Where `value` is not what the JSON Schema says: the part of the standard that report.schema.json uses."""
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
    found = [fault for part in schema.get("allOf", ()) for fault in faults(value, part, root, where)]
    if "anyOf" in schema and all(faults(value, part, root, where) for part in schema["anyOf"]):
        found.append(f"{where}: fits none")
    names = schema.get("type", [])
    types = tuple(TYPES[name] for name in ([names] if isinstance(names, str) else names))
    if types and (not isinstance(value, types) or (isinstance(value, bool) and "boolean" not in names)):
        return [*found, f"{where}: {value!r} is no {names}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: {value!r}")
    if isinstance(value, int | float):
        bounds = {"minimum": value.__ge__, "maximum": value.__le__, "exclusiveMinimum": value.__gt__,
                  "exclusiveMaximum": value.__lt__}
        found += [f"{where}: {value} against {name}" for name, holds in bounds.items()
                  if name in schema and holds(schema[name]) is False]
    if isinstance(value, dict):
        props, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{where}: {name!r} is missing" for name in schema.get("required", ()) if name not in value]
        found += [f"{where}: {name!r} is not known" for name in value if name not in props and rest is False]
        for name, inner in value.items():
            if name in props or isinstance(rest, dict):
                found += faults(inner, props.get(name, rest), root, f"{where}.{name}")
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            found.append(f"{where}: {len(value)} items")
        for place, inner in enumerate(value):
            part = first[place] if place < len(first) else schema.get("items", {})
            found += [f"{where}[{place}]"] if part is False else faults(inner, part, root, f"{where}[{place}]")
    return found
