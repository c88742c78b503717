"""Which connections are used without a check, which are checked, which are discarded."""

from __future__ import absolute_import

import os
import signal
import socket
import threading
import time

import pytest
import support
from django.db import connection
from support import end_of_work, kill_backends, orm_pid, pid, pids_at_once, settings_as, wait_until

import persistconn


def discarded(reason):
    return persistconn.stats()["default"]["discarded"].get(reason, 0)


def test_a_connection_used_a_moment_ago_is_not_checked(pings):
    pid()
    end_of_work()
    pid()
    assert pings == []
    end_of_work()


def test_a_connection_idle_as_long_as_check_after_is_checked_once(clock, pings):
    pid()
    end_of_work()
    clock.forward(1)
    pid()
    pid()
    assert pings == [True]
    end_of_work()


def test_an_open_connection_unused_as_long_as_check_after_is_checked_once(clock, pings):
    orm_pid()
    clock.forward(1)
    pid()
    assert pings == [True]
    end_of_work()


def test_check_after_0_checks_before_every_reuse(pings):
    with settings_as(PERSISTCONN_CHECK_AFTER=0):
        pid()
        end_of_work()
        pid()
        assert pings == [True]
        end_of_work()


def test_check_after_none_never_sends_a_check(clock, pings):
    with settings_as(PERSISTCONN_CHECK_AFTER=None):
        pid()
        end_of_work()
        clock.forward(500)
        pid()
        assert pings == []
        end_of_work()


def test_check_after_none_still_looks_at_the_socket():
    with settings_as(PERSISTCONN_CHECK_AFTER=None):
        before = pid()
        end_of_work()
        kill_backends()
        assert pid() != before
        end_of_work()


def test_a_session_that_the_server_ended_is_discarded_as_dead():
    pid()
    end_of_work()
    before = discarded("dead")
    kill_backends()
    pid()
    assert discarded("dead") == before + 1
    end_of_work()


@support.only_on("postgresql", "no other has LISTEN")
def test_a_session_with_a_pending_notification_is_checked_and_kept(pings):
    pid()
    connection.cursor().execute("LISTEN news")
    if support.BEFORE_1_6:
        connection._commit()
    before = pid()
    end_of_work()
    support.query("NOTIFY news", support.DATABASE)
    assert wait_until(is_readable)
    assert pid() == before
    assert pings == [True]
    end_of_work()


def is_readable():
    from persistconn.lifecycle import pools

    return any(entry.poll() for pool in pools.all() for entry in pool._idle)


def test_select_1_leaves_no_transaction_open(clock, pings):
    pid()
    end_of_work()
    clock.forward(1)
    connection.cursor().close()
    assert pings == [True]
    assert wait_until(lambda: support.states() == ["idle"])
    end_of_work()


@support.only_on("postgresql", "drivers of MySQL have no isolation level")
def test_select_1_changes_neither_autocommit_nor_isolation_level(clock, pings):
    pid()
    raw = connection.connection
    end_of_work()
    before = (raw.autocommit, raw.isolation_level)
    clock.forward(1)
    connection.cursor().close()
    assert pings == [True]
    assert (raw.autocommit, raw.isolation_level) == before
    end_of_work()


def test_select_1_is_not_in_the_query_log(clock, pings):
    pid()
    end_of_work()
    with settings_as(DEBUG=True):
        before = len(connection.queries)
        pid()
        end_of_work()
        clock.forward(1)
        pid()
        assert pings == [True]
        assert len(connection.queries) == before + 2
        end_of_work()


def test_no_check_is_sent_inside_a_transaction(clock, pings):
    from django.db import transaction

    in_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success

    @in_transaction
    def work():
        pid()
        clock.forward(10)
        pid()

    work()
    assert pings == []
    end_of_work()


@pytest.mark.skipif(support.BEFORE_1_6, reason="every query is in a transaction before 1.6")
def test_no_check_is_sent_inside_a_transaction_begun_by_hand(clock, pings):
    connection.cursor().execute("BEGIN")
    before = pid()
    clock.forward(10)
    assert pid() == before
    assert pings == []
    end_of_work()
    assert wait_until(lambda: support.states() == ["idle"])


