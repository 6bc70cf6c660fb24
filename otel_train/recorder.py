"""The hot path: what the training thread runs for each phase and each step.

Two clock reads and an append for a phase, one fixed-size write for a step. No lock, no I/O call, no OpenTelemetry
object, nothing that grows. Everything that is rare (another thread, a phase outside a step, an exception) leaves for
``Sidelines``. Costs are in ``docs/design.md``; ``benchmarks/step_cost.py`` measures them.

Meaning, in one place:

- *The training thread* is the first one that runs a step or waits for data. When it is not inside a step, another
  thread that begins one takes its place.
- *A step* runs from the beginning of its wait for data to the end of its block. A wait belongs to the next step on
  its thread, unless its loader's iteration ends first: then it is an event of its own.
- *A phase inside a step* is part of the step's record, with its depth. Phases of one name and depth share a slot only
  where the record has no slot left.
- *A phase outside a step, or on another thread*, is an event with a duration.
- *A step inside a step* is a phase named ``step`` of the outer one.
"""

import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import Any, Protocol

from otel_train import guard, scopes
from otel_train.clock import Clock
from otel_train.names import ERROR, ERROR_TYPE, PHASE, PHASE_COUNT, PHASE_EVENT
from otel_train.runlog.events import Event
from otel_train.runlog.layout import (
    CHILD_SPANS,
    COUNT_SHIFT,
    DATA_WAIT,
    DEPTH_SHIFT,
    EVALUATION,
    FAILED,
    LARGEST,
    MERGED,
    MISSING,
    OTHER_PHASE,
    PHASE_SLOTS,
    PHASES_SHIFT,
    RECORDS_OFFSET,
    STEP_BYTES,
    STEP_STRUCTS,
)
from otel_train.runlog.segments import SegmentWriter

_pack_step = tuple(record.pack_into for record in STEP_STRUCTS)
SLOT_FIELDS = 3
"""A phase is three numbers in ``State.phases``: ``layout.PHASE_SLOT``, its start after the step's start, duration."""

NO_STEP = -1

WAIT_FIELDS = 3
"""A wait for data is three in ``State.waits``: the loader's iteration, start, end."""


class Nesting(Protocol):
    """Makes the application's own spans children of the step they are made in."""

    def enter(self, step: int, epoch: int | None, evaluation: bool) -> Any:
        """Before the step's block."""
        ...

    def exit(self, token: Any) -> bool:
        """After it: was a span made inside?"""
        ...


class State:
    """What is going on in the training thread. Only that thread writes it."""

    __slots__ = (
        "epoch",
        "evaluation_number",
        "flags",
        "nested_steps",
        "number",
        "phases",
        "rare",
        "samples",
        "start_ns",
        "starts",
        "thread",
        "tokens",
        "training_number",
        "waits",
    )

    def __init__(self) -> None:
        self.thread = threading.main_thread().ident
        self.start_ns: int | None = None
        """When the step began; None between steps."""
        self.number: int = -1
        """The number of the current or last step."""
        self.evaluation_number: int = -1
        self.training_number: int = -1
        """What ``number`` goes back to after a step of an evaluation."""
        self.nested_steps = 0
        self.flags = 0
        self.rare = False
        """Is something so that steps take the slower way: an evaluation, a step in a step, nested spans?"""
        self.epoch: int = MISSING
        self.starts: list[int] = []
        """When each open phase of the step began."""
        self.phases: list[Any] = []
        """The step's closed phases, flat."""
        self.waits: list[Any] = []
        """Waits for data since the last step: loader, start, end, flat."""
        self.samples = MISSING
        """Samples in the batches that were waited for, where they could be counted."""
        self.tokens = MISSING


