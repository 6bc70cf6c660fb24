"""The errors that otel_train raises, all of them before or outside training.

::

    OtelTrainError
    ├── SettingsError         a setting is wrong: what was got, what is allowed, what to type
    ├── AlreadyInitialized    init() a second time, with other settings
    ├── StackError            the local stack cannot be brought up: what is missing, and what to do
    ├── TuningError           nothing could be measured: a loader, a command or a job that fails, hangs or has nothing
    ├── UnknownMeasure        no measure has that name: which come near
    └── RunLogError           a run on disk cannot be read
        ├── UnknownFormat     written by another version of the format
        └── RunNotFound       no such run, or an ambiguous prefix

After ``init()`` nothing raises into the training: see ``guard``.
"""


class OtelTrainError(Exception):
    """Everything otel_train raises derives from this."""


class SettingsError(OtelTrainError, ValueError):
    """A setting has a value that is not allowed."""


class AlreadyInitialized(OtelTrainError, RuntimeError):
    """``init()`` was called again with other settings while a run was active."""


class StackError(OtelTrainError):
    """The local stack, or a part of it, cannot be had."""


class TuningError(OtelTrainError):
    """What was to be tuned could not be measured, or a run is being recorded."""


class UnknownMeasure(OtelTrainError, LookupError):
    """No measure of the catalogue has that name."""


class RunLogError(OtelTrainError):
    """A run log cannot be read."""


class UnknownFormat(RunLogError):
    """The run log has a format version that this reader does not know."""


class RunNotFound(RunLogError):
    """No run matches, or more than one does."""
