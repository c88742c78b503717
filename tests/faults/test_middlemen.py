"""PgBouncer and HAProxy die and come back, or outlive the server behind them."""

from __future__ import absolute_import

import signal
import time

import contenders
import pytest
import scenarios
import support
from basics import find_program
from clients import Clients, Workers
from middlemen import HAProxy, PgBouncer
from outages import Outages
from scenarios import Scenario, repeat, settings, through
from support import later

SIGNALS = {"SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL}
SLACK = 0.5


only_pgbouncer = support.only_on("postgresql", "PgBouncer speaks PostgreSQL's protocol alone")


@pytest.fixture(
    params=[pytest.param(PgBouncer, marks=only_pgbouncer), HAProxy], ids=["pgbouncer", "haproxy"]
)
def middleman(request, cluster, missing):
    if find_program(request.param.name) is None:
        missing("%s is not installed" % request.param.name)
    with request.param(cluster) as middleman:
        yield middleman


@pytest.mark.parametrize("end", sorted(SIGNALS))
def test_a_restart_of_a_middleman_while_all_sessions_are_idle_costs_nothing(middleman, end):
    with Scenario("%s: %s, and start" % (middleman.name, end)) as scenario, through(middleman):
        with Workers(scenario.ledger, 4) as workers:
            for _ in repeat(20):
                workers.at_once()
                middleman.down(SIGNALS[end])
                scenario.injected += 1
                middleman.up()
                workers.at_once()
        scenario.require_success()


def test_a_middleman_killed_during_work_costs_only_units_whose_session_was_in_use(middleman):
    with Scenario("%s away while clients work" % middleman.name) as scenario, through(middleman):
        outages = Outages()
        with Clients(scenario.ledger, 4, pause=0.002, idle=(0, 0.01)) as clients:
            for _ in repeat(20):
                clients.have_served(20)
                began = time.time()
                middleman.down(signal.SIGKILL)
                outages.add(began, time.time())
                middleman.up()
                scenario.injected += 1
            clients.have_served(20)
        scenario.require_in_use(outages)


@only_pgbouncer
def test_pgbouncer_without_its_server_is_noticed_within_the_check_timeout(cluster, missing):
    if find_program("pgbouncer") is None:
        missing("pgbouncer is not installed")
    with Scenario("PgBouncer up, PostgreSQL down") as scenario:
        with PgBouncer(cluster) as bouncer, through(bouncer):
            with settings(CHECK_AFTER=0, CHECK_TIMEOUT=timeout()):
                for _ in repeat(5):
                    outage(scenario, cluster)
        scenario.require_success()


def outage(scenario, cluster):
    """Stop PostgreSQL, and start it only when the time of the checks is over."""
    with Workers(scenario.ledger, 4) as workers:
        workers.at_once()
        checks = failed_checks()
        cluster.down("fast")
        seen = []
        with later(timeout() + SLACK, lambda: seen.append(failed_checks() - checks)):
            with later(timeout() + SLACK + 0.1, cluster.up):
                units = workers.do_at_once()
        scenario.injected += len(units)
        scenario.require(seen == [len(units)], seen, "checks had failed in time")


def timeout():
    return 2 if scenarios.full else 1


def failed_checks():
    return contenders.counts().get("discarded", {}).get("check failed", 0)
