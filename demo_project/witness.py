"""What the demo does and counts at the database itself, on a connection unknown to Django."""

import copy
import sys
import threading
import time
from contextlib import contextmanager
from timeit import default_timer

from django.db.backends.signals import connection_created

NO_TABLES = "DROP TABLE IF EXISTS persistconn_demo_product, persistconn_demo_order"
TABLES = [
    NO_TABLES,
    "CREATE TABLE persistconn_demo_product (number integer PRIMARY KEY, name varchar(40) NOT NULL)",
    "CREATE TABLE persistconn_demo_order (token varchar(40) PRIMARY KEY, paid boolean NOT NULL)",
    "INSERT INTO persistconn_demo_product VALUES "
    + ", ".join("({0}, 'product {0}')".format(number) for number in range(1000)),
]
#: MySQL's error.
NO_SUCH_SESSION = 1094
QUERY = "SELECT name FROM persistconn_demo_product WHERE number = 1"


class DatabaseTrouble(Exception):
    """The database is out of reach, or refuses what the demo needs."""


def witness_of(wrapper):
    is_mysql = wrapper.settings_dict["ENGINE"].endswith("mysql")
    return (MySQLWitness if is_mysql else PostgresWitness)(wrapper)


class Witness(object):
    """Makes the tables on entry, drops them on exit."""

    def __init__(self, wrapper):
        self._driver = sys.modules[wrapper.__class__.__module__].Database
        self._settings = wrapper.settings_dict

    def __enter__(self):
        self._connection = self._own_session()
        for statement in TABLES:
            self._run(statement)
        return self

    def __exit__(self, *exception):
        # A transaction left open would hold the tables.
        self.end_backends()
        self._run(NO_TABLES)
        self._connection.close()

    def version(self):
        """The database's name and version."""
        raise NotImplementedError

    def count(self, sql):
        return self._run("SELECT count(*) FROM " + sql)[0][0]

    def sessions(self, at_least=0):
        """How many connections the server has accepted. None if it does not count them.

        The server may count late, so this waits for `at_least`, but not for ever.
        """
        accepted = self._accepted()
        if accepted is not None:
            _wait(lambda: self._accepted() >= at_least)
            accepted = self._accepted()
        return accepted

    @contextmanager
    def watching(self):
        """A list that grows by how many sessions Django has, at every look from a second session."""
        seen, done, own = [0], threading.Event(), copy.copy(self)
        own._connection = self._own_session()

        def watch():
            while not done.wait(0.01):
                seen.append(len(own._backends()))

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
        ended = self._end_backends()
        self.wait_for_no_backends()
        return ended

    def wait_for_no_backends(self):
        _wait(lambda: not self._backends())

    def costs(self):
        """Milliseconds to open a connection, and of a query on an open one: medians."""
        return _median_ms(self._new_connection, 50), _median_ms(lambda: self._run(QUERY), 200)

    def _own_session(self):
        """A connection in autocommit."""
        raise NotImplementedError

    def _parameters(self):
        """The driver's parameters, without OPTIONS."""
        raise NotImplementedError

    def _accepted(self):
        raise NotImplementedError

    def _backends(self):
        """Numbers of Django's sessions, and of nobody else's."""
        raise NotImplementedError

    def _end_backends(self):
        """Ends them. Returns how many there were."""
        raise NotImplementedError

    def _new_connection(self):
        given = {name: value for name, value in self._parameters().items() if value}
        try:
            return self._driver.connect(**dict(self._settings["OPTIONS"], **given))
        except self._driver.Error as error:
            raise DatabaseTrouble("cannot reach the database: {}".format(_first_line(error)))

    def _run(self, sql, *parameters):
        try:
            cursor = self._connection.cursor()
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []
        except self._driver.Error as error:
            raise DatabaseTrouble("the database: {}".format(_first_line(error)))


class PostgresWitness(Witness):
    """Knows Django's sessions by their application_name."""

    def version(self):
        return "PostgreSQL {}".format(self._run("SHOW server_version")[0][0].split()[0])

    def _own_session(self):
        connection = self._new_connection()
        connection.autocommit = True
        return connection

    def _parameters(self):
        return {
            "host": self._settings["HOST"],
            "port": self._settings["PORT"],
            "user": self._settings["USER"],
            "password": self._settings["PASSWORD"],
            "dbname": self._settings["NAME"],
            "application_name": "persistconn-demo-witness",
            "connect_timeout": 10,
        }

    def _accepted(self):
        if int(self._run("SHOW server_version_num")[0][0]) < 140000:
            return None
        sql = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        return self._run(sql)[0][0]

    def _backends(self):
        return self._of_sessions("pid")

    def _end_backends(self):
        return len(self._of_sessions("pg_terminate_backend(pid)"))

    def _of_sessions(self, expression):
        sql = "SELECT {} FROM pg_stat_activity WHERE application_name = %s".format(expression)
        return [value for value, in self._run(sql, self._settings["OPTIONS"]["application_name"])]


class MySQLWitness(Witness):
    """Knows Django's sessions by their ids, since sessions have no names there."""

    def __enter__(self):
        self._ids = set()
        connection_created.connect(self._note, weak=False)
        return Witness.__enter__(self)

    def __exit__(self, *exception):
        connection_created.disconnect(self._note)
        Witness.__exit__(self, *exception)

    def _note(self, connection, **kwargs):
        self._ids.add(connection.connection.thread_id())

    def version(self):
        version = self._run("SELECT version()")[0][0]
        name = "MariaDB" if "MariaDB" in version else "MySQL"
        return "{} {}".format(name, version.split("-")[0])

    def _own_session(self):
        connection = self._new_connection()
        connection.autocommit(True)
        # Old drivers turn notes into warnings, such as the note that there is no table to drop.
        connection.cursor().execute("SET sql_notes = 0, default_storage_engine = InnoDB")
        return connection

    def _parameters(self):
        return {
            "host": self._settings["HOST"],
            "port": int(self._settings["PORT"] or 0),
            "user": self._settings["USER"],
            "password": self._settings["PASSWORD"],
            "database": self._settings["NAME"],
            "connect_timeout": 10,
        }

    def _accepted(self):
        return int(self._run("SHOW GLOBAL STATUS LIKE 'Connections'")[0][1])

    def _backends(self):
        there = self._run("SELECT id FROM information_schema.processlist")
        return [pid for pid, in there if pid in self._ids]

    def _end_backends(self):
        return [self._end(pid) for pid in self._backends()].count(True)

    def _end(self, pid):
        try:
            self._connection.cursor().execute("KILL {}".format(pid))
        except self._driver.Error as error:
            if error.args[0] != NO_SUCH_SESSION:
                raise DatabaseTrouble("the database: {}".format(_first_line(error)))
            return False
        return True


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
