"""Puts ``otel_train.pth`` beside the package, in an editable install too: it is what OTEL_TRAIN_INSTRUMENT turns on."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PTH = "otel_train.pth"


class AutoloadHook(BuildHookInterface):
    """The one file of the wheel that is outside the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before each build; ``version`` is ``standard`` or ``editable``."""
        included = "force_include_editable" if version == "editable" else "force_include"
        build_data[included][f"{self.root}/{PTH}"] = PTH
