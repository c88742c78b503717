"""A cursor is closed at the end of its work, so that it never reaches a later user's session."""

from __future__ import absolute_import

import datetime
import gc
import sys
import threading

import pytest
import support
from databases import chosen
from django.db import connection, transaction
from support import end_of_work, get, in_child, in_thread, pid, unit_of_work, wait_until

#: Seconds after which work counts as hanging.
PATIENCE = 15

#: More rows than Django fetches at once.
MANY = 5000

in_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success
server_side = pytest.mark.skipif(
    not support.HAS_SERVER_SIDE_CURSORS,
    reason="iterator() has a cursor of the server since 1.11, and on PostgreSQL",
)


@pytest.fixture(autouse=True)
def ended():
    # A kept cursor of 1.6 and 1.7, or one that logs queries, opens a connection before it raises.
    yield
    end_of_work()


def item():
    from site_app.models import Item

    return Item


def insert(name):
    item().objects.create(name=name)


@pytest.fixture
def many(rows):
    """Put so many rows into the table that iterator() leaves its cursor open."""
    support.query("INSERT INTO item " + chosen.NUMBERS % MANY, support.DATABASE)


@pytest.fixture
def no_collector():
    """Cycles are collected only when the test collects them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


# Plain cursors.


def is_closed(work):
    """Whether work raises what drivers raise on a connection, or a cursor, that is closed."""
    with pytest.raises(support.database_errors()) as error:
        work()
    return "closed" in str(error.value)


def kept_cursor():
    """A cursor whose work has ended; its session is idle now."""
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM item")
    end_of_work()
    return cursor


def test_a_cursor_kept_past_the_end_of_its_work_is_closed(rows):
    cursor = kept_cursor()
    assert is_closed(lambda: cursor.execute("SELECT 1"))


def test_a_cursor_that_executed_nothing_before_the_end_of_its_work_is_closed():
    cursor = connection.cursor()
    end_of_work()
    assert is_closed(lambda: cursor.execute("SELECT 1"))


def test_a_cursor_kept_past_a_request_is_closed(monkeypatch):
    import site_urls

    kept = []

    def keep(sql):
        kept.append(connection.cursor())
        kept[0].execute("SELECT 1")
        return 1

    monkeypatch.setattr(site_urls.support, "pid", lambda: keep("SELECT 1"))
    assert get("/pid/").status == 200
    monkeypatch.undo()
    assert is_closed(lambda: kept[0].execute("SELECT 1"))


def test_a_kept_cursor_is_closed_while_the_same_thread_has_its_session_again():
    cursor = kept_cursor()
    before = pid()
    assert is_closed(lambda: cursor.execute("SELECT 1"))
    assert pid() == before
    end_of_work()


def test_a_kept_cursor_writes_nothing_into_the_next_transaction_of_its_thread(rows):
    cursor = kept_cursor()

    def work():
        insert("own")
        assert is_closed(lambda: cursor.execute("INSERT INTO item VALUES ('stray')"))

    in_transaction(work)()
    end_of_work()
    assert rows() == ["own"]


def test_a_kept_cursor_writes_nothing_into_the_transaction_of_another_thread(rows):
    cursor, begun, tried = kept_cursor(), threading.Event(), threading.Event()

    def work():
        insert("own")
        begun.set()
        assert tried.wait(PATIENCE)

    def other():
        try:
            in_transaction(work)()
        finally:
            begun.set()
            end_of_work()

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    try:
        assert is_closed(lambda: cursor.execute("INSERT INTO item VALUES ('stray')"))
    finally:
        tried.set()
        thread.join()
    assert rows() == ["own"]


def test_a_kept_cursor_changes_no_parameter_of_the_next_session():
    cursor = kept_cursor()
    before = pid()
    assert is_closed(lambda: cursor.execute("SET app.tenant = 'stray'"))
    assert support.orm_session().tenant == ""
    assert pid() == before
    end_of_work()


def test_a_kept_debug_cursor_is_closed():
    with support.settings_as(DEBUG=True):
        cursor = kept_cursor()
        assert is_closed(lambda: cursor.execute("SELECT 1"))
    end_of_work()


def test_a_cursor_that_its_user_closed_does_not_cost_its_session():
    before = pid()
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    cursor.close()
    end_of_work()
    assert unit_of_work() == before


def test_a_kept_cursor_does_not_cost_its_session():
    before = pid()
    cursor = connection.cursor()
    end_of_work()
    assert unit_of_work() == before
    cursor.close()
    assert unit_of_work() == before


def test_closing_a_kept_cursor_does_no_harm_to_the_next_transaction(rows):
    cursor = kept_cursor()

    def work():
        insert("one")
        cursor.close()
        insert("two")

    in_transaction(work)()
    end_of_work()
    assert rows() == ["one", "two"]


# Server-side cursors. A hang would be in C code, so a child that can be killed runs each test.


def left_by_reference():
    """Leave an iterator that still has rows to come, in a list that keeps it."""
    iterator = item().objects.iterator()
    next(iterator)
    return [iterator]


def left_by_reference_in_a_transaction():
    with transaction.atomic():
        return left_by_reference()


def left_in_a_cycle():
    """Leave such an iterator in a reference cycle, kept by the traceback of an error."""
    try:
        iterator = item().objects.iterator()
        for _found in iterator:
            raise ValueError("the first row is one too many")
    except ValueError:
        cycle = [sys.exc_info()[2]]
        cycle.append(cycle)


def left_in_a_cycle_in_a_transaction():
    try:
        with transaction.atomic():
            iterator = item().objects.iterator()
            for _found in iterator:
                raise ValueError("the first row is one too many")
    except ValueError:
        cycle = [sys.exc_info()[2]]
        cycle.append(cycle)


def left_by_a_named_cursor():
    with transaction.atomic():
        cursor = connection.chunked_cursor()
        cursor.execute("SELECT name FROM item")
        cursor.fetchone()
    return [cursor]


LEFT = [
    left_by_reference,
    left_by_reference_in_a_transaction,
    left_in_a_cycle,
    left_in_a_cycle_in_a_transaction,
    left_by_a_named_cursor,
]

all_left = pytest.mark.parametrize("leave", LEFT, ids=lambda leave: leave.__name__)


def names():
    return [
        name
        for (name,) in support.query(
            "SELECT name FROM item WHERE name !~ '^[0-9]+$' ORDER BY name", support.DATABASE
        )
    ]


class Collecting(datetime.date):
    """Collects garbage when the driver asks for its text, which psycopg 3 does under its lock."""

    def __str__(self):
        gc.collect()
        return "2000-01-01"

    isoformat = __str__


def collect_inside_the_driver():
    connection.cursor().execute("SELECT %s", [Collecting(2000, 1, 1)])


def next_user(let_go):
    """A transaction during which the garbage of another user is collected."""

    def work():
        insert("before")
        let_go()
        gc.collect()
        insert("after")

    in_transaction(work)()
    end_of_work()


def let_go_of(kept):
    def let_go():
        del kept[:]

    return let_go


@server_side
@all_left
def test_the_end_of_work_does_not_hang_on_an_open_server_side_cursor(leave, many):
    def work():
        kept = leave()
        end_of_work()
        assert unit_of_work()
        del kept
        gc.collect()
        assert unit_of_work()

    assert in_child(work, PATIENCE) == 0


@server_side
@all_left
def test_an_open_server_side_cursor_does_not_abort_the_next_transaction(leave, many, no_collector):
    def work():
        kept = leave() or []
        end_of_work()
        next_user(let_go_of(kept))

    assert in_child(work, PATIENCE) == 0
    assert names() == ["after", "before"]


@server_side
@all_left
def test_an_open_server_side_cursor_does_not_abort_the_transaction_of_another_thread(
    leave, many, no_collector
):
    def work():
        kept = in_thread(lambda: (leave() or [], end_of_work())[0])
        next_user(let_go_of(kept))

    assert in_child(work, PATIENCE) == 0
    assert names() == ["after", "before"]


@server_side
@all_left
def test_an_open_server_side_cursor_may_be_collected_before_its_work_ends(
    leave, many, no_collector
):
    def work():
        kept = leave() or []
        let_go_of(kept)()
        gc.collect()
        end_of_work()
        next_user(lambda: None)

    assert in_child(work, PATIENCE) == 0
    assert names() == ["after", "before"]


@server_side
def test_an_iterator_kept_past_the_end_of_its_work_reads_no_row_of_the_next_session(many):
    def work():
        (iterator,) = left_by_reference()
        end_of_work()
        pid()
        with pytest.raises(support.database_errors()):
            list(iterator)
        assert support.fetch("SELECT 1") == 1
        end_of_work()

    assert in_child(work, PATIENCE) == 0


@server_side
@all_left
def test_no_server_side_cursor_is_open_after_the_end_of_its_work(leave, many):
    def work():
        kept = leave()
        end_of_work()
        assert support.fetch("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0
        end_of_work()
        del kept

    assert in_child(work, PATIENCE) == 0


@server_side
@pytest.mark.parametrize("leave", [left_in_a_cycle, left_in_a_cycle_in_a_transaction])
def test_garbage_collected_inside_the_driver_does_not_hang_the_next_user(leave, many, no_collector):
    def work():
        leave()
        end_of_work()
        next_user(collect_inside_the_driver)

    assert in_child(work, PATIENCE) == 0
    assert names() == ["after", "before"]


@server_side
def test_requests_are_served_after_a_request_that_left_a_server_side_cursor_open(many, monkeypatch):
    import site_urls

    def work():
        kept = []
        monkeypatch.setattr(site_urls.support, "pid", lambda: kept.append(leave()) or 1)
        assert [get("/pid/").status for request in range(3)] == [200] * 3
        monkeypatch.undo()
        assert get("/pid/").status == 200
        assert wait_until(lambda: support.states() in ([], ["idle"]))

    def leave():
        return left_by_reference()

    assert in_child(work, PATIENCE) == 0
