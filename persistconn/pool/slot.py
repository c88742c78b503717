"""The right to one open connection, and how it ends."""

import weakref

from persistconn import compat
from persistconn.pool.entry import Entry


class Slot(object):
    """The right to one open connection.

    It lasts as long as the connection, even if only a cursor still refers to the connection.
    """

    __slots__ = (
        "pool",
        "driver",
        "is_taken",
        "is_open",
        "is_counted",
        "is_shut_down",
        "opener",
        "reused_before",
        "reused",
        "taken_at",
        "_clock",
        "_warned_at",
        "used_seconds",
        "created_seconds",
        "_entry",
        "_watched",
    )

    def __init__(self, pool):
        self.pool = pool
        self.is_taken = False  # False until MAX_CONNS has been checked
        self.is_open = False  # whether its connection has been counted as opened
        self.is_counted = False  # whether its connection's end has been counted under a reason
        self.is_shut_down = False  # whether its connection is of no use to whoever is inside it
        # The ident of the background thread (spares.py) that has its connection, or None.
        self.opener = None
        # The value of ``reused`` when that thread opened the connection. None: it did not open it.
        self.reused_before = None
        self._warned_at = self._entry = self._watched = None
        self.begin()

    def begin(self):
        """Count from now on."""
        self.reused = 0
        self.used_seconds = self.created_seconds = 0.0
        # Kept, because at its exit Python 2 clears this module before the last connections go.
        self._clock = compat.monotonic
        self.taken_at = self._clock()  # the time of the checkout; None while idle

    def given_back(self, now=None):
        """Note the end of a checkout, at this moment if no other is given."""
        self.opener = None
        taken_at, self.taken_at = self.taken_at, None
        if taken_at is not None:
            self.used_seconds += (now or self._clock()) - taken_at

    def give_to(self, entry):
        """Belong to an entry. If the entry is lost before it is opened, this slot is freed."""
        self._entry = weakref.ref(entry)
        self._watch(entry)

    def entry(self):
        """Return its entry, or None if that does not exist any more."""
        return self._entry()

    def is_first_warning(self):
        """Whether nobody has asked this since the checkout."""
        before, self._warned_at = self._warned_at, self.taken_at
        return before != self._warned_at

    def has_entry(self):
        """Whether its entry still exists: in a lease, in the pool, or in a running function."""
        return self._entry() is not None

    def in_background(self):
        """Note that this thread opens or closes its connection in the background: nobody holds it."""
        self.opener, self.taken_at = compat.get_ident(), None

    def opened_in_background(self):
        """Note that its connection goes to the pool, without a user so far."""
        self.reused_before = self.reused

    def was_used(self):
        """Whether a unit of work has had its connection."""
        return self.reused_before is None or self.reused > self.reused_before

    def is_idle(self):
        entry = self._entry()
        return entry is not None and entry.is_idle

    def _watch(self, entry_or_raw):
        self._watched = weakref.ref(entry_or_raw, self._lost)

    def _lost(self, reference):
        # A thread inside has_ended() can keep the slot's previous reference alive.
        if reference is self._watched:
            self.pool.on_lost(self)

    def unwatch(self):
        self._watched = None  # its callback refers to this slot: a cycle

    def filled(self, entry):
        """Note that its entry's connection is open, and watch that instead of the entry."""
        self.driver = entry.driver
        try:
            # A cursor in another thread may outlive the entry, and keep the session open.
            self._watch(entry.raw)
        except TypeError:
            pass  # the driver's connections cannot be referenced weakly
        if not self.is_open:
            self.is_open = True
            self.pool.opened(self)

    def has_ended(self):
        """Whether its connection is garbage collected, or is over after Pool.let_go().

        Then it is closed, or it was shut down and the call that was inside the driver has returned.
        """
        # Read once, because another thread may unwatch this slot. Read again, because it may give
        # the slot to another entry.
        reference = self._watched
        watched = None if reference is None else reference()
        if watched is None:
            return reference is None or reference is self._watched
        raw = raw_of(watched) if self.is_counted else None
        if raw is None:
            return False
        return self.driver.is_closed(raw) or self.is_shut_down and not self.driver.is_held(raw)

    def raw(self):
        """Return the raw connection, or None before it is opened and after it is gone."""
        reference = self._watched  # read once, as above
        return None if reference is None else raw_of(reference())


def raw_of(watched):
    return watched.raw if isinstance(watched, Entry) else watched
