"""The one place for differences between Djangos: the same few questions, answered by era.

``dialect`` (SQLAlchemy's word) answers for the Django that runs. It is asked about wrappers,
Django's objects behind ``connections[alias]``; the driver's own connection is called raw.
"""

from __future__ import absolute_import

import operator
import sys

from django import VERSION
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from persistconn import compat, drivers


class UnsupportedDjango(ImproperlyConfigured):
    """The running Django is older than any that persistconn knows how to patch."""


#: Before 1.7 an app is merely imported, and not even that before somebody needs all models.
APPS_ARE_MERELY_IMPORTED = VERSION < (1, 7)
#: From 3.2 Django finds the AppConfig by itself, and 3.2 and 4.0 warn when they are told.
APP_CONFIG_MUST_BE_NAMED = VERSION < (3, 2)


_connected_to = operator.itemgetter("NAME", "HOST", "PORT", "USER")

# Methods that were looked at together, and are all Django's own or what we have put in their place.
_djangos = set()


def are_djangos(*methods):
    if methods not in _djangos:
        if not all(_module(method) in ("django", "persistconn") for method in methods):
            return False
        _djangos.add(methods)
    return True


def _module(method):
    function = getattr(method, "__func__", method)  # Python 2 has unbound methods
    return getattr(function, "__globals__", {}).get("__name__", "").partition(".")[0]


#: What connect() and what it calls set, and an adopting wrapper cannot know: Django's own age, too.
CARRIED = ("close_at", "health_check_enabled", "isolation_level", "autocommit")

#: What a wrapper notes of atomic blocks while it is in none.
OUTSIDE = dict.fromkeys(["in_atomic_block", "needs_rollback", "closed_in_transaction"], False)


class Django18(object):
    """1.8 and later."""

    backends = "django.db.backends.base.base"
    creation = "django.db.backends.base.creation"
    end_of_work = "close_old_connections"
    end_of_work_signals = ("request_started", "request_finished")
    #: The alias of connections that make and drop databases, of which Django closes not every one.
    maintenance = "__no_db__"
    #: Whether a wrapper without a connection can be in a block that somebody forgot to leave.
    blocks_outlive_connections = False

    def identity(self, wrapper):
        """What a connection opened by this wrapper now would be connected to, and set up as."""
        database = wrapper.settings_dict
        # Not through the lazy object, which costs as much as all the rest.
        project = object.__getattribute__(settings, "_wrapped")
        return (
            wrapper.__class__,
            _connected_to(database),
            repr(database["OPTIONS"]),
            database.get("AUTOCOMMIT"),
            database.get("TIME_ZONE"),
            project.TIME_ZONE,
            getattr(project, "USE_TZ", False),
        )

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
        wrapper.__dict__.update(entry.carried)
        wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []

    def carried(self, wrapper):
        """What opening the connection noted on the wrapper, for the next one that adopts it."""
        noted = wrapper.__dict__
        carried = dict((name, noted[name]) for name in CARRIED if name in noted)
        return dict(carried, errors_occurred=False, health_check_done=True, **OUTSIDE)

    def is_under_way(self, wrapper):
        """Whether the wrapper's connection is not as connect() leaves one, and is again later."""
        return wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]

    def settle(self, wrapper, entry):
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
        wrapper.__dict__.update(OUTSIDE)
        wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []

    def has_own_close(self, wrapper):
        """Whether a backend, or whoever patched it, does more at close() than Django.

        Multi-tenant backends forget there what they cached about the session, its search_path.
        """
        cls, own = wrapper.__class__, wrapper.__dict__
        if "close" in own or "_close" in own:
            return True
        return (cls.close, cls._close) not in _djangos and not are_djangos(cls.close, cls._close)

    def belongs_to(self, wrapper, ident):
        """Whether nobody but the thread of this ident uses the wrapper."""
        return wrapper._thread_ident == ident and not wrapper.allow_thread_sharing

    def end_blocks(self, wrapper):
        """Leave the managed blocks that somebody entered and forgot. Raises where Django does."""

    def forget_transactions(self, wrapper):
        """Reset a wrapper to what it is outside all blocks."""

    def restore(self, wrapper, entry):
        """Reset an idle session to what the settings say of its transactions."""
        autocommit = wrapper.settings_dict["AUTOCOMMIT"]
        if wrapper.autocommit != autocommit:
            wrapper._set_autocommit(autocommit)
            wrapper.autocommit = autocommit
        # psycopg2's set_isolation_level() switches autocommit off, and the wrapper does not know.
        if entry.driver.flags(entry.raw) != entry.flags:
            entry.driver.restore(entry.raw, entry.flags, entry.values.check_timeout)

    def end_stock(self, wrapper):
        """End a unit of work as Django does by itself."""
        wrapper.close_if_unusable_or_obsolete()


class Django16(Django18):
    """1.6 and 1.7: managed transactions are still there, on top of autocommit."""

    backends = "django.db.backends"
    creation = "django.db.backends.creation"
    blocks_outlive_connections = True

    def end_blocks(self, wrapper):
        self.abort(wrapper)
        self.forget_transactions(wrapper)

    def abort(self, wrapper):
        from django.db.utils import Error

        if wrapper.connection is not None and wrapper.is_dirty():
            try:
                wrapper.rollback()
            except Error:
                pass

    def forget_transactions(self, wrapper):
        del wrapper.transaction_state[:]
        # Not by set_clean(), which the dummy backend refuses.
        wrapper._dirty = False
        wrapper.savepoint_state = 0

    def end_stock(self, wrapper):
        from django.db import DatabaseError

        try:
            wrapper.abort()
        except DatabaseError:
            pass
        wrapper.close_if_unusable_or_obsolete()


