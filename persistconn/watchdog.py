"""Cuts the line of who waits too long for an answer. Knows neither Django nor a driver.

No driver bounds its own wait against everything a network can do: a time-out of the kernel does
not see a server that is stopped, nor a PgBouncer whose server is gone. So the socket is shut
down from another thread, and the driver, whatever it waits for, sees the end of its connection.
"""

from __future__ import absolute_import

import atexit
import socket
import threading

from persistconn import compat
from persistconn.fork import PerProcess

#: Seconds by which a limit may be exceeded at the most, for a thread that costs next to nothing.
TICK = 0.1


class Limit(object):
    """``with Limit(line, seconds):`` the socket is shut down if the block lasts longer.

    ``line``: its descriptor, or an object whose fileno() is asked for it then, and may raise.
    """

    __slots__ = ("line", "seconds", "ends_at")

    def __init__(self, line, seconds):
        self.line = line
        self.seconds = seconds

    def __enter__(self):
        self.ends_at = compat.monotonic() + self.seconds
        _watchdogs.get().watch(self)

    def __exit__(self, *exception):
        _watchdogs.get().forget(self)


class Limitless(object):
    """For a connection whose socket cannot be had."""

    def __enter__(self):
        pass

    def __exit__(self, *exception):
        pass


class Watchdog(object):
    """One thread for all limits of a process, started with the first."""

    def __init__(self):
        self._lock = threading.Lock()
        self._limits = set()
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._thread = None

    def watch(self, limit):
        with self._lock:
            self._limits.add(limit)
            if self._thread is None:
                self._start()
            self._wanted.set()

    def forget(self, limit):
        with self._lock:
            self._limits.discard(limit)

    def end(self):
        """End the thread; at the exit of Python 2 it would find its modules gone."""
        if self._thread is not None:
            self._ended.set()
            self._wanted.set()
            self._thread.join()

    def _start(self):
        self._thread = threading.Thread(target=self._run, name="persistconn watchdog")
        self._thread.daemon = True
        self._thread.start()

    def _run(self):
        while not self._ended.is_set():
            self._wanted.wait()
            self._ended.wait(TICK)
            with self._lock:
                # Under the lock, so that nobody closes the descriptor meanwhile and its number
                # becomes somebody else's.
                self._cut_overdue()
                if not self._limits:
                    self._wanted.clear()

    def _cut_overdue(self):
        now = compat.monotonic()
        for limit in [limit for limit in self._limits if now >= limit.ends_at]:
            self._limits.discard(limit)
            _shut_down(limit.line)


def _shut_down(line):
    try:
        fd = line if isinstance(line, int) else line.fileno()
        # Of what family it is does not matter for this.
        line = socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)
    except Exception:
        return
    try:
        line.shutdown(socket.SHUT_RDWR)
    except (OSError, socket.error):
        pass
    finally:
        line.close()


_watchdogs = PerProcess(Watchdog)
atexit.register(lambda: _watchdogs.get().end())
