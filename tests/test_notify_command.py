"""Commands: what they are given, how they are watched, and that nothing of theirs is left behind."""

import json
import os
import resource
import shlex
import subprocess
import sys
import threading
import time
import traceback

import pytest
from notify_servers import SECRET, notification

from otel_train.alerts.notify.command import LONGEST_VARIABLE, Command, variables
from otel_train.alerts.notify.document import document
from otel_train.alerts.notify.way import DeliveryError


def python(program, *arguments):
    """A command line that runs a program in Python."""
    return shlex.join([sys.executable, "-c", program, *map(str, arguments)])


def failure(way, sent=None):
    """What is said of a command that fails."""
    with pytest.raises(DeliveryError) as caught:
        way.send(sent or notification())
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(way)
    return str(caught.value)


def is_there(pid):
    """Does a process run, a zombie not counted?"""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid):
    """Wait for a process to end, a few seconds at most."""
    until = time.monotonic() + 10
    while is_there(pid) and time.monotonic() < until:
        os.sched_yield()
    return not is_there(pid)


def test_json_on_standard_input(tmp_path):
    """The command reads the whole notification, whatever its size."""
    to = tmp_path / "got.json"
    Command(python("import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())", to)).send(
        notification(advice="世界 🔥" * 100_000)
    )
    assert document(notification(advice="世界 🔥" * 100_000)) == json.loads(to.read_bytes())


def test_variables(monkeypatch, tmp_path):
    """Each field that is known is a variable; what is not known is not set, not even by somebody else."""
    for name, value in {"STEP": "7", "WEBHOOK": SECRET, "EMAIL": SECRET, "SMTP_PASSWORD": SECRET}.items():
        monkeypatch.setenv(f"OTEL_TRAIN_ALERT_{name}", value)
    to = tmp_path / "got.json"
    program = "import os, sys, json; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"
    Command(python(program, to)).send(notification(summary="a'b\n$(c) ü", step=None))
    got = json.loads(to.read_text())
    assert SECRET not in str(got)
    assert os.environ["PATH"] == got["PATH"]
    assert {
        "RULE": "gpu_idle",
        "SEVERITY": "warning",
        "STATUS": "firing",
        "SUMMARY": "a'b\n$(c) ü",
        "ADVICE": "It waits for the input: raise num_workers.",
        "TIME": "2026-09-21T14:13:20+00:00",
        "UNIX_S": "1790000000.0",
        "RUN_ID": "run-7",
        "RANK": "0",
        "HOST": "node-3",
        "LABEL": "GPU 2",
        "VALUE": "0.31",
        "THRESHOLD": "0.5",
    } == {name.removeprefix("OTEL_TRAIN_ALERT_"): text for name, text in got.items() if "TRAIN_ALERT" in name}


