"""E-mail against real servers: TLS of both kinds, login, what arrives, and what is said when it does not."""

import email
import random
import socket
import threading
import traceback
from email import policy

import pytest
from notify_servers import SECRET, Certificates, MailServer, Postbox, authenticator, notification

from otel_train.alert_targets import mail as mail_target
from otel_train.alerts.notify.mail import Mail
from otel_train.alerts.notify.way import DeliveryError

PEOPLE = "from=runs@x.org&to=a@x.org,b+train@x.org"


@pytest.fixture
def certificates(monkeypatch, tmp_path):
    """A server's certificate, by an authority that this machine trusts for now."""
    made = Certificates()
    monkeypatch.setenv("SSL_CERT_FILE", made.write(tmp_path / "ca.pem"))
    return made


def mail(scheme, port, user="", password=None, timeout_s=5.0, host="127.0.0.1"):
    """A way by a server on this machine."""
    return Mail(mail_target(f"{scheme}://{user}{host}:{port}/?{PEOPLE}"), password, timeout_s)


def failure(way):
    """What is said of a message that is not taken, after looking for secrets and addresses."""
    with pytest.raises(DeliveryError) as caught:
        way.send(notification())
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    shown = "".join(traceback.format_exception(caught.value)) + repr(way)
    assert [] == [secret for secret in (SECRET, "x.org", "trainer") if secret in shown]
    return str(caught.value)


def test_tls_from_the_start(certificates):
    """smtps:// is TLS at once; the message has subject, text, addresses, date and an id."""
    box = Postbox()
    with MailServer(box, ssl_context=certificates.server) as server:
        mail("smtps", server.port).send(notification(summary="Grüße, 世界 🔥\nzwei", advice="long " * 9000))
    (envelope,) = box.messages
    read = email.message_from_bytes(envelope.content, policy=policy.default)
    assert ("runs@x.org", ["a@x.org", "b+train@x.org"]) == (envelope.mail_from, envelope.rcpt_tos)
    assert ("runs@x.org", "a@x.org, b+train@x.org", "auto-generated") == (
        read["From"],
        read["To"],
        read["Auto-Submitted"],
    )
    assert "[otel_train] WARNING: gpu_idle (GPU 2) in run run-7" == read["Subject"]
    assert "Mon, 21 Sep 2026 14:13:20 -0000" == str(read["Date"])
    assert read["Message-ID"].endswith("@x.org>")
    lines = read.get_content().splitlines()
    assert ("Grüße, 世界 🔥", "zwei", "long " * 8999 + "long", "Rank: 0") == (lines[0], lines[1], lines[3], lines[6])


def test_starttls_and_login(certificates):
    """smtp:// turns to TLS before it logs in: the server takes nothing else."""
    box = Postbox()
    options = {"tls_context": certificates.server, "require_starttls": True}
    with MailServer(box, **options, authenticator=authenticator, auth_required=True) as server:
        mail("smtp", server.port, "trainer@", SECRET).send(notification())
        assert "the server refused user and password (535)" == failure(mail("smtp", server.port, "trainer@", "wrong"))
    assert 1 == len(box.messages)


def test_never_without_tls(certificates):
    """A server that offers no STARTTLS gets no message and no password."""
    box = Postbox()
    with MailServer(box) as server:
        said = failure(mail("smtp", server.port, "trainer@", SECRET))
    assert "the server does not offer what is needed: STARTTLS, or a way to log in" == said
    assert [] == box.messages


def test_plain_text_to_a_relay_on_this_machine():
    """smtp+insecure:// sends as it is."""
    box = Postbox()
    with MailServer(box) as server:
        mail("smtp+insecure", server.port).send(notification())
    assert 1 == len(box.messages)


@pytest.mark.parametrize(("scheme", "option"), [("smtps", "ssl_context"), ("smtp", "tls_context")])
def test_certificates_are_verified(certificates, monkeypatch, tmp_path, scheme, option):
    """A certificate of an authority that nobody knows ends it, before anything was said."""
    box = Postbox()
    with MailServer(box, **{option: certificates.server}) as server:
        monkeypatch.setenv("SSL_CERT_FILE", Certificates().write(tmp_path / "another.pem"))
        said = failure(mail(scheme, server.port, "trainer@" if scheme == "smtp" else "", SECRET))
    assert "the server's certificate is not trusted" in said
    assert [] == box.messages


def test_a_certificate_for_another_host(certificates):
    """The name is verified too."""
    with MailServer(Postbox(), tls_context=certificates.server) as server:
        mail("smtp", server.port).send(notification())
    other = Certificates("mail.example.com")
    with MailServer(Postbox(), tls_context=other.server) as server:
        assert "certificate is not trusted" in failure(mail("smtp", server.port))


def test_refused_recipients():
    """All of them refused is a failure, and so is one of them; the others have it."""
    box = Postbox(refuses=("a@x.org", "b+train@x.org"))
    with MailServer(box) as server:
        assert "the server refused all recipients (550)" == failure(mail("smtp+insecure", server.port))
    box = Postbox(refuses=("a@x.org",))
    with MailServer(box) as server:
        assert "the server refused 1 of the recipients" == failure(mail("smtp+insecure", server.port))
    assert ["b+train@x.org"] == box.messages[0].rcpt_tos


def test_a_server_that_hangs_is_given_up():
    """One that takes the connection and says nothing; with TLS too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "no answer in 0.2 s" == failure(mail("smtp+insecure", port, timeout_s=0.2))
        assert "no answer in 0.2 s" == failure(mail("smtps", port, timeout_s=0.2))


def test_a_server_that_hangs_up():
    """One that closes the connection before it says anything."""
    with socket.create_server(("127.0.0.1", 0)) as rude:
        closing = threading.Thread(target=lambda: rude.accept()[0].close())
        closing.start()
        assert "the server hung up" == failure(mail("smtp", rude.getsockname()[1]))
        closing.join()


def test_nobody_listens():
    """A refused connection, in the system's words."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert "no connection: Connection refused" == failure(mail("smtp", closed.getsockname()[1]))


def test_half_characters_and_line_ends():
    """Nothing in a text breaks the message or adds a header to it."""
    box = Postbox()
    with MailServer(box) as server:
        mail("smtp+insecure", server.port).send(
            notification(rule="x\r\nBcc: evil@x.org", summary="\ud800 \x00 .\r\n.\r\nQUIT", run_id="é" * 5000)
        )
    read = email.message_from_bytes(box.messages[0].content, policy=policy.default)
    assert (None, "[otel_train] WARNING: x Bcc: evil@x.org (GPU 2)") == (read["Bcc"], read["Subject"][:47])
    assert ["? .".replace(" ", "  "), ".", "QUIT"] == read.get_content().splitlines()[:3]


def test_the_global_random_is_the_trainings():
    """An id of a message is not drawn from it."""
    before = random.getstate()
    with MailServer(Postbox()) as server:
        mail("smtp+insecure", server.port).send(notification())
    assert before == random.getstate()
