"""The errors that otel_train raises, all of them before or outside training.

::

    OtelTrainError
    ├── SettingsError         a setting is wrong: what was got, what is allowed, what to type
    ├── AlreadyInitialized    init() a second time, with other settings
    ├── StackError            the local stack cannot be brought up: what is missing, and what to do
    ├── BenchError            a benchmark cannot be run as asked: what is wrong in its matrix
    ├── TuningError           nothing could be measured: a loader, a command or a job that fails, hangs or has nothing
    ├── UnknownMeasure        no measure has that name: which come near
    ├── RequirementError      a file of requirements is wrong: where, what was got, what is allowed
    ├── GoalError             a goal to project to that is none: what is allowed
    ├── ComparisonError       runs cannot be compared as they are, or a file of baselines cannot be used
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


class BenchError(OtelTrainError, ValueError):
    """A benchmark cannot be run as asked."""


class TuningError(OtelTrainError):
    """What was to be tuned could not be measured, or a run is being recorded."""


class UnknownMeasure(OtelTrainError, LookupError):
    """No measure of the catalogue has that name."""


class RequirementError(OtelTrainError, ValueError):
    """A file of requirements cannot be read, or a line of it is wrong."""


class GoalError(OtelTrainError, ValueError):
    """A goal is not an amount of samples, tokens, steps or epochs."""


class ComparisonError(OtelTrainError):
    """Two runs cannot be compared as they are, or a file of baselines cannot be read or has no such name."""


class RunLogError(OtelTrainError):
    """A run log cannot be read."""


class UnknownFormat(RunLogError):
    """The run log has a format version that this reader does not know."""


class RunNotFound(RunLogError):
    """No run matches, or more than one does."""
