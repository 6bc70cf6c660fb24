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

from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import Any, Protocol

from otel_train import guard
from otel_train.clock import Clock
from otel_train.names import ERROR, PHASE, PHASE_COUNT, PHASE_EVENT
from otel_train.recorder import scopes
from otel_train.recorder.amounts import as_amount, as_number
from otel_train.recorder.failures import describe, error_type
from otel_train.recorder.phase_slots import SLOT_FIELDS, merge
from otel_train.recorder.sidelines import Sidelines
from otel_train.recorder.signals import nothing
from otel_train.recorder.training_state import WAIT_FIELDS, TrainingState
from otel_train.runlog.events import Event
from otel_train.runlog.layout import (
    CHILD_SPANS,
    DATA_WAIT,
    DEPTH_SHIFT,
    EVALUATION,
    FAILED,
    MERGED,
    MISSING,
    PHASE_SLOTS,
    PHASES_SHIFT,
    RECORDS_OFFSET,
    STEP_BYTES,
    STEP_STRUCTS,
)
from otel_train.runlog.segments import SegmentWriter

_pack_step = tuple(record.pack_into for record in STEP_STRUCTS)
NO_STEP = -1

NUMBER = 3
"""Where a ``Step`` has its number."""

MOST_PHASES = 3 * 1024
"""Numbers in ``TrainingState.phases`` beyond which they are merged at once: a step may be a whole epoch."""

MOST_WAITS = 3 * 1024
"""Likewise of waits for data that no step takes: they become an event."""


