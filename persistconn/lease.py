"""The lease: what a wrapper has of its pool, from the checkout to the checkin."""

from __future__ import absolute_import

import weakref

from persistconn import databases
from persistconn.cursors import Cursors
from persistconn.django_versions import dialect
from persistconn.pool.entry import StandIn

#: The wrapper has no connection.
CLOSED = "closed"
#: Django opens a connection for the wrapper now, in the slot of the lease's entry.
OPENING = "opening"
#: The wrapper has the connection of the lease's entry.
OPEN = "open"
#: The wrapper has a connection that this lease does not account for: SQLite, Django's own pool,
#: MAX_AGE 0, a connection put there by hand, or one whose end an exception has interrupted.
FOREIGN = "foreign"


class Lease(object):
    """One for each wrapper (for each thread's part of it on 1.2 and 1.3), as long as that lives.

    It holds at most one entry, from the checkout to the checkin or the close.
    """

    __slots__ = "wrapper database home entries cursors is_own is_registered".split()

    def __init__(self, wrapper):
        # Weak, as a wrapper that is thrown away must take its connection along.
        self.wrapper = weakref.ref(wrapper)
        self.database = None
        #: The wrappers of its owner's unit of work, once it has joined that.
        self.home = None
        self.entries = []  # at most one
        self.cursors = Cursors()
        #: Whether the unit of work made a cursor otherwise than by the ORM, and so may have put
        #: something into the session that another session does not have.
        self.is_own = False
        #: Whether Django's registry has the wrapper; one made by hand is its maker's to close.
        self.is_registered = False

    @property
    def entry(self):
        """The entry, or None."""
        for entry in self.entries:
            return entry

    def state(self, raw):
        """CLOSED, OPENING, OPEN or FOREIGN, with the connection that the wrapper has, or None."""
        for entry in self.entries:
            if entry.raw is None:
                return OPENING
            if entry.raw is raw:
                return OPEN
        return CLOSED if raw is None else FOREIGN

    def database_now(self, wrapper):
        """Return the Database of the wrapper's settings as they are now."""
        database = self.database
        if database is None or not database.is_of(wrapper.settings_dict):
            self.database = database = databases.of(wrapper, database)
        return database

    def put(self, entry):
        self.entries[:] = (entry,)
        self.is_own = False
        if self.cursors.known or self.cursors.named:
            self.cursors.take()  # of a unit of work whose end was interrupted

    def take(self):
        """Take the entry away, or None: of two threads that end a shared wrapper one gets it.

        If an exception interrupts its end, the wrapper stays open without an entry, FOREIGN, and
        accounting finds the connection's slot again.
        """
        try:
            return self.entries.pop()
        except IndexError:
            return None

    def drop(self):
        """Discard the entry of a closed wrapper: an exception has interrupted its opening or end."""
        entry = self.take()
        if entry is not None:
            entry.pool.discard(entry, "error")

    def leave_to_the_parent(self, wrapper):
        """Close the wrapper, and leave its session to the process that this one was forked from."""
        entry = self.entry
        # The pool is the parent's too.
        entry.pool = self.database_now(wrapper).pool or entry.pool
        entry.doom = "fork"
        dialect.leave_blocks(wrapper)
        self.take()
        give_back(wrapper, entry)


def of(wrapper):
    """Return the Lease of a wrapper."""
    try:
        return wrapper._persistconn
    except AttributeError:
        # setdefault, as a wrapper may be shared between threads.
        return wrapper.__dict__.setdefault("_persistconn", Lease(wrapper))


def give_back(wrapper, entry):
    """Close a wrapper whose entry the caller has taken, and return the entry to its pool."""
    try:
        if dialect.has_own_close(wrapper):
            wrapper.connection = StandIn(entry.raw)
            wrapper.close()
    finally:
        wrapper.connection = None
        if entry.doom == "busy":
            # So that a thread that is inside it gets out, and closing does not wait for it.
            entry.driver.shut_down(entry.raw)
        if entry.doom == "busy" and entry.driver.is_held(entry.raw):
            entry.pool.let_go(entry, "busy")
        else:
            entry.pool.release(entry)
