"""What a wrapper has with persistconn: the settings it connects by, and its connection."""

from __future__ import absolute_import

import weakref

from persistconn import databases


class Lease(object):
    """One for each wrapper (for each thread's part of it on 1.2 and 1.3), as long as that lives.

    It holds at most one entry, from the checkout, or from before the connection is opened, until
    the checkin or the close. A wrapper that is open without an entry is not ours.
    """

    __slots__ = "wrapper database cursors is_own is_registered _entries".split()

    def __init__(self, wrapper):
        # Weak, as a wrapper that is thrown away must take its connection along.
        self.wrapper = weakref.ref(wrapper)
        self.database = None
        self._entries = []  # at most one
        #: Weak references to the cursors that its unit of work has made and not thrown away.
        self.cursors = set()
        #: Whether its unit of work made a cursor otherwise than by the ORM, and so may have put
        #: something into the session that another one does not have.
        self.is_own = False
        #: Whether Django's registry has the wrapper; one made by hand is its maker's to close.
        self.is_registered = False

    @property
    def entry(self):
        """The entry, or None."""
        try:
            return self._entries[0]
        except IndexError:
            return None

    @property
    def is_opening(self):
        """Whether Django opens a connection for the wrapper now."""
        entry = self.entry
        return entry is not None and entry.raw is None

    def put(self, entry):
        self._entries[:] = (entry,)
        self.is_own = False
        if self.cursors:
            self.cursors = set()

    def take(self):
        """Take the entry away, or None: of two threads that end a shared wrapper one gets it.

        An exception that interrupts its end leaves the wrapper open without an entry; take_over()
        finds the connection's slot again.
        """
        try:
            return self._entries.pop()
        except IndexError:
            return None

    def database_now(self, wrapper):
        """Return the Database of the wrapper's settings as they are now."""
        self.database = database = databases.of(wrapper, self.database)
        return database

    def track(self, cursor):
        """Remember a cursor as long as somebody else does."""
        # Django wraps the driver's cursor once or twice.
        inner = getattr(cursor, "cursor", None)
        while inner is not None:
            cursor, inner = inner, getattr(inner, "cursor", None)
        try:
            self.cursors.add(weakref.ref(cursor, self.cursors.discard))
        except TypeError:
            pass  # the driver's cursors cannot be referenced weakly

    def open_cursors(self):
        if not self.cursors:
            return ()
        cursors = [ref() for ref in list(self.cursors)]
        return [one for one in cursors if one is not None and not getattr(one, "closed", False)]


def of(wrapper):
    """Return the Lease of a wrapper."""
    try:
        return wrapper._persistconn
    except AttributeError:
        # setdefault, as a wrapper may be shared between threads.
        return wrapper.__dict__.setdefault("_persistconn", Lease(wrapper))
