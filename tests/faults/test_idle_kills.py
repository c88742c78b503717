"""Sessions that are terminated: while nobody uses them, and in any state."""

from __future__ import absolute_import

import contextlib
import random
import threading
import time

import contenders
import pytest
import scenarios
from clients import Clients, Workers
from killer import Killer
from scenarios import Scenario, through

VIEWS = ("transactional", "autocommitting")


@contextlib.contextmanager
def four_that_work_in_step(ledger):
    """Four threads that work at the same moments, so that each session is idle for 50 to 100 ms."""
    ended = threading.Event()

    def work():
        with Workers(ledger, 4) as workers:
            while not ended.is_set():
                workers.at_once(random.choice(VIEWS))
                time.sleep(random.uniform(0.05, 0.1))

    thread = threading.Thread(target=work)
    thread.daemon = True
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def require_none_before_the_window(scenario, killer):
    """Require that no error came before the window. Return how many errors came in it."""
    visible = scenario.ledger.visible()
    within = [unit for unit in visible if killer.hit_in_window(unit)]
    scenario.note = "%d in the window of 5 ms" % len(within)
    for unit in visible:
        scenario.require(unit in within, "before the window:", unit, killer.of(unit))
    return len(within)


def test_sessions_terminated_while_idle_cost_nothing(cluster):
    killer = Killer(cluster)
    with Scenario("idle session terminated") as scenario, through(cluster):
        with four_that_work_in_step(scenario.ledger):
            scenario.injected = killer.terminate(1000, cluster.IDLE)
        within = require_none_before_the_window(scenario, killer)
        if scenarios.full:
            # How many kills fall into the window is the machine's doing, and with few it is chance.
            most = 0.02 * scenario.injected
            scenario.require(within <= most, within, "in the window, more than", most)


def test_sessions_terminated_while_idle_for_a_moment_cost_nothing(cluster):
    """No bound is required: the busier a pool is, the likelier is a use within the window."""
    killer = Killer(cluster)
    with Scenario("idle session of a busy pool terminated") as scenario, through(cluster):
        with Clients(scenario.ledger, 4, idle=(0.05, 0.1), views=VIEWS):
            scenario.injected = killer.terminate(500, cluster.IDLE)
        require_none_before_the_window(scenario, killer)


def at_random():
    """Seconds until the next request of a client independent of the others: 0.1 on average."""
    return min(1, random.expovariate(10))


@pytest.mark.parametrize("aliases, pools", [(["default"], "1 pool"), (contenders.APART, "4 pools")])
def test_independent_clients_see_a_terminated_session_only_at_or_just_before_its_use(
    cluster, aliases, pools
):
    """No bound is required: the share of kills seen depends on how often a session is used."""
    killer = Killer(cluster)
    with Scenario("session of independent clients terminated, " + pools) as scenario:
        with through(cluster), Clients(
            scenario.ledger, 4, idle=at_random, views=VIEWS, aliases=aliases
        ):
            scenario.injected = killer.terminate_at_random(500 if scenarios.full else 10, 0.25)
        require_kills_to_be_seen_at_a_use_alone(scenario, killer)
        require_each_pool_its_own_sessions(scenario)


def require_kills_to_be_seen_at_a_use_alone(scenario, killer):
    visible = scenario.ledger.visible()
    at_use = [unit for unit in visible if killer.hit_in_use(unit)]
    idle = [unit for unit in at_use if killer.hit_before_statement(unit)]
    scenario.note = (
        "%.1f %% of the kills seen: %d idle less than 5 ms before the statement,"
        " %d in a running statement, %d other"
    ) % (
        100.0 * len(visible) / max(1, scenario.injected),
        len(idle),
        len(at_use) - len(idle),
        len(visible) - len(at_use),
    )
    for unit in visible:
        scenario.require(unit in at_use, "neither idle for a moment nor in use:", unit)


def require_each_pool_its_own_sessions(scenario):
    users = {}
    for unit in scenario.ledger.units:
        users.setdefault(unit.pid, set()).add(unit.alias)
    shared = [pid for pid in users if pid is not None and len(users[pid]) > 1]
    scenario.require(not shared, "used through more than one alias:", shared)


def test_a_session_terminated_in_any_state_costs_only_the_transaction_that_used_it(cluster):
    killer = Killer(cluster)
    with Scenario("session terminated in any state") as scenario, through(cluster):
        with Clients(scenario.ledger, 4, pause=0.01):
            scenario.injected = killer.terminate(1000, cluster.ANY)
        scenario.require_in_use(killer)
        pids = [unit.pid for unit in scenario.ledger.visible()]
        scenario.require(len(pids) == len(set(pids)), "one session, several errors")
