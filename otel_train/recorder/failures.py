"""An exception as the record has it."""

from otel_train.names import ERROR_TYPE


def describe(error: BaseException) -> dict[str, str]:
    """The exception as an event holds it: qualified type and the beginning of its message."""
    return {"type": type_name(error), "message": str(error)[:1000]}


def type_name(error: BaseException) -> str:
    """``ValueError``, ``torch.OutOfMemoryError``: the value of ``error.type``."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def error_type(error: BaseException) -> dict[str, str]:
    """The attribute that says which kind of exception it was."""
    return {ERROR_TYPE: type_name(error)}
