"""Django 1.8 and later: only autocommit and atomic blocks, no managed blocks."""

import sys
from importlib import import_module

from persistconn import compat
from persistconn.django_versions import hooks
from persistconn.drivers.base import NOTHING_OPEN
from persistconn.patching import are_djangos

#: Attributes that connect() sets at each opening, often to the value that they had; ``close_at``
#: is Django's own age limit.
CARRIED = ("close_at", "health_check_enabled", "isolation_level", "autocommit")
#: Attributes that belong to the wrapper, not to the connection that it opens.
NOT_CARRIED = frozenset(
    "connection _persistconn settings_dict alias _thread_ident _thread_sharing_count"
    " _thread_sharing_lock allow_thread_sharing queries queries_log queries_logged"
    " use_debug_cursor force_debug_cursor execute_wrappers wrap_database_errors"
    " in_atomic_block closed_in_transaction needs_rollback rollback_exc commit_on_exit"
    " savepoint_ids savepoint_state atomic_blocks run_on_commit transaction_state _dirty"
    " run_commit_hooks_on_set_autocommit_on errors_occurred health_check_done".split()
)


class Django18(object):
    """Django 1.8 and later."""

    backends = "django.db.backends.base.base"
    creation = "django.db.backends.base.creation"
    end_of_work = "close_old_connections"
    #: The alias of connections that create and drop databases. Django does not close all of them.
    maintenance = "__no_db__"
    carried_always = CARRIED
    not_carried = NOT_CARRIED
    carried_as_new = {"errors_occurred": False, "health_check_done": True}
    #: Whether there are managed blocks. A view can forget to leave one, even without a connection.
    has_managed_blocks = False
    #: Whether Django hides the driver's errors, and so whether a write was refused.
    hides_errors = False
    #: ``with dialect.connecting(wrapper, hook):`` lets the hook open the raw connection.
    connecting = staticmethod(hooks.by_method)
    # By class: the close() and _close() that were checked, and were Django's own.
    _closes = {}

    def database_module(self, wrapper):
        """Return the driver's module that a wrapper connects with, or None."""
        return getattr(wrapper, "Database", None)

    def initialised(self):
        """Return the wrappers that this thread has. Makes none."""
        from django.db import connections

        mine = connections._connections
        return [getattr(mine, alias) for alias in connections if hasattr(mine, alias)]

    def is_banned(self, wrapper):
        """Whether a test that may not use a database has replaced connect() by an object that raises.

        After the test Django leaves the method itself in its place.
        """
        own = wrapper.__dict__.get("connect")
        return own is not None and getattr(own, "__self__", None) is not wrapper

    def open(self, wrapper, open_new):
        """Let a closed wrapper open its connection. ``open_new`` is lifecycle's."""
        wrapper.connect()

    def adopt(self, wrapper, entry):
        """Give a closed wrapper a kept connection: all that connect() does, except opening one.

        Some attributes are set that this Django does not have yet, which does no harm.
        """
        wrapper.connection = entry.raw
        if (
            wrapper.in_atomic_block
            or wrapper.needs_rollback
            or wrapper.closed_in_transaction
            or wrapper.savepoint_ids
            or getattr(wrapper, "run_on_commit", None)
        ):
            self.leave_blocks(wrapper)
        wrapper.__dict__.update(entry.carried)

    def carried(self, wrapper, before, noted):
        """Return the attributes that opening a connection set, for wrappers that adopt it later.

        ``before``: the wrapper's attributes before the opening. ``noted``: a set; the names whose
        values have changed are added to it. All noted names are returned, because an opening that
        sets the same value again shows no change.
        """
        now = wrapper.__dict__
        for name in list(now):
            if name not in self.not_carried and now[name] is not before.get(name, noted):
                noted.add(name)
        carried = dict((name, now[name]) for name in self.carried_always if name in now)
        carried.update((name, now[name]) for name in list(noted) if name in now)
        return dict(carried, **self.carried_as_new)

    def is_under_way(self, wrapper):
        """Whether an atomic block is open, or autocommit differs from the settings."""
        return wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]

    def commit_setup(self, wrapper, entry):
        """Commit the statements with which Django set up a new connection, if it has not."""

    def may_reconnect(self, wrapper, status):
        """Whether the wrapper's connection can be replaced now without losing a transaction.

        ``status``: the transaction's status by the driver.
        """
        if wrapper.in_atomic_block:
            return False
        autocommit = wrapper.autocommit
        if autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
            return False
        return status in NOTHING_OPEN or (status is None and autocommit)

    def loses_nothing(self, wrapper, status):
        """Whether the connection can be given back in the middle of the work, if only the ORM has
        used it.

        ``status``: as for may_reconnect().
        """
        return self.may_reconnect(wrapper, status)

    def is_in_a_block(self, wrapper):
        """Whether the wrapper is in an atomic block, a view's or a TestCase's."""
        return wrapper.in_atomic_block

    def leave_blocks(self, wrapper):
        """Mark the wrapper as outside all blocks."""
        wrapper.in_atomic_block = wrapper.needs_rollback = wrapper.closed_in_transaction = False
        wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []

    def has_own_close(self, wrapper):
        """Whether a backend or a patch has replaced Django's close() or _close().

        Multi-tenant backends clear there their cache of the session's state, its search_path.
        """
        cls, own = wrapper.__class__, wrapper.__dict__
        if "close" in own or "_close" in own:
            return True
        methods = cls.close, cls._close
        if self._closes.get(cls) == methods:
            return False
        if not are_djangos(*methods):
            return True
        self._closes[cls] = methods
        return False

    def is_in_manual_mode(self, wrapper):
        """Whether autocommit was switched off (or on) by hand, outside atomic blocks."""
        if wrapper.in_atomic_block:
            return False
        return wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]

    def callers_of_ensure_connection(self):
        """Return the ids of the code of Django's functions that call it for their own use."""
        cls = import_module(self.backends).BaseDatabaseWrapper
        return frozenset(
            id(compat.innermost(vars(cls)[name]).__code__)
            for name in ("_cursor", "get_autocommit", "set_autocommit")
        )

    def refuse_event_loop(self):
        """Raise SynchronousOnlyOperation as Django does, if this Django has it and a loop runs."""
        asyncio = sys.modules.get("django.utils.asyncio")
        if asyncio is not None:
            asyncio.async_unsafe(bool)()

    def is_registered(self, wrapper):
        """Whether Django's ``connections`` hold the wrapper in this thread or task.

        If so, Django ends its work.
        """
        from django.db import connections

        # Try this alias first: for an alias without a wrapper the registry raises an exception,
        # whose frames can outlive the thread.
        if getattr(connections._connections, wrapper.alias, None) is wrapper:
            return True
        return any(known is wrapper for known in self.initialised())

    def probe(self, wrapper):
        """Return the SQL statement of a ping."""
        return "SELECT 1" + getattr(wrapper.features, "bare_select_suffix", "")

    def belongs_to(self, wrapper, ident):
        """Whether only the thread with this ident may use the wrapper."""
        return wrapper._thread_ident == ident and not wrapper.allow_thread_sharing

    def is_shared(self, wrapper):
        """Whether other threads may use the wrapper, too."""
        return wrapper.allow_thread_sharing

    def end_blocks(self, wrapper):
        """Leave the managed blocks that are still open. May raise the rollback's error."""

    def forget_transactions(self, wrapper):
        """Reset a wrapper's transaction state to the state outside all managed blocks."""

    def restore(self, wrapper, entry):
        """Reset an idle connection to its state at the opening, and to the settings' autocommit.

        Return the reason if it cannot be kept, else None.
        """
        autocommit = wrapper.settings_dict["AUTOCOMMIT"]
        if wrapper.autocommit != autocommit:
            wrapper._set_autocommit(autocommit)
            wrapper.autocommit = autocommit
        # psycopg2's set_isolation_level() switches autocommit off without the wrapper's knowledge.
        if entry.driver.has_changed(entry.raw, entry.flags):
            return entry.driver.restore(entry.raw, entry.flags, entry.pool.values.check_timeout)

    def end_stock(self, wrapper):
        """End a unit of work as unpatched Django does."""
        wrapper.close_if_unusable_or_obsolete()
