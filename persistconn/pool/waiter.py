"""Threads that wait for a connection."""

import threading
import weakref

from persistconn import compat


class Exhausted(Exception):
    """No connection became free. ``waited``: for how many seconds the thread has waited."""

    def __init__(self, waited):
        Exception.__init__(self, waited)
        self.waited = waited


class Waiter(object):
    """A thread that waits for an entry. Waiters are served in the order of arrival."""

    def __init__(self):
        self.ref = weakref.ref(self)
        self._outcome = {}
        self._bell = threading.Lock()
        self._bell.acquire()

    def give(self, entry):
        """Hand over an entry. Return False if the waiter has stopped waiting."""
        given = self._outcome.setdefault("entry", entry) is entry
        if given:
            self._bell.release()
        return given

    def wait(self, seconds):
        """Return the entry as soon as there is one, or None after ``seconds``."""
        compat.acquire(self._bell, seconds)
        return self._outcome.get("entry")

    def go(self):
        """Stop waiting: accept no more entries. Return the entry that has come, or None."""
        return self._outcome.setdefault("entry", None)
