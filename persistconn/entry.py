"""One physical connection with what must be known of it: HikariCP's pool entry."""

from __future__ import absolute_import

import os
import random

from persistconn import compat

#: Connections opened together live up to this share shorter, so that they do not expire together.
JITTER = 0.05


#: The states of an entry. One that is gone is not on the pool's account any more.
CONNECTING, IN_USE, IDLE, GONE = "connecting", "in use", "idle", "gone"


class Entry(object):
    """One physical connection, and one slot of its pool from before it is opened."""

    __slots__ = (
        "raw driver pool pid state generation opened_at jitter used_at poll is_blind"
        " flags doom carried values read_only_by losses_survived __weakref__"
    ).split()

    def __init__(self, pool, generation):
        self.raw = None
        self.pool = pool
        self.pid = os.getpid()
        self.state = CONNECTING
        self.generation = generation
        self.values = None  # the settings of its database at its last checkout or checkin
        self.doom = None  # the reason why it is not to be kept

    def opened(self, raw, driver, read_only_by=()):
        self.raw = raw
        self.driver = driver
        self.opened_at = self.used_at = compat.monotonic()
        # When it last answered. It must do so again once another is lost, by whatever that was.
        self.losses_survived = self.pool.losses
        self.jitter = 1 - JITTER * random.random()
        fd = driver.fileno(raw)
        self.poll = list if fd is None else compat.poller(fd)
        self.is_blind = fd is None  # its socket cannot be looked at, so it is always asked
        self.flags = driver.flags(raw)
        self.read_only_by = read_only_by  # the server's parameters that make it useless if on
        self.carried = {}  # what Django noted on the wrapper when it opened the connection
        self.pool.count_opened(self)

    def distrust(self):
        """Have it answer SELECT 1 before its next use."""
        self.losses_survived = None

    def is_read_only(self):
        """Whether it is of no use to settings that ask for a session that can write."""
        return any(self.driver.parameter(self.raw, name) == "on" for name in self.read_only_by)

    def outlived(self, max_age, now):
        return max_age is not None and now - self.opened_at >= max_age * self.jitter

    def is_inherited(self):
        """Whether it belongs to the process that this one was forked from."""
        return self.pid != os.getpid()


class StandIn(object):
    """Takes the place of a raw connection, which stays open, while its wrapper closes.

    Its ``close()`` does nothing. What else a backend's own close() asks goes to the connection.
    """

    def __init__(self, raw):
        self._raw = raw

    def __getattr__(self, name):
        return getattr(self._raw, name)

    def close(self):
        pass
