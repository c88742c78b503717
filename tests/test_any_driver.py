"""A driver with what PEP 249 names and nothing else: nothing is known, so everything is asked."""

from __future__ import absolute_import

import gc
import json
import os
import subprocess
import sys
import threading

import django
import pytest
import support
from django.db import connections, transaction
from support import (
    BEFORE_1_6,
    backends,
    database_as,
    end_of_work,
    end_transaction,
    get,
    in_child,
    in_thread,
    kill_backends,
    orm_pid,
    pid,
    settings_as,
    unit_of_work,
    wait_until,
)

import persistconn
from persistconn import drivers

since_1_6 = pytest.mark.skipif(BEFORE_1_6, reason="Django is in autocommit since 1.6")


@pytest.fixture(autouse=True)
def plain_backend():
    """Have the database "default" served by the plain driver, in all threads."""
    from plain_backend.base import DatabaseWrapper

    with database_as(ENGINE="plain_backend"):
        wrapper = DatabaseWrapper(connections["default"].settings_dict, "default")
        with support.wrapper_as(wrapper):
            yield
            end_of_work()
            persistconn.drain()


def stats(name):
    return persistconn.stats()["default"][name]


def raw():
    connections["default"].cursor().close()
    return connections["default"].connection


def test_the_plain_driver_tells_nothing_about_its_connections():
    driver = drivers.of(raw())
    assert type(driver) is drivers.Driver
    assert driver is drivers.of_module(
        connections["default"].Database if not BEFORE_1_6 else module()
    )
    assert (driver.fileno(raw()), driver.status(raw())) == (None, None)
    names = set(name for name in dir(raw()) if not name.startswith("_"))
    assert names == set(["autocommit", "close", "commit", "cursor", "rollback"])


def module():
    from plain_backend import driver

    return driver


# Reuse, and what it costs.


def test_a_method_that_switches_autocommit_does_not_tell_whether_it_is_on():
    class Connection(object):
        def autocommit(self, on):
            raise AssertionError("asked, and not switched")

    assert drivers.Driver().autocommit(Connection()) is None


def test_five_requests_use_one_session():
    assert len(set(support.ask_for_pids(5))) == 1


@pytest.mark.parametrize("check_after", [1, 0, None])
def test_each_reuse_asks_the_server(pings, check_after):
    with settings_as(PERSISTCONN_CHECK_AFTER=check_after):
        support.ask_for_pids(4)
    assert pings == [True] * 3


def test_an_open_connection_unused_as_long_as_check_after_is_checked_once(clock, pings):
    orm_pid()
    orm_pid()
    assert pings == []
    clock.forward(1)
    orm_pid()
    orm_pid()
    assert pings == [True]


# Nothing leaks.


def write(name):
    connections["default"].cursor().execute("INSERT INTO item VALUES ('%s')" % name)


def test_a_transaction_left_open_is_rolled_back_and_its_connection_is_used_again(rows):
    before = raw()
    if not BEFORE_1_6:
        transaction.set_autocommit(False)
    write("uncommitted")
    end_of_work()
    assert rows() == []
    assert support.states() == ["idle"]
    assert raw() is before


def test_autocommit_switched_by_the_user_is_restored_for_the_next_user():
    before = raw().autocommit
    if BEFORE_1_6:
        connections["default"].connection.rollback()
    connections["default"].connection.autocommit = not before
    end_of_work()
    assert raw().autocommit == before


@since_1_6
@pytest.mark.skipif(
    support.driver.__name__ == "psycopg2",
    reason="in autocommit psycopg2's rollback() does nothing; persistconn knows it of psycopg2",
)
def test_a_transaction_begun_by_a_statement_is_rolled_back(rows):
    connections["default"].cursor().execute("BEGIN")
    write("uncommitted")
    end_of_work()
    assert rows() == []
    assert support.states() == ["idle"]


@pytest.mark.skipif(
    django.VERSION < (1, 4), reason="the view's django.db.connection is not the plain wrapper"
)
def test_an_atomic_block_that_was_never_left_is_rolled_back(rows):
    view = "/enters_managed_and_never_leaves/" if BEFORE_1_6 else "/enters_atomic_and_never_leaves/"
    get(view)
    assert rows() == []
    assert support.states() == ["idle"]


def test_what_the_user_committed_stays(rows):
    write("committed")
    if BEFORE_1_6:
        connections["default"]._commit()
    end_of_work()
    assert rows() == ["committed"]


