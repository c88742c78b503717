"""The one place for differences between Pythons."""

from __future__ import absolute_import

import _socket
import atexit
import os
import select
import struct
import sys
import threading
import time
from functools import partial

try:
    import _thread
except ImportError:  # Python 2
    import thread as _thread

try:
    # The one that get_running_loop() asks before it raises.
    from asyncio import _get_running_loop as running_loop
except ImportError:  # Python 2

    def running_loop():
        return None


__all__ = [
    "FORKS_IN_C_KEEP_LOCKS",
    "INTERRUPTED",
    "acquire",
    "after_fork_in_child",
    "alive",
    "get_ident",
    "innermost",
    "monotonic",
    "native_sleep",
    "native_socket",
    "poller",
    "reraise",
    "running_loop",
    "start_named_thread",
    "start_native_thread",
    "start_thread",
]


PY2 = sys.version_info < (3,)


def get_ident():
    """The ident of this thread; of this greenlet, also if gevent has been imported after this module."""
    return _thread.get_ident()


#: Whether a child that is forked in C, as uWSGI does it, may wait for ever for a lock that a thread
#: of its parent had: then no thread of ours may run while applications are merely imported.
FORKS_IN_C_KEEP_LOCKS = PY2


def _will_fork_in_c():
    """Whether this is uWSGI's master. It forks whoever has the interpreter's lock, and a worker that is
    forked while a thread of ours has it waits for it for ever.
    """
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0 and uwsgi.mule_id() == 0


def after_fork_in_child(function):
    """Have a function called in each forked child at once, where Python does so (3.7 and later).

    Not in those that uWSGI and others fork in C: what must be right compares process ids as well.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


# Each system has its own number for CLOCK_MONOTONIC.
_CLOCKS = {"linux": 1, "darwin": 6, "freebsd": 4}


def _clock_of_libc():
    """Return what time.monotonic() is in Python 3, or None where libc has no such clock."""
    try:
        import ctypes

        clock = _CLOCKS[sys.platform.rstrip("0123456789")]
        library = ctypes.PyDLL(None)
        if not hasattr(library, "clock_gettime"):
            library = ctypes.PyDLL("librt.so.1")  # glibc before 2.17
        clock_gettime = library.clock_gettime
        # As long as needed where these numbers have 64 bits on a system of 32.
        now = (ctypes.c_long * 4)()
        pointer = ctypes.byref(now)
        if clock_gettime(clock, pointer) != 0:
            return None
    except (ImportError, KeyError, OSError, AttributeError):
        return None
    # Without argtypes, which make a call twice as dear.
    clock_gettime.restype = None
    unpack = struct.Struct("ll").unpack_from

    def monotonic():
        # All threads share the buffer: PyDLL keeps the interpreter's lock during the call, and
        # unpack() reads both numbers in one.
        clock_gettime(clock, pointer)
        seconds, nanoseconds = unpack(now)
        return seconds + nanoseconds * 1e-9

    return monotonic


#: Seconds on a clock that nobody can set. Python 2 has it on Linux, macOS and FreeBSD. Elsewhere it
#: gets the wall clock: if that is set back, waits take longer and connections look younger.
monotonic = getattr(time, "monotonic", None) or _clock_of_libc() or time.time

_monkey = sys.modules.get("gevent.monkey")


def _native(module, name):
    """A function of a module as it was before gevent replaced it."""
    if _monkey is not None:
        return _monkey.get_original(module.__name__, name)
    return getattr(module, name)


native_sleep = _native(time, "sleep")
_start_natively = _native(_thread, "start_new_thread")

#: Whether the interpreter goes on. False at its exit, None when Python 2 has cleared this module.
alive = True
_native_threads = set()


def _load_unwinder():
    # From Python 3 to 3.9 a thread loads this library at its end. A process that is forked at that
    # moment aborts when its own first thread ends, as glibc's list of libraries is half written in
    # it; and without a free descriptor the loading fails and aborts as well (bpo-44434).
    import ctypes

    try:
        ctypes.CDLL("libgcc_s.so.1")
    except OSError:
        pass  # a system that needs none


if (3,) < sys.version_info < (3, 10) and sys.platform.startswith("linux"):
    _load_unwinder()


def start_thread(function, *args):
    """Call a function in a background thread; under gevent, in a greenlet.

    Return False if no thread can start: too many run, or the interpreter is ending.
    """
    return _start(_thread.start_new_thread, function, args) if alive else False


def start_named_thread(name, function):
    """The same in a thread that ``threading`` lists; not to be called by a destructor."""
    if _will_fork_in_c():
        return False
    if _monkey is not None:
        # Greenlets live on in a forked child, which ``threading`` does not expect.
        return start_thread(function)
    thread = threading.Thread(target=_run, name=name, args=(function, ()))
    thread.daemon = True
    # By another thread: who starts one waits for it, and if an exception interrupts that wait on
    # Python 3.8, it may never end.
    return start_thread(_start_named, thread, function)


def _start_named(thread, function):
    try:
        thread.start()
    except (RuntimeError, _thread.error):
        function()


def start_native_thread(function, *args):
    """The same in a thread of the system, also under gevent: the function must not use gevent.

    It must return soon after ``alive`` has become false.
    """
    if not alive or _will_fork_in_c():
        return False
    # With the pid, as a forked child has none of its parent's threads.
    me = os.getpid(), object()
    _native_threads.add(me)
    started = _start(_start_natively, _run_native, (me, function, args))
    if not started:
        _native_threads.discard(me)
    return started


def _start(start, function, args):
    try:
        start(_run, (function, args))
    except (RuntimeError, _thread.error):
        return False
    return True


def innermost(function):
    """Return the function that decorators which set ``__wrapped__`` have wrapped."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _run(function, args):
    try:
        function(*args)
    except:  # noqa: E722, as Python 2 clears the names of exceptions as well
        if alive:
            raise


