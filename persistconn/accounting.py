"""Account for open connections: those that Django has just opened, and those that were opened while
persistconn was not asked.
"""

from __future__ import absolute_import

import sys

from persistconn import drivers, lease
from persistconn.databases import pools
from persistconn.django_versions import dialect
from persistconn.lease import OPEN, OPENING
from persistconn.work import join

# The code of functions in which a wrapper's entry can be neither in its lease nor idle.
_inside = set([lease.give_back.__code__])


def has_the_entry(function):
    """Mark a function of a ``wrapper`` as one in which the entry can be in neither."""
    _inside.add(function.__code__)
    return function


def account_for(wrapper):
    """Take an open connection into account, whoever opened it. Return its entry if it is ours."""
    held, raw = lease.of(wrapper), getattr(wrapper, "connection", None)
    state = held.state(raw)
    if state == OPEN:
        return held.entry
    if state == OPENING:
        return account_opened(wrapper, held, held.entry) if raw is not None else None
    former = held.take()
    # If its connection was replaced by hand, that is left to its last user.
    if former is not None and former.driver.is_closed(former.raw):
        former.pool.remove(former, "closed by caller")
    return account_opened(wrapper, held, None)


def account_opened(wrapper, held, slot):
    """Account for the connection that the wrapper has now, in the slot that was kept for it."""
    raw, entry = getattr(wrapper, "connection", None), None
    if raw is not None:
        join(wrapper, held)
        entry = _make_entry(wrapper, held, raw, slot)
    if entry is not None:
        held.put(entry)
        if wrapper.connection is not raw and held.take() is entry:
            entry.pool.discard(entry, "closed by caller")  # by another thread, at this moment
    elif slot is not None and slot.raw is None:
        if held.entry is slot:
            held.take()
        slot.pool.remove(slot, "error")
    return entry


def _make_entry(wrapper, held, raw, slot):
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
    entry.opened(raw, driver, driver.read_only_by(options), dialect.probe(wrapper))
    entry.carried = dialect.carried(wrapper, wrapper.__dict__, entry.pool.noted)
    if known is not None:
        entry.doom = "error"  # an exception has interrupted its end
    return entry


def _was_interrupted(wrapper, slot):
    """Whether an exception has interrupted the checkout or the end of a wrapper, and its traceback
    still has the entry. Then no thread is inside them any more.
    """
    if slot.is_idle():
        return False
    for frame in list(sys._current_frames().values()):
        while frame is not None:
            if frame.f_code in _inside and frame.f_locals.get("wrapper") is wrapper:
                return False
            frame = frame.f_back
    return True
