"""One physical connection and its bookkeeping: HikariCP's pool entry."""

import os
import random

from persistconn import compat

#: MAX_AGE is shortened at random by up to this share, so that connections opened together do not
#: expire together.
JITTER = 0.05


class Entry(object):
    """One physical connection. It takes its slot in the pool before it is opened.

    ``raw``, the driver's connection, is None until then.
    """

    __slots__ = (
        "raw driver pool slot lease pid is_idle generation opened_at jitter used_at poll is_blind"
        " flags doom carried read_only_by losses_at_check doubts_at_check was_read_only probe"
        " undo __weakref__"
    ).split()

    def __init__(self, pool, slot, generation):
        self.raw = None
        self.pool = pool
        self.slot = slot
        self.lease = None  # a weak reference to the Lease that has or had it last
        self.pid = os.getpid()
        self.is_idle = False
        self.generation = generation
        self.doom = None  # the reason to discard it at its checkin
        slot.give_to(self)

    def opened(self, raw, driver, read_only_by=(), probe="SELECT 1", was_read_only=None):
        self.driver = driver
        self.opened_at = self.used_at = compat.monotonic()
        # "on" or "off", as the server said when this session was opened; None: it did not.
        self.was_read_only = was_read_only
        if was_read_only == "off":
            self.pool.can_write(self)
        # The pool's loss count at the opening or the last successful ping; if it has changed
        # since, ping again.
        self.losses_at_check = self.pool.losses
        # The same for refused writes; if that has changed, ask whether the session can write.
        self.doubts_at_check = self.pool.writing.doubts
        self.jitter = 1 - JITTER * random.random()
        fd = driver.fileno(raw)
        self.poll = list if fd is None else compat.poller(fd)
        self.is_blind = fd is None  # the socket cannot be polled, so each reuse needs a ping
        self.flags = driver.flags(raw)
        self.read_only_by = read_only_by  # server parameters that must not be "on"
        self.probe = probe  # the SQL of a ping, if the driver has no ping() of its own
        self.carried = {}  # attributes that Django set on the wrapper when it opened the connection
        # SQL that restores the session as it was after its opening, for RESET = "session"; False: the
        # driver knows none; None: nobody has asked.
        self.undo = None
        self.raw = raw  # last: an exception at any earlier point leaves the entry unopened
        self.slot.filled(self)

    def distrust(self):
        """Require a ping before the connection's next use."""
        self.losses_at_check = None

    def doubt(self):
        """Have the session show that it can write before its next use. Not on a replica."""
        if self.pool.writing.is_possible():
            self.losses_at_check = self.doubts_at_check = None

    def is_read_only(self):
        """Whether the session is read-only although OPTIONS ask for one that can write."""
        return any(self.driver.parameter(self.raw, name) == "on" for name in self.read_only_by)

    def is_inherited(self):
        """Whether the connection belongs to a parent process, from before the fork."""
        return self.pid != os.getpid()

    def close(self):
        """Close the connection; abandon it if it belongs to a parent process."""
        if self.raw is None:
            return
        if self.is_inherited():
            self.driver.abandon(self.raw)
        else:
            self.driver.close(self.raw)


class StandIn(object):
    """Stands in for a raw connection that stays open while its wrapper closes.

    Its ``close()`` does nothing. A backend's own close() gets all other attributes as they are.
    """

    def __init__(self, raw):
        self._raw = raw
        self.may_be_in_a_transaction = False

    def __getattr__(self, name):
        if name in ("cursor", "execute"):
            self.may_be_in_a_transaction = True
        return getattr(self._raw, name)

    def close(self):
        pass
