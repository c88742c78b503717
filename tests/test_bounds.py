"""The number of connections: MAX_CONNS, TIMEOUT, MAX_KEPT, and threads that ended."""

from __future__ import absolute_import

import gc
import threading
import time
from functools import partial

import pytest
import support
from django.db import connection, connections
from support import (
    backends,
    end_of_work,
    in_thread,
    pid,
    settings_as,
    share,
    unit_of_work,
    wait_until,
)

import persistconn


def stats():
    return persistconn.stats()["default"]


@pytest.fixture
def no_collector():
    """Switch the garbage collector off: the outcome must not depend on it."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def busy():
    """A thread that has a connection until the event is set."""
    stop, started = threading.Event(), threading.Event()

    def work():
        pid()
        started.set()
        stop.wait()
        end_of_work()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    yield stop
    stop.set()
    thread.join()


def test_a_thousand_threads_share_eight_connections():
    answered, most, done = [], [0], threading.Event()

    def watch():
        while not done.is_set():
            most[0] = max(most[0], len(backends()))

    watching = threading.Thread(target=watch)
    with settings_as(PERSISTCONN_MAX_CONNS=8, PERSISTCONN_TIMEOUT=60):
        watching.start()
        threads = [
            threading.Thread(target=lambda: answered.append(unit_of_work())) for _ in range(1000)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watching.join()
    assert len(answered) == 1000
    assert len(set(answered)) <= 8
    assert most[0] <= 8


def test_the_error_of_a_wait_that_timed_out_names_the_database_and_all_counts(busy):
    from persistconn.errors import PoolTimeout

    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0.1):
        with pytest.raises(PoolTimeout) as error:
            pid()
    expected = (
        "No connection to database 'default' (persistconn_test) became free in 0.1",
        " seconds: of MAX_CONNS 1 there are 1 in use and 0 idle, and 0 others wait. Held by ",
    )
    assert str(error.value).startswith(expected[0])
    assert expected[1] in str(error.value)


def test_a_pool_timeout_is_caught_as_a_database_error(busy):
    from django.db import utils

    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        with pytest.raises(getattr(utils, "OperationalError", utils.DatabaseError)):
            pid()


def test_a_thread_is_served_again_after_a_pool_timeout(busy):
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        with pytest.raises(support.database_errors()):
            pid()
        busy.set()
        assert wait_until(lambda: stats()["idle"] == 1)
        assert unit_of_work() in backends()


def test_a_waiting_thread_gets_the_connection_that_is_given_back(busy):
    pids = []
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=10):
        thread = threading.Thread(target=lambda: pids.append(unit_of_work()))
        thread.start()
        assert wait_until(lambda: stats()["waiting"] == 1)
        busy.set()
        thread.join()
    assert pids == backends()
    assert stats()["wait_seconds"] > 0


def test_created_seconds_counts_openings_and_no_reuse():
    before = stats()["created_seconds"]
    unit_of_work()
    opened = stats()["created_seconds"]
    unit_of_work()
    assert stats()["created_seconds"] == opened > before


def test_used_seconds_counts_the_time_from_the_checkout_to_its_end():
    before = stats()["used_seconds"]
    pid()
    time.sleep(0.2)
    end_of_work()
    assert stats()["used_seconds"] - before >= 0.2


def test_a_pool_timeout_is_counted(busy):
    before = stats()["timeouts"]
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        with pytest.raises(support.database_errors()):
            pid()
        assert stats()["timeouts"] == before + 1


def test_two_aliases_of_one_database_have_a_bound_each():
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        with support.database_as("other", NAME=support.DATABASE):
            pid(), pid("other")
            for alias in ("default", "other"):
                with pytest.raises(support.database_errors()):
                    in_thread(partial(unit_of_work, alias))
            end_of_work()


def test_one_database_can_have_a_bound_of_its_own():
    with support.database_as("other", PERSISTCONN={"MAX_CONNS": 1, "TIMEOUT": 0}):
        pid("default"), pid("other")
        assert in_thread(unit_of_work)
        with pytest.raises(support.database_errors()):
            in_thread(lambda: unit_of_work("other"))
        end_of_work()


def test_closing_a_connection_frees_its_slot():
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        pid()
        connection.close()
        assert in_thread(unit_of_work)


def test_an_error_while_connecting_frees_the_slot_of_the_connection():
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        with support.database_as(NAME="no_such_database"):
            for _turn in range(3):
                with pytest.raises(support.database_errors()) as error:
                    pid()
                assert "no_such_database" in str(error.value)
        assert unit_of_work()


def test_a_dead_connection_frees_its_slot_for_the_thread_that_found_it():
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        unit_of_work()
        support.kill_backends()
        assert unit_of_work() in backends()


def test_a_connection_lost_in_use_frees_its_slot():
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        pid()
        support.kill_backends()
        end_of_work()
        assert in_thread(unit_of_work)


def test_a_connection_beyond_max_kept_is_closed_when_given_back(busy):
    with settings_as(PERSISTCONN_MAX_KEPT=1):
        kept = unit_of_work()
        busy.set()
        assert wait_until(lambda: backends() == [kept])
        assert wait_until(lambda: stats()["discarded"].get("surplus"))


def test_max_kept_0_keeps_no_connection():
    with settings_as(PERSISTCONN_MAX_KEPT=0):
        unit_of_work()
        assert wait_until(lambda: backends() == [])


def test_a_thread_that_ends_without_giving_back_loses_its_connection_within_a_second(no_collector):
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=2):
        for _turn in range(3):
            start = time.time()
            in_thread(pid)
            assert wait_until(lambda: backends() == [], seconds=1)
            assert time.time() - start < 1
        assert unit_of_work()


def test_the_open_transaction_of_a_thread_that_ended_is_rolled_back(no_collector, rows):
    def insert():
        connection.cursor().execute("BEGIN")
        connection.cursor().execute("INSERT INTO item VALUES ('lost')")

    in_thread(insert)
    assert wait_until(lambda: backends() == [], seconds=1)
    assert rows() == []


def test_a_waiting_thread_gets_the_slot_of_a_thread_that_ended(no_collector):
    ended, pids = threading.Event(), []

    def ends_without_giving_back():
        pid()
        ended.wait()

    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=5):
        first = threading.Thread(target=ends_without_giving_back)
        first.start()
        assert wait_until(lambda: len(backends()) == 1)
        second = threading.Thread(target=lambda: pids.append(unit_of_work()))
        second.start()
        assert wait_until(lambda: stats()["waiting"] == 1)
        ended.set()
        first.join()
        second.join()
    assert len(pids) == 1


@pytest.mark.skipif(not hasattr(connection, "allow_thread_sharing"), reason="it came with 1.4")
def test_a_connection_that_is_shared_outlives_the_thread_that_used_it_first():
    wrapper = connections["default"]
    share(wrapper, True)
    try:
        before = in_thread(lambda: use(wrapper))
        time.sleep(0.1)
        assert use(wrapper) == before
    finally:
        wrapper.close()
        share(wrapper, False)


@pytest.mark.skipif(not hasattr(connection, "allow_thread_sharing"), reason="it came with 1.4")
def test_a_shared_connection_made_in_a_thread_and_handed_on_outlives_that_thread():
    def make():
        wrapper = connections["default"].__class__(connections["default"].settings_dict, "handed")
        share(wrapper, True)
        return wrapper, use(wrapper)

    wrapper, before = in_thread(make)
    time.sleep(0.1)
    assert use(wrapper) == before
    wrapper.close()


def use(wrapper):
    cursor = wrapper.cursor()
    cursor.execute(support.chosen.PID)
    return cursor.fetchone()[0]


def test_max_conns_does_not_limit_sqlite_connections(tmpdir):
    from test_aside import sqlite

    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        first, second = sqlite(str(tmpdir.join("one"))), sqlite(str(tmpdir.join("one")))
        first.cursor(), second.cursor()
        assert [wrapper.connection is None for wrapper in (first, second)] == [False, False]
        first.close(), second.close()


@pytest.mark.parametrize(
    "name, value",
    [("MAX_CONNS", 0), ("MAX_CONNS", 1.5), ("TIMEOUT", None), ("MAX_KEPT", -1), ("MAX_IDLE", 0)],
)
def test_a_bad_value_of_a_limit_is_reported_with_its_setting(name, value):
    from persistconn import problems

    with settings_as(**{"PERSISTCONN_" + name: value}):
        (problem,) = problems.find_problems()
    assert problem.message.startswith("PERSISTCONN_%s is %r; allowed: a " % (name, value))
