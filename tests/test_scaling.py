"""Scaling: efficiency, where the lost time went, strong and weak told apart, and what is refused."""

import pytest
from scaling_runs import build_ranks

from otel_train.derive.scaling import scaling_efficiency

ALONE = {"data_wait": 1, "forward": 4, "backward": 8, "optimizer": 1}


def always(**phases):
    """A rank whose every step is the same, in ms by phase."""
    return lambda number: phases


def one_rank(directory, **identity):
    """14 ms a step of 32 samples."""
    return build_ranks(directory, "one", [always(**ALONE)], **identity)


def test_efficiency_is_the_rate_of_a_rank_over_that_of_the_baseline(tmp_path):
    """Two ranks with the same batch each whose step takes 17.5 ms instead of 14 are 80 % efficient."""
    one = one_rank(tmp_path)
    two = build_ranks(tmp_path, "two", [always(**ALONE | {"backward": 11.5})] * 2)
    assert 0.8 == pytest.approx(scaling_efficiency(one, two))
    assert 1.0 == pytest.approx(scaling_efficiency(one, one))


def test_efficiency_of_the_same_work_divided(tmp_path):
    """Half the samples a rank in half the time would be all of it; 10 ms instead of 7 is 70 %."""
    two = build_ranks(tmp_path, "two", [always(forward=4, backward=6)] * 2, samples=16)
    assert 0.7 == pytest.approx(scaling_efficiency(one_rank(tmp_path), two))


def test_efficiency_is_none_where_the_work_is_not_known(tmp_path):
    """No samples or tokens, or no step: not zero."""
    one, unknown = one_rank(tmp_path), build_ranks(tmp_path, "unknown", [always(**ALONE)] * 2, samples=None)
    assert scaling_efficiency(one, unknown) is None
    assert scaling_efficiency(one, build_ranks(tmp_path, "none", [always()], steps=0)) is None


def test_the_first_steps_do_not_count(tmp_path):
    """A run that spends a second on each of its first five steps is as efficient as one that does not."""
    slow_start = build_ranks(tmp_path, "two", [lambda number: ALONE | {"forward": 1000 if number < 5 else 4}] * 2)
    assert 1.0 == pytest.approx(scaling_efficiency(one_rank(tmp_path), slow_start))
