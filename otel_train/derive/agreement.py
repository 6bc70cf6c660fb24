"""Do the ranks of a run, or several runs, say the same of what they are? Where not, it is said in plain sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

MODEL, WORLD_SIZE, CPU, GPUS = "service name", "world size", "CPU", "GPUs"
HARDWARE = (CPU, GPUS)
SOFTWARE = ("otel_train", "python", "torch", "cuda")
GIT, CHANGES, SETTING = "git commit", "uncommitted changes", "setting "

OF_ONE_RANK = ("run_id", "dir", "service_name")
"""Settings that say where and under which name, and change nothing of the training or the record."""

MOST_NAMED = 8
"""So many ranks are named; of more it is said how many there are."""


def facts(identity: Mapping[str, Any]) -> dict[str, str]:
    """What ``run.json`` says of program, versions, machine and settings, as words; what it does not say is left out."""
    hardware, software = identity.get("hardware") or {}, identity.get("software") or {}
    git = identity.get("git") or {}
    told = {
        MODEL: identity.get("service_name"),
        WORLD_SIZE: identity.get("world_size"),
        CPU: (hardware.get("cpu") or {}).get("model"),
        GPUS: ", ".join(sorted({str(gpu.get("model", "?")) for gpu in hardware.get("gpus") or ()})) or None,
        SOFTWARE[0]: identity.get("otel_train_version"),
        **{name: software.get(name) for name in SOFTWARE[1:]},
        GIT: str(git["commit"])[:12] if git.get("commit") else None,
        CHANGES: git.get("dirty"),
    }
    settings = identity.get("settings") or {}
    told |= {f"{SETTING}{name}": value for name, value in settings.items() if name not in OF_ONE_RANK}
    return {name: str(value) for name, value in told.items() if value is not None}


def differing(members: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, list[str]]]:
    """By fact the members that give each value, where two that know it differ."""
    values: dict[str, dict[str, list[str]]] = {}
    for member, known in members.items():
        for name, value in known.items():
            values.setdefault(name, {}).setdefault(value, []).append(member)
    return {name: by_value for name, by_value in values.items() if len(by_value) > 1}


def rank_disagreements(identities: Mapping[int, Mapping[str, Any]]) -> tuple[str, ...]:
    """What the ranks of one run do not agree on, and which ranks there is no record of."""
    told = {str(rank): facts(identity) for rank, identity in identities.items()}
    sentences = [
        f"The ranks differ in {name}: {_who_says_what(by_value, 'rank')}." for name, by_value in differing(told).items()
    ]
    return (*_missing(identities), *sentences)


def run_disagreements(identities: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """What several runs (by their ids) do not agree on: a sentence for each fact but the world size.

    A run whose own ranks differ counts with all their values: ``A, B``.
    """
    told = {run: _together([facts(each) for each in of_ranks]) for run, of_ranks in identities.items()}
    return {
        name: f"The runs differ in {name}: {_who_says_what(by_value, 'run')}."
        for name, by_value in differing(told).items()
        if name != WORLD_SIZE
    }


def missing_ranks(identities: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """The ranks that the world size promises and no record is there of."""
    sizes = [int(identity["world_size"]) for identity in identities.values() if identity.get("world_size")]
    return sorted(set(range(max(sizes, default=0))) - set(identities))


def _missing(identities: Mapping[int, Mapping[str, Any]]) -> list[str]:
    missing = missing_ranks(identities)
    if not missing:
        return []
    size = len(missing) + len(identities)
    return [
        f"The world size is {size}, but {len(identities)} ranks are recorded here: {_listed(missing)} missing. "
        "Sums are of the recorded ranks only."
    ]


def _together(ranks: Sequence[Mapping[str, str]]) -> dict[str, str]:
    names = dict.fromkeys(name for known in ranks for name in known)
    return {name: ", ".join(sorted({known[name] for known in ranks if name in known})) for name in names}


def _who_says_what(by_value: Mapping[str, Sequence[str]], noun: str) -> str:
    return "; ".join(f"{value} ({_named(members, noun)})" for value, members in by_value.items())


def _named(members: Sequence[str], noun: str) -> str:
    if len(members) > MOST_NAMED:
        return f"{len(members)} {noun}s"
    return f"{noun}{'' if len(members) == 1 else 's'} {', '.join(members)}"


def _listed(ranks: Sequence[int]) -> str:
    return f"{_named([str(rank) for rank in ranks], 'rank')} {'is' if len(ranks) == 1 else 'are'}"
