"""HAProxy before a primary and its standby: another server takes over while sessions are alive."""

from __future__ import absolute_import

import time

import support
from clients import Clients, Workers
from middlemen import HAProxy
from outages import Outages
from scenarios import Scenario, repeat, settings, through

import persistconn

THREADS = 4
PORT = "SELECT inet_server_port()"


def swap(proxy, old=0, new=1, ends_sessions=False):
    proxy.order("set server database/s%d state maint" % old)
    if ends_sessions:
        proxy.order("shutdown sessions server database/s%d" % old)
    proxy.order("set server database/s%d state ready" % new)


def ports(number):
    """The ports of the servers that so many connections at once have."""
    if number == 0:
        return []
    mine = support.fetch(PORT)
    others = support.in_thread(lambda: ports(number - 1))
    support.end_of_work()
    return [mine] + others


def test_sessions_stay_with_their_server_after_a_swap_until_the_drain(pair):
    primary, standby = pair
    with HAProxy(primary, standby) as proxy, through(proxy):
        assert ports(THREADS) == [primary.port] * THREADS
        swap(proxy)
        assert ports(THREADS) == [primary.port] * THREADS
        persistconn.drain()
        assert ports(THREADS) == [standby.port] * THREADS


def test_idle_sessions_that_haproxy_ends_at_a_swap_cost_no_request(pair):
    primary, standby = pair
    with Scenario("HAProxy, swap and shutdown sessions, idle") as scenario:
        scenario.cluster = primary
        with HAProxy(primary, standby) as proxy, through(proxy):
            with Workers(scenario.ledger, THREADS) as workers:
                for turn in repeat(50):
                    workers.at_once("reading")
                    swap(proxy, turn % 2, 1 - turn % 2, ends_sessions=True)
                    # HAProxy answers before it has ended them.
                    assert support.wait_until(lambda: proxy.sessions() == 0)
                    scenario.injected += THREADS
                    workers.at_once("reading")
        scenario.require_success()


def test_a_failover_costs_only_units_whose_session_was_in_use(pair):
    primary, standby = pair
    outages = Outages()
    with Scenario("HAProxy, primary stopped, standby promoted") as scenario:
        scenario.cluster = standby
        # Longer than the promotion takes on a busy machine.
        with HAProxy(primary, standby) as proxy, through(proxy), settings(CONNECT_DEADLINE=30):
            with Clients(scenario.ledger, THREADS, pause=0.002, idle=(0, 0.01)) as clients:
                scenario.require(clients.have_served(50), "no unit is served")
                began = time.time()
                primary.down("immediate")
                standby.promote()
                swap(proxy, ends_sessions=True)
                outages.add(began, time.time())
                scenario.injected = 1
                scenario.require(clients.have_served(50), "no unit is served any more")
        scenario.require_in_use(outages)


def test_sessions_that_haproxy_ends_for_their_idleness_cost_no_request(cluster):
    with Scenario("HAProxy, timeout client 300 ms") as scenario:
        with HAProxy(cluster, client="300ms", server="300ms") as proxy, through(proxy):
            with Workers(scenario.ledger, THREADS) as workers:
                for _ in repeat(20):
                    workers.at_once()
                    assert support.wait_until(lambda: cluster.backends() == [])
                    scenario.injected += THREADS
                    workers.at_once()
        scenario.require_success()


def test_max_idle_below_haproxy_s_timeout_closes_connections_first(cluster):
    with HAProxy(cluster, client="1m", server="1m") as proxy, through(proxy):
        with settings(MAX_IDLE=0.2):
            before = discarded("idle")
            support.unit_of_work()
            assert support.wait_until(lambda: discarded("idle") == before + 1)


def discarded(reason):
    return persistconn.stats()["default"]["discarded"].get(reason, 0)
