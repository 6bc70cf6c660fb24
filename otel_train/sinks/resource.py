"""The resource: what stays the same for the whole run, from ``run.json``. Missing is missing."""

import os
from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.sdk.version import __version__ as sdk_version

from otel_train import names
from otel_train.identity import identify
from otel_train.sinks.spans import attribute_value

DESCRIBED = ("hardware", "software", "git", "launcher")
"""Parts of ``run.json`` that are told as ``dl.<part>.<key>``, whatever keys they have."""


def make_resource(identity: dict[str, Any]) -> Resource:
    """The resource of a rank. What the user set in ``OTEL_RESOURCE_ATTRIBUTES`` wins over what we found out."""
    process = identity.get("process", {})
    found = {
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sdk_version,
        "telemetry.distro.name": "otel_train",
        "telemetry.distro.version": identity.get("otel_train_version"),
        "service.name": identity.get("service_name", "otel_train"),
        "service.instance.id": f"{identity['run_id']}-rank{identity['rank']}",
        "host.name": process.get("host"),
        "process.pid": process.get("pid"),
        "process.runtime.version": identity.get("software", {}).get("python"),
    }
    for part in DESCRIBED:
        found |= dict(_flat(f"{names.PREFIX}{part}", identity.get(part, {})))
    found |= identity.get("resource_attributes", {})
    chosen_name = identity.get("settings", {}).get("service_name")
    found |= {"service.name": chosen_name} if chosen_name else {}
    for name in (names.RANK, names.LOCAL_RANK, names.WORLD_SIZE):
        found[name] = identity.get(name.removeprefix(names.PREFIX))
    found[names.RUN_ID] = identity["run_id"]
    return Resource({key: attribute_value(value) for key, value in found.items() if value is not None})


class TrainingResourceDetector(ResourceDetector):
    """For an application's own providers: the place of this process in its job, as the launcher says it.

    The run id is there where every rank finds it by itself, which a process on its own does not: it takes the time and
    chance, when its run begins.
    """

    def detect(self) -> Resource:
        """Rank, local rank, world size, the launcher's variables, and the run id."""
        given = os.environ.get("OTEL_TRAIN_RUN_ID")
        identity = identify(run_id=given)
        found: dict[str, Any] = {names.RANK: identity.rank, names.WORLD_SIZE: identity.world_size}
        found |= {names.LOCAL_RANK: identity.local_rank} if identity.local_rank is not None else {}
        found |= {names.RUN_ID: identity.run_id} if given or identity.world_size > 1 else {}
        found |= dict(_flat(f"{names.PREFIX}launcher", identity.launcher))
        return Resource(found)


def _flat(prefix: str, content: Any) -> Iterator[tuple[str, Any]]:
    """``{"cpu": {"count": 8}}`` as ``cpu.count``; of a list of mappings, a list for each key."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(f"{prefix}.{str(key).lower()}", value)
    elif isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        for key in dict.fromkeys(key for item in content for key in item):
            yield f"{prefix}.{key}", [item[key] for item in content if item.get(key) is not None]
    else:
        yield prefix, content
