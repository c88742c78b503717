"""The questions about a driver's connections, and the answers for any PEP 249 driver."""

import logging
import os
import socket
import sys
from functools import partial

from persistconn.connecting.watchdog import Limit
from persistconn.drivers.timeouts import seconds_of

logger = logging.getLogger("persistconn")

#: TCP keepalives: seconds of silence before the first probe, seconds between two probes, and how
#: many probes may stay unanswered. Firewalls and NATs forget a flow after some silent minutes.
#: Each row: the name in libpq's OPTIONS, the kernel's name, our value.
KEEPALIVES = (
    ("keepalives_idle", "TCP_KEEPIDLE", 30),
    ("keepalives_interval", "TCP_KEEPINTVL", 10),
    ("keepalives_count", "TCP_KEEPCNT", 3),
)

# A session's transaction status by libpq (PQTRANS_*), and so by psycopg2 and psycopg 3.
IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)

# libpq returns UNKNOWN once the connection is lost.
NOTHING_OPEN = (IDLE, UNKNOWN)


class Driver(object):
    """Any PEP 249 driver. A method returns None if such a driver cannot know the answer."""

    #: The shortest connect timeout, in seconds, that the driver can use; 0: no minimum.
    shortest_timeout = 0

    def connect_timeout(self, params):
        """Return the user's own connect timeout, as the driver gets it, or None."""

    def has_timeout(self, params):
        """Whether the user's parameters limit connecting, or give a limit that will be refused."""
        return seconds_of(self.connect_timeout(params)) != 0

    def hosts(self, params):
        """Return the hosts that the driver tries one after the other, each for a whole timeout."""
        return [params.get("host")]

    def connect_options(self, params, seconds):
        """Return parameters that limit connecting to about ``seconds``.

        A shorter limit of the user's wins.
        """
        return {}

    def is_transient(self, error):
        """Whether an error is transient: the server is away, starting, or full.

        The error is one of the driver's own, raised by its ``connect()``.
        """
        return False

    def is_refused_password(self, error):
        """Whether an error says that the server refused a password or token, or was given none.

        The error is one of the driver's own, raised by its ``connect()``.
        """
        return False

    def just_opened(self, raw, params):
        """Note what the driver may not tell later, and undo what connect_options() set for longer.

        Called before anybody uses the connection. ``params``: the user's own.
        """

    def keep_alive(self, raw, options):
        """Turn on TCP keepalives, unless OPTIONS turn them off. Values in OPTIONS win over ours."""
        fd = self.fileno(raw)
        if fd is None or str(options.get("keepalives", 1)) == "0":
            return
        line = socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)
        try:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, name, value in KEEPALIVES:
                if option not in options:
                    line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        except AttributeError:
            pass  # a system that has other names for these options
        except EnvironmentError as error:
            if not is_the_systems(error):
                raise
            # not a TCP socket
        finally:
            line.close()

    def read_only_by(self, raw, options):
        """Return parameters whose "on" tells that a session that was to write cannot write any more."""
        return ()

    def cannot_write(self, error):
        """Whether an error of the driver says that its session cannot write."""
        return False

    def has_refused(self, raw, has_failed=False):
        """Whether the last statement failed because the session cannot write; None: perhaps.

        Asked where the error itself is not seen, which is before Django 1.6. ``has_failed``: whether
        it is known that the last statement has failed.
        """
        return False

    def read_only_at_opening(self, raw):
        """Return whether a session was read-only when it was opened: "on", "off" or None."""
        return self.read_only(raw)

    def read_only(self, raw):
        """Return whether a session is read-only, as the server last said by itself; sends nothing."""

    def ask_read_only(self, raw, timeout):
        """Ask the server whether a session is read-only. Leaves no transaction open.

        Return "on" or "off", or None if there is no answer within ``timeout`` seconds.
        """
        answers = []
        self._answers(raw, timeout, lambda: answers.append(self._ask_read_only(raw)))
        return answers[0] if answers else None

    def _ask_read_only(self, raw):
        self._ask(raw, "SELECT 1")
        return "off"

    def parameter(self, raw, name):
        """Return a server parameter as the server last reported it; sends nothing."""

    def is_closed(self, raw):
        """Whether the driver itself knows that the connection is closed; sends nothing."""
        return self.status(raw) == UNKNOWN

    def status(self, raw):
        """Return IDLE, ACTIVE, INTRANS, INERROR or UNKNOWN, or None if the driver does not know."""
        return UNKNOWN if getattr(raw, "closed", False) else None

    def commits_by_itself(self, raw):
        """Whether the connection is in autocommit, by what the driver knows; sends nothing.

        Asked only if status() is None: then only statements of a user can have begun a transaction.
        """
        return False

    def fileno(self, raw):
        """Return the descriptor of the connection's socket, or None."""
        try:
            return raw.fileno()
        except AttributeError:
            return None
        except Exception as error:
            if not self.is_its_error(raw, error):
                raise
            return None

    def ping(self, raw, timeout, statement="SELECT 1"):
        """Whether the server answers within ``timeout`` seconds. Leaves no transaction open.

        ``statement`` is sent if the driver has no ping() of its own.
        """
        return self._answers(raw, timeout, lambda: self._ask(raw, statement))

    def _answers(self, raw, timeout, ask):
        """Call ``ask()``. Return whether it has ended within ``timeout`` seconds, without an error."""
        try:
            with self.limit(raw, timeout):
                ask()
        except Exception as error:
            if not self.is_its_error(raw, error):
                raise
            logger.debug("a ping failed: %s", error)
            return False
        return True

    def _ask(self, raw, statement):
        ping = getattr(raw, "ping", None)
        if not callable(ping):
            self._execute(raw, statement)
        elif _takes(ping, "reconnect"):
            # Before PyMySQL 1.2, ping() opens another session by default.
            ping(reconnect=False)
        else:
            ping()

    def _execute(self, raw, statement):
        cursor = raw.cursor()
        try:
            cursor.execute(statement)
            cursor.fetchall()
        finally:
            cursor.close()
        raw.rollback()

    def rollback(self, raw, timeout):
        """Roll back within ``timeout`` seconds, or raise the driver's error."""
        with self.limit(raw, timeout):
            self._rollback(raw)

    def _rollback(self, raw):
        raw.rollback()

    def undo_statement(self, raw, names):
        """Return SQL that undoes whatever a session is told from now on, if the driver knows any.

        Called after the opening, outside a transaction. Costs one round trip. ``names``: of
        parameters of the user's own that may have been set by now; letters, digits, _, $ and dots.
        """

    def execute(self, raw, sql):
        """Execute SQL of one or several statements, outside a transaction if that is possible."""
        cursor = raw.cursor()
        try:
            cursor.execute(sql)
            self._read_all(cursor)
        finally:
            cursor.close()

    def _read_all(self, cursor):
        """Read the answers to further statements, where a driver does not read all at once."""

    def limit(self, raw, timeout):
        """Return a context manager that shuts down the socket if its block exceeds ``timeout``."""
        return Limit(partial(self.fileno, raw), timeout)

    def is_its_error(self, raw, error):
        """Whether an error is one of the driver's, of any class, or comes from a system call.

        No other error may be caught: a signal handler or a greenlet's timeout can raise anywhere.
        """
        return isinstance(error, _errors_of(raw)) or is_the_systems(error)

    def cancel(self, raw):
        """Ask the server to cancel the running query, if the driver can."""
        try:
            self._cancel(raw)
        except Exception as error:
            if not self.is_its_error(raw, error):
                raise
            logger.debug("cancelling a query failed: %s", error)

    def _cancel(self, raw):
        pass

    def is_held(self, raw):
        """Whether a call would have to wait until another call on the connection has ended."""
        return False

    def is_server_side(self, cursor):
        """Whether the rows of a cursor are still in its session on the server."""
        return False

    #: Attributes of a connection that requests may set.
    flag_names = ("autocommit",)  # an optional extension of PEP 249

    def autocommit(self, raw):
        """Return whether each statement commits itself; None: the driver does not say."""
        value = getattr(raw, "autocommit", None)
        return None if callable(value) else value  # some drivers have a method that switches it

    def flags(self, raw):
        """Return the present values of everything that requests may set on the connection."""
        return tuple([getattr(raw, name, None) for name in self.flag_names])

    def has_changed(self, raw, flags):
        """Whether the connection differs from an earlier flags(). Called at every checkin."""
        return self.flags(raw) != flags

    def restore(self, raw, flags, timeout, skip=()):
        """Restore an idle connection to an earlier flags(), and drop its messages.

        Return the reason if the connection cannot be kept, else None. ``timeout``: seconds for each
        attribute. ``skip``: names of attributes to leave as they are.
        """
        if self.is_held(raw):
            return "busy"
        for name, value in zip(self.flag_names, flags):
            if name not in skip and getattr(raw, name, None) != value:
                # Setting some of these talks to the server.
                with self.limit(raw, timeout):
                    setattr(raw, name, value)
        self.forget_messages(raw)

    def forget_messages(self, raw):
        """Drop notifications and notices that nobody has read."""

    def close(self, raw):
        """Close the connection. A driver's error is only logged: the peer has closed it first."""
        try:
            raw.close()
        except Exception as error:
            if not self.is_its_error(raw, error):
                raise
            logger.debug("closing a connection failed: %s", error)

    def close_cursor(self, cursor):
        """Close a cursor whose rows are in the client."""
        cursor.close()

    def shut_down(self, raw):
        """Shut the socket down, bypassing the driver, which another thread may be using."""
        Limit(partial(self.fileno, raw), None).shut_down()

    def detach(self, raw):
        """Cut this process off from the server. Return False if that is not possible.

        The descriptor is pointed at /dev/null, as Rails does, and stays open: no other file can get
        its number. The connection ends for the server when the last process has let go of it.
        """
        fd = self.fileno(raw)
        if fd is None:
            return False
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fd)
        os.close(null)
        return True

    def abandon(self, raw):
        """Let go of a connection that belongs to a parent process.

        No close() in this process may reach the parent's session. A connection that cannot be
        detached is kept from the garbage collector, which would close it.
        """
        if self.is_closed(raw) or self.detach(raw):
            self.close(raw)
        else:
            _keep_for_ever(raw)


def _keep_for_ever(value):
    """Never let a value be collected, not even at the exit, when the interpreter empties modules."""
    import ctypes  # most processes never need it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def is_the_systems(error):
    """Whether an error comes from a system call.

    An error that Python code raises by itself, such as a TimeoutError, has no errno.
    """
    return isinstance(error, EnvironmentError) and error.errno is not None


def _errors_of(raw):
    """Return the driver's Error class, of the connection (PEP 249's extension) or of the module."""
    error = getattr(raw, "Error", None)
    for cls in raw.__class__.__mro__:
        for name in (cls.__module__, cls.__module__.partition(".")[0]):
            error = error or getattr(sys.modules.get(name), "Error", None)
    return error or ()


def _takes(function, argument):
    code = getattr(function, "__code__", None)  # functions in C have none
    if code is None:
        return False
    number = code.co_argcount + getattr(code, "co_kwonlyargcount", 0)
    return argument in code.co_varnames[:number]
