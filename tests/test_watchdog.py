"""Limits on the time of a block: interrupts at any step, late jobs, and no threads at all."""

from __future__ import absolute_import

import gc
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
import support
from support import wait_until

from persistconn import drivers, threads
from persistconn.connecting import watchdog
from persistconn.drivers.pymysql import PyMySQL
from persistconn.fork import PerProcess

any_driver = drivers.Driver()

#: A limit so short that a test can wait until it has passed.
SHORT = 0.1


class Line(object):
    """A raw connection of a PEP 249 driver with fileno(), such as mysqlclient's, and its peer."""

    driver = any_driver

    def __init__(self):
        self._sock, self.peer = socket.socketpair()
        self.peer.settimeout(10)

    open = True

    def fileno(self):
        return self._sock.fileno()

    def lose_socket(self):
        self._sock.close()

    def close(self):
        self._sock.close()
        self.peer.close()


class PyMySQLLine(Line):
    """A raw connection as PyMySQL has it: the socket is an attribute, and there is no fileno()."""

    driver = PyMySQL()
    fileno = None

    @property
    def open(self):
        return self._sock is not None

    def lose_socket(self):
        self._sock.close()
        self._sock = None

    def close(self):
        self.peer.close()


class Session(object):
    """A real session."""

    def __init__(self):
        self._raw = support.driver.connect(**support.server.parameters)
        self.driver = drivers.of(self._raw)

    def __getattr__(self, name):
        return getattr(self._raw, name)

    def lose_socket(self):
        self._raw.close()

    def close(self):
        if support.chosen.is_open(self._raw):
            self._raw.close()


@pytest.fixture
def line():
    line = Line()
    yield line
    line.close()


def is_open(end, peer):
    """Whether a byte that is sent at one end reaches the other."""
    try:
        end.sendall(b"x")
    except (OSError, socket.error):
        return False
    return peer.recv(1) == b"x"


def all_overdue_are_cut():
    """Return when the watchdog has looked at every limit that was overdue before."""
    line = Line()
    try:
        with any_driver.limit(line, 0):
            assert line.peer.recv(1) == b""
    finally:
        line.close()


def test_the_socket_of_a_block_that_exceeds_its_limit_is_shut_down(line):
    with any_driver.limit(line, SHORT):
        assert line.peer.recv(1) == b""


@pytest.mark.parametrize("kind", [Line, PyMySQLLine, Session])
def test_a_socket_that_reuses_the_descriptor_of_a_lost_socket_is_not_shut_down(kind):
    line, (stranger, peer) = kind(), socket.socketpair()
    fd = line.driver.fileno(line)
    try:
        with line.driver.limit(line, SHORT):
            line.lose_socket()
            os.dup2(stranger.fileno(), fd)
            time.sleep(SHORT)
            all_overdue_are_cut()
        assert is_open(stranger, peer)
    finally:
        os.close(fd)
        stranger.close(), peer.close(), line.close()


def test_a_socket_that_its_connection_drops_just_before_the_shutdown_is_left_alone(line):
    stranger, peer = socket.socketpair()
    numbers = [stranger.fileno()]
    line.fileno = lambda: numbers.pop() if numbers else None
    try:
        with any_driver.limit(line, SHORT):
            assert wait_until(lambda: not numbers)
        assert is_open(stranger, peer)
    finally:
        stranger.close(), peer.close()


def test_a_block_does_not_end_while_its_socket_is_being_shut_down(line):
    asked, ended, too_early = threading.Event(), threading.Event(), []

    def fileno():
        if not asked.is_set():
            asked.set()
            too_early.append(ended.wait(0.3))
        return line._sock.fileno()

    line.fileno = fileno
    with any_driver.limit(line, SHORT):
        asked.wait(5)
    ended.set()
    assert too_early == [False]


def test_a_block_ends_even_if_the_shutdown_of_its_socket_hangs(line, monkeypatch):
    # A stand-in: no function that the watchdog calls is known to hang.
    monkeypatch.setattr(watchdog, "PATIENCE", SHORT)
    asked, ended = threading.Event(), threading.Event()

    def fileno():
        asked.set()
        in_time.append(ended.wait(5))

    in_time, line.fileno = [], fileno
    with any_driver.limit(line, SHORT):
        assert asked.wait(5)
    ended.set()
    assert wait_until(lambda: in_time)
    assert in_time[0]


def test_a_limit_that_was_garbage_collected_shuts_no_socket_down(line):
    any_driver.limit(line, SHORT).__enter__()
    gc.collect()
    time.sleep(SHORT)
    all_overdue_are_cut()
    assert is_open(line._sock, line.peer)


def test_an_error_while_asking_for_the_socket_leaves_other_limits_in_force(line):
    def fail():
        asked.append(True)
        raise ValueError("no socket")

    asked = []
    with watchdog.Limit(fail, 0):
        assert wait_until(lambda: asked)
    with any_driver.limit(line, SHORT):
        assert line.peer.recv(1) == b""


# The files in which a signal handler, or an exception set by another thread, may interrupt.

INTERRUPTED = ("watchdog.py", "compat.py", "threads.py", "fork.py", "threading.py")


class Shot(BaseException):
    """The exception that a signal handler raises."""


class Interruption(object):
    """Calls a function at one step of the interrupted code, as a signal handler does."""

    # Python traces each instruction since 3.7.
    events = ("opcode",) if sys.version_info >= (3, 7) else ("line", "return")

    def __init__(self, step=0, do=None):
        self.left = step
        self._do = do

    def __call__(self, frame, event, arg):
        if os.path.basename(frame.f_code.co_filename) not in INTERRUPTED:
            return None
        if "opcode" in self.events:
            frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame, event, arg):
        if event in self.events:
            self.left -= 1
            if self.left == 0:
                self._do()
        return self._step

    def run(self, work):
        sys.settrace(self)
        try:
            work()
        except Shot:
            pass
        finally:
            sys.settrace(None)


