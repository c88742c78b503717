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

import os
import sys

from persistconn import compat, conf, drivers, lease, liveness, transactions
from persistconn.databases import pools
from persistconn.django_versions import dialect
from persistconn.entry import StandIn
from persistconn.opening import Opening
from persistconn.pool import Exhausted
from persistconn.work import Work, Works, join

# First use.


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
        _drop(held)
    home, values = join(_works, wrapper, held), database.values
    try:
        entry = database.pool.acquire(database.fault_of_idle, values.max_conns, values.timeout)
    except Exhausted as error:
        raise _pool_timeout(wrapper, database, *error.args)
    if entry.raw is None:
        entry.values = values
    else:
        dialect.adopt(wrapper, entry)
    held.put(entry)
    # A signal handler may have ended this very work meanwhile.
    home[id(wrapper)] = held.wrapper


def _drop(held):
    """Discard what a closed wrapper has: an exception has interrupted its opening, or its end."""
    entry = held.take()
    if entry is not None:
        entry.pool.discard(entry, "error")


def _pool_timeout(wrapper, database, waited):
    from persistconn.errors import PoolTimeout

    numbers = dict(database.pool.stats(), bound=database.values.max_conns, waited=waited)
    numbers.update(alias=wrapper.alias, name=wrapper.settings_dict["NAME"])
    return PoolTimeout(
        "No connection to database '%(alias)s' (%(name)s) became free in %(waited).2f seconds:"
        " of MAX_CONNS %(bound)d there are %(in_use)d in use and %(idle)d idle, and %(waiting)d"
        " others wait." % numbers
    )


def connect(wrapper, django_opens):
    """Connect a wrapper, by a kept connection or a new one."""
    held = lease.of(wrapper)
    if not held.is_opening:
        checkout(wrapper)
    if held.entry is None or held.is_opening:
        open_new(wrapper, django_opens)


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
        entry = _fill(wrapper, held, slot)
        if entry is not None:
            entry.carried = dialect.carried(wrapper, before, entry.pool.noted)
            dialect.settle(wrapper, entry)
    except BaseException:
        entry = _fill(wrapper, held, slot)
        if entry is not None:
            # It can be half set up: without its time zone, without its role.
            entry.doom = "error"
        raise
    held.is_own = False  # receivers and backends do to each connection what they did to this one
    return result


def take_over(wrapper):
    """Take an open connection into account, whoever opened it. Return its entry if it is ours."""
    held, raw = lease.of(wrapper), getattr(wrapper, "connection", None)
    entry = held.entry
    if entry is not None and (entry.raw is raw or entry.raw is None):
        return entry if entry.raw is not None else None
    former = held.take()
    # If its connection was replaced by hand, that is left to its last user.
    if former is not None and former.driver.is_closed(former.raw):
        former.pool.forget(former, "closed by caller")
    return _fill(wrapper, held, None)


def _fill(wrapper, held, slot):
    """Account for the connection that the wrapper has now, in the slot that was kept for it."""
    raw, entry = getattr(wrapper, "connection", None), None
    if raw is not None:
        join(_works, wrapper, held)
        entry = _account_for(wrapper, held, raw, slot)
    if entry is not None:
        held.put(entry)
        if wrapper.connection is not raw and held.take() is entry:
            entry.pool.discard(entry, "closed by caller")  # by another thread, at this moment
    elif slot is not None and slot.raw is None:
        if held.entry is slot:
            held.take()
        slot.pool.forget(slot, "error")
    return entry


def _was_interrupted(wrapper, slot):
    """Whether an exception has interrupted the checkout or the end of a wrapper, and its traceback
    still has the entry. Then no thread is inside them any more.
    """
    if slot.is_idle():
        return False
    for frame in list(sys._current_frames().values()):
        while frame is not None:
            if frame.f_code in _ENDING and frame.f_locals.get("wrapper") is wrapper:
                return False
            frame = frame.f_back
    return True


def _account_for(wrapper, held, raw, slot):
    driver, database = drivers.of(raw), held.database_now(wrapper)
    if driver is None or driver.is_closed(raw) or not database.is_kept:
        return None
    if slot is not None and slot.raw is raw:
        return slot  # interrupted, and called again
    known = pools.find_slot(raw)
    if known is not None and known.has_entry() and not _was_interrupted(wrapper, known):
        return None  # another thread has given it back, or accounted for it, at this moment
    if known is None and dialect.is_under_way(wrapper):
        return None  # The session's defaults cannot be read during a transaction.
    options = wrapper.settings_dict["OPTIONS"]
    driver.keep_alive(raw, options)
    entry = slot or database.pool.add(known)
    entry.values = database.values
    entry.opened(raw, driver, driver.read_only_by(options), dialect.probe(wrapper))
    entry.carried = dialect.carried(wrapper, wrapper.__dict__, entry.pool.noted)
    if known is not None:
        entry.doom = "error"  # an exception has interrupted its end
    return entry


# Later uses.


def before_use(wrapper):
    """Close an open wrapper whose connection cannot be used, if nothing is lost by that."""
    raw = wrapper.connection
    if raw is None:
        return
    held = lease.of(wrapper)
    entry = held.entry
    if entry is None or entry.raw is not raw:
        _meet(wrapper, held)
    elif entry.pid != os.getpid():
        _leave_to_the_parent(wrapper, held)
    else:
        _end_if_faulty(wrapper, held, entry)


def _meet(wrapper, held):
    """Take over a connection that was opened while we were not asked."""
    # connect() sets autocommit while the entry is still empty.
    if held.is_opening or not held.database_now(wrapper).is_kept:
        return
    entry = take_over(wrapper)
    if entry is None:
        return
    held.is_own = entry.doom is None  # nobody saw what was done with it before
    if entry.doom is not None:
        _end_if_faulty(wrapper, held, entry)  # of a unit of work whose end was interrupted


