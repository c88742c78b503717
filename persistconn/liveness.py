"""May a connection be used? Every such question, from the cheapest to the dearest.

The answers are reasons to discard it ("age", "idle", "dead", "check failed", "read only"), or None.
"""

from __future__ import absolute_import

from persistconn import compat, drivers


def is_old(entry, now):
    """Whether a connection has lived for MAX_AGE, which the jitter shortens."""
    max_age = entry.pool.values.max_age
    return max_age is not None and now - entry.opened_at >= max_age * entry.jitter


def expired(entry, now):
    """Return why an idle connection must be closed by now: "age" or "idle", or None."""
    if is_old(entry, now):
        return "age"
    max_idle = entry.pool.values.max_idle
    if max_idle is not None and now - entry.used_at >= max_idle:
        return "idle"
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

    ``status``: the transaction's status, as its driver has just given it. A poll of the socket
    sees closed peers, without a round trip and without a query; all other failures of a server or
    a network show only in an answer.

    ``is_idle``: whether nobody uses it yet, so that a ping may drop the messages it reads: they
    were meant for the last user.
    """
    idle_for, entry.used_at = now - entry.used_at, now
    if status == drivers.UNKNOWN:
        return "dead"
    try:
        events = entry.poll()
    except RuntimeError:
        events = ()  # another thread, which shares the wrapper, polls at this moment
    except compat.INTERRUPTED:
        events = [(None, compat.READABLE)]  # by a signal, so the server is asked
    pool = entry.pool
    losses = pool.losses
    if events and _peer_is_gone(events):
        return "dead"
    values = pool.values
    check_after = values.check_after
    is_due = check_after is not None and idle_for >= check_after
    if is_due or events or entry.losses_at_check != losses:
        # An exception that passes, as a signal's handler may raise one, leaves an answer unread.
        entry.doom = "error"
        answered = entry.driver.ping(entry.raw, values.check_timeout, entry.probe)
        entry.doom = None
        if not answered:
            return "check failed"
        entry.losses_at_check = losses
        if is_idle:
            entry.driver.forget_messages(entry.raw)
    if entry.read_only_by and entry.is_read_only():
        return "read only"
    return None


def _peer_is_gone(events):
    # Readable alone is no bad sign: a NOTIFY, a notice or a TLS record may have come.
    return any(happened & ~compat.READABLE for fd, happened in events)
