"""Shuts down a socket when its server takes too long to answer. Independent of Django and drivers.

No driver limits its waits in every case: a timeout of the kernel does not notice a server process
that is stopped, or a PgBouncer whose server is gone. So another thread shuts the socket down, and
the driver sees its connection end, whatever it waits for.

There are no locks, because a signal handler may come at any point, and raise an exception or use a
limit of its own. Each decision is one atomic operation on a set or a dict.
"""

import socket
import time
import weakref

from persistconn import compat, threads
from persistconn.fork import PerProcess

#: Seconds between two checks of the limits: a block may exceed its limit by this much.
TICK = 0.1

#: Seconds after which the thread ends if there are no limits.
LINGER = 5

#: Seconds that a block waits at most for the watchdog to finish shutting its socket down.
PATIENCE = 1


class Limit(object):
    """``with Limit(fileno, seconds):`` the socket is shut down if the block lasts longer.

    ``fileno()`` is called only then, because a descriptor's number may be reused. Nothing is shut
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
        # The code after the block may close the socket, and another file may then get its number.
        ends_at = compat.monotonic() + PATIENCE
        while not self.is_over and compat.monotonic() < ends_at:
            time.sleep(0.001)

    def shut_down(self):
        try:
            _shut_down(self.fileno)
        except Exception:
            pass  # The connection has no socket any more, or the peer has closed it.
        finally:
            self.is_over = True


def _shut_down(fileno):
    fd = fileno()
    copy = compat.native_socket(fd)
    try:
        # If the number was the same before and after, the copy is of the connection's own socket.
        if fileno() == fd:
            copy.shutdown(socket.SHUT_RDWR)
    finally:
        copy.close()


class Watchdog(object):
    """The limits of a process, and the thread that watches them while there are any.

    The references are weak: if an exception prevents forget(), the limit must not shut down a
    connection that has another user by now.
    """

    def __init__(self):
        self._limits = set()
        self._runner = {}

    def watch(self, ref):
        self._limits.add(ref)
        if not self._runner:
            # If no thread can start, the block runs without a limit.
            threads.start_native_thread(self._run)

    def forget(self, ref):
        """Stop watching a limit. Return True to one thread only, False if it was not watched."""
        try:
            self._limits.remove(ref)
        except KeyError:
            return False
        return True

    def _run(self):
        me = object()
        # Of all started threads one runs. It checks again at its end, as a limit may have come.
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
