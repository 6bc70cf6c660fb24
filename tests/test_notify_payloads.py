"""What each service is sent: its shape, its documented limits, and that nothing in a text is taken for a command."""

import json
import math
from pathlib import Path

import pytest
from notify_servers import notification

from otel_train.alerts.notify import discord, slack, teams
from otel_train.alerts.notify.document import document, encoded
from otel_train.alerts.notify.wording import length, one_line, plain_text, shortened, title

LONG = {
    name: {"summary": text, "advice": text, "rule": text, "label": text, "run_id": text, "host": text}
    for name, text in {
        "ascii": "long " * 20_000,
        "emoji": "🔥" * 50_000,
        "chinese": "训练" * 50_000,
        "escapes": "&<*_" * 30_000,
        "half a pair": "\ud800" * 50_000,
        "control characters": "\x00\x1b[31m\r\n" * 9_000,
        "empty": "",
    }.items()
}


@pytest.mark.parametrize("texts", LONG.values(), ids=LONG)
def test_slack_limits(texts):
    """Header 150, sections 3000, at most 10 fields of 2000, text 4000, all blocks far from 13,000; none is empty."""
    body = json.loads(encoded(slack.payload(notification(**texts))))
    header, *sections, fields = body["blocks"]
    assert ("header", "plain_text") == (header["type"], header["text"]["type"])
    assert 0 < length(header["text"]["text"]) <= 150
    assert all(0 < length(section["text"]["text"]) <= 3000 for section in sections)
    assert 0 < len(fields["fields"]) <= 10
    assert all(field["type"] == "mrkdwn" and 0 < length(field["text"]) <= 2000 for field in fields["fields"])
    assert 0 < length(body["text"]) <= 4000
    assert len(json.dumps(body["blocks"], ensure_ascii=False)) < 13_000


@pytest.mark.parametrize("texts", LONG.values(), ids=LONG)
def test_discord_limits(texts):
    """Title 256, description 4096, 25 fields of 256 and 1024, all together 6000; nobody is mentioned."""
    body = json.loads(encoded(discord.payload(notification(**texts))))
    (embed,) = body["embeds"]
    parts = [embed["title"], embed["description"], *(one[key] for one in embed["fields"] for key in ("name", "value"))]
    assert length(embed["title"]) <= 256
    assert length(embed["description"]) <= 4096
    assert len(embed["fields"]) <= 25
    assert all(0 < length(one["name"]) <= 256 and 0 < length(one["value"]) <= 1024 for one in embed["fields"])
    assert sum(map(length, parts)) <= 6000
    assert {"parse": []} == body["allowed_mentions"]


@pytest.mark.parametrize("texts", LONG.values(), ids=LONG)
def test_teams_limits(texts):
    """The message stays below 21 KB in UTF-8 and in UTF-16, of the 28 KB that are documented."""
    content = encoded(teams.payload(notification(**texts)))
    assert len(content) < 21_000
    assert 2 * length(content.decode()) < 28_000


def test_slack_message():
    """Heading, sentences and facts, and a text for pop-ups."""
    body = slack.payload(notification())
    assert {
        "text": "🟠 WARNING: gpu_idle (GPU 2) in run run-7: The GPU was used 31 % for 5 minutes.",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "🟠 WARNING: gpu_idle (GPU 2) in run run-7"}},
            {"type": "section", "text": {"type": "plain_text", "text": "The GPU was used 31 % for 5 minutes."}},
            {"type": "section", "text": {"type": "plain_text", "text": "It waits for the input: raise num_workers."}},
            {
                "type": "section",
                "fields": [
                    {"type": "mrkdwn", "text": "*Run*\nrun-7"},
                    {"type": "mrkdwn", "text": "*Rank*\n0"},
                    {"type": "mrkdwn", "text": "*Host*\nnode-3"},
                    {"type": "mrkdwn", "text": "*About*\nGPU 2"},
                    {"type": "mrkdwn", "text": "*Step*\n1200"},
                    {"type": "mrkdwn", "text": "*Value*\n0.31"},
                    {"type": "mrkdwn", "text": "*Threshold*\n0.5"},
                    {"type": "mrkdwn", "text": "*Time*\n2026-09-21T14:13:20+00:00"},
                ],
            },
        ],
    } == body


