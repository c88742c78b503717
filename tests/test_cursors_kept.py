"""Cursors that outlive the thread or the unit of work that made them."""

from __future__ import absolute_import

import gc
import sys
import threading
import time

import pytest
import support
from databases import chosen
from django.db import connection, transaction
from support import backends, end_of_work, fetch, in_thread, pid, wait_until

import persistconn

with_atomic = pytest.mark.skipif(support.BEFORE_1_6, reason="atomic() came with 1.6")
with_server_side_cursors = pytest.mark.skipif(
    not support.HAS_SERVER_SIDE_CURSORS,
    reason="before 1.11, and on MySQL, iterator() reads all rows at once",
)

#: More than Django fetches at once.
MANY = 2500

#: Seconds after which something hangs.
PATIENCE = 10


@pytest.fixture(autouse=True)
def many(rows):
    support.ask("INSERT INTO item " + chosen.NUMBERS % MANY, database=support.DATABASE)
    yield
    # TRUNCATE would wait for a transaction that a failed test left open.
    support.ask("DELETE FROM item", database=support.DATABASE)


@pytest.fixture
def no_collection():
    """The garbage collector runs only when a test says so."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def begin():
    """An iterator over all items, of which the first has been read."""
    from site_app.models import Item

    items = Item.objects.iterator()
    next(items)
    return items


def begin_in_atomic():
    transaction.atomic().__enter__()
    return begin()


begins = pytest.mark.parametrize("begin", [begin, pytest.param(begin_in_atomic, marks=with_atomic)])


def in_daemon(work):
    thread = threading.Thread(target=work)
    thread.daemon = True
    thread.start()
    return thread


def is_still_open():
    """Whether the only session is open, and is still open after a while."""
    return len(backends()) == 1 and not wait_until(lambda: backends() == [], 0.5)


def nothing_is_in_use():
    stats = persistconn.stats().get("default", {"in_use": 0, "idle": 0})
    return (stats["in_use"], stats["idle"]) == (0, len(backends()))


@begins
def test_an_iterator_outlives_the_thread_that_began_it(begin):
    items = in_thread(begin)
    assert is_still_open()
    assert len(list(items)) == MANY - 1
    del items
    gc.collect()


@begins
def test_an_iterator_that_outlived_its_thread_frees_its_slot_when_it_is_read(begin):
    items = in_thread(begin)
    assert is_still_open()
    assert len(list(items)) == MANY - 1
    del items
    gc.collect()
    assert wait_until(nothing_is_in_use)


@begins
def test_an_iterator_that_outlived_its_thread_frees_its_slot_when_it_is_thrown_away(begin):
    items = in_thread(begin)
    assert is_still_open()
    del items
    gc.collect()
    assert wait_until(nothing_is_in_use)


def test_a_cursor_outlives_the_thread_that_made_it():
    cursor = in_thread(lambda: connection.cursor())
    assert is_still_open()
    cursor.execute("SELECT 'done'")
    assert cursor.fetchone() == ("done",)
    del cursor
    gc.collect()


def test_a_query_under_way_outlives_the_thread_that_made_its_cursor():
    cursors, made = [], threading.Event()

    def make():
        cursors.append(connection.cursor())
        made.set()
        assert wait_until(lambda: support.states() == ["active"])

    thread = in_daemon(make)
    made.wait()
    cursor = cursors.pop()
    cursor.execute("SELECT 'done', (%s)" % (chosen.SLEEP % 0.5))
    thread.join()
    assert is_still_open()
    assert cursor.fetchone()[0] == "done"
    del cursor
    gc.collect()


class Expected(Exception):
    pass


def fail_while_iterating():
    """Leave an open cursor in a reference cycle: an error that keeps itself, and its frames."""
    try:
        items = begin()
        for _item in items:
            raise Expected()
    except Expected as error:
        error.kept = [error, sys.exc_info()]
        raise


def fail_while_iterating_in_atomic():
    with transaction.atomic():
        fail_while_iterating()


def unit_that_fails(fail):
    with pytest.raises(Expected):
        fail()
    end_of_work()


fails = pytest.mark.parametrize("fail", [fail_while_iterating, fail_while_iterating_in_atomic])


@fails
@with_atomic
def test_a_cursor_collected_in_another_transaction_does_not_abort_that_transaction(
    fail, no_collection, rows
):
    in_thread(lambda: unit_that_fails(fail))
    with transaction.atomic():
        connection.cursor().execute("INSERT INTO item VALUES ('first')")
        gc.collect()
        connection.cursor().execute("INSERT INTO item VALUES ('second')")
    end_of_work()
    assert set(["first", "second"]) <= set(rows())


class EndsWork(object):
    """Ends the unit of work while it is being collected."""

    def __del__(self):
        end_of_work()


@with_server_side_cursors
@pytest.mark.skipif(
    sys.version_info[0] == 2, reason="Python 2 collects no cycle that has a __del__"
)
def test_a_session_is_not_reused_if_its_cursor_is_being_collected_at_the_end_of_work(no_collection):
    before = pid()
    cycle = [EndsWork(), begin()]
    cycle.append(cycle)
    del cycle
    # The collector clears weak references, then calls __del__, then closes the iterator's cursor.
    gc.collect()
    assert pid() != before
    end_of_work()


class Collecting(list):
    """A list for psycopg2's notices that collects garbage at each notice."""

    def append(self, notice):
        gc.collect()


