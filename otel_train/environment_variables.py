"""The variables of otel_train's own: ``opentelemetry-instrument`` makes an option of each (``--train_level``).

Not of secrets: everybody on a machine can read the arguments of a process.
"""

from dataclasses import fields

from otel_train.settings import SECRET, Settings

globals().update(
    {
        setting.metadata["variable"]: setting.metadata["variable"]
        for setting in fields(Settings)
        if setting.metadata["variable"].startswith("OTEL_TRAIN_") and setting.name not in SECRET
    }
)
