"""No transaction outlives its request, however the view leaves the transaction."""

from __future__ import absolute_import

import signal

import django
import pytest
import support
import transaction_views
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from support import end_of_work, get, pid, settings_as, wait_until

import persistconn

# The answer of each view, with "+" where the row that it writes is there afterwards. "err": the
# handler of Django 1.2 raises. A line that begins with 1.2 replaces the line above it for Django
# 1.2.
TABLES = {
    "1.2 to 1.5": """
                                              OPTIONS autocommit  TRANSACTIONS_MANAGED
    TransactionMiddleware:      without  with  without  with       without  with

    reads                           200   200      200   200           200   200
    reads_raw                       200   200      200   200           200   200
    reads_and_finds_nothing         404   404      404   404           404   500
1.2 reads_and_finds_nothing         404   404      404   404           404   err
    locks_rows                      200   200      200   200           200   200
    writes                          200+  200+     200+  200+          200   200+
1.2 writes                          200+  200+     200+  200+          err   200+
    writes_then_reads               200+  200+     200+  200+          200   200+
1.2 writes_then_reads               200+  200+     200+  200+          err   200+
    writes_raw                      200   200+     200+  200+          200   200+
    writes_raw_and_raises           500   500      500+  500           500   500
1.2 writes_raw_and_raises           500   500      500+  500           err   err
    writes_and_raises               500+  500      500+  500           500   500
1.2 writes_and_raises               500+  500      500+  500           err   err
    swallows_an_error               200   200      200   200           200   200
    changes_isolation_level         200   200      200   200           200   200
    turns_read_only                 200   200      200   200           200   200
    streams                         200   200      200   200           200   200
    success_reads                   200   200      200   200           200   200
    success_reads_raw               200   200      200   200           200   200
    success_locks_rows              200   200      200   200           200   200
    success_writes                  200+  200+     200+  200+          200+  200+
    success_writes_raw              200+  200+     200+  200+          200+  200+
    success_writes_raw_and_raises   500   500      500   500           500   500
1.2 success_writes_raw_and_raises   500   500      500   500           err   err
    success_swallows_an_error       200   200      200   200           200   200
    success_writes_then_reads       200+  200+     200+  200+          200+  200+
    success_in_success              200+  200+     200+  200+          200+  200+
    reads_then_empty_success        200   200      200   200           200   200
    manually_reads                  500   500      500   500           500   500
1.2 manually_reads                  200   200      200   200           200   200
    manually_writes                 500   500      500   500           500   500
1.2 manually_writes                 500   500      500   500           err   err
    manually_commits                200+  200+     200+  200+          200+  200+
    manually_rolls_back             200   200      200   200           200   200
    autocommit_reads                200   200      200   200           200   200
    autocommit_writes               200+  200+     200+  200+          200+  200+
    enters_and_never_leaves         200   200      200   200           200   200
    enters_without_a_query          200   200      200   200           200   200
    enters_managed_and_never_leaves 200   200+     200   200+          200   200+
    tells_of_its_session            200   200      200   200           200   200
    """,
    "1.6 and 1.7": """
    TransactionMiddleware:      without  with

    reads                           200   200
    reads_raw                       200   200
    reads_and_finds_nothing         404   404
    locks_rows                      200   200
    writes                          200+  200+
    writes_then_reads               200+  200+
    writes_raw                      200+  200+
    writes_raw_and_raises           500+  500
    writes_and_raises               500+  500
    swallows_an_error               200   200
    changes_isolation_level         200   200
    turns_read_only                 200   200
    streams                         200   200
    success_reads                   200   200
    success_reads_raw               200   200
    success_locks_rows              200   200
    success_writes                  200+  200+
    success_writes_raw              200+  200+
    success_writes_raw_and_raises   500   500
    success_swallows_an_error       200   200
    success_writes_then_reads       200+  200+
    success_in_success              200+  200+
    reads_then_empty_success        200   200
    manually_reads                  500   500
    manually_writes                 500   500
    manually_commits                200+  200+
    manually_rolls_back             200   200
    autocommit_reads                200   200
    autocommit_writes               200+  200+
    enters_and_never_leaves         200   200
    enters_without_a_query          200   200
    enters_managed_and_never_leaves 200   200+
    atomic_reads                    200   200
    atomic_writes_raw               200+  200+
    atomic_writes_and_raises        500   500
    atomic_in_atomic                200+  200+
    autocommit_off_writes           200   200+
    autocommit_off_commits          200+  200+
    begins_by_hand                  200   200+
    enters_atomic_and_never_leaves  200   500
    tells_of_its_session            200   200
    """,
    "1.8 and later": """
    ATOMIC_REQUESTS:            without  with

    reads                           200   200
    reads_raw                       200   200
    reads_and_finds_nothing         404   404
    locks_rows                      200   200
    writes                          200+  200+
    writes_then_reads               200+  200+
    writes_raw                      200+  200+
    writes_raw_and_raises           500+  500
    writes_and_raises               500+  500
    swallows_an_error               200   200
    changes_isolation_level         200   200
    turns_read_only                 200   200
    streams                         200   200
    atomic_reads                    200   200
    atomic_writes_raw               200+  200+
    atomic_writes_and_raises        500   500
    atomic_in_atomic                200+  200+
    autocommit_off_writes           200   500
    autocommit_off_commits          200+  500
    begins_by_hand                  200   200+
    enters_atomic_and_never_leaves  200   200
    tells_of_its_session            200   200
    """,
}

