"""The life of a connection, in the order of a request. READ THIS FIRST.

A wrapper, Django's object behind ``connections[alias]``, is closed when a request begins. Its first
use is the checkout: it takes an idle connection of its database that is alive, or lets Django
open one. Before a later use outside a transaction a dead connection is replaced, as long as only
the ORM has used it. At the end of the work, what is still open is rolled back, the wrapper closes,
and its connection goes back to the pool: the checkin.

A Lease (lease.py) is what a wrapper has with us, an Entry (entry.py) a connection with what is
known of it. A wrapper that is open without an entry is not ours, and Django does with it as it
always did: SQLite, Django's own pool, MAX_AGE 0.
"""

from __future__ import absolute_import

import sys

from persistconn import accounting, compat, conf, lease, liveness, transactions
from persistconn.accounting import has_the_entry
from persistconn.connecting.opening import Opening
from persistconn.databases import pools
from persistconn.django_versions import dialect
from persistconn.lease import FOREIGN, OPEN, OPENING
from persistconn.pool.waiter import Exhausted
from persistconn.work import Work, join, works

# First use.


@has_the_entry
def checkout(wrapper):
    """Give a closed wrapper a kept connection, or nothing if Django is to open one.

    Raises PoolTimeout if MAX_CONNS are in use for TIMEOUT seconds, and what Django raises where a
    loop runs.
    """
    if compat.running_loop() is not None:
        dialect.refuse_event_loop()
    # Where tests may not use a database, connect() is an object that raises.
    own_connect = wrapper.__dict__.get("connect")
    if own_connect is not None and getattr(own_connect, "__self__", None) is not wrapper:
        return
    held = lease.of(wrapper)
    database = held.database_now(wrapper)
    if not database.is_kept:
        return
    if held.entries:
        held.drop()
    home = join(wrapper, held)
    try:
        entry = database.pool.acquire()
    except Exhausted as error:
        from persistconn.errors import PoolTimeout

        raise PoolTimeout.after(error.waited, wrapper, database.pool)
    if entry.raw is not None:
        dialect.adopt(wrapper, entry)
    held.put(entry)
    # A signal handler may have ended this very work meanwhile.
    home[id(wrapper)] = held.wrapper


def connect(wrapper, django_opens):
    """Connect a wrapper, by a kept connection or a new one."""
    held = lease.of(wrapper)
    if held.state(wrapper.connection) != OPENING:
        checkout(wrapper)
    if held.state(wrapper.connection) != OPEN:
        open_new(wrapper, django_opens)


@has_the_entry
def open_new(wrapper, django_opens):
    """Let Django open a connection for a closed wrapper. Return what ``django_opens()`` does.

    A server that cannot be reached, or lets nobody in yet, is tried for CONNECT_DEADLINE seconds.
    """
    held = lease.of(wrapper)
    slot, before = held.entry, dict(wrapper.__dict__)
    try:
        if slot is None:
            result = django_opens()
        else:
            result = slot.pool.gate.call(Opening(wrapper, held.database, django_opens))
        entry = accounting.account_opened(wrapper, held, slot)
        if entry is not None:
            entry.carried = dialect.carried(wrapper, before, entry.pool.noted)
            dialect.commit_setup(wrapper, entry)
    except BaseException:
        entry = accounting.account_opened(wrapper, held, slot)
        if entry is not None:
            # It can be half set up: without its time zone, without its role.
            entry.doom = "error"
        raise
    held.is_own = False  # receivers and backends do to each connection what they did to this one
    return result


# Later uses.


@has_the_entry
def before_use(wrapper):
    """Close an open wrapper whose connection cannot be used, if nothing is lost by that."""
    raw = wrapper.connection
    if raw is None:
        return
    held = lease.of(wrapper)
    state = held.state(raw)
    if state == FOREIGN:
        _meet(wrapper, held)
    elif state == OPEN:
        _end_if_faulty(wrapper, held, held.entry)


def _meet(wrapper, held):
    """Take over a connection that was opened while we were not asked."""
    if not held.database_now(wrapper).is_kept:
        return
    entry = accounting.account_for(wrapper)
    if entry is None:
        return
    held.is_own = entry.doom is None  # nobody saw what was done with it before
    if entry.doom is not None:
        _end_if_faulty(wrapper, held, entry)  # of a unit of work whose end was interrupted


def _end_if_faulty(wrapper, held, entry):
    if entry.is_inherited():
        held.leave_to_the_parent(wrapper)
        return
    fault = _check_in_use(wrapper, held, entry)
    if fault is not None:
        entry.doom = fault
        if not dialect.is_in_a_block(wrapper) and held.take() is entry:
            lease.give_back(wrapper, entry)


def _check_in_use(wrapper, held, entry):
    reconnect = entry.pool.values.reconnect
    # A session that its user has put something into is not taken from him between two statements.
    may_end = reconnect == "always" or not held.is_own
    if may_end and entry.doom is not None:
        return entry.doom
    status = entry.driver.status(entry.raw)
    if reconnect == "never" or not dialect.may_reconnect(wrapper, status):
        return None
    if may_end:
        return liveness.check(entry, compat.monotonic(), status)
    # Its user has learnt of the loss by the error of a statement.
    return "dead" if entry.driver.is_closed(entry.raw) else None


