"""PostgreSQL, with psycopg 3 where it is installed, else psycopg2."""

from __future__ import absolute_import

import contextlib
import struct
import time

import django

from demo_project.postgres import NoPostgres as NoServer  # noqa: F401
from demo_project.postgres import PrivatePostgres as Server  # noqa: F401

try:
    import psycopg as driver
except ImportError:
    import psycopg2 as driver

DRIVER_VERSION = driver.__version__
ENGINE = "django.db.backends.postgresql" + ("_psycopg2" if django.VERSION < (1, 9) else "")

#: The statements that make the tests' tables in a new database. The view lets the ORM ask for facts
#: about its session.
TABLES = [
    "CREATE TABLE item (name text PRIMARY KEY)",
    """
    CREATE VIEW session AS SELECT
        pg_backend_pid() AS pid,
        CAST(current_user AS text) AS role,
        coalesce(current_setting('app.tenant', true), '') AS tenant
    """,
]

PID = "SELECT pg_backend_pid()"
VERSION = "SHOW server_version"
SLEEP = "SELECT pg_sleep(%s)"

#: The name of the tests' own sessions, which are never counted.
OURS = "persistconn tests"
_THEIRS = " WHERE datname = ANY(%s) AND application_name <> %s AND backend_type = 'client backend'"


def connect(server, database):
    """Return a session of the tests' own, in autocommit."""
    session = driver.connect(application_name=OURS, **dict(server.parameters, dbname=database))
    session.autocommit = True
    return session


def sessions(query, databases):
    """Return (pid, state, query) of each session on these databases."""
    sql = "SELECT pid, state, query FROM pg_stat_activity" + _THEIRS + " ORDER BY pid"
    return query(sql, None, list(databases), OURS)


def kill(query, pids):
    """Terminate sessions, and return when they are gone. Return how many there were."""
    sql = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid = ANY(%s)"
    return len([killed for killed, in query(sql, None, list(pids)) if killed])


#: Whether clients speak before the server does.
CLIENTS_BEGIN = True

#: Refusals that pass, and refusals for good: SQLSTATE and text.
PASSING = [
    ("57P03", "the database system is starting up"),
    ("57P03", "the database system is shutting down"),
    ("57P03", "the database system is in recovery mode"),
    ("57P03", "the database system is not yet accepting connections"),
    ("53300", "sorry, too many clients already"),
    ("53300", "remaining connection slots are reserved for non-replication superuser connections"),
    ("08P01", "pgbouncer cannot connect to server"),
]
NOT_PASSING = [
    ("28P01", 'password authentication failed for user "postgres"'),
    ("28000", 'no pg_hba.conf entry for host "127.0.0.1", user "postgres"'),
    ("28000", 'role "nobody" does not exist'),
    ("3D000", 'database "nothing" does not exist'),
    ("22023", 'invalid value for parameter "search_path"'),
]


def refusal(code, text):
    """The message by which the server refuses a client."""
    fields = b"SFATAL\0VFATAL\0C" + code.encode() + b"\0M" + text.encode() + b"\0\0"
    return b"E" + struct.pack("!i", len(fields) + 4) + fields


#: The isolation level of a session that nobody has changed.
ISOLATION = "read committed"
#: A statement that fails within a second if any session has locked the table.
LOCK = "BEGIN; SET LOCAL lock_timeout = '100ms'; LOCK TABLE item; COMMIT"
#: OPTIONS that ask for the isolation level repeatable read.
REPEATABLE_READ = {"options": "-c default_transaction_isolation=repeatable\\ read"}


def isolation(ask):
    """Return a session's isolation level. ``ask(statement)`` returns one value."""
    return ask("SHOW transaction_isolation")


def is_read_only(ask):
    return ask("SHOW transaction_read_only") == "on"


def is_in_transaction(raw):
    # Before 1.7 persistconn installs itself when it is imported, if there are settings by then.
    from persistconn import drivers
    from persistconn.drivers.base import INTRANS

    return drivers.of(raw).status(raw) == INTRANS


#: OPTIONS of sessions whose transactions are read-only.
READ_ONLY = {"options": "-c default_transaction_read_only=on"}

#: Many rows: the numbers from 1.
NUMBERS = "SELECT generate_series(1, %d)"
TEMPORARY_TABLE = "CREATE TEMP TABLE mine (name text)"
DATABASES = "SELECT datname FROM pg_database"
CURRENT_DATABASE = "SELECT current_database()"
#: Takes a lock that its session holds until its end; counts such locks.
TAKE_LOCK = "SELECT 1 FROM (SELECT pg_advisory_lock(7)) held"
COUNT_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
#: Sets a parameter of the session to a value; tells the value.
SET_TENANT, TELL_TENANT = "SET app.tenant = '%s'", "SELECT current_setting('app.tenant', true)"
#: Tells the role; what the server says to a wrong password.
ROLE, REFUSED = "SELECT current_user", "password authentication failed"


def own_option(name):
    """Return OPTIONS that the server is told, and that do no harm."""
    return {"application_name": name}


def create_role(query, name):
    query("CREATE ROLE %s LOGIN" % name)


def drop_role(query, name):
    query("DROP ROLE %s" % name)


#: The parameter of connect() for a password.
PASSWORD = "password"


def change_password(query, role, password):
    query("ALTER ROLE %s PASSWORD '%s'" % (role, password))


@contextlib.contextmanager
def role_with_password(query, server, role, password):
    ((path,),) = query("SHOW hba_file")
    with open(path) as rules:
        before = rules.read()
    query("CREATE ROLE %s LOGIN PASSWORD '%s'" % (role, password))
    try:
        _write_rules(query, path, "host all %s 127.0.0.1/32 md5\n%s" % (role, before))
        end = time.time() + 10
        while _lets_in(server, role, password + "?"):
            if time.time() > end:
                raise AssertionError("The server lets in whoever says that he is %s." % role)
        yield
    finally:
        _write_rules(query, path, before)
        query("DROP ROLE %s" % role)


def _write_rules(query, path, text):
    with open(path, "w") as rules:
        rules.write(text)
    query("SELECT pg_reload_conf()")


def _lets_in(server, role, password):
    try:
        driver.connect(**dict(server.parameters, user=role, password=password)).close()
    except driver.Error:
        return False
    return True


def fileno(raw):
    return raw.fileno()


def is_open(raw):
    return not raw.closed


def is_in_autocommit(raw):
    return raw.autocommit


#: OPTIONS for a line that others can read.
WITHOUT_TLS = {"sslmode": "disable"}


def parameters(settings):
    """Return the driver's parameters for a database's settings."""
    return {
        "host": settings["HOST"],
        "port": settings["PORT"],
        "user": settings["USER"],
        "dbname": settings["NAME"],
    }


#: A COMMIT on its way to the server; a statement that ends its own session.
COMMIT = b"COMMIT\0"
SUICIDE = "SELECT pg_terminate_backend(pg_backend_pid())"

#: Whether the beginning of an atomic block is a statement of its own.
BEGIN_IS_SENT = False


def backend_pid(raw):
    """Return the session's pid as the driver knows it, without asking the server."""
    return raw.get_backend_pid() if hasattr(raw, "get_backend_pid") else raw.info.backend_pid
