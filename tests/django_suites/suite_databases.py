"""What Django's own tests need to know of PostgreSQL and of MariaDB."""

from __future__ import absolute_import

import django

from demo_project.mariadb import PrivateMariaDB
from demo_project.postgres import PrivatePostgres


class PostgreSQL(object):
    engine = "django.db.backends.postgresql" + ("_psycopg2" if django.VERSION < (1, 9) else "")
    #: Statements that ask for the number of a session, and for the server's version.
    session, version = "SELECT pg_backend_pid()", "SHOW server_version"

    def __init__(self):
        try:
            import psycopg as driver
        except ImportError:
            import psycopg2 as driver
        self.driver, self.driver_version = driver, driver.__version__.split()[0]
        self.server = PrivatePostgres()

    def connect(self):
        connection = self.driver.connect(**self.server.parameters)
        connection.autocommit = True
        return connection


class MariaDB(object):
    engine = "django.db.backends.mysql"
    session, version = "SELECT connection_id()", "SELECT version()"

    def __init__(self):
        import MySQLdb

        self.driver, self.driver_version = MySQLdb, "%d.%d.%d" % MySQLdb.version_info[:3]
        # Django's tests store text that MariaDB's own default, latin1, does not have.
        self.server = PrivateMariaDB(character_set_server="utf8mb4")

    def connect(self):
        return self.driver.connect(**self.server.parameters)


NAMED = {"postgresql": PostgreSQL, "mariadb": MariaDB}