class Django14(Django16):
    """1.4 and 1.5: the first statement opens a transaction, and cursor() connects."""

    end_of_work = "close_connection"
    end_of_work_signals = ("request_finished",)

    def has_own_close(self, wrapper):
        return "close" in wrapper.__dict__ or not are_djangos(wrapper.__class__.close)

    def database_module(self, wrapper):
        for cls in wrapper.__class__.__mro__:
            module = sys.modules.get(cls.__module__)
            if hasattr(module, "Database"):
                return module.Database

    def carried(self, wrapper):
        return {}

    def is_under_way(self, wrapper):
        return False

    def adopt(self, wrapper, entry):
        # The managed stack is left as it is: TransactionMiddleware is in its block already.
        wrapper.connection = entry.raw
        self._set_isolation_level(wrapper, entry)

    def _set_isolation_level(self, wrapper, entry):
        wanted = getattr(wrapper, "isolation_level", None)
        if wanted is not None and entry.driver.isolation_level(entry.raw) != wanted:
            with entry.driver.limit(entry.raw, entry.values.check_timeout):
                entry.raw.set_isolation_level(wanted)

    def settle(self, wrapper, entry):
        # 1.2 and 1.3 set the time zone in the first transaction, and a rollback would lose it for
        # as long as the connection lives (Django #17062); so it is for a connection_created
        # receiver's SET on all of them.
        if entry.driver.status(entry.raw) == drivers.INTRANS:
            entry.raw.commit()

    def may_reconnect(self, wrapper, status):
        # Between two transactions of a managed block there is nothing to lose either.
        return status == drivers.IDLE or (
            status == drivers.UNKNOWN and not self.is_managed(wrapper)
        )

    def is_managed(self, wrapper):
        return wrapper.is_managed()

    def is_in_a_managed_block(self, wrapper):
        """Whether somebody will have to commit or roll back. TRANSACTIONS_MANAGED is no block."""
        return bool(wrapper.transaction_state) and wrapper.is_managed()

    def leave_blocks(self, wrapper):
        self.forget_transactions(wrapper)

    def is_in_a_block(self, wrapper):
        # An import would ask for settings, and costs a microsecond each time.
        transaction = sys.modules.get("django.db.transaction")
        # That is how TestCase does it: what would end its transaction does nothing meanwhile.
        return transaction is not None and transaction.commit.__name__ == "nop"

    def forget_transactions(self, wrapper):
        del wrapper.transaction_state[:]
        wrapper._dirty = False
        wrapper.savepoint_state = 0
        self._leave_isolation_level(wrapper)

    def _leave_isolation_level(self, wrapper):
        # With OPTIONS["autocommit"], 1.2 to 1.4 stay at 1 for good after the first managed block.
        if wrapper.features.uses_autocommit and wrapper.isolation_level:
            wrapper._set_isolation_level(0)

    def restore(self, wrapper, entry):
        self._set_isolation_level(wrapper, entry)
        # What the wrapper's isolation level has settled already.
        settled = ("autocommit", "isolation_level")
        if entry.driver.flags(entry.raw) != entry.flags:
            entry.driver.restore(entry.raw, entry.flags, entry.values.check_timeout, settled)

    def abort(self, wrapper):
        # 1.2, 1.3 and 1.4.0 have none.
        if hasattr(wrapper, "abort"):
            wrapper.abort()

    def begins_a_unit_of_work(self, sender):
        """Whether a request_started comes from a real request, not from inside a test."""
        client = sys.modules.get("django.test.client")
        if client is not None and isinstance(sender, type):
            if issubclass(sender, client.ClientHandler):
                return False
        return not self.is_in_a_block(None)

    def end_stock(self, wrapper):
        if not self.is_in_a_block(wrapper):
            self.abort(wrapper)
        wrapper.close()


class Django13(Django14):
    """A wrapper is one object for all threads, with attributes that each thread has for itself."""

    def belongs_to(self, wrapper, ident):
        # What the thread had in it is gone with the thread.
        return False

    def initialised(self):
        from django.db import connections

        return list(connections._connections.values())


class Django12(Django13):
    """Managed transactions are kept account of in the module django.db.transaction."""

    def wrapper(self, alias):
        from django.db import DEFAULT_DB_ALIAS, connections

        return connections[alias or DEFAULT_DB_ALIAS]

    def is_managed(self, wrapper):
        from django.db import transaction

        return transaction.is_managed(using=wrapper.alias)

    def is_in_a_managed_block(self, wrapper):
        from django.db import transaction

        stack = transaction.state.get(compat.get_ident(), {}).get(wrapper.alias)
        return bool(stack) and stack[-1]

    def forget_transactions(self, wrapper):
        from django.db import transaction

        for kept in (transaction.state, transaction.dirty, transaction.savepoint_state):
            kept.get(compat.get_ident(), {}).pop(wrapper.alias, None)
        self._leave_isolation_level(wrapper)


ERAS = (((1, 8), Django18), ((1, 6), Django16), ((1, 4), Django14), ((1, 3), Django13))
OLDEST = ((1, 2), Django12)


def for_version(version):
    """Return the dialect for a Django's VERSION. Raises UnsupportedDjango."""
    for since, dialect_class in ERAS + (OLDEST,):
        if version >= since:
            return dialect_class()
    raise UnsupportedDjango(
        "persistconn supports Django %s and later; this is Django %s."
        % (".".join(map(str, OLDEST[0])), ".".join(map(str, version[:2])))
    )


dialect = for_version(VERSION)
