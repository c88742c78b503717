"""The backend: Django's own for the tests' database, without its use of the driver's extras."""

from __future__ import absolute_import

from importlib import import_module

from databases import chosen
from django.db.backends.signals import connection_created

from plain_backend import driver as Database

stock = import_module(chosen.ENGINE + ".base")


class DatabaseWrapper(stock.DatabaseWrapper):
    Database = Database

    def __init__(self, *args, **kwargs):
        stock.DatabaseWrapper.__init__(self, *args, **kwargs)
        # Before 1.6 it is for a method of psycopg2's connections.
        self.__dict__.pop("isolation_level", None)

    # From 1.6 on.

    def get_new_connection(self, params):
        return Database.connect(**params)

    def init_connection_state(self):
        pass

    def create_cursor(self, name=None):
        return self.connection.cursor()

    def _set_autocommit(self, autocommit):
        self.connection.autocommit = autocommit

    def is_usable(self):
        try:
            self.connection.cursor().execute("SELECT 1")
        except Database.Error:
            return False
        return True


def _cursor(self):
    """Return a cursor as backends did before 1.6, where it also connects."""
    if self.connection is None:
        self.connection = Database.connect(**chosen.parameters(self.settings_dict))
        connection_created.send(sender=self.__class__, connection=self)
    return self.connection.cursor()


if not hasattr(stock.DatabaseWrapper, "get_new_connection"):
    DatabaseWrapper._cursor = _cursor
