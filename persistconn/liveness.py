"""Health checks: whether a connection may be used. The cheapest checks come first.

A check returns the reason to discard the connection ("age", "idle", "dead", "check failed" or
"read only"), or None.
"""

from persistconn import compat
from persistconn.drivers.base import UNKNOWN


def expired(entry, now):
    """Return "age" if a connection has reached MAX_AGE, less its jitter, "idle" if MAX_IDLE.

    An idle connection that MIN_CONNS asks for is kept, but must answer a ping before its next use.
    """
    values = entry.pool.values
    if values.max_age is not None and now - entry.opened_at >= values.max_age * entry.jitter:
        return "age"
    if values.max_idle is not None and now - entry.used_at >= values.max_idle:
        if entry.pool.has_more_than(values.min_conns):
            return "idle"
        entry.distrust()
    return None


def check_idle(entry):
    """Return why an idle connection cannot be handed out, or None if it can."""
    now = compat.monotonic()
    fault = expired(entry, now)
    if fault is None:
        fault = check(entry, now, entry.driver.status(entry.raw), is_idle=True)
    return fault


def check(entry, now, status, is_idle=False):
    """Return why a connection outside a transaction cannot be used, or None if it can.

    A poll of the socket detects a closed peer without a round trip. Only a ping detects the other
    failures of a server or a network.

    ``status``: the transaction status that the driver has just returned.
    ``is_idle``: whether no unit of work has the connection yet. A ping then drops the messages that
    it reads, because they were meant for the last user.
    """
    idle_for, entry.used_at = now - entry.used_at, now
    if status == UNKNOWN:
        return "dead"
    try:
        events = entry.poll()
    except RuntimeError:
        events = ()  # another thread that shares the wrapper is polling now
    except compat.INTERRUPTED:
        events = [(None, compat.READABLE)]  # a signal interrupted the poll: ping to decide
    pool = entry.pool
    losses = pool.losses
    if events and _peer_is_gone(events):
        return "dead"
    values = pool.values
    check_after = values.check_after
    is_due = check_after is not None and idle_for >= check_after
    if is_due or events or entry.losses_at_check != losses:
        # If a signal handler raises an exception here, the answer stays unread.
        entry.doom = "error"
        fault = _ask(entry, now)
        entry.doom = None
        if fault is not None:
            return fault
        entry.losses_at_check = losses
        if is_idle:
            entry.driver.forget_messages(entry.raw)
    if entry.read_only_by and entry.is_read_only():
        return "read only"
    return None


def _ask(entry, now):
    """Return why the server's answer forbids to use the connection, or None if it does not."""
    pool, driver, timeout = entry.pool, entry.driver, entry.pool.values.check_timeout
    doubts = pool.writing.doubts
    if entry.doubts_at_check == doubts:
        return None if driver.ping(entry.raw, timeout, entry.probe) else "check failed"
    answer = driver.ask_read_only(entry.raw, timeout)
    if answer is None:
        return "check failed"
    if answer == "on":
        if entry.doubts_at_check is None:
            pool.refused()  # nobody has seen the code of its error
        if pool.writing.replaces(entry, now):
            return "read only"
    entry.doubts_at_check = doubts
    return None


def _peer_is_gone(events):
    # Readable alone does not mean closed: a NOTIFY, a notice or a TLS record may have come.
    return any(happened & ~compat.READABLE for fd, happened in events)
