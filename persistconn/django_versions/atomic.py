"""1.8 and later: autocommit and atomic blocks, and nothing else."""

from __future__ import absolute_import

import sys
from importlib import import_module

from persistconn import compat, drivers
from persistconn.django_versions import hooks
from persistconn.patching import are_djangos

#: connect() sets them anew at each opening, often to what they were: Django's own age, too.
CARRIED = ("close_at", "health_check_enabled", "isolation_level", "autocommit")
#: The wrapper's own affairs, which are no part of what opening a connection sets.
NOT_CARRIED = frozenset(
    "connection _persistconn settings_dict alias _thread_ident _thread_sharing_count"
    " _thread_sharing_lock allow_thread_sharing queries queries_log queries_logged"
    " use_debug_cursor force_debug_cursor execute_wrappers wrap_database_errors"
    " in_atomic_block closed_in_transaction needs_rollback rollback_exc commit_on_exit"
    " savepoint_ids savepoint_state atomic_blocks run_on_commit transaction_state _dirty"
    " run_commit_hooks_on_set_autocommit_on errors_occurred health_check_done".split()
)


class Django18(object):
    """1.8 and later."""

    backends = "django.db.backends.base.base"
    creation = "django.db.backends.base.creation"
    end_of_work = "close_old_connections"
    #: The alias of connections that make and drop databases, of which Django closes not every one.
    maintenance = "__no_db__"
    carried_always = CARRIED
    not_carried = NOT_CARRIED
    carried_as_new = {"errors_occurred": False, "health_check_done": True}
    #: Whether there are managed blocks. Somebody can forget to leave one, without a connection too.
    has_managed_blocks = False
    #: ``with dialect.connecting(wrapper, hook):`` the hook opens the raw connection.
    connecting = staticmethod(hooks.by_method)
    # By class: its close() and _close() when they were looked at, and were Django's own.
    _closes = {}

    def database_module(self, wrapper):
        """The driver's module, which a wrapper connects by."""
        return getattr(wrapper, "Database", None)

    def initialised(self):
        """The wrappers of this thread, without making any."""
        from django.db import connections

        mine = connections._connections
        return [getattr(mine, alias) for alias in connections if hasattr(mine, alias)]

    def adopt(self, wrapper, entry):
        """Give a closed wrapper a kept connection: what connect() does, but for opening one.

        Attributes that this Django does not know yet are set all the same, and do no harm.
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
        """Return what opening the connection set on the wrapper, for the next one that adopts it.

        ``before``: the wrapper's attributes before; ``noted``: the names that any opening has set,
        as one that sets the same value again cannot be seen.
        """
        now = wrapper.__dict__
        for name in list(now):
            if name not in self.not_carried and now[name] is not before.get(name, noted):
                noted.add(name)
        carried = dict((name, now[name]) for name in self.carried_always if name in now)
        carried.update((name, now[name]) for name in list(noted) if name in now)
        return dict(carried, **self.carried_as_new)

    def is_under_way(self, wrapper):
        """Whether the wrapper's connection is not as connect() leaves one, and is again later."""
        return wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]

    def commit_setup(self, wrapper, entry):
        """Finish what Django did to open a connection, before it is first used."""

    def may_reconnect(self, wrapper, status):
        """Whether nothing is lost if the wrapper's connection is replaced by another now.

        ``status``: what the driver says of the transaction.
        """
        if wrapper.in_atomic_block:
            return False
        autocommit = wrapper.autocommit
        if autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
            return False
        return status in drivers.NOTHING_OPEN or (status is None and autocommit)

    def is_in_a_block(self, wrapper):
        """Whether a block that began before this unit of work, a TestCase's, is still open."""
        return wrapper.in_atomic_block

    def leave_blocks(self, wrapper):
        """Let the wrapper be outside all blocks: a forked child is in none of its parent's."""
        wrapper.in_atomic_block = wrapper.needs_rollback = wrapper.closed_in_transaction = False
        wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []

    def has_own_close(self, wrapper):
        """Whether a backend, or whoever patched it, does more at close() than Django.

        Multi-tenant backends forget there what they cached about the session, its search_path.
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
        """Whether somebody has switched autocommit off (or on) by hand."""
        if wrapper.in_atomic_block:
            return False
        return wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]

    def callers_of_ensure_connection(self):
        """The ids of the code of those Django functions that ensure it for their own use."""
        cls = import_module(self.backends).BaseDatabaseWrapper
        return frozenset(
            id(compat.innermost(vars(cls)[name]).__code__)
            for name in ("_cursor", "get_autocommit", "set_autocommit")
        )

    def refuse_event_loop(self):
        """Raise what Django raises where an event loop runs, and where it does."""
        asyncio = sys.modules.get("django.utils.asyncio")
        if asyncio is not None:
            asyncio.async_unsafe(bool)()

    def is_registered(self, wrapper):
        """Whether Django's ``connections`` have the wrapper here, and so end its work."""
        from django.db import connections

        # Asked first, as the registry answers for an alias it has not by an exception, whose frames
        # can outlive the thread.
        if getattr(connections._connections, wrapper.alias, None) is wrapper:
            return True
        return any(known is wrapper for known in self.initialised())

    def probe(self, wrapper):
        """The statement that asks the server whether it is there."""
        return "SELECT 1" + getattr(wrapper.features, "bare_select_suffix", "")

    def belongs_to(self, wrapper, ident):
        """Whether nobody but the thread of this ident uses the wrapper."""
        return wrapper._thread_ident == ident and not wrapper.allow_thread_sharing

    def end_blocks(self, wrapper):
        """Leave the managed blocks that somebody entered and forgot. Raises where Django does."""

    def forget_transactions(self, wrapper):
        """Reset a wrapper to what it is outside all blocks."""

    def restore(self, wrapper, entry):
        """Reset an idle connection to what it was at its opening, and to what the settings say.

        Return why it cannot be kept, or None.
        """
        autocommit = wrapper.settings_dict["AUTOCOMMIT"]
        if wrapper.autocommit != autocommit:
            wrapper._set_autocommit(autocommit)
            wrapper.autocommit = autocommit
        # psycopg2's set_isolation_level() switches autocommit off, and the wrapper does not know.
        if entry.driver.has_changed(entry.raw, entry.flags):
            return entry.driver.restore(entry.raw, entry.flags, entry.pool.values.check_timeout)

    def end_stock(self, wrapper):
        """End a unit of work as Django does by itself."""
        wrapper.close_if_unusable_or_obsolete()
