"""The server restarts, crashes, is away for long, or ends sessions of its own accord."""

from __future__ import absolute_import

import os
import random
import signal
import time

import pytest
import scenarios
from clients import Clients, Workers
from outages import Outages
from scenarios import Scenario, repeat, settings, through

#: Seconds that the server is away, and the CONNECT_DEADLINE meanwhile.
AWAY, DEADLINE = 20, 5
SHORT_AWAY, SHORT_DEADLINE = 3, 0.5
#: Seconds from the server's first welcome to the first success.
SOON = 0.5


def restart(cluster, mode):
    """Restart the server. Return when that began, and when the last session had ended."""
    began = time.time()
    cluster.down(mode)
    gone = time.time()
    cluster.up()
    # Backends outlive a postmaster that was killed, but not for long enough to meet the next.
    return began, time.time() if mode == "kill" else gone


def kill_a_backend(cluster, mode):
    """Kill a backend, so that the postmaster ends all others. Return when that began and ended."""
    began = time.time()
    watching = cluster.connect()
    os.kill(random.choice(cluster.backends()), signal.SIGKILL)
    cluster.wait_for_the_end_of(watching)
    cluster.wait_until_it_accepts()
    return began, time.time()


class UnixSocket(object):
    """Over a Unix socket psycopg2 raises another error for a loss, and does not see the loss."""

    def __init__(self, cluster):
        self.host, self.port = cluster.folder, cluster.port


FAULTS = [
    ("restart -m fast", restart, "fast", 50),
    ("restart -m immediate", restart, "immediate", 50),
    ("restart -m immediate, unix socket", restart, "immediate", 20),
    ("kill -9 of the postmaster, and start", restart, "kill", 20),
    ("kill -9 of a backend", kill_a_backend, None, 20),
    ("kill -9 of a backend, unix socket", kill_a_backend, None, 20),
]


@pytest.mark.parametrize("fault, inject, mode, times", FAULTS, ids=[f[0] for f in FAULTS])
def test_a_restart_costs_only_units_of_work_whose_session_was_in_use(
    cluster, fault, inject, mode, times
):
    door = UnixSocket(cluster) if "unix" in fault else cluster
    outages = Outages()
    with Scenario(fault) as scenario, through(door):
        with Clients(scenario.ledger, 4, pause=0.002, idle=(0, 0.01)) as clients:
            for _ in repeat(times):
                clients.have_served(20)
                outages.add(*inject(cluster, mode))
                scenario.injected += 1
            scenario.require(clients.have_served(20), "no unit is served any more")
        scenario.require_in_use(outages)


def test_work_goes_on_soon_after_the_server_accepts_again_after_a_long_outage(cluster):
    away, deadline = (AWAY, DEADLINE) if scenarios.full else (SHORT_AWAY, SHORT_DEADLINE)
    with Scenario("server away for %d s" % away) as scenario, through(cluster):
        with settings(CONNECT_DEADLINE=deadline), Clients(
            scenario.ledger, 4, idle=(0.01, 0.02)
        ) as clients:
            clients.have_served(20)
            cluster.down("fast")
            gone = time.time()
            time.sleep(away)
            cluster.up()
            accepted, scenario.injected = time.time(), 1
            scenario.require(clients.have_served(50), "no unit is served any more")
        served = [u.ended for u in scenario.ledger.units if u.is_acknowledged and u.ended > gone]
        first = min(served or [time.time()]) - accepted
        scenario.note = "first success %.3f s after the server accepts" % max(0, first)
        scenario.require(first <= SOON, "the first success came after", first, "s")
        failed = scenario.ledger.visible()
        scenario.require(failed, "none of the units noticed")
        scenario.require_within(deadline + 0.5, failed)
        scenario.timed = None
        for unit in failed:
            scenario.require(unit.began < accepted, "began after the server was back:", unit)


def test_sessions_that_end_by_idle_session_timeout_cost_nothing(cluster):
    with Scenario("idle_session_timeout") as scenario, through(cluster):
        cluster.reload(idle_session_timeout="100ms")
        with Workers(scenario.ledger, 4) as workers:
            pids = []
            for _ in repeat(50):
                pids += [unit.pid for unit in workers.at_once()]
                time.sleep(0.2)
        scenario.injected = len(set(pids))
        scenario.require(scenario.injected == len(pids), "sessions that outlived their idleness")
        scenario.require_success()


def test_idle_in_transaction_session_timeout_costs_only_the_idle_transaction(cluster):
    with Scenario("idle_in_transaction_session_timeout") as scenario, through(cluster):
        cluster.reload(idle_in_transaction_session_timeout="250ms")
        with Workers(scenario.ledger, 4) as workers:
            for _ in repeat(50):
                idle = workers.do_at_once(on_hold=lambda: time.sleep(0.5))
                scenario.injected += len(idle)
                scenario.require(all(unit.is_visible for unit in idle), "no error:", idle)
                scenario.require_success(workers.at_once())
