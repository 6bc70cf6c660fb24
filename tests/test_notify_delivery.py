"""Threads and queues: one way that hangs or fails harms neither the caller nor the other ways."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from notify_servers import SECRET, Answer, WebhookServer, notification

from otel_train.alerts.notify import Delivery, DeliveryError, ways
from otel_train.errors import SettingsError
from otel_train.settings import explain, load, load_with_sources, recordable

ROOT = Path(__file__).parent.parent


class Kept:
    """A way that keeps what it is sent."""

    def __init__(self, name="kept"):
        self.name = name
        self.got = []
        self.arrived = threading.Event()

    def send(self, sent):
        self.got.append(sent)
        self.arrived.set()


class Hanging(Kept):
    """A way that does not return until it is let."""

    def __init__(self, name="hanging"):
        super().__init__(name)
        self.released = threading.Event()

    def send(self, sent):
        super().send(sent)
        self.released.wait()


class Failing(Kept):
    """A way that fails, in the manner that it is given."""

    def __init__(self, error):
        super().__init__("failing")
        self.error = error

    def send(self, sent):
        super().send(sent)
        raise self.error


def threads():
    """The threads that deliver."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("otel_train.notify")]


def test_every_way_gets_every_notification_in_order():
    """And ``close`` waits for what is queued."""
    first, second = Kept("first"), Kept("second")
    delivery = Delivery([first, second])
    sent = [notification(step=step) for step in range(20)]
    for one in sent:
        delivery.send(one)
    delivery.close(10)
    assert (sent, sent) == (first.got, second.got)
    assert ({"first": 20, "second": 20}, {}, {}) == (delivery.sent, delivery.failed, delivery.dropped)
    assert [] == threads()


def test_no_thread_before_the_first_notification():
    """A run that alerts to nobody, or of nothing, has none; and one is a daemon."""
    delivery = Delivery([Kept()])
    assert [] == threads()
    delivery.send(notification())
    assert [True] == [thread.daemon for thread in threads()]
    delivery.close(10)
    delivery.close(10)
    unused = Delivery([Kept()])
    unused.close(10)
    assert [] == threads()


def test_a_way_that_hangs_harms_nobody(caplog):
    """The caller goes on, the other way gets all of it, the oldest are dropped and counted, the end comes in time."""
    hanging, other = Hanging(), Kept()
    delivery = Delivery([hanging, other], queue=3)
    delivery.send(notification(step=0))
    assert hanging.arrived.wait(10)
    for step in range(1, 9):
        other.arrived.clear()
        delivery.send(notification(step=step))
        assert other.arrived.wait(10)
    assert 5 == delivery.dropped["hanging"]
    start = time.monotonic()
    delivery.close(0.2)
    assert time.monotonic() - start < 5
    assert (list(range(9)), [0], 8) == (
        [one.step for one in other.got], [one.step for one in hanging.got], delivery.dropped["hanging"]
    )  # fmt: skip
    assert "the hanging had not taken 4 notifications when the run ended" in caplog.text
    hanging.released.set()


def test_a_way_that_hung_gets_the_newest():
    """When it comes back, what was pushed out is gone, the rest arrives."""
    hanging = Hanging()
    delivery = Delivery([hanging], queue=2)
    delivery.send(notification(step=0))
    assert hanging.arrived.wait(10)
    for step in range(1, 6):
        delivery.send(notification(step=step))
    hanging.released.set()
    delivery.close(10)
    assert ([0, 4, 5], 3) == ([one.step for one in hanging.got], delivery.dropped["hanging"])


def test_a_failure_is_said_once_and_counted(caplog):
    """One warning a way; the next notification is tried again."""
    failing = Failing(DeliveryError("answered 404"))
    delivery = Delivery([failing])
    for _ in range(3):
        delivery.send(notification())
    delivery.close(10)
    assert ["failing: a notification did not arrive: answered 404. Further ones are tried, and failures counted "
            "without a word"] == [record.getMessage() for record in caplog.records]  # fmt: skip
    assert (3, {"failing": 3}) == (len(failing.got), delivery.failed)


