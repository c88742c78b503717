"""What is known of the databases that wrappers connect to, as long as their settings stay."""

from __future__ import absolute_import

import os

from persistconn import compat, conf, drivers, liveness
from persistconn.django_versions import dialect
from persistconn.pools import Pools

pools = Pools()
compat.after_fork_in_child(pools.begin)


class Database(object):
    """A database, by the settings that a wrapper has for it.

    If it ``is_kept``, its idle connections are in ``pool``; else Django does as it always did.
    """

    __slots__ = ("values", "driver", "pool", "is_kept", "pid", "project", "settings")

    def __init__(self, wrapper):
        self.pid = os.getpid()
        self.project = conf.Project()
        self.settings = _copied(wrapper.settings_dict)
        self.values = conf.of(wrapper.settings_dict)
        self.driver = drivers.of_module(dialect.database_module(wrapper))
        self.pool = pools.find_or_add(dialect.identity(wrapper), wrapper.alias)
        self.is_kept = self._may_be_kept(wrapper)
        if not self.is_kept:
            self.pool.drain()

    def _may_be_kept(self, wrapper):
        if self.values.max_age == 0 or wrapper.settings_dict["OPTIONS"].get("pool"):
            return False
        return wrapper.alias != dialect.maintenance and self.driver is not None

    def fault_of_idle(self, entry):
        """Why an idle connection is not to be handed out, or None if it is."""
        now, values = compat.monotonic(), self.values
        if entry.outlived(values.max_age, now):
            return "age"
        if values.max_idle is not None and now - entry.used_at >= values.max_idle:
            return "idle"
        return liveness.find_fault(entry, now, values, entry.driver.status(entry.raw), True)


def of(wrapper):
    """Return the Database of a wrapper as its settings, and the project's, are now."""
    database = getattr(wrapper, "_persistconn_database", None)
    if (
        database is None
        or database.settings != wrapper.settings_dict
        or database.pid != os.getpid()
        or not database.project.is_current()
    ):
        database = wrapper._persistconn_database = Database(wrapper)
    return database


def _copied(settings):
    # As deep as test runners and tenants write into it.
    return dict(
        (name, dict(value) if isinstance(value, dict) else value)
        for name, value in settings.items()
    )
