"""Connections that died while they were idle in the pool, and those that did not."""

from __future__ import absolute_import

import contenders
import pytest
import scenarios
from clients import Workers
from databases import chosen
from proxy import Proxy
from scenarios import Scenario, repeat, seconds_to_connect, settings, through
from support import later, wait_until

#: Seconds that the first request may take beyond its connect, however many sessions have died.
MORE = 0.05
LONG = chosen.SLEEP % 30


@pytest.mark.parametrize("count", [4, 8, 32])
def test_the_first_request_does_not_pay_for_each_dead_connection(cluster, count):
    with Scenario("%d dead pooled connections" % count) as scenario, through(cluster):
        for _ in repeat(10):
            with Workers(scenario.ledger, count) as workers:
                pids = [unit.pid for unit in workers.at_once()]
                cluster.kill(pids)
                scenario.injected += len(set(pids))
                before = opened()
                units = [workers.do()]
                scenario.require(opened() - before == 1, opened() - before, "connects")
                # The time of one unit says little: the machine may just be busy.
                if scenarios.full:
                    scenario.require_within(MORE + seconds_to_connect(), units)
        scenario.require_success()


def opened():
    return contenders.counts().get("opened", 0)


def test_the_loss_of_a_pooled_connection_costs_no_living_connection(cluster, ours):
    with Scenario("1 of 8 pooled connections dies") as scenario, through(cluster):
        for _ in repeat(10):
            with Workers(scenario.ledger, 8) as workers:
                before = [unit.pid for unit in workers.at_once()]
                cluster.kill(before[:1])
                scenario.injected += 1
                # Some connections may have been taken before the loss was known: they are checked
                # next.
                workers.at_once()
                after = [unit.pid for unit in workers.at_once()]
                scenario.require(set(before[1:]) < set(after), before, "became", after)
        scenario.require_success()


def test_after_a_loss_connections_that_died_in_silence_are_found_before_their_use(cluster, ours):
    with Scenario("silent deaths beside one in use") as scenario, Proxy(cluster) as proxy:
        with through(proxy), settings(CHECK_AFTER=60, CHECK_TIMEOUT=0.5):
            with Workers(scenario.ledger, 4) as workers:
                workers.at_once()
                lost = workers.do("reading", first=chosen.SUICIDE)
                scenario.require(lost.is_visible, "not raised:", lost)
                proxy.stall()
                scenario.injected = 3
                unit = workers.do()
        scenario.require_success([unit])
        scenario.require_within(3 * 0.5 + 0.5, [unit])


def test_a_loss_outside_a_transaction_costs_the_request_one_statement(cluster, ours):
    with Scenario("session lost in use, outside a transaction") as scenario, through(cluster):
        with Workers(scenario.ledger) as workers:
            for _ in repeat(100):
                with later(0, lambda: kill_the_sleeper(cluster)):
                    unit = workers.do("twice", first=LONG)
                scenario.injected += 1
                scenario.require(unit.error is not None, "not raised:", unit)
        scenario.require_success()


def kill_the_sleeper(cluster):
    wait_until(lambda: cluster.running(LONG))
    cluster.kill(cluster.running(LONG))
