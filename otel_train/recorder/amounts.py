"""How many samples or tokens a step says it has, as its record holds it."""

from typing import Any

from otel_train import guard
from otel_train.runlog.layout import LARGEST, MISSING


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
