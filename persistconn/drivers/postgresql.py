"""psycopg2, and the use of libpq that it shares with psycopg 3."""

import contextlib
import logging
import os
import re
import weakref

from persistconn.drivers import undoing
from persistconn.drivers.base import IDLE, INERROR, Driver
from persistconn.drivers.timeouts import capped_timeout

logger = logging.getLogger("persistconn")

# SQLSTATEs of a server that is stopping, has crashed, is starting, or has no free slot.
NO_ENTRY = frozenset(["57P01", "57P02", "57P03", "53300"])
CONNECTION_EXCEPTION = "08"

# Texts of transient errors: from the server and PgBouncer, and from libpq itself.
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

# The SQLSTATE of a refused password, and texts for refused passwords and tokens: the server's, by
# the way in which it asks for them, PgBouncer's, and libpq's, which found none in the password file.
INVALID_PASSWORD = "28P01"
REFUSED_PASSWORD = (
    "password authentication failed",
    "PAM authentication failed",
    "LDAP authentication failed",
    "RADIUS authentication failed",
    "OAuth bearer authentication failed",
    "IAM user authentication failed",
    "SASL authentication failed",
    "Auth failed",
    "no password supplied",
)

#: The user's own names and values, quoted in these texts: a host can be called "timed out".
QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'(?=[,:])")

# By ``target_session_attrs``: the server parameters that must be off in a session that can write.
# The server reports them with its answers.
READ_ONLY_BY = {
    "read-write": ("in_hot_standby", "default_transaction_read_only"),
    "primary": ("in_hot_standby",),
}

# Of a session that cannot write, one of these is "on": from PostgreSQL 14, which reports both.
REPORTED = READ_ONLY_BY["read-write"]

# SQLSTATE read_only_sql_transaction, also of a standby.
READ_ONLY = "25006"
# One row if the session cannot write. Without the comment Pgpool-II may send it to a standby, as it
# does with SHOW.
IS_READ_ONLY = "/*NO LOAD BALANCE*/SELECT 1 WHERE current_setting('transaction_read_only') = 'on'"

# The answers to that question at the opening, from servers that do not report it.
_at_opening = weakref.WeakKeyDictionary()

#: Characteristics of the next transaction, which only the client knows until it begins.
CHARACTERISTICS = ("isolation_level", "readonly", "deferrable")


