"""What a wrapper has with persistconn: the settings it connects by, and its connection."""

from __future__ import absolute_import

import weakref

from persistconn import databases

#: From so many cursors on, dead ones are looked for; and again when there are twice as many.
CROWD = 50

# Classes of cursors that wrap no other one: few, unless somebody makes them at run time.
_innermost = set()


class Lease(object):
    """One for each wrapper (for each thread's part of it on 1.2 and 1.3), as long as that lives.

    It holds at most one entry, from the checkout, or from before the connection is opened, until
    the checkin or the close. A wrapper that is open without an entry is not ours.
    """

    __slots__ = (
        "wrapper database home entries cursors named_cursors crowd is_own is_registered"
    ).split()

    def __init__(self, wrapper):
        # Weak, as a wrapper that is thrown away must take its connection along.
        self.wrapper = weakref.ref(wrapper)
        self.database = None
        #: The wrappers of its owner's unit of work, once it has joined that.
        self.home = None
        self.entries = []  # at most one
        #: Weak references to the cursors that its unit of work has made, dead ones among them.
        self.cursors = set()
        #: Those in the server, until they are closed. Not weak references: the garbage collector
        #: clears these before it has the generator of an iterator() close its cursor.
        self.named_cursors = []
        self.crowd = CROWD
        #: Whether its unit of work made a cursor otherwise than by the ORM, and so may have put
        #: something into the session that another one does not have.
        self.is_own = False
        #: Whether Django's registry has the wrapper; one made by hand is its maker's to close.
        self.is_registered = False

    @property
    def entry(self):
        """The entry, or None."""
        for entry in self.entries:
            return entry

    @property
    def is_opening(self):
        """Whether Django opens a connection for the wrapper now."""
        entry = self.entry
        return entry is not None and entry.raw is None

    def put(self, entry):
        self.entries[:] = (entry,)
        self.is_own = False
        if self.cursors or self.named_cursors:
            self.take_cursors()  # of a unit of work whose end was interrupted

    def take(self):
        """Take the entry away, or None: of two threads that end a shared wrapper one gets it.

        An exception that interrupts its end leaves the wrapper open without an entry; take_over()
        finds the connection's slot again.
        """
        try:
            return self.entries.pop()
        except IndexError:
            return None

    def database_now(self, wrapper):
        """Return the Database of the wrapper's settings as they are now."""
        database = self.database
        if database is None or not database.is_of(wrapper.settings_dict):
            self.database = database = databases.of(wrapper, database)
        return database

    def track(self, cursor, is_named):
        """Remember a cursor as long as somebody else does, or until it is closed if it has a name."""
        # Django wraps the driver's cursor once or twice.
        while cursor.__class__ not in _innermost:
            inner = getattr(cursor, "cursor", None)
            if inner is None:
                if len(_innermost) < CROWD:
                    _innermost.add(cursor.__class__)
                break
            cursor = inner
        if is_named:
            self._track_named(cursor)
            return
        cursors = self.cursors
        try:
            cursors.add(weakref.ref(cursor))
        except TypeError:
            return  # the driver's cursors cannot be referenced weakly
        if len(cursors) > self.crowd:
            cursors.difference_update([ref for ref in list(cursors) if ref() is None])
            self.crowd = 2 * len(cursors) + CROWD

    def _track_named(self, cursor):
        self.named_cursors[:] = self._open_named() + [cursor]

    def take_cursors(self):
        """Return the cursors that are still open, and forget all."""
        found = []
        for ref in list(self.cursors):
            cursor = ref()
            if cursor is not None and not getattr(cursor, "closed", False):
                found.append(cursor)
        if self.named_cursors:
            found += self._open_named()
            del self.named_cursors[:]
        self.cursors.clear()
        self.crowd = CROWD
        return found

    def _open_named(self):
        return [one for one in self.named_cursors if not getattr(one, "closed", False)]


def of(wrapper):
    """Return the Lease of a wrapper."""
    try:
        return wrapper._persistconn
    except AttributeError:
        # setdefault, as a wrapper may be shared between threads.
        return wrapper.__dict__.setdefault("_persistconn", Lease(wrapper))
