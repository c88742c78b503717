"""The server restarts, crashes, is away for long, or ends sessions of its own accord."""

from __future__ import absolute_import

import time

import databases
import pytest
import scenarios
from clients import Clients, Workers
from outages import Outages
from scenarios import Scenario, number, repeat, settings, through
from support import wait_until

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
    # PostgreSQL's backends outlive a postmaster that was killed, but not for long enough to meet the
    # next.
    return began, time.time() if mode == "kill" else gone


def crash(cluster, mode):
    """Kill a backend, so that the postmaster ends all others. Return when that began and ended."""
    began = time.time()
    assert cluster.crash()
    return began, time.time()


class UnixSocket(object):
    """Over a Unix socket psycopg2 raises another error for a loss, and does not see the loss."""

    def __init__(self, cluster):
        self.host, self.port = cluster.unix_socket, cluster.port


FAULTS = {}
FAULTS["postgresql"] = [
    ("restart -m fast", restart, "fast", 50),
    ("restart -m immediate", restart, "immediate", 50),
    ("restart -m immediate, unix socket", restart, "immediate", 20),
    ("kill -9 of the postmaster, and start", restart, "kill", 20),
    ("kill -9 of a backend", crash, None, 20),
    ("kill -9 of a backend, unix socket", crash, None, 20),
]
# MariaDB has one process for all sessions.
FAULTS["mariadb"] = [
    ("restart (SIGTERM)", restart, "fast", 50),
    ("restart (SIGTERM), unix socket", restart, "fast", 20),
    ("kill -9 of the server, and start", restart, "kill", 50),
    ("kill -9 of the server, and start, unix socket", restart, "kill", 20),
]


@pytest.mark.parametrize("fault, inject, mode, times", FAULTS[databases.NAME])
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


def test_idle_sessions_that_the_server_ends_cost_nothing(cluster):
    (fault,) = cluster.idle_timeout
    with Scenario(fault) as scenario, through(cluster):
        cluster.reload(**cluster.idle_timeout)
        with Workers(scenario.ledger, number(200) // number(5)) as workers:
            pids = [unit.pid for unit in workers.at_once()]
            for _ in repeat(5):
                scenario.injected += len(cluster.backends())
                ended = wait_until(lambda: cluster.backends() == [])
                scenario.require(ended, "sessions that outlived their idleness")
                pids += [unit.pid for unit in workers.at_once()]
        scenario.require(len(pids) == len(set(pids)), "a session was used again")
        scenario.require_success()


def test_an_idle_transaction_that_the_server_ends_costs_only_itself(cluster):
    (fault,) = cluster.idle_transaction_timeout
    with Scenario(fault) as scenario, through(cluster):
        cluster.reload(**cluster.idle_transaction_timeout)
        with Workers(scenario.ledger, number(200) // number(5)) as workers:
            for _ in repeat(5):
                idle = workers.do_at_once(
                    on_hold=lambda: time.sleep(cluster.idle_transaction_seconds)
                )
                scenario.injected += len(idle)
                scenario.require(all(unit.is_visible for unit in idle), "no error:", idle)
                scenario.require_success(workers.at_once())
