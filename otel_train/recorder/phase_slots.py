"""More phases in a step than its record has slots."""

from typing import Any

from otel_train.runlog.layout import COUNT_SHIFT, DEPTH_SHIFT, OTHER_PHASE, PHASE_SLOTS

SLOT_FIELDS = 3
"""A phase is three numbers in ``TrainingState.phases``: ``layout.PHASE_SLOT``, its start after the step's, its time."""


def merge(phases: list[Any]) -> list[Any]:
    """Make the phases of a step fit its record: those of one name and depth share a slot, the deepest go first.

    A slot that stands for several has their number, the first one's start and the sum of their times. When there are
    still too many, nested ones are left out (their time is part of the phase around them) and the last of the others
    become ``other``.
    """
    slots: dict[tuple[int, int], list[int]] = {}
    for index in range(0, len(phases), SLOT_FIELDS):
        what, start, duration = phases[index : index + SLOT_FIELDS]
        depth, identity = what >> DEPTH_SHIFT & 0xFF, what & 0xFF
        slot = slots.setdefault((depth, identity), [0, start, 0])
        slot[:] = slot[0] + (what >> COUNT_SHIFT), min(slot[1], start), slot[2] + duration
    other = (0, OTHER_PHASE)
    top = [key for key in slots if key[0] == 0 and key != other]
    if len(top) + (other in slots) > PHASE_SLOTS:
        rest = [slots.pop(key) for key in [*top[PHASE_SLOTS - 1 :], other] if key in slots]
        counts, starts, durations = zip(*rest, strict=True)
        slots[other] = [sum(counts), min(starts), sum(durations)]
    fitting = sorted(slots.items(), key=lambda slot: slot[0][0])[:PHASE_SLOTS]
    return [
        field
        for (depth, identity), (count, start, duration) in fitting
        for field in (identity | depth << DEPTH_SHIFT | min(count, 0xFFFF) << COUNT_SHIFT, start, duration)
    ]
