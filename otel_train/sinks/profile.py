"""A profile's span: part of its step's trace, with the operators and kernels as its events."""

from collections.abc import Iterator
from typing import Any

from otel_train import names
from otel_train.runlog.events import Event

TABLES = {names.PROFILE_OPERATORS: names.OPERATOR_EVENT, names.PROFILE_KERNELS: names.KERNEL_EVENT}
ROWS = {*TABLES, names.PROFILE_SPANS}
COLUMNS = (
    names.OPERATOR_NAME,
    names.OPERATOR_CALLS,
    names.OPERATOR_SELF_TIME,
    names.OPERATOR_TOTAL_TIME,
    names.OPERATOR_DEVICE_TIME,
    names.OPERATOR_SHARE,
    names.OPERATOR_MEMORY,
    names.OPERATOR_SHAPES,
)
"""Of a row, in the order in which the log has it."""


def own_attributes(event: Event) -> dict[str, Any]:
    """The span's attributes: without the tables, each share one of its own."""
    shares = event.attributes.get(names.PROFILE_SHARES, {})
    return {
        **{key: value for key, value in event.attributes.items() if key not in ROWS and value is not shares},
        **{f"{names.PROFILE_SHARES}.{what}": share for what, share in shares.items()},
    }


def rows(event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
    """The span's events, the largest first: name and attributes. A time of zero is left out."""
    for table, name in TABLES.items():
        for row in event.attributes.get(table, ()):
            attributes = dict(zip(COLUMNS, row, strict=False))  # memory and shapes are not always recorded
            times = (names.OPERATOR_SELF_TIME, names.OPERATOR_TOTAL_TIME, names.OPERATOR_DEVICE_TIME)
            known = {key: value for key, value in attributes.items() if value is not None}
            yield name, {key: value for key, value in known.items() if value or key not in times}
