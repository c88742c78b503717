"""The holders of the connections in use, for a PoolTimeout's message and for HELD_TOO_LONG.

Everything is found when somebody asks: a slot has the time of its checkout, its entry that of its
last use, and the interpreter knows where each thread is.
"""

import logging
import os
import threading

from persistconn import compat
from persistconn.databases import pools
from persistconn.django_versions import dialect
from persistconn.drivers.base import ACTIVE, IDLE, UNKNOWN
from persistconn.errors import PoolTimeout
from persistconn.pool import housekeeper
from persistconn.units import unit_of_work

logger = logging.getLogger("persistconn")

MESSAGE = (
    "No connection to database '%(alias)s' (%(name)s) became free in %(waited).2f seconds: of"
    " MAX_CONNS %(bound)d there are %(in_use)d in use and %(idle)d idle, and %(waiting)d others"
    " wait."
)

#: The message of a PoolTimeout describes as many holders; the log record has all.
IN_A_MESSAGE = 3

#: Frames of these packages do not tell what a thread does with its connection.
_NOT_TOLD = frozenset(["django", "persistconn"])
_LIBRARIES = os.path.dirname(os.__file__), "site-packages", "dist-packages"


class Holder(object):
    """The holder of a connection of a pool, at the moment of the call. Times are in seconds."""

    def __init__(self, pool, slot, now):
        entry = slot.entry()
        lease = None if entry is None or entry.lease is None else entry.lease()
        home = None if lease is None else lease.home
        work = None if home is None else home.work()
        taken_at = slot.taken_at or now
        used_at = taken_at if entry is None or entry.raw is None else entry.used_at
        self.slot = slot
        self.alias = compat.native_text(pool.alias)
        self.held_seconds = max(0.0, now - taken_at)
        self.unused_seconds = max(0.0, now - max(taken_at, used_at))
        self.thread = _name(work)
        self.work = _label(work)
        self.status = _status(entry)
        frame = None if work is None else compat.frame_of(work.ident, work.greenlet)
        try:
            if self.status is None and frame is not None and _is_of_the_driver(frame, entry):
                self.status = ACTIVE  # before 2.3 mysqlclient does not tell
            self.where = _where(frame)
        finally:
            del frame  # it may be a caller's: a cycle
        self.in_transaction = _in_transaction(self.status, entry, lease)

    def __str__(self):
        words = [self.thread]
        if self.work:
            words.append(" (%s)" % self.work)
        words.append(" for %.1f s, unused for %.1f s" % (self.held_seconds, self.unused_seconds))
        words.append(", %s" % self._doing())
        if self.where:
            words.append(", now at %s" % ", called from ".join(self.where))
        return "".join(words)

    def _doing(self):
        if self.status == ACTIVE:
            return "in a query"
        if self.in_transaction is None:
            return "in an unknown state"
        return "in a transaction" if self.in_transaction else "outside a transaction"

    def as_dict(self):
        names = "alias thread work held_seconds unused_seconds in_transaction where".split()
        return dict((name, getattr(self, name)) for name in names)


def of(pool):
    """Return a Holder for each connection of a pool that is in use, the longest-held first."""
    found = []
    for slot in pool.in_use():
        try:
            found.append(Holder(pool, slot, compat.monotonic()))
        except Exception:
            # Its thread goes on meanwhile. Nothing here may replace the PoolTimeout.
            logger.debug("A holder cannot be described.", exc_info=True)
    return sorted(found, key=lambda holder: -holder.held_seconds)


def timeout(waited, wrapper, pool):
    """Return the PoolTimeout of a thread that has waited, and log who holds the connections."""
    numbers, found = dict(pool.stats(), bound=pool.values.max_conns, waited=waited), of(pool)
    numbers["alias"] = compat.native_text(wrapper.alias)
    numbers["name"] = compat.native_text(wrapper.settings_dict["NAME"])
    message = MESSAGE % numbers
    if pool.opening_in_background():
        message += " One more is being opened in the background."
    error = PoolTimeout(message + _told(found, IN_A_MESSAGE))
    error.holders = [holder.as_dict() for holder in found]
    extra = dict(alias=wrapper.alias, waited=waited, holders=error.holders)
    logger.warning("%s%s", message, _told(found, len(found)), extra=extra)
    return error


def _told(holders, number):
    """Describe so many holders in a sentence. There may be none any more."""
    told = [str(holder) for holder in holders[:number]]
    if len(holders) > number:
        told.append("and %d more" % (len(holders) - number))
    return " Held by %s." % "; ".join(told) if told else ""


def _name(work):
    if work is None:
        return "an unknown thread"
    # Not enumerate(), which waits for a lock that a caller of this thread may have.
    thread = threading._active.get(work.ident)
    return "thread %d" % work.ident if thread is None else compat.native_text(thread.name)


def _label(work):
    """Return what is known of the work: a request's method and path, without its query, or the name
    of a unit of work or of a Celery task.
    """
    if work is None:
        return None
    told = work.request or {}
    request = told.get("environ") or told.get("scope")
    if request:
        method = request.get("REQUEST_METHOD") or request.get("method") or request.get("type", "")
        path = request.get("PATH_INFO") or request.get("path", "")
        return ("%s %s" % (compat.native_text(method), compat.native_text(path)))[:200]
    task = work.task
    names = [unit.name for unit in work.running_units() if unit.name] + list(task or ())[1:]
    return compat.native_text(names[0]) if names else None


def _status(entry):
    """Return the driver's transaction status, or None if it does not tell."""
    if entry is None or entry.raw is None:
        return None
    try:
        return ACTIVE if entry.driver.is_held(entry.raw) else entry.driver.status(entry.raw)
    except Exception:  # its thread may be closing it at this moment
        return None


def _is_of_the_driver(frame, entry):
    return _package(frame) == type(entry.raw).__module__.partition(".")[0]


def _package(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]


def _in_transaction(status, entry, lease):
    if entry is not None and entry.raw is None:
        return False
    if status not in (None, ACTIVE, UNKNOWN):
        return status != IDLE
    wrapper = None if lease is None else lease.wrapper()
    return None if wrapper is None else dialect.is_in_a_block(wrapper)


def _where(frame):
    """Return the innermost place outside Django and persistconn, and the project's innermost one."""
    told = []
    while frame is not None:
        path = frame.f_code.co_filename
        if _package(frame) not in _NOT_TOLD:
            is_library = any(part in path for part in _LIBRARIES)
            if not told or not is_library:
                place = os.sep.join(path.split(os.sep)[-2:])
                told.append("%s:%d in %s" % (place, frame.f_lineno, frame.f_code.co_name))
            if not is_library:
                break
        frame = frame.f_back
    return told


def _watch():
    """Warn of holders beyond HELD_TOO_LONG. Return whether a connection may be held too long yet."""
    left = False
    for pool in pools.all():
        limit = pool.values.held_too_long
        if limit is None:
            continue
        for holder in of(pool):
            left = True
            is_idle = holder.status != ACTIVE and not holder.in_transaction
            if is_idle and holder.unused_seconds >= limit and holder.slot.is_first_warning():
                _warn_of(holder)
    return left


@unit_of_work()  # a handler may write to the database
def _warn_of(holder):
    logger.warning(
        "A connection to database '%s' is held without use: %s.",
        holder.alias,
        holder,
        extra={"alias": holder.alias, "holders": [holder.as_dict()]},
    )


housekeeper.chores.append(_watch)
