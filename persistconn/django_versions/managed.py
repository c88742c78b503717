"""1.2 to 1.7: managed transactions, alone or on top of autocommit."""

from __future__ import absolute_import

import sys

from persistconn import compat, drivers
from persistconn.django_versions import connecting
from persistconn.django_versions.atomic import NOT_CARRIED, Django18, are_djangos


class Django16(Django18):
    """1.6 and 1.7: managed transactions are still there, on top of autocommit."""

    backends = "django.db.backends"
    creation = "django.db.backends.creation"
    has_managed_blocks = True
    #: Whether managed blocks change the wrapper's isolation level.
    has_isolation_levels = False

    def initialised(self):
        # An import costs more than all the rest of it.
        return list(sys.modules["django.db"].connections._connections.__dict__.values())

    def is_clean(self, wrapper):
        """Whether the wrapper is as end_blocks() leaves it."""
        if self.has_isolation_levels:
            if wrapper.features.uses_autocommit and wrapper.isolation_level:
                return False
        # A new wrapper's is None, by which 1.3 to 1.5 tell that it was never in a block.
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
    has_isolation_levels = True
    end_of_work_signals = ("request_finished",)
    connecting = staticmethod(connecting.by_module)

    def has_own_close(self, wrapper):
        return "close" in wrapper.__dict__ or not are_djangos(wrapper.__class__.close)

    def database_module(self, wrapper):
        for cls in wrapper.__class__.__mro__:
            module = sys.modules.get(cls.__module__)
            if hasattr(module, "Database"):
                return module.Database

    # The isolation level is the wrapper's own, and survives its connections.
    carried_always = ()
    not_carried = NOT_CARRIED | {"isolation_level"}
    carried_as_new = {}

    def is_in_manual_mode(self, wrapper):
        return False

    def is_under_way(self, wrapper):
        return False

    def adopt(self, wrapper, entry):
        # The managed stack is left as it is: TransactionMiddleware is in its block already.
        wrapper.connection = entry.raw
        wrapper.__dict__.update(entry.carried)
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
        if entry.driver.has_changed(entry.raw, entry.flags):
            self._set_isolation_level(wrapper, entry)
            # What the wrapper's isolation level has settled already.
            settled = ("autocommit", "isolation_level")
            timeout = entry.values.check_timeout
            return entry.driver.restore(entry.raw, entry.flags, timeout, settled)

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

    def is_registered(self, wrapper):
        return any(known is wrapper for known in self.initialised())

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

    def is_clean(self, wrapper):
        return False  # asking costs as much as ending them

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
