"""THE TABLE: what is replaced in Django, by what, and why. The wrappers ask lifecycle and return."""

from __future__ import absolute_import

from functools import partial
from sys import _getframe

from django import VERSION
from django.core.signals import request_finished, request_started

from persistconn import lifecycle, transactions
from persistconn.compat import running_loop
from persistconn.django_versions import dialect
from persistconn.django_versions.atomic import are_djangos
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


def ensuring_connection(original, switch):
    # With a connection, Django's own only looks for an event loop, by an exception if there is none.
    is_djangos = are_djangos(original)
    callers = dialect.callers_of_ensure_connection()

    def ensure_connection(wrapper):
        if not switch.is_on:
            return original(wrapper)
        by_django = id(_getframe(1).f_code) in callers
        if wrapper.connection is None and not wrapper.in_atomic_block:
            lifecycle.checkout(wrapper)
        elif not by_django:
            lifecycle.before_use(wrapper)
        if not is_djangos or wrapper.connection is None or running_loop() is not None:
            original(wrapper)
        if not by_django:
            lifecycle.raw_wanted(wrapper)

    return ensure_connection


def on_connect(wrapped, wrapper, args, kwargs):
    lifecycle.connect(wrapper, wrapped)


def using(original, switch):
    def use(wrapper, *args, **kwargs):
        if switch.is_on:
            lifecycle.before_use(wrapper)
        return original(wrapper, *args, **kwargs)

    return use


def making_cursor(original, switch):
    def _cursor(wrapper, *args, **kwargs):
        if not switch.is_on:
            return original(wrapper, *args, **kwargs)
        if wrapper.connection is not None:
            lifecycle.before_use(wrapper)
        # Unpacking nothing costs as much as a call.
        if args or kwargs:
            cursor = original(wrapper, *args, **kwargs)
            lifecycle.cursor_made(wrapper, cursor, is_named=True)
        else:
            cursor = original(wrapper)
            lifecycle.cursor_made(wrapper, cursor)
        return cursor

    return _cursor


def making_cursor_and_connecting(original, switch):
    def cursor(wrapper):
        if not switch.is_on:
            return original(wrapper)
        if wrapper.connection is not None:
            lifecycle.before_use(wrapper)
        if wrapper.connection is None:
            lifecycle.checkout(wrapper)
        if wrapper.connection is not None:
            made = original(wrapper)
        else:
            made = lifecycle.open_new(wrapper, partial(original, wrapper))
        lifecycle.cursor_made(wrapper, made)
        return made

    return cursor


def executing(original, switch):
    def execute(owner, *args, **kwargs):
        if not switch.is_on:
            return original(owner, *args, **kwargs)
        return lifecycle.in_orm(original, owner, *args, **kwargs)

    return execute


def on_close_if_unusable_or_obsolete(wrapped, wrapper, args, kwargs):
    # With a CONN_MAX_AGE of its own, a wrapper keeps its connection when this is called directly.
    if wrapper.settings_dict.get("CONN_MAX_AGE", 0) != 0 or not lifecycle.checkin(wrapper):
        wrapped(*args, **kwargs)


def closing(original, switch):
    def close(wrapper):
        return lifecycle.close(wrapper, original) if switch.is_on else original(wrapper)

    return close


def ending_work(original, switch):
    def end_of_work(signal=None, **kwargs):
        if not switch.is_on:
            original(signal=signal, **kwargs)
        elif signal is request_finished:
            lifecycle.request_finished()
        elif signal is request_started:
            lifecycle.request_started()
        else:
            # Called by name it has no signal, and ends a unit of work that is no request.
            lifecycle.end_of_work()

    return end_of_work


def on_request_started(sender=None, **kwargs):
    if dialect.begins_a_unit_of_work(sender):
        lifecycle.request_started()


def on_response_of_asgi(wrapped, handler, args, kwargs):
    try:
        return wrapped(*args, **kwargs)
    finally:
        lifecycle.request_finished()


def on_is_dirty(wrapped, wrapper, args, kwargs):
    return wrapped(*args, **kwargs) or transactions.has_something_to_end(wrapper)


def on_is_dirty_by_alias(wrapped, instance, args, kwargs):
    alias = kwargs.get("using", args[0] if args else None)
    return wrapped(*args, **kwargs) or transactions.has_something_to_end(dialect.wrapper(alias))


def on_dropping_a_database(wrapped, creation, args, kwargs):
    lifecycle.pools.drain()
    return wrapped(*args, **kwargs)


ALL = ((1, 2), (99,))
CURSOR_CONNECTS = ((1, 2), (1, 6))
CONNECT_APART = ((1, 6), (99,))

WRAPPER = "BaseDatabaseWrapper."
COMPILERS = "django.db.models.sql.compiler"

