"""The life of a connection, in the order of a request. READ THIS FIRST.

A wrapper, Django's object behind ``connections[alias]``, is closed when a request begins. Its first
use is the checkout: the wrapper gets a live idle connection from the pool of its database, or lets
Django open one. Before a later use outside a transaction, a dead connection is replaced if only
the ORM has used it. The end of the work is the checkin: an open transaction is rolled back, the
session is reset if RESET says so (resetting.py), the wrapper closes, and its connection goes back to
the pool.

Each wrapper has a Lease (lease.py), and each connection an Entry (entry.py). The lease holds the
entry from the checkout to the checkin. If an open wrapper has no entry, persistconn leaves it to
Django: SQLite, Django's own pool, MAX_AGE 0.
"""

import logging
from functools import partial

from persistconn import accounting, compat, conf, failures, lease, liveness, resetting, transactions
from persistconn.accounting import has_the_entry
from persistconn.connecting.opening import Opening
from persistconn.databases import pools
from persistconn.django_versions import dialect
from persistconn.lease import FOREIGN, INHERITED, OPEN, OPENING
from persistconn.pool.entry import StandIn
from persistconn.pool.waiter import Exhausted
from persistconn.signals import connection_checked_in, connection_checked_out
from persistconn.work import Work, join, works

logger = logging.getLogger("persistconn")

# First use.


@has_the_entry
def checkout(wrapper):
    """Give a closed wrapper a kept connection, or leave it closed if Django must open one.

    Raises PoolTimeout if MAX_CONNS connections are in use for TIMEOUT seconds. Where an event loop
    runs, raises SynchronousOnlyOperation if this Django does.
    """
    if compat.running_loop() is not None:
        dialect.refuse_event_loop()
    if "connect" in wrapper.__dict__ and dialect.is_banned(wrapper):
        return
    held = lease.of(wrapper)
    database = held.database_now(wrapper)
    if not database.is_kept:
        return
    # Settings that were overridden for a while may have been the pool's, in another thread.
    database.pool.values = database.values
    if held.entries:
        held.drop()
    home = join(wrapper, held)
    try:
        entry = database.pool.acquire()
    except Exhausted as error:
        from persistconn import holders

        raise holders.timeout(error.waited, wrapper, database.pool)
    if entry.raw is not None:
        dialect.adopt(wrapper, entry)
    held.put(entry)
    # Added once more, because a signal handler may have ended this unit of work since join().
    home[id(wrapper)] = held.wrapper
    if database.values.held_too_long is not None:
        _watch_holders()
    if entry.raw is not None and connection_checked_out.receivers:
        _tell_receivers(wrapper, held, entry)


@has_the_entry
def _tell_receivers(wrapper, held, entry):
    """Send connection_checked_out. What its receivers set does not tie the work to the session."""
    work = works.mine
    depth, work.in_orm = work.in_orm, 0
    try:
        resetting.send(connection_checked_out, wrapper)
        dialect.commit_setup(wrapper, entry)
    except BaseException:
        # Its setup is incomplete: the next use needs another.
        entry.doom = "error"
        if not dialect.is_in_a_block(wrapper) and held.take() is entry:
            lease.give_back(wrapper, entry)
        raise
    finally:
        work.in_orm = depth
    held.is_set_up, held.is_own = held.is_own, False


def _watch_holders():
    from persistconn import holders  # noqa: F401, adds its chore

    pools.start_housekeeper()


def connect(wrapper, django_opens):
    """Connect a wrapper, with a kept connection or a new one."""
    held = lease.of(wrapper)
    state, _ = held.snapshot(wrapper.connection)
    if state != OPENING:
        checkout(wrapper)
        state, _ = held.snapshot(wrapper.connection)
    if state != OPEN:
        open_new(wrapper, django_opens)


