"""Requests that wait at PgBouncer for a session of the server, and what kept connections hold there."""

from __future__ import absolute_import

import threading

import contenders
import pytest
import support
from clients import Workers
from middlemen import PgBouncer
from scenarios import Scenario, number, repeat, settings, through
from support import database_as, later
from watching import Console, Holder

import persistconn

ONE = {"default_pool_size": 1}


def discarded(reason):
    return persistconn.stats()["default"]["discarded"].get(reason, 0)


def check_while_the_session_is_held(cluster, **values):
    """Have an idle connection checked while another client holds the only session for a second."""
    failed = discarded("check failed")
    with Scenario("PgBouncer, a check waits for a session: %r" % values) as scenario:
        with PgBouncer(cluster, **ONE) as bouncer, through(bouncer), settings(**values):
            with Workers(scenario.ledger) as workers:
                for _ in repeat(5):
                    workers.do("reading")
                    holder = Holder(bouncer)
                    holder.hold()
                    with later(1, holder.let_go):
                        workers.do("reading")
        scenario.require_success()
    return discarded("check failed") - failed


def test_a_check_that_waits_longer_than_its_timeout_costs_the_connection_but_no_request(cluster):
    assert check_while_the_session_is_held(cluster, CHECK_AFTER=0, CHECK_TIMEOUT=0.5) == number(5)


def test_a_check_with_a_longer_timeout_waits_for_a_session(cluster):
    assert check_while_the_session_is_held(cluster, CHECK_AFTER=0, CHECK_TIMEOUT=30) == 0


def test_max_conns_lets_requests_wait_in_their_process_and_not_at_pgbouncer(cluster):
    with Scenario("PgBouncer, 8 threads over MAX_CONNS 2") as scenario:
        with PgBouncer(cluster, query_wait_timeout=1, default_pool_size=2) as bouncer:
            with through(bouncer), settings(MAX_CONNS=2, TIMEOUT=30):
                with Workers(scenario.ledger, 8) as workers:
                    workers.do_at_once("transactional", pause=0.5)
        scenario.require_success()


def in_session_mode(cluster):
    return PgBouncer(cluster, pool_mode="session", query_wait_timeout=1, **ONE)


def test_a_kept_connection_in_session_mode_holds_a_session_that_others_wait_for(cluster):
    with in_session_mode(cluster) as bouncer, through(bouncer), another_alias(bouncer):
        support.unit_of_work()
        with settings(CONNECT_DEADLINE=0), pytest.raises(support.database_errors()):
            support.in_thread(lambda: support.unit_of_work(contenders.APART[0]))
        persistconn.drain()
        support.in_thread(lambda: support.unit_of_work(contenders.APART[0]))


def another_alias(bouncer):
    """An alias that shares no connection with the first, like another process."""
    return database_as(contenders.APART[0], HOST=bouncer.host, PORT=str(bouncer.port))


def test_pause_in_session_mode_waits_for_kept_connections_until_the_drain(cluster):
    paused = threading.Event()

    def pause():
        with Console(bouncer) as console:
            console.tell("PAUSE postgres")
            paused.set()
            console.tell("RESUME postgres")

    with in_session_mode(cluster) as bouncer, through(bouncer):
        support.unit_of_work()
        thread = threading.Thread(target=pause)
        thread.start()
        try:
            with Console(bouncer) as console:
                assert support.wait_until(lambda: is_pausing(console))
            assert not paused.is_set()
        finally:
            persistconn.drain()
            thread.join(30)
        assert paused.is_set()


def is_pausing(console):
    databases = console.tell("SHOW DATABASES")
    return any(row["name"] == "postgres" and int(row["paused"]) for row in databases)
