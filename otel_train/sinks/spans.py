"""Spans as plain data: of kept steps and their phases, of events with a duration, of intervals.

Nothing here knows a phase or a kind of event by name, but for the ones that carry the name of something else.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from otel_train import names
from otel_train.clock import Anchor
from otel_train.derive.aggregate import EVALUATING, TRAINING
from otel_train.derive.intervals import START_UP, Closed
from otel_train.derive.phases import phase_name
from otel_train.runlog.events import Event, Position
from otel_train.runlog.layout import EVALUATION, FAILED, MERGED, MISSING, SKIPPED
from otel_train.sinks import ids, profile

Ids: TypeAlias = tuple[int, int]
"""Trace id and span id."""

UNKNOWN_ERROR = {"type": "_OTHER", "message": ""}
"""The value that the conventions have for an error whose type is not known."""

NAMED_BY = {
    names.PHASE_EVENT: (names.PREFIX, names.PHASE),
    names.TIMED: ("", names.TIMED_NAME),
    names.CHECKPOINT_STAGE_KIND: (f"{names.PREFIX}{names.CHECKPOINT}.", names.CHECKPOINT_STAGE),
}
"""Kinds of event whose span has the name that an attribute holds: a phase's, a function's, a stage's."""


@dataclass(frozen=True)
class SpanData:
    """A span, its times in Unix ns. A root has no parent."""

    name: str
    ids: Ids
    parent: Ids | None
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: tuple[Ids, ...] = ()
    error: dict[str, str] | None = None
    """Type and message of what failed it."""
    events: tuple[tuple[str, int, dict[str, Any]], ...] = ()
    """Name, Unix ns and attributes of what happened in it."""


