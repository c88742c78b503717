"""A server that sleeps while nobody uses it, and needs seconds to wake up for the next connect."""

from __future__ import absolute_import

import contextlib
import threading
import time

import pytest
import scenarios
from clients import Workers
from databases import chosen
from proxy import Proxy
from scenarios import Scenario, settings, through
from support import wait_until

THREADS = 8
#: The settings of docs/clouds.md, for a server that needs 8 seconds.
DOCUMENTED = {"CONNECT_DEADLINE": 30, "TIMEOUT": 30, "MAX_IDLE": 60}
SLACK = 1


def wake_up():
    """The seconds that the server needs."""
    return 8 if scenarios.full else 2


def documented(**more):
    """The documented settings, with waits as much shorter as the server is faster."""
    ratio = wake_up() / 8.0
    scaled = dict((name, value * ratio) for name, value in DOCUMENTED.items())
    return settings(CHECK_AFTER=0, **dict(scaled, **more))


class Serverless(object):
    """A server behind a proxy. It wakes up some seconds after the first connect."""

    def __init__(self, proxy):
        self.proxy = proxy
        self._old_lines, self._waking = [], None

    def sleep(self, answer=None):
        """``answer``: what it says to clients until it is awake; None: it lets them wait."""
        self.proxy.deaf, self.proxy.answer = answer is None, answer
        before, self._old_lines = self.proxy.accepted, self.proxy.lines[:]
        self._waking = threading.Thread(target=self._wake, args=(before,))
        self._waking.start()

    def _wake(self, before):
        if wait_until(lambda: self.proxy.accepted > before):
            time.sleep(wake_up())
        self.proxy.deaf, self.proxy.answer = False, None
        # Sessions that are silent stay so.
        for line in self.proxy.lines[:]:
            if line not in self._old_lines:
                line.stalled = False

    def is_over(self):
        self._waking.join()


@contextlib.contextmanager
def serverless(cluster):
    with Proxy(cluster) as proxy, through(proxy):
        server = Serverless(proxy)
        try:
            yield server
        finally:
            server.is_over()


def named(what):
    return "server that wakes up in %d s, %d threads%s" % (wake_up(), THREADS, what)


def test_threads_that_find_the_server_asleep_are_served_with_the_default_settings(cluster):
    with Scenario(named("")) as scenario, serverless(cluster) as server:
        server.sleep()
        with Workers(scenario.ledger, THREADS) as workers:
            units = workers.do_at_once()
        scenario.injected = THREADS
        scenario.require_within(wake_up() + SLACK, units)
        scenario.require_success()


@pytest.mark.parametrize("max_conns", [None, 2])
@pytest.mark.parametrize("answer", [None, chosen.refusal(*chosen.PASSING[0])], ids=["", "refuses"])
def test_threads_that_find_the_server_asleep_are_served_with_the_documented_settings(
    cluster, max_conns, answer
):
    what = ", refuses meanwhile" if answer else ", documented settings"
    what += ", MAX_CONNS %s" % max_conns if max_conns else ""
    with Scenario(named(what)) as scenario, serverless(cluster) as server:
        server.sleep(answer)
        with documented(MAX_CONNS=max_conns), Workers(scenario.ledger, THREADS) as workers:
            units = workers.do_at_once()
        scenario.injected = THREADS
        scenario.require_within(wake_up() + SLACK, units)
        scenario.require_success()


@pytest.mark.parametrize("end", ["cut", "stall"])
def test_threads_are_served_when_the_server_has_fallen_asleep_again(cluster, end):
    what = {"cut": ", asleep again, sessions closed", "stall": ", asleep again, sessions silent"}
    with Scenario(named(what[end])) as scenario, serverless(cluster) as server:
        with documented(MAX_CONNS=4), Workers(scenario.ledger, THREADS) as workers:
            workers.do_at_once()
            getattr(server.proxy, end)()
            server.sleep()
            units = workers.do_at_once()
        scenario.injected = THREADS
        check_timeout = 2 if end == "stall" else 0
        scenario.require_within(check_timeout + wake_up() + SLACK, units)
        scenario.require_success()
