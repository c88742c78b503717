"""Connecting to a server that is away, lets nobody in, or rejects the client: how many tries."""

from __future__ import absolute_import

import socket

import contenders
import pytest
import support
from clients import Workers
from databases import chosen
from proxy import Proxy
from scenarios import Scenario, settings, through
from support import later

REFUSAL = chosen.refusal(*chosen.PASSING[0])
MANY = 16


@pytest.fixture
def proxy(cluster):
    with Proxy(cluster) as proxy:
        yield proxy


@pytest.fixture
def locked(cluster):
    """A role with a password."""
    cluster.create_role("locked", "first")
    yield {"USER": "locked", "PASSWORD": "first"}
    contenders.close_all()
    cluster.drop_role("locked")


def attempts(scenario, proxy, threads):
    """How often ``threads`` threads together try to connect within one deadline."""
    before = proxy.accepted
    with Workers(scenario.ledger, threads) as workers:
        units = workers.do_at_once()
    scenario.injected += threads
    scenario.require(all(unit.is_visible for unit in units), "served:", units)
    return proxy.accepted - before


def test_many_threads_try_to_connect_about_as_often_as_a_single_thread(proxy):
    proxy.answer = REFUSAL
    with Scenario("server that refuses for ever, %d threads" % MANY) as scenario:
        with through(proxy), settings(CONNECT_DEADLINE=1.5):
            together = attempts(scenario, proxy, MANY)
            alone = attempts(scenario, proxy, 1)
        scenario.note = "%d attempts of 1 thread, %d of %d" % (alone, together, MANY)
        scenario.require(alone > 3, "only", alone, "attempts")
        # Each thread may have tried once before any of them knew of the outage.
        most = MANY + 2 * alone
        scenario.require(together <= most, together, "attempts, where one makes", alone)
        scenario.require_within(1.5 + 0.5, scenario.ledger.units)


def test_a_server_that_comes_up_within_the_deadline_costs_no_error(proxy):
    proxy.answer = REFUSAL
    with Scenario("server that refuses for 1 s, %d threads" % MANY) as scenario:
        with through(proxy), Workers(scenario.ledger, MANY) as workers:
            with later(1, lambda: setattr(proxy, "answer", None)):
                workers.do_at_once()
            scenario.injected = MANY
        scenario.require_success()


WRONG = {
    "wrong password": {"USER": "locked", "PASSWORD": "wrong"},
    "unknown role": {"USER": "nobody"},
    "unknown database": {"NAME": "nowhere"},
    "bad option": {"OPTIONS": {"no_such_option": "1"}},
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_permanent_error_while_connecting_is_not_tried_again(proxy, locked, what):
    with Scenario(what) as scenario, through(proxy), Workers(scenario.ledger) as workers:
        with support.database_as(**WRONG[what]):
            unit = workers.do()
            scenario.injected = 1
        scenario.require(unit.is_visible, "served:", unit)
        # psycopg 3 would open connections of their own to ask for a password and for TLS.
        scenario.require(proxy.accepted <= 1, proxy.accepted, "attempts")
        scenario.require_within(1, [unit])


@pytest.mark.parametrize("user", ["superuser", "user"])
def test_connecting_waits_for_a_free_slot_of_the_server(cluster, locked, user):
    with Scenario("no slot free for 0.5 s, %s" % user) as scenario, through(cluster):
        with support.database_as(**(locked if user == "user" else {})):
            taken = take_all_slots(cluster)
            with later(0.5, lambda: [session.close() for session in taken]):
                with Workers(scenario.ledger, 4) as workers:
                    workers.do_at_once()
        scenario.injected = len(taken)
        scenario.require_success()


def take_all_slots(cluster):
    taken = []
    while True:
        try:
            taken.append(cluster.connect())
        except support.driver.Error:
            return taken


def test_connecting_to_a_server_that_does_not_answer_ends_with_the_deadline(proxy):
    with Scenario("connect into a black hole") as scenario, through(proxy):
        proxy.deaf = True
        with settings(CONNECT_DEADLINE=2), Workers(scenario.ledger, 4) as workers:
            units = workers.do_at_once()
            scenario.injected = len(units)
            scenario.require(all(unit.is_visible for unit in units), "served in the dark")
            # libpq counts in whole seconds.
            scenario.require_within(2 + 1 + 0.5, units)
            proxy.heal()
            scenario.require_success([workers.do()])


def test_a_new_password_is_used_for_new_connections_only(cluster, locked):
    with Scenario("password changed") as scenario, through(cluster):
        with support.database_as(**locked), Workers(scenario.ledger) as workers:
            kept = workers.do()
            cluster.change_password("locked", "second")
            scenario.injected = 1
            scenario.require(workers.do().pid == kept.pid, "the kept session is not used")
            with support.database_as(PASSWORD="second"):
                units = workers.do(), workers.do()
        scenario.require_success()
        scenario.require(units[0].pid == units[1].pid, "is not kept:", units)


def keepalive(raw):
    line = socket.fromfd(chosen.fileno(raw), socket.AF_INET, socket.SOCK_STREAM)
    try:
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        on = line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return [on] + [line.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    finally:
        line.close()


def test_keepalives_are_on(cluster, ours):
    with through(cluster):
        assert support.in_thread(look_at_keepalives) == [1, 30, 10, 3]


@support.only_on("postgresql", "MySQL's drivers have no such options")
def test_keepalives_in_the_users_options_win(cluster, ours):
    with through(cluster, keepalives_idle=7, keepalives_interval=8, keepalives_count=5):
        assert support.in_thread(look_at_keepalives) == [1, 7, 8, 5]


def look_at_keepalives():
    from django.db import connection

    connection.cursor().close()
    try:
        return keepalive(connection.connection)
    finally:
        support.end_of_work()
