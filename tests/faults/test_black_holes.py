"""Connections that are open and carry nothing: every wait for such a connection has a limit."""

from __future__ import absolute_import

import contextlib
import os
import signal

import pytest
import scenarios
import support
from clients import Workers
from proxy import Proxy
from scenarios import Scenario, repeat, settings, through
from support import later

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

    def stop_sessions(self):
        self._stop(self.cluster.backends())

    def stop_server(self):
        self._stop(self.cluster.processes())

    def _stop(self, pids):
        self.stopped = pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    def heal(self):
        self.proxy.heal()
        for pid in self.stopped:
            os.kill(pid, signal.SIGCONT)
        self.stopped = []


@contextlib.contextmanager
def holes(cluster, options=()):
    with Proxy(cluster) as proxy, through(proxy, **dict(options)):
        dug = Holes(proxy, cluster)
        try:
            yield dug
        finally:
            dug.heal()


FAULTS = [
    ("black hole while idle, plain", Holes.stall, False),
    ("black hole while idle, TLS", Holes.stall, True),
    ("requests swallowed while idle", Holes.swallow, False),
    pytest.param(
        "idle backends stopped (SIGSTOP)",
        Holes.stop_sessions,
        False,
        marks=support.only_on("postgresql", "MariaDB has one process for all sessions"),
    ),
]


@pytest.mark.parametrize("fault, dig, tls", FAULTS)
def test_a_silent_connection_is_replaced_within_the_check_timeout(cluster, fault, dig, tls):
    with Scenario(fault) as scenario, holes(cluster, cluster.tls if tls else ()) as dug:
        with settings(CHECK_AFTER=0, CHECK_TIMEOUT=timeout()):
            for _ in repeat(5):
                with Workers(scenario.ledger, 4) as workers:
                    scenario.injected += len(workers.at_once())
                    dig(dug)
                    scenario.require_within(timeout() + SLACK, workers.do_at_once())
                    dug.heal()
        scenario.require_success()


def test_a_server_that_is_stopped_and_goes_on_within_the_deadline_costs_nothing(cluster):
    seconds = timeout() + 0.5
    with Scenario("server stopped (SIGSTOP) for %s s" % seconds) as scenario:
        with holes(cluster) as dug, settings(CHECK_AFTER=0, CHECK_TIMEOUT=timeout()):
            for _ in repeat(5):
                with Workers(scenario.ledger, 4) as workers:
                    scenario.injected += len(workers.at_once())
                    dug.stop_server()
                    with later(seconds, dug.heal):
                        units = workers.do_at_once()
                    scenario.require_within(seconds + SLACK, units)
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
