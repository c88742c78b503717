"""The one place for differences between Pythons."""

from __future__ import absolute_import

import os
import select
import sys
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
    "after_fork_in_child",
    "get_ident",
    "monotonic",
    "poller",
    "reraise",
    "running_loop",
    "start_new_thread",
    "thread_ident",
]


PY2 = sys.version_info < (3,)

get_ident, start_new_thread = _thread.get_ident, _thread.start_new_thread


def thread_ident():
    """get_ident() as it is now: gevent may have replaced it after persistconn was imported."""
    return _thread.get_ident()


#: Whether a child that is forked in C, as uWSGI does it, may wait for ever for a lock that a thread
#: of its parent had: then no thread of ours may run while applications are merely imported.
FORKS_IN_C_KEEP_LOCKS = PY2


def after_fork_in_child(function):
    """Have a function called in each forked child at once, where Python does so (3.7 and later).

    Not in those that uWSGI and others fork in C: what must be right compares process ids as well.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


# Python 2 has only the wall clock: a clock set back makes a connection look younger.
monotonic = getattr(time, "monotonic", time.time)

# Python 2's select has no name for it; elsewhere than on Linux the number means something else.
POLLRDHUP = getattr(select, "POLLRDHUP", 0x2000 if sys.platform.startswith("linux") else 0)

READABLE = select.POLLIN | select.POLLPRI if hasattr(select, "POLLIN") else 1


# gevent's own knows only "readable", and switches greenlets to find that out.
_monkey = sys.modules.get("gevent.monkey")
_new_poll = _monkey.get_original("select", "poll") if _monkey else getattr(select, "poll", None)


def _poll(fd):
    poll = _new_poll()
    poll.register(fd, READABLE | POLLRDHUP)
    return partial(poll.poll, 0)


def _select(fd):
    return lambda: [(fd, READABLE) for ready in select.select([fd], [], [], 0)[0]]


#: poller(fd) returns a function that answers [] while nothing has happened on the socket,
#: else [(fd, events)]; an event other than READABLE says that the peer is gone.
poller = _poll if _new_poll is not None else _select


def _raise_with_traceback(kind, error, traceback):
    raise error.with_traceback(traceback)


if PY2:
    # What Python 2 writes for it, Python 3 cannot read.
    exec("def _raise_with_traceback(kind, error, traceback):\n    raise kind, error, traceback\n")

#: reraise(*sys.exc_info()) raises what was caught earlier, with its own traceback.
reraise = _raise_with_traceback