ERA = "1.2 to 1.5" if support.BEFORE_1_6 else "1.6 and 1.7"
ERA = "1.8 and later" if django.VERSION >= (1, 8) else ERA
COLUMNS = [("plain", False), ("plain", True)]
if support.BEFORE_1_6:
    COLUMNS += [("autocommit", False), ("autocommit", True), ("managed", False), ("managed", True)]


def cases():
    """Yield (view, mode, whether with the middleware, cell of the table)."""
    lines = [line.split() for line in TABLES[ERA].splitlines()]
    lines = [line for line in lines if line and not line[0].endswith(":")]
    rows = dict((line[0], line[1:]) for line in lines if len(line) == len(COLUMNS) + 1)
    if django.VERSION < (1, 3):
        rows.update((line[1], line[2:]) for line in lines if line[:1] == ["1.2"])
    for view in sorted(set(rows) & set(transaction_views.VIEWS)):
        for (mode, middleware), cell in zip(COLUMNS, rows[view]):
            if mode == "autocommit" and support.databases.NAME != "postgresql":
                continue  # only PostgreSQL's backends have the option
            yield view, mode, middleware, cell
            if mode == "plain":
                yield view, "DEBUG", middleware, cell


@pytest.fixture
def site(request):
    """Ask a view of a site that is set up in a given way; return its answer as the table has it."""
    undo = []

    def site(view, mode, middleware):
        undo.append(settings_as(DEBUG=mode == "DEBUG", **managed(mode)))
        if ERA == "1.8 and later":
            undo.append(support.database_as(ATOMIC_REQUESTS=middleware))
        if mode == "autocommit":
            undo.append(option_autocommit())
        for manager in undo:
            manager.__enter__()
        handler = handler_with(middleware)
        try:
            return "%d" % get("/%s/" % view, handler).status
        except Exception:
            return "err"

    yield site
    for manager in reversed(undo):
        manager.__exit__(None, None, None)


def managed(mode):
    return {"TRANSACTIONS_MANAGED": mode == "managed"} if support.BEFORE_1_6 else {}


def handler_with(middleware):
    path = "django.middleware.transaction.TransactionMiddleware"
    wanted = [path] if middleware and ERA != "1.8 and later" else []
    with settings_as(MIDDLEWARE_CLASSES=wanted):
        handler = WSGIHandler()
        if hasattr(handler, "load_middleware"):
            handler.load_middleware()
    return handler


class option_autocommit(object):
    """OPTIONS["autocommit"] of 1.2 to 1.5, which a wrapper reads when it is made."""

    def __enter__(self):
        connections["default"].features.uses_autocommit = True
        connections["default"]._set_isolation_level(0)

    def __exit__(self, *exception):
        connections["default"].close()
        connections["default"].features.uses_autocommit = False
        connections["default"]._set_isolation_level(1)


def test_the_table_names_every_view():
    assert set(case[0] for case in cases()) == set(transaction_views.VIEWS)


@pytest.mark.parametrize("view, mode, middleware, cell", list(cases()))
def test_a_view_is_answered_as_in_the_table_and_leaves_no_transaction_open(
    view, mode, middleware, cell, site, rows
):
    answer = site(view, mode, middleware)
    if answer == "err":
        # The error came before request_finished, as in stock Django.
        end_of_work()
    if view == "streams" and django.VERSION < (1, 5):
        # Before 1.5 request_finished comes before the body; the next request ends the body's work.
        get("/none/")
    assert answer + "+" * (view in rows()) == cell
    assert set(support.states()) <= set(["idle"])
    assert support.open_wrappers() == []
    before = support.backends()
    told = get("/tells_of_its_session/")
    in_autocommit = mode == "autocommit" or not support.BEFORE_1_6
    if ERA == "1.8 and later" and middleware:
        in_autocommit = False  # ATOMIC_REQUESTS
    expected = "autocommit" if in_autocommit else "in a transaction"
    assert told.text == "%s, read write, stack 0, %s" % (support.chosen.ISOLATION, expected)
    assert support.backends() == (before or support.backends())


