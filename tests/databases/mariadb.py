"""MariaDB, with mysqlclient where it is installed, else PyMySQL in its place."""

from __future__ import absolute_import

import contextlib
import re
import struct
import time

import django

from demo_project.mariadb import NoMariaDB as NoServer  # noqa: F401
from demo_project.mariadb import PrivateMariaDB as Server  # noqa: F401
from demo_project.mariadb import use_driver

use_driver()

import MySQLdb as driver  # noqa: E402

DRIVER_VERSION = ".".join(map(str, driver.version_info[:3]))
ENGINE = "django.db.backends.mysql"

TABLES = [
    "CREATE TABLE item (name varchar(100) PRIMARY KEY) ENGINE=InnoDB",
    "CREATE VIEW session AS SELECT connection_id() AS pid, current_user() AS role, '' AS tenant",
]

PID = "SELECT connection_id()"
VERSION = "SELECT version()"
SLEEP = "SELECT sleep(%s)"

#: The user of the tests' own sessions, which are never counted.
OURS = "tests"

#: The passwords that the tests give to the server's usual user.
PASSWORDS = ["", "hunter2-and-then-some"]

_SESSIONS = """
SELECT id, CASE WHEN command <> 'Sleep' THEN 'active' ELSE 'idle' END, info
FROM information_schema.processlist
WHERE user <> %s AND id IN (
    SELECT id FROM information_schema.processlist WHERE db IN (%s, %s))
ORDER BY id
"""
_IN_TRANSACTION = re.compile(r"---TRANSACTION \d+, ACTIVE(?:(?!---).)*?thread id (\d+)", re.DOTALL)


def connect(server, database):
    """Return a session of the tests' own, in autocommit."""
    if not getattr(server, "has_user", False):
        session = driver.connect(**server.parameters)
        cursor = session.cursor()
        # PostgreSQL's tests let everybody in, whatever the password.
        ways = " OR ".join("mysql_native_password USING PASSWORD('%s')" % p for p in PASSWORDS)
        cursor.execute("ALTER USER root@localhost IDENTIFIED VIA " + ways)
        cursor.execute("CREATE USER %s@'%%'" % OURS)
        cursor.execute("GRANT ALL ON *.* TO %s@'%%' WITH GRANT OPTION" % OURS)
        session.close()
        server.has_user = True
    session = driver.connect(**dict(server.parameters, user=OURS, db=database))
    session.autocommit(True)
    return session


def sessions(query, databases):
    """Return (pid, state, query) of each session on these databases."""
    # Not from information_schema.innodb_trx, which the server does not renew while it is asked again
    # within 0.1 seconds.
    ((_kind, _name, text),) = query("SHOW ENGINE INNODB STATUS")
    open_ones = set(int(pid) for pid in _IN_TRANSACTION.findall(text))
    return [
        (pid, "idle in transaction" if state == "idle" and pid in open_ones else state, info)
        for pid, state, info in query(_SESSIONS, None, OURS, *databases)
    ]


def kill(query, pids):
    """Terminate sessions, and return when they are gone. Return how many there were."""
    killed = [pid for pid in pids if _kill(query, pid)]
    while _are_there(query, killed):
        time.sleep(0.005)
    return len(killed)


def _kill(query, pid):
    try:
        query("KILL %d" % pid)
    except driver.Error:
        return False  # there is no such session
    return True


def _are_there(query, pids):
    there = set(pid for pid, in query("SELECT id FROM information_schema.processlist"))
    return there & set(pids)


CLIENTS_BEGIN = False

PASSING = [
    (1040, "Too many connections"),
    (1053, "Server shutdown in progress"),
    (1203, "User root already has more than 'max_user_connections' active connections"),
    (1226, "User 'root' has exceeded the 'max_user_connections' resource (current value: 1)"),
]
NOT_PASSING = [
    (1045, "Access denied for user 'root'@'localhost' (using password: NO)"),
    (1049, "Unknown database 'nothing'"),
    (1130, "Host '127.0.0.1' is not allowed to connect to this MariaDB server"),
    (1226, "User 'root' has exceeded the 'max_connections_per_hour' resource (current value: 1)"),
]


def refusal(code, text):
    """The packet by which the server refuses a client instead of greeting that client."""
    packet = b"\xff" + struct.pack("<H", code) + b"#HY000" + text.encode()
    return struct.pack("<I", len(packet)) + packet


ISOLATION = "read committed" if django.VERSION >= (2, 0) else "repeatable read"
LOCK = "SET STATEMENT lock_wait_timeout = 0 FOR ALTER TABLE item COMMENT 'free'"
READ_ONLY = {"init_command": "SET SESSION TRANSACTION READ ONLY"}
REPEATABLE_READ = {"isolation_level": "repeatable read"} if django.VERSION >= (2, 0) else {}


def isolation(ask):
    """Return a session's isolation level. ``ask(statement)`` returns one value."""
    return ask("SELECT @@tx_isolation").lower().replace("-", " ")


def is_read_only(ask):
    return bool(ask("SELECT @@tx_read_only"))


def is_in_transaction(raw):
    # With autocommit off each statement begins one; that also counts before the first.
    return not raw.get_autocommit()


NUMBERS = "SELECT seq FROM seq_1_to_%d"
TEMPORARY_TABLE = "CREATE TEMPORARY TABLE mine (name text)"
DATABASES = "SHOW DATABASES"
CURRENT_DATABASE = "SELECT database()"
TAKE_LOCK = "SELECT get_lock('seven', 1)"
COUNT_LOCKS = "SELECT is_used_lock('seven') IS NOT NULL"
SET_TENANT, TELL_TENANT = "SET @tenant = '%s'", "SELECT @tenant"
ROLE, REFUSED = "SELECT substring_index(current_user(), '@', 1)", "Access denied"


def own_option(name):
    """Return OPTIONS that the server is told, and that do no harm."""
    return {"init_command": "SET @name = '%s'" % name}


def create_role(query, name, password=""):
    query("CREATE USER %s@'%%' IDENTIFIED BY '%s'" % (name, password))
    query("GRANT ALL ON *.* TO %s@'%%'" % name)


def drop_role(query, name):
    query("DROP USER %s@'%%'" % name)


#: The parameter of connect() for a password.
PASSWORD = "password" if django.VERSION >= (4, 2) else "passwd"


def change_password(query, role, password):
    query("ALTER USER %s@'%%' IDENTIFIED BY '%s'" % (role, password))


@contextlib.contextmanager
def role_with_password(query, server, role, password):
    create_role(query, role, password)
    try:
        yield
    finally:
        drop_role(query, role)


def fileno(raw):
    return raw.fileno() if hasattr(raw, "fileno") else raw._sock.fileno()


def is_open(raw):
    return bool(raw.open)


def is_in_autocommit(raw):
    return bool(raw.get_autocommit())


#: OPTIONS for a line that others can read: the private server has no certificate.
WITHOUT_TLS = {}


def code_of(error):
    """Return the server's or the client library's number of an error."""
    return error.args[0]


def parameters(settings):
    """Return the driver's parameters for a database's settings."""
    return {
        "host": settings["HOST"],
        "port": int(settings["PORT"]),
        "user": settings["USER"],
        "db": settings["NAME"],
    }


#: The driver's command COMMIT, and no other statement of that name.
COMMIT = b"\x03COMMIT"
SUICIDE = "KILL CONNECTION_ID()"

#: Whether the beginning of an atomic block is a statement of its own: SET autocommit.
BEGIN_IS_SENT = django.VERSION >= (1, 6)


def backend_pid(raw):
    """Return the session's id as the driver knows it, without asking the server."""
    return raw.thread_id()