@has_the_entry
def open_new(wrapper, django_opens):
    """Let Django open a connection for a closed wrapper. Return the result of ``django_opens()``.

    After a transient error (the server is away, starting or full), new tries may begin for
    CONNECT_DEADLINE seconds. Then the error is raised.
    """
    held = lease.of(wrapper)
    slot, before, began = held.entry, dict(wrapper.__dict__), compat.monotonic()
    is_noted, names = resetting.is_noted(held.database), set()
    if is_noted:
        django_opens = partial(resetting.open_and_note, wrapper, django_opens, names)
    try:
        if slot is None:
            result = django_opens()
        else:
            result = slot.pool.gate.call(Opening(wrapper, held.database, django_opens))
        entry = accounting.account_opened(wrapper, held, slot)
        if entry is not None:
            entry.slot.created_seconds += compat.monotonic() - began
            entry.carried = dialect.carried(wrapper, before, entry.pool.noted)
            dialect.commit_setup(wrapper, entry)
            if is_noted:
                resetting.note(entry, names)
    except BaseException:
        entry = accounting.account_opened(wrapper, held, slot)
        if entry is not None:
            # Its setup may be incomplete: no time zone, no role.
            entry.doom = "error"
        raise
    held.is_own = False  # receivers and backends set up every new connection alike
    if entry is not None and connection_checked_out.receivers and not held.is_spare:
        _tell_receivers(wrapper, held, entry)
    return result


# Later uses.


@has_the_entry
def before_use(wrapper):
    """Close an open wrapper if its connection cannot be used, and if closing it loses nothing."""
    raw = wrapper.connection
    if raw is None:
        return
    held = lease.of(wrapper)
    state, entry = held.snapshot(raw)
    if state == OPEN:
        _end_if_faulty(wrapper, held, entry)
    elif state == INHERITED:
        held.leave_to_the_parent(wrapper, entry)
    elif state == FOREIGN:
        _meet(wrapper, held)


def _meet(wrapper, held):
    """Account for a connection that was opened without persistconn."""
    if held.is_lent or not held.database_now(wrapper).is_kept:
        return
    entry = accounting.account_for(wrapper)
    if entry is None:
        return
    held.is_own = entry.doom is None  # its earlier use is unknown
    if entry.doom is not None:
        _end_if_faulty(wrapper, held, entry)  # the end of its last unit of work was interrupted


def _end_if_faulty(wrapper, held, entry):
    fault = _check_in_use(wrapper, held, entry)
    if fault is not None:
        entry.doom = fault
        if not dialect.is_in_a_block(wrapper) and held.take() is entry:
            lease.give_back(wrapper, entry)


def _check_in_use(wrapper, held, entry):
    reconnect = entry.pool.values.reconnect
    # A session that its user may have changed is not replaced between two statements.
    may_end = reconnect == "always" or not held.is_own
    if may_end and entry.doom is not None:
        return entry.doom
    status = entry.driver.status(entry.raw)
    if status is None:
        status = transactions.presumed(entry, held)
    if reconnect != "never" and dialect.may_reconnect(wrapper, status):
        if may_end:
            return liveness.check(entry, compat.monotonic(), status)
        # If the driver knows of the loss, a statement has already raised it to the user.
        if entry.driver.is_closed(entry.raw):
            return "dead"
    entry.used_at = compat.monotonic()
    return None


def cursor_made(wrapper, cursor, is_named=False):
    """Note a cursor that the unit of work has made, to close it at the checkin."""
    held = lease.of(wrapper)
    if held.entries or held.is_lent:
        if not held.is_own and (not works.mine.in_orm or dialect.is_in_manual_mode(wrapper)):
            held.is_own = True
        held.has_sent = True
        held.cursors.add(cursor, is_named)
    if wrapper.connection is None:
        cursor.close()  # another thread has just closed the wrapper


def has_entry(wrapper):
    """Whether persistconn handles the wrapper's connection, or its opening."""
    return bool(lease.of(wrapper).entries)


