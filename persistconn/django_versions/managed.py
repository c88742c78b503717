"""Django 1.2 to 1.7: managed transactions, alone or on top of autocommit."""

import sys

from persistconn import compat, drivers
from persistconn.django_versions import hooks
from persistconn.django_versions.atomic import NOT_CARRIED, Django18
from persistconn.drivers.base import ACTIVE, IDLE, INERROR, INTRANS, UNKNOWN
from persistconn.patching import are_djangos


class Django16(Django18):
    """Django 1.6 and 1.7: managed transactions still exist, on top of autocommit."""

    backends = "django.db.backends"
    creation = "django.db.backends.creation"
    has_managed_blocks = True
    #: Whether managed blocks change the wrapper's isolation level.
    has_isolation_levels = False

    def initialised(self):
        # An import statement would take longer than the rest of this function.
        return list(sys.modules["django.db"].connections._connections.__dict__.values())

    def is_clean(self, wrapper):
        """Whether the wrapper is in the state that end_blocks() leaves."""
        if self.has_isolation_levels:
            if wrapper.features.uses_autocommit and wrapper.isolation_level:
                return False
        # In a new wrapper of 1.3 to 1.5, which was never in a block, _dirty is None.
        is_clean = wrapper._dirty is False and not wrapper.savepoint_state
        return is_clean and not wrapper.transaction_state

    def end_blocks(self, wrapper):
        if not self.is_clean(wrapper):
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
        # Not by set_clean(), which raises an error in the dummy backend.
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
    """Django 1.4 and 1.5: the first statement opens a transaction, and cursor() connects."""

    end_of_work = "close_connection"
    has_isolation_levels = True
    hides_errors = True
    connecting = staticmethod(hooks.by_module)

    def has_own_close(self, wrapper):
        return "close" in wrapper.__dict__ or not are_djangos(wrapper.__class__.close)

    def database_module(self, wrapper):
        for cls in wrapper.__class__.__mro__:
            module = sys.modules.get(cls.__module__)
            if hasattr(module, "Database"):
                return module.Database

    # The isolation level belongs to the wrapper, and outlives its connections.
    carried_always = ()
    not_carried = NOT_CARRIED | {"isolation_level"}
    carried_as_new = {}

    def is_in_manual_mode(self, wrapper):
        return False

    def is_under_way(self, wrapper):
        return False

    def open(self, wrapper, open_new):
        # cursor() would do a checkout first, which may find an idle connection.
        open_new(wrapper, wrapper._cursor).close()

    def adopt(self, wrapper, entry):
        # Leave the stack of managed blocks: TransactionMiddleware has entered its block already.
        wrapper.connection = entry.raw
        wrapper.__dict__.update(entry.carried)
        self._set_isolation_level(wrapper, entry)

    def _set_isolation_level(self, wrapper, entry):
        wanted = getattr(wrapper, "isolation_level", None)
        if wanted is not None and entry.driver.isolation_level(entry.raw) != wanted:
            with entry.driver.limit(entry.raw, entry.pool.values.check_timeout):
                entry.raw.set_isolation_level(wanted)

    def commit_setup(self, wrapper, entry):
        # 1.2 and 1.3 set the time zone in the first transaction, and a rollback would undo that for
        # the connection's whole life (Django #17062). On 1.2 to 1.5 it would also undo a SET by a
        # connection_created receiver.
        if entry.driver.status(entry.raw) == INTRANS:
            entry.raw.commit()

    def may_reconnect(self, wrapper, status):
        # IDLE suffices: even in a managed block, nothing is lost between two transactions. MySQL's
        # drivers do not know. Outside a managed block only reads are lost then, as in stock Django.
        if status is None or status == UNKNOWN:
            return not self.is_managed(wrapper)
        return status == IDLE

    def loses_nothing(self, wrapper, status):
        # Outside a managed block the ORM commits each write, so that an open transaction has only
        # read.
        return not self.is_managed(wrapper) and status not in (ACTIVE, INERROR)

    def is_managed(self, wrapper):
        return wrapper.is_managed()

    def is_in_a_managed_block(self, wrapper):
        """Whether a managed block is open. The setting TRANSACTIONS_MANAGED does not open one."""
        return bool(wrapper.transaction_state) and wrapper.is_managed()

    def has_something_to_end(self, wrapper):
        """Whether the wrapper's managed block must commit or roll back at its end.

        Django's "dirty" flag misses reads, and on 1.2 also raw SQL. The driver's status does not.
        """
        raw = wrapper.connection
        driver = drivers.of(raw) if raw is not None else None
        if driver is None or not self.is_in_a_managed_block(wrapper):
            return False
        return driver.status(raw) != IDLE

    def leave_blocks(self, wrapper):
        self.forget_transactions(wrapper)

    def is_in_a_block(self, wrapper):
        # An import would need settings, and take a microsecond each time.
        transaction = sys.modules.get("django.db.transaction")
        # TestCase puts nop() in place of the functions that would end its transaction.
        return transaction is not None and transaction.commit.__name__ == "nop"

    def forget_transactions(self, wrapper):
        del wrapper.transaction_state[:]
        wrapper._dirty = False
        wrapper.savepoint_state = 0
        self._leave_isolation_level(wrapper)

    def _leave_isolation_level(self, wrapper):
        # With OPTIONS["autocommit"], 1.2 to 1.4 stay at level 1 after the first managed block.
        if wrapper.features.uses_autocommit and wrapper.isolation_level:
            wrapper._set_isolation_level(0)

    def restore(self, wrapper, entry):
        if entry.driver.has_changed(entry.raw, entry.flags):
            skip = ()
            if getattr(wrapper, "isolation_level", None) is not None:
                self._set_isolation_level(wrapper, entry)
                # _set_isolation_level() has restored these already.
                skip = ("autocommit", "isolation_level")
            timeout = entry.pool.values.check_timeout
            return entry.driver.restore(entry.raw, entry.flags, timeout, skip)

    def abort(self, wrapper):
        # 1.2, 1.3 and 1.4.0 have no abort().
        if hasattr(wrapper, "abort"):
            wrapper.abort()

    def begins_a_unit_of_work(self, sender):
        """Whether request_started was sent for a real request, not inside a test."""
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
    """Django 1.3: a wrapper is one ``threading.local`` for all threads."""

    def is_registered(self, wrapper):
        return any(known is wrapper for known in self.initialised())

    def belongs_to(self, wrapper, ident):
        # The thread's attributes of the wrapper are gone with the thread.
        return False

    def is_shared(self, wrapper):
        return False

    def initialised(self):
        from django.db import connections

        return list(connections._connections.values())


class Django12(Django13):
    """Django 1.2: the module django.db.transaction has the state of managed transactions."""

    def wrapper(self, alias):
        from django.db import DEFAULT_DB_ALIAS, connections

        return connections[alias or DEFAULT_DB_ALIAS]

    def is_clean(self, wrapper):
        return False  # checking takes as long as end_blocks()

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
