"""On and off: what the doors and the users call. Idempotent, and safe from any thread."""

from __future__ import absolute_import

import atexit
import threading

from django.core.exceptions import ImproperlyConfigured

from persistconn import conf, lifecycle, patches
from persistconn.patching import Patcher

_lock = threading.RLock()
_patcher = Patcher(patches.rows())


def install():
    """Patch Django, once, and switch persistconn on. Needs configured settings.

    Any number of calls is one installation; a call after ``disable()`` does not switch it on again.
    Raises ImproperlyConfigured if a setting has a bad value, and then nothing is patched.
    """
    problems = list(conf.problems())
    if problems:
        raise ImproperlyConfigured(" ".join(problem.message for problem in problems))
    with _lock:
        if not _patcher.applied:
            _patcher.apply()
            enable()


def uninstall():
    """Switch persistconn off and put back all that it replaced in Django, identical."""
    with _lock:
        disable()
        _patcher.undo()


def enable():
    """Keep connections from now on. Does nothing before ``install()``, or if it is on already."""
    _switch(True)


def disable():
    """Be stock Django from the next call on. Closes all idle connections before it returns.

    Those in use are closed by Django at the end of their work.
    """
    _switch(False)


def _switch(on):
    with _lock:
        if on != _patcher.switch.is_on and (_patcher.applied or not on):
            _patcher.switch.is_on = on
            lifecycle.keep(on)


def is_enabled():
    """Whether connections are kept: it is installed, and not switched off."""
    return _patcher.switch.is_on


def drain():
    """Close all idle connections now, and those in use when their work ends.

    For a failover, a change of a role's rights, or whatever else asks for new sessions.
    """
    lifecycle.pools.drain()


def stats():
    """Return a dict by alias: connections opened, reused, in_use, idle, and discarded by reason;
    units of work that are waiting for one now, and wait_seconds, how long all of them have waited.
    """
    return lifecycle.pools.stats()


atexit.register(drain)
