"""psycopg2, and what it has in common with psycopg 3: libpq."""

from __future__ import absolute_import

import os
import re

from persistconn.drivers.base import IDLE, Driver, capped_timeout

# What a server answers (SQLSTATE) while it stops, has crashed, starts, or has no slot.
NO_ENTRY = frozenset(["57P01", "57P02", "57P03", "53300"])
CONNECTION_EXCEPTION = "08"

# The same as it is written, by the server and by PgBouncer, and what libpq says by itself.
SERVER_SAYS = (
    "the database system is ",
    "too many clients",
    "too many connections",
    "remaining connection slots are reserved",
    "terminating connection",
    "pgbouncer cannot connect",
    "server_login_retry",
    "no more connections allowed",
    "query_wait_timeout",
    "server conn crashed",
    "shutting down",
)
LIBPQ_SAYS = (
    "Is the server running",
    "server closed the connection",
    "SSL connection has been closed",
    "Connection reset",
    "EOF detected",
    "Broken pipe",
    "timeout expired",
    "timed out",
    "No route to host",
    "Network is unreachable",
    "Host is down",
    "Temporary failure in name resolution",
    "session is read-only",
    "could not make a writable connection",
    "hot standby mode",
)

#: Names and values in these texts that are the user's own: a host can be called "timed out".
QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'(?=[,:])")

# The parameters that a server reports with any answer, and which a session that is to write, as
# ``target_session_attrs`` has it, must have off.
READ_ONLY_BY = {
    "read-write": ("in_hot_standby", "default_transaction_read_only"),
    "primary": ("in_hot_standby",),
}


class Psycopg2(Driver):
    flag_names = ("isolation_level", "readonly", "deferrable", "autocommit", "cursor_factory")

    def status(self, raw):
        # ``closed`` stays 0 after some losses, while libpq has dropped the socket already.
        return raw.get_transaction_status()

    def isolation_level(self, raw):
        """The level as set_isolation_level() takes it: 0 is autocommit, also from 2.7 on."""
        return 0 if getattr(raw, "autocommit", False) else raw.isolation_level

    def flags(self, raw):
        # register_type() knows only the first of a connection's two dicts of typecasters.
        types = raw.string_types
        return Driver.flags(self, raw), raw.notices, raw.notifies, types, list(types.items())

    def has_changed(self, raw, flags):
        values, notices, notifies, types, before = flags
        try:
            # Spelt out, as asking by name is three times as dear.
            now = (
                raw.isolation_level,
                raw.readonly,
                raw.deferrable,
                raw.autocommit,
                raw.cursor_factory,
            )
            if (
                now != values
                or raw.notices is not notices
                or raw.notifies is not notifies
                or notices
                or notifies
                or len(types) != len(before)
            ):
                return True
            for oid, typecaster in before:
                # Two of the same oid are equal.
                if types[oid] is not typecaster:
                    return True
            return False
        except (AttributeError, KeyError):  # before psycopg2 2.7 there are not all of these
            return True

    def restore(self, raw, flags, timeout, skip=()):
        values, notices, notifies, types, before = flags
        if raw.notices is not notices or raw.notifies is not notifies:
            raw.notices, raw.notifies = notices, notifies
        types.clear()
        types.update(before)
        return Driver.restore(self, raw, values, timeout, skip)

    def forget_messages(self, raw):
        if raw.notices:
            _empty(raw.notices)
        if raw.notifies:
            _empty(raw.notifies)

    def is_server_side(self, cursor):
        return bool(getattr(cursor, "name", None))

    def _ask(self, raw, statement):
        cursor = raw.cursor()
        cursor.execute(statement)
        cursor.close()
        if self.status(raw) != IDLE:
            raw.rollback()

    def _rollback(self, raw):
        raw.rollback()
        # In autocommit psycopg2 knows nothing of a BEGIN that was sent as a statement.
        if self.status(raw) != IDLE:
            raw.cursor().execute("ROLLBACK")

    #: Before version 17, libpq makes 2 seconds of 1; so does psycopg 3.
    shortest_timeout = 2

    def connect_timeout(self, params):
        return params.get("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT"))

    def has_timeout(self, params):
        # A service's file may set one, which ours would override.
        return Driver.has_timeout(self, params) or bool(
            params.get("service") or os.environ.get("PGSERVICE")
        )

    def hosts(self, params):
        hosts = params.get("hostaddr") or params.get("host") or os.environ.get("PGHOST") or ""
        return str(hosts).split(",")

    def connect_options(self, params, seconds):
        return {"connect_timeout": capped_timeout(self.connect_timeout(params), seconds)}

    def is_transient(self, error):
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if state is not None:
            return state in NO_ENTRY or state.startswith(CONNECTION_EXCEPTION)
        text = QUOTED.sub("", str(error))
        # One address of a host may have refused before another one answered: an answer counts more.
        answers = [line for line in text.splitlines() if "FATAL:" in line]
        if answers:
            return all(_has_one_of(SERVER_SAYS, answer) for answer in answers)
        return _has_one_of(LIBPQ_SAYS, text)

    def read_only_by(self, options):
        return READ_ONLY_BY.get(options.get("target_session_attrs"), ())

    def parameter(self, raw, name):
        return raw.get_parameter_status(name)


def _empty(messages):
    """Empty a list, or what a receiver has put in its place."""
    try:
        del messages[:]
    except TypeError:
        if hasattr(messages, "clear"):
            messages.clear()


def _has_one_of(texts, message):
    return any(text in message for text in texts)
