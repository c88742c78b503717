"""The last steps of a unit of work on a connection that is about to be kept: its receivers (the
signal connection_checked_in), then the setting RESET, which undoes what the work left in the session.

Both come after the rollback, and before the connection goes back to the pool.
"""

import logging
import re
from functools import partial

from persistconn import transactions
from persistconn.django_versions import dialect
from persistconn.signals import connection_checked_in

logger = logging.getLogger("persistconn")

SESSION = "session"

#: The name of a parameter of the user's own.
OWN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)+")


def send(signal, wrapper):
    signal.send(sender=wrapper.__class__, connection=wrapper, alias=wrapper.alias)


def is_noted(database):
    """Whether the state of a database's new sessions must be noted, to be restored later."""
    return database is not None and database.values.reset == SESSION


def open_and_note(wrapper, django_opens, names):
    """Return the result of ``django_opens()``. Adds the names in what is said to the new session.

    Among them are those of all parameters of the user's own, which PostgreSQL does not list.
    """
    own = wrapper.__dict__.get("cursor")
    noting = partial(_noting_cursor, wrapper.cursor, names)
    try:
        wrapper.cursor = noting
        return django_opens()
    finally:
        # A receiver may have replaced it meanwhile.
        if wrapper.__dict__.get("cursor") is noting:
            del wrapper.cursor
            if own is not None:
                wrapper.cursor = own


def _noting_cursor(make, names, *args, **kwargs):
    cursor = make(*args, **kwargs)
    for name in ("execute", "executemany", "callproc"):
        try:
            setattr(cursor, name, partial(_noting, getattr(cursor, name), cursor, names))
        except AttributeError:
            pass  # a backend's own cursor, written in C
    return cursor


def _noting(method, cursor, names, sql, *more, **named):
    # psycopg's compositions of SQL
    text = sql.as_string(cursor.connection) if hasattr(sql, "as_string") else sql
    names.update(OWN_NAME.findall(("%s %s %s" % (text, more, named)).replace('"', "")))
    return method(sql, *more, **named)


def note(entry, names):
    """Ask a new session, once, for what restores its present state."""
    entry.undo = False
    try:
        with entry.driver.limit(entry.raw, entry.pool.values.check_timeout):
            entry.undo = entry.driver.undo_statement(entry.raw, sorted(names)) or False
    except Exception as error:
        if not entry.driver.is_its_error(entry.raw, error):
            raise
        logger.warning("The state of a new session is unknown: it cannot be reset.", exc_info=True)


def end(wrapper, entry, held, reset):
    """Tell the receivers, then reset. Return why the connection cannot be kept, or None."""
    reason = None
    if connection_checked_in.receivers:
        reason = _lend(wrapper, entry, held, send, connection_checked_in, wrapper)
    if reason is not None or reset is None:
        return reason
    if callable(reset):
        return _call(wrapper, entry, held, reset)
    if reset != SESSION:
        return _execute(wrapper, entry, held, reset)
    if not (held.is_own or held.is_set_up or entry.undo is None):
        return None  # the ORM leaves nothing
    return _execute(wrapper, entry, held, entry.undo) if entry.undo else "reset"


def _execute(wrapper, entry, held, statement):
    try:
        with entry.driver.limit(entry.raw, entry.pool.values.check_timeout):
            entry.driver.execute(entry.raw, statement)
    except Exception as error:
        # A UnicodeError: the encoding that the user has told the session cannot express the statement.
        if not (entry.driver.is_its_error(entry.raw, error) or isinstance(error, UnicodeError)):
            raise
        return _failed()
    held.is_own = True  # the statement may have begun a transaction
    return transactions.finish(wrapper, entry, held)


def _call(wrapper, entry, held, function):
    try:
        with entry.driver.limit(entry.raw, entry.pool.values.check_timeout):
            return _lend(wrapper, entry, held, function, wrapper)
    except Exception:
        return _failed()


def _failed():
    logger.warning("A connection is not kept: resetting its session failed.", exc_info=True)
    return "reset failed"


def _lend(wrapper, entry, held, function, *args):
    """Call code of the user's, which may use the connection, although the checkin has its entry.

    Roll back what it leaves open. Return why the connection cannot be kept, or None.
    """
    was_own, held.is_own, held.has_sent, held.is_lent = held.is_own, False, False, True
    try:
        function(*args)
    finally:
        held.is_lent = False
    if wrapper.connection is not entry.raw:
        held.drop()  # the function may have opened another
        return "closed by caller"
    if dialect.is_in_a_block(wrapper):
        dialect.leave_blocks(wrapper)
    reason = transactions.finish(wrapper, entry, held)
    held.is_own = held.is_own or was_own
    return reason