def cursor_made(wrapper, cursor, is_named=False):
    """Note a cursor that the unit of work has made."""
    held = lease.of(wrapper)
    if held.entries:
        if not held.is_own and (not works.mine.in_orm or dialect.is_in_manual_mode(wrapper)):
            held.is_own = True
        held.cursors.add(cursor, is_named)
    if wrapper.connection is None:
        cursor.close()  # another thread has just ended the wrapper's work


def raw_wanted(wrapper):
    """Somebody has asked for the connection itself, and may do with it whatever he likes."""
    lease.of(wrapper).is_own = True


def in_orm(function, *args, **kwargs):
    """Call a function of the ORM, whose cursors put nothing into the session."""
    work = works.mine
    work.in_orm += 1
    try:
        return function(*args, **kwargs)
    finally:
        work.in_orm -= 1


# The end.


def request_started():
    """End what a request before left open in this thread: its response may never have been closed."""
    work = works.mine
    if work.wrappers:
        _end_all(work, None)
    work.outer = set(work.wrappers)


def request_finished():
    work = works.mine
    outer, work.outer = work.outer, None
    _end_all(work, outer)


def end_of_work():
    _end_all(works.mine, None)


def _end_all(work, outer):
    """End this thread's unit of work on all its databases: a request, a task, one turn of a loop.

    Atomic blocks that its view did not leave are left at the end of a request, unless they were open
    before it, a TestCase's: ``outer`` has the ids of such wrappers. An error in one does not keep the
    others from ending; the first is raised when all have.
    """
    errors = []
    for wrapper in work.find_open(accounting.account_for):
        try:
            leaving = outer is not None and id(wrapper) not in outer
            if not checkin(wrapper, leaving):
                dialect.end_stock(wrapper)
        except Exception:
            errors.append(sys.exc_info())
        # After its end, as an exception can come at any moment before.
        work.wrappers.pop(id(wrapper), None)
        if getattr(wrapper, "connection", None) is not None:
            work.add(wrapper)  # it was left open, or a signal handler has used it since
    if errors:
        compat.reraise(errors)


def checkin(wrapper, leaving=False):
    """Roll back what is open and give the connection back. Return False to leave it to Django.

    A wrapper in an atomic block is left to it, unless it is ``leaving`` all.
    """
    held, raw = lease.of(wrapper), getattr(wrapper, "connection", None)
    # If not OPEN, it was opened while we were not asked, or an exception has interrupted its opening
    # or its end.
    if raw is not None and held.state(raw) != OPEN and accounting.account_for(wrapper) is None:
        slot = pools.find_slot(raw)
        return slot is not None and slot.has_entry()  # another thread ends it at this moment
    entry = held.entry
    if entry is not None and entry.is_inherited():
        held.leave_to_the_parent(wrapper)
        return True
    if dialect.is_in_a_block(wrapper):
        if not leaving:
            return False
        dialect.leave_blocks(wrapper)
    if raw is None:
        if not held.database_now(wrapper).is_kept:
            return False
        held.drop()
        dialect.end_blocks(wrapper)
        return True
    _end(wrapper, held)
    return True


@has_the_entry
def _end(wrapper, held):
    entry = held.take()
    if entry is None:
        return  # another thread ends it at this moment
    reason, entry.doom = entry.doom, "error"
    try:
        database = held.database
        # A test runner's settings, or an overridden time zone, may be others than at the checkout.
        if database.settings != wrapper.settings_dict or database.holder is not conf.holder():
            database = held.database_now(wrapper)
            if entry.pool is not database.pool:
                reason = reason or "closed by caller"
        reason = reason or transactions.finish(wrapper, entry, held.cursors.take())
        entry.used_at = compat.monotonic()
        if entry.is_blind or getattr(wrapper, "errors_occurred", False):
            entry.distrust()
        if liveness.is_old(entry, entry.used_at):
            reason = reason or "age"
        entry.doom = reason
    finally:
        lease.give_back(wrapper, entry)


def close(wrapper, django_closes):
    """Somebody closes a wrapper, and means it."""
    held, raw = lease.of(wrapper), wrapper.connection
    entry = held.entry
    if entry is None or held.state(raw) != OPEN:
        return django_closes(wrapper)
    if entry.is_inherited():
        entry.driver.abandon(entry.raw)
        return django_closes(wrapper)
    # Django closes, too, what was lost in an atomic().
    reason = "dead" if entry.driver.is_closed(raw) else "closed by caller"
    try:
        return django_closes(wrapper)
    finally:
        # A slot is not free before its connection is closed, and Django may have refused to.
        if entry.driver.is_closed(raw) and held.take() is not None:
            entry.pool.remove(entry, reason)


def keep(keeping):
    """Whether connections are kept from now on. All that are idle are closed if not."""
    if keeping:
        Work.turns += 1
    pools.keep(keeping)
