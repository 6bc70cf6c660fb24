"""The functions of ``ImpliedSteps`` with a mark on the GPU at the edges of a step's own phases."""

from collections.abc import Callable
from threading import get_ident
from typing import Any

from otel_train.names import BACKWARD, FORWARD, OPTIMIZER
from otel_train.recorder import scopes
from otel_train.recorder.training_state import TrainingState

Functions = dict[str, Callable[..., Any]]


def marking(functions: Functions, state: TrainingState, mark: Callable[[int], None]) -> Functions:
    """Those of the functions that lie at an edge, each with its mark."""
    forward, backward = (_passes(functions, state, mark, name) for name in (FORWARD, BACKWARD))
    return {**forward, **backward, **_optimizer(functions, state, mark), **_data(functions, state, mark)}


def _passes(functions: Functions, state: TrainingState, mark: Callable[[int], None], name: str) -> Functions:
    began, ended, starts = functions[f"{name}_began"], functions[f"{name}_ended"], state.starts
    begin = scopes.phase(name).id << 1
    optimizer = scopes.phase(OPTIMIZER).id << 1

    def marked_began() -> bool:
        if state.optimizer_depth and state.optimizer_from_ns and state.closure_ran and not starts:
            mark(optimizer | 1)  # a closure that evaluates the model again: LBFGS
        told: bool = began()
        if told and len(starts) == 1:
            mark(begin)
        return told

    def marked_ended() -> None:
        if len(starts) == 1:
            mark(begin | 1)
        ended()
        if state.optimizer_depth and state.optimizer_from_ns:  # a closure: from here on it is the optimizer's own time
            mark(optimizer)

    return {f"{name}_began": marked_began, f"{name}_ended": marked_ended}


def _optimizer(functions: Functions, state: TrainingState, mark: Callable[[int], None]) -> Functions:
    began, ended, starts = functions["optimizer_began"], functions["optimizer_ended"], state.starts
    begin = scopes.phase(OPTIMIZER).id << 1

    def marked_began(optimizer: object) -> None:
        began(optimizer)
        if state.optimizer_depth == 1 and state.optimizer_from_ns and not starts and get_ident() == state.thread:
            mark(begin)

    def marked_ended(optimizer: object) -> None:
        if state.optimizer_depth == 1 and state.optimizer_from_ns and not starts and get_ident() == state.thread:
            mark(begin | 1)
        ended(optimizer)

    return {"optimizer_began": marked_began, "optimizer_ended": marked_ended}


def _data(functions: Functions, state: TrainingState, mark: Callable[[int], None]) -> Functions:
    asked, came, begin = functions["batch_asked"], functions["batch_came"], scopes.DATA_WAIT_PHASE.id << 1

    def marked_asked() -> int:
        start_ns: int = asked()
        if get_ident() == state.thread:
            mark(begin)
        return start_ns

    def marked_came(*wait: Any) -> None:
        came(*wait)
        if get_ident() == state.thread:
            mark(begin | 1)

    return {"batch_asked": marked_asked, "batch_came": marked_came}