class Psycopg2(Driver):
    flag_names = ("isolation_level", "readonly", "deferrable", "autocommit", "cursor_factory")

    def status(self, raw):
        # After some losses ``closed`` stays 0, although libpq has dropped the socket already.
        return raw.get_transaction_status()

    def isolation_level(self, raw):
        """Return the level for set_isolation_level(); 0 is autocommit, also from psycopg2 2.7."""
        return 0 if getattr(raw, "autocommit", False) else raw.isolation_level

    def flags(self, raw):
        # Of a connection's two dicts of typecasters, register_type() changes only string_types.
        types = raw.string_types
        return Driver.flags(self, raw), raw.notices, raw.notifies, types, list(types.items())

    def has_changed(self, raw, flags):
        values, notices, notifies, types, before = flags
        try:
            # Spelt out, because getattr() takes three times as long.
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
                # Not ``!=``: two typecasters of the same oid are equal.
                if types[oid] is not typecaster:
                    return True
            return False
        except (AttributeError, KeyError):  # psycopg2 before 2.7, or a typecaster was removed
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
        rows = cursor.rowcount
        cursor.close()
        if self.status(raw) != IDLE:
            raw.rollback()
        return rows

    def _rollback(self, raw):
        raw.rollback()
        # In autocommit psycopg2 does not notice a BEGIN that was sent as a statement.
        if self.status(raw) != IDLE:
            raw.cursor().execute("ROLLBACK")

    deallocating = undoing.ALL

    def undo_statement(self, raw, names):
        with self._autocommit(raw):
            cursor = raw.cursor()
            cursor.execute(undoing.question(names, self.deallocating))
            row = cursor.fetchone()
            cursor.close()
        # OPTIONS may ask for rows of another kind.
        calls = row["calls"] if isinstance(row, dict) else row[0]
        return undoing.statement(calls, self.deallocating) if calls else None

    def execute(self, raw, sql):
        with self._autocommit(raw):
            self._execute_at_once(raw, sql)

    def _execute_at_once(self, raw, sql):
        self._adopt_encoding(raw)
        Driver.execute(self, raw, sql)
        self._adopt_encoding(raw)

    def _adopt_encoding(self, raw):
        """Have the driver use the session's encoding. It knows only the one that it was told itself."""
        encoding = self.parameter(raw, "client_encoding")
        if encoding:
            raw.set_client_encoding(encoding)

    @contextlib.contextmanager
    def _autocommit(self, raw):
        """Be in autocommit inside the block. Its beginning and its end send nothing."""
        before = self._begin_autocommit(raw)
        try:
            yield
        finally:
            if self.status(raw) == IDLE:  # else it cannot be kept
                self._end_autocommit(raw, before)

    def _begin_autocommit(self, raw):
        level = self.isolation_level(raw)
        if level == 0:
            return None
        if not hasattr(raw, "readonly"):  # psycopg2 before 2.7
            raw.set_isolation_level(0)
            return level
        values = [getattr(raw, name) for name in CHARACTERISTICS]
        # The driver would tell the server of those that are set when autocommit ends.
        for name in CHARACTERISTICS:
            setattr(raw, name, None)
        raw.autocommit = True
        return values

    def _end_autocommit(self, raw, before):
        if isinstance(before, list):
            raw.autocommit = False
            for name, value in zip(CHARACTERISTICS, before):
                setattr(raw, name, value)
        elif before is not None:
            raw.set_isolation_level(before)

    #: libpq before version 17, and psycopg 3, turn a timeout of 1 second into 2.
    shortest_timeout = 2

    def connect_timeout(self, params):
        return params.get("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT"))

    def has_timeout(self, params):
        # A service file may set a timeout, which ours would override.
        return Driver.has_timeout(self, params) or bool(
            params.get("service") or os.environ.get("PGSERVICE")
        )

    def hosts(self, params):
        hosts = params.get("hostaddr") or params.get("host") or os.environ.get("PGHOST") or ""
        return str(hosts).split(",")

    def connect_options(self, params, seconds):
        return {"connect_timeout": capped_timeout(self.connect_timeout(params), seconds)}

    def is_refused_password(self, error):
        if _state(error) == INVALID_PASSWORD:
            return True
        return _has_one_of(REFUSED_PASSWORD, QUOTED.sub("", str(error)))

    def is_transient(self, error):
        state = _state(error)
        if state is not None:
            return state in NO_ENTRY or state.startswith(CONNECTION_EXCEPTION)
        text = QUOTED.sub("", str(error))
        # The text can name several addresses. A server's answer (FATAL) counts more than an address
        # that refused.
        answers = [line for line in text.splitlines() if "FATAL:" in line]
        if answers:
            return all(_has_one_of(SERVER_SAYS, answer) for answer in answers)
        return _has_one_of(LIBPQ_SAYS, text)

    def read_only_by(self, raw, options):
        return READ_ONLY_BY.get(options.get("target_session_attrs"), ())

    def cannot_write(self, error):
        return _state(error) == READ_ONLY

    def has_refused(self, raw, has_failed=False):
        if not has_failed and self.status(raw) != INERROR:
            return False
        told = self.read_only(raw)
        return None if told is None else told == "on"

    def just_opened(self, raw, params):
        if self.read_only(raw) is None:
            try:
                self._ask_at_opening(raw)
            except (AttributeError, TypeError, raw.Error) as error:
                # psycopg2 before 2.4.2 has no autocommit, and a proxy may allow no weak reference.
                logger.debug("a session cannot be asked whether it is read-only: %s", error)

    def _ask_at_opening(self, raw):
        autocommit, raw.autocommit = raw.autocommit, True
        try:
            _at_opening[raw] = self._ask_read_only(raw)
        finally:
            raw.autocommit = autocommit

    def read_only_at_opening(self, raw):
        try:
            return self.read_only(raw) or _at_opening.get(raw)
        except TypeError:
            return None  # see just_opened()

    def read_only(self, raw):
        told = [self.parameter(raw, name) for name in REPORTED]
        return None if None in told else "on" if "on" in told else "off"

    def _ask_read_only(self, raw):
        # Not by its rows, which are whatever the user's own cursors and row factories make of them.
        return "on" if self._ask(raw, IS_READ_ONLY) else "off"

    def parameter(self, raw, name):
        return raw.get_parameter_status(name)


def _state(error):
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def _empty(messages):
    """Empty a list of messages, or the object that a receiver has put in its place."""
    try:
        del messages[:]
    except TypeError:
        if hasattr(messages, "clear"):
            messages.clear()


def _has_one_of(texts, message):
    return any(text in message for text in texts)
