"""One try to open a connection, bounded in time."""

from __future__ import absolute_import

import contextlib

from persistconn import compat
from persistconn.watchdog import Limit


class Opening(object):
    """Opens a connection for a closed wrapper, by what Django does for it.

    With a deadline of 0 seconds there is one try, in whatever time the user's OPTIONS give it.
    """

    def __init__(self, wrapper, database, django_opens):
        self.wrapper = wrapper
        self.seconds = database.values.connect_deadline
        self._driver = database.driver
        self._django_opens = django_opens

    def __call__(self, seconds):
        self._is_lost = False
        try:
            if not self.seconds:
                return self._django_opens()
            with self._limit(seconds), self._options_for(seconds):
                return self._django_opens()
        except Exception:
            self._let_go_if_lost(self.wrapper.connection)
            raise

    def _let_go_if_lost(self, raw):
        if raw is not None and self._driver.is_closed(raw):
            self._is_lost = True
            self._driver.close(raw)
            self.wrapper.connection = None

    def is_passing(self, error):
        """Whether a later try may go better than the last one."""
        return self._is_lost or self._driver.is_passing(getattr(error, "__cause__", None) or error)

    def _limit(self, seconds):
        # What Django sends before it is ready with a connection must end as well. But applications
        # connect while they are imported, and the watchdog is a thread.
        return Limit(self.fileno, None if compat.FORKS_IN_C_KEEP_LOCKS else seconds)

    def fileno(self):
        return self._driver.fileno(self.wrapper.connection)

    @contextlib.contextmanager
    def _options_for(self, seconds):
        # The wrapper has a copy of its settings meanwhile: other threads share the original.
        database = self.wrapper.settings_dict
        options = database["OPTIONS"]
        more = self._driver.connect_options(options, database["HOST"], seconds)
        self.wrapper.settings_dict = dict(database, OPTIONS=dict(options, **more))
        try:
            yield
        finally:
            self.wrapper.settings_dict = database
