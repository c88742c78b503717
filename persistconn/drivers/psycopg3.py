"""psycopg 3."""

from __future__ import absolute_import

from persistconn.drivers.base import Driver
from persistconn.drivers.postgresql import Psycopg2

#: Seconds that asking the server to give up a query may take.
CANCEL_TIMEOUT = 2


class Psycopg3(Psycopg2):
    flag_names = (
        "isolation_level",
        "read_only",
        "deferrable",
        "autocommit",
        "row_factory",
        "cursor_factory",
        "server_cursor_factory",
        "prepare_threshold",
        "prepared_max",
    )
    # The first of these, where no property is in between.
    private_names = (
        "_isolation_level",
        "_read_only",
        "_deferrable",
        "_autocommit",
        "row_factory",
        "cursor_factory",
        "server_cursor_factory",
    )

    def status(self, raw):
        return raw.pgconn.transaction_status

    def flags(self, raw):
        try:
            return self._private_flags(raw)
        except (AttributeError, KeyError):  # a psycopg with other private names
            return (Driver.flags(self, raw),)

    def _private_flags(self, raw):
        # A copy of the adapters shares their tables until something is registered, in a new table.
        adapters = raw.adapters
        before = adapters.__class__(adapters)
        prepared, types, dumpers = raw._prepared, adapters.types, adapters._dumpers
        (auto,) = [placeholder for placeholder in dumpers if placeholder.name == "AUTO"]
        values = tuple([getattr(raw, name) for name in self.private_names])
        values += (prepared.prepare_threshold, prepared.prepared_max)
        values += (types._registry, dumpers[auto])
        lists = (raw._notice_handlers, raw._notify_handlers)
        lists += (adapters._loaders, adapters._dumpers_by_oid)
        copies = tuple([entries[:] for entries in lists])
        backlog = getattr(raw, "_notifies_backlog", ())
        return values, prepared, types, dumpers, auto, lists, copies, backlog, raw.lock, before

    def has_changed(self, raw, flags):
        try:
            values, prepared, types, dumpers, auto, lists, copies, backlog, lock, _ = flags
        except ValueError:
            return Driver.flags(self, raw) != flags[0] or self.is_held(raw)
        # Spelt out, and by private names, as the public ones are properties.
        now = (
            raw._isolation_level,
            raw._read_only,
            raw._deferrable,
            raw._autocommit,
            raw.row_factory,
            raw.cursor_factory,
            raw.server_cursor_factory,
            prepared.prepare_threshold,
            prepared.prepared_max,
            types._registry,
            dumpers[auto],
        )
        return now != values or lists != copies or backlog or lock.locked()

    def restore(self, raw, flags, timeout, skip=()):
        if len(flags) > 1:
            values, _, types, dumpers, _, lists, copies, _, _, before = flags
            for entries, earlier in zip(lists, copies):
                entries[:] = earlier
            dumpers.update(before._dumpers)
            types._registry = before.types._registry
            # A copy, so that the tables are shared again, and not written into.
            before.__class__(raw.adapters)
        return Driver.restore(self, raw, flags[0], timeout, skip)

    def forget_messages(self, raw):
        if getattr(raw, "_notifies_backlog", None):
            raw._notifies_backlog.clear()

    def is_held(self, raw):
        # By another thread, or by a generator that waits for its next turn, as notifies() has one.
        return raw.lock.locked()

    def parameter(self, raw, name):
        return raw.info.parameter_status(name)

    def _cancel(self, raw):
        # The other ways to cancel have no time-out.
        if hasattr(raw, "cancel_safe"):
            raw.cancel_safe(timeout=CANCEL_TIMEOUT)