def transaction_ended(wrapper):
    """Note that the wrapper has committed or rolled back."""
    lease.of(wrapper).has_sent = False


def raw_wanted(wrapper):
    """Note that a caller asked for the connection itself, and so may change its session."""
    lease.of(wrapper).is_own = True


def in_orm(function, *args, **kwargs):
    """Call a function of the ORM. The cursors that it makes do not change the session."""
    work = works.mine
    work.in_orm += 1
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        failures.orm_failed(work, error)
        raise
    finally:
        work.in_orm -= 1


def release_unused(is_wanted):
    """Give back this thread's connections that hold nothing that the work may still need.

    Only the ORM has used such a connection, it has no open cursor and is in no transaction, and
    ``is_wanted(values)`` is true for its database's settings. Return the wrappers that stay in the
    unit of work, by their ids.
    """
    work = works.mine
    for ref in list(work.wrappers.values()):
        wrapper = ref()
        if wrapper is not None and _is_unused(wrapper, is_wanted):
            checkin(wrapper)
            work.ended(wrapper)
    return work.wrappers


def _is_unused(wrapper, is_wanted):
    held = lease.of(wrapper)
    state, entry = held.snapshot(wrapper.connection)
    if state != OPEN or held.is_own or not is_wanted(held.database.values):
        return False
    if not (held.is_registered or dialect.is_registered(wrapper)):
        return False
    if dialect.is_shared(wrapper) or dialect.is_in_a_block(wrapper):
        return False
    status = entry.driver.status(entry.raw)
    if status is None:
        status = transactions.presumed(entry, held)
    return dialect.loses_nothing(wrapper, status) and not held.cursors.has_open()


# The end.


def request_started(request=None):
    """End work that an earlier request, whose response was not closed, left open in this thread.

    ``request``: what the signal tells of it: its WSGI environ or ASGI scope, on newer Djangos.
    """
    work = works.mine
    if work.wrappers:
        _end_all(work, work.find_open(accounting.account_for), None)
    work.outer, work.request = set(work.wrappers), request
    work.request_turn = work.turns


def request_finished():
    work = works.mine
    outer, work.outer, work.request = work.outer, None, None
    _end_all(work, work.find_open(accounting.account_for), outer)


def end_of_work(is_left_alone=None):
    """End this thread's unit of work, as a direct call of Django's function for it does.

    ``is_left_alone(wrapper)``: whether a wrapper belongs to a block around a unit of work that is
    known from its beginning. All others then exit the atomic blocks that are still open.
    """
    work = works.mine
    wrappers, outer = work.find_open(accounting.account_for), None
    if is_left_alone is not None:
        wrappers, outer = [w for w in wrappers if not is_left_alone(w)], ()
    _end_all(work, wrappers, outer)


def as_work_of_its_own(function, *args, **kwargs):
    """Call a function. Then end the work of this thread, unless it had begun before the call."""
    work = works.mine
    is_own = not (work.is_in_request() or work.wrappers)
    try:
        return function(*args, **kwargs)
    finally:
        if is_own:
            end_of_work()


def set_aside():
    """End this thread's work, but not on connections with open cursors: return their wrappers.

    The caller goes on reading from them in another thread, and calls end_set_aside() after that.
    """
    work, aside = works.mine, []
    for wrapper in work.find_open(accounting.account_for):
        if lease.of(wrapper).cursors.has_open():
            work.wrappers.pop(id(wrapper), None)
            aside.append(wrapper)
    request_finished()
    return aside


def end_set_aside(wrappers):
    for wrapper in wrappers:
        entry = lease.of(wrapper).take()
        if entry is not None:
            entry.doom = "busy"
            lease.give_back(wrapper, entry)


