"""A firewall between the clients and the server forgets what it knew, or lets nothing through."""

from __future__ import absolute_import

import pytest
import scenarios
from clients import Workers
from cluster import Cluster
from namespaces import DROP, RESET, Namespace, why_not
from scenarios import Scenario, repeat, settings, through
from support import later

SLACK = 0.5


@pytest.fixture(scope="module")
def distant(missing):
    """A namespace with a server in it."""
    reason = why_not()
    if reason:
        missing(reason)
    with Namespace() as namespace:
        cluster = Cluster(namespace.host, namespace)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def town(distant):
    yield distant
    distant.namespace.heal()


def timeout():
    return 2 if scenarios.full else 1


def forget(cluster, verdict):
    """Let the firewall forget the present connections."""
    ports = ", ".join(map(str, cluster.client_ports()))
    cluster.namespace.block("tcp sport { %s }" % ports, verdict)


FAULTS = [
    ("firewall forgets idle connections, drops", DROP, 1),
    ("firewall forgets idle connections, answers RST", RESET, 0),
]


@pytest.mark.parametrize("fault, verdict, waits", FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_connection_that_a_firewall_forgot_is_replaced_within_the_check_timeout(
    town, fault, verdict, waits
):
    with Scenario(fault) as scenario, through(town):
        scenario.cluster = town
        with settings(CHECK_AFTER=0, CHECK_TIMEOUT=timeout()):
            for _ in repeat(5):
                with Workers(scenario.ledger, 4) as workers:
                    scenario.injected += len(workers.at_once())
                    forget(town, verdict)
                    units = workers.do_at_once()
                    scenario.require_within(waits * timeout() + SLACK, units)
                    town.namespace.heal()
        scenario.require_success()


@pytest.mark.parametrize("verdict", [DROP, RESET], ids=["drop", "reset"])
def test_a_closed_firewall_costs_nothing_if_it_opens_in_time(town, verdict):
    with Scenario("firewall closed for 2 s: %s" % verdict) as scenario, through(town):
        scenario.cluster = town
        with settings(CHECK_AFTER=0, CHECK_TIMEOUT=1), Workers(scenario.ledger, 4) as workers:
            for _ in repeat(5):
                workers.at_once()
                town.namespace.block("tcp dport %d" % town.port, verdict)
                scenario.injected += 1
                with later(2, town.namespace.heal):
                    workers.do_at_once()
        scenario.require_success()