def test_a_connection_that_was_closed_in_the_driver_is_replaced():
    before = orm_pid()
    connection.connection.close()
    assert orm_pid() != before
    end_of_work()


def test_a_closed_connection_is_replaced_though_its_descriptor_was_reused():
    before = orm_pid()
    raw, (healthy, peer) = connection.connection, socket.socketpair()
    fd = support.chosen.fileno(raw)
    raw.close()
    os.dup2(healthy.fileno(), fd)
    try:
        assert orm_pid() != before
    finally:
        os.close(fd)
        healthy.close(), peer.close()
    end_of_work()


def test_a_connection_whose_driver_hides_its_socket_is_always_checked(monkeypatch, pings):
    # A stand-in for a driver that hides its socket: the answer to SELECT 1 is the server's own.
    from persistconn import drivers

    cls = type(drivers.of_module(support.driver))
    monkeypatch.setattr(cls, "fileno", lambda self, raw: None)
    before = pid()
    end_of_work()
    assert pid() == before
    end_of_work()
    kill_backends()
    assert pid() != before
    assert pings == [True, False]
    end_of_work()
    monkeypatch.undo()
    persistconn.drain()


def test_a_connection_with_an_error_in_use_is_checked_before_its_next_use(pings):
    if support.BEFORE_1_6:
        pytest.skip("Django notes errors on the wrapper since 1.6")
    pid()
    with pytest.raises(support.database_errors()):
        support.fetch("SELECT nonsense")
    end_of_work()
    pid()
    assert pings == [True]
    end_of_work()


def test_a_connection_that_fails_its_check_is_discarded(clock, monkeypatch):
    # A stand-in: the server cannot be made to accept a query and refuse the answer for real here.
    from persistconn import drivers

    before_pid = pid()
    driver = drivers.of(connection.connection)
    end_of_work()
    before = discarded("check failed")
    monkeypatch.setattr(type(driver), "ping", lambda self, *args: False)
    clock.forward(1)
    assert pid() != before_pid
    assert discarded("check failed") == before + 1
    monkeypatch.undo()
    end_of_work()


def keep_idle(number):
    """Have ``number`` idle connections. Return their backends; the next to be used is the last."""
    held, ready, go = [], threading.Semaphore(0), threading.Event()

    def hold():
        held.append(pid())
        ready.release()
        go.wait()
        end_of_work()

    threads = [threading.Thread(target=hold) for _ in range(number)]
    for thread in threads:
        thread.start()
    for _ in threads:
        ready.acquire()
    go.set()
    for thread in threads:
        thread.join()
    return held


def test_after_a_loss_older_connections_are_checked_once_and_kept(pings):
    keep_idle(3)
    lost = pids_at_once(1)[0]
    support.kill(lost)
    alive = set(support.backends())
    assert len(alive) == 2
    assert alive <= set(pids_at_once(3))
    assert pings == [True, True]
    pids_at_once(3)
    assert pings == [True, True]


def test_after_a_loss_in_use_older_connections_are_checked(pings):
    keep_idle(2)
    used = orm_pid()
    support.kill(used)
    orm_pid()
    assert pings == [True]
    end_of_work()


def test_a_connection_opened_after_a_loss_is_not_checked(pings):
    pid()
    end_of_work()
    kill_backends()
    pid()
    end_of_work()
    pid()
    assert pings == []
    end_of_work()


def test_a_checkout_waits_for_at_most_one_check_without_an_answer(clock, stopped):
    for idle in keep_idle(3):
        stopped(idle)
    clock.forward(1)
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=0.5):
        assert seconds(pid) < 2 * 0.5
    end_of_work()


def keepalives_of(raw):
    line = socket.fromfd(support.chosen.fileno(raw), socket.AF_INET, socket.SOCK_STREAM)
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    try:
        return [line.getsockopt(socket.IPPROTO_TCP, name) for name in names]
    finally:
        line.close()


