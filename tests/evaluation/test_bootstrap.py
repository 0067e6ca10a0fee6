"""Bootstrap intervals against formulas and against a loop."""

import math

import numpy as np
import pytest

from idsr_cli.evaluation.bootstrap import Bootstrap, Interval


def names(count: int) -> list[str]:
    return [f"photograph {i}" for i in range(count)]


def test_interval_of_many_pairs_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = Bootstrap(names(400)).interval(values)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_equal_differences_have_no_width_and_a_seed_decides() -> None:
    assert Bootstrap(names(7)).interval([2.5] * 7) == Interval(2.5, 2.5, 2.5)
    values = [1.0, 5.0, -2.0, 0.0, 9.0]
    assert Bootstrap(names(5)).interval(values) == Bootstrap(names(5)).interval(values)
    assert Bootstrap(names(5)).interval(values) != Bootstrap(names(5), seed=1).interval(values)


def test_pairs_of_one_photograph_are_drawn_together() -> None:
    """Fourteen rainy versions of a photograph add little information: the interval is as wide as with one."""
    values = np.random.default_rng(2).normal(0, 1, 30)
    alone = Bootstrap(names(30)).interval(values)
    copied = Bootstrap([name for name in names(30) for _ in range(14)]).interval(np.repeat(values, 14))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    pretending = Bootstrap(names(420)).interval(np.repeat(values, 14))
    assert pretending.high - pretending.low < 0.4 * (alone.high - alone.low)


def test_groups_of_unequal_size_against_a_loop() -> None:
    groups, values = ["a", "b", "a", "c", "b", "b"], np.array([1.0, 4.0, 3.0, 10.0, 5.0, 6.0])
    bootstrap = Bootstrap(groups, draws=500, seed=3)
    weights = np.random.default_rng(3).multinomial(3, [1 / 3] * 3, size=500)
    means = []
    for a, b, c in weights:
        drawn = [1.0, 3.0] * a + [4.0, 5.0, 6.0] * b + [10.0] * c
        means.append(sum(drawn) / len(drawn))
    found = bootstrap.interval(values)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_what_is_not_finite_is_left_out() -> None:
    found = Bootstrap(names(4)).interval([math.inf, 2.0, math.nan, 4.0])
    assert found.mean == 3.0
    assert (found.low, found.high) == (2.0, 4.0)
    nothing = Bootstrap(names(2)).interval([math.inf, math.nan])
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.low)