def test_texts_that_no_variable_can_hold():
    """Zero bytes and half characters are left out, long texts cut at a whole character."""
    made = variables(document(notification(summary="a\0b\ud800", advice="世" * 100_000)), {})
    assert b"ab?" == made["OTEL_TRAIN_ALERT_SUMMARY"]
    assert "世" * (LONGEST_VARIABLE // 3) == made["OTEL_TRAIN_ALERT_ADVICE"].decode()
    subprocess.run(["true"], env=made, check=True)


def test_no_shell(tmp_path):
    """What a shell would run is an argument like any other."""
    to = tmp_path / "made"
    Command(f"echo $(touch {to}) ; touch {to}").send(notification())
    assert not to.exists()


def test_a_failure_says_what_the_command_said():
    """The code and the last lines of its output, without the arguments, which may be secrets."""
    program = f"import sys; print('first'); print('one\\ntwo ' + sys.argv[1]); sys.exit('no ' + {'ü'!r})"
    assert "ended with code 1: one | two (hidden) | no ü" == failure(Command(python(program, SECRET)))
    assert "ended with code 1 and printed nothing" == failure(Command("false"))
    assert "was killed by signal 9 and printed nothing" == failure(
        Command(python("import os; os.kill(os.getpid(), 9)"))
    )


def test_endless_output_is_not_kept():
    """However much a command prints, its end is what is shown, and no memory is taken for the rest."""
    program = "import sys\nfor n in range(300_000): print('line', n)\nsys.exit(3)"
    assert "ended with code 3: line 299997 | line 299998 | line 299999" == failure(Command(python(program)))


def test_one_long_line_shows_its_end():
    """Without the beginning, where an argument may be cut in two."""
    program = "import sys; print(sys.argv[1] * 5000 + 'end'); sys.exit(1)"
    said = failure(Command(python(program, SECRET)))
    assert ("(hidden)(hidden)end", True) == (said[-19:], len(said) < 1100)


def test_beside_many_open_files():
    """More than 1024 descriptors, beyond what select() knows, are no hindrance."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert "ended with code 1 and printed nothing" == failure(Command("false"))
    finally:
        for descriptor in many:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_command_that_hangs_is_killed_with_all_it_started(tmp_path):
    """Its children too, which ignore what can be ignored."""
    to = tmp_path / "pids"
    program = f"""
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
open({str(to)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
child.wait()
"""
    assert "did not end in 4 s, and was killed" == failure(Command(python(program), timeout_s=4))
    assert [True, True] == [ends(int(pid)) for pid in to.read_text().split()]


def test_what_a_command_leaves_behind_is_not_waited_for():
    """A command is over when it has ended, though something of it still holds its output open."""
    program = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid); raise SystemExit(2)"
    start = time.monotonic()
    said = failure(Command(python(program), timeout_s=60))
    assert time.monotonic() - start < 30
    os.kill(int(said.split()[-1]), 9)


def test_no_descriptor_is_inherited_or_lost(tmp_path):
    """The command has its three; this process has as many after it as before."""
    to = tmp_path / "open"
    before = sorted(os.listdir("/proc/self/fd"))
    with open(os.devnull) as mine:
        os.set_inheritable(mine.fileno(), True)
        Command(python("import os, sys; open(sys.argv[1], 'w').write(' '.join(os.listdir('/proc/self/fd')))", to)).send(
            notification()
        )
    assert before == sorted(os.listdir("/proc/self/fd"))
    assert {"0", "1", "2", "3", "4"} >= set(to.read_text().split())  # 3 and 4: the file and the folder


def test_a_program_that_cannot_be_started(tmp_path):
    """It was there at the start and is no longer; or is no program."""
    assert "cannot be started: No such file or directory" == failure(Command(f"{tmp_path}/gone {SECRET}"))
    (tmp_path / "file").write_text("")
    assert "cannot be started: Permission denied" == failure(Command(f"{tmp_path}/file"))


def test_stop_kills_what_runs(tmp_path):
    """At the end of the run nothing of it goes on."""
    to = tmp_path / "pid"
    os.mkfifo(to)
    way = Command(python("import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)", to))
    said = []
    thread = threading.Thread(target=lambda: said.append(failure(way)))
    thread.start()
    pid = int(to.read_text())  # waits until it is written
    way.stop()
    thread.join(20)
    assert ["was stopped with the run"] == said
    assert ends(pid)
    assert "was stopped with the run" == failure(way)


def test_beside_a_training_with_threads(tmp_path):
    """Many at once, from threads, while others allocate and compute: each is given its own notification."""
    program = "import os, sys; open(f'{sys.argv[1]}/{os.environ[\"OTEL_TRAIN_ALERT_STEP\"]}', 'w').write('x')"
    way_of = [Command(python(program, tmp_path)) for _ in range(8)]
    busy = threading.Event()
    others = [threading.Thread(target=lambda: [bytearray(1 << 20) for _ in iter(busy.is_set, True)]) for _ in range(4)]
    senders = [threading.Thread(target=way.send, args=(notification(step=step),)) for step, way in enumerate(way_of)]
    for thread in others + senders:
        thread.start()
    for thread in senders:
        thread.join()
    busy.set()
    for thread in others:
        thread.join()
    assert [str(step) for step in range(8)] == sorted(os.listdir(tmp_path))