def collect_garbage_at_notices(raw):
    """Collect garbage at each notice, when the driver holds the connection's lock."""
    if hasattr(raw, "add_notice_handler"):
        raw.add_notice_handler(lambda notice: gc.collect())
    else:
        raw.notices = Collecting()


@support.only_on("postgresql", "only its drivers call the user's code while a query runs")
@fails
@with_atomic
def test_a_cursor_collected_during_a_query_on_its_connection_does_not_hang(fail, no_collection):
    in_thread(lambda: unit_that_fails(fail))
    raws = []

    def ask():
        cursor = connection.cursor()
        raws.append(connection.connection)
        collect_garbage_at_notices(connection.connection)
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'collect'; END $$")
        connection.close()

    thread = in_daemon(ask)
    thread.join(PATIENCE)
    hung = thread.is_alive()
    if hung and hasattr(raws[0], "lock"):
        raws[0].lock.release()
        thread.join()
    assert not hung


@with_server_side_cursors
def test_no_cursor_of_an_earlier_unit_of_work_is_open_in_a_session():
    items = begin()
    end_of_work()
    assert fetch("SELECT count(*) FROM pg_cursors WHERE name LIKE '%django%'") == 0
    end_of_work()
    del items


@with_server_side_cursors
def test_a_cursor_left_open_does_not_occupy_the_name_of_a_later_cursor():
    items = begin()
    end_of_work()
    # As in the next thread: its wrapper is new and numbers its cursors from 1, and its ident is
    # often that of an old thread.
    connection._named_cursor_idx -= 1
    assert len(list(begin())) == MANY - 1
    end_of_work()
    del items


@with_server_side_cursors
def test_an_iterator_kept_past_its_unit_of_work_raises_an_error_when_read():
    items = begin()
    end_of_work()
    pid()
    with pytest.raises(support.database_errors()):
        list(items)
    end_of_work()


def test_the_end_of_work_does_not_wait_for_another_threads_query():
    cursor = connection.cursor()

    def ask():
        with pytest.raises(support.database_errors()):
            cursor.execute(chosen.SLEEP % 20)

    thread = in_daemon(ask)
    assert wait_until(lambda: support.states() == ["active"])
    began = time.time()
    end_of_work()
    seconds = time.time() - began
    support.kill_backends()
    thread.join()
    assert seconds < PATIENCE
