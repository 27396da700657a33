"""Charts: dots where the numbers are, names escaped."""

import re

from libra_jax.bench import charts
from libra_jax.bench.calibration import Bin
from libra_jax.bench.significance import Estimate
from libra_jax.bench.slices import Slice, Sliced

HALF = Estimate(value=0.5, low=0.25, high=0.75)


def test_a_track_puts_dot_and_interval_in_their_places():
    drawn = charts.track([(0, HALF), (9, Estimate(value=None))])
    assert '<i class="c0" style="left:25.00%;width:50.00%"></i><b class="c0" style="left:50.00%"></b>' in drawn
    assert drawn.count("dot-row") == 2 and 'aria-label="0.500 [0.250, 0.750]; -"' in drawn
    assert 'class="c1"' in charts.track([(9, Estimate(value=2.0))]) and "left:100.00%" in charts.track([(9, Estimate(
        value=2.0))])


def test_the_best_judge_is_on_top_and_keeps_its_colour():
    drawn = charts.leaderboard(["low", "<b>"], [Estimate(value=0.2), HALF])
    assert re.findall(r'class="name">(.*?)<', drawn) == ["&lt;b&gt;", "low"]
    assert re.findall(r'<b class="(c\d)"', drawn) == ["c1", "c0"]


def test_differences_lie_around_nought():
    drawn = charts.differences(["up", "even", "down"], [
        Estimate(value=0.2, low=0.1, high=0.4), Estimate(value=0.0, low=-0.1, high=0.1),
        Estimate(value=-0.2, low=-0.3, high=-0.1)])
    assert re.findall(r'<b class="(\w+)" style="left:([\d.]+)%', drawn) == [
        ("higher", "73.81"), ("even", "50.00"), ("lower", "26.19")]  # 0.2 of 0.4 * 1.05 on either side
    assert "<span>-0.42</span><span>0</span><span>+0.42</span>" in drawn


def test_each_slice_has_a_dot_of_each_judge():
    measured = [Sliced(kind="k", gap=None, slices=(Slice(name="<i>", num_examples=1200, accuracy=HALF),))] * 3
    drawn = charts.sliced(["a", "b", "c"], measured)
    assert re.findall(r'<b class="(c\d)"', drawn) == ["c0", "c1", "c2"] and "1,200" in drawn and "&lt;i&gt;" in drawn


def test_a_reliability_plot_has_a_dot_for_each_bin():
    drawn = charts.reliability("<j>", 1, [Bin(num_examples=4, score=0.25, correct=HALF),
                                          Bin(num_examples=16, score=1.0, correct=Estimate(value=1.0))])
    assert re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', drawn) == [
        ("50.0", "100.0", "4.0"), ("200.0", "0.0", "6.0")]
    assert drawn.count("whisker") == 1 and "&lt;j&gt;" in drawn and "<j>" not in drawn