def test_a_finished_request_that_read_a_table_holds_no_lock():
    assert get("/reads/").status == 200
    # Raises an error if somebody holds any lock on the table.
    support.query(support.chosen.LOCK, support.DATABASE)


def test_a_request_sees_a_row_committed_since_the_request_before(rows):
    with repeatable_read():
        get("/reads/")
        before = support.backends()
        support.query("INSERT INTO item VALUES ('new')", support.DATABASE)
        assert support.fetch("SELECT name FROM item") == "new"
        assert support.chosen.isolation(support.fetch) == "repeatable read"
        assert support.backends() == before
        end_of_work()


class repeatable_read(object):
    """Have the settings ask for this isolation level."""

    def __enter__(self):
        self.database = None
        if support.BEFORE_1_6 and support.databases.NAME == "postgresql":
            connections["default"].isolation_level = 2
        else:
            self.database = support.database_as(OPTIONS=support.chosen.REPEATABLE_READ)
            self.database.__enter__()

    def __exit__(self, *exception):
        if self.database is None:
            connections["default"].isolation_level = 1
        else:
            self.database.__exit__(*exception)


class Interrupted(Exception):
    pass


def interrupt(signum, frame):
    raise Interrupted


@pytest.mark.skipif(
    support.driver.__name__ != "psycopg", reason="psycopg2 cannot be interrupted in a query"
)
def test_a_connection_whose_query_is_still_running_is_closed_and_the_query_cancelled():
    before = persistconn.stats()["default"]["discarded"].get("busy", 0)
    stock = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(Interrupted):
            support.fetch("SELECT pg_sleep(60)")
    finally:
        signal.signal(signal.SIGALRM, stock)
    assert support.states() == ["active"]
    end_of_work()
    assert wait_until(lambda: support.sessions() == [])
    assert persistconn.stats()["default"]["discarded"]["busy"] == before + 1


def test_a_session_lost_in_a_transaction_does_not_change_the_answer():
    def lose(request):
        transaction_views.raw_read()
        support.kill_backends()
        return transaction_views.respond()

    transaction_views.VIEWS["reads_raw"], stock = lose, transaction_views.VIEWS["reads_raw"]
    try:
        assert get("/reads_raw/").status == 200
    finally:
        transaction_views.VIEWS["reads_raw"] = stock
    assert get("/pid/").status == 200


def test_an_error_at_the_end_of_work_in_one_database_leaves_no_other_database_open(monkeypatch):
    def fail():
        raise ValueError("a backend's own close() that fails")

    pid(), pid("other")
    monkeypatch.setitem(connections["default"].__dict__, "close", fail)
    with pytest.raises(ValueError):
        end_of_work()
    monkeypatch.undo()
    assert support.open_wrappers() == []
    assert wait_until(lambda: support.states() == ["idle", "idle"])


def test_the_loss_of_a_session_of_one_database_does_not_stop_the_end_of_work_in_the_other():
    def lose_one():
        for alias in ("default", "other"):
            connections[alias].cursor().execute("BEGIN" if not support.BEFORE_1_6 else "SELECT 1")
        support.kill(pid("default"))

    lose_one()
    end_of_work()
    assert support.open_wrappers() == []
    assert wait_until(lambda: support.states() == ["idle"])
    assert persistconn.stats()["other"]["idle"] == 1


# Streams.


def streaming_response():
    """A response that is not yet sent, whose body reads the database."""
    environ, sent = support.environ("/streams/"), support.Response()
    return WSGIHandler()(environ, sent.start)


def test_a_stream_has_its_connection_until_its_body_ends():
    body = streaming_response()
    assert list(body) == [b"done"]
    if django.VERSION >= (1, 5):
        assert support.open_wrappers() != []
        body.close()
        assert support.open_wrappers() == []
    assert len(support.backends()) == 1
    get("/none/")


def test_a_response_that_is_never_closed_is_ended_by_the_next_request_of_its_thread():
    list(streaming_response())
    (before,) = support.backends()
    assert int(get("/pid/").text) == before
    assert wait_until(lambda: support.states() == ["idle"])


def test_the_connection_of_a_response_that_is_never_closed_is_given_to_nobody_else():
    list(streaming_response())
    (streaming,) = support.backends()
    others = support.in_thread(lambda: (pid(), end_of_work())[0])
    assert others != streaming
    get("/none/")
