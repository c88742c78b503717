"""PyMySQL."""

import itertools
import sys

from persistconn.drivers.base import IDLE, INTRANS, UNKNOWN, Driver
from persistconn.drivers.mysql import MySQL
from persistconn.drivers.timeouts import capped_timeout, seconds_of

# A flag in the status that a MySQL server sends with its answers.
SERVER_STATUS_IN_TRANS = 1

# The client library's code for an answer that comes at the wrong time.
OUT_OF_SYNC = 2014

_numbers = itertools.count(1)


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
