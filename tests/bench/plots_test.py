"""Pictures that are files: names stand apart, markup in them is text."""

import numpy as np
import pytest

from libra_jax.bench import best_of, plots


def test_names_at_the_ends_of_lines_stand_apart():
    assert plots._apart([0.5, 0.5, 0.9, 0.48], 0.05) == pytest.approx([0.53, 0.58, 0.9, 0.48])
    assert plots._apart([0.1, 0.9], 0.05) == [0.1, 0.9]


@pytest.mark.parametrize("sizes", [[1], [1, 2, 4]])
def test_a_picture_of_best_of_n_names_its_lines(sizes):
    problem = best_of.Responses(problem="p", source="s", right=np.array([True, False, False, True]),
                                answers=[0, 1, 1, 0], scores={"<b>": np.arange(4.0)})
    lines = best_of.lines([problem] * 2, sizes)
    drawn = plots.svg(plots.best_of(sizes, lines))
    assert drawn.startswith(b"<?xml") and b"<b>" not in drawn
    assert drawn == plots.svg(plots.best_of(sizes, lines))  # the same bytes
    for name in (b"majority answer", b"verifier", b"&lt;b&gt;"):
        assert name in drawn