def test_a_cursor_left_open_does_not_reach_the_next_user():
    cursor = connections["default"].cursor()
    cursor.execute(support.chosen.PID)
    end_of_work()
    assert in_thread(unit_of_work) in backends()
    with pytest.raises(support.database_errors()):
        cursor.execute("SELECT 1")


def test_a_connection_that_the_user_closes_leaves_no_session_and_no_slot():
    raw()
    connections["default"].close()
    assert wait_until(lambda: backends() == [])
    end_of_work()
    assert (stats("in_use"), stats("idle")) == (0, 0)


# Losses.


def test_a_session_killed_while_idle_is_found_by_the_ping_and_the_request_recovers(pings):
    (before,) = support.ask_for_pids(1)
    lost = stats("discarded").get("check failed", 0)
    assert kill_backends() == 1
    (after,) = support.ask_for_pids(1)
    assert after != before
    assert pings == [False]
    assert stats("discarded")["check failed"] == lost + 1


def test_work_of_the_orm_goes_on_after_a_check_found_its_session_lost(clock, pings):
    before = orm_pid()
    assert kill_backends() == 1
    clock.forward(1)
    assert orm_pid() != before
    assert pings == [False]


def test_a_loss_is_raised_in_its_unit_of_work_and_not_in_the_next():
    pid()
    assert kill_backends() == 1
    with pytest.raises(support.database_errors()):
        pid()
    end_of_work()
    assert pid() in backends()


def test_twenty_losses_leave_no_session_and_no_slot():
    for _turn in range(20):
        unit_of_work()
        kill_backends()
    assert unit_of_work() in backends()
    assert (stats("in_use"), stats("idle")) == (0, 1)


# Threads.


def test_threads_at_work_at_once_have_connections_of_their_own_within_max_conns():
    most, lock, now = [0], threading.Lock(), set()

    def work():
        for _turn in range(10):
            mine = pid()
            with lock:
                assert mine not in now
                now.add(mine)
                most[0] = max(most[0], len(backends()))
            support.fetch(support.chosen.SLEEP % 0.005)
            assert pid() == mine
            with lock:
                now.discard(mine)
            end_of_work()

    with settings_as(PERSISTCONN_MAX_CONNS=2, PERSISTCONN_TIMEOUT=60):
        unit_of_work()  # one that finds no pool of these settings may begin with a pool of its own
        support.together(*[work] * 6)
        assert most[0] == 2
        assert stats("in_use") == 0
    persistconn.drain()


def test_more_than_max_conns_units_of_work_raise_pool_timeout():
    from persistconn.errors import PoolTimeout

    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        pid()
        with pytest.raises(PoolTimeout):
            in_thread(unit_of_work)
        end_of_work()
        assert in_thread(unit_of_work) in backends()
    persistconn.drain()


def test_a_thread_that_ends_without_ending_its_work_leaves_no_session():
    in_thread(pid)
    gc.collect()
    assert wait_until(lambda: backends() == [])


# Forks. A driver without a descriptor cannot be cut off from its parent's session.


def test_a_child_uses_no_session_of_its_parent():
    in_use = pid()
    idle = in_thread(unit_of_work)

    def work():
        assert pid() not in (idle, in_use)
        end_of_work()

    assert in_child(work, 60) == 0
    end_transaction()
    assert orm_pid() == in_use
    assert in_thread(unit_of_work) == idle


ENDS = [
    lambda: connections["default"].close(),
    end_of_work,
    persistconn.drain,
    persistconn.disable,
    gc.collect,
]


@pytest.mark.parametrize("end", ENDS, ids=["close", "end_of_work", "drain", "disable", "collect"])
def test_no_action_of_a_child_ends_a_session_of_its_parent(end):
    in_use = pid()
    idle = in_thread(unit_of_work)
    for _turn in range(3):
        assert in_child(end, 60) == 0
    assert pid() == in_use
    assert in_thread(unit_of_work) == idle


def test_the_regular_exit_of_a_child_ends_no_session_of_its_parent():
    server, folder = support.server, os.path.dirname(os.path.abspath(__file__))
    where = json.dumps([server.host, server.port, server.user, server.database])
    # Another program, because the exit of a child of this one would end the test run.
    process = subprocess.Popen(
        [sys.executable, "-m", "plain_backend.regular_exit", where],
        stdout=subprocess.PIPE,
        cwd=os.path.dirname(folder),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([folder, os.path.dirname(folder)])),
    )
    output = support.finish(process)[0]
    assert json.loads(output.decode().splitlines()[-1]) is True
