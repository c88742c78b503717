"""The clock, waiting for a lock, and starting threads, on every Python."""

from __future__ import absolute_import

import os
import subprocess
import sys
import threading

import pytest
from support import finish, wait_until

from persistconn import compat, threads

# The wall clock is set back by 20 seconds while a process waits for at most half a second. A
# stand-in: the machine's own clock cannot be set back here.

CLOCK = """
from __future__ import print_function
import time
real, back = time.time, [0]
time.time = lambda: real() - back[0]
import socket, sys, threading
sys.path.insert(0, %(root)r)
from persistconn import compat, drivers
set_back = threading.Timer(0.2, lambda: back.append(back.pop() + 20))
set_back.start()
began = real()
%(code)s
print(real() - began < 4)
"""

LIMIT = """
a, b = socket.socketpair()
b.settimeout(5)
with drivers.Driver().limit(a, 0.5):
    b.recv(1)
"""

LOCK = """
lock = threading.Lock()
lock.acquire()
compat.acquire(lock, 0.5)
"""


def python(program, **values):
    """Run a program in a new Python. Return its output."""
    values["root"] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen([sys.executable, "-c", program % values], stdout=subprocess.PIPE)
    return finish(process, 10)[0].decode().strip()


@pytest.mark.parametrize("code", [LIMIT, LOCK])
def test_a_wall_clock_that_is_set_back_makes_no_wait_longer(code):
    assert python(CLOCK, code=code) == "True"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="where the kernel's own figure is not in /proc"
)
def test_the_monotonic_clock_is_the_kernels_uptime():
    with open("/proc/uptime") as uptime:
        assert abs(compat.monotonic() - float(uptime.read().split()[0])) < 5


def test_the_monotonic_clock_never_goes_back_between_threads():
    wrong, last = [], [0]

    def look():
        for _ in range(20000):
            before, now = last[0], compat.monotonic()
            if now < before:
                wrong.append(before - now)
            last[0] = now

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture
def lock():
    lock = threading.Lock()
    lock.acquire()
    return lock


@pytest.fixture
def lock_soon_released(lock):
    timer = threading.Timer(0.1, lock.release)
    timer.start()
    yield lock
    timer.join()


def test_a_free_lock_is_acquired_even_without_time_to_wait(lock):
    lock.release()
    assert compat.acquire(lock, 0) is True
    assert lock.locked()


@pytest.mark.parametrize("seconds", [10, float("inf")])
def test_a_lock_that_is_released_in_time_is_acquired(lock_soon_released, seconds):
    assert compat.acquire(lock_soon_released, seconds) is True


@pytest.mark.parametrize("seconds", [-1, 0, 0.05])
def test_a_lock_that_is_not_released_in_time_is_not_acquired(lock, seconds):
    assert compat.acquire(lock, seconds) is False


STARTS = [threads.start_thread, threads.start_native_thread]


@pytest.mark.parametrize("start", STARTS)
def test_a_thread_is_started_with_its_arguments(start):
    seen = []
    assert start(lambda *args: seen.append(args), 1, 2) is True
    assert wait_until(lambda: seen == [(1, 2)])


@pytest.fixture
def no_room():
    """No thread can start: there is no memory for a stack of this size."""
    before = threading.stack_size(1 << 47)
    yield
    threading.stack_size(before)


@pytest.mark.parametrize("start", STARTS)
def test_starting_a_thread_returns_false_if_there_is_no_memory_for_its_stack(start, no_room):
    assert start(lambda: None) is False


SLOW_START = """
import sys, threading, time
sys.path.insert(0, %(root)r)
from persistconn import threads
start = threads.thread_module.start_new_thread
def start_late(function, args):
    def late():
        time.sleep(0.3)
        function(*args)
    return start(late, ())
threads.thread_module.start_new_thread = threads._start_natively = start_late
begun = []
%(start)s
threads._exit()
print(begun == [True])
"""
STARTED_LATE = [
    "threads.start_thread(begun.append, True)",
    "threads.start_native_thread(begun.append, True)",
    "threads.start_named_thread('late', lambda: begun.append(True))",
]


@pytest.mark.parametrize("code", STARTED_LATE)
def test_the_exit_of_the_interpreter_waits_until_started_threads_have_begun(code):
    assert python(SLOW_START, start=code) == "True"


def test_no_thread_starts_after_the_exit_has_begun():
    code = "threads._exit(); begun.append(not threads.start_thread(begun.append, False))"
    assert python(SLOW_START, start=code) == "True"


def test_a_start_that_the_exit_of_python_2_overtakes_returns_false(monkeypatch):
    def clear_modules():
        # Stands in for Python 2, which clears modules while a thread that it lets end is here.
        monkeypatch.setattr(threads, "alive", None)
        monkeypatch.setattr(threads, "_begin", None)

    monkeypatch.setattr(threads, "_new_mark", clear_modules)
    assert threads.start_thread(int) is False


LIBRARIES = """
import sys, time
sys.path.insert(0, %(root)r)
from persistconn import threads
def libraries():
    with open("/proc/self/maps") as maps:
        return set(line.split()[-1] for line in maps if ".so" in line)
before, ended = libraries(), []
threads.start_thread(ended.append, True)
time.sleep(0.5)
print(ended == [True] and libraries() == before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux says what is loaded")
def test_the_end_of_a_thread_loads_no_library():
    assert python(LIBRARIES) == "True"
