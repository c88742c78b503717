"""A COMMIT is lost on its way, or its answer: nobody can know which, so it is not sent again."""

from __future__ import absolute_import

import pytest
from clients import Workers
from proxy import Proxy
from scenarios import Scenario, repeat, through


@pytest.mark.parametrize("what", ["request", "answer"])
def test_a_lost_commit_is_raised_and_never_sent_again(cluster, what):
    with Scenario("COMMIT: %s lost" % what) as scenario, Proxy(cluster) as proxy:
        with through(proxy), Workers(scenario.ledger) as workers:
            for _ in repeat(200):
                before, proxy.lose = proxy.commits, what
                unit = workers.do()
                scenario.injected += 1
                scenario.require(unit.is_visible, "not raised:", unit)
                sent = proxy.commits - before
                scenario.require(sent == 1, sent, "COMMITs for", unit)
                scenario.require_success([workers.do()])
        count = "SELECT count(*) FROM ledger WHERE name = %s"
        for unit in scenario.ledger.visible():
            there = cluster.ask(count, unit.key)
            scenario.require(there == (what == "answer"), there, "rows of", unit)