def interrupt_at_every_step(work, do, renew):
    step, was_reached = 0, True
    while was_reached:
        step += 1
        interruption = Interruption(step, do)
        # Python 3.13 traces the instructions of code that it has traced before.
        Interruption().run(work)
        renew()
        assert ends(lambda: interruption.run(work)), "hangs at step %d" % step  # noqa: B023
        assert ends(all_overdue_are_cut), "hangs after step %d" % step
        was_reached = interruption.left <= 0
    assert step > 40


def ends(work):
    thread = threading.Thread(target=work)
    thread.daemon = True
    thread.start()
    thread.join(5)
    return not thread.is_alive()


@pytest.fixture
def fresh(monkeypatch):
    """Have a new watchdog from now on."""
    monkeypatch.setattr(watchdog, "TICK", 0.01)
    monkeypatch.setattr(watchdog, "LINGER", 0, raising=False)

    def renew():
        monkeypatch.setattr(watchdog, "_watchdogs", PerProcess(watchdog.Watchdog))

    renew()
    return renew


def test_an_exception_at_any_step_of_a_limit_leaves_the_next_limit_in_force(line, fresh):
    def work():
        with any_driver.limit(line, SHORT):
            pass

    def shoot():
        raise Shot()

    interrupt_at_every_step(work, shoot, fresh)
    time.sleep(SHORT)
    all_overdue_are_cut()
    assert is_open(line._sock, line.peer)


def test_a_limit_within_a_signal_handler_at_any_step_of_another_limit_ends(line, fresh):
    other = Line()

    def work():
        with any_driver.limit(line, 10):
            pass

    def handler():
        with any_driver.limit(other, 10):
            pass

    interrupt_at_every_step(work, handler, fresh)
    assert is_open(line._sock, line.peer)
    assert is_open(other._sock, other.peer)
    other.close()


def watchdogs():
    return support.threads_in(watchdog._watchdogs.get()._run)


def test_the_watchdogs_thread_ends_when_no_limit_is_left_and_starts_again(line, fresh):
    for _turn in range(3):
        with any_driver.limit(line, 10):
            assert wait_until(lambda: watchdogs() == 1)
        assert wait_until(lambda: watchdogs() == 0)


def test_only_one_of_several_watchdog_threads_stays(line, fresh):
    mine = watchdog._watchdogs.get()
    with any_driver.limit(line, 10):
        for _ in range(5):
            threads.start_native_thread(mine._run)
        assert wait_until(lambda: watchdogs() == 1)
        assert not wait_until(lambda: watchdogs() != 1, seconds=0.2)


# Tests in processes of their own.

PROCESS = """
from __future__ import print_function
import sys, threading
sys.path[:0] = %(path)r
from django.conf import settings
settings.configure(
    DATABASES={"default": %(database)r}, INSTALLED_APPS=["persistconn"], USE_TZ=False,
    TIME_ZONE="UTC", **%(more)r
)
import django
if hasattr(django, "setup"):
    django.setup()
import persistconn
persistconn.install()
from django.db import connection
from support import end_of_work, pid

def after_main(job):
    main, = [thread for thread in threading.enumerate() if thread.name == "MainThread"]
    def wait_for_main():
        main.join()
        job()
    threading.Thread(target=wait_for_main).start()

%(code)s
"""


def run(code, **more):
    """Run code in a new Python. Return its output and its errors."""
    here = os.path.dirname(os.path.abspath(__file__))
    values = {
        "path": [here, os.path.dirname(here)],
        "database": support.database_settings(support.DATABASE),
        "more": dict(("PERSISTCONN_" + name, value) for name, value in more.items()),
        "code": code,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS % values],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    return [text.strip() for text in support.finish(process)]


AFTER_MAIN = """
def job():
    print(pid() > 0)
    %s

after_main(job)
"""


def test_a_job_after_the_end_of_main_has_its_first_query_answered():
    assert run(AFTER_MAIN % "end_of_work()") == ["True", ""]


def test_a_job_after_the_end_of_main_may_have_a_max_idle():
    assert run(AFTER_MAIN % "end_of_work()", MAX_IDLE=10) == ["True", ""]


def test_a_job_after_the_end_of_main_may_end_without_giving_back():
    assert run(AFTER_MAIN % "pass") == ["True", ""]


# No thread can start: there is no memory for a stack of this size.
WITHOUT_THREADS = """
threading.stack_size(1 << 47)
try:
    first = pid()
    end_of_work()
    print(pid() == first)
    end_of_work()
except Exception as error:
    print(error)
"""


def test_where_no_thread_can_start_queries_are_answered_and_connections_kept():
    # CHECK_AFTER 0: each reuse sends a SELECT 1, whose limit would need a thread.
    assert run(WITHOUT_THREADS, CHECK_AFTER=0)[0] == "True"


def test_where_no_thread_could_start_the_exit_is_silent():
    assert run(WITHOUT_THREADS, CHECK_AFTER=0)[1] == ""


AT_THE_EXIT = """
import socket
from persistconn import drivers
a, b = socket.socketpair()
limit = drivers.Driver().limit(a, 10)
limit.__enter__()
"""


@pytest.mark.parametrize("code", ["pid()", "pid(); end_of_work()", AT_THE_EXIT])
def test_the_exit_of_the_interpreter_is_silent(code):
    assert run(code, MAX_IDLE=10) == ["", ""]
