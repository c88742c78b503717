"""The pools of this process, by key, and their replacement after a fork.

There is no lock here either, for the reasons that pool.py gives.
"""

import time
import weakref
from functools import partial

from persistconn import compat
from persistconn.fork import PerProcess
from persistconn.pool.housekeeper import Housekeeper
from persistconn.pool.pool import Pool
from persistconn.pool.spares import Spares

#: Seconds that vacate() waits at most for a connection that is being opened.
PATIENCE = 10


class Pools(object):
    """The pools of this process, by key. A forked child starts with pools of its own."""

    def __init__(self):
        #: The function that opens a connection in the background; see spares.py.
        self.open_spare = None
        self._keeping = False
        self._process = PerProcess(self._begin, self._leave_the_parent_its_own)

    def _begin(self):
        return _OfProcess(Housekeeper(self), Spares(self))

    def begin(self):
        """Let go of the parent's connections now. Called in a child that was just forked."""
        self._process.get()

    def use(self, key, alias, user):
        """Return the pool of a key, and set its ``values`` to those of the user, a Database.

        A pool can be retired when ``is_current()`` is false for all its users. Each user's
        ``expire()`` is called then.
        """
        mine = self._process.get()
        while True:
            pool = mine.by_key.get(key)
            if pool is None:
                pool = mine.add(key, alias, user.values, self._keeping)
                self._tidy(pool)
            pool.values = user.values
            pool.users.add(weakref.ref(user, partial(self._user_is_gone, pool)))
            # Another thread may have retired it just now, when it had no users.
            if not pool.is_retired:
                return pool

    def left(self, pool):
        """A user has left this pool for another one. Retire it if nobody else uses it."""
        if not _has_users(pool):
            self._retire(pool)

    def _user_is_gone(self, pool, ref):
        pool.users.discard(ref)
        self._forget_if_unused(pool)

    def _tidy(self, new):
        """After adding a pool, retire unused pools of its alias, and forget empty unused ones."""
        for pool in self.all():
            if pool is new:
                continue
            # All users of the alias's former settings may have ended with their threads.
            if pool.alias == new.alias:
                self.left(pool)
            self._forget_if_unused(pool)

    def _retire(self, pool):
        mine = self._process.get()
        if mine.by_key.get(pool.key) is not pool:
            return
        pool.is_retired = True
        mine.retired.append(pool)
        mine.by_key.pop(pool.key, None)
        for user in pool.living_users():
            user.expire()
        pool.drain()

    def all(self):
        mine = self._process.get()
        return list(mine.by_key.values()) + list(mine.retired)

    def find_slot(self, raw):
        """Return a raw connection's slot in one of the pools, or None."""
        slots = [pool.find_slot(raw) for pool in self.all()]
        return next((slot for slot in slots if slot is not None), None)

    def keep(self, keeping):
        """Keep released connections from now on, or not, in all pools."""
        self._keeping = keeping
        for pool in self.all():
            pool.keep(keeping)

    def drain(self):
        """Close all idle connections now, and those in use when they are released."""
        for pool in self.all():
            pool.drain()

    def vacate(self):
        """Like drain(), and return when no connection is being opened in the background."""
        self.drain()
        ends_at = compat.monotonic() + PATIENCE
        while compat.monotonic() < ends_at:
            if not any(pool.opening_in_background() for pool in self.all()):
                return
            time.sleep(0.005)

    def stats(self):
        """Return the counts of each alias that ever had a connection, as plain data."""
        mine, by_alias = self._process.get(), {}
        for alias, numbers in list(mine.past.items()):
            _add_up(by_alias.setdefault(alias, no_counts()), numbers)
        for pool in self.all():
            numbers = pool.stats()
            if numbers["opened"] or numbers["discarded"] or numbers["timeouts"]:
                _add_up(by_alias.setdefault(pool.alias, no_counts()), numbers)
        return by_alias

    def expire(self):
        """Close expired idle connections. Return whether any other idle connection can expire."""
        left = False
        for pool in self.all():
            left = pool.expire() or left
            self._forget_if_unused(pool)
        return left

    def replenish(self):
        """Have connections opened in the background. Return whether another round may need it."""
        return self._process.get().spares.replenish()

    def pause(self):
        """Return when no connection is being opened in the background. Before a fork."""
        self._process.get().spares.pause()

    def resume(self):
        """Open connections in the background again. After a fork, in the parent."""
        self._process.get().spares.resume()

    def start_housekeeper(self):
        """Start the housekeeper for a chore, unless it runs."""
        housekeeper = self._process.get().housekeeper
        if not housekeeper.is_running:
            housekeeper.start()

    def _forget_if_unused(self, pool):
        """Drop an empty pool that nobody uses, and keep only its counts."""
        if not pool.is_empty() or _has_users(pool):
            return
        self._retire(pool)
        if not pool.is_empty():
            return  # a thread has come meanwhile
        mine = self._process.get()
        try:
            mine.retired.remove(pool)
        except ValueError:
            return
        numbers = pool.stats()
        if numbers["opened"] or numbers["discarded"] or numbers["timeouts"]:
            _add_up(mine.past.setdefault(pool.alias, no_counts()), numbers)

    def _leave_the_parent_its_own(self, mine, parents):
        for key, pool in list(parents.by_key.items()):
            own = mine.new(key, pool.alias, pool.values, self._keeping)
            mine.by_key.setdefault(key, own).inherit(pool)
        for pool in list(parents.retired):
            mine.new(pool.key, pool.alias, pool.values, self._keeping).inherit(pool)


def _has_users(pool):
    return bool(pool.current_users())


class _OfProcess(object):
    def __init__(self, housekeeper, spares):
        self.housekeeper = housekeeper
        self.spares = spares
        self.by_key = {}
        self.retired = []  # pools without users, until their last connection is closed
        self.past = {}  # the summed counts of forgotten pools, by alias

    def new(self, key, alias, values, keeping):
        return Pool(values, key, alias, keeping, self.housekeeper)

    def add(self, key, alias, values, keeping):
        return self.by_key.setdefault(key, self.new(key, alias, values, keeping))


def no_counts():
    """Return the stats() of a pool that has never had a connection."""
    counts = dict.fromkeys("opened reused idle in_use max_in_use waiting timeouts".split(), 0)
    seconds = dict.fromkeys("oldest_in_use wait_seconds created_seconds used_seconds".split(), 0.0)
    return dict(counts, discarded={}, **seconds)


def _add_up(total, numbers):
    for name, number in numbers.items():
        if isinstance(number, dict):
            _add_up(total[name], number)
        elif name in ("max_in_use", "oldest_in_use"):
            total[name] = max(total[name], number)
        else:
            total[name] = total.get(name, 0) + number