class Recorder:
    """Records the steps of one run. ``activate()`` makes the scopes record; its undo stops them."""

    def __init__(
        self,
        clock: Clock,
        steps: SegmentWriter,
        write_event: Callable[[Event], None],
        nesting: Nesting | None = None,
        with_phases: bool = True,
    ) -> None:
        self.clock = clock
        self.steps = steps
        self.write_event = write_event
        self.nesting = nesting
        self.with_phases = with_phases
        self.state = State()
        self._sidelines = threading.local()
        self._nesting_token: Any = None
        self.under_way: deque[Any] = deque()
        """Values of ``log()`` on their way from a device: ``resolve`` is called after a step while there are any."""
        self.resolve: Callable[[], None] = self.under_way.clear
        self._settle()

    def _settle(self) -> None:
        state = self.state
        state.rare = bool(state.flags or state.nested_steps or self.nesting is not None)

    def set_evaluation(self, going_on: bool) -> None:
        """Steps from now on are an evaluation's, or the training's again."""
        self.state.flags = EVALUATION if going_on else 0
        self._settle()

    def activate(self) -> Callable[[], None]:
        """Make ``Step`` and ``Phase`` record here; returns the undo."""
        undo_step = scopes.install(scopes.Step, *self._step_methods())
        undo_phase = scopes.install(scopes.Phase, *self._phase_methods()) if self.with_phases else lambda: None

        def undo() -> None:
            undo_step()
            undo_phase()

        return undo

    # -- the training thread, inside a step ------------------------------------------------------------------------

    def _phase_methods(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        state, clock, starts, phases = self.state, self.clock, self.state.starts, self.state.phases
        begin, end_latest, record = starts.append, starts.pop, phases.extend
        enter_aside, exit_aside, phase_failed = self._enter_aside, self._exit_aside, self._phase_failed

        def enter_phase(phase: scopes.Phase) -> scopes.Phase:
            if state.start_ns is not None and get_ident() == state.thread:
                begin(clock())
            else:
                enter_aside()
            return phase

        def exit_phase(
            phase: scopes.Phase,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> None:
            if starts and get_ident() == state.thread:
                now = clock()
                start = end_latest()
                what = phase.once + (len(starts) << DEPTH_SHIFT) if starts else phase.once
                record((what, start - state.start_ns, now - start))  # type: ignore[operator]
                if error is not None:
                    phase_failed(phase, error, start, now)
            else:
                exit_aside(phase, error)

        return enter_phase, exit_phase

    def _step_methods(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The whole of a usual step, in two closures: a method's ``self.`` and each call more cost 5 % of it."""
        state, clock, steps, under_way = self.state, self.clock, self.steps, self.under_way
        waits, phases, starts = self.state.waits, self.state.phases, self.state.starts
        begin_rarely, end_rarely = self._begin_rarely, self._end_rarely
        take_waits, mended = self._take_waits, self._mended
        buffer, committed, last = steps.buffer, steps.committed, steps.capacity
        data_wait, record = scopes.DATA_WAIT_PHASE.once, phases.extend

        def enter_step(step: scopes.Step) -> scopes.Step:
            if state.start_ns is not None or state.rare or get_ident() != state.thread:
                return begin_rarely(step)
            number = step[3]
            state.number = state.number + 1 if number is None else number
            if not waits:
                state.start_ns = clock()
            elif len(waits) == WAIT_FIELDS:
                state.start_ns = start = waits[1]
                record((data_wait, 0, waits[2] - start))
                waits.clear()
            else:
                take_waits()
            return step

        def exit_step(
            step: scopes.Step,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> None:
            nonlocal buffer, committed
            now = clock()
            flags = 0
            if error is not None or state.rare or get_ident() != state.thread:
                flags = end_rarely(step, error, now)
                if flags == NO_STEP:
                    return
            samples, tokens, padded_tokens, _ = step
            try:
                if samples is None:
                    samples = state.samples
                elif type(samples) is not int:
                    samples = _amount(samples)
                if tokens is None:
                    tokens = state.tokens
                elif type(tokens) is not int:
                    tokens = _amount(tokens)
                if padded_tokens is None:
                    padded_tokens = MISSING
                elif type(padded_tokens) is not int:
                    padded_tokens = _amount(padded_tokens)
                slots = len(phases) // SLOT_FIELDS
                if slots > PHASE_SLOTS:
                    phases[:] = merge(phases)
                    flags, slots = flags | MERGED, len(phases) // SLOT_FIELDS
                count, start = committed[0], state.start_ns
                _pack_step[slots](
                    buffer, RECORDS_OFFSET + count * STEP_BYTES, state.number, start, now - start,  # type: ignore[operator]
                    samples, tokens, padded_tokens, state.epoch, flags | slots << PHASES_SHIFT, *phases,
                )  # fmt: skip
                committed[0] = count = count + 1
                if count == last:
                    steps.advance()
                    buffer, committed = steps.buffer, steps.committed
            except Exception as failure:  # noqa: BLE001  the guard itself would cost as much as the write
                mended(failure, flags, now, samples, tokens, padded_tokens)
                buffer, committed = steps.buffer, steps.committed
            state.start_ns = None
            state.samples = state.tokens = MISSING
            phases.clear()
            if starts:
                starts.clear()
            if under_way:
                self.resolve()
            if flags:
                self._settle_numbers(flags)

        return enter_step, exit_step

    def _take_waits(self) -> None:
        """The step begins with the waits for its data."""
        state, waits, phases = self.state, self.state.waits, self.state.phases
        state.start_ns = first = waits[1]
        for index in range(0, len(waits), WAIT_FIELDS):
            start = waits[index + 1]
            phases.extend((scopes.DATA_WAIT_PHASE.once, start - first, waits[index + 2] - start))
        waits.clear()

    # -- rare: still the training thread ---------------------------------------------------------------------------

    def _mended(self, error: Exception, flags: int, end_ns: int, *amounts: Any) -> None:
        """The record did not fit its format: keep the step without what does not fit, and say so once."""
        state, head = self.state, STEP_STRUCTS[0]
        if state.start_ns is None:  # the run began inside this step
            return
        guard.report("step", error)
        with guard.guarded("mended step"):
            good = [_amount(amount) for amount in amounts]
            state.number = state.number if type(state.number) is int else -1
            self.steps.append(
                head, state.number, state.start_ns, end_ns - state.start_ns, *good, MISSING, flags
            )  # fmt: skip

    def _begin_rarely(self, step: scopes.Step) -> scopes.Step:
        """A step inside a step, on another thread, in an evaluation, or with spans of the application nested in it."""
        state = self.state
        if get_ident() != state.thread:
            if state.start_ns is not None:
                self._enter_aside()
                return step
            self._claim()
        if state.start_ns is not None:
            state.nested_steps += 1
            self._settle()
            state.starts.append(self.clock())
            return step
        if state.flags & EVALUATION:
            state.training_number, state.number = state.number, state.evaluation_number
        state.number = state.number + 1 if step.number is None else step.number
        if state.waits:
            self._take_waits()
        else:
            state.start_ns = self.clock()
        if self.nesting is not None:
            with guard.guarded("nesting"):
                epoch = None if state.epoch == MISSING else state.epoch
                self._nesting_token = self.nesting.enter(state.number, epoch, bool(state.flags & EVALUATION))
        return step

    def _end_rarely(self, step: scopes.Step, error: BaseException | None, now: int) -> int:
        """The flags to write the step with; ``NO_STEP`` when there is none to write."""
        state = self.state
        if get_ident() != state.thread or state.start_ns is None:
            self._exit_aside(scopes.STEP_IN_STEP, error)
            return NO_STEP
        if state.nested_steps:
            state.nested_steps -= 1
            self._settle()
            start = state.starts.pop() if state.starts else now
            once = scopes.STEP_IN_STEP.once + (len(state.starts) << DEPTH_SHIFT)
            state.phases.extend((once, start - state.start_ns, now - start))
            return NO_STEP
        flags = state.flags
        token, self._nesting_token = self._nesting_token, None
        if token is not None and self.nesting is not None:
            with guard.guarded("nesting"):
                flags |= CHILD_SPANS if self.nesting.exit(token) else 0
        if error is not None:
            flags |= FAILED
            self.event(Event(ERROR, now, step=state.number, error=describe(error), attributes=_error_type(error)))
        return flags

    def _settle_numbers(self, flags: int) -> None:
        """After an evaluation's step the training's number is the current one again."""
        if flags & EVALUATION:
            self.state.evaluation_number, self.state.number = self.state.number, self.state.training_number

    def _phase_failed(self, phase: scopes.Phase, error: BaseException, start: int, now: int) -> None:
        attributes = {PHASE: phase.name, **_error_type(error)}
        self.event(Event(ERROR, now, step=self.state.number, error=describe(error), attributes=attributes))

    def _claim(self) -> None:
        """The calling thread is the training thread from now on."""
        self.state.thread = get_ident()
        self.state.waits.clear()

    # -- rare: outside a step, or another thread -------------------------------------------------------------------

    def _enter_aside(self) -> None:
        try:
            self._sidelines.starts.append(self.clock())
        except AttributeError:
            self._sidelines.starts = [self.clock()]

    def _exit_aside(self, phase: scopes.Phase, error: BaseException | None) -> None:
        now = self.clock()
        starts = getattr(self._sidelines, "starts", None)
        if not starts:  # it began before the run did, or inside a step that is over
            guard.warn_once("unbalanced", "the phase %r ended in another place than it began: not recorded", phase.name)
            return
        start = starts.pop()
        self.span(PHASE_EVENT, start, now - start, error, {PHASE: phase.name})

    def span(
        self, kind: str, start_ns: int, duration_ns: int, error: BaseException | None, attributes: dict[str, Any]
    ) -> None:
        """Write an event that has a duration, from whatever thread."""
        described = None if error is None else describe(error)
        thread = self.foreign_thread_name()
        self.event(Event(kind, start_ns, duration_ns, self.last_step, thread, described, attributes))

    def event(self, event: Event) -> None:
        """Write an event; a failure to is reported, never raised. Any thread."""
        with guard.guarded("event"):
            self.write_event(event)

    @property
    def last_step(self) -> int | None:
        """The number of the current step, or else of the last one; None before the first."""
        return None if self.state.number < 0 else self.state.number

    def foreign_thread_name(self) -> str | None:
        """The calling thread's name, or None on the training thread."""
        return None if get_ident() == self.state.thread else threading.current_thread().name

    # -- data ------------------------------------------------------------------------------------------------------

    def waited(self, loader: object, start_ns: int, end_ns: int, samples: int | None, tokens: int | None) -> None:
        """A batch came: the wait is the next step's, or a phase of the step that is going on."""
        state = self.state
        if get_ident() != state.thread and not self._claim_first():
            return
        if state.start_ns is None:
            state.waits += (loader, start_ns, end_ns)
        else:
            once = scopes.DATA_WAIT_PHASE.once + (len(state.starts) << DEPTH_SHIFT)
            state.phases.extend((once, start_ns - state.start_ns, end_ns - start_ns))
        if samples is not None:
            state.samples = samples if state.samples == MISSING else samples + state.samples
        if tokens is not None:
            state.tokens = tokens if state.tokens == MISSING else tokens + state.tokens

    def _claim_first(self) -> bool:
        """Become the training thread unless there is one: a thread that prefetches waits, the training does not."""
        state = self.state
        if state.number >= 0 or state.waits or state.start_ns is not None:
            return False
        self._claim()
        return True

    def loader_ended(self, loader: object) -> None:
        """Waits of an iteration that is over belong to no step: they become one event."""
        state = self.state
        if get_ident() != state.thread or loader not in state.waits[::WAIT_FIELDS]:
            return
        triples = [state.waits[index : index + WAIT_FIELDS] for index in range(0, len(state.waits), WAIT_FIELDS)]
        own = [(start, end) for owner, start, end in triples if owner is loader]
        state.waits[:] = [field for triple in triples if triple[0] is not loader for field in triple]
        if not state.waits:
            state.samples = state.tokens = MISSING
        attributes = {PHASE: DATA_WAIT, PHASE_COUNT: len(own)}
        duration_ns = sum(end - start for start, end in own)
        self.event(Event(PHASE_EVENT, own[0][0], duration_ns, step=self.last_step, attributes=attributes))


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
    top = [key for key in slots if key[0] == 0]
    if len(top) > PHASE_SLOTS:
        rest = [slots.pop(key) for key in top[PHASE_SLOTS - 1 :]]
        counts, starts, durations = zip(*rest, strict=True)
        slots[0, OTHER_PHASE] = [sum(counts), min(starts), sum(durations)]
    fitting = sorted(slots.items(), key=lambda slot: slot[0][0])[:PHASE_SLOTS]
    return [
        field
        for (depth, identity), (count, start, duration) in fitting
        for field in (identity | depth << DEPTH_SHIFT | min(count, 0xFFFF) << COUNT_SHIFT, start, duration)
    ]


def describe(error: BaseException) -> dict[str, str]:
    """The exception as an event holds it: qualified type and the beginning of its message."""
    return {"type": type_name(error), "message": str(error)[:1000]}


def type_name(error: BaseException) -> str:
    """``ValueError``, ``torch.OutOfMemoryError``: the value of ``error.type``."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _error_type(error: BaseException) -> dict[str, str]:
    return {ERROR_TYPE: type_name(error)}


def _amount(amount: Any) -> int:
    """A count as the record holds it. A function is asked now; a tensor on a device is not: reading it would wait."""
    if amount is None:
        return MISSING
    try:
        if callable(amount):
            amount = amount()
        on_device = getattr(getattr(amount, "device", None), "type", "cpu") != "cpu"
        number = -1 if on_device else int(amount)
    except Exception as error:  # noqa: BLE001  the user's function, or a number like none we know
        guard.warn_once("amount failed", "a step's samples or tokens could not be had: %r. The count is missing", error)
        return MISSING
    if 0 <= number <= LARGEST or number == MISSING:
        return number
    guard.warn_once(
        "amount",
        "a step's samples or tokens must be a number from 0 to %d on the host, got %s: the count is missing",
        LARGEST,
        f"a tensor on {amount.device}" if on_device else repr(amount),
    )
    return MISSING
