"""What is varied: factors, the cells that they span, and the order in which a round runs them."""

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from otel_train.errors import BenchError

ENVIRONMENT, ARGUMENT, PLACEHOLDER = "env", "arg", "vary"
"""Where a value goes: into an environment variable, behind the command, into its ``{name}``. The options' names."""


@dataclass(frozen=True)
class Setting:
    """One value of one factor."""

    kind: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@dataclass(frozen=True)
class Factor:
    """A name and the values that it is to take."""

    kind: str
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One value of each factor: what one run is started with."""

    settings: tuple[Setting, ...] = ()

    @property
    def label(self) -> str:
        """For a person: ``--batch-size=8 OMP_NUM_THREADS=2``."""
        return " ".join(map(str, self.settings)) or "the command as it is"

    def command(self, template: Sequence[str]) -> list[str]:
        """The command with its placeholders filled and its arguments added.

        An argument that is nothing but placeholders and comes out empty is left out: ``--vary flag=,--compile``.
        """
        filled = [(part, self._filled(part)) for part in template]
        command = [text for part, text in filled if text or not part]
        for setting in self.settings:
            if setting.kind == ARGUMENT:
                command += _as_arguments(setting)
        return command

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment with the cell's variables set."""
        return {**environ, **{each.name: each.value for each in self.settings if each.kind == ENVIRONMENT}}

    def _filled(self, part: str) -> str:
        for setting in self.settings:
            if setting.kind == PLACEHOLDER:
                part = part.replace(f"{{{setting.name}}}", setting.value)
        return part


def _as_arguments(setting: Setting) -> list[str]:
    """``--name=value`` and ``name=value`` as one argument; a short option and its value as two."""
    is_short = setting.name.startswith("-") and not setting.name.startswith("--")
    return [setting.name, setting.value] if is_short else [f"{setting.name}={setting.value}"]


def read_factors(kind: str, texts: Sequence[str]) -> list[Factor]:
    """Factors from ``NAME=VALUE,VALUE``; a value with a comma stands in double quotes, a name given twice adds values.

    Raises ``BenchError``.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not name or not equals:
            raise BenchError(f"got --{kind} {text!r}; allowed is NAME=VALUE,VALUE…, such as {EXAMPLES[kind]}")
        found.setdefault(name, []).extend(next(csv.reader([values], skipinitialspace=True), []) or [""])
    for name, given in found.items():
        twice = {value for value in given if given.count(value) > 1}
        if twice:
            raise BenchError(f"--{kind} {name} has the value {min(twice)!r} twice: each run is repeated by --repeat")
    return [Factor(kind, name, tuple(given)) for name, given in found.items()]


EXAMPLES = {
    ENVIRONMENT: "--env OMP_NUM_THREADS=1,2",
    ARGUMENT: "--arg --batch-size=8,16",
    PLACEHOLDER: "--vary batch_size=8,16",
}


OWN = ("OTEL_TRAIN_DIR", "OTEL_TRAIN_RUN_ID")


def check(factors: Sequence[Factor], template: Sequence[str]) -> None:
    """Raises ``BenchError`` where a name is given twice, or a ``{name}`` to be filled is not in the command."""
    names = [factor.name for factor in factors]
    for factor in factors:
        if factor.kind == ENVIRONMENT and factor.name in OWN:
            raise BenchError(f"{factor.name} is what a benchmark finds its runs by; it cannot be varied")
        if names.count(factor.name) > 1:
            raise BenchError(f"{factor.name} is varied in two ways; one of --env, --arg and --vary is enough")
        placeholder = f"{{{factor.name}}}"
        if factor.kind == PLACEHOLDER and not any(placeholder in part for part in template):
            raise BenchError(f"--vary {factor.name}: there is no {placeholder} in the command {' '.join(template)!r}")


def cells(factors: Sequence[Factor]) -> list[Cell]:
    """Every combination of the factors' values, the last factor's changing first; without a factor the one cell."""
    rows = product(*([Setting(factor.kind, factor.name, value) for value in factor.values] for factor in factors))
    return [Cell(tuple(row)) for row in rows]


def order(all_cells: Sequence[Cell], round_number: int, seed: int) -> list[Cell]:
    """The cells in the order of a round: shuffled, each round anew, the same for the same seed.

    Each round runs every cell once (a randomized block), so that what drifts from hour to hour hits all alike, and
    chance decides which cell comes after which.
    """
    return random.Random(f"{seed}/{round_number}").sample(list(all_cells), len(all_cells))