class Nesting(Protocol):
    """Makes the application's own spans children of the step they are made in."""

    def enter(self, step: int, epoch: int | None, evaluation: bool) -> Any:
        """Before the step's block."""
        ...

    def exit(self, token: Any) -> bool:
        """After it: was a span made inside?"""
        ...


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
        self.nesting = nesting
        self.with_phases = with_phases
        self.state = TrainingState()
        self.sidelines = Sidelines(clock, self.state, write_event)
        self._nesting_token: Any = None
        self.mark: Callable[[int], None] | None = None
        """Marks the edge of one of the step's own phases on the GPU: its id, twice, plus one for its end."""
        self.next_marks: Callable[[], None] = nothing
        """Says that marks from now on are the next step's, though this one is not over yet."""
        self.waited: Callable[..., None] = self.add_wait
        """``add_wait``, and the mark that goes with it."""
        self.after_step: list[Callable[[], None]] = []
        """What waits for the end of a step, on the training thread. Each takes itself off when it is done."""
        self.interrupted: Callable[[], None] = nothing
        """Says, on the training thread and between steps, that the next step will be some time."""
        self.write = self._writer()
        self.give_way: Callable[[], None] | None = None
        """Ends the steps that hooks imply; called when the script marks its first one."""
        self._undo: list[Callable[[], None]] = []
        self.settle()

    def settle(self) -> None:
        """Decide whether steps take the slower way."""
        state = self.state
        state.rare = bool(
            state.flags or state.nested_steps or state.step_flags or self.nesting is not None or self.give_way
        )

    def begin_evaluation(self) -> tuple[int, list[Any]]:
        """Steps and waits from now on are an evaluation's. Returns what ``end_evaluation`` needs."""
        state = self.state
        before = state.flags, list(state.waits)
        state.waits.clear()
        state.flags |= EVALUATION
        state.loader = None  # a batch no longer is the training's by itself
        self.settle()
        return before

    def end_evaluation(self, before: tuple[int, list[Any]]) -> tuple[int, int]:
        """Steps are the training's again, and so is a batch that was waited for before the evaluation.

        Returns how many batches no step of the evaluation took, and the time (ns) that was waited for them.
        """
        state = self.state
        self.fold_evaluation_waits()
        batches, waited_ns = state.evaluation_batches
        state.evaluation_batches = (0, 0)
        state.flags, waits = before
        state.waits[:0] = waits
        self.settle()
        return batches, waited_ns

    def fold_evaluation_waits(self) -> None:
        """The waits so far are the evaluation's, and add up."""
        state = self.state
        batches, waited_ns = state.evaluation_batches
        starts, ends = state.waits[1::WAIT_FIELDS], state.waits[2::WAIT_FIELDS]
        state.evaluation_batches = batches + len(ends), waited_ns + sum(ends) - sum(starts)
        state.waits.clear()

    def activate(self) -> Callable[[], None]:
        """Make ``Step`` and ``Phase`` record here, as ``with_phases`` and ``mark`` say; returns the undo."""
        self._undo.append(scopes.install(scopes.Step, *self._step_methods()))
        self.waited = self.add_wait if self.mark is None else self._add_wait_and_mark
        if self.with_phases:
            methods = self._phase_methods() if self.mark is None else self._marking_phase_methods(self.mark)
            self._undo.append(scopes.install(scopes.Phase, *methods))
        return self._deactivate

    def change(
        self, with_phases: bool, mark: Callable[[int], None] | None, next_marks: Callable[[], None] = nothing
    ) -> None:
        """Record at another level from now on. Between two steps, on the training thread."""
        self.with_phases, self.mark, self.next_marks = with_phases, mark, next_marks
        if self._undo:
            self._deactivate()
            self.activate()

    @property
    def is_active(self) -> bool:
        """Do scopes record here now?"""
        return bool(self._undo)

    def _deactivate(self) -> None:
        while self._undo:
            self._undo.pop()()

    # -- the training thread, inside a step ------------------------------------------------------------------------

    def _phase_methods(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        state, clock, starts, phases = self.state, self.clock, self.state.starts, self.state.phases
        begin, end_latest, record = starts.append, starts.pop, phases.extend
        enter_aside, exit_aside = self.sidelines.enter, self.sidelines.exit
        phase_failed, merge_now = self._phase_failed, self.merge_now
        thread, aside = self.state.thread, self.state.aside

        def enter_phase(phase: scopes.Phase) -> scopes.Phase:
            if state.start_ns is not None and get_ident() == thread:
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
            if starts and (not aside or get_ident() == thread):
                now = clock()
                start = end_latest()
                what = phase.once + (len(starts) << DEPTH_SHIFT) if starts else phase.once
                record((what, start - state.start_ns, now - start))  # type: ignore[operator]  # a step is going on: it has a start
                if len(phases) > MOST_PHASES:
                    merge_now()
                if error is not None:
                    phase_failed(phase, error, start, now)
            else:
                exit_aside(phase.name, error)

        return enter_phase, exit_phase

    def _marking_phase_methods(self, mark: Callable[[int], None]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The same, with a mark on the GPU at the edges of a step's own phases."""
        enter_phase, exit_phase = self._phase_methods()
        starts, thread, aside = self.state.starts, self.state.thread, self.state.aside

        def enter_marked(phase: scopes.Phase) -> scopes.Phase:
            enter_phase(phase)
            if len(starts) == 1 and get_ident() == thread:
                mark(phase.id << 1)
            return phase

        def exit_marked(
            phase: scopes.Phase,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> None:
            if len(starts) == 1 and (not aside or get_ident() == thread):
                mark(phase.id << 1 | 1)
            exit_phase(phase, kind, error, trace)

        return enter_marked, exit_marked

    def _writer(self) -> Callable[[scopes.Step, int, int], None]:
        """``write(step, end_ns, flags)``: the current step's record, and a clean slate for the next."""
        state, steps, after_step = self.state, self.steps, self.after_step
        phases, starts = self.state.phases, self.state.starts
        mended, settle_numbers = self._mended, self._settle_numbers
        buffer, committed, last = steps.buffer, steps.committed, steps.capacity

        def write(step: scopes.Step, end_ns: int, flags: int) -> None:
            nonlocal buffer, committed
            samples, tokens, padded_tokens, _ = step
            try:
                if samples is None:
                    samples = state.samples
                elif type(samples) is not int:
                    samples = as_amount(samples)
                if tokens is None:
                    tokens = state.tokens
                elif type(tokens) is not int:
                    tokens = as_amount(tokens)
                if padded_tokens is None:
                    padded_tokens = MISSING
                elif type(padded_tokens) is not int:
                    padded_tokens = as_amount(padded_tokens)
                slots = len(phases) // SLOT_FIELDS
                if slots > PHASE_SLOTS:
                    phases[:] = merge(phases)
                    flags, slots = flags | MERGED, len(phases) // SLOT_FIELDS
                count, start = committed[0], state.start_ns
                _pack_step[slots](
                    buffer, RECORDS_OFFSET + count * STEP_BYTES, state.number, start, end_ns - start,  # type: ignore[operator]  # a step is going on: it has a start
                    samples, tokens, padded_tokens, state.epoch, flags | slots << PHASES_SHIFT | state.queue, *phases,
                )  # fmt: skip
                committed[0] = count = count + 1
                if count == last:
                    steps.advance()
                    buffer, committed = steps.buffer, steps.committed
            except Exception as failure:  # noqa: BLE001  the guard itself would cost as much as the write
                mended(failure, flags, end_ns, samples, tokens, padded_tokens)
                buffer, committed = steps.buffer, steps.committed
            state.start_ns = None
            state.samples = state.tokens = MISSING
            state.queue = 0
            phases.clear()
            if starts:
                starts.clear()
            if after_step:
                self._run_after_step()
            if flags:
                settle_numbers(flags)

        return write

    def _step_methods(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The whole of a usual step, in a few closures: a method's ``self.`` and each call more cost 5 % of it."""
        state, clock, write = self.state, self.clock, self.write
        waits, phases = self.state.waits, self.state.phases
        begin_rarely, end_rarely, take_waits = self._begin_rarely, self._end_rarely, self.take_waits
        data_wait, record = scopes.DATA_WAIT_PHASE.once, phases.extend
        thread, aside = self.state.thread, self.state.aside

        def enter_step(step: scopes.Step) -> scopes.Step:
            if state.start_ns is not None or state.rare or get_ident() != thread:
                return begin_rarely(step)
            number = step[NUMBER]
            state.number = state.number + 1 if number is None else as_number(number, state.number)
            if not waits:
                state.start_ns = clock()
            elif len(waits) == WAIT_FIELDS:
                state.start_ns = start = waits[1]
                record((data_wait, 0, waits[2] - start))
                state.samples, state.tokens, state.queue = waits[3], waits[4], waits[5]
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
            now = clock()
            flags = 0
            if error is not None or state.rare or (aside and get_ident() != thread):
                flags = end_rarely(step, error, now)
                if flags == NO_STEP:
                    return
            write(step, now, flags)

        return enter_step, exit_step

    def _run_after_step(self) -> None:
        """What waits for the end of a step, on the training thread: values on their way from a device, a new level."""
        for task in tuple(self.after_step):
            with guard.guarded("after step"):
                task()

    def take_waits(self) -> None:
        """The step begins with the waits for its data."""
        state, waits, phases = self.state, self.state.waits, self.state.phases
        state.start_ns = first = waits[1]
        for index in range(0, len(waits), WAIT_FIELDS):
            start = waits[index + 1]
            phases.extend((scopes.DATA_WAIT_PHASE.once, start - first, waits[index + 2] - start))
            self._add_amounts(waits[index + 3], waits[index + 4])
        state.queue = waits[-1]
        waits.clear()

    # -- rare: still the training thread ---------------------------------------------------------------------------

    def _mended(self, error: Exception, flags: int, end_ns: int, *amounts: Any) -> None:
        """The record did not fit its format: keep the step without what does not fit, and say so once."""
        state, phases = self.state, self.state.phases
        if state.start_ns is None:  # the run began inside this step
            return
        with guard.guarded("step"):
            good = tuple(as_amount(amount) for amount in amounts)
            if good == amounts:
                guard.report("step", error)
                phases.clear()
            slots = len(phases) // SLOT_FIELDS
            self.steps.append(
                STEP_STRUCTS[slots], state.number, state.start_ns, end_ns - state.start_ns,
                *good, state.epoch, flags | slots << PHASES_SHIFT, *phases,
            )  # fmt: skip

    def _begin_rarely(self, step: scopes.Step) -> scopes.Step:
        """A step inside a step, on another thread, in an evaluation, or with spans of the application nested in it."""
        state = self.state
        if get_ident() != state.thread:
            if state.start_ns is not None:
                self.sidelines.enter()
                return step
            self.claim()
        if self.give_way is not None:
            give_way, self.give_way = self.give_way, None
            give_way()
            self.settle()
        if state.start_ns is not None:
            state.nested_steps += 1
            self.settle()
            state.starts.append(self.clock())
            return step
        if state.flags & EVALUATION:
            state.training_number, state.number = state.number, state.evaluation_number
        number = step[NUMBER]
        state.number = state.number + 1 if number is None else as_number(number, state.number)
        if state.waits:
            self.take_waits()
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
            self.sidelines.exit(scopes.STEP_IN_STEP.name, error)
            return NO_STEP
        if state.nested_steps:
            state.nested_steps -= 1
            self.settle()
            start = state.starts.pop() if state.starts else now
            once = scopes.STEP_IN_STEP.once + (len(state.starts) << DEPTH_SHIFT)
            state.phases.extend((once, start - state.start_ns, now - start))
            return NO_STEP
        flags, state.step_flags = state.flags | state.step_flags, 0
        token, self._nesting_token = self._nesting_token, None
        if token is not None and self.nesting is not None:
            with guard.guarded("nesting"):
                flags |= CHILD_SPANS if self.nesting.exit(token) else 0
        if error is not None:
            flags |= FAILED
            self.sidelines.event(
                Event(ERROR, now, step=state.number, error=describe(error), attributes=error_type(error))
            )
        return flags

    def merge_now(self) -> None:
        """So many phases in one step that they would fill memory: their times are kept, by name."""
        state = self.state
        state.phases[:] = merge(state.phases)
        state.flags |= MERGED
        self.settle()

    def _settle_numbers(self, flags: int) -> None:
        """After an evaluation's step the training's number is the current one again."""
        self.state.flags &= ~MERGED
        self.settle()
        if flags & EVALUATION:
            self.state.evaluation_steps += 1
            self.state.evaluation_number, self.state.number = self.state.number, self.state.training_number

    def _phase_failed(self, phase: scopes.Phase, error: BaseException, start: int, now: int) -> None:
        attributes = {PHASE: phase.name, **error_type(error)}
        self.sidelines.event(Event(ERROR, now, step=self.state.number, error=describe(error), attributes=attributes))

    def claim(self) -> None:
        """The calling thread is the training thread from now on: the methods are made anew, which know it by heart."""
        self.state.thread = get_ident()
        self.state.waits.clear()
        if self._undo:
            self._deactivate()
            self.activate()

    # -- data ------------------------------------------------------------------------------------------------------

    def _add_wait_and_mark(self, *wait: Any) -> None:
        self.add_wait(*wait)
        if self.mark is not None and get_ident() == self.state.thread:
            self.mark(scopes.DATA_WAIT_PHASE.id << 1 | 1)

    def add_wait(self, loader: object, start_ns: int, end_ns: int, samples: int, tokens: int, queue: int = 0) -> None:
        """A batch came: the wait is the next step's, or a phase of the one going on. Counts may be ``MISSING``.

        A wait that lies in this one (of a loader that this loader reads from) is part of it. ``queue`` is the record's
        field for how many batches were ready, 0 where it is not known.
        """
        state = self.state
        if get_ident() != state.thread and not self._claim_first():
            return
        if state.start_ns is None:
            waits = state.waits
            while waits and waits[1 - WAIT_FIELDS] >= start_ns:
                queue = queue or waits[-1]
                del waits[-WAIT_FIELDS:]
            if len(waits) > MOST_WAITS:
                if state.flags & EVALUATION:
                    self.fold_evaluation_waits()
                else:
                    self.loader_ended(loader)
            waits += (loader, start_ns, end_ns, samples, tokens, queue)
        else:
            state.queue = queue
            state.optimizer_depth = state.optimizer_from_ns = 0  # the last one's step raised
            once = scopes.DATA_WAIT_PHASE.once + (len(state.starts) << DEPTH_SHIFT)
            state.phases.extend((once, start_ns - state.start_ns, end_ns - start_ns))
            if len(state.phases) > MOST_PHASES:
                self.merge_now()
            self._add_amounts(samples, tokens)

    def _add_amounts(self, samples: int, tokens: int) -> None:
        state = self.state
        if samples != MISSING:
            state.samples = samples if state.samples == MISSING else samples + state.samples
        if tokens != MISSING:
            state.tokens = tokens if state.tokens == MISSING else tokens + state.tokens

    def _claim_first(self) -> bool:
        """Become the training thread unless there is one: a thread that prefetches waits, the training does not."""
        state = self.state
        if state.number >= 0 or state.waits or state.start_ns is not None:
            return False
        self.claim()
        return True

    def loader_ended(self, loader: object) -> None:
        """Waits of an iteration that is over belong to no step: they become one event."""
        state = self.state
        if get_ident() != state.thread or loader not in state.waits[::WAIT_FIELDS]:
            return
        entries = [state.waits[index : index + WAIT_FIELDS] for index in range(0, len(state.waits), WAIT_FIELDS)]
        own = [(start, end) for owner, start, end, *_ in entries if owner is loader]
        state.waits[:] = [field for entry in entries if entry[0] is not loader for field in entry]
        attributes = {PHASE: DATA_WAIT, PHASE_COUNT: len(own)}
        duration_ns = sum(end - start for start, end in own)
        self.sidelines.event(
            Event(PHASE_EVENT, own[0][0], duration_ns, step=self.sidelines.last_step, attributes=attributes)
        )
