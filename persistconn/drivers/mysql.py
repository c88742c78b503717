"""mysqlclient, and what it shares with PyMySQL."""

import logging
import os

from persistconn.drivers.base import ACTIVE, UNKNOWN, Driver
from persistconn.drivers.timeouts import capped_timeout

logger = logging.getLogger("persistconn")

# Codes after which the client library has no connection any more: the server is shutting down, the
# session was killed, the connection is gone or lost, the server has ended an idle session.
LOST = frozenset([1053, 1927, 2006, 2013, 2055, 3169, 4031])

# Codes of transient errors of connecting: too many connections (of all, of one user), socket or host
# not reachable, connection lost meanwhile.
NO_ENTRY = frozenset([1040, 1203, 2002, 2003]) | LOST

# Codes of a refused password or token. A plugin of the server that speaks of no password has the
# second.
REFUSED_PASSWORD = frozenset([1045, 1698])

# The text of error 1226 also names limits per hour, which are not transient.
MAX_USER_CONNECTIONS = 1226, "max_user_connections"

# The base classes of cursors whose rows stay on the server until they are fetched.
UNBUFFERED = frozenset(["CursorUseResultMixIn", "SSCursor"])

READ_ONLY = "read_only"
# One row if the server takes no writes, also from MariaDB 12, where the variable is a word.
IS_READ_ONLY = "SELECT 1 FROM DUAL WHERE @@global.read_only NOT IN ('0', 'OFF')"


# Codes of a server that takes no writes: one of its options forbids it, which the text names, or
# InnoDB is read-only.
OPTION_PREVENTS, READ_ONLY_MODE = 1290, 1836


class MySQL(Driver):
    """mysqlclient (MySQLdb)."""

    shortest_timeout = 1

    def connect_timeout(self, params):
        return params.get("connect_timeout")

    def connect_options(self, params, seconds):
        return {"connect_timeout": capped_timeout(self.connect_timeout(params), seconds)}

    def is_transient(self, error):
        code, text = (tuple(error.args) + (None, ""))[:2]
        return code in NO_ENTRY or (
            code == MAX_USER_CONNECTIONS[0] and MAX_USER_CONNECTIONS[1] in text
        )

    def is_refused_password(self, error):
        return bool(REFUSED_PASSWORD.intersection(error.args[:1]))

    def cannot_write(self, error):
        code, text = (tuple(error.args) + (None, ""))[:2]
        # The text can be in any language and of any type, but it has the option's own name.
        return code == READ_ONLY_MODE or code == OPTION_PREVENTS and "read-only" in repr(text)

    def has_refused(self, raw, has_failed=False):
        return _last_error(raw) in (OPTION_PREVENTS, READ_ONLY_MODE)

    def status(self, raw):
        try:
            # The next call without a query, as that of a cursor's close(), clears the error.
            lost = not raw.open or raw.errno() in LOST or self._has_another_socket(raw)
        except raw.ProgrammingError:
            # Since 2.3 the driver lets no thread in while another is inside.
            return ACTIVE
        return UNKNOWN if lost else None

    def close(self, raw):
        Driver.close(self, raw)
        if raw.open:
            # The driver refuses while another thread is inside. The session ends with its socket.
            self.shut_down(raw)

    def is_held(self, raw):
        return self.status(raw) == ACTIVE

    def _rollback(self, raw):
        # rollback() begins another transaction if completion_type says so.
        raw.query("ROLLBACK AND NO CHAIN NO RELEASE")

    def commits_by_itself(self, raw):
        return self.autocommit(raw)

    def just_opened(self, raw, params):
        # mysqlclient since 2.3 tells the descriptor to no thread while another is inside.
        self._prepare(raw)
        try:
            self._ask_whether_read_only(raw)
        except raw.Error as error:
            if self.is_transient(error):
                raise
            logger.debug("%s cannot be asked: %s", READ_ONLY, error)

    def _prepare(self, raw):
        fd = self._fileno(raw)
        raw._persistconn_socket = fd, _inode(fd)

    def _ask(self, raw, statement):
        if self.parameter(raw, READ_ONLY) is None:
            Driver._ask(self, raw, statement)
        else:
            # This ping tells as well whether the server has become a replica.
            self._ask_whether_read_only(raw)

    def _ask_whether_read_only(self, raw):
        cursor = raw.cursor()
        cursor.execute(IS_READ_ONLY)
        raw._persistconn_read_only = "on" if cursor.fetchall() else "off"
        cursor.close()

    def read_only_by(self, raw, options):
        # A session that has never been able to write is one of a replica on purpose.
        return (READ_ONLY,) if self.parameter(raw, READ_ONLY) == "off" else ()

    def read_only(self, raw):
        return self.parameter(raw, READ_ONLY)

    def _ask_read_only(self, raw):
        self._ask(raw, "SELECT 1")
        return self.read_only(raw) or "off"

    def parameter(self, raw, name):
        return getattr(raw, "_persistconn_read_only", None) if name == READ_ONLY else None

    def fileno(self, raw):
        # After a loss the library has closed the socket, but keeps its number, which another file
        # can have by now. So the socket is recognised by its inode.
        if not hasattr(raw, "_persistconn_socket"):
            self._prepare(raw)
        return None if self._has_another_socket(raw) else raw._persistconn_socket[0]

    def _has_another_socket(self, raw):
        fd, inode = getattr(raw, "_persistconn_socket", (None, None))
        return _inode(fd) != inode

    def _fileno(self, raw):
        return Driver.fileno(self, raw)  # MySQLdb has none before 1.3.2

    def autocommit(self, raw):
        return bool(raw.get_autocommit())

    def flags(self, raw):
        # A reconnection by the library or by its user shows as another session.
        return raw.thread_id(), raw.get_autocommit()

    def restore(self, raw, flags, timeout, skip=()):
        session, autocommit = flags
        if raw.thread_id() != session:
            return "closed by caller"
        with self.limit(raw, timeout):
            raw.autocommit(autocommit)

    def _read_all(self, cursor):
        while cursor.nextset():
            pass

    def is_server_side(self, cursor):
        return any(base.__name__ in UNBUFFERED for base in cursor.__class__.__mro__)


def _last_error(raw):
    """Return the code of the last call's error; 0: none; None: the driver does not know it."""
    try:
        return raw.errno()
    except (AttributeError, raw.Error):
        return None


def _inode(fd):
    try:
        return os.fstat(fd).st_ino
    except (TypeError, EnvironmentError):
        return None
