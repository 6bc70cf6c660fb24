"""Where intervals of a run begin and end, and sums that survive JSON."""

import json
import math

import numpy as np
import pytest

from otel_train.derive.aggregate import Aggregate, add_event, add_rates, add_scalars, unit_of
from otel_train.derive.intervals import LONGEST_NS, Interval, is_boundary
from otel_train.runlog.events import Event
from otel_train.runlog.records import SCALAR


def test_an_empty_interval_leaves_nothing():
    """Closing it moves its beginning and keeps its index."""
    interval = Interval(3, 100)
    assert [] == list(interval.close(200))
    assert (3, 200) == (interval.index, interval.start_ns)


def test_a_used_interval_is_told_once():
    """With its counts, which begin anew in the next."""
    interval = Interval(3, 100, used=True, steps=7, suppressed=2)
    (closed,) = interval.close(200)
    assert (3, 100, 200, 7, 2) == (closed.index, closed.start_ns, closed.end_ns, closed.steps, closed.suppressed)
    assert Interval(4, 200) == interval
    assert [] == list(interval.close(300))


def test_time_alone_ends_an_interval():
    """After ten minutes, at the tenth; the gap after it belongs to nobody, but for the last ten minutes."""
    interval = Interval(1, 0, used=True)
    assert [] == list(interval.pass_time(LONGEST_NS))
    (closed,) = interval.pass_time(5 * LONGEST_NS)
    assert (LONGEST_NS, 4 * LONGEST_NS) == (closed.end_ns, interval.start_ns)


def test_time_does_not_run_backwards():
    """An event that is read late ends the interval no earlier than it began."""
    interval = Interval(1, 500, used=True)
    (closed,) = interval.close(400)
    assert (500, 500) == (closed.start_ns, closed.end_ns)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Event("epoch", 0, 1), True),
        (Event("epoch", 0), False),
        (Event("checkpoint", 0, 1), True),
        (Event("checkpoint", 0, 1, attributes={"dl.checkpoint.kind": "load"}), False),
        (Event("evaluation", 0, 1), False),
    ],
)
def test_what_ends_an_interval(event, expected):
    """The end of an epoch, and a checkpoint saved."""
    assert expected == is_boundary(event)


def test_aggregates_survive_json():
    """Sums keep being whole numbers, histograms their buckets."""
    aggregate = Aggregate()
    aggregate.count(("a", (("k", "v"),)), 2**60 + 1)
    aggregate.histogram(("h", ())).add(np.array([0.1, 0.2]))
    again = Aggregate.from_json(json.loads(json.dumps(aggregate.to_json())))
    assert aggregate.sums == again.sums
    assert aggregate.to_json() == again.to_json()


def test_a_copy_is_apart():
    """What is added later does not show in a copy made before."""
    aggregate = Aggregate()
    aggregate.histogram(("h", ())).add(np.array([0.1]))
    copy = aggregate.copy()
    aggregate.histogram(("h", ())).add(np.array([0.1]))
    aggregate.count(("a", ()), 1)
    assert (1, {}) == (copy.histograms["h", ()].count, copy.sums)


def test_running_totals_become_increments():
    """A total that fell back (another process counts anew) adds nothing."""
    total, kinds = Aggregate(), []
    for dropped in (5, 5, 8, 2):
        delta = Aggregate()
        add_event(delta, Event("health", 0, attributes={"otel_train.records.dropped": dropped}), total)
        total.merge(delta)
        kinds.append(total.sums["otel_train.records.dropped", ()])
    assert [5, 5, 8, 8] == kinds


def test_a_scalar_without_a_name():
    """The name was lost with the process that wrote it: the value is kept under its id."""
    records = np.zeros(2, SCALAR)
    records["name"], records["value"] = 4, [1.0, math.nan]
    aggregate = Aggregate()
    add_scalars(aggregate, records, {})
    assert {("dl.scalar 4", ()): 1.0} == aggregate.gauges
    assert {("dl.scalar 4.nonfinite", ()): 1} == aggregate.sums


def test_units():
    """In UCUM: none for a logged value, seconds for any duration."""
    assert ["", "s", "{step}", "By"] == list(
        map(unit_of, ["dl.loss", "dl.compile.duration", "dl.step.count", "dl.checkpoint.size"])
    )


def test_no_rate_without_steps():
    """What did not happen has no throughput."""
    aggregate = Aggregate()
    add_rates(aggregate, 10.0)
    assert {} == aggregate.gauges
