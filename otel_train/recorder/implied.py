"""Steps that no script marks, told from what hooks see: batches, forwards, backwards and optimizer steps.

Where a step begins and ends, in one place (``docs/zero-code.md`` has it with pictures):

- *A step is an iteration of the training loop*: from asking for its first batch to asking for the next step's. So
  step times add up to the training's, whatever the script does after ``optimizer.step()``.
- *It is over when its optimizer has stepped and the next batch is asked for.* Several batches before one optimizer
  step (gradient accumulation) and several optimizers after one batch (a GAN) are one step.
- *Without a loader* it is over when the same optimizer is about to step again; it then ended where the first forward
  or backward after its last optimizer step began.
- *A checkpoint, an evaluation or the loader's end* after the optimizer's step ends it too: they are between steps.
- *A forward without gradients* is evaluation, and so are the batches waited for before it; what is asked of a loader
  to its end without one backward is evaluation as well.
- *An optimizer step that runs the training in its closure* (Lightning, LBFGS) is optimizer time only after a backward
  and until the next forward.
- *Without an optimizer*, where the script updates its parameters itself, a backward stands for the optimizer's step,
  once ``zero_grad`` of a module after a backward has shown that it is so.
- *Once the script marks a step itself*, its steps are the only ones.
"""

from collections.abc import Callable
from threading import get_ident
from typing import Any

from otel_train import guard
from otel_train.batches import BatchCounter
from otel_train.names import (
    BACKWARD,
    ERROR,
    EVALUATION_KIND,
    EVALUATION_NAME,
    FORWARD,
    OPTIMIZER,
    PHASE,
    PHASE_COUNT,
    PHASE_EVENT,
    STEP_COUNT,
    WAIT_TIME,
)
from otel_train.recorder import scopes
from otel_train.recorder.failures import describe, error_type
from otel_train.recorder.hot_path import MOST_PHASES, Recorder
from otel_train.recorder.marking import marking
from otel_train.recorder.phase_slots import SLOT_FIELDS
from otel_train.recorder.signals import nothing, signals
from otel_train.recorder.training_state import WAIT_FIELDS
from otel_train.runlog.events import Event
from otel_train.runlog.layout import COUNT_SHIFT, DATA_WAIT, DEPTH_SHIFT, EVALUATION, FAILED, MISSING, PROFILED, SKIPPED

FORWARD_PHASE, BACKWARD_PHASE, OPTIMIZER_PHASE = map(scopes.phase, (FORWARD, BACKWARD, OPTIMIZER))
START, LAST_END, COUNT, WAITED = range(4)
"""Fields of ``TrainingState.evaluation``."""

BY_HAND = 0
"""Stands for an optimizer among those that have stepped: the script's own code."""

Functions = dict[str, Callable[..., Any]]


def rarely(function: Callable[..., None]) -> Callable[..., None]:
    """What is not on the hot path, so that no failure of it reaches the training."""

    def guarded(*arguments: Any) -> None:
        with guard.guarded("steps"):
            function(*arguments)

    return guarded


