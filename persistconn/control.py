"""The public functions: idempotent, and safe to call from any thread."""

import atexit
import threading

from django.core.exceptions import ImproperlyConfigured

from persistconn import background, lifecycle, patches
from persistconn.patching import Patcher
from persistconn.pool.pools import no_counts
from persistconn.problems import find_problems

_lock = threading.RLock()
_patcher = Patcher(patches.rows())
lifecycle.pools.open_spare = background.open_spare


def install():
    """Patch Django and switch persistconn on. Needs configured settings.

    Further calls patch nothing, and do not switch persistconn on again after ``disable()``.
    Raises ImproperlyConfigured if a setting has a bad value, and then patches nothing.
    """
    problems = list(find_problems())
    if problems:
        raise ImproperlyConfigured(" ".join(problem.message for problem in problems))
    with _lock:
        if not _patcher.applied:
            _patcher.apply()
            enable()


def uninstall():
    """Switch persistconn off, and restore the very objects that it replaced in Django.

    If another library has patched a replacement since, that replacement stays, and passes every
    call through.
    """
    with _lock:
        disable()
        _patcher.undo()


def enable():
    """Keep connections from now on. Does nothing before ``install()``."""
    _switch(True)


def disable():
    """Leave connections to stock Django from the next call on. Closes all idle connections.

    Django closes each connection in use when its unit of work ends.
    """
    _switch(False)


def _switch(on):
    with _lock:
        if on != _patcher.switch.is_on and (_patcher.applied or not on):
            _patcher.switch.is_on = on
            lifecycle.keep(on)


def is_enabled():
    """Whether persistconn is installed and switched on."""
    return _patcher.switch.is_on


def drain():
    """Close all idle connections now, and those in use when their work ends.

    For use after a failover, a change of a role's rights, or another reason to open new sessions.
    """
    lifecycle.pools.drain()


def stats():
    """Return the counts of this process by alias, for every alias in DATABASES.

    ``opened``: connections opened so far. ``reused``: checkouts that got a kept connection.
    ``in_use``, ``idle``: numbers of connections now. Those that are being opened are in use, but
    not those that are opened in the background.
    ``max_in_use``: the greatest number in use at the same time so far, of pools that this alias had
    under other settings too.
    ``oldest_in_use``: seconds since the earliest checkout that has not ended, or 0.
    ``discarded``: a dict from reasons to numbers of connections that were closed for them.
    ``waiting``: units of work that wait for a connection now.
    ``timeouts``: waits that ended with a PoolTimeout.
    ``wait_seconds``: the sum of all waits that have ended, in seconds.
    ``created_seconds``: the sum of the times that opening connections has taken, in seconds. That
    includes tries that failed before, and waiting for another thread's try.
    ``used_seconds``: the sum of the times from the checkout to its end, in seconds.

    All counts are 0 for an alias that has had no connection, or whose connections are not kept.
    """
    from django.db import connections

    by_alias = dict((alias, no_counts()) for alias in connections)
    by_alias.update(lifecycle.pools.stats())
    return by_alias


atexit.register(drain)
