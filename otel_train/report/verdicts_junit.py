"""Verdicts on requirements as JUnit's XML, which CI systems read: a test case each.

The elements and attributes are those of the schema that Jenkins' xUnit plugin checks files by (``junit-10.xsd``), which
GitLab, GitHub's actions, Azure and CircleCI read too. A FAIL is a failure; NO DATA is an error and not a skipped test:
nobody would look at that.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from xml.etree import ElementTree

from otel_train.derive.summary import RunSummary
from otel_train.report.verdicts import finding, heading
from otel_train.requirements.judging import FAIL, NO_DATA, Verdict

SUITE = "otel_train.requirements"
NOT_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""Characters that no XML may have (XML 1.0, 2.2)."""


def junit(verdicts: Sequence[Verdict], run: RunSummary) -> bytes:
    """The file's content."""
    counts = {
        "tests": str(len(verdicts)),
        "failures": str(sum(verdict.outcome == FAIL for verdict in verdicts)),
        "errors": str(sum(verdict.outcome == NO_DATA for verdict in verdicts)),
    }
    root = ElementTree.Element("testsuites", {"name": SUITE, **counts})
    suite = _add(root, "testsuite", name=SUITE, **counts, skipped="0", timestamp=_moment(run), hostname=_host(run))
    properties = _add(suite, "properties")
    for name, value in (("run_id", run.run_id), ("state", run.state), ("path", run.path)):
        _add(properties, "property", name=name, value=value)
    for verdict in verdicts:
        _add_case(suite, verdict)
    _add(suite, "system-out").text = _allowed(heading(run))
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _add_case(suite: ElementTree.Element, verdict: Verdict) -> None:
    requirement, found = verdict.requirement, finding(verdict)
    case = _add(suite, "testcase", classname=SUITE, name=requirement.name)
    told = f"{requirement.name}: expected {requirement.expected}, got {found}\n{requirement.place}"
    if verdict.outcome == FAIL:
        _add(case, "failure", type=FAIL, message=f"expected {requirement.expected}, got {found}").text = _allowed(told)
    elif verdict.outcome == NO_DATA:
        message = f"expected {requirement.expected}, no data: {found}"
        _add(case, "error", type=NO_DATA, message=message).text = _allowed(f"{message}\n{requirement.place}")
    else:
        _add(case, "system-out").text = _allowed(told)


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    allowed = {key: _allowed(value) for key, value in attributes.items() if value}
    return ElementTree.SubElement(parent, tag, allowed)


def _allowed(text: str) -> str:
    return re.sub(NOT_XML, "\N{REPLACEMENT CHARACTER}", text)


def _moment(run: RunSummary) -> str:
    return datetime.fromtimestamp(run.started_unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _host(run: RunSummary) -> str:
    return str(run.identities[min(run.identities)].get("process", {}).get("host", ""))
