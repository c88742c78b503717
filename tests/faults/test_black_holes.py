"""Connections that are open and carry nothing: every wait for such a connection has a limit."""

from __future__ import absolute_import

import contextlib
import os
import signal

import pytest
import scenarios
from clients import Workers
from proxy import Proxy
from scenarios import Scenario, repeat, settings, through

#: Seconds by which CHECK_TIMEOUT may be exceeded, connecting included.
SLACK = 0.5
#: libpq counts connect_timeout in whole seconds.
ROUNDED = 1


def timeout():
    return 2 if scenarios.full else 1


class Holes(object):
    """Ways to let the present connections fall silent, and to undo that."""

    def __init__(self, proxy, cluster):
        self.proxy, self.cluster = proxy, cluster
        self.stopped = []

    def stall(self):
        self.proxy.stall()

    def swallow(self):
        self.proxy.swallow()

    def stop(self):
        self.stopped = self.cluster.backends()
        for pid in self.stopped:
            os.kill(pid, signal.SIGSTOP)

    def heal(self):
        self.proxy.heal()
        for pid in self.stopped:
            os.kill(pid, signal.SIGCONT)
        self.stopped = []


@contextlib.contextmanager
def holes(cluster, **options):
    with Proxy(cluster) as proxy, through(proxy, **options):
        dug = Holes(proxy, cluster)
        try:
            yield dug
        finally:
            dug.heal()


FAULTS = [
    ("black hole while idle, plain", Holes.stall, "disable"),
    ("black hole while idle, TLS", Holes.stall, "require"),
    ("requests swallowed while idle", Holes.swallow, "disable"),
    ("idle backends stopped (SIGSTOP)", Holes.stop, "disable"),
]


@pytest.mark.parametrize("fault, dig, sslmode", FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_silent_connection_is_replaced_within_the_check_timeout(cluster, fault, dig, sslmode):
    with Scenario(fault) as scenario, holes(cluster, sslmode=sslmode) as dug:
        with settings(CHECK_AFTER=0, CHECK_TIMEOUT=timeout()):
            for _ in repeat(5):
                with Workers(scenario.ledger, 4) as workers:
                    scenario.injected += len(workers.at_once())
                    dig(dug)
                    scenario.require_within(timeout() + SLACK, workers.do_at_once())
                    dug.heal()
        scenario.require_success()


def test_one_request_does_not_wait_for_each_silent_connection(cluster):
    with Scenario("4 silent pooled connections, 1 request") as scenario, holes(cluster) as dug:
        with settings(CHECK_AFTER=0, CHECK_TIMEOUT=timeout()):
            for _ in repeat(5):
                with Workers(scenario.ledger, 4) as workers:
                    scenario.injected += len(workers.at_once())
                    dug.stall()
                    scenario.require_within(timeout() + SLACK, [workers.do()])
                    dug.heal()
        scenario.require_success()


def test_a_silent_network_costs_at_most_check_timeout_and_connect_deadline(cluster):
    with Scenario("all dark, then healed") as scenario, holes(cluster) as dug:
        with settings(CHECK_AFTER=0, CHECK_TIMEOUT=timeout(), CONNECT_DEADLINE=2):
            with Workers(scenario.ledger) as workers:
                for _ in repeat(5):
                    workers.do()
                    dug.stall()
                    dug.proxy.deaf = True
                    scenario.injected += 1
                    unit = workers.do()
                    scenario.require(unit.is_visible, "served in the dark:", unit)
                    scenario.require_within(timeout() + 2 + ROUNDED + SLACK, [unit])
                    dug.heal()
                    scenario.require_success([workers.do()])


def test_the_end_of_a_request_on_a_silent_connection_is_limited_by_check_timeout(cluster):
    with Scenario("black hole at the end of a request") as scenario, holes(cluster) as dug:
        with settings(CHECK_TIMEOUT=timeout()), Workers(scenario.ledger, 4) as workers:
            for _ in repeat(5):
                workers.at_once()
                units = workers.at_once("unfinished", then=dug.stall)
                scenario.injected += len(units)
                scenario.require_within(timeout() + SLACK, units)
                dug.heal()
                scenario.require_success(workers.at_once())
