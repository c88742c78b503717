"""mysqlclient and PyMySQL."""

import itertools
import logging
import os
import sys

from persistconn.drivers.base import ACTIVE, IDLE, INTRANS, UNKNOWN, Driver
from persistconn.drivers.timeouts import capped_timeout, seconds_of

logger = logging.getLogger("persistconn")

# A flag in the status that a MySQL server sends with its answers.
SERVER_STATUS_IN_TRANS = 1

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

# The client library's code for an answer that comes at the wrong time.
OUT_OF_SYNC = 2014

_numbers = itertools.count(1)

READ_ONLY = "read_only"
# One row if the server takes no writes, also from MariaDB 12, where the variable is a word.
IS_READ_ONLY = "SELECT 1 FROM DUAL WHERE @@global.read_only NOT IN ('0', 'OFF')"


# Codes of a server that takes no writes: one of its options forbids it, which the text names, or
# InnoDB is read-only.
OPTION_PREVENTS, READ_ONLY_MODE = 1290, 1836


class MySQL(Driver):
    """mysqlclient (MySQLdb), and what it shares with PyMySQL."""

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
        return bool(raw.get_autocommit())

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


class PyMySQL(MySQL):
    def connect_timeout(self, params):
        return params.get("connect_timeout", 10)  # the driver's own default

    def has_timeout(self, params):
        # connect_timeout ends when the server has accepted, and says nothing of its greeting.
        return Driver.has_timeout(self, params) and seconds_of(params.get("read_timeout")) != 0

    def connect_options(self, params, seconds):
        limit = capped_timeout(params.get("read_timeout"), seconds)
        return dict(MySQL.connect_options(self, params, seconds), read_timeout=limit)

    def just_opened(self, raw, params):
        MySQL.just_opened(self, raw, params)
        raw._read_timeout = params.get("read_timeout")
        raw._persistconn_is_current = True

    def _prepare(self, raw):
        MySQL._prepare(self, raw)
        try:
            raw.__class__ = noting(raw.__class__)
        except TypeError:
            pass  # a proxy that does not allow it

    def status(self, raw):
        if not raw.open:
            return UNKNOWN
        if raw.server_status & SERVER_STATUS_IN_TRANS:
            return INTRANS
        return IDLE if self.commits_by_itself(raw) else None

    def is_held(self, raw):
        # A signal handler or a destructor may run within a command of this thread. The command would
        # go on in the session of its next user.
        package = raw.query.__globals__["__name__"].partition(".")[0] + "."
        if _is_inside(package, sys._getframe()):
            return True
        # Another thread may be waiting for an answer. This one must not read it.
        return not _is_current(raw) and any(
            _is_inside(package, frame, raw) for frame in list(sys._current_frames().values())
        )

    def commits_by_itself(self, raw):
        is_current = _is_current(raw) and not self.is_held(raw)
        return is_current and MySQL.commits_by_itself(self, raw)

    def _rollback(self, raw):
        if not _is_current(raw):
            # The answer to the last statement may be unread. The next would take it for its own.
            self._verify(raw)
        MySQL._rollback(self, raw)

    def _verify(self, raw):
        number = next(_numbers)
        raw.query("SELECT %d" % number)
        rows = raw._result.rows
        if not rows or int(rows[0][0]) != number:
            raise raw.InternalError(OUT_OF_SYNC, "the answer belongs to another statement")

    def _fileno(self, raw):
        return raw._sock.fileno() if raw.open else None


class Noting(object):
    """A connection of PyMySQL that notes whether its ``server_status`` is that of this moment.

    The driver takes the status from OK packets only. Rows leave a transaction as it was while
    autocommit is on. After an error a transaction may be open, and after an interrupted command,
    or in a thread that is not the command's, its answer may be unread.
    """

    _persistconn_is_current = _persistconn_was_current = False

    def _execute_command(self, command, sql):
        was_current, self._persistconn_is_current = self._persistconn_is_current, False
        super(Noting, self)._execute_command(command, sql)
        # Not before, because this may have read the rest of the last answer.
        self._persistconn_is_current, self._persistconn_was_current = False, was_current

    def _read_query_result(self, unbuffered=False):
        affected_rows = super(Noting, self)._read_query_result(unbuffered=unbuffered)
        result = self._result
        is_whole = not (result.has_next or result.unbuffered_active)
        tells = result.server_status is not None or self._persistconn_was_current
        self._persistconn_is_current = is_whole and tells
        return affected_rows

    def _read_ok_packet(self):
        packet = super(Noting, self)._read_ok_packet()
        self._persistconn_is_current = True
        return packet


_noting = {}


def noting(cls):
    """Return the class of PyMySQL's connections as one that notes."""
    if issubclass(cls, Noting):
        return cls
    members = {"__module__": cls.__module__}
    return _noting.get(cls) or _noting.setdefault(cls, type(cls.__name__, (Noting, cls), members))


def _last_error(raw):
    """Return the code of the last call's error; 0: none; None: the driver does not know it."""
    try:
        return raw.errno()
    except (AttributeError, raw.Error):
        return None


def _is_current(raw):
    return getattr(raw, "_persistconn_is_current", False)


def _is_inside(package, frame, raw=None):
    """Whether a frame, or one of its callers, runs code of a package; a method of ``raw``."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(package):
            if raw is None or frame.f_locals.get("self") is raw:
                return True
        frame = frame.f_back
    return False


def _inode(fd):
    try:
        return os.fstat(fd).st_ino
    except (TypeError, EnvironmentError):
        return None
