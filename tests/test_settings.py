"""Settings: where each comes from, what is allowed, and the words when it is not."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_train.errors import SettingsError
from otel_train.setting_values import UNITS, pairs, size
from otel_train.settings import Settings, explain, load, load_with_sources, recordable, table

DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"


def test_code_beats_environment_beats_file_beats_preset_beats_default(tmp_path):
    """Each layer overrides the one below it, setting by setting."""
    file = tmp_path / "settings.yaml"
    file.write_text("level: steps\nslow_factor: 3\nmax_disk: 1GiB\nprogress: off\npreset: full_monitoring\n")
    environ = {"OTEL_TRAIN_CONFIG": str(file), "OTEL_TRAIN_SLOW_FACTOR": "4", "OTEL_TRAIN_MAX_DISK": "2GiB"}
    loaded = load_with_sources({"max_disk": "3GiB"}, environ)
    settings, sources = loaded.settings, loaded.sources
    assert ("steps", 4.0, 3 << 30, False) == (
        settings.level, settings.slow_factor, settings.max_disk, settings.progress
    )  # fmt: skip
    assert (str(file), "OTEL_TRAIN_SLOW_FACTOR", "code", "default") == tuple(
        sources[name] for name in ("level", "slow_factor", "max_disk", "run_id")
    )


def test_preset_turns_on_what_there_is():
    """``full_monitoring`` sets what nobody set otherwise."""
    assert load({}, {"OTEL_TRAIN_PRESET": "full_monitoring"}).progress is True
    assert load({"progress": False}, {"OTEL_TRAIN_PRESET": "full_monitoring"}).progress is False


def test_standard_variables():
    """OpenTelemetry's variables have their specified meaning and units."""
    environ = {
        "OTEL_SERVICE_NAME": "gpt",
        "OTEL_RESOURCE_ATTRIBUTES": "team=research,note=a%20b",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x",
        "OTEL_METRIC_EXPORT_INTERVAL": "2500",
    }
    settings = load({}, environ)
    assert ("gpt", {"team": "research", "note": "a b"}, "http://collector:4318", 2.5) == (
        settings.service_name, settings.resource_attributes, settings.endpoint, settings.metric_interval_s
    )  # fmt: skip
    assert {"authorization": "Bearer x"} == settings.headers


def test_sdk_disabled_turns_it_off():
    """OTEL_SDK_DISABLED=true records nothing, unless OTEL_TRAIN_ENABLED asks for it."""
    assert load({}, {"OTEL_SDK_DISABLED": "true"}).enabled is False
    assert load({}, {"OTEL_SDK_DISABLED": "true", "OTEL_TRAIN_ENABLED": "1"}).enabled is True
    assert load({}, {"OTEL_SDK_DISABLED": "anything"}).enabled is True


@pytest.mark.parametrize(
    ("given", "environ", "words"),
    [
        ({"level": "everything"}, {}, ["init(level=…) is 'everything'", "off or steps or phases"]),
        ({}, {"OTEL_TRAIN_LEVEL": "all"}, ["OTEL_TRAIN_LEVEL is 'all'", "Change or remove OTEL_TRAIN_LEVEL"]),
        ({}, {"OTEL_TRAIN_ENABLED": "maybe"}, ["'maybe'", "true or false"]),
        ({}, {"OTEL_TRAIN_MAX_DISK": "lots"}, ["'lots'", "512MiB"]),
        ({}, {"OTEL_TRAIN_MAX_DISK": "1kB"}, ["'1kB'", "at least 16MiB"]),
        ({"keep_every": 0}, {}, ["auto, or a whole number from 1"]),
        ({"slow_factor": 1}, {}, ["above 1"]),
        ({"endpoint": "localhost:4318"}, {}, ["'localhost:4318'", "Try http://localhost:4318"]),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"}, ["'ftp://x'", "http:// or https://"]),
        ({"total_steps": "auto"}, {}, ["a whole number from 1"]),
        ({"metric_interval_s": "inf"}, {}, ["seconds, more than 0"]),
        ({"run_id": "a/b"}, {}, ["letters, digits"]),
        ({"colour": "red"}, {}, ["'colour'", "allowed are", "service_name"]),
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, ["http/protobuf or grpc"]),
        ({}, {"OTEL_TRAIN_CONFIG": "/nowhere.yaml"}, ["/nowhere.yaml", "cannot be read"]),
    ],
    ids=str,
)
def test_a_wrong_setting_says_what_to_do(given, environ, words):
    """The error says what was got, what is allowed and what to change."""
    with pytest.raises(SettingsError) as caught:
        load(given, environ)
    for word in words:
        assert word in str(caught.value)


def test_yaml_off_and_empty(tmp_path):
    """YAML reads ``off`` as false; an empty key is not given."""
    file = tmp_path / "settings.yaml"
    file.write_text("level: off\nprogress:\n")
    assert ("off", False) == (load({}, {"OTEL_TRAIN_CONFIG": str(file)}).level, load({}, {}).progress)


@pytest.mark.parametrize(
    ("content", "word"),
    [("levle: steps", "'levle'"), ("- a", "mapping"), ("level: [", "YAML"), ("level: loud", "level in")],
)
def test_a_wrong_file(tmp_path, content, word):
    """A file with an unknown key, another shape, broken YAML or a wrong value is refused by name."""
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"settings\.yaml") as caught:
        load({}, {"OTEL_TRAIN_CONFIG": str(file)})
    assert word in str(caught.value)


def test_secrets_are_hidden():
    """A header's value is in no error, no explanation and no record."""
    loaded = load_with_sources({"headers": {"authorization": "secret-token"}}, {})
    assert "secret-token" not in str(explain(loaded)) + str(recordable(loaded.settings))
    with pytest.raises(SettingsError) as caught:
        load({"headers": "secret-token"}, {})
    assert "secret-token" not in str(caught.value)


def test_settings_are_frozen():
    """Nothing changes them after they were loaded."""
    with pytest.raises(AttributeError):
        load({}, {}).level = "off"


@given(number=st.integers(1, 1 << 20), unit=st.sampled_from(sorted(UNITS)), suffix=st.sampled_from(["", "B", "b"]))
def test_sizes(number, unit, suffix):
    """A size is its number times its unit, decimal or binary, or refused when it is too small."""
    expected = number * UNITS[unit]
    if expected < 16 << 20:
        with pytest.raises(ValueError, match="16MiB"):
            size(f"{number}{unit}{suffix}")
    else:
        assert expected == size(f"{number} {unit.upper()}{suffix}")


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)


@given(st.dictionaries(names, names))
def test_pairs(mapping):
    """Key-value lists are read as they were written."""
    assert mapping == pairs(",".join(f"{key}={value}" for key, value in mapping.items()))


def test_document_is_generated():
    """docs/settings.md holds the table of the settings as they are."""
    assert table() in DOCUMENT.read_text()


def test_every_setting_is_documented():
    """Each field has a variable, a parser and a sentence."""
    for name, field in Settings.__dataclass_fields__.items():
        assert field.metadata["doc"].endswith("."), name
        assert callable(field.metadata["parse"])
        assert field.metadata["variable"].startswith("OTEL_")


def test_wrong_variable_stops_the_program_at_init():
    """A wrong setting in the environment is an error at ``init()``, not a silent default."""
    program = "import otel_train; otel_train.init()"
    environ = {"OTEL_TRAIN_LEVEL": "loud", "PYTHONPATH": str(DOCUMENT.parent.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert 1 == done.returncode
    assert "OTEL_TRAIN_LEVEL is 'loud'; allowed is off or steps or phases" in done.stderr