@dataclass(frozen=True)
class SpanMaker:
    """Makes the spans of one rank."""

    run_id: str
    rank: int
    anchor: Anchor
    phase_names: dict[int, str] = field(default_factory=dict)

    def step(
        self,
        record: Any,
        reason: str,
        errors: Iterable[Event],
        interval: int,
        gpu: Mapping[str, float] = MappingProxyType({}),
    ) -> Iterator[SpanData]:
        """A step's span and those of its phases. ``record`` is one of ``records.STEP``, ``errors`` those in it.

        ``gpu`` has the seconds that phases took on the GPU, where they are known.
        """
        number, start, duration, samples, tokens, padded, epoch, flags, _, queue, _ = record.tolist()
        known_epoch = None if epoch == MISSING else epoch
        evaluation = bool(flags & EVALUATION)
        which = (number, known_epoch, evaluation)
        trace = ids.step_trace_id(self.run_id, *which)
        start_ns = self.anchor.to_unix_ns(start)
        by_phase = {error.attributes.get(names.PHASE): error.error or UNKNOWN_ERROR for error in errors}
        root = SpanData(
            names.STEP_SPAN,
            (trace, ids.step_span_id(self.run_id, self.rank, *which)),
            None,
            start_ns,
            start_ns + duration,
            {
                names.ITERATION: number,
                names.MODE: (EVALUATING if evaluation else TRAINING)[1],
                names.KEPT_BECAUSE: reason,
                **_known({names.EPOCH_NUMBER: epoch, names.BATCH_SIZE: samples}),
                **_known({names.TOKEN_COUNT: tokens, names.PADDED_TOKEN_COUNT: padded}),
                **({names.QUEUE_SIZE: queue - 1} if queue else {}),
                **({names.SKIPPED_STEP: True} if flags & SKIPPED else {}),
            },
            (self.interval_ids(interval),),
            by_phase.get(None, UNKNOWN_ERROR) if flags & FAILED else None,
        )
        yield root
        spans = [ids.step_span_id(self.run_id, self.rank, *which, slot + 1) for slot in range(record["phase_count"])]
        yield from self._phases(root, record, spans, by_phase, gpu)

    def event(self, event: Event, position: Position, interval: int) -> SpanData:
        """An event with a duration, in its interval's trace; a profile is in its step's."""
        if event.kind == names.PROFILE and event.step is not None:
            return self._profile(event, event.step, position)
        trace, root = self.interval_ids(interval)
        prefix, attribute = NAMED_BY.get(event.kind, (names.PREFIX, None))
        name = prefix + str(event.attributes.get(attribute, event.kind)) if attribute else names.PREFIX + event.kind
        return SpanData(
            name,
            (trace, ids.span_id(self.run_id, self.rank, "event", position.segment, position.offset)),
            (trace, root),
            self.anchor.to_unix_ns(event.start_ns),
            self.anchor.to_unix_ns(event.end_ns),
            event_attributes(event),
            error=event.error,
        )

    def _profile(self, event: Event, step: int, position: Position) -> SpanData:
        which = (step, event.attributes.get(names.EPOCH_NUMBER), False)
        trace, root = ids.step_trace_id(self.run_id, *which), ids.step_span_id(self.run_id, self.rank, *which)
        start_ns = self.anchor.to_unix_ns(event.start_ns)
        return SpanData(
            names.PREFIX + event.kind,
            (trace, ids.span_id(self.run_id, self.rank, "event", position.segment, position.offset)),
            (trace, root),
            start_ns,
            self.anchor.to_unix_ns(event.end_ns),
            event_attributes(replace(event, attributes=profile.own_attributes(event))),
            events=tuple((name, start_ns, attributes) for name, attributes in profile.rows(event)),
        )

    def operators(self, event: Event, position: Position) -> Iterator[SpanData]:
        """The operators of a profile that have spans of their own: under their phase, their step, or the block."""
        if event.step is None or names.PROFILE_SPANS not in event.attributes:
            return
        epoch, profile_span = event.attributes.get(names.EPOCH_NUMBER), self._profile(event, event.step, position)
        for number, (name, after_s, took_s, step, slot) in enumerate(event.attributes[names.PROFILE_SPANS]):
            which = (event.step if step is None else step, epoch, False)
            trace = ids.step_trace_id(self.run_id, *which)
            parent = (trace, ids.step_span_id(self.run_id, self.rank, *which, slot))
            start_ns = profile_span.start_ns + round(after_s * 1e9)
            yield SpanData(
                name,
                (trace, ids.span_id(self.run_id, self.rank, "operator", position.segment, position.offset, number)),
                profile_span.ids if step is None else parent,
                start_ns,
                start_ns + round(took_s * 1e9),
                {names.ITERATION: which[0]},
            )

    def interval(self, closed: Closed, happened: Iterable[Event] = ()) -> SpanData:
        """The root of an interval that is over, linked to the one before, with what happened in it."""
        before = () if closed.index == START_UP else (self.interval_ids(closed.index - 1),)
        counts = {names.STEP_COUNT: closed.steps, names.SUPPRESSED_SLOW_STEPS: closed.suppressed}
        return SpanData(
            names.START_UP_SPAN if closed.index == START_UP else names.INTERVAL_SPAN,
            self.interval_ids(closed.index),
            None,
            self.anchor.to_unix_ns(closed.start_ns),
            self.anchor.to_unix_ns(closed.end_ns),
            {names.INTERVAL_INDEX: closed.index, **{key: count for key, count in counts.items() if count}},
            before,
            events=tuple(
                (
                    names.EVENT_NAMES.get(event.kind, names.PREFIX + event.kind),
                    self.anchor.to_unix_ns(event.start_ns),
                    event_attributes(event),
                )
                for event in happened
            ),
        )

    def interval_ids(self, index: int) -> Ids:
        """Trace id and root span id of an interval, also of one that is not over."""
        return (
            ids.interval_trace_id(self.run_id, self.rank, index),
            ids.interval_span_id(self.run_id, self.rank, index),
        )

    def _phases(
        self,
        root: SpanData,
        record: Any,
        spans: list[int],
        errors: dict[str | None, dict[str, str]],
        gpu: Mapping[str, float],
    ) -> Iterator[SpanData]:
        slots = record["phases"][: len(spans)].tolist()
        failed = {phase_name(self.phase_names, slot[0]): index for index, slot in enumerate(slots)}
        last = {phase_name(self.phase_names, slot[0]): index for index, slot in enumerate(slots) if not slot[1]}
        for index, (identity, _, count, start, duration) in enumerate(slots):
            name = phase_name(self.phase_names, identity)
            start_ns = min(root.start_ns + round(start), root.end_ns)
            around = _around(slots, index)
            attributes: dict[str, Any] = {names.PHASE: name}
            if name in gpu and last.get(name) == index:  # of all the step's phases of that name together
                attributes[names.GPU_TIME] = gpu[name]
            if record["flags"] & MERGED and count > 1:
                attributes |= {names.PHASE_COUNT: count, names.PHASE_TIME: duration / 1e9}
            yield SpanData(
                names.PREFIX + name,
                (root.ids[0], spans[index]),
                root.ids if around is None else (root.ids[0], spans[around]),
                start_ns,
                min(start_ns + round(duration), root.end_ns),
                attributes,
                error=errors.get(name) if failed[name] == index else None,
            )


def event_attributes(event: Event) -> dict[str, Any]:
    """The event's own attributes, its step and its thread."""
    attributes = {key: attribute_value(value) for key, value in event.attributes.items()}
    if event.step is not None:
        attributes[names.ITERATION] = event.step
    if event.thread is not None:
        attributes[names.THREAD_NAME] = event.thread
    return attributes


def attribute_value(value: Any) -> Any:
    """The value as an attribute may have it: a list of mixed things or a mapping becomes text."""
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and len({type(item) for item in value}) <= 1:
        return [item if isinstance(item, (str, bool, int, float)) else str(item) for item in value]
    return str(value)


def _around(slots: list[tuple[Any, ...]], index: int) -> int | None:
    """The phase that this one lies in: the latest to begin, one level up, no later than it. None: the step itself."""
    _, depth, _, start, _ = slots[index]
    if not depth:
        return None
    outer = [other for other, slot in enumerate(slots) if slot[1] == depth - 1 and slot[3] <= start]
    return max(outer, key=lambda other: slots[other][3]) if outer else None


def _known(amounts: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items() if amount != MISSING}
