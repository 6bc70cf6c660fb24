"""Sends a notification by e-mail, over TLS with a verified certificate."""

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_train.alert_targets import IMPLICIT, STARTTLS, MailTarget
from otel_train.alerts.notification import Notification
from otel_train.alerts.notify.way import DeliveryError
from otel_train.alerts.notify.wording import plain_text, shortened, title

if TYPE_CHECKING:
    from email.message import EmailMessage
    from smtplib import SMTP
    from ssl import SSLContext

PASSWORD = "OTEL_TRAIN_ALERT_SMTP_PASSWORD"

TIMEOUT_S = 10.0
"""For each answer of the server."""

SUBJECT = 200


@dataclass(frozen=True)
class Mail:
    """One message a notification, to all recipients at once."""

    target: MailTarget
    password: str | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S
    name: str = "e-mail"

    def send(self, notification: Notification) -> None:
        """Returns when the server has taken the message for every recipient. Raises ``DeliveryError``."""
        failure = self._failure_of(message(notification, self.target))
        if failure:
            raise DeliveryError(failure)  # here, where no error that quotes addresses is being handled

    def _failure_of(self, mail: "EmailMessage") -> str | None:
        import smtplib

        try:
            with self._connect() as server:
                if self.target.security == STARTTLS:
                    server.starttls(context=_verifying())
                if self.target.user is not None:
                    server.login(self.target.user, self.password or "")
                refused = server.send_message(mail, self.target.sender, self.target.recipients)
                return f"the server refused {len(refused)} of the recipients" if refused else None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            return _reason(error, self.timeout_s)

    def _connect(self) -> "SMTP":
        import smtplib

        host, port = self.target.host, self.target.port
        if self.target.security == IMPLICIT:
            return smtplib.SMTP_SSL(host, port, timeout=self.timeout_s, context=_verifying())
        return smtplib.SMTP(host, port, timeout=self.timeout_s)


def message(notification: Notification, target: MailTarget) -> "EmailMessage":
    """Subject and text, marked as automatic so that no absence note answers it."""
    from email.message import EmailMessage
    from email.utils import formatdate

    mail = EmailMessage()
    mail["Subject"] = shortened(f"[otel_train] {title(notification)}", SUBJECT)
    mail["From"] = target.sender
    mail["To"] = ", ".join(target.recipients)
    mail["Date"] = formatdate(notification.unix_s)
    # not email.utils.make_msgid: it draws from the global random, which is the training's
    mail["Message-ID"] = f"<{uuid.uuid4().hex}@{target.sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(plain_text(notification), cte="quoted-printable")
    return mail


def _verifying() -> "SSLContext":
    import ssl

    return ssl.create_default_context()


def _reason(error: Exception, timeout_s: float) -> str:
    """What went wrong, without the server's words: they may hold addresses and user names."""
    import smtplib
    import ssl

    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the server refused user and password ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        return f"the server refused all recipients ({', '.join(map(str, codes))})"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "the server does not offer what is needed: STARTTLS, or a way to log in"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server refused the message ({error.smtp_code})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"no connection: the server's certificate is not trusted (X.509 error {error.verify_code})"
    if isinstance(error, TimeoutError) or isinstance(
        error.__context__, TimeoutError
    ):  # smtplib hides it behind its own
        return f"no answer in {timeout_s:g} s"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server hung up"
    if isinstance(error, OSError):
        return f"no connection: {error.strerror or type(error).__name__}"
    return f"failed with {type(error).__name__}"
