"""Differences between versions of Python, and with gevent, behind common names."""

import _socket
import os
import select
import struct
import sys
import threading
import time
import weakref
from functools import partial

# Its functions are looked up at each call, because gevent may patch them later.
try:
    import _thread as thread_module
except ImportError:  # Python 2
    import thread as thread_module

try:
    # Returns None where no loop runs; get_running_loop() raises, which takes longer.
    from asyncio import _get_running_loop as running_loop  # noqa: F401
except ImportError:  # Python 2

    def running_loop():
        return None


try:
    from contextvars import ContextVar
except ImportError:

    class ContextVar(threading.local):
        """Before Python 3.7, a variable of a thread: the coroutines of an event loop share it."""

        value = None

        def __init__(self, name):
            pass

        def get(self, default):
            return self.value or default

        def set(self, value):
            self.value = value


PY2 = sys.version_info < (3,)

#: Whether this Python can read the syntax of coroutines.
HAS_COROUTINES = not PY2

#: Whether a child that is forked in C, as by uWSGI, may wait for ever for a lock that a thread of
#: its parent had. Then no thread of persistconn may run while applications are being imported.
FORKS_IN_C_KEEP_LOCKS = PY2

#: Whether a thread loads a library when it ends (bpo-44434), which a fork can interrupt.
LOADS_AT_THE_END_OF_THREADS = (3,) < sys.version_info < (3, 10) and sys.platform.startswith("linux")

#: Whether the interpreter, at its exit, clears modules that native threads still use.
CLEARS_MODULES_AT_EXIT = PY2


def get_ident():
    """Return the ident of this thread; under gevent, of this greenlet."""
    return thread_module.get_ident()


def after_fork_in_child(function):
    """Have Python 3.7 and later call a function in each forked child. Older versions never call it.

    Nor is it called in a child that uWSGI, or another program, forks in C. So callers must compare
    process ids as well.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def around_fork_in_parent(before, after):
    """Have Python 3.7 and later call a function before each fork, and another after it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after)


# Each system has its own number for CLOCK_MONOTONIC.
_CLOCKS = {"linux": 1, "darwin": 6, "freebsd": 4}


def _clock_of_libc():
    """Return a function like Python 3's time.monotonic(), or None if libc has no such clock."""
    try:
        import ctypes

        clock = _CLOCKS[sys.platform.rstrip("0123456789")]
        library = ctypes.PyDLL(None)
        if not hasattr(library, "clock_gettime"):
            library = ctypes.PyDLL("librt.so.1")  # glibc before 2.17
        clock_gettime = library.clock_gettime
        # Room for two numbers of 64 bits, also on a system of 32 bits.
        now = (ctypes.c_long * 4)()
        pointer = ctypes.byref(now)
        if clock_gettime(clock, pointer) != 0:
            return None
    except (ImportError, KeyError, OSError, AttributeError):
        return None
    # No argtypes: a call with them takes twice as long.
    clock_gettime.restype = None
    unpack = struct.Struct("ll").unpack_from

    def monotonic():
        # All threads share the buffer: PyDLL keeps the GIL during the call, and unpack() reads both
        # numbers at once.
        clock_gettime(clock, pointer)
        seconds, nanoseconds = unpack(now)
        return seconds + nanoseconds * 1e-9

    return monotonic


#: Seconds on a clock that nobody can set. Python 2 has one on Linux, macOS and FreeBSD. Elsewhere
#: this is the wall clock: if somebody sets it back, waits take longer and connections look younger.
monotonic = getattr(time, "monotonic", None) or _clock_of_libc() or time.time

_monkey = sys.modules.get("gevent.monkey")


def native(module, name):
    """Return a function of a module as it was before gevent patched the module."""
    if _monkey is not None:
        return _monkey.get_original(module.__name__, name)
    return getattr(module, name)


native_sleep = native(time, "sleep")

if _monkey is not None:
    from greenlet import getcurrent

    def current_greenlet():
        """Return a weak reference to this greenlet; without gevent None."""
        return weakref.ref(getcurrent())

    def frame_of(ident, greenlet):
        """Return the innermost frame of a thread or greenlet, or None."""
        found = greenlet()
        if found is None or found is getcurrent():
            return None if found is None else sys._getframe(1)
        return found.gr_frame

else:

    def current_greenlet():
        """Return a weak reference to this greenlet; without gevent None."""

    def frame_of(ident, greenlet):
        """Return the innermost frame of a thread or greenlet, or None."""
        return sys._current_frames().get(ident)


def innermost(function):
    """Return the function without its decorators: the end of the chain of ``__wrapped__``."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


if PY2:

    def acquire(lock, seconds):
        """Wait up to ``seconds`` for a lock. Return whether it was acquired."""
        ends_at, pause = monotonic() + seconds, 0.0005
        while not lock.acquire(False):
            left = ends_at - monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.05)
        return True

else:

    def acquire(lock, seconds):
        """Wait up to ``seconds`` for a lock. Return whether it was acquired."""
        return lock.acquire(True, min(max(seconds, 0), threading.TIMEOUT_MAX))


#: The type of texts: unicode on Python 2.
Text = type(b"".decode())


def native_text(value):
    """Return a value as this Python's str."""
    if PY2 and isinstance(value, Text):
        return value.encode("utf-8", "replace")
    return str(value)


def qualified_name(function):
    """Return a function's name with its module, and on Python 3 its class."""
    function = getattr(function, "func", function)  # a partial's
    kind = function if hasattr(function, "__name__") else type(function)
    name = getattr(kind, "__qualname__", kind.__name__)
    return "%s.%s" % (getattr(kind, "__module__", None), name)


if PY2:

    def is_coroutine_function(function):
        return False

else:
    import asyncio
    import inspect

    # Before inspect could mark functions, asyncio did.
    is_coroutine_function = (
        inspect if hasattr(inspect, "markcoroutinefunction") else asyncio
    ).iscoroutinefunction


def native_socket(fd):
    """Return a socket of the system, also under gevent, on a copy of a descriptor."""
    if PY2:
        return _socket.fromfd(fd, _socket.AF_INET, _socket.SOCK_STREAM)
    return _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, os.dup(fd))


# Python 2 has no name for Linux's number, which means something else on other systems.
POLLRDHUP = getattr(select, "POLLRDHUP", 0x2000 if sys.platform.startswith("linux") else 0)

READABLE = select.POLLIN | select.POLLPRI if hasattr(select, "POLLIN") else 1


# gevent's poll reports only "readable", and switches greenlets to find that out.
_new_poll = native(select, "poll") if hasattr(select, "poll") else None


#: The error of a poll that a signal interrupted; Python 3 repeats the poll instead (PEP 475).
INTERRUPTED = select.error if PY2 else ()


def _poll(fd):
    poll = _new_poll()
    poll.register(fd, READABLE | POLLRDHUP)
    return partial(poll.poll, 0)


def _select(fd):
    return lambda: [(fd, READABLE) for ready in select.select([fd], [], [], 0)[0]]


#: poller(fd) returns a function that polls the socket without waiting. It returns [] if nothing has
#: happened, else [(fd, events)]. An event other than READABLE means that the peer is gone.
poller = _poll if _new_poll is not None else _select
