"""The lease: it holds a wrapper's entry of the pool from the checkout to the checkin."""

import os
import weakref

from persistconn import databases, transactions
from persistconn.cursors import Cursors
from persistconn.django_versions import dialect
from persistconn.pool.entry import StandIn

#: The wrapper has no connection.
CLOSED = "closed"
#: Django is opening a connection for the wrapper, in the slot of the lease's entry.
OPENING = "opening"
#: The wrapper has the connection of the lease's entry.
OPEN = "open"
#: The same in a forked child: the session is the parent's.
INHERITED = "inherited"
#: The wrapper has a connection, but the lease has no entry for it: SQLite, Django's own pool,
#: MAX_AGE 0, a connection put there by hand, or one whose checkin an exception has interrupted.
FOREIGN = "foreign"


class Lease(object):
    """Belongs to one wrapper, on Django 1.2 and 1.3 to one thread's part of it.

    It lives as long as the wrapper, and holds at most one entry, from the checkout to the checkin
    or the close.
    """

    __slots__ = (
        "wrapper database home entries cursors is_own has_sent is_registered is_lent is_set_up"
        " is_spare ref __weakref__"
    ).split()

    def __init__(self, wrapper):
        self.ref = weakref.ref(self)
        # Weak, because the connection of a wrapper that is dropped must go with it.
        self.wrapper = weakref.ref(wrapper)
        self.database = None
        #: The wrappers in the unit of work of the wrapper's owner, once the wrapper has joined it.
        self.home = None
        self.entries = []  # at most one
        self.cursors = Cursors()
        #: Whether the unit of work has used the connection without the ORM, or may have, and so may
        #: have changed its session.
        self.is_own = False
        #: Whether a cursor was made since the checkout; before 1.6, since the last commit or rollback.
        self.has_sent = False
        #: Whether a receiver of connection_checked_out has used the connection.
        self.is_set_up = False
        #: Whether code of the user's runs in the checkin, which holds the entry.
        self.is_lent = False
        #: Whether the wrapper opens a connection for the pool (background.py), and is in no unit of work.
        self.is_spare = False
        #: Whether Django's registry has the wrapper. If not, the code that made it must close it.
        self.is_registered = False

    @property
    def entry(self):
        """The entry, or None."""
        for entry in self.entries:
            return entry

    def snapshot(self, raw):
        """Return the state; and the entry if it is OPENING, OPEN or INHERITED, else None.

        Both are of one moment, because threads may share a wrapper. ``raw``: the wrapper's
        connection, or None.
        """
        for entry in self.entries:
            if entry.raw is None:
                return OPENING, entry
            if entry.raw is raw:
                return OPEN if entry.pid == os.getpid() else INHERITED, entry
        return CLOSED if raw is None else FOREIGN, None

    def database_now(self, wrapper):
        """Return the Database of the wrapper's settings as they are now."""
        database = self.database
        if database is None or not database.is_of(wrapper.settings_dict):
            self.database = database = databases.of(wrapper, database)
        return database

    def put(self, entry):
        self.entries[:] = (entry,)
        entry.lease = self.ref
        self.is_own = self.has_sent = self.is_set_up = self.is_lent = False
        if self.cursors.known or self.cursors.named:
            self.cursors.take()  # left over from a unit of work whose end was interrupted

    def take(self):
        """Remove and return the entry, or None. Of two threads that end a wrapper, one gets it.

        If an exception interrupts the checkin after that, the wrapper stays open without an entry
        (FOREIGN), and accounting.py finds the connection's slot again.
        """
        try:
            return self.entries.pop()
        except IndexError:
            return None

    def drop(self):
        """Discard the entry that an interrupted opening or checkin left in a closed wrapper."""
        entry = self.take()
        if entry is not None:
            entry.pool.discard(entry, "error")

    def leave_to_the_parent(self, wrapper, entry):
        """Close the wrapper in a forked child, and leave its session to the parent process."""
        # The entry's own pool is the parent's, too.
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
        # setdefault, because threads may share a wrapper.
        return wrapper.__dict__.setdefault("_persistconn", Lease(wrapper))


def give_back(wrapper, entry):
    """Close a wrapper whose entry the caller has taken, and return the entry to its pool."""
    try:
        if dialect.has_own_close(wrapper):
            wrapper.connection = stand_in = StandIn(entry.raw)
            wrapper.close()
            if entry.doom is None and stand_in.may_be_in_a_transaction:
                entry.doom = transactions.roll_back(entry)
    finally:
        wrapper.connection = None
        if entry.doom == "busy":
            # A thread may be inside the driver. This makes it return, and closing need not wait.
            entry.driver.shut_down(entry.raw)
        if entry.doom == "busy" and entry.driver.is_held(entry.raw):
            entry.pool.let_go(entry, "busy")
        else:
            entry.pool.release(entry)
