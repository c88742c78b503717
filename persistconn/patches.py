"""THE TABLE of patches: what is replaced in Django and Celery, by which functions, and why."""

from django import VERSION

from persistconn import wrappers
from persistconn.django_versions import dialect
from persistconn.django_versions.hooks import HookedModule
from persistconn.patching import (
    HotWrap,
    Import,
    LaterWrap,
    Listener,
    OptionalWrap,
    Receiver,
    Replacement,
    Wrap,
)

ALL = ((1, 2), (99,))
CURSOR_CONNECTS = ((1, 2), (1, 6))
CONNECT_APART = ((1, 6), (99,))
BEFORE_1_5 = ((1, 2), (1, 5))
SINCE_1_5 = ((1, 5), (99,))
SINCE_1_8 = ((1, 8), (99,))
SINCE_1_9 = ((1, 9), (99,))
SINCE_3_1 = ((3, 1), (99,))
TASK_APART = ((5, 0), (6, 1))

BACKENDS, WRAPPER = dialect.backends, "BaseDatabaseWrapper."
CREATES, CREATION = dialect.creation, "BaseDatabaseCreation."
RESPONSES = "django.http"
SIGNALS, END = "django.core.signals", dialect.end_of_work
ASGI = "django.core.handlers.asgi"
COMPILERS = "django.db.models.sql.compiler"
POSTGRES, MYSQL = "django.db.backends.postgresql_psycopg2.base", "django.db.backends.mysql.base"

ORM = "the ORM's own cursors do not change the session, so another one can replace it later"
DROP = "an idle connection prevents its database from being dropped or copied"
OWN_CONNECT = "cursor() calls the driver's connect() itself; this limits one try"
TOLD = "MySQL's drivers do not always know whether a transaction is open"
IN_EXECUTOR = "under ASGI it runs, with a site's error pages, in a thread that ends no work"
GOES_ON = "the view of a cancelled request goes on, in a task whose end nobody waits for"
CANCELLED = "Django sends no request_finished for a request that is cancelled"
IN_PLACE = "a request is a unit of work; the stock receiver would close its connections"

