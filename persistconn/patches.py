"""THE TABLE: what is replaced in Django, by what, and why."""

from __future__ import absolute_import

from django import VERSION

from persistconn import wrappers
from persistconn.django_versions import dialect
from persistconn.django_versions.hooks import HookedModule
from persistconn.patching import (
    HotWrap,
    Import,
    Listener,
    OptionalWrap,
    Receiver,
    Replacement,
    Wrap,
)

ALL = ((1, 2), (99,))
CURSOR_CONNECTS = ((1, 2), (1, 6))
CONNECT_APART = ((1, 6), (99,))

WRAPPER = "BaseDatabaseWrapper."
CREATION = "BaseDatabaseCreation."
SIGNALS, END = "django.core.signals", dialect.end_of_work
COMPILERS = "django.db.models.sql.compiler"
POSTGRES, MYSQL = "django.db.backends.postgresql_psycopg2.base", "django.db.backends.mysql.base"

ORM = "the ORM's own cursors leave nothing in the session, so that it may be replaced later"
DROP = "an idle connection to a database keeps it from being dropped or copied"
OWN_CONNECT = "connect_timeout, for one attempt: cursor() calls the driver's connect() itself"
IN_PLACE = "a request is a unit of work; the stock receiver would close its connections"

# (the Djangos it is for: since, before), what is put in place of what, why. In this order.
TABLE = [
    (
        CURSOR_CONNECTS,
        HotWrap(
            dialect.backends,
            WRAPPER + "cursor",
            wrappers.making_cursor_and_connecting,
            "checkout and liveness: the one place that all backends open and use connections through",
        ),
    ),
    (
        CONNECT_APART,
        HotWrap(
            dialect.backends,
            WRAPPER + "ensure_connection",
            wrappers.ensuring_connection,
            "checkout: before a cursor of any kind, and before a transaction begins",
        ),
    ),
    (
        CONNECT_APART,
        HotWrap(
            dialect.backends,
            WRAPPER + "_cursor",
            wrappers.making_cursor,
            "liveness: cursors of all kinds are made here; those still open are closed at the checkin",
        ),
    ),
    (
        CONNECT_APART,
        HotWrap(
            dialect.backends,
            WRAPPER + "set_autocommit",
            wrappers.using,
            "liveness: a transaction begins here, and once it has begun it is too late to ask",
        ),
    ),
    (
        CONNECT_APART,
        Wrap(
            dialect.backends,
            WRAPPER + "connect",
            wrappers.on_connect,
            "the one place that all backends open connections through; checkout for who calls it",
        ),
    ),
    (
        CONNECT_APART,
        Wrap(
            dialect.backends,
            WRAPPER + "close_if_unusable_or_obsolete",
            wrappers.on_close_if_unusable_or_obsolete,
            "checkin, for those who call it, or who imported close_old_connections before we came",
        ),
    ),
    (
        ALL,
        HotWrap(
            dialect.backends,
            WRAPPER + "close",
            wrappers.closing,
            "count it, and never close what a parent process still uses by protocol",
        ),
    ),
    (
        ((1, 4), (1, 6)),
        OptionalWrap(
            POSTGRES,
            "DatabaseWrapper.close",
            wrappers.closing,
            "these two override close() without calling that of the base class",
        ),
    ),
    (
        ALL,
        HotWrap(
            "django.db",
            END,
            wrappers.ending_work,
            "checkin: Django's own name for the end of a unit of work",
        ),
    ),
    (
        ALL,
        Import(
            "django.test.client",
            "django.db",
            END,
            "the test client disconnects and reconnects the receiver by this name",
        ),
    ),
    (
        ((3, 0), (3, 1)),
        Wrap(
            "django.core.handlers.asgi",
            "ASGIHandler.get_response",
            wrappers.on_response_of_asgi,
            "3.0 sends request_finished in the event loop, not in the thread that has the connection",
        ),
    ),
    (
        CURSOR_CONNECTS,
        Listener(
            SIGNALS,
            "request_started",
            wrappers.on_request_started,
            "ends what a streamed body of 1.2 to 1.4 opened, or a server that closed no response left",
        ),
    ),
    (
        ((1, 3), (1, 6)),
        Wrap(
            dialect.backends,
            WRAPPER + "is_dirty",
            wrappers.on_is_dirty,
            "commit_on_success and TransactionMiddleware commit or roll back only what is dirty",
        ),
    ),
    (
        ((1, 2), (1, 3)),
        Wrap(
            "django.db.transaction",
            "is_dirty",
            wrappers.on_is_dirty_by_alias,
            "the same; TestCase does not replace this one of the module's functions",
        ),
    ),
    (ALL, HotWrap(COMPILERS, "SQLCompiler.execute_sql", wrappers.executing, ORM)),
    (ALL, HotWrap(COMPILERS, "SQLInsertCompiler.execute_sql", wrappers.executing, ORM)),
    (ALL, HotWrap(dialect.backends, WRAPPER + "_savepoint", wrappers.executing, ORM)),
    (ALL, HotWrap(dialect.backends, WRAPPER + "_savepoint_rollback", wrappers.executing, ORM)),
    (ALL, HotWrap(dialect.backends, WRAPPER + "_savepoint_commit", wrappers.executing, ORM)),
    (CONNECT_APART, Receiver(SIGNALS, "request_started", "django.db", END, IN_PLACE)),
    (ALL, Receiver(SIGNALS, "request_finished", "django.db", END, IN_PLACE)),
    (CURSOR_CONNECTS, Replacement(POSTGRES, "Database", HookedModule, OWN_CONNECT)),
    (CURSOR_CONNECTS, Replacement(MYSQL, "Database", HookedModule, OWN_CONNECT)),
    (
        ALL,
        Wrap(dialect.creation, CREATION + "_create_test_db", wrappers.on_dropping_a_database, DROP),
    ),
    (
        ((1, 9), (99,)),
        Wrap(dialect.creation, CREATION + "clone_test_db", wrappers.on_dropping_a_database, DROP),
    ),
    (
        ALL,
        Wrap(dialect.creation, CREATION + "destroy_test_db", wrappers.on_dropping_a_database, DROP),
    ),
]


def rows():
    """The rows for the Django that runs."""
    return [row for (since, before), row in TABLE if since <= VERSION < before]