def test_the_text_of_an_unknown_error_is_not_shown(caplog):
    """It may hold anything; its kind is enough."""
    delivery = Delivery([Failing(RuntimeError(f"https://hooks.slack.com/{SECRET}"))])
    delivery.send(notification())
    delivery.close(10)
    assert "did not arrive: RuntimeError." in caplog.text
    assert SECRET not in caplog.text
    assert [None] == [record.exc_info for record in caplog.records]


def test_after_the_end_nothing_is_sent():
    """What comes too late is dropped and counted."""
    kept = Kept()
    delivery = Delivery([kept])
    delivery.close(0)
    delivery.send(notification())
    assert ([], {"kept": 1}, []) == (kept.got, delivery.dropped, threads())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_sends_nothing():
    """A data loader's worker inherits the object, no thread, and perhaps a lock that nobody will open."""
    kept = Kept()
    delivery = Delivery([kept])
    delivery.send(notification(step=1))
    (box,) = delivery._outboxes
    with box._changed:
        child = os.fork()
        if child == 0:
            delivery.send(notification(step=2))
            delivery.close(10)
            os._exit(len(threads()) + len([one for one in kept.got if one.step == 2]))
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    delivery.close(10)
    assert [1] == [one.step for one in kept.got]


def test_where_no_thread_can_be_had(monkeypatch, caplog):
    """The notification waits for the next one, which tries again; if none ever can, the end says so."""
    start, full = threading.Thread.start, [True]

    def starts(thread):
        if full[0]:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    kept, unlucky = Kept(), Kept("unlucky")
    delivery, other = Delivery([kept]), Delivery([unlucky])
    delivery.send(notification(step=1))
    other.send(notification())
    other.close(1)
    full[0] = False
    delivery.send(notification(step=2))
    delivery.close(10)
    assert [1, 2] == [one.step for one in kept.got]
    assert ["the unlucky had not taken 1 notification when the run ended; the alerts are in the run's record"] == [
        record.getMessage() for record in caplog.records
    ]


