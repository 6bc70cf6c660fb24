"""Ways that notifications take to somebody, one a file; and the threads that take them there."""

import os
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping

from otel_train.alert_targets import COMMAND_ALLOWED, DISCORD, JSON, SLACK, TEAMS, MailTarget, WebhookTarget
from otel_train.alerts.notify.command import Command
from otel_train.alerts.notify.delivery import Delivery
from otel_train.alerts.notify.mail import PASSWORD, Mail
from otel_train.alerts.notify.way import DeliveryError, Way
from otel_train.alerts.notify.webhook import Webhook
from otel_train.errors import SettingsError
from otel_train.settings import Settings

__all__ = ["Delivery", "DeliveryError", "Way", "ways"]

TITLES = {SLACK: "Slack webhook", DISCORD: "Discord webhook", TEAMS: "Teams webhook", JSON: "JSON webhook"}


def ways(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Way]:
    """The ways that the settings ask for; nothing is connected or started yet. Raises ``SettingsError``."""
    found: list[Way] = [*_webhooks(settings.alert_webhook)]
    if settings.alert_email is not None:
        found.append(_mail(settings.alert_email, environ.get(PASSWORD) or None))
    if settings.alert_command is not None:
        found.append(_command(settings.alert_command))
    return found


def _webhooks(targets: tuple[WebhookTarget, ...]) -> list[Webhook]:
    """Named for their services, and numbered from the second on."""
    seen: Counter[str] = Counter()
    made = []
    for target in targets:
        seen[target.kind] += 1
        number = f" {seen[target.kind]}" if seen[target.kind] > 1 else ""
        made.append(Webhook(TITLES[target.kind] + number, target))
    return made


def _mail(target: MailTarget, password: str | None) -> Mail:
    if target.user is not None and password is None:
        raise SettingsError(
            f"alert_email has a user and {PASSWORD} is not set; allowed is a user with a password. Set {PASSWORD}, or "
            "leave the user out of the URL (OTEL_TRAIN_ALERT_EMAIL)."
        )
    return Mail(target, password)


def _command(line: str) -> Command:
    if shutil.which(shlex.split(line)[0]) is None:
        raise SettingsError(
            "the program of alert_command (hidden) is not there or may not be executed; allowed is "
            f"{COMMAND_ALLOWED}. Change or remove OTEL_TRAIN_ALERT_COMMAND, or give the program's whole path."
        )
    return Command(line)
