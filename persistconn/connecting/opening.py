"""Opening one connection: how long a try may take, and whether its error is transient."""

import copy

from persistconn import compat
from persistconn.connecting.watchdog import Limit
from persistconn.django_versions import dialect
from persistconn.drivers.timeouts import count_addresses, seconds_of


class Opening(object):
    """An attempt for Gate.call(): Django opens a connection for a closed wrapper.

    With CONNECT_DEADLINE 0 nothing waits for a server that is away, and only the user's OPTIONS
    limit the time of a try. If the server refuses a password in a pool whose password has worked,
    one more try is made at once, in which Django reads the settings anew.
    """

    def __init__(self, wrapper, database, django_opens):
        self.wrapper = wrapper
        self._driver = database.driver
        self._pool = database.pool
        self._django_opens = django_opens
        self.seconds = database.values.connect_deadline
        self.is_strict = database.values.connect_deadline_is_set
        self.least = self._driver.shortest_timeout if self.is_strict else 0
        theirs = self._driver.connect_timeout(wrapper.settings_dict["OPTIONS"])
        self.try_limit = max(database.values.try_limit, seconds_of(theirs) or 0)
        self.was_answered = self._is_transient = False
        self._is_password_refused = self._has_read_anew = False
        self._raw = self._refusal = None

    def __call__(self, seconds):
        self._ends_at = compat.monotonic() + seconds
        try:
            return self._try(seconds)
        except Exception:
            if not self._may_read_anew():
                raise
        self._has_read_anew = True
        return self._try(self._ends_at - compat.monotonic())

    def _may_read_anew(self):
        if self._has_read_anew or not self._is_password_refused:
            return False
        if self.seconds > 0 and compat.monotonic() >= self._ends_at:
            return False
        # A password that has never worked is wrong, and trying it again can lock its user out.
        return self._pool.stats()["opened"] > 0

    def _try(self, seconds):
        self.was_answered = self._is_transient = self._is_password_refused = False
        try:
            with self._limit(seconds), dialect.connecting(self.wrapper, self._connect):
                return self._django_opens()
        except Exception as error:
            self._judge(error)
            raise
        finally:
            self._raw = self._refusal = None

    def is_transient(self, error):
        """Whether a later try may succeed. ``error`` is the error of the last try."""
        return self._is_transient

    def fileno(self):
        return self._driver.fileno(self.wrapper.connection or self._raw)

    def _limit(self, seconds):
        # This limits the statements with which Django and receivers set a connection up. The limit
        # needs a thread, and applications may connect while they are imported, before a fork in C.
        if self.seconds == 0 or compat.FORKS_IN_C_KEEP_LOCKS:
            seconds = None
        return Limit(self.fileno, seconds)

    def _connect(self, connect, params):
        """Call the backend's ``connect(params)`` with a time limit. Keep its error for _judge()."""
        limited, more = params, self._time_limit(params)
        if more:
            limited = copy.copy(params)
            limited.update(more)
        try:
            raw = self._raw = connect(limited)
            self._driver.just_opened(raw, params)
        except Exception as error:
            self._refusal = error
            raise
        self.was_answered = True
        return raw

    def _time_limit(self, params):
        if self.seconds == 0 or not self.is_strict and self._driver.has_timeout(params):
            return {}
        hosts = self._driver.hosts(params)
        # A driver gives each address the whole timeout, so the time is divided by their number.
        # Without a deadline that the user set, only hosts are counted: a server that must wake up
        # needs the time undivided.
        addresses = count_addresses(hosts) if self.is_strict else len(hosts)
        seconds = self._ends_at - compat.monotonic()
        return self._driver.connect_options(params, seconds / addresses)

    def _judge(self, error):
        """Decide whether the error of the last try is transient, or about the password.

        Only the driver's own errors can be, if connect() raised them or the connection is lost.
        """
        raw, refusal = self.wrapper.connection, self._refusal
        raised = (error, getattr(error, "__cause__", None))
        if refusal is not None:
            if any(one is refusal for one in raised) and self._is_the_drivers(refusal):
                self._is_transient = self._driver.is_transient(refusal)
                self.was_answered = not self._is_transient
                refuses = self._driver.is_refused_password(refusal)
                self._is_password_refused = refuses and not self._is_transient
        elif raw is not None and self._driver.is_closed(raw):
            # The connection was lost while Django or a receiver set it up.
            self._is_transient = any(self._is_the_drivers(one) for one in raised)
            self._driver.close(raw)
            self.wrapper.connection = None

    def _is_the_drivers(self, error):
        from django.db.utils import DatabaseError  # 1.2 and 1.3 convert to it

        module = dialect.database_module(self.wrapper)
        return isinstance(error, (DatabaseError, getattr(module, "Error", DatabaseError)))
