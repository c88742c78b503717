"""The life of a connection, in the order of a request. READ THIS FIRST.

A wrapper, Django's object behind ``connections[alias]``, is closed when a request begins. Its first
use is the checkout: it takes an idle connection of its database that is alive, or lets Django
open one. Before each later use outside a transaction the connection is looked at, and replaced if
it died. At the end of the work, what is still open is rolled back, the wrapper closes, and its
connection goes back to the pool: the checkin.

An Entry (pool.py) is a connection with what is known of it. A wrapper without one is not ours, and
Django does with it as it always did: SQLite, Django's own pool, MAX_AGE 0.
"""

from __future__ import absolute_import

import sys
import threading
import weakref
from functools import partial

from persistconn import compat, conf, drivers, liveness, transactions
from persistconn.django_versions import dialect
from persistconn.pool import Pools

pools = Pools()

#: Stands for the entry of a wrapper while Django opens a connection for it.
OPENING = type("Opening", (object,), {"raw": object()})()


def checkout(wrapper):
    """Give a closed wrapper a kept connection. Return whether there was one to give."""
    pool = pools.find(dialect.identity(wrapper))
    if pool is None:
        return False
    if not is_ours(wrapper):
        pool.drain()
        return False
    entry = pool.acquire(lambda entry: _fault_of_idle(wrapper, entry))
    if entry is None:
        return False
    dialect.adopt(wrapper, entry)
    _hold(wrapper, entry)
    return True


def _fault_of_idle(wrapper, entry):
    if entry.outlived(conf.max_age(wrapper.settings_dict), compat.monotonic()):
        return "age"
    return _fault(wrapper, entry)


def _fault(wrapper, entry):
    now = compat.monotonic()
    fault = liveness.find_fault(entry, now, partial(conf.get, wrapper.settings_dict))
    entry.used_at = now
    return fault


def open_new(wrapper, django_opens):
    """Let Django open a connection for a closed wrapper. Return what ``django_opens()`` does."""
    wrapper._persistconn = OPENING
    try:
        result = django_opens()
    except BaseException:
        entry = take_over(wrapper)
        if entry is not None:
            # It can be half set up: without its time zone, without its role.
            entry.doom = "error"
        raise
    entry = take_over(wrapper)
    if entry is not None:
        dialect.settle(wrapper, entry)
    return result


def take_over(wrapper):
    """Take an open connection into account, whoever opened it. Return its entry if it is ours."""
    raw = getattr(wrapper, "connection", None)
    if raw is None:
        wrapper._persistconn = None
        return None
    entry = _entry_of(wrapper)
    if entry is None:
        driver = drivers.of(raw)
        if driver is not None and not driver.is_closed(raw) and is_ours(wrapper):
            entry = _pool_of(wrapper).add(raw, driver)
            entry.carried = dialect.carried(wrapper)
    _hold(wrapper, entry)
    return entry


def look_at(wrapper):
    """Look whether an open wrapper's connection can be used. Close the wrapper if it cannot."""
    if getattr(wrapper, "_persistconn", None) is OPENING:
        # connect() sets autocommit, and a question would leave its session in a transaction.
        return
    entry = _entry_of(wrapper)
    if entry is None:
        take_over(wrapper)
    elif entry.is_inherited():
        _leave_to_the_parent(wrapper, entry)
    elif dialect.may_reconnect(wrapper, entry.driver.status(entry.raw)):
        entry.doom = entry.doom or _fault(wrapper, entry)
        if entry.doom is not None:
            _give_back(wrapper, entry)


def request_started():
    """End what a request before left open in this thread: its response may never have been closed."""
    end_of_work()
    _work.request_begins()


def request_finished():
    _work.leave_forgotten_blocks()
    end_of_work()


def end_of_work():
    """End this thread's unit of work on all its databases: a request, a task, one turn of a loop.

    An error in one does not keep the others from ending; the first is raised when all have.
    """
    errors = []
    for wrapper in _work.take_wrappers():
        try:
            if not checkin(wrapper):
                dialect.end_stock(wrapper)
        except Exception:
            errors.append(sys.exc_info())
        if getattr(wrapper, "connection", None) is not None:
            _work.add(wrapper)
    if errors:
        compat.reraise(*errors[0])


def checkin(wrapper):
    """Roll back what is open and give the connection back. Return False to leave it to Django."""
    entry = _entry_of(wrapper)
    if entry is None and getattr(wrapper, "connection", None) is not None:
        return False
    if entry is not None and entry.is_inherited():
        _leave_to_the_parent(wrapper, entry)
        return True
    if dialect.is_in_a_block(wrapper) or not is_ours(wrapper):
        return False
    if entry is None:
        transactions.leave_blocks(wrapper)
    else:
        _end(wrapper, entry)
    return True


