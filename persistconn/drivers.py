"""The one place for differences between database drivers.

A Driver answers for the raw connections of one driver. The base class does it for any PEP 249
module, and answers None to what such a module cannot know.
"""

from __future__ import absolute_import

import logging
import os

from persistconn.watchdog import Limit, Limitless

logger = logging.getLogger("persistconn")

# What libpq, and with it psycopg2 and psycopg 3, says of a session's transaction (PQTRANS_*).
IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)

# A flag that comes with every answer of a MySQL server.
SERVER_STATUS_IN_TRANS = 1

#: Seconds that asking the server to give up a query may take.
CANCEL_TIMEOUT = 2

# UNKNOWN is what it says once the connection is lost.
NOTHING_OPEN = (IDLE, UNKNOWN)


class Driver(object):
    """Any PEP 249 driver."""

    def is_closed(self, raw):
        """Whether the driver itself knows the connection to be closed; sends nothing."""
        return bool(getattr(raw, "closed", False))

    def status(self, raw):
        """IDLE, ACTIVE, INTRANS, INERROR or UNKNOWN as the driver knows it; None: it does not."""

    def fileno(self, raw):
        """The descriptor of the connection's socket, or None."""
        try:
            return raw.fileno()
        except Exception:
            return None

    def ping(self, raw, timeout):
        """Whether the server answers SELECT 1 in so many seconds. Leaves no transaction open."""
        try:
            with self._limit(raw, timeout):
                self._select_1(raw)
        except Exception as error:
            logger.debug("SELECT 1 failed: %s", error)
            return False
        return True

    def _select_1(self, raw):
        cursor = raw.cursor()
        try:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        finally:
            cursor.close()
        raw.rollback()

    def rollback(self, raw, timeout):
        """Roll back in so many seconds, or raise what the driver raises."""
        with self._limit(raw, timeout):
            self._rollback(raw)

    def _rollback(self, raw):
        raw.rollback()

    def _limit(self, raw, timeout):
        fd = self.fileno(raw)
        return Limit(fd, timeout) if fd is not None else Limitless()

    def is_its_error(self, raw, error):
        """Whether the driver raised it, of whatever kind."""
        return isinstance(error, getattr(raw, "Error", ()))

    def cancel(self, raw):
        """Ask the server to give up the query that is still running, where the driver can."""

    #: Attributes of a connection that say what its next transactions are like.
    flag_names = ()

    def flags(self, raw):
        """What the session's next transactions are like, as a dict."""
        return dict((name, getattr(raw, name, None)) for name in self.flag_names)

    def restore(self, raw, flags):
        """Make an idle session's next transactions what flags() said earlier."""
        for name in self.flag_names:
            if name in flags and getattr(raw, name, None) != flags[name]:
                setattr(raw, name, flags[name])

    def close(self, raw):
        """Close for real. An error only says that the peer was faster."""
        try:
            raw.close()
        except Exception as error:
            logger.debug("closing a connection failed: %s", error)

    def detach(self, raw):
        """Let nothing more reach the server. Returns False where that cannot be done.

        The descriptor is pointed at /dev/null (as Rails does it), and stays open: nobody else can
        get its number, and the server's end of the line is closed when the last process has done so.
        """
        fd = self.fileno(raw)
        if fd is None:
            return False
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fd)
        os.close(null)
        return True

    def abandon(self, raw):
        """Let go of a connection that belongs to the process this one was forked from.

        No close, of whomever, may reach the other process's session. One that cannot be detached is
        kept from the garbage collector, whose close would.
        """
        if self.detach(raw):
            self.close(raw)
        else:
            _abandoned.append(raw)


_abandoned = []


class Psycopg2(Driver):
    flag_names = ("isolation_level", "readonly", "deferrable", "autocommit")

    def is_closed(self, raw):
        # ``closed`` alone stays 0 after some losses, while libpq has dropped the socket already.
        return raw.closed != 0 or self.status(raw) == UNKNOWN

    def status(self, raw):
        return raw.get_transaction_status()

    def isolation_level(self, raw):
        """The level as set_isolation_level() takes it: 0 is autocommit, also from 2.7 on."""
        return 0 if getattr(raw, "autocommit", False) else raw.isolation_level

    def _select_1(self, raw):
        cursor = raw.cursor()
        cursor.execute("SELECT 1")
        cursor.close()
        if self.status(raw) != IDLE:
            raw.rollback()

    def _rollback(self, raw):
        raw.rollback()
        # In autocommit psycopg2 knows nothing of a BEGIN that was sent as a statement.
        if self.status(raw) != IDLE:
            raw.cursor().execute("ROLLBACK")

    def cancel(self, raw):
        raw.cancel()


class Psycopg3(Psycopg2):
    flag_names = ("isolation_level", "read_only", "deferrable", "autocommit")

    def cancel(self, raw):
        if hasattr(raw, "cancel_safe"):
            raw.cancel_safe(timeout=CANCEL_TIMEOUT)
        else:
            raw.cancel()

    def status(self, raw):
        return raw.pgconn.transaction_status


class PyMySQL(Driver):
    def is_closed(self, raw):
        return not raw.open

    def status(self, raw):
        if not raw.open:
            return UNKNOWN
        return INTRANS if raw.server_status & SERVER_STATUS_IN_TRANS else IDLE

    def fileno(self, raw):
        return raw._sock.fileno() if raw.open else None


_by_package = {
    "pymysql": PyMySQL(),
    "psycopg2": Psycopg2(),
    "psycopg": Psycopg3(),
    # A file or memory of this process: nothing to keep, and closing one can lose it.
    "sqlite3": None,
    "pysqlite2": None,
}
_any_driver = Driver()
_by_class = {}


def of(raw):
    """Return the Driver for a raw connection, or None where persistconn stands aside."""
    # Not type(raw): a tracing library's proxy has the class of what it wraps.
    cls = raw.__class__
    try:
        return _by_class[cls]
    except KeyError:
        return _by_class.setdefault(cls, _find(cls))


def _find(cls):
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        if package in _by_package:
            return _by_package[package]
    return _any_driver
