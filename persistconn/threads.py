"""The threads that persistconn runs in the background, on every Python and under gevent."""

from __future__ import absolute_import

import atexit
import os
import sys
import threading

from persistconn.compat import PY2, monotonic, native, native_sleep

try:
    import _thread
except ImportError:  # Python 2
    import thread as _thread

#: Whether a child that is forked in C, as uWSGI does it, may wait for ever for a lock that a thread
#: of its parent had: then no thread of ours may run while applications are merely imported.
FORKS_IN_C_KEEP_LOCKS = PY2


def _will_fork_in_c():
    """Whether this is uWSGI's master. It forks whoever has the interpreter's lock, and a worker that is
    forked while a thread of ours has it waits for it for ever.
    """
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0 and uwsgi.mule_id() == 0


_start_natively = native(_thread, "start_new_thread")
_is_green = "gevent.monkey" in sys.modules

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
    if _is_green:
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
