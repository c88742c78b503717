"""What the demo does and counts at the database itself, on a connection unknown to Django."""

import sys
import threading
import time
from contextlib import contextmanager
from timeit import default_timer

TABLES = """
DROP TABLE IF EXISTS persistconn_demo_product, persistconn_demo_order;
CREATE TABLE persistconn_demo_product (number integer PRIMARY KEY, name varchar(40) NOT NULL);
CREATE TABLE persistconn_demo_order (token varchar(40) PRIMARY KEY, paid boolean NOT NULL);
INSERT INTO persistconn_demo_product SELECT n, 'product ' || n FROM generate_series(0, 999) n;
"""
PARAMETERS = {
    "host": "HOST",
    "port": "PORT",
    "user": "USER",
    "password": "PASSWORD",
    "dbname": "NAME",
}
SESSIONS = "pg_stat_activity WHERE application_name = %s"
NO_TABLES = "DROP TABLE IF EXISTS persistconn_demo_product, persistconn_demo_order"
QUERY = "SELECT name FROM persistconn_demo_product WHERE number = 1"


class DatabaseTrouble(Exception):
    """The database is out of reach, or refuses what the demo needs."""


class Witness(object):
    """Makes the tables on entry, drops them on exit."""

    def __init__(self, wrapper):
        self._driver = sys.modules[wrapper.__class__.__module__].Database
        self._settings = wrapper.settings_dict

    def __enter__(self):
        self._connection = self._new_connection()
        self._connection.autocommit = True
        self._run(TABLES)
        return self

    def __exit__(self, *exception):
        # A transaction left open would hold the tables.
        self.end_backends()
        self._run(NO_TABLES)
        self._connection.close()

    def version(self):
        return self._run("SHOW server_version")[0][0].split()[0]

    def count(self, sql, *parameters):
        return self._run("SELECT count(*) FROM " + sql, *parameters)[0][0]

    def sessions(self, at_least=0):
        """How many connections the server has accepted. None before PostgreSQL 14.

        The server counts late, so this waits for `at_least`, but not for ever.
        """
        if int(self._run("SHOW server_version_num")[0][0]) < 140000:
            return None
        sql = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        _wait(lambda: self._run(sql)[0][0] >= at_least)
        return self._run(sql)[0][0]

    @contextmanager
    def watching(self):
        """A list that grows by how many sessions Django has, at every look from a second session."""
        seen, done, own = [0], threading.Event(), Witness.__new__(Witness)
        own._driver, own._settings = self._driver, self._settings
        own._connection = self._new_connection()
        own._connection.autocommit = True

        def watch():
            while not done.wait(0.01):
                seen.append(own.count(SESSIONS, self._settings["OPTIONS"]["application_name"]))

        thread = threading.Thread(target=watch)
        thread.daemon = True
        thread.start()
        try:
            yield seen
        finally:
            done.set()
            thread.join(10)
            own._connection.close()

    def end_backends(self):
        """Ends those of Django's connections. Returns their number, when they are gone."""
        name = self._settings["OPTIONS"]["application_name"]
        ended = self._run("SELECT pg_terminate_backend(pid) FROM " + SESSIONS, name)
        self.wait_for_no_backends()
        return len(ended)

    def wait_for_no_backends(self):
        _wait(lambda: not self.count(SESSIONS, self._settings["OPTIONS"]["application_name"]))

    def costs(self):
        """Milliseconds to open a connection, and of a query on an open one: medians."""
        return _median_ms(self._new_connection, 50), _median_ms(lambda: self._run(QUERY), 200)

    def _new_connection(self):
        database = self._settings
        given = {name: database[key] for name, key in PARAMETERS.items() if database[key]}
        own = {"application_name": "persistconn-demo-witness", "connect_timeout": 10}
        try:
            return self._driver.connect(**dict(dict(given, **database["OPTIONS"]), **own))
        except self._driver.Error as error:
            raise DatabaseTrouble("cannot reach the database: {}".format(_first_line(error)))

    def _run(self, sql, *parameters):
        try:
            cursor = self._connection.cursor()
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []
        except self._driver.Error as error:
            raise DatabaseTrouble("the database: {}".format(_first_line(error)))


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _wait(condition):
    deadline = default_timer() + 5
    while not condition() and default_timer() < deadline:
        time.sleep(0.01)


def _median_ms(action, times):
    seconds = []
    for _ in range(times):
        start = default_timer()
        result = action()
        seconds.append(default_timer() - start)
        if hasattr(result, "close"):
            result.close()
    return sorted(seconds)[times // 2] * 1000