def test_slack_calls_nobody():
    """``<!channel>`` in a text is a text; a cut leaves no half of an escaped character."""
    assert "&lt;!channel&gt;" in json.dumps(slack.payload(notification(summary="<!channel> look")))
    for count in range(2990, 3001):
        text = slack.payload(notification(summary="a" * count + "&&&&"))["blocks"][1]["text"]["text"]
        assert "" == text.lstrip("a").replace("&amp;", "").removesuffix("…")


def test_discord_message():
    """One embed, with severity as its colour; a resolved one is green and says so."""
    (embed,) = discord.payload(notification(severity="critical"))["embeds"]
    assert ("CRITICAL: gpu\\_idle (GPU 2) in run run-7", 0xE74C3C) == (embed["title"], embed["color"])
    assert (
        "The GPU was used 31 % for 5 minutes.\n\nIt waits for the input: raise num\\_workers." == embed["description"]
    )
    assert {"name": "Rank", "value": "0", "inline": True} in embed["fields"]
    assert "2026-09-21T14:13:20+00:00" == embed["timestamp"]
    (embed,) = discord.payload(notification(severity="critical", resolved=True))["embeds"]
    assert ("RESOLVED: gpu\\_idle (GPU 2) in run run-7", 0x2ECC71) == (embed["title"], embed["color"])


def test_teams_message():
    """An Adaptive Card in a message, as Workflows takes it."""
    body = teams.payload(notification())
    (attachment,) = body["attachments"]
    card = attachment["content"]
    assert ("message", "application/vnd.microsoft.card.adaptive") == (body["type"], attachment["contentType"])
    assert ("AdaptiveCard", "1.4") == (card["type"], card["version"])
    heading, summary, advice, facts = card["body"]
    assert [{
        "type": "TextRun", "text": "WARNING: gpu_idle (GPU 2) in run run-7", "size": "Large", "weight": "Bolder",
        "color": "Warning",
    }] == heading["inlines"]  # fmt: skip
    assert "The GPU was used 31 % for 5 minutes." == summary["inlines"][0]["text"]
    assert "It waits for the input: raise num_workers." == advice["inlines"][0]["text"]
    assert {"title": "Step", "value": "1200"} in facts["facts"]


def test_json_document():
    """Every field by its name, with version, state and time; what is not known is null."""
    assert {
        "version": 1,
        "source": "otel_train",
        "status": "firing",
        "time": "2026-09-21T14:13:20+00:00",
        "rule": "gpu_idle",
        "severity": "warning",
        "resolved": False,
        "summary": "The GPU was used 31 % for 5 minutes.",
        "advice": "",
        "unix_s": 1_790_000_000.0,
        "run_id": "run-7",
        "rank": 0,
        "host": "node-3",
        "label": "",
        "step": None,
        "value": None,
        "threshold": 0.5,
        "extra": {"bound_by": "input"},
    } == document(notification(advice="", label="", step=None, value=None))


def test_json_of_numbers_that_json_has_not():
    """A loss that is NaN is the word; numpy's numbers are numbers; of any other thing the type's name stands there."""
    numpy = pytest.importorskip("numpy")
    extra = {"a": numpy.float32(0.5), "b": numpy.int64(3), "c": [-math.inf, Path("x")], "d": object(), 5: "\ud800"}
    read = json.loads(encoded(document(notification(value=math.nan, extra=extra))))
    assert ("NaN", {"a": 0.5, "b": 3, "c": ["-Infinity", "x"], "d": "(object)", "5": "?"}) == (
        read["value"], read["extra"]
    )  # fmt: skip


def test_what_is_not_known_is_left_out():
    """No step and no value are no fact, and no zero."""
    body = json.dumps(slack.payload(notification(step=None, value=None, threshold=None, label="")))
    assert [] == [name for name in ("Step", "Value", "Threshold", "About", "None") if name in body]


def test_words():
    """Titles have one line; a cut text ends in an ellipsis and splits no character; e-mails have all of it."""
    assert "WARNING: a b in run run-7" == title(notification(rule="a\r\nb", label=""))
    assert "x y" == one_line("\x1b x\r\n\ty ")
    assert ("abc", "ab…", "🔥…") == (shortened("abc", 3), shortened("abcd", 3), shortened("🔥🔥", 3))
    assert "…" == shortened("🔥🔥", 2)
    assert "The GPU was used 31 % for 5 minutes.\n\nIt waits" == plain_text(notification())[:46]
    assert "Threshold: 0.5\nTime: 2026-09-21T14:13:20+00:00\n" == plain_text(notification())[-47:]
