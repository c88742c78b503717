"""Opens connections in the background, on the very path on which a request opens its own.

A new wrapper of the same class, with a copy of the same settings, opens the connection. It is never
in ``django.db.connections``. So all that a backend and receivers of connection_created set up is
there, and the connection then goes to the pool.
"""

import copy
import logging

from persistconn import compat, lease, lifecycle
from persistconn.django_versions import dialect
from persistconn.work import works

logger = logging.getLogger("persistconn")

UNUSABLE = "Connections to database '%s' cannot be opened in the background: %s"
ELSEWHERE = "a receiver of connection_created uses django.db.connection, and not the connection that it gets."

#: Seconds for new tries: none can begin, because the gate's first pause is at least as long.
ONE_TRY = 0.01

#: Seconds that the try may take if CONNECT_DEADLINE does not say it.
TRY_LIMIT = 5


def open_spare(pool, entry, before_release):
    """Open the connection of a pool's new entry, and give it to the pool.

    Return whether the pool could keep it. If it was not opened, the entry's slot is free.
    ``before_release()`` is called with the connection open, and not yet in the pool.
    """
    try:
        wrapper = _new_wrapper(pool, entry)
    except Exception as error:  # its class takes other arguments than Django's
        _refuse(pool, error)
        wrapper = None
    if wrapper is None:
        pool.remove(entry, "error")
        return False
    try:
        _open(wrapper, entry, before_release)
    except Exception as error:
        _log(pool, error)
        return False
    finally:
        # A receiver or a logging handler may have used a connection of its own in this thread.
        works.mine.wrappers.pop(id(wrapper), None)
        if works.mine.wrappers:
            lifecycle.end_of_work()
    return entry.raw is not None and entry.doom is None


def _open(wrapper, entry, before_release):
    try:
        dialect.open(wrapper, lifecycle.open_new)
        entry.slot.opened_in_background()
    finally:
        if _is_set_up_elsewhere(wrapper):
            entry.doom = "error"
            _refuse(entry.pool, ELSEWHERE)
        elif entry.raw is not None and entry.doom is None:  # it may be switched off by now
            before_release()
        # It goes to the pool, as at the end of a request; the wrapper is left without it.
        lifecycle.checkin(wrapper, leaving=True)


def _is_set_up_elsewhere(wrapper):
    """Whether a receiver has used another connection of this alias, as ``connections[alias]`` is."""
    others = [ref() for ref in list(works.mine.wrappers.values())]
    others = [other for other in others if other is not None and other.alias == wrapper.alias]
    return any(dialect.is_registered(other) for other in others)


def _refuse(pool, why):
    pool.needs_requests = True
    logger.warning(UNUSABLE, compat.native_text(pool.alias), why)


def _new_wrapper(pool, entry):
    for user in pool.current_users():
        original = user.wrapper()
        if original is not None and not dialect.is_banned(original):
            wrapper = original.__class__(_copied(original.settings_dict), original.alias)
            held = lease.of(wrapper)
            held.database = _with_one_try(user)
            held.put(entry)
            held.is_spare = True
            return wrapper


def _log(pool, error):
    """Log the first of several failures. Requests get errors of their own tries."""
    # The gate logs an outage.
    if not (pool.spare_pause or pool.needs_requests or pool.gate.is_open()):
        message = "A connection to database '%s' could not be opened in the background: %s"
        logger.warning(message, compat.native_text(pool.alias), error, exc_info=True)


def _copied(settings):
    copied = copy.copy(settings)
    for name, value in list(copied.items()):
        if type(value) is dict:
            copied[name] = dict(value)
    return copied


def _with_one_try(database):
    """Return a copy of a Database that lets the gate try once, and never without a time limit."""
    database = copy.copy(database)
    given, database.values = database.values, copy.copy(database.values)
    values = database.values
    values.connect_deadline, values.connect_deadline_is_set = ONE_TRY, False
    values.try_limit = given.connect_deadline or TRY_LIMIT
    if given.max_conns is not None:
        # A request may be waiting for the slot.
        values.try_limit = min(values.try_limit, max(1, given.timeout / 2.0))
    return database
