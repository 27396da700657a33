"""Tables and numbers as text."""

import pytest

from libra_jax.bench import tables
from libra_jax.bench.significance import Estimate


def test_the_text_table_is_aligned():
    table = tables.Table(title="T", header=("judge", "accuracy"), rows=(("a", 0.5), ("longer", None)))
    assert tables.to_text(table).splitlines() == ["T", "judge   accuracy", "a       0.500", "longer  -"]


@pytest.mark.parametrize("estimate, text", [
    (Estimate(value=0.5, low=0.25, high=0.75), "0.500 [0.250, 0.750]"), (Estimate(value=0.5), "0.500"),
    (Estimate(value=None), "-")])
def test_an_estimate_in_words(estimate, text):
    assert tables.show(estimate) == text


@pytest.mark.parametrize("value, text", [(0.03412, "0.034"), (2.1e-9, "2.1e-09"), (1.0, "1"), (None, "-")])
def test_a_p_value_in_words(value, text):
    assert tables.show_p(value) == text
