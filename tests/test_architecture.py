"""Imports follow the arrow of docs/design.md, and the house rules hold."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "otel_train"
FILES = sorted(PACKAGE.rglob("*.py"))


def place(path):
    """A file's place in the package: ``sinks/spans``."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imports(path):
    """The modules that a file imports anywhere in it, under type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


ALLOWED = {
    "torch": ("hooks/", "samplers/", "integrations/"),
    "psutil": ("samplers/", "stack/"),
    "pynvml": ("samplers/",),
    "opentelemetry": ("sinks/", "export/", "instrumentor"),
    "wrapt": ("instrumentation",),
    "pyarrow": ("tables",),
    "matplotlib": ("report/plot",),
    "mlflow": ("trackers/mlflow",),
    "tensorboard": ("trackers/tensorboard",),
    "bokeh": ("report/page/",),
    "jinja2": ("report/page/",),
    "requests": ("alerts/notify/", "stack/"),
    "yaml": ("settings", "alerts/rules", "alerts/prometheus", "requirements/reading"),
    "click": ("cli/",),
    "rich": ("report/", "cli/", "live"),
}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_stay_in_their_rooms(package):
    """Each third-party package is imported where the design has it and nowhere else."""
    users = {place(path) for path in FILES if any(name.split(".")[0] == package for name in imports(path))}
    strangers = {user for user in users if not user.startswith(ALLOWED[package])}
    assert set() == strangers
    if package != "torch":
        assert users, f"nobody imports {package}: take it out of the table, and out of pyproject.toml"


FORBIDDEN = [
    ("derive/", ("trackers", "sinks", "export", "hooks", "samplers", "session", "recorder", "report", "cli", "live")),
    ("runlog/", ("derive", "sinks", "export", "hooks", "samplers", "session", "recorder", "report", "cli", "settings")),
    ("hooks/", ("derive", "sinks", "export", "report", "cli", "session")),
    ("samplers/", ("derive", "sinks", "export", "report", "cli", "session", "hooks")),
    ("sinks/", ("export", "hooks", "samplers", "session", "recorder", "report", "cli")),
    ("alerts/", ("sinks", "export", "hooks", "samplers", "session", "recorder", "report", "cli")),
    ("export/", ("hooks", "samplers", "session", "recorder", "report", "cli")),
    ("trackers/", ("sinks", "export", "hooks", "samplers", "session", "recorder", "report", "cli", "live", "tracking")),
    ("profiles/", ("sinks", "export", "hooks", "samplers", "session", "recorder", "report", "cli", "live")),
    (
        "requirements/",
        ("sinks", "export", "hooks", "samplers", "session", "recorder", "report", "cli", "live", "alerts", "settings"),
    ),
    ("tuning/", ("sinks", "export", "session", "cli", "live")),
    ("report/", ("sinks", "export", "hooks", "samplers", "session", "recorder", "cli")),
    ("bench/", ("sinks", "export", "hooks", "session", "recorder", "report", "cli", "live")),
    ("bench/matrix", ("runlog", "samplers", "derive", "bench")),
    ("bench/judging", ("runlog", "samplers", "bench.running", "bench.state", "bench.reading")),
    ("recorder", ("derive", "sinks", "export", "report", "cli", "session")),
]


@pytest.mark.parametrize(("room", "others"), FORBIDDEN, ids=[room for room, _ in FORBIDDEN])
def test_imports_follow_the_arrow(room, others):
    """What comes later in the flow is not imported by what comes before it."""
    wrong = [
        (place(path), name)
        for path in FILES
        if place(path).startswith(room)
        for name in imports(path)
        if name.startswith(tuple(f"otel_train.{other}" for other in others))
    ]
    assert [] == wrong


def test_module_names_say_something():
    """No module is named for being useful."""
    names = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert set() == names & {"utils", "helpers", "common", "core", "base", "misc", "util"}


def test_broad_excepts_have_a_reason():
    """A broad ``except`` is rare, says why on its line, and never passes over in silence."""
    for path in FILES:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
            if broad:
                assert "BLE001  " in lines[node.lineno - 1], f"{place(path)}:{node.lineno}"
            assert not (broad and isinstance(node.body[0], ast.Pass)), f"{place(path)}:{node.lineno}"


def test_public_functions_have_docstrings():
    """Every module, class and public function says what it is."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        if tree.body:
            assert ast.get_docstring(tree), place(path)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node) or "overload" in ast.dump(node), f"{place(path)}:{node.name}"
