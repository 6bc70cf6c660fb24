"""Webhooks against real servers: what is posted, when it is tried again, and that the URL appears nowhere."""

import logging
import random
import socket
import time
import traceback

import pytest
import requests
from notify_servers import SECRET, Answer, Certificates, WebhookServer, notification
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_train.alert_targets import webhooks
from otel_train.alerts.notify.way import DeliveryError
from otel_train.alerts.notify.webhook import LONGEST_WAIT_S, Webhook, _session


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Waits between tries of 0.02 s and 0.04 s, not 1 s and 2 s."""
    monkeypatch.setattr("otel_train.alerts.notify.webhook.BACKOFF_S", 0.01)


def webhook(url, timeout_s=5.0):
    """A way to one URL."""
    (target,) = webhooks(url)
    return Webhook("webhook", target, timeout_s)


def failure(way):
    """What is said of a notification that does not arrive, after looking for the secret wherever it might be."""
    with pytest.raises(DeliveryError) as caught:
        way.send(notification())
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(way)
    return str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [("", "rule"), ("json+", "rule"), ("slack+", "blocks"), ("discord+", "embeds"), ("TEAMS+", "type")],
)
def test_posts_what_the_service_understands(prefix, key):
    """The prefix decides; the path, with its token, is as it was given."""
    with WebhookServer() as server:
        webhook(prefix + server.url).send(notification(summary="Grüße, 世界 🔥"))
    ((path, headers),) = server.requests
    assert f"/services/{SECRET}?sig={SECRET}" == path
    assert "application/json; charset=utf-8" == headers["Content-Type"]
    assert key in server.bodies[0]
    assert "Grüße, 世界 🔥" in str(server.bodies[0])


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_is_one(status):
    """Discord answers 204, a Workflow 202."""
    with WebhookServer(Answer(status, text="")) as server:
        webhook(server.url).send(notification())
    assert 1 == len(server.requests)


def test_waits_as_long_as_it_is_told_to():
    """At 429 the request is repeated after Retry-After, seconds or decimals, and no earlier."""
    with WebhookServer(Answer(429, {"Retry-After": "1"}), Answer(429, {"Retry-After": "0.2"}), Answer()) as server:
        start = time.monotonic()
        webhook(server.url).send(notification())
        assert time.monotonic() - start >= 2
    assert 3 == len(server.requests)
    assert server.bodies[0] == server.bodies[2]


def test_does_not_wait_for_hours():
    """However long a server asks for, a wait has an end."""
    with _session() as session:
        retry = session.get_adapter("https://example.com").max_retries
    assert (LONGEST_WAIT_S, 3.0, 1.0) == tuple(retry.parse_retry_after(text) for text in ("86400", "3", "0.65"))
    assert LONGEST_WAIT_S == retry.parse_retry_after("Wed, 21 Oct 2099 07:28:00 GMT")


def test_tries_again_when_the_server_fails():
    """5xx is tried again a few times; then the last answer is what is said."""
    with WebhookServer(Answer(500), Answer(503), Answer()) as server:
        webhook(server.url).send(notification())
    assert 3 == len(server.requests)
    with WebhookServer(Answer(502)) as server:
        assert "answered 502" == failure(webhook(server.url))
    assert 4 == len(server.requests)


def test_says_the_services_word_for_a_refusal():
    """One word of a service is shown, as Slack has them; a text that may quote the URL is not."""
    with WebhookServer(Answer(404, text="no_service")) as server:
        assert "answered 404: no_service" == failure(webhook(server.url))
        assert 1 == len(server.requests)
    with WebhookServer(Answer(404, text=f"Cannot POST /services/{SECRET}")) as server:
        assert "answered 404" == failure(webhook(server.url))
    with WebhookServer(Answer(404, text="sig")) as server:
        assert "answered 404" == failure(webhook(server.url))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_follows_no_redirect(status):
    """A notification goes where it was meant to go, or nowhere."""
    with WebhookServer() as other, WebhookServer(Answer(status, {"Location": other.url})) as server:
        assert f"answered {status}, a redirect, which is not followed" in failure(webhook(server.url))
    assert [] == other.requests


def test_nobody_listens():
    """A refused connection is tried again, and said in the system's words."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"slack+http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}"
        assert "no connection: Connection refused" == failure(webhook(url))


def test_no_such_host():
    """A name that nobody knows."""
    assert "no connection: " in failure(webhook(f"https://{SECRET.lower()}.invalid/{SECRET}"))


def test_a_server_that_hangs_is_given_up():
    """A late answer is no second notification: it may have arrived."""
    with WebhookServer(hangs=True) as server:
        assert "no answer in 0.2 s" == failure(webhook(server.url, timeout_s=0.2))
        assert server.arrived.wait(10)
    assert 1 == len(server.requests)


def test_a_server_that_hangs_up():
    """A connection that ends without an answer is a failure without a repetition."""
    with WebhookServer(Answer(200, {"Content-Length": "-"})) as server:
        server.take = None  # its thread dies of it
        assert "no connection: RemoteDisconnected" == failure(webhook(server.url))


def test_certificates_are_verified(monkeypatch, tmp_path):
    """TLS with an authority that is known; a certificate that is not trusted is the end of it."""
    certificates = Certificates()
    with WebhookServer(tls=certificates.server) as server:
        assert "no connection: its certificate is not trusted, or it does not speak TLS" == failure(webhook(server.url))
        assert [] == server.requests
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.write(tmp_path / "ca.pem"))
        webhook(server.url).send(notification())
    assert 1 == len(server.requests)


def test_the_url_is_in_no_log(caplog, capfd):
    """Not even where everything is logged: urllib3 writes down each path, and quotes it when it tries again."""
    with caplog.at_level(logging.DEBUG), WebhookServer(Answer(500), Answer()) as server, socket.socket() as closed:
        webhook(server.url).send(notification())
        closed.bind(("127.0.0.1", 0))
        failure(webhook(f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}"))
        requests.get(server.url.replace(SECRET, "mine"), data="{}", timeout=5)
    out, err = capfd.readouterr()
    assert SECRET not in caplog.text + out + err
    assert "mine" in caplog.text  # what others log is logged


def test_the_url_is_in_no_span(monkeypatch):
    """Where ``requests`` is instrumented, as by ``opentelemetry-instrument``, it makes no span of a notification."""
    seen = []
    send = requests.Session.send

    def instrumented(*arguments, **options):
        seen.append(is_instrumentation_enabled())
        return send(*arguments, **options)

    monkeypatch.setattr(requests.Session, "send", instrumented)
    with WebhookServer() as server:
        webhook(server.url).send(notification())
    assert ([False], True) == (seen, is_instrumentation_enabled())


def test_the_global_random_is_the_trainings():
    """Nothing is drawn from it, not even for a wait before another try."""
    before = random.getstate()
    with WebhookServer(Answer(500), Answer(500), Answer()) as server:
        webhook(server.url).send(notification())
    assert before == random.getstate()


def test_loggers_stay_as_they_were():
    """Filters of a moment are gone after it."""
    loggers = [logging.getLogger(name) for name in ("urllib3.connectionpool", "urllib3.util.retry")]
    before = [list(logger.filters) for logger in loggers]
    with WebhookServer() as server:
        webhook(server.url).send(notification())
    assert before == [logger.filters for logger in loggers]
