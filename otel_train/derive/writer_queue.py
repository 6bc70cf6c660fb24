"""The depth of the asynchronous checkpoint writer's queue: how many saves were under way at once."""

from collections.abc import Sequence

Interval = tuple[int, int]
"""Start and end in ns, on one rank's clock."""

_END, _WRITING, _STAGED = 0, 1, 2
"""In the order in which what falls on one moment counts."""


def most_at_once(staged: Sequence[Interval], written: Sequence[Interval]) -> int:
    """The most asynchronous saves that were under way at one moment; 0 without one.

    ``staged`` are the parts that the training waited for, ``written`` those beside it. A save is under way from its
    staging's start to its writing's end, so that one which waits for the writer counts. Writers work in the order in
    which they are asked: each writing ends the earliest staged save that is open when it starts. One whose writing
    was never told of (the process was killed) stays under way; one that was not staged is under way as it is written.
    """
    moments = [(start, _STAGED) for start, _ in staged]
    moments += [(start, _WRITING) for start, _ in written] + [(end, _END) for _, end in written]
    waiting = under_way = most = 0
    for _, what in sorted(moments):
        if what == _END:
            under_way -= 1
            continue
        if what == _WRITING and waiting:
            waiting -= 1
            continue
        waiting += what == _STAGED
        under_way += 1
        most = max(most, under_way)
    return most
