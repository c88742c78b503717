"""What is asked about a driver's connections, and the answers for any PEP 249 driver."""

from __future__ import absolute_import

import logging
import os
import socket
import sys
from functools import partial

from persistconn.connecting.watchdog import Limit

logger = logging.getLogger("persistconn")

#: Seconds of silence after which a peer is asked whether it is there, between two such questions,
#: and how many may go unanswered. Firewalls and NATs forget a flow after some minutes without any.
#: As libpq's OPTIONS call them, as the kernel does.
KEEPALIVES = (
    ("keepalives_idle", "TCP_KEEPIDLE", 30),
    ("keepalives_interval", "TCP_KEEPINTVL", 10),
    ("keepalives_count", "TCP_KEEPCNT", 3),
)

# What libpq, and with it psycopg2 and psycopg 3, says of a session's transaction (PQTRANS_*).
IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)

# UNKNOWN is what it says once the connection is lost.
NOTHING_OPEN = (IDLE, UNKNOWN)


class Driver(object):
    """Any PEP 249 driver. What such a one cannot know is answered by None."""

    #: The shortest time-out for connecting, in seconds, that the driver can be given; 0: none.
    shortest_timeout = 0

    def connect_timeout(self, params):
        """The user's own time-out for connecting, as the driver is given it; None: there is none."""

    def has_timeout(self, params):
        """Whether the user's parameters limit connecting, or are for the driver to refuse."""
        return seconds_of(self.connect_timeout(params)) != 0

    def hosts(self, params):
        """The hosts that connecting tries one after the other, each for the whole time-out."""
        return [params.get("host")]

    def connect_options(self, params, seconds):
        """Parameters that limit connecting to about so many seconds; a shorter limit of the user's
        wins."""
        return {}

    def is_transient(self, error):
        """Whether connecting failed as it does while a server is away, starting, or full.

        The error is one of the driver's own, raised by its ``connect()``.
        """
        return False

    def keep_alive(self, raw, options):
        """Have the kernel ask a silent peer whether it is there, where OPTIONS do not say how."""
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
            pass  # a system that has other names for it
        except EnvironmentError as error:
            if not is_the_systems(error):
                raise
            # no TCP at all
        finally:
            line.close()

    def read_only_by(self, options):
        """The server's parameters that are on in a session which cannot do what OPTIONS ask of it."""
        return ()

    def parameter(self, raw, name):
        """A parameter of the server, as its last answer had it; sends nothing."""

    def is_closed(self, raw):
        """Whether the driver itself knows the connection to be closed; sends nothing."""
        return self.status(raw) == UNKNOWN

    def status(self, raw):
        """IDLE, ACTIVE, INTRANS, INERROR or UNKNOWN as the driver knows it; None: it does not."""
        return UNKNOWN if getattr(raw, "closed", False) else None

    def fileno(self, raw):
        """The descriptor of the connection's socket, or None."""
        try:
            return raw.fileno()
        except AttributeError:
            return None
        except Exception as error:
            if not self.is_its_error(raw, error):
                raise
            return None

    def ping(self, raw, timeout, statement="SELECT 1"):
        """Whether the server answers in so many seconds. Leaves no transaction open.

        ``statement`` is sent where the driver has no ping() of its own.
        """
        try:
            with self.limit(raw, timeout):
                self._ask(raw, statement)
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
            # PyMySQL's opens another session by default before 1.2.
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
        """Roll back in so many seconds, or raise what the driver raises."""
        with self.limit(raw, timeout):
            self._rollback(raw)

    def _rollback(self, raw):
        raw.rollback()

    def limit(self, raw, timeout):
        """``with driver.limit(raw, seconds):`` the socket is shut down if the block lasts longer."""
        return Limit(partial(self.fileno, raw), timeout)

    def is_its_error(self, raw, error):
        """Whether the driver raised it, of whatever kind, or the system through it.

        Nothing else may be caught. A signal's handler, or a greenlet's time-out, can raise anywhere.
        """
        return isinstance(error, _errors_of(raw)) or is_the_systems(error)

    def cancel(self, raw):
        """Ask the server to give up the query that is still running, where the driver can."""
        try:
            self._cancel(raw)
        except Exception as error:
            if not self.is_its_error(raw, error):
                raise
            logger.debug("cancelling a query failed: %s", error)

    def _cancel(self, raw):
        pass

    def is_held(self, raw):
        """Whether the next call would wait for another one that has not ended."""
        return False

    def is_server_side(self, cursor):
        """Whether the rows of a cursor are still in the server, in the session."""
        return False

    #: Attributes of a connection that requests may set.
    flag_names = ()

    def flags(self, raw):
        """What requests may set on the connection, as it is now."""
        return tuple([getattr(raw, name, None) for name in self.flag_names])

    def has_changed(self, raw, flags):
        """Whether something is not as flags() said earlier. Asked at every checkin."""
        return self.flags(raw) != flags

    def restore(self, raw, flags, timeout, skip=()):
        """Set an idle connection to what flags() said earlier, and forget its messages.

        Return why the connection cannot be kept, or None. ``skip``: names to leave as they are.
        """
        if self.is_held(raw):
            return "busy"
        for name, value in zip(self.flag_names, flags):
            if name not in skip and getattr(raw, name, None) != value:
                # Some of these ask the server.
                with self.limit(raw, timeout):
                    setattr(raw, name, value)
        self.forget_messages(raw)

    def forget_messages(self, raw):
        """Drop notifications and notices that nobody has read."""

    def close(self, raw):
        """Close for real. An error only says that the peer was faster."""
        try:
            raw.close()
        except Exception as error:
            if not self.is_its_error(raw, error):
                raise
            logger.debug("closing a connection failed: %s", error)

    def close_cursor(self, cursor):
        """Close a cursor whose result the client holds."""
        cursor.close()

    def shut_down(self, raw):
        """End the session without the driver, also while another thread is inside it."""
        Limit(partial(self.fileno, raw), None).shut_down()

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


def is_the_systems(error):
    """Whether an error comes from a call to the system.

    One that somebody raises himself, like a TimeoutError, has no errno.
    """
    return isinstance(error, EnvironmentError) and error.errno is not None


def _errors_of(raw):
    """The driver's Error: PEP 249 has it on connections as an extension, and in the module."""
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


def seconds_of(theirs):
    """A user's time-out as a number, 0 for no limit; None if the driver will refuse it."""
    try:
        return max(0, int(theirs or 0))
    except (TypeError, ValueError):
        return None


def capped_timeout(theirs, seconds):
    """A user's time-out or ours, in whole seconds. One that the driver will refuse stays."""
    # What is left of a whole second has begun to run out already.
    ours = max(1, int(seconds + 0.05))
    given = seconds_of(theirs)
    if given is None:
        return theirs
    return min(given, ours) if given else ours


def count_addresses(hosts):
    """How many addresses a driver may try for hosts: a name can have several."""
    return sum(_count_addresses(host) for host in hosts)


def _count_addresses(host):
    if not host or host[0] in "/@":  # a unix socket
        return 1
    try:
        found = socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)
    except (OSError, socket.error, UnicodeError):
        return 1
    return len(set(address for family, kind, protocol, name, address in found))
