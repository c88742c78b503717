"""Is a connection still there? From the cheapest question to the dearest."""

from __future__ import absolute_import

from persistconn import compat, drivers


def find_fault(entry, now, values, status, is_idle=False):
    """Return why a connection outside a transaction cannot be used, or None if it can.

    ``values`` has check_after and check_timeout, in seconds, ``status`` is what its driver has just
    said of the transaction. The answers are reasons to discard: "dead", "check failed", "read
    only". Closed peers are seen by a poll of the socket, without a round trip and without a query;
    whatever else a server or a network can do shows only in an answer.

    ``is_idle``: whether it is nobody's yet, so that what a ping reads was meant for the last user.
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
    losses = entry.pool.losses
    if events and _peer_is_gone(events):
        return "dead"
    check_after = values.check_after
    is_due = check_after is not None and idle_for >= check_after
    if is_due or events or entry.losses_survived != losses:
        # An exception that passes, as a signal's handler may raise one, leaves an answer unread.
        entry.doom = "error"
        answered = entry.driver.ping(entry.raw, values.check_timeout, entry.probe)
        entry.doom = None
        if not answered:
            return "check failed"
        entry.losses_survived = losses
        if is_idle:
            entry.driver.forget_messages(entry.raw)
    if entry.read_only_by and entry.is_read_only():
        return "read only"
    return None


def _peer_is_gone(events):
    # Readable alone is no bad sign: a NOTIFY, a notice or a TLS record may have come.
    return any(happened & ~compat.READABLE for fd, happened in events)