# Each row begins with the first Django that needs the patch, and the first that does not, and ends
# with the reason. Patches are applied in this order.
TABLE = [
    HotWrap(
        CURSOR_CONNECTS,
        BACKENDS,
        WRAPPER + "cursor",
        wrappers.making_cursor_and_connecting,
        "checkout and health check: all backends open and use connections through this method",
    ),
    HotWrap(
        CONNECT_APART,
        BACKENDS,
        WRAPPER + "ensure_connection",
        wrappers.ensuring_connection,
        "checkout: before a cursor of any kind, and before a transaction begins",
    ),
    HotWrap(
        CONNECT_APART,
        BACKENDS,
        WRAPPER + "_cursor",
        wrappers.making_cursor,
        "health check, for cursors of all kinds; the checkin closes those that are still open",
    ),
    HotWrap(
        CONNECT_APART,
        BACKENDS,
        WRAPPER + "set_autocommit",
        wrappers.using,
        "health check: a transaction begins here, and inside it no connection is replaced",
    ),
    Wrap(
        CONNECT_APART,
        BACKENDS,
        WRAPPER + "connect",
        wrappers.on_connect,
        "all backends open connections through this method; checkout if users call it directly",
    ),
    Wrap(
        CONNECT_APART,
        BACKENDS,
        WRAPPER + "close_if_unusable_or_obsolete",
        wrappers.on_close_if_unusable_or_obsolete,
        "checkin if users call it directly, or imported close_old_connections before the patch",
    ),
    HotWrap(
        ALL,
        BACKENDS,
        WRAPPER + "close",
        wrappers.closing,
        "counts it; in a forked child, does not end the session that the parent still uses",
    ),
    OptionalWrap(
        ((1, 4), (1, 6)),
        POSTGRES,
        "DatabaseWrapper.close",
        wrappers.closing,
        "1.4 and 1.5 override close() here, without a call of the base class's method",
    ),
    HotWrap(
        ALL,
        "django.db",
        END,
        wrappers.ending_work,
        "checkin: the function by which Django ends a unit of work",
    ),
    Import(
        ALL,
        "django.test.client",
        "django.db",
        END,
        "the test client disconnects and reconnects the receiver by this name",
    ),
    Wrap(
        ((3, 0), (3, 1)),
        ASGI,
        "ASGIHandler.get_response",
        wrappers.on_response_of_asgi,
        "3.0 sends request_finished in the event loop, not in the thread with the connection",
    ),
    HotWrap(
        SINCE_1_5,
        RESPONSES,
        "StreamingHttpResponse.__iter__",
        wrappers.streaming,
        "a stream gives its connection back before its first part, and after each that used it",
    ),
    HotWrap(
        ((4, 2), (99,)),
        RESPONSES,
        "StreamingHttpResponse.__aiter__",
        wrappers.streaming,
        "the same under ASGI, which iterates in the event loop",
    ),
    HotWrap(
        BEFORE_1_5,
        RESPONSES,
        "HttpResponse.__iter__",
        wrappers.streaming_content,
        "the same: these Djangos have no class for streams",
    ),
    HotWrap(
        SINCE_1_8,
        RESPONSES,
        "FileResponse.items",
        wrappers.reading_headers_of_a_file,
        "the same where the server sends the file itself (wsgi.file_wrapper), without __iter__()",
    ),
    Wrap(
        ((3, 1), (4, 2)),
        ASGI,
        "ASGIHandler.send_response",
        wrappers.on_send_response,
        "the same under ASGI: here __iter__() runs in the event loop, and cannot await",
    ),
    Wrap(((3, 1), (4, 0)), ASGI, "ASGIHandler.__call__", wrappers.on_asgi_request, CANCELLED),
    Wrap(((4, 0), (99,)), ASGI, "ASGIHandler.handle", wrappers.on_asgi_request, CANCELLED),
    Wrap(TASK_APART, ASGI, "ASGIHandler.run_get_response", wrappers.on_asgi_view, GOES_ON),
    Wrap(TASK_APART, ASGI, "ASGIHandler.send_response", wrappers.on_asgi_response, GOES_ON),
    Wrap(
        SINCE_3_1,
        "django.core.handlers.exception",
        "response_for_exception",
        wrappers.as_work_of_its_own,
        IN_EXECUTOR,
    ),
    Wrap(
        SINCE_3_1,
        "django.core.handlers.base",
        "log_response",
        wrappers.as_work_of_its_own,
        IN_EXECUTOR,
    ),
    Listener(
        CURSOR_CONNECTS,
        SIGNALS,
        "request_started",
        wrappers.on_request_started,
        "ends work that a streamed body (1.2 to 1.4) or an unclosed response left open",
    ),
    Wrap(
        ((1, 3), (1, 6)),
        BACKENDS,
        WRAPPER + "is_dirty",
        wrappers.on_is_dirty,
        "commit_on_success and TransactionMiddleware commit or roll back only what is dirty",
    ),
    Wrap(
        ((1, 2), (1, 3)),
        "django.db.transaction",
        "is_dirty",
        wrappers.on_is_dirty_by_alias,
        "the same on 1.2; TestCase replaces other functions of this module, but not this one",
    ),
    HotWrap(
        CONNECT_APART,
        BACKENDS,
        WRAPPER + "rollback",
        wrappers.rolling_back,
        "Django forgets here that an error occurred, after which a check is due",
    ),
    HotWrap(
        CONNECT_APART,
        "django.db.utils",
        "DatabaseErrorWrapper.__exit__",
        wrappers.raising_djangos_errors,
        "the driver's error says that a session cannot write any more; all statements pass here",
    ),
    HotWrap(CURSOR_CONNECTS, BACKENDS, WRAPPER + "_commit", wrappers.ending_a_transaction, TOLD),
    OptionalWrap(
        CURSOR_CONNECTS,
        POSTGRES,
        "DatabaseWrapper._commit",
        wrappers.ending_a_transaction,
        "after a refused COMMIT a check is due; this backend overrides the base class's method",
    ),
    HotWrap(
        CURSOR_CONNECTS,
        BACKENDS,
        WRAPPER + "_rollback",
        wrappers.rolling_back_a_transaction,
        TOLD + "; before 1.6 only the state of the transaction shows here that a write failed",
    ),
    OptionalWrap(
        CURSOR_CONNECTS,
        MYSQL,
        "DatabaseWrapper._valid_connection",
        wrappers.knowing_the_connection,
        "it pings at each cursor, and after a loss goes on in a new session inside a transaction",
    ),
    HotWrap(ALL, COMPILERS, "SQLCompiler.execute_sql", wrappers.executing, ORM),
    HotWrap(ALL, COMPILERS, "SQLInsertCompiler.execute_sql", wrappers.executing, ORM),
    HotWrap(ALL, BACKENDS, WRAPPER + "_savepoint", wrappers.executing, ORM),
    HotWrap(ALL, BACKENDS, WRAPPER + "_savepoint_rollback", wrappers.executing, ORM),
    HotWrap(ALL, BACKENDS, WRAPPER + "_savepoint_commit", wrappers.executing, ORM),
    Receiver(CONNECT_APART, SIGNALS, "request_started", "django.db", END, IN_PLACE),
    Receiver(ALL, SIGNALS, "request_finished", "django.db", END, IN_PLACE),
    Replacement(CURSOR_CONNECTS, POSTGRES, "Database", HookedModule, OWN_CONNECT),
    Replacement(CURSOR_CONNECTS, MYSQL, "Database", HookedModule, OWN_CONNECT),
    LaterWrap(
        ALL,
        "celery.fixups.django",
        "DjangoWorkerFixup.close_database",
        wrappers.closing_the_database_of_celery,
        "checkin before and after each task, where Celery closes all connections",
    ),
    Wrap(ALL, CREATES, CREATION + "_create_test_db", wrappers.on_dropping_a_database, DROP),
    Wrap(SINCE_1_9, CREATES, CREATION + "clone_test_db", wrappers.on_dropping_a_database, DROP),
    Wrap(ALL, CREATES, CREATION + "destroy_test_db", wrappers.on_dropping_a_database, DROP),
]


def rows():
    """Return the patches for the running Django."""
    return [row for row in TABLE if row.djangos[0] <= VERSION < row.djangos[1]]
