"""Background threads, on every version of Python and under gevent."""

import atexit
import os
import sys
import threading
import time

from persistconn import compat
from persistconn.compat import monotonic, native, thread_module


def _will_fork_in_c():
    """Whether this process is uWSGI's master, which forks without taking the GIL.

    A worker that is forked while a background thread has the GIL waits for it for ever.
    """
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0 and uwsgi.mule_id() == 0


_start_natively = native(thread_module, "start_new_thread")
_is_green = "gevent.monkey" in sys.modules

#: True until the interpreter exits, then False; None when Python 2 has cleared this module.
alive = True
_starting = set()
_native_threads = set()


def _load_unwinder():
    # A child that is forked while a thread loads this library has a half-written list of libraries
    # in glibc, and aborts when its own first thread ends. Without a free descriptor the loading
    # fails, and the process aborts, too.
    import ctypes

    try:
        ctypes.CDLL("libgcc_s.so.1")
    except OSError:
        pass  # this system does not need it


if compat.LOADS_AT_THE_END_OF_THREADS:
    _load_unwinder()


def start_thread(function, *args):
    """Call a function in a background thread; under gevent, in a greenlet.

    Return False if no thread can start: too many run, or the interpreter is ending.
    """
    try:
        return _start(thread_module.start_new_thread, function, args) if alive else False
    except:  # noqa: E722, as Python 2 clears names at its exit, also while a thread is in here
        if alive:
            raise
        return False


def start_named_thread(name, function):
    """Like start_thread(), in a thread that ``threading`` lists. Destructors must not call it."""
    if _will_fork_in_c():
        return False
    if _is_green:
        # Greenlets live on in a forked child, which ``threading`` does not expect.
        return start_thread(function)
    me = _new_mark()
    thread = threading.Thread(target=_run, name=name, args=(me, function, ()))
    thread.daemon = True
    # Thread.start() waits for the new thread, and if an exception interrupts this wait on Python
    # 3.8, it may never end. So another thread calls start().
    return start_thread(_start_named, me, thread, function)


def _start_named(me, thread, function):
    if not _begin(me, thread.start):
        function()


def start_native_thread(function, *args):
    """Like start_thread(), but in a thread of the system, also under gevent.

    The function must not use gevent, and must return soon after ``alive`` has become false.
    """
    if not alive or _will_fork_in_c():
        return False
    me = _new_mark()
    _native_threads.add(me)
    started = _start(_start_natively, _run_native, (me, function, args))
    if not started:
        _native_threads.discard(me)
    return started


def _new_mark():
    # With the pid, because a forked child has none of its parent's threads.
    return os.getpid(), object()


def _start(start, function, args):
    me = _new_mark()
    return _begin(me, start, _run, (me, function, args))


def _begin(me, start, *args):
    # Before the look at ``alive``: either _exit() waits for this thread, or none starts.
    _starting.add(me)
    started = False
    try:
        if alive:
            start(*args)
            started = True
    except (RuntimeError, thread_module.error):
        pass
    finally:
        if not started:
            _starting.discard(me)
    return started


def _run(me, function, args):
    try:
        _starting.discard(me)
        function(*args)
    except:  # noqa: E722, as Python 2 clears names of exceptions at its exit
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
    ends_at = monotonic() + 1
    # Before 3.8 a thread that takes the GIL for the first time while the interpreter clears its
    # threads can block the exit for ever: it waits for a lock of the clearing thread, with the GIL.
    _wait_until_empty(_starting, ends_at)
    if compat.CLEARS_MODULES_AT_EXIT:
        _wait_until_empty(_native_threads, ends_at)  # they use modules


def _wait_until_empty(threads, ends_at):
    me = os.getpid()
    while monotonic() < ends_at and any(pid == me for pid, _ in list(threads)):
        time.sleep(0.001)  # under gevent it lets greenlets begin
