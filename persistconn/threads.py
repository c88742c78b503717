"""Background threads, on every version of Python and under gevent."""

import atexit
import os
import sys
import threading

from persistconn import compat
from persistconn.compat import monotonic, native, native_sleep, thread_module


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
    return _start(thread_module.start_new_thread, function, args) if alive else False


def start_named_thread(name, function):
    """Like start_thread(), in a thread that ``threading`` lists. Destructors must not call it."""
    if _will_fork_in_c():
        return False
    if _is_green:
        # Greenlets live on in a forked child, which ``threading`` does not expect.
        return start_thread(function)
    thread = threading.Thread(target=_run, name=name, args=(function, ()))
    thread.daemon = True
    # Thread.start() waits for the new thread, and if an exception interrupts this wait on Python
    # 3.8, it may never end. So another thread calls start().
    return start_thread(_start_named, thread, function)


def _start_named(thread, function):
    try:
        thread.start()
    except (RuntimeError, thread_module.error):
        function()


def start_native_thread(function, *args):
    """Like start_thread(), but in a thread of the system, also under gevent.

    The function must not use gevent, and must return soon after ``alive`` has become false.
    """
    if not alive or _will_fork_in_c():
        return False
    # With the pid, because a forked child has none of its parent's threads.
    me = os.getpid(), object()
    _native_threads.add(me)
    started = _start(_start_natively, _run_native, (me, function, args))
    if not started:
        _native_threads.discard(me)
    return started


def _start(start, function, args):
    try:
        start(_run, (function, args))
    except (RuntimeError, thread_module.error):
        return False
    return True


def _run(function, args):
    try:
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
    if compat.CLEARS_MODULES_AT_EXIT:
        _wait_for_native_threads(monotonic() + 1)


def _wait_for_native_threads(ends_at):
    """Wait for native threads to end, because Python 2 then clears the modules that they use."""
    me = os.getpid()
    while monotonic() < ends_at and any(pid == me for pid, _ in list(_native_threads)):
        native_sleep(0.01)
