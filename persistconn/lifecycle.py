"""The life of a connection, in the order of a request. READ THIS FIRST.

A wrapper, Django's object behind ``connections[alias]``, is closed when a request begins. Its first
use is the checkout: it takes an idle connection of its database that is alive, or lets Django
open one. Before each later use outside a transaction the connection is looked at, and replaced if
it died. At the end of the work, what is still open is rolled back, the wrapper closes, and its
connection goes back to the pool: the checkin.

An Entry (entry.py) is a connection with what is known of it. A wrapper without one is not ours, and
Django does with it as it always did: SQLite, Django's own pool, MAX_AGE 0.
"""

from __future__ import absolute_import

import os
import sys
from functools import partial

from persistconn import compat, databases, drivers, liveness, transactions
from persistconn.databases import pools
from persistconn.django_versions import dialect
from persistconn.entry import CONNECTING, StandIn
from persistconn.fork import PerProcess
from persistconn.opening import Opening
from persistconn.pool import Exhausted
from persistconn.pools import Housekeeper
from persistconn.work import Work, Works

housekeepers = PerProcess(partial(Housekeeper, pools))


def checkout(wrapper):
    """Give a closed wrapper a kept connection. Return False if Django is to open one.

    Raises PoolTimeout if MAX_CONNS are in use for TIMEOUT seconds.
    """
    database = databases.of(wrapper)
    if not database.is_kept:
        return False
    values = database.values
    try:
        entry = database.pool.acquire(database.fault_of_idle, values.max_conns, values.timeout)
    except Exhausted as error:
        raise _pool_timeout(wrapper, database, *error.args)
    entry.values, wrapper._persistconn = values, entry
    _works.mine.add(wrapper)
    if entry.state == CONNECTING:
        return False
    dialect.adopt(wrapper, entry)
    return True


def _pool_timeout(wrapper, database, waited):
    from persistconn.errors import PoolTimeout

    numbers = dict(database.pool.stats(), bound=database.values.max_conns, waited=waited)
    numbers.update(alias=wrapper.alias, name=wrapper.settings_dict["NAME"])
    return PoolTimeout(
        "No connection to database '%(alias)s' (%(name)s) became free in %(waited).2f seconds:"
        " of MAX_CONNS %(bound)d there are %(in_use)d in use and %(idle)d idle, and %(waiting)d"
        " others wait." % numbers
    )


def open_new(wrapper, django_opens):
    """Let Django open a connection for a closed wrapper. Return what ``django_opens()`` does.

    A server that cannot be reached, or lets nobody in yet, is tried for CONNECT_DEADLINE seconds.
    """
    slot = _slot_of(wrapper)
    try:
        if slot is None:
            result = django_opens()
        else:
            result = slot.pool.gate.call(Opening(wrapper, databases.of(wrapper), django_opens))
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
    entry = _entry_of(wrapper)
    if entry is not None:
        return entry
    slot, raw = _slot_of(wrapper), getattr(wrapper, "connection", None)
    wrapper._persistconn = None
    if raw is not None:
        entry = wrapper._persistconn = _account_for(wrapper, raw, slot)
        _works.mine.add(wrapper)
    if slot is not None and entry is not slot:
        slot.pool.forget(slot, "error")
    return entry


def _account_for(wrapper, raw, slot):
    driver, database = drivers.of(raw), databases.of(wrapper)
    if driver is None or driver.is_closed(raw) or not database.is_kept:
        return None
    if dialect.is_under_way(wrapper):
        return None  # What its next transactions are to be like does not show now.
    options = wrapper.settings_dict["OPTIONS"]
    driver.keep_alive(raw, options)
    entry = slot or database.pool.add()
    entry.opened(raw, driver, driver.read_only_by(options))
    entry.values = database.values
    entry.carried = dialect.carried(wrapper)
    return entry


def look_at(wrapper):
    """Look whether an open wrapper's connection can be used. Close the wrapper if it cannot."""
    entry = getattr(wrapper, "_persistconn", None)
    if entry is None or entry.raw is not wrapper.connection:
        # connect() sets autocommit, and a question would leave its session in a transaction.
        if not is_connecting(wrapper) and databases.of(wrapper).is_kept:
            take_over(wrapper)
    elif entry.pid != os.getpid():
        _leave_to_the_parent(wrapper, entry)
    else:
        status = entry.driver.status(entry.raw)
        if dialect.may_reconnect(wrapper, status):
            now, values = compat.monotonic(), entry.values
            fault = entry.doom or liveness.find_fault(entry, now, values, status)
            if fault is not None:
                entry.doom = fault
                _give_back(wrapper, entry)


def request_started():
    """End what a request before left open in this thread: its response may never have been closed."""
    work = _works.mine
    if work.wrappers:
        _end_all(work, None)
    work.outer = set(work.wrappers)