class ImpliedSteps:
    """Makes one recorder hear ``signals``. All that is rare is a method; what each step runs is a closure."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._state = recorder.state

    def activate(self) -> Callable[[], None]:
        """Listen; returns the undo."""
        self._recorder.give_way = self.give_way
        self._recorder.settle()
        functions = {**self._data(), **self._passes(), **self._optimizers(), **self._evaluation()}
        if self._recorder.mark is not None:
            functions |= marking(functions, self._state, self._recorder.mark)
        return signals.connect(functions)

    # -- each step -------------------------------------------------------------------------------------------------

    def _data(self) -> Functions:
        recorder, state, clock, stepped = self._recorder, self._state, self._recorder.clock, self._state.stepped
        waited, write, close, look = recorder.add_wait, recorder.write, self._close, self._look
        another_batch, waits, failed = self._another_batch, self._state.waits, self._failed
        record, once, plain = self._state.phases.extend, scopes.DATA_WAIT_PHASE.once, scopes.UNKNOWN_STEP

        def batch_asked() -> int:
            now = clock()
            try:
                if stepped and state.implied and get_ident() == state.thread:
                    if state.had_forward and not state.looking:
                        flags, state.step_flags = state.step_flags, 0
                        write(plain, now, flags)
                        stepped.clear()
                        state.trained = state.had_forward = state.unusual = False
                    else:
                        close(now)
                    if state.resumed_ns:
                        now, state.resumed_ns = state.resumed_ns, 0
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)
            return now

        def batch_came(iteration: object, start_ns: int, end_ns: int, samples: int, tokens: int, queue: int) -> None:
            try:
                if iteration is state.loader and state.start_ns is None and not waits and get_ident() == state.thread:
                    state.number += 1
                    state.start_ns = start_ns
                    record((once, 0, end_ns - start_ns))
                    state.samples, state.tokens, state.queue = samples, tokens, queue
                elif not (state.flags & EVALUATION and state.implied and state.start_ns is not None):
                    another_batch()  # of an evaluation in the middle of a step it is nothing to the step
                    waited(iteration, start_ns, end_ns, samples, tokens, queue)
                if state.look:
                    look()
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)

        return {
            "clock": clock,
            "batch_asked": batch_asked,
            "batch_came": batch_came,
            "loader_ended": rarely(self._loader_ended),
            "between_steps": rarely(self._between_steps),
            "took": rarely(self._took),
            "step_failed": rarely(self._step_failed),
            "gradients_cleared": rarely(self._gradients_cleared),
        }

    def _passes(self) -> Functions:
        state, clock, phases, starts = self._state, self._recorder.clock, self._state.phases, self._state.starts
        record = phases.extend if self._recorder.with_phases else nothing
        begin, prelude, claim, many = self._begin, self._prelude, self._claim, self._many_phases
        failed = self._failed
        push, pop = starts.append, starts.pop
        forward, backward = FORWARD_PHASE.once, BACKWARD_PHASE.once

        def forward_began() -> bool:
            try:
                now = clock()
                if get_ident() != state.thread or (state.start_ns is None and not begin(now)):
                    return False
                if state.unusual:
                    prelude(now)
                state.had_forward = True
                push(now)
                return True
            except Exception as error:  # noqa: BLE001  the training goes on
                return failed(error)

        def forward_ended() -> None:
            try:
                now = clock()
                if starts:
                    start = pop()
                    what = forward + (len(starts) << DEPTH_SHIFT) if starts else forward
                    record((what, start - state.start_ns, now - start))  # type: ignore[operator]  # a step is going on
                    if len(phases) > MOST_PHASES:
                        many()
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)

        def backward_began() -> bool:
            try:
                now = clock()
                if (get_ident() != state.thread and not claim()) or (state.start_ns is None and not begin(now)):
                    return False
                if state.unusual:
                    prelude(now)
                state.in_backward = state.trained = True
                push(now)
                return True
            except Exception as error:  # noqa: BLE001  the training goes on
                return failed(error)

        def backward_ended() -> None:
            try:
                now = clock()
                state.in_backward = False
                if starts:
                    start = pop()
                    what = backward + (len(starts) << DEPTH_SHIFT) if starts else backward
                    record((what, start - state.start_ns, now - start))  # type: ignore[operator]  # likewise
                    if len(phases) > MOST_PHASES:
                        many()
                    if state.optimizer_depth:
                        state.optimizer_from_ns = now
                        state.closure_ran = True
                    elif state.by_hand:
                        state.boundary_ns, state.unusual = 0, True
                        state.stepped.add(BY_HAND)
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)

        return {
            "forward_began": forward_began,
            "forward_ended": forward_ended,
            "backward_began": backward_began,
            "backward_ended": backward_ended,
        }

    def _optimizers(self) -> Functions:
        state, clock, phases, starts = self._state, self._recorder.clock, self._state.phases, self._state.starts
        record = phases.extend if self._recorder.with_phases else nothing
        begin, split, stepped, once = self._begin, self._split, self._state.stepped, OPTIMIZER_PHASE.once
        failed = self._failed

        def optimizer_began(optimizer: object) -> None:
            try:
                now = clock()
                if get_ident() != state.thread or (state.start_ns is None and not begin(now)):
                    return
                state.by_hand = False
                if state.optimizer_depth:
                    state.optimizer_depth += 1
                    return
                if stepped and state.implied and id(optimizer) in stepped:
                    split(now)
                state.optimizer_depth = 1
                if not state.in_backward:
                    state.optimizer_from_ns = now
                    state.closure_ran = False
                    state.unusual = True
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)

        def optimizer_ended(optimizer: object) -> None:
            try:
                if get_ident() != state.thread:
                    if state.in_backward:  # an optimizer that steps in a hook of the backward, on the engine's thread
                        stepped.add(id(optimizer))
                    return
                if state.optimizer_depth > 1:
                    state.optimizer_depth -= 1
                    return
                start = state.optimizer_from_ns
                if start and state.start_ns is not None:
                    now = clock()
                    what = once + (len(starts) << DEPTH_SHIFT) if starts else once
                    record((what, start - state.start_ns, now - start))
                state.optimizer_depth = state.optimizer_from_ns = state.boundary_ns = 0
                state.unusual = True
                stepped.add(id(optimizer))
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)

        return {
            "optimizer_began": optimizer_began,
            "optimizer_ended": optimizer_ended,
            "optimizer_skipped": rarely(self._optimizer_skipped),
        }

    def _failed(self, error: Exception) -> bool:
        """A failure of ours never reaches the training: the step that is going on is given up."""
        guard.report("steps", error)
        state = self._state
        if state.implied:
            state.start_ns = None
            for kept in (state.phases, state.starts, state.waits):
                kept.clear()
            state.step_flags &= PROFILED
            self._forget()
        return False

    # -- where a step begins and ends ------------------------------------------------------------------------------

    def _begin(self, now: int) -> bool:
        """The first sign of a step; False where steps are the script's own to mark."""
        state = self._state
        if state.explicit or state.flags & EVALUATION:
            return False
        if state.tried is not None:
            if state.waits:
                state.tried = None  # a batch, a frozen model on it, and now the model that is trained
            else:
                self._was_evaluation()
        if state.evaluation is not None:
            self._end_evaluation()
        state.number += 1
        state.implied = True
        if state.waits:
            state.loader = loader = state.waits[-WAIT_FIELDS]
            if isinstance(loader, BatchCounter):
                loader.trains = True
            self._recorder.take_waits()
        else:
            state.start_ns = now
        return True

    def _close(self, end_ns: int) -> None:
        """The implied step is over."""
        state = self._state
        if state.looking:
            state.looking = False
            signals.look_for_models(False)
        elif not state.had_forward and state.trained:
            state.look = True
        flags, state.step_flags = state.step_flags, 0
        self._recorder.write(scopes.UNKNOWN_STEP, end_ns, flags)
        self._forget()

    def _forget(self) -> None:
        state = self._state
        state.stepped.clear()
        state.trained = state.had_forward = state.in_backward = state.unusual = False
        state.optimizer_depth = state.optimizer_from_ns = state.boundary_ns = 0

    def _prelude(self, now: int) -> None:
        """Before a forward or backward that begins while an optimizer steps, or after it has stepped."""
        state = self._state
        if state.optimizer_depth:
            start, state.optimizer_from_ns = state.optimizer_from_ns, 0
            if start and state.closure_ran and self._recorder.with_phases and state.start_ns is not None:
                state.phases.extend((OPTIMIZER_PHASE.once, start - state.start_ns, now - start))
            return
        if state.stepped and state.implied and not state.boundary_ns:
            state.boundary_ns, state.mark, state.marks_before = now, len(state.phases), len(state.marks)
            if state.loader is None:
                self._recorder.next_marks()
        state.unusual = False

    def _split(self, now: int) -> None:
        """The same optimizer steps again, without a batch: what came after its last step is a step of its own."""
        state, phases = self._state, self._state.phases
        boundary, mark = (state.boundary_ns, state.mark) if state.boundary_ns else (now, len(phases))
        later, open_phases, in_backward = phases[mark:], list(state.starts), state.in_backward
        later[1::SLOT_FIELDS] = [start + (state.start_ns or 0) - boundary for start in later[1::SLOT_FIELDS]]
        del phases[mark:]
        state.cut = state.marks_before if state.boundary_ns else None
        self._close(boundary)
        state.cut = state.loader = None
        state.number += 1
        state.start_ns, state.implied, state.trained, state.in_backward = boundary, True, True, in_backward
        state.had_forward = any(what & 0xFF == FORWARD_PHASE.id for what in later[::SLOT_FIELDS])
        phases.extend(later)
        state.starts.extend(open_phases)
        if state.look:
            self._look()

    def _gradients_cleared(self) -> None:
        """A module's gradients are thrown away. If no optimizer ever stepped, the script has used them itself."""
        state, phases = self._state, self._state.phases
        if signals.optimizer_steps or not state.implied or not state.trained or get_ident() != state.thread:
            return
        if not state.by_hand:
            if state.stepped:  # a gradient scaler that has skipped every step so far
                return
            state.by_hand = True
            last = [index for index in range(0, len(phases), SLOT_FIELDS) if phases[index] == BACKWARD_PHASE.once]
            state.mark = last[-1] + SLOT_FIELDS if last else len(phases)
            if state.mark < len(phases):  # a batch has come since, and its samples are counted with the last one's
                state.boundary_ns = phases[state.mark + 1] + state.start_ns
                state.samples = state.tokens = MISSING
        elif BY_HAND not in state.stepped:
            return
        self._split(self._recorder.clock())
        state.trained = False

    def _many_phases(self) -> None:
        """So many phases in one step that they would fill memory: their times are kept, by name."""
        self._recorder.merge_now()
        self._state.mark = min(self._state.mark, len(self._state.phases))

    def _look(self) -> None:
        """The last step had no forward: let the hook find out what the models are."""
        state = self._state
        state.look, state.looking = False, True
        signals.look_for_models(True)

    def _claim(self) -> bool:
        """A backward on another thread: it is the training thread from now on, unless there is a step going on."""
        if self._state.start_ns is not None:
            return False
        self._recorder.claim()
        return True

    def _optimizer_skipped(self) -> None:
        """The gradient scaler found infinities: the optimizer does not step, but the step is over as if it had."""
        state = self._state
        if get_ident() == state.thread and state.start_ns is not None:
            state.step_flags |= SKIPPED
            if not state.implied:
                self._recorder.settle()

    def _between_steps(self) -> None:
        """A checkpoint, say, begins."""
        state = self._state
        if get_ident() != state.thread:
            return
        if state.stepped and state.implied:
            self._close(self._recorder.clock())
        if state.start_ns is None:
            self._recorder.interrupted()

    def _took(self, phase: scopes.Phase, start_ns: int, end_ns: int) -> None:
        """A part of the step is over that is known only now: one slot for what follows on one another."""
        state, phases = self._state, self._state.phases
        if state.start_ns is None or start_ns < state.start_ns or get_ident() != state.thread:
            return
        if not self._recorder.with_phases:
            return
        depth = len(state.starts) << DEPTH_SHIFT
        if phases and phases[-SLOT_FIELDS] & 0xFFFF == phase.id | depth:
            phases[-SLOT_FIELDS] += 1 << COUNT_SHIFT
            phases[-1] += end_ns - start_ns
        else:
            phases.extend((phase.once + depth, start_ns - state.start_ns, end_ns - start_ns))

    def give_way(self) -> None:
        """The script marks a step itself: the implied one ends here, and is the last."""
        state = self._state
        if state.implied and state.start_ns is not None:
            self._close(self._recorder.clock())
        state.explicit, state.implied, state.loader = True, False, None
        self._was_evaluation()
        self._end_evaluation()

    def finish(self, error: BaseException | None) -> None:
        """The run is over: the last step ended with its last phase; one that did not get there is no step.

        One that an exception ended is a failed step.
        """
        state, recorder = self._state, self._recorder
        self._was_evaluation()
        self._end_evaluation()
        if not state.implied or state.start_ns is None:
            return
        if error is not None and not state.stepped:
            self._step_failed(error)
        elif state.stepped:
            ends = map(sum, zip(state.phases[1::SLOT_FIELDS], state.phases[2::SLOT_FIELDS], strict=True))
            self._close(state.start_ns + max(ends) if state.phases else recorder.clock())

    def _step_failed(self, error: BaseException) -> None:
        """An exception left the training's loop: the step that was going on is over."""
        state, recorder = self._state, self._recorder
        if not state.implied or state.start_ns is None:
            return
        now = recorder.clock()
        if not state.stepped:
            attributes = error_type(error)
            recorder.sidelines.event(Event(ERROR, now, step=state.number, error=describe(error), attributes=attributes))
            state.step_flags |= FAILED
        self._close(now)

    # -- data and evaluation ---------------------------------------------------------------------------------------

    def _another_batch(self) -> None:
        """A batch comes while the one before it was not seen to be trained on."""
        state = self._state
        if get_ident() != state.thread:
            return
        if state.tried is not None:
            self._was_evaluation()
        if state.left_over:  # also the same iterator's: persistent workers begin again with it
            self._drop_left_over()

    def _loader_ended(self, iteration: object) -> None:
        state = self._state
        if get_ident() != state.thread or state.flags & EVALUATION:  # the evaluation has them when it is over
            return
        if state.tried is not None:
            self._was_evaluation()
        if state.start_ns is None:
            if iteration is not state.loader:
                self._recorder.loader_ended(iteration)
        elif state.implied and not state.trained and not state.stepped and iteration is state.loader:
            if state.had_forward:
                self._step_was_evaluation()
            else:  # it has asked for more than there is, with batches still in hand
                state.left_over, state.loader = iteration, None

    def _drop_left_over(self) -> None:
        """The loop was left with a batch in hand: its wait is no step's."""
        state = self._state
        state.left_over = None
        if state.start_ns is not None and not state.had_forward and not state.trained:
            start_ns, waits = state.start_ns, self._undo_step()
            attributes = {PHASE: DATA_WAIT, PHASE_COUNT: len(waits)}
            self._recorder.sidelines.span(PHASE_EVENT, start_ns, sum(waits), None, attributes)

    def _step_was_evaluation(self) -> None:
        """A loader ended without a backward since the step began: that was evaluation, with gradients left on."""
        state, phases = self._state, self._state.phases
        forwards = [what >> COUNT_SHIFT for what in phases[::SLOT_FIELDS] if what & 0xFF == FORWARD_PHASE.id]
        start_ns = state.start_ns or 0
        waits = self._undo_step()
        state.evaluation = [start_ns, self._recorder.clock(), sum(forwards), sum(waits)]
        self._end_evaluation()

    def _undo_step(self) -> list[int]:
        """The step that began is none; returns its waits for data in ns."""
        state, phases = self._state, self._state.phases
        slots = range(0, len(phases), SLOT_FIELDS)
        waits = [phases[slot + 2] for slot in slots if phases[slot] & 0xFF == scopes.DATA_WAIT_PHASE.id]
        state.number -= 1
        state.start_ns = None
        state.samples = state.tokens = MISSING
        phases.clear()
        state.starts.clear()
        state.step_flags &= PROFILED
        self._forget()
        return waits

    def _evaluation(self) -> Functions:
        recorder, state, clock, failed = self._recorder, self._state, self._recorder.clock, self._failed

        def evaluation_began() -> None:
            try:
                now = clock()
                if get_ident() != state.thread or state.explicit or state.flags & EVALUATION:
                    return
                if state.stepped and state.implied:
                    self._close(now)
                if state.start_ns is None and state.tried is None:  # inside a step it is a frozen model: a teacher
                    recorder.interrupted()
                    state.loader = None  # a batch no longer is the training's by itself
                    state.tried = [min(state.waits[1], now) if state.waits else now, now, 0]
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)

        def evaluation_ended() -> None:
            try:
                if state.tried is not None and state.start_ns is None and get_ident() == state.thread:
                    state.tried[LAST_END] = clock()
                    state.tried[COUNT] += 1
            except Exception as error:  # noqa: BLE001  the training goes on
                failed(error)

        return {"evaluation_began": evaluation_began, "evaluation_ended": evaluation_ended}

    def _was_evaluation(self) -> None:
        """The forwards without gradients since the last batch, and the waits for it, are evaluation."""
        state, waits = self._state, self._state.waits
        tried, state.tried = state.tried, None
        if tried is None:
            return
        if state.evaluation is None:
            state.evaluation = [tried[START], tried[LAST_END], 0, 0]
        state.evaluation[LAST_END] = tried[LAST_END]
        state.evaluation[COUNT] += tried[COUNT]
        state.evaluation[WAITED] += sum(waits[2::WAIT_FIELDS]) - sum(waits[1::WAIT_FIELDS])
        waits.clear()

    def _end_evaluation(self) -> None:
        evaluation, self._state.evaluation = self._state.evaluation, None
        if evaluation is not None:
            start, end, count, waited_ns = evaluation
            attributes = {EVALUATION_NAME: "validation", STEP_COUNT: count, WAIT_TIME: waited_ns / 1e9}
            self._recorder.sidelines.span(EVALUATION_KIND, start, end - start, None, attributes)
