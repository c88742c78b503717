"""Account for open connections: give each its entry in the pool.

Django has just opened the connection, or it was opened without persistconn: by hand, or while
persistconn was off.
"""

import sys

from persistconn import drivers, lease
from persistconn.databases import pools
from persistconn.django_versions import dialect
from persistconn.lease import INHERITED, OPEN, OPENING
from persistconn.work import join

# The code of functions that can hold a wrapper's entry while neither its lease nor the pool does.
_inside = set([lease.give_back.__code__])


def has_the_entry(function):
    """Mark a function that can be the only holder of the entry of its argument ``wrapper``."""
    _inside.add(function.__code__)
    return function


def account_for(wrapper):
    """Return the entry of a wrapper's open connection, and make the entry if there is none yet.

    Return None if persistconn does not keep the connection, or if another thread handles it now.
    """
    held, raw = lease.of(wrapper), getattr(wrapper, "connection", None)
    state, entry = held.snapshot(raw)
    if state in (OPEN, INHERITED):
        return entry
    if state == OPENING:
        return account_opened(wrapper, held, entry) if raw is not None else None
    former = held.take()
    # Somebody replaced the entry's connection by hand. While it is open, its last user keeps it.
    if former is not None and former.driver.is_closed(former.raw):
        former.pool.remove(former, "closed by caller")
    return account_opened(wrapper, held, None)


def account_opened(wrapper, held, slot):
    """Return the entry of the connection that the wrapper has now, or None. Frees an unused slot.

    ``slot``: the entry that the checkout made before the connection was opened, or None.
    """
    raw, entry = getattr(wrapper, "connection", None), None
    if raw is not None:
        join(wrapper, held)
        entry = _make_entry(wrapper, held, raw, slot)
    if entry is not None:
        held.put(entry)
        if wrapper.connection is not raw and held.take() is entry:
            entry.pool.discard(entry, "closed by caller")  # another thread has just closed it
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
        return slot  # an exception interrupted the first call
    known = pools.find_slot(raw)
    if known is not None and known.has_entry() and not _was_interrupted(wrapper, known):
        return None  # another thread has just given it back, or made its entry
    if known is None and dialect.is_under_way(wrapper):
        return None  # The session's defaults cannot be read during a transaction.
    if slot is None and _is_being_set_up(wrapper, driver, raw):
        return None
    options = wrapper.settings_dict["OPTIONS"]
    driver.keep_alive(raw, options)
    entry = slot or database.pool.add(known)
    if entry.pool is not database.pool:
        # The settings have changed since the checkout, and nobody knows which of them it was opened
        # with. Of no generation, it is closed at its release.
        entry.generation = None
    entry.opened(
        raw,
        driver,
        driver.read_only_by(raw, options),
        dialect.probe(wrapper),
        driver.read_only_at_opening(raw),
    )
    entry.carried = dialect.carried(wrapper, wrapper.__dict__, entry.pool.noted)
    if known is not None:
        entry.doom = "error"  # an exception interrupted its checkout or its checkin
    return entry


def _is_being_set_up(wrapper, driver, raw):
    """Whether Django has just opened the connection, and not switched autocommit on yet.

    persistconn was switched on meanwhile. Each checkin would restore that state, in which all that
    is not committed is lost.
    """
    wanted = wrapper.settings_dict.get("AUTOCOMMIT")  # since Django 1.6
    return wanted is not None and driver.autocommit(raw) not in (None, wanted)


def _was_interrupted(wrapper, slot):
    """Whether an exception interrupted a wrapper's checkout or checkin, and only its traceback has
    the entry. Then the entry is not idle, and no thread runs one of the marked functions.
    """
    if slot.is_idle():
        return False
    for frame in list(sys._current_frames().values()):
        while frame is not None:
            if frame.f_code in _inside and frame.f_locals.get("wrapper") is wrapper:
                return False
            frame = frame.f_back
    return True