def _end_all(work, wrappers, outer):
    """End this thread's unit of work (a request, a task, one turn of a loop) on all its databases.

    ``outer``: the ids of the wrappers that were open before the request, as in a TestCase; None if
    no start of a request was seen. The end of a request exits all atomic blocks of other wrappers.
    After an error the remaining wrappers end all the same, and then the first error is raised.
    """
    while wrappers:
        wrapper = wrappers.pop()
        try:
            leaving = outer is not None and id(wrapper) not in outer
            if not checkin(wrapper, leaving):
                dialect.end_stock(wrapper)
        except Exception:
            work.ended(wrapper)
            _end_the_others(work, wrappers, outer)
            raise
        work.ended(wrapper)


def _end_the_others(work, wrappers, outer):
    # A function of its own, because Python 2 raises again what its caller has caught last.
    try:
        _end_all(work, wrappers, outer)
    except Exception:
        logger.warning("The end of work failed on another database, too.", exc_info=True)


def checkin(wrapper, leaving=False):
    """Roll back an open transaction and give the connection back to the pool.

    Return False if Django must end the wrapper's work instead. That includes a wrapper in an atomic
    block, except with ``leaving``: then the wrapper exits all its blocks first.
    """
    held, raw = lease.of(wrapper), getattr(wrapper, "connection", None)
    state, entry = held.snapshot(raw)
    # The connection was opened without persistconn, or an exception interrupted its opening or its
    # checkin.
    if raw is not None and state in (FOREIGN, OPENING):
        if accounting.account_for(wrapper) is None:
            slot = pools.find_slot(raw)
            return slot is not None and slot.has_entry()  # another thread is ending it now
        state, entry = held.snapshot(raw)
    if state == INHERITED:
        held.leave_to_the_parent(wrapper, entry)
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
        return  # another thread is ending it now
    reason, entry.doom = entry.doom, "error"
    try:
        database = held.database
        # A test runner or an overridden time zone may have changed settings since the checkout.
        if database.settings != wrapper.settings_dict or database.holder is not conf.holder():
            database = held.database_now(wrapper)
            if entry.pool is not database.pool:
                reason = reason or "closed by caller"
        reason = reason or transactions.finish(wrapper, entry, held)
        entry.used_at = compat.monotonic()
        if entry.is_blind or getattr(wrapper, "errors_occurred", False):
            entry.distrust()
        reason = reason or liveness.expired(entry, entry.used_at)
        reset = database.values.reset
        is_asked = reset is not None or connection_checked_in.receivers
        if reason is None and is_asked and not held.is_spare:
            before = set(works.mine.wrappers)
            reason = resetting.end(wrapper, entry, held, reset)
            _end_those_since(before)
        entry.doom = reason
    finally:
        lease.give_back(wrapper, entry)


def _end_those_since(before):
    """End the work on databases that a receiver or a reset has used, and the unit of work had not."""
    work = works.mine
    for key, ref in list(work.wrappers.items()):
        wrapper = ref()
        if key not in before and wrapper is not None and dialect.is_registered(wrapper):
            checkin(wrapper)
            work.ended(wrapper)


def close(wrapper, django_closes):
    """Close a wrapper's connection for real, because somebody has called ``close()``."""
    held, raw = lease.of(wrapper), wrapper.connection
    state, entry = held.snapshot(raw)
    if state == INHERITED:
        entry.driver.abandon(raw)
        wrapper.connection = StandIn(raw)  # some drivers refuse to close twice
    if state != OPEN:
        return django_closes(wrapper)
    # Django also closes a connection that was lost in an atomic block.
    reason = "dead" if entry.driver.is_closed(raw) else "closed by caller"
    try:
        return django_closes(wrapper)
    finally:
        # Django may have refused to close the connection, and then its slot is not free.
        if entry.driver.is_closed(raw) and held.take() is not None:
            entry.pool.remove(entry, reason)


def keep(keeping):
    """Set whether connections are kept from now on. If not, close all idle ones."""
    if keeping:
        Work.turns += 1
    pools.keep(keeping)
