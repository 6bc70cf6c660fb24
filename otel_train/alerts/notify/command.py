"""Runs a command of the user's with a notification: as JSON on its standard input, and in variables."""

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping

from otel_train.alerts.notification import Notification
from otel_train.alerts.notify.document import document, encoded
from otel_train.alerts.notify.way import DeliveryError
from otel_train.alerts.notify.wording import cleaned

TIMEOUT_S = 30.0

PREFIX = "OTEL_TRAIN_ALERT_"

FIELDS = (
    "rule", "severity", "status", "summary", "advice", "time", "unix_s", "run_id", "rank", "host", "label", "step",
    "value", "threshold",
)  # fmt: skip
"""Of the JSON document: each is a variable, in capitals."""

WITHHELD = ("OTEL_TRAIN_ALERT_WEBHOOK", "OTEL_TRAIN_ALERT_EMAIL", "OTEL_TRAIN_ALERT_SMTP_PASSWORD")
"""Secrets of the other ways: a command has no business with them."""

LONGEST_VARIABLE = 8192
"""Bytes; the system takes 128 KiB each. The JSON has all."""

TAIL_BYTES, TAIL_LINES, TAIL_SHOWN = 8192, 3, 1000
"""What is kept of a command's output, and how many lines and characters of it are shown, to say why it failed."""

PIPE_BYTES = 65536

LOOK_EVERY_S = 0.05


class Command:
    """Starts a process a notification, in a session of its own, and waits for it.

    ``subprocess`` starts it by vfork, with no Python between: safe beside threads and CUDA, which a plain fork is not.
    """

    name = "command"

    def __init__(self, line: str, timeout_s: float = TIMEOUT_S) -> None:
        self._words = shlex.split(line)
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return "Command(…)"

    def send(self, notification: Notification) -> None:
        """Returns when the command has ended well. Raises ``DeliveryError``."""
        content = document(notification)
        try:
            process = self._start(encoded(content), variables(content, os.environ))
        except (OSError, ValueError) as error:
            raise DeliveryError(
                f"cannot be started: {getattr(error, 'strerror', None) or type(error).__name__}"
            ) from None
        try:
            tail = self._wait(process, time.monotonic() + self._timeout_s)
        finally:
            self._end(process)
        if process.returncode != 0 or tail is None:
            raise DeliveryError(self._failure(process.returncode, tail))

    def stop(self) -> None:
        """Kill what runs; what starts meanwhile is killed too. Does not wait."""
        self._stopped = True  # before the process is looked at: who starts one looks at it after
        process = self._process
        if process is not None:
            _kill(process)

    def _start(self, content: bytes, environment: Mapping[str, bytes]) -> "subprocess.Popen[bytes]":
        # in memory, not a pipe that the command may leave full, nor a file: the disk may be what the alert is about
        with os.fdopen(os.memfd_create("otel_train.alert"), "w+b") as stdin:
            stdin.write(content)
            stdin.seek(0)
            process = subprocess.Popen(
                self._words,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                close_fds=True,
            )
        self._process = process
        if self._stopped:
            _kill(process)
        return process

    def _wait(self, process: "subprocess.Popen[bytes]", deadline: float) -> bytes | None:
        """The end of what the command printed; None where it has not ended by ``deadline``.

        It is over when it has ended itself, not when its output is closed: what it left behind may hold that open.
        """
        assert process.stdout is not None
        output = select.poll()  # not select: a training has more than 1024 files open before long
        output.register(process.stdout, select.POLLIN)
        tail, is_open, is_over = b"", True, False
        while not is_over and time.monotonic() < deadline:
            is_over = process.poll() is not None
            if not is_open:
                time.sleep(0 if is_over else LOOK_EVERY_S)
            elif output.poll(0 if is_over else 1000 * LOOK_EVERY_S):
                piece = os.read(process.stdout.fileno(), PIPE_BYTES)  # after its end: once, the whole pipe
                tail, is_open = (tail + piece)[-TAIL_BYTES:], bool(piece)
        return tail if is_over else None

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = None
        _kill(process)
        assert process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # in the kernel for good: not to be had, nor waited for
            process.wait(1)

    def _failure(self, code: int | None, tail: bytes | None) -> str:
        if self._stopped:
            return "was stopped with the run"
        if tail is None:
            return f"did not end in {self._timeout_s:g} s, and was killed"
        how = f"ended with code {code}" if code is not None and code >= 0 else f"was killed by signal {-(code or 0)}"
        text = cleaned(tail.decode("utf-8", "replace"))
        for word in self._words[1:]:
            if len(word) >= 8:  # an argument may be a secret; a command that fails likes to quote it
                text = text.replace(word, "(hidden)")
        lines = [line.strip() for line in text.splitlines() if line.strip()][-TAIL_LINES:]
        return f"{how}: {' | '.join(lines)[-TAIL_SHOWN:]}" if lines else f"{how} and printed nothing"


def variables(content: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, bytes]:
    """The environment of the command: this process's without secrets, and the document's fields that are known."""
    names = {PREFIX + field.upper(): content[field] for field in FIELDS}
    inherited = {name: os.fsencode(value) for name, value in environ.items() if name not in {*names, *WITHHELD}}
    return inherited | {name: _variable(value) for name, value in names.items() if value not in (None, "")}


def _variable(value: object) -> bytes:
    text = cleaned(str(value)).encode("utf-8")[:LONGEST_VARIABLE]
    return text.decode("utf-8", "ignore").encode("utf-8")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started, which is in its session. Not once it has ended: its number may be another's by then."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; or it has taken another user's rights
            os.killpg(process.pid, signal.SIGKILL)
