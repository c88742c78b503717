"""Another server becomes the one that takes writes, or the server takes none for a while."""

from __future__ import absolute_import

import time

import pytest
import support
from clients import Clients, Workers
from cluster import Cluster
from outages import Outages
from scenarios import Scenario, repeat, settings, through
from support import later

pytestmark = support.only_on("postgresql", "libpq chooses the server that takes writes")

#: Seconds from the promotion to the first write.
SOON = 2


class Both(object):
    """Two servers, of which the driver must choose the one that takes writes."""

    def __init__(self, first, second):
        self.host = "%s,%s" % (first.host, second.host)
        self.port = "%d,%d" % (first.port, second.port)


@pytest.fixture
def clusters():
    """A list of clusters. All of them are stopped after the test."""
    started = [Cluster()]
    try:
        started[0].start()
        yield started
    finally:
        for cluster in started:
            cluster.stop()


def test_writes_go_on_after_each_failover(clusters):
    outages = Outages()
    with Scenario("primary killed, standby promoted") as scenario:
        for _ in repeat(5):
            clusters.append(clusters[-1].standby())
            scenario.cluster = clusters[-1]
            fail_over(scenario, outages, clusters[-2], clusters[-1])
            scenario.injected += 1
        scenario.require_in_use(outages)


def fail_over(scenario, outages, primary, standby):
    with through(Both(primary, standby), target_session_attrs="read-write"):
        with Clients(scenario.ledger, 4, pause=0.002, idle=(0, 0.01)) as clients:
            scenario.require(clients.have_served(50), "no unit is served")
            began = time.time()
            primary.down("immediate")
            outages.add(began, time.time())
            time.sleep(0.5)
            standby.promote()
            promoted = time.time()
            scenario.require(clients.have_served(50), "no unit is served any more")
    served = [u.ended for u in scenario.ledger.units if u.is_acknowledged and u.ended > promoted]
    first = min(served or [time.time()]) - promoted
    scenario.require(first <= SOON, "the first write came after", first, "s")


def test_a_session_that_became_read_only_is_not_used(cluster):
    fault = "default_transaction_read_only for 0.3 s, by reload"
    with Scenario(fault) as scenario, settings(CHECK_AFTER=0):
        with through(cluster, target_session_attrs="read-write"):
            with Workers(scenario.ledger, 4) as workers:
                for _ in repeat(20):
                    scenario.injected += len(workers.at_once())
                    cluster.reload(default_transaction_read_only="on")
                    with later(0.3, lambda: cluster.reload(default_transaction_read_only=None)):
                        workers.do_at_once()
        scenario.require_success()