def test_a_notification_of_the_last_moment(tmp_path):
    """When the interpreter ends it is delivered, or, in a Python that starts no thread then, said to be lost."""
    to = tmp_path / "got"
    program = f"""
import atexit, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from notify_servers import notification
from otel_train.alerts.notify import Delivery, ways
from otel_train.settings import load
delivery = Delivery(ways(load({{"alert_command": "touch {to}"}})))
atexit.register(lambda: (delivery.send(notification()), delivery.close(20)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    assert to.exists() != ("had not taken 1 notification" in done.stderr)


def test_many_callers():
    """Notifications from several threads all arrive."""
    kept = Kept()
    delivery = Delivery([kept], queue=1000)
    callers = [threading.Thread(target=lambda: [delivery.send(notification()) for _ in range(50)]) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    delivery.close(10)
    assert 400 == len(kept.got)


# -- from the settings ----------------------------------------------------------------------------------------------


def settings(**variables):
    """Settings from variables without their beginning."""
    return load({}, {f"OTEL_TRAIN_ALERT_{name}": value for name, value in variables.items()})


def test_ways_of_the_settings():
    """A way for each; they are named for what they are."""
    found = ways(
        settings(
            WEBHOOK="https://hooks.slack.com/services/a, https://discord.com/api/webhooks/b slack+https://chat.example.com/c"
            " https://x.ae.environment.api.powerplatform.com:443/d https://example.com/e",
            EMAIL="smtps://user%40x.org@mail.x.org/?from=r@x.org&to=a@x.org",
            COMMAND="true --now",
        ),
        {"OTEL_TRAIN_ALERT_SMTP_PASSWORD": SECRET},
    )
    assert [
        "Slack webhook", "Discord webhook", "Slack webhook 2", "Teams webhook", "JSON webhook", "e-mail", "command"
    ] == [way.name for way in found]  # fmt: skip
    assert SECRET not in repr(found)
    assert "user@x.org" == found[5].target.user
    assert [] == ways(settings())


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://hooks.slack-gov.com/services/T/B/x", "slack"),
        ("https://canary.discord.com/api/webhooks/1/x", "discord"),
        ("https://discordapp.com/api/webhooks/1/x", "discord"),
        ("https://prod-23.westeurope.logic.azure.com:443/workflows/x", "teams"),
        ("https://contoso.webhook.office.com/webhookb2/x", "teams"),
        ("https://evil-discord.com/x", "json"),
        ("https://discord.com.example.com/x", "json"),
        ("json+https://discord.com/api/webhooks/1/x", "json"),
        ("Discord+http://localhost:8080/x", "discord"),
    ],
)
def test_the_host_tells_what_is_understood(url, kind):
    """Or the prefix, which comes first."""
    (target,) = settings(WEBHOOK=url).alert_webhook
    assert (kind, url.rpartition("+")[2]) == (target.kind, target.url)


def test_webhooks_in_code():
    """A list, or text; twice is once."""
    urls = ["https://a.org/x", "slack+https://a.org/x", "https://a.org/x"]
    assert ["json", "slack"] == [one.kind for one in load({"alert_webhook": urls}, {}).alert_webhook]


@pytest.mark.parametrize(
    ("url", "port", "security"),
    [
        ("smtps://x.org", 465, "implicit TLS"),
        ("smtps://x.org:2465", 2465, "implicit TLS"),
        ("smtps://x.org:587", 587, "STARTTLS"),
        ("smtp://x.org", 587, "STARTTLS"),
        ("smtp://x.org:25", 25, "STARTTLS"),
        ("smtp://x.org:465", 465, "implicit TLS"),
        ("smtp+insecure://localhost", 25, "plain text"),
        ("smtp+insecure://[::1]:1025", 1025, "plain text"),
    ],
)
def test_ports_and_tls(url, port, security):
    """TLS at once on 465, STARTTLS otherwise; plain text only where it does not leave the machine."""
    target = settings(EMAIL=f"{url}/?from=r@x.org&to=a@x.org").alert_email
    assert (port, security) == (target.port, target.security)


WRONG = [
    ("WEBHOOK", f"hooks.slack.com/{SECRET}", "https://"),
    ("WEBHOOK", f"ftp://x.org/{SECRET}", "slack+"),
    ("WEBHOOK", f"https:///{SECRET}", "separated by spaces or commas"),
    ("WEBHOOK", f"https://x.org:{SECRET}/", "https://"),
    ("WEBHOOK", f"https://[{SECRET}/", "https://"),
    ("WEBHOOK", f"matrix+https://x.org/{SECRET}", "teams+"),
    ("WEBHOOK", f"https://x.org/a,{SECRET}", "https://"),
    ("WEBHOOK", ",", "https://"),
    ("EMAIL", f"smtps://u:{SECRET}@x.org/?from=r@x.org&to=a@x.org", "OTEL_TRAIN_ALERT_SMTP_PASSWORD"),
    ("EMAIL", f"smtp+insecure://x.org/?from=r@x.org&to={SECRET}@x.org", "localhost"),
    ("EMAIL", f"smtps://x.org/?from=r@x.org&to={SECRET}", "ASCII"),
    ("EMAIL", f"smtps://x.org/?from=r@x.org&to={SECRET}@x.org%0d%0aBcc:b@x.org", "ASCII"),
    ("EMAIL", f"smtps://x.org/?to={SECRET}@x.org", "from="),
    ("EMAIL", f"smtps://x.org/?from=r@x.org&to=a@x.org&cc={SECRET}@x.org", "to="),
    ("EMAIL", f"{SECRET}@x.org", "smtps://"),
    ("COMMAND", f"notify '{SECRET}", "quoted as in a shell"),
    ("COMMAND", f"'' {SECRET}", "a program"),
]


@pytest.mark.parametrize(("name", "value", "word"), WRONG, ids=[f"{name} {value}" for name, value, _ in WRONG])
def test_a_wrong_setting_is_refused_without_being_shown(name, value, word):
    """The error says what is allowed and what to change, and hides what was got."""
    with pytest.raises(SettingsError) as caught:
        settings(**{name: value})
    assert f"OTEL_TRAIN_ALERT_{name} is (hidden); allowed is" in str(caught.value)
    assert f"Change or remove OTEL_TRAIN_ALERT_{name}." in str(caught.value)
    assert word in str(caught.value)
    assert SECRET not in str(caught.value)


def test_what_only_this_machine_can_tell_is_refused_too():
    """A user without a password, and a program that is not there."""
    with pytest.raises(SettingsError, match="Set OTEL_TRAIN_ALERT_SMTP_PASSWORD, or"):
        ways(settings(EMAIL="smtps://user@x.org/?from=r@x.org&to=a@x.org"), {})
    with pytest.raises(SettingsError, match="is not there or may not be executed") as caught:
        ways(settings(COMMAND=f"/no/such/program {SECRET}"))
    assert SECRET not in str(caught.value)


def test_secrets_are_nowhere(tmp_path):
    """Not in a settings object, its record, its explanation, nor in what is said of a file that is broken."""
    given = {
        "WEBHOOK": f"https://hooks.slack.com/services/{SECRET}",
        "EMAIL": f"smtps://{SECRET}@x.org/?from=r@x.org&to=a@x.org",
        "COMMAND": f"true {SECRET}",
    }
    loaded = load_with_sources({}, {f"OTEL_TRAIN_ALERT_{name}": value for name, value in given.items()})
    shown = f"{loaded} {loaded.settings} {recordable(loaded.settings)} {explain(loaded)}"
    assert SECRET not in shown
    assert 3 == str(explain(loaded)).count("(hidden)")
    file = tmp_path / "settings.yaml"
    file.write_text(f"level: steps\nalert_webhook: [https://hooks.slack.com/{SECRET}: ]]\n")
    program = "import otel_train; otel_train.init()"
    environ = {"OTEL_TRAIN_CONFIG": str(file), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert "cannot be read as YAML: it is wrong in line 2, column " in done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_a_run_records_no_secret(tmp_path):
    """A whole run, and ``otel-train doctor``, with all settings: the token is in no file and no output."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OTEL_TRAIN_DIR": str(tmp_path),
        "OTEL_TRAIN_ALERT_WEBHOOK": f"http://127.0.0.1:9/{SECRET}",
        "OTEL_TRAIN_ALERT_EMAIL": f"smtps://{SECRET}@x.org/?from=r@x.org&to=a@x.org",
        "OTEL_TRAIN_ALERT_COMMAND": f"true {SECRET}",
        "OTEL_TRAIN_ALERT_SMTP_PASSWORD": SECRET,
    }
    for line in (
        ["-c", "import otel_train; otel_train.init(); otel_train.shutdown()"],
        ["-m", "otel_train.cli", "doctor"],
    ):
        done = subprocess.run([sys.executable, *line], env=environ, capture_output=True, text=True)
        assert 0 == done.returncode, done.stderr
        assert SECRET not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert [] == [path for path in files if SECRET.encode() in path.read_bytes()]


