"""Another server becomes the one that takes writes, or the server takes none for a while."""

from __future__ import absolute_import

import time

import pytest
import support
from clients import Clients, Workers
from cluster import Cluster
from outages import Outages
from proxy import Proxy
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


# Without any option a proxy leads to the server that takes writes. The old primary lives on as a
# standby would: its sessions can read, and each write gets the same error.


def move(proxy, primary, standby):
    primary.reload(default_transaction_read_only="on")
    standby.promote()
    proxy.lead_to(standby)


def test_without_options_each_session_in_use_fails_at_most_one_write(clusters):
    failed = []
    with Scenario("proxy moved to a promoted standby, no options") as scenario:
        for _ in repeat(5):
            clusters.append(clusters[-1].standby())
            scenario.cluster = clusters[-1]
            with Proxy(clusters[-2]) as proxy, through(proxy):
                with Workers(scenario.ledger, 8) as workers:
                    workers.at_once()
                    move(proxy, *clusters[-2:])
                    scenario.injected += 4  # of the eight sessions in the pool, these are in use
                    units = workers.do_at_once(workers=range(4))
                    failed += [unit for unit in units if unit.is_visible]
                    scenario.require_success(workers.do_at_once() + workers.at_once())
        scenario.note = "%d in use" % len(failed)


def test_without_options_no_write_fails_after_the_first_on_the_new_primary(clusters):
    with Scenario("proxy moved under work, no options") as scenario:
        for _ in repeat(5):
            clusters.append(clusters[-1].standby())
            scenario.cluster = clusters[-1]
            with Proxy(clusters[-2]) as proxy, through(proxy):
                with Clients(scenario.ledger, 4, pause=0.002, idle=(0, 0.01)) as clients:
                    scenario.require(clients.have_served(50), "no unit is served")
                    move(proxy, *clusters[-2:])
                    moved = time.time()
                    scenario.require(clients.have_served(50), "no unit is served any more")
            scenario.injected += 1
            require_none_after_the_first(scenario, moved)


def require_none_after_the_first(scenario, moved):
    later = [unit for unit in scenario.ledger.units if unit.began > moved]
    first = min([unit.ended for unit in later if unit.is_acknowledged] or [time.time()])
    scenario.require(first - moved <= SOON, "the first write came after", first - moved, "s")
    scenario.note = "the first write after %.2f s" % (first - moved)
    scenario.require_success([unit for unit in later if unit.began > first])


def test_without_options_a_server_that_is_read_only_for_a_moment_is_used_again(cluster):
    with Scenario("default_transaction_read_only for a moment, no options") as scenario, through(
        cluster
    ):
        with Workers(scenario.ledger, 4) as workers:
            for _ in repeat(20):
                workers.at_once()
                scenario.injected += 4
                cluster.reload(default_transaction_read_only="on")
                workers.do_at_once()
                cluster.reload(default_transaction_read_only=None)
                scenario.require_success(workers.do_at_once())


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