def request_finished():
    work = _works.mine
    outer, work.outer = work.outer, None
    _end_all(work, outer)


def end_of_work():
    _end_all(_works.mine, None)


def _end_all(work, outer):
    """End this thread's unit of work on all its databases: a request, a task, one turn of a loop.

    Atomic blocks that its view did not leave are left at the end of a request, unless they were open
    before it, a TestCase's: ``outer`` has the ids of such wrappers. An error in one does not keep the
    others from ending; the first is raised when all have.
    """
    errors = []
    for wrapper in work.take_wrappers(take_over):
        if wrapper is None:
            continue
        try:
            leaving = outer is not None and id(wrapper) not in outer
            if not checkin(wrapper, leaving):
                dialect.end_stock(wrapper)
        except Exception:
            errors.append(sys.exc_info())
        if getattr(wrapper, "connection", None) is not None:
            work.add(wrapper)
    if errors:
        compat.reraise(*errors[0])


def checkin(wrapper, leaving=False):
    """Roll back what is open and give the connection back. Return False to leave it to Django.

    A wrapper in an atomic block is left to it, unless it is ``leaving`` all.
    """
    entry = _entry_of(wrapper)
    if entry is None and getattr(wrapper, "connection", None) is not None:
        return False
    database = databases.of(wrapper)
    if entry is not None and entry.pid != database.pid:
        _leave_to_the_parent(wrapper, entry)
        return True
    if dialect.is_in_a_block(wrapper):
        if not leaving:
            return False
        dialect.leave_blocks(wrapper)
    if not database.is_kept:
        return False
    if entry is None:
        dialect.end_blocks(wrapper)
    else:
        _end(wrapper, entry, database)
    return True


def _end(wrapper, entry, database):
    entry.values = database.values
    reason, entry.doom = entry.doom, "error"
    try:
        reason = reason or transactions.finish(wrapper, entry)
        entry.used_at = compat.monotonic()
        if entry.is_blind or getattr(wrapper, "errors_occurred", False):
            entry.distrust()
        if entry.outlived(entry.values.max_age, entry.used_at):
            reason = reason or "age"
        # A test runner's settings, or an overridden time zone, may be others than at the checkout.
        if entry.pool is not database.pool:
            reason = reason or "closed by caller"
        entry.doom = reason
    finally:
        _give_back(wrapper, entry)


def _give_back(wrapper, entry):
    try:
        if dialect.has_own_close(wrapper):
            wrapper.connection = StandIn(entry.raw)
            wrapper.close()
    finally:
        wrapper.connection = wrapper._persistconn = None
        values = entry.values
        entry.pool.release(entry, values.max_kept, values.max_idle)
        if values.max_idle is not None:
            housekeepers.get().wanted()


def close(wrapper, django_closes):
    """Somebody closes a wrapper, and means it."""
    entry = _entry_of(wrapper)
    if entry is None:
        return django_closes(wrapper)
    if entry.is_inherited():
        entry.driver.abandon(entry.raw)
        return django_closes(wrapper)
    # Django closes, too, what was lost in an atomic().
    reason = "dead" if entry.driver.is_closed(entry.raw) else "closed by caller"
    try:
        return django_closes(wrapper)
    finally:
        # Not sooner: a slot is not free before its connection is closed.
        wrapper._persistconn = None
        entry.pool.forget(entry, reason)


def _leave_to_the_parent(wrapper, entry):
    # The pool is the parent's too, and its lock may be held for ever.
    entry.pool = databases.of(wrapper).pool
    entry.doom = "fork"
    dialect.leave_blocks(wrapper)
    _give_back(wrapper, entry)


def _entry_of(wrapper):
    entry = getattr(wrapper, "_persistconn", None)
    if entry is None or entry.state == CONNECTING or entry.raw is not wrapper.connection:
        return None
    return entry


def is_connecting(wrapper):
    return _slot_of(wrapper) is not None


def _slot_of(wrapper):
    """The slot in which Django is opening a connection for the wrapper, or None."""
    entry = getattr(wrapper, "_persistconn", None)
    return entry if entry is not None and entry.state == CONNECTING else None


def _abandon(wrappers, ident):
    """Close the connections that an ended thread has not given back."""
    for wrapper in wrappers:
        entry = getattr(wrapper, "_persistconn", None)
        if entry is None or not dialect.belongs_to(wrapper, ident):
            continue
        wrapper.connection = wrapper._persistconn = None
        if entry.is_inherited():
            entry.driver.abandon(entry.raw)
        else:
            entry.pool.discard(entry, "lost")


Work.abandon = staticmethod(_abandon)
_works = Works()


def keep(keeping):
    """Whether connections are kept from now on. All that are idle are closed if not."""
    if keeping:
        Work.turns += 1
    pools.keep(keeping)
