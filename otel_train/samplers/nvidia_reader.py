"""Asks NVML about one device, and remembers what that device does not have."""

from typing import Any, TypeAlias

Question: TypeAlias = tuple[Any, ...]
"""The name of a function of ``pynvml``, and its arguments after the device."""

ALL_LINKS = 0xFFFFFFFF
"""The scope of a field that adds up all NVLinks."""


class NvmlReader:
    """One device's values, of the module ``pynvml`` and a device handle of it.

    What the device, the driver or the bindings do not have (``NotSupported`` and the like) is not asked for again. Any
    other failure is kept in ``trouble`` and the value is missing this once; a device that is gone raises.
    """

    def __init__(self, library: Any, handle: Any) -> None:
        self.library = library
        self.handle = handle
        self.trouble: Exception | None = None
        self._lacks: set[Question] = set()
        self._answers: dict[Question, Any] = {}
        self._gone = _codes(library, GONE)
        self._never = _codes(library, NEVER)

    def ask(self, *question: Any) -> Any:
        """What the function returns for this device; None where there is no answer."""
        if question in self._lacks:
            return None
        function = getattr(self.library, question[0], None)
        if function is None:  # bindings older than the function
            self._lacks.add(question)
            return None
        try:
            return function(self.handle, *question[1:])
        except self.library.NVMLError as error:
            self._note(error, question)
            return None

    def ask_once(self, *question: Any) -> Any:
        """The same for what does not change: asked until there is an answer."""
        if question not in self._answers and (answer := self.ask(*question)) is not None:
            self._answers[question] = answer
        return self._answers.get(question)

    def ask_first(self, *questions: Question) -> Any:
        """The answer to the first question that this device, driver and bindings know."""
        for question in questions:
            answer = self.ask(*question)
            if question not in self._lacks:
                return answer
        return None

    def constant(self, name: str) -> Any:
        """A constant of the bindings; None where they are older."""
        return getattr(self.library, name, None)

    def fields(self, name: str, scopes: tuple[int, ...] = (0,)) -> float | None:
        """The sum of a field's values over its scopes (NVLinks) that have one; None where none has."""
        question = ("fields", name, scopes)
        field = self.constant(name)
        if field is None or question in self._lacks:
            return None
        call = ("nvmlDeviceGetFieldValues", tuple((field, scope) for scope in scopes))
        values = self.ask(*call)
        if values is None:
            self._lacks |= {question} if call in self._lacks else set()
            return None
        found = [self._number(value) for value in values if value.nvmlReturn == self.library.NVML_SUCCESS]
        if not found:
            self._note(self.library.NVMLError(values[0].nvmlReturn), question)
        return sum(found) if found else None

    def lacks_fields(self, name: str, scopes: tuple[int, ...] = (0,)) -> bool:
        """Whether ``fields`` would never give a value."""
        return self.constant(name) is None or ("fields", name, scopes) in self._lacks

    def _number(self, value: Any) -> float:
        kinds = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # in the order of NVML_VALUE_TYPE_*
        return float(getattr(value.value, kinds[value.valueType]))

    def _note(self, error: Any, question: Question) -> None:
        if error.value in self._gone:
            raise error
        if error.value in self._never:
            self._lacks.add(question)
        else:
            self.trouble = error


GONE = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "GPU_IS_LOST", "LIB_RM_VERSION_MISMATCH", "GPU_NOT_FOUND")
"""The device or its driver is no longer there."""

NEVER = (
    "NOT_SUPPORTED",
    "FUNCTION_NOT_FOUND",  # a driver older than the function
    "ARGUMENT_VERSION_MISMATCH",
    "INVALID_ARGUMENT",
    "NO_PERMISSION",
    "VGPU_ECC_NOT_SUPPORTED",
    "DEPRECATED",
)
"""Asking again gives the same."""


def _codes(library: Any, names: tuple[str, ...]) -> set[int]:
    codes = (getattr(library, f"NVML_ERROR_{name}", None) for name in names)
    return {code for code in codes if code is not None}
