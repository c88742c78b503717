"""Shuts down a socket when its server takes too long to answer. Knows neither Django nor a driver.

No driver bounds its own wait against everything a network can do: a time-out of the kernel does
not see a server that is stopped, nor a PgBouncer whose server is gone. So another thread shuts
the socket down, and the driver, whatever it waits for, sees the end of its connection.

There are no locks: at any point a signal handler may raise an exception, or use a limit of its own.
Each decision is one atomic operation on a set or a dict.
"""

from __future__ import absolute_import

import socket
import time
import weakref

from persistconn import compat, threads
from persistconn.fork import PerProcess

#: Seconds between two looks at the limits: a block may last that much longer.
TICK = 0.1

#: Seconds without any limit after which the thread ends.
LINGER = 5

#: Seconds that a block waits at most while its socket is being shut down.
PATIENCE = 1


class Limit(object):
    """``with Limit(fileno, seconds):`` the socket is shut down if the block lasts longer.

    ``fileno()`` is called only then, as a descriptor's number may have been reused. Nothing is shut
    down if it returns None or raises. ``seconds`` None: no limit.
    """

    __slots__ = ("fileno", "seconds", "ends_at", "is_over", "_watchdog", "_ref", "__weakref__")

    def __init__(self, fileno, seconds):
        self.fileno = fileno
        self.seconds = seconds

    def __enter__(self):
        if self.seconds is not None:
            self.is_over = False
            self.ends_at = compat.monotonic() + self.seconds
            self._ref = weakref.ref(self)
            self._watchdog = _watchdogs.get()
            self._watchdog.watch(self._ref)

    def __exit__(self, *exception):
        if self.seconds is not None and not self._watchdog.forget(self._ref):
            self._wait_until_shut_down()

    def _wait_until_shut_down(self):
        # What follows the block may close the socket, and another one get its number.
        ends_at = compat.monotonic() + PATIENCE
        while not self.is_over and compat.monotonic() < ends_at:
            time.sleep(0.001)

    def shut_down(self):
        try:
            _shut_down(self.fileno)
        except Exception:
            pass  # The connection has no socket any more, or the peer was faster.
        finally:
            self.is_over = True


def _shut_down(fileno):
    fd = fileno()
    copy = compat.native_socket(fd)
    try:
        # The copy is of the connection's own socket if that has this number before and after.
        if fileno() == fd:
            copy.shutdown(socket.SHUT_RDWR)
    finally:
        copy.close()


class Watchdog(object):
    """The limits of a process, and the thread that watches them while there are any.

    The references are weak: an exception may keep a limit from being forgotten, and then it must
    not shut down a connection that somebody else has by now.
    """

    def __init__(self):
        self._limits = set()
        self._runner = {}

    def watch(self, ref):
        self._limits.add(ref)
        if not self._runner:
            # If no thread can start, the work goes on without a limit.
            threads.start_native_thread(self._run)

    def forget(self, ref):
        """Return whether it was still watched. Of two threads that ask, one gets True."""
        try:
            self._limits.remove(ref)
        except KeyError:
            return False
        return True

    def _run(self):
        me = object()
        # One of all that were started goes on. It looks again, as a limit may come while it ends.
        while threads.alive and self._limits and self._runner.setdefault("me", me) is me:
            try:
                self._watch_limits()
            finally:
                self._runner.clear()

    def _watch_limits(self):
        now = ends_at = compat.monotonic()
        while now <= ends_at and threads.alive:
            compat.native_sleep(TICK)
            now = compat.monotonic()
            if self._limits:
                self._shut_down_overdue(now)
                ends_at = now + LINGER

    def _shut_down_overdue(self, now):
        for ref in list(self._limits):
            limit = ref()
            if limit is None:
                self._limits.discard(ref)
            elif now >= limit.ends_at and self.forget(ref):
                limit.shut_down()


_watchdogs = PerProcess(Watchdog)
