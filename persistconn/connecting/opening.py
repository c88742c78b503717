"""The tries to open one connection: how long each may last, and what its error means."""

from __future__ import absolute_import

import copy

from persistconn import compat, drivers, threads
from persistconn.connecting.watchdog import Limit
from persistconn.django_versions import dialect

#: Seconds that a try may last, unless the user's connect_timeout is longer. psycopg_pool and
#: HikariCP wait as long.
TRY_LIMIT = 30


class Opening(object):
    """Opens a connection for a closed wrapper, by what Django does for it: an attempt of the Gate.

    Where CONNECT_DEADLINE is 0 there is one try, in whatever time the user's OPTIONS give it.
    """

    def __init__(self, wrapper, database, django_opens):
        self.wrapper = wrapper
        self._driver = database.driver
        self._django_opens = django_opens
        self.seconds = database.values.connect_deadline
        self.is_strict = database.values.connect_deadline_is_set
        self.least = self._driver.shortest_timeout if self.is_strict else 0
        theirs = self._driver.connect_timeout(wrapper.settings_dict["OPTIONS"])
        self.try_limit = max(TRY_LIMIT, drivers.seconds_of(theirs) or 0)
        self.was_answered = self._is_transient = False
        self._refusal = None

    def __call__(self, seconds):
        self._ends_at = compat.monotonic() + seconds
        self.was_answered = self._is_transient = False
        try:
            with self._limit(seconds), dialect.connecting(self.wrapper, self._connect):
                return self._django_opens()
        except Exception as error:
            self._judge(error)
            raise
        finally:
            self._refusal = None

    def is_transient(self, error):
        """Whether a later try may go better than the one that raised this error."""
        return self._is_transient

    def fileno(self):
        return self._driver.fileno(self.wrapper.connection)

    def _limit(self, seconds):
        # For the statements by which Django and receivers set a connection up. Not where forks in C
        # keep locks: applications connect while they are imported, and the watchdog is a thread.
        if self.seconds == 0 or threads.FORKS_IN_C_KEEP_LOCKS:
            seconds = None
        return Limit(self.fileno, seconds)

    def _connect(self, connect, params):
        """Call the backend's ``connect(params)`` with a time limit. Keeps its error for _judge()."""
        more = self._time_limit(params)
        if more:
            params = copy.copy(params)
            params.update(more)
        try:
            raw = connect(params)
        except Exception as error:
            self._refusal = error
            raise
        self.was_answered = True
        return raw

    def _time_limit(self, params):
        if self.seconds == 0 or not self.is_strict and self._driver.has_timeout(params):
            return {}
        hosts = self._driver.hosts(params)
        # A driver gives each address the whole time-out. Addresses are looked up, and the time is
        # divided by their number, only to keep to a deadline that the user set: a server that
        # must wake up needs its time undivided.
        addresses = drivers.count_addresses(hosts) if self.is_strict else len(hosts)
        seconds = self._ends_at - compat.monotonic()
        return self._driver.connect_options(params, seconds / addresses)

    def _judge(self, error):
        """Say what the error of the last try means. Only the driver's own errors are transient, and
        only if connecting raised them, or the connection was lost since."""
        raw, refusal = self.wrapper.connection, self._refusal
        raised = (error, getattr(error, "__cause__", None))
        if refusal is not None:
            if any(one is refusal for one in raised) and self._is_the_drivers(refusal):
                self._is_transient = self._driver.is_transient(refusal)
                self.was_answered = not self._is_transient
        elif raw is not None and self._driver.is_closed(raw):
            # Lost while Django, or a receiver, was setting it up.
            self._is_transient = any(self._is_the_drivers(one) for one in raised)
            self._driver.close(raw)
            self.wrapper.connection = None

    def _is_the_drivers(self, error):
        from django.db.utils import DatabaseError  # what Django 1.2 and 1.3 make of one

        module = dialect.database_module(self.wrapper)
        return isinstance(error, (DatabaseError, getattr(module, "Error", DatabaseError)))
