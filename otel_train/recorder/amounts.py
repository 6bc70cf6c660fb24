"""How many samples or tokens a step says it has, as its record holds it."""

from typing import Any

from otel_train import guard
from otel_train.runlog.layout import LARGEST, MISSING

LARGEST_NUMBER = 2**63 - 1


def as_number(number: Any, last: int) -> int:
    """A step's number as the record holds it; one after ``last`` where it is none."""
    if type(number) is int and -LARGEST_NUMBER <= number <= LARGEST_NUMBER:
        return number
    on_device = getattr(getattr(number, "device", None), "type", "cpu") != "cpu"
    if not on_device and type(number) is not int and hasattr(number, "__index__"):
        return as_number(int(number), last)
    shown = f"a tensor on {number.device}" if on_device else repr(number)
    guard.warn_once("step number", "a step's number is a whole number on the host, got %s: counted on instead", shown)
    return last + 1


def as_amount(amount: Any) -> int:
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
