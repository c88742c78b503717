"""psycopg 3."""

from persistconn.drivers import undoing
from persistconn.drivers.base import Driver
from persistconn.drivers.postgresql import Psycopg2

#: Seconds that a request to cancel a query may take.
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
    # The first seven of flag_names, as attributes that are not properties.
    private_names = (
        "_isolation_level",
        "_read_only",
        "_deferrable",
        "_autocommit",
        "row_factory",
        "cursor_factory",
        "server_cursor_factory",
    )

    deallocating = undoing.BY_SQL

    def _execute_at_once(self, raw, sql):
        cursor = raw.cursor()
        cursor.execute(sql, prepare=False)
        cursor.close()

    def _begin_autocommit(self, raw):
        before, raw.autocommit = raw.autocommit, True
        return before

    def _end_autocommit(self, raw, before):
        raw.autocommit = before

    def status(self, raw):
        return raw.pgconn.transaction_status

    def flags(self, raw):
        try:
            return self._private_flags(raw)
        except (AttributeError, KeyError):  # this psycopg has other private names
            return (Driver.flags(self, raw),)

    def _private_flags(self, raw):
        # The copy of the adapters shares their tables. Registering something makes new tables.
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
        # Spelt out, and with private names, because the public ones are properties, which are slow.
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
            # Making a copy marks the tables as shared again, so that registering makes new ones.
            before.__class__(raw.adapters)
        return Driver.restore(self, raw, flags[0], timeout, skip)

    def forget_messages(self, raw):
        if getattr(raw, "_notifies_backlog", None):
            raw._notifies_backlog.clear()

    def is_held(self, raw):
        # Another thread has the lock, or a suspended generator, such as that of notifies().
        return raw.lock.locked()

    def parameter(self, raw, name):
        return raw.info.parameter_status(name)

    def _cancel(self, raw):
        # The other ways to cancel have no timeout.
        if hasattr(raw, "cancel_safe"):
            raw.cancel_safe(timeout=CANCEL_TIMEOUT)
