"""A measured process: it takes orders, one a line, and answers each with a line of JSON."""

from __future__ import absolute_import

import functools
import json
import os
import sys

from measured import bare_pools, crowd, memory, wsgi
from measured.requests import BATCH, Connections, Requests, seconds_each


class Worker(object):
    """Each public method is an order."""

    def __init__(self):
        application = wsgi.make_application()
        self._requests = Requests(application)
        self._connections = Connections(application)
        self._requests.get("/one/")

    def get(self, path, seconds):
        return 1 / seconds_each(lambda: self._requests.get(path), seconds)

    def connection(self, seconds):
        return 1e6 * seconds_each(self._connections.cycle, seconds, self._batch())

    def _batch(self):
        # Where a connection is opened each time, a batch would take far too long.
        return BATCH if seconds_each(self._connections.cycle, 0) < 0.001 else 1

    def cursor(self, seconds):
        self._connections.started()
        try:
            return 1e6 * seconds_each(self._connections.cursor, seconds, BATCH)
        finally:
            self._connections.finished()

    def memory(self, most, seconds):
        return memory.measure(lambda: self._requests.get("/one/"), most, seconds)

    def crowd(self, threads, each):
        from django.db import connection

        return crowd.measure(self._requests, threads, each, connector()(), connection.vendor)

    def pool(self, name, threads, seconds):
        return 1e6 * bare_pools.measure(name, connector(), threads, seconds)

    def versions(self):
        import django
        from django.db import connections

        driver = sys.modules[connections["default"].__class__.__module__].Database
        versions = sys.version, django.get_version(), driver.__name__, version(driver)
        return "Python %s, Django %s, %s %s" % tuple(words.split()[0] for words in versions)


def version(driver):
    # PyMySQL's __version__ is that of the mysqlclient for which it stands in; mysqlclient has none.
    for name in ("VERSION_STRING", "__version__"):
        if hasattr(driver, name):
            return getattr(driver, name)
    return "%d.%d.%d" % driver.version_info[:3]


def connector():
    """Opens connections without Django, with the parameters of the database."""
    from django.db import connection

    return CONNECTORS[connection.vendor](connection.settings_dict)


def postgres_connector(database):
    import psycopg2

    where = {"host": database["HOST"], "port": database["PORT"], "dbname": database["NAME"]}
    login = {"user": database["USER"], "password": database["PASSWORD"], "sslmode": "require"}
    return functools.partial(psycopg2.connect, **dict(where, **login))


def mariadb_connector(database):
    import MySQLdb

    where = {"host": database["HOST"], "port": int(database["PORT"]), "database": database["NAME"]}
    login = {"user": database["USER"], "password": database["PASSWORD"]}
    return functools.partial(
        MySQLdb.connect, ssl=database["OPTIONS"]["ssl"], **dict(where, **login)
    )


CONNECTORS = {"postgresql": postgres_connector, "mysql": mariadb_connector}


def obey(orders, answers):
    worker = Worker()
    answer = {"value": "ready"}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = orders.readline()
        if not line:
            break
        order = json.loads(line)
        try:
            answer = {"value": getattr(worker, order.pop("do"))(**order)}
        except Exception as error:
            answer = {"error": "%s: %s" % (error.__class__.__name__, error)}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "measured.settings")
    # The output of a library must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    obey(sys.stdin, answers)
