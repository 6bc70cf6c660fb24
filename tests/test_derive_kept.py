"""Which steps become traces."""

import itertools

import numpy as np
import pytest

from otel_train.derive.kept import Keeping
from otel_train.runlog.layout import CHILD_SPANS, EVALUATION, FAILED
from otel_train.runlog.records import STEP

SECOND = 1_000_000_000
MS = 1_000_000


def steps(durations, first=0, flags=0):
    """Steps one after the other from number 0 on; those before ``first`` are left out."""
    records = np.zeros(len(durations), STEP)
    records["duration_ns"] = durations
    records["start_ns"] = np.cumsum(durations) - durations
    records["step"] = np.arange(len(durations))
    records["flags"] = flags
    return records[first:]


def kept(records, **settings):
    decision = Keeping(**settings).decide(0, records)
    return dict(zip(decision.kept, decision.reasons, strict=True))


def test_one_in_n():
    """A number given keeps the steps whose number it divides, whatever they took."""
    assert {0: "sampled", 7: "sampled", 14: "sampled"} == kept(steps([5 * MS] * 20), keep_every=7)


@pytest.mark.parametrize(("step_ns", "every"), [(MS, 8192), (SECOND, 8), (5 * SECOND, 1), (60 * SECOND, 1)])
def test_auto_is_the_power_of_two_that_takes_five_seconds(step_ns, every):
    """Automatic keeping takes the smallest power of two that lasts 5 s, so that ranks share steps."""
    count = 4 * every + 40
    assert list(range(0, count, every)) == list(kept(steps([step_ns] * count)))


def test_ranks_that_disagree_share_the_coarser_steps():
    """Two ranks with other medians keep one in 8 and one in 16: every kept step of the one is kept by the other."""
    quick, slow = kept(steps([400 * MS] * 200)), kept(steps([800 * MS] * 200))
    assert set(quick) < set(slow)


def test_a_slow_step_is_kept():
    """A step of twice the recent median and more is kept; of less it is not."""
    durations = np.full(200, 10 * MS)
    durations[[100, 150]] = [21 * MS, 19 * MS]
    assert {100: "slow"} == {index: why for index, why in kept(steps(durations)).items() if why == "slow"}


def test_nothing_is_slow_before_there_is_a_median():
    """The first block of steps has nothing to compare with: compilation and warm-up are not slow steps."""
    assert {0: "sampled"} == kept(steps([9000 * MS, *[MS] * 15]))


def test_failed_steps_and_those_with_spans_of_the_application_are_kept():
    """Each of them is, with the reason; failure is the stronger one."""
    flags = np.zeros(50, np.uint16)
    flags[[3, 4, 5]] = [FAILED, CHILD_SPANS, FAILED | CHILD_SPANS]
    assert {3: "failed", 4: "child_spans", 5: "failed"} == {
        index: why for index, why in kept(steps([MS] * 50, flags=flags)).items() if index
    }


def test_slow_steps_are_limited_to_ten_a_minute():
    """Of many slow steps, one in six seconds of the run's time is kept, and the others are counted."""
    durations = np.where(np.arange(4000) % 4 == 3, 300 * MS, 100 * MS)
    decision = Keeping(keep_every=10**9).decide(0, steps(durations))
    minutes = durations.sum() / (60 * SECOND)
    assert 9 * minutes < len(decision.kept) <= 10 * minutes + 2
    assert 1000 - 4 - (len(decision.kept) - 1) == len(decision.suppressed)


def test_evaluation_steps_are_neither_slow_nor_the_measure():
    """Steps of an evaluation have other times: they do not move the median and are never slow themselves."""
    flags = np.zeros(400, np.uint16)
    flags[200:240] = EVALUATION
    durations = np.where(flags > 0, 500 * MS, 100 * MS)
    assert "slow" not in kept(steps(durations, flags=flags)).values()


def test_any_cut_decides_the_same():
    """Chunks cut anywhere, each with a fresh ``Keeping`` that recalls what came before, decide as one pass."""
    generator = np.random.default_rng(7)
    durations = (generator.lognormal(0, 0.6, 1000) * 100 * MS).astype(np.int64)
    records = steps(durations, flags=(generator.random(1000) < 0.02).astype(np.uint16) * FAILED)
    whole = kept(records)
    assert {"slow", "failed", "sampled"} == set(whole.values())
    for _ in range(20):
        cuts = [0, *sorted(generator.integers(1, 1000, 4).tolist()), 1000]
        found, slot = {}, -1
        for start, end in itertools.pairwise(cuts):
            keeping = Keeping(last_slot=slot)
            keeping.recall(records[:start])
            decision = keeping.decide(start, records[start:end])
            found |= {start + index: why for index, why in zip(decision.kept, decision.reasons, strict=True)}
            slot = keeping.last_slot
        assert whole == found