def _run_native(me, function, args):
    try:
        function(*args)
    finally:
        _native_threads.discard(me)


@atexit.register
def _exit():
    global alive
    alive = False
    if PY2:
        _wait_for_native_threads(monotonic() + 1)


def _wait_for_native_threads(ends_at):
    """Let them return before Python 2 clears the modules that they use."""
    me = os.getpid()
    while monotonic() < ends_at and any(pid == me for pid, _ in list(_native_threads)):
        native_sleep(0.01)


if PY2:

    def acquire(lock, seconds):
        """Wait up to so many seconds for a lock. Return whether it was acquired."""
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
        """Wait up to so many seconds for a lock. Return whether it was acquired."""
        return lock.acquire(True, min(max(seconds, 0), threading.TIMEOUT_MAX))


def native_socket(fd):
    """A socket on a copy of a descriptor, never gevent's."""
    if PY2:
        return _socket.fromfd(fd, _socket.AF_INET, _socket.SOCK_STREAM)
    return _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, os.dup(fd))


# Python 2's select has no name for it; elsewhere than on Linux the number means something else.
POLLRDHUP = getattr(select, "POLLRDHUP", 0x2000 if sys.platform.startswith("linux") else 0)

READABLE = select.POLLIN | select.POLLPRI if hasattr(select, "POLLIN") else 1


# gevent's own knows only "readable", and switches greenlets to find that out.
_new_poll = _native(select, "poll") if hasattr(select, "poll") else None


#: The error of a poll that a signal interrupted; Python 3 goes on by itself.
INTERRUPTED = select.error if PY2 else ()


def _poll(fd):
    poll = _new_poll()
    poll.register(fd, READABLE | POLLRDHUP)
    return partial(poll.poll, 0)


def _select(fd):
    return lambda: [(fd, READABLE) for ready in select.select([fd], [], [], 0)[0]]


#: poller(fd) returns a function that answers [] while nothing has happened on the socket,
#: else [(fd, events)]; an event other than READABLE says that the peer is gone.
poller = _poll if _new_poll is not None else _select


if PY2:
    # What Python 2 writes for it, Python 3 cannot read.
    exec("def _raise_with_traceback(kind, error, traceback):\n    raise kind, error, traceback\n")
else:

    def _raise_with_traceback(kind, error, traceback):
        try:
            raise error.with_traceback(traceback)
        finally:
            del error, traceback


def reraise(caught):
    """Raise the first of a list of sys.exc_info(), with its own traceback, and empty the list.

    Frames of the traceback that had the list, or the error, would else live as long as each other,
    with all that they have: until the garbage collector comes.
    """
    first = caught[0]
    del caught[:]
    try:
        _raise_with_traceback(*first)
    finally:
        del first