# (the Djangos it is for: since, before), what is put in place of what, why.
TABLE = [
    (
        CURSOR_CONNECTS,
        HotWrap(
            dialect.backends,
            WRAPPER + "cursor",
            making_cursor_and_connecting,
            "checkout and liveness: the one place that all backends open and use connections through",
        ),
    ),
    (
        CONNECT_APART,
        HotWrap(
            dialect.backends,
            WRAPPER + "ensure_connection",
            ensuring_connection,
            "checkout: before a cursor of any kind, and before a transaction begins",
        ),
    ),
    (
        CONNECT_APART,
        HotWrap(
            dialect.backends,
            WRAPPER + "_cursor",
            making_cursor,
            "liveness: cursors of all kinds are made here; those still open are closed at the checkin",
        ),
    ),
    (
        CONNECT_APART,
        HotWrap(
            dialect.backends,
            WRAPPER + "set_autocommit",
            using,
            "liveness: a transaction begins here, and once it has begun it is too late to ask",
        ),
    ),
    (
        CONNECT_APART,
        Wrap(
            dialect.backends,
            WRAPPER + "connect",
            on_connect,
            "the one place that all backends open connections through; checkout for who calls it",
        ),
    ),
    (
        CONNECT_APART,
        Wrap(
            dialect.backends,
            WRAPPER + "close_if_unusable_or_obsolete",
            on_close_if_unusable_or_obsolete,
            "checkin, for those who call it, or who imported close_old_connections before we came",
        ),
    ),
    (
        ALL,
        HotWrap(
            dialect.backends,
            WRAPPER + "close",
            closing,
            "count it, and never close what a parent process still uses by protocol",
        ),
    ),
    (
        ((1, 4), (1, 6)),
        OptionalWrap(
            "django.db.backends.postgresql_psycopg2.base",
            "DatabaseWrapper.close",
            closing,
            "these two override close() without calling that of the base class",
        ),
    ),
    (
        ALL,
        HotWrap(
            "django.db",
            dialect.end_of_work,
            ending_work,
            "checkin: Django's own name for the end of a unit of work",
        ),
    ),
    (
        ALL,
        Import(
            "django.test.client",
            "django.db",
            dialect.end_of_work,
            "the test client disconnects and reconnects the receiver by this name",
        ),
    ),
]
TABLE += [
    (
        ((3, 0), (3, 1)),
        Wrap(
            "django.core.handlers.asgi",
            "ASGIHandler.get_response",
            on_response_of_asgi,
            "3.0 sends request_finished in the event loop, not in the thread that has the connection",
        ),
    ),
    (
        CURSOR_CONNECTS,
        Listener(
            "django.core.signals",
            "request_started",
            on_request_started,
            "ends what a streamed body of 1.2 to 1.4 opened, or a server that closed no response left",
        ),
    ),
    (
        ((1, 3), (1, 6)),
        Wrap(
            dialect.backends,
            WRAPPER + "is_dirty",
            on_is_dirty,
            "commit_on_success and TransactionMiddleware commit or roll back only what is dirty",
        ),
    ),
    (
        ((1, 2), (1, 3)),
        Wrap(
            "django.db.transaction",
            "is_dirty",
            on_is_dirty_by_alias,
            "the same; TestCase does not replace this one of the module's functions",
        ),
    ),
]
TABLE += [
    (
        ALL,
        HotWrap(
            module,
            attribute,
            executing,
            "the ORM's own cursors leave nothing in the session, so that it may be replaced later",
        ),
    )
    for module, attribute in (
        (COMPILERS, "SQLCompiler.execute_sql"),
        (COMPILERS, "SQLInsertCompiler.execute_sql"),
        (dialect.backends, WRAPPER + "_savepoint"),
        (dialect.backends, WRAPPER + "_savepoint_rollback"),
        (dialect.backends, WRAPPER + "_savepoint_commit"),
    )
]
TABLE += [
    (
        ALL,
        Receiver(
            "django.core.signals",
            signal,
            "django.db",
            dialect.end_of_work,
            "a request is a unit of work; the stock receiver would close its connections",
        ),
    )
    for signal in dialect.end_of_work_signals
]
TABLE += [
    (
        CURSOR_CONNECTS,
        Replacement(
            "django.db.backends.%s.base" % backend,
            "Database",
            HookedModule,
            "connect_timeout, for one try: cursor() calls the driver's connect() itself",
        ),
    )
    for backend in ("postgresql_psycopg2", "mysql")
]
TABLE += [
    (
        versions,
        Wrap(
            dialect.creation,
            "BaseDatabaseCreation." + attribute,
            on_dropping_a_database,
            "an idle connection to a database keeps it from being dropped or copied",
        ),
    )
    for versions, attribute in (
        (ALL, "_create_test_db"),
        (((1, 9), (99,)), "clone_test_db"),
        (ALL, "destroy_test_db"),
    )
]


def rows():
    """The rows for the Django that runs."""
    return [row for (since, before), row in TABLE if since <= VERSION < before]