def _end_if_faulty(wrapper, held, entry):
    fault = _fault_in_use(wrapper, held, entry)
    if fault is not None:
        entry.doom = fault
        if not dialect.is_in_a_block(wrapper) and held.take() is entry:
            _give_back(wrapper, entry)


def _fault_in_use(wrapper, held, entry):
    reconnect = entry.values.reconnect
    # A session that its user has put something into is not taken from him between two statements.
    may_end = reconnect == "always" or not held.is_own
    if may_end and entry.doom is not None:
        return entry.doom
    status = entry.driver.status(entry.raw)
    if reconnect == "never" or not dialect.may_reconnect(wrapper, status):
        return None
    if may_end:
        return liveness.find_fault(entry, compat.monotonic(), entry.values, status)
    # Its user has learnt of the loss by the error of a statement.
    return "dead" if entry.driver.is_closed(entry.raw) else None


def cursor_made(wrapper, cursor, is_named=False):
    """Note a cursor that the unit of work has made."""
    held = lease.of(wrapper)
    if held.entries:
        if not held.is_own and (not _works.mine.in_orm or dialect.is_in_manual_mode(wrapper)):
            held.is_own = True
        held.track(cursor, is_named)
    if wrapper.connection is None:
        cursor.close()  # another thread has just ended the wrapper's work


def raw_wanted(wrapper):
    """Somebody has asked for the connection itself, and may do with it whatever he likes."""
    lease.of(wrapper).is_own = True


def in_orm(function, *args, **kwargs):
    """Call a function of the ORM, whose cursors put nothing into the session."""
    work = _works.mine
    work.in_orm += 1
    try:
        return function(*args, **kwargs)
    finally:
        work.in_orm -= 1


# The end.


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
    for wrapper in work.find_open(take_over):
        try:
            leaving = outer is not None and id(wrapper) not in outer
            if not checkin(wrapper, leaving):
                dialect.end_stock(wrapper)
        except Exception:
            errors.append(sys.exc_info())
        work.ended(wrapper)
    if errors:
        compat.reraise(errors)


def checkin(wrapper, leaving=False):
    """Roll back what is open and give the connection back. Return False to leave it to Django.

    A wrapper in an atomic block is left to it, unless it is ``leaving`` all.
    """
    held, raw = lease.of(wrapper), getattr(wrapper, "connection", None)
    entry = held.entry
    if raw is not None and (entry is None or entry.raw is not raw):
        # Opened while we were not asked, or an exception has interrupted its opening, or its end.
        entry = _fill(wrapper, held, entry) if held.is_opening else take_over(wrapper)
        if entry is None:
            slot = pools.find_slot(raw)
            return slot is not None and slot.has_entry()  # another thread ends it at this moment
    if entry is not None and entry.pid != os.getpid():
        _leave_to_the_parent(wrapper, held)
        return True
    if dialect.is_in_a_block(wrapper):
        if not leaving:
            return False
        dialect.leave_blocks(wrapper)
    if raw is None:
        if not held.database_now(wrapper).is_kept:
            return False
        _drop(held)
        dialect.end_blocks(wrapper)
        return True
    _end(wrapper, held)
    return True


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
            entry.use(database.values)
            if entry.pool is not database.pool:
                reason = reason or "closed by caller"
        reason = reason or transactions.finish(wrapper, entry, held.take_cursors())
        entry.used_at = compat.monotonic()
        if entry.is_blind or getattr(wrapper, "errors_occurred", False):
            entry.distrust()
        if entry.used_at >= entry.old_at:
            reason = reason or "age"
        entry.doom = reason
    finally:
        _give_back(wrapper, entry)


def _give_back(wrapper, entry):
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
            entry.pool.release(entry, entry.values.max_kept)


def close(wrapper, django_closes):
    """Somebody closes a wrapper, and means it."""
    held = lease.of(wrapper)
    entry, raw = held.entry, wrapper.connection
    if entry is None or entry.raw is None or entry.raw is not raw:
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
            entry.pool.forget(entry, reason)


def _leave_to_the_parent(wrapper, held):
    entry = held.entry
    # The pool is the parent's too.
    entry.pool = held.database_now(wrapper).pool or entry.pool
    entry.doom = "fork"
    dialect.leave_blocks(wrapper)
    held.take()
    _give_back(wrapper, entry)


def _abandon(wrappers, ident):
    """Close the connections that an ended thread has not given back, unless they are still used."""
    for wrapper in wrappers:
        if wrapper is None or not dialect.belongs_to(wrapper, ident):
            continue
        held = lease.of(wrapper)
        entry = held.take()
        if entry is None:
            continue
        wrapper.connection = None
        cursors = held.take_cursors()
        if _is_in_use(entry, cursors):
            # Stock Django lets it live as long as whoever fetches from it.
            entry.pool.let_go(entry, "lost")
        else:
            entry.pool.discard(entry, "lost")


def _is_in_use(entry, cursors):
    if entry.raw is None or entry.is_inherited():
        return False
    return bool(cursors) or entry.driver.status(entry.raw) == drivers.ACTIVE


_ENDING = tuple(f.__code__ for f in (_end, _give_back, before_use, checkout, open_new))

Work.abandon = staticmethod(_abandon)
_works = Works()


def keep(keeping):
    """Whether connections are kept from now on. All that are idle are closed if not."""
    if keeping:
        Work.turns += 1
    pools.keep(keeping)
