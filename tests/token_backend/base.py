"""The backend: Django's own for the tests' database, with the token of the moment as password."""

from __future__ import absolute_import

from importlib import import_module

from databases import chosen

stock = import_module(chosen.ENGINE + ".base")

#: Returns a token.
issue = None


class DatabaseWrapper(stock.DatabaseWrapper):
    def get_connection_params(self):
        params = stock.DatabaseWrapper.get_connection_params(self)
        for name in ("password", "passwd"):
            params.pop(name, None)
        return dict(params, **{chosen.PASSWORD: issue()})