def test_a_kept_connection_has_tcp_keepalives():
    pid()
    assert keepalives_of(connection.connection) == [30, 10, 3]
    end_of_work()


@support.only_on("postgresql", "libpq has such OPTIONS")
def test_keepalives_in_the_users_options_stay():
    with support.database_as(OPTIONS={"keepalives_idle": 77}):
        pid()
        assert keepalives_of(connection.connection) == [77, 10, 3]
        end_of_work()
        persistconn.drain()


def set_read_only(value):
    support.query("ALTER SYSTEM SET default_transaction_read_only = %s" % value)
    support.query("SELECT pg_reload_conf()")


@pytest.fixture
def read_only_server():
    yield lambda: set_read_only("on")
    support.query("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
    support.query("ALTER SYSTEM RESET default_transaction_read_only")
    support.query("SELECT pg_reload_conf()")


@support.only_on("postgresql", "libpq has target_session_attrs")
@pytest.mark.parametrize("target, is_kept", [("read-write", False), ("any", True)])
def test_a_session_that_became_read_only_is_kept_unless_options_ask_for_read_write(
    clock, read_only_server, target, is_kept
):
    if support.ask("SHOW server_version_num") < "140000":
        pytest.skip("the server does not report it before PostgreSQL 14")
    before = discarded("read only")
    with support.database_as(OPTIONS={"target_session_attrs": target}):
        first = pid()
        end_of_work()
        read_only_server()
        with settings_as(PERSISTCONN_CONNECT_DEADLINE=0):
            assert wait_until(lambda: wrote(clock, first) == is_kept)
    assert discarded("read only") == before + (not is_kept)
    persistconn.drain()


def wrote(clock, first):
    """Whether the next request gets the session ``first``; False also if it gets none."""
    clock.forward(1)
    try:
        return pid() == first
    except support.database_errors():
        return False
    finally:
        end_of_work()


@pytest.fixture
def stopped():
    """Stop the backend of a session, as when its machine hangs. It goes on after the test."""
    if support.databases.NAME != "postgresql":
        pytest.skip("sessions of MariaDB are threads of one process")
    pids = []

    def stop(pid):
        os.kill(pid, signal.SIGSTOP)
        pids.append(pid)

    yield stop
    for stopped_pid in pids:
        os.kill(stopped_pid, signal.SIGCONT)


def seconds(work):
    start = time.time()
    work()
    return time.time() - start


def test_a_check_that_gets_no_answer_ends_in_time_and_another_connection_serves(clock, stopped):
    before = pid()
    end_of_work()
    clock.forward(1)
    stopped(before)
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=0.2):
        assert seconds(pid) < 0.2 + 1
    assert before not in [pid()]
    end_of_work()


def test_a_rollback_that_gets_no_answer_ends_in_time_and_its_connection_is_closed(stopped):
    connection.cursor().execute("SELECT 1" if support.BEFORE_1_6 else "BEGIN")
    stopped(pid())
    before = discarded("dead")
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=0.2):
        assert seconds(end_of_work) < 0.2 + 1
    assert discarded("dead") == before + 1


@pytest.mark.skipif(not support.BEFORE_1_6, reason="Django rolls back by itself before 1.6")
def test_a_rollback_without_an_answer_ends_in_time_in_a_managed_block_that_was_never_left(stopped):
    from django.db import transaction

    transaction.enter_transaction_management()
    transaction.managed(True)
    stopped(pid())
    transaction.set_dirty()
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=0.2):
        assert seconds(end_of_work) < 0.2 + 1
    assert not transaction.is_managed()


def test_check_timeout_holds_in_a_forked_child(clock, stopped):
    pid()
    end_of_work()
    clock.forward(1)
    pid()  # the watchdog runs now
    end_of_work()

    def work():
        before = pid()
        end_of_work()
        clock.forward(1)
        os.kill(before, signal.SIGSTOP)
        try:
            with settings_as(PERSISTCONN_CHECK_TIMEOUT=0.2):
                assert seconds(pid) < 0.2 + 1
        finally:
            os.kill(before, signal.SIGCONT)

    assert support.in_child(work) == 0