def test_nothing_heavy_is_imported():
    """Settings and ways cost no import of what sends; that comes with the first notification."""
    program = (
        "import sys, otel_train, otel_train.alerts.notify as n\n"
        "from otel_train.settings import load\n"
        "made = n.ways(load())\n"
        "assert 3 == len(made), made\n"
        "n.Delivery(made)\n"
        "heavy = ('requests', 'urllib3', 'smtplib', 'email.message', 'ssl', 'torch')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OTEL_TRAIN_ALERT_WEBHOOK": "https://x.org/a",
        "OTEL_TRAIN_ALERT_EMAIL": "smtps://x.org/?from=r@x.org&to=a@x.org",
        "OTEL_TRAIN_ALERT_COMMAND": "true",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert "[]\n" == done.stdout, done.stderr


def test_all_of_it_together(caplog, tmp_path):
    """A webhook that fails, one that hangs, and a command that works: two warnings at most, no secret, one file."""
    to = tmp_path / "got"
    with WebhookServer(Answer(404, text="no_team")) as refusing, WebhookServer(hangs=True) as hanging:
        made = ways(settings(WEBHOOK=f"slack+{refusing.url} {hanging.url}", COMMAND=f"touch {to}"))
        delivery = Delivery(made)
        with caplog.at_level(logging.DEBUG):
            delivery.send(notification())
            assert hanging.arrived.wait(20)
            until = time.monotonic() + 20
            while not (delivery.sent and delivery.failed) and time.monotonic() < until:
                os.sched_yield()
            delivery.close(0.1)
    assert to.exists()
    assert "Slack webhook: a notification did not arrive: answered 404: no_team" in caplog.text
    assert "the JSON webhook had not taken 1 notification when the run ended" in caplog.text
    assert SECRET not in caplog.text
