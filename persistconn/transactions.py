"""Rolls back open transactions: none outlives its unit of work."""

import logging

from persistconn.django_versions import dialect
from persistconn.drivers.base import ACTIVE, IDLE

logger = logging.getLogger("persistconn")


def presumed(entry, held):
    """Return IDLE if no transaction can be open, else None. For drivers that do not know it."""
    if held.is_own or (held.has_sent and not entry.driver.commits_by_itself(entry.raw)):
        return None
    return IDLE


def finish(wrapper, entry, held):
    """Roll back and close cursors. Return why the connection cannot be kept, or None.

    Nothing is committed: stock Django, which closes the connection, loses uncommitted work as well.
    Cursors are closed so that nobody can later use one in the next user's session.
    """
    reason, cursors = None, held.cursors.take()
    try:
        status = entry.driver.status(entry.raw)
        if status is None:
            status = presumed(entry, held)
        if status != IDLE or cursors:
            reason = _end(entry, cursors, status)
    except Exception as error:
        reason = _failed(entry, error)
    if dialect.has_managed_blocks and not dialect.is_clean(wrapper):
        error = _end_blocks(wrapper, entry)
        reason = reason or error
    try:
        return reason or dialect.restore(wrapper, entry)
    except Exception as error:
        return _failed(entry, error)


def roll_back(entry):
    """Roll back what anybody has begun since finish(). Return why it cannot be kept, or None."""
    try:
        return _end(entry, (), None)
    except Exception as error:
        return _failed(entry, error)


def look_for_a_refusal(entry, has_failed=False):
    """Note whether the last statement failed because the session cannot write, or perhaps did."""
    driver, raw = entry.driver, entry.raw
    refused = False if driver.is_closed(raw) else driver.has_refused(raw, has_failed)
    if refused:
        entry.pool.refused()
    elif refused is None:
        entry.doubt()


def _end_blocks(wrapper, entry):
    try:
        dialect.end_blocks(wrapper)
    except Exception as error:
        if not entry.driver.is_its_error(entry.raw, error):
            raise
        dialect.forget_transactions(wrapper)
        return "error"


def _failed(entry, error):
    if not (entry.driver.is_its_error(entry.raw, error) or is_djangos(error)):
        raise
    logger.warning("A connection is not kept: ending its transaction failed.", exc_info=True)
    return "dead" if entry.driver.is_closed(entry.raw) else "error"


def is_djangos(error):
    """Whether an error is one of Django's database errors."""
    from django.db import utils

    # Django before 1.6 has no broader class.
    return isinstance(error, getattr(utils, "Error", utils.DatabaseError))


def _end(entry, cursors, status):
    driver, raw = entry.driver, entry.raw
    if driver.is_closed(raw):
        return "dead"
    if dialect.hides_errors:
        look_for_a_refusal(entry)
    if driver.status(raw) == ACTIVE:
        driver.cancel(raw)
        return "busy"
    if driver.is_held(raw):
        return "busy"
    for cursor in cursors:
        if driver.is_server_side(cursor):
            # Its destructor may run in the next user's transaction, and talk to the server.
            return "busy"
        driver.close_cursor(cursor)
    # Closing a cursor may have changed what the driver knows.
    if status != IDLE and driver.status(raw) != IDLE:
        driver.rollback(raw, entry.pool.values.check_timeout)
    return None
