"""The variables of otel_train's own: ``opentelemetry-instrument`` makes an option of each (``--train_level``)."""

from dataclasses import fields

from otel_train.settings import Settings

globals().update(
    {
        setting.metadata["variable"]: setting.metadata["variable"]
        for setting in fields(Settings)
        if setting.metadata["variable"].startswith("OTEL_TRAIN_")
    }
)