def _end(wrapper, entry):
    reason = entry.doom
    entry.doom = "error"
    try:
        entry.doom = reason or _why_not_keep(wrapper, entry)
    finally:
        _give_back(wrapper, entry)


def _why_not_keep(wrapper, entry):
    reason = transactions.finish(wrapper, entry)
    if reason is not None:
        return reason
    entry.used_at = compat.monotonic()
    entry.suspect = getattr(wrapper, "errors_occurred", False)
    if entry.outlived(conf.max_age(wrapper.settings_dict), entry.used_at):
        return "age"
    # A test runner's settings, or an overridden time zone, may be others than at the checkout.
    return None if entry.pool is _pool_of(wrapper) else "closed by caller"


def _give_back(wrapper, entry):
    # Through the wrapper's own close(), so that a backend which forgets there what it cached
    # about the session does so.
    wrapper.connection = entry
    try:
        wrapper.close()
    finally:
        wrapper.connection = wrapper._persistconn = None
        entry.pool.release(entry)


def closing(wrapper):
    """Somebody closes a wrapper, for real: Django closes the raw connection after this."""
    entry = _entry_of(wrapper)
    if entry is None:
        return
    if entry.is_inherited():
        entry.driver.abandon(entry.raw)
    else:
        entry.pool.forget(entry, "closed by caller")
    wrapper._persistconn = None


def is_ours(wrapper):
    """Whether this database's connections are kept at all, as the settings are now."""
    database = wrapper.settings_dict
    return not database["OPTIONS"].get("pool") and conf.max_age(database) != 0


def _leave_to_the_parent(wrapper, entry):
    # The pool is the parent's too, and its lock may be held for ever.
    entry.pool = _pool_of(wrapper)
    entry.doom = "fork"
    dialect.leave_blocks(wrapper)
    _give_back(wrapper, entry)


def _pool_of(wrapper):
    return pools.find_or_add(dialect.identity(wrapper), wrapper.alias)


def _entry_of(wrapper):
    entry = getattr(wrapper, "_persistconn", None)
    return entry if entry is not None and entry.raw is wrapper.connection else None


def _hold(wrapper, entry):
    wrapper._persistconn = entry
    _work.add(wrapper)


class _Work(threading.local):
    """The wrappers of this thread that were opened since its last unit of work ended.

    Weak references, as a wrapper that is thrown away must take its connection along. Django's
    own registry holds the same, except for wrappers that are in no settings; but asking it costs
    more than all the rest of a checkin. It is asked once a thread, for those opened before we
    came, and again whenever we were switched on.
    """

    turns = 0  # shared by all threads: how often persistconn was switched on

    def __init__(self):
        self.turn = None
        self.wrappers = {}
        self.outer = None

    def add(self, wrapper):
        self.wrappers[id(wrapper)] = weakref.ref(wrapper)

    def request_begins(self):
        self.outer = set(self.wrappers)

    def leave_forgotten_blocks(self):
        """Leave the atomic() blocks that began in this request, and that its view did not leave.

        One that was open when the request began, a TestCase's, is not forgotten.
        """
        outer, self.outer = self.outer, None
        for key, ref in self.wrappers.items():
            wrapper = ref()
            forgotten = outer is not None and key not in outer
            if forgotten and wrapper is not None and dialect.is_in_a_block(wrapper):
                dialect.leave_blocks(wrapper)

    def take_wrappers(self):
        if self.turn != self.turns or dialect.blocks_outlive_connections:
            self.turn = self.turns
            for wrapper in dialect.initialised():
                take_over(wrapper)
                self.add(wrapper)
        taken, self.wrappers = self.wrappers, {}
        return [wrapper for wrapper in [ref() for ref in taken.values()] if wrapper is not None]


_work = _Work()


def keep(keeping):
    """Whether connections are kept from now on. All that are idle are closed if not."""
    if keeping:
        _Work.turns += 1
    pools.keep(keeping)


def drain():
    """Close all idle connections now, and those in use when their work ends."""
    for pool in pools.all():
        pool.drain()


def stats():
    """Return the counts by alias, as plain data."""
    by_alias = {}
    for pool in pools.all():
        numbers = pool.stats()
        for alias in list(pool.aliases):
            _add_up(by_alias.setdefault(alias, {"discarded": {}}), numbers)
    return by_alias


def _add_up(total, numbers):
    for name, number in numbers.items():
        if isinstance(number, dict):
            _add_up(total[name], number)
        else:
            total[name] = total.get(name, 0) + number
