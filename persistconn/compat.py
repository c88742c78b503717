"""The one place for differences between Pythons."""

from __future__ import absolute_import

import os
import select
import sys
import time

try:
    from _thread import get_ident, start_new_thread
except ImportError:  # Python 2
    from thread import get_ident, start_new_thread

__all__ = [
    "after_fork_in_child",
    "get_ident",
    "getpid",
    "monotonic",
    "poller",
    "reraise",
    "start_new_thread",
]

if hasattr(os, "register_at_fork"):
    _pid = os.getpid()

    def getpid():
        """The process id, without a system call."""
        return _pid

    def after_fork_in_child(function):
        """Have a function called in each child at once. Returns it, to serve as a decorator."""
        os.register_at_fork(after_in_child=function)
        return function

    @after_fork_in_child
    def _note_pid():
        global _pid
        _pid = os.getpid()

else:  # before Python 3.7
    getpid = os.getpid

    def after_fork_in_child(function):
        return function


# Python 2 has only the wall clock: a clock set back makes a connection look younger.
monotonic = getattr(time, "monotonic", time.time)

# Python 2's select has no name for it; elsewhere than on Linux the number means something else.
POLLRDHUP = getattr(select, "POLLRDHUP", 0x2000 if sys.platform.startswith("linux") else 0)

READABLE = select.POLLIN | select.POLLPRI if hasattr(select, "poll") else 1


def _poll(fd):
    poll = select.poll()
    poll.register(fd, READABLE | POLLRDHUP)
    ask = poll.poll
    return lambda: ask(0)


def _select(fd):
    return lambda: [(fd, READABLE) for ready in select.select([fd], [], [], 0)[0]]


#: poller(fd) returns a function that answers [] while nothing has happened on the socket,
#: else [(fd, events)]; an event other than READABLE says that the peer is gone.
poller = _poll if hasattr(select, "poll") else _select


def _raise_with_traceback(kind, error, traceback):
    raise error.with_traceback(traceback)


if sys.version_info < (3,):
    # What Python 2 writes for it, Python 3 cannot read.
    exec("def _raise_with_traceback(kind, error, traceback):\n    raise kind, error, traceback\n")

#: reraise(*sys.exc_info()) raises what was caught earlier, with its own traceback.
reraise = _raise_with_traceback
