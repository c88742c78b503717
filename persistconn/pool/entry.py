"""One physical connection with what must be known of it: HikariCP's pool entry."""

from __future__ import absolute_import

import os
import random

from persistconn import compat

#: Connections opened together live up to this share shorter, so that they do not expire together.
JITTER = 0.05


class Entry(object):
    """One physical connection, in one slot of its pool from before it is opened.

    ``raw`` is None until then.
    """

    __slots__ = (
        "raw driver pool slot pid is_idle generation opened_at jitter used_at poll is_blind"
        " flags doom carried read_only_by losses_at_check probe __weakref__"
    ).split()

    def __init__(self, pool, slot, generation):
        self.raw = None
        self.pool = pool
        self.slot = slot
        self.pid = os.getpid()
        self.is_idle = False
        self.generation = generation
        self.doom = None  # the reason to discard it at its checkin
        slot.give_to(self)

    def opened(self, raw, driver, read_only_by=(), probe="SELECT 1"):
        self.driver = driver
        self.opened_at = self.used_at = compat.monotonic()
        # The pool's count of losses when this connection last answered. If another connection has
        # been lost since, this one must answer again.
        self.losses_at_check = self.pool.losses
        self.jitter = 1 - JITTER * random.random()
        fd = driver.fileno(raw)
        self.poll = list if fd is None else compat.poller(fd)
        self.is_blind = fd is None  # its socket cannot be polled, so it is always asked
        self.flags = driver.flags(raw)
        self.read_only_by = read_only_by  # parameters whose value "on" makes the session useless
        self.probe = probe  # the statement that asks the server whether it is there
        self.carried = {}  # attributes that Django set on the wrapper when it opened the connection
        self.raw = raw  # last, as an exception can come at any moment
        self.slot.filled(self)

    def distrust(self):
        """Have it answer a ping before its next use."""
        self.losses_at_check = None

    def is_read_only(self):
        """Whether it is of no use to settings that ask for a session that can write."""
        return any(self.driver.parameter(self.raw, name) == "on" for name in self.read_only_by)

    def is_inherited(self):
        """Whether it belongs to the process that this one was forked from."""
        return self.pid != os.getpid()

    def close(self):
        """Close the connection, or leave it to the process that it belongs to."""
        if self.raw is None:
            return
        if self.is_inherited():
            self.driver.abandon(self.raw)
        else:
            self.driver.close(self.raw)


class StandIn(object):
    """Takes the place of a raw connection, which stays open, while its wrapper closes.

    Its ``close()`` does nothing. A backend's own close() reaches all else of the connection.
    """

    def __init__(self, raw):
        self._raw = raw

    def __getattr__(self, name):
        return getattr(self._raw, name)

    def close(self):
        pass
