"""A backend of the kind that people passed around before Django 1.6: one connection per thread,
never closed, which has to answer SELECT 1 when a request first uses it."""

from __future__ import absolute_import

import threading

from django.db.backends.postgresql_psycopg2 import base

_kept = threading.local()


class DatabaseWrapper(base.DatabaseWrapper):
    def _cursor(self):
        if self.connection is None:
            self.connection = self._kept_connection()
        return super(DatabaseWrapper, self)._cursor()

    def _kept_connection(self):
        raw = getattr(_kept, self.alias, None)
        if raw is None:
            return None
        try:
            raw.cursor().execute("SELECT 1")
        except base.Database.Error:
            delattr(_kept, self.alias)
            return None
        return raw

    def close(self):
        if self.connection is not None:
            self.connection.commit()
            setattr(_kept, self.alias, self.connection)
            self.connection = None
