"""All faults at random, for long: no row is wrong, and nothing has leaked."""

from __future__ import absolute_import

import os
import random
import signal
import time

import scenarios
import support
from clients import Clients, Workers
from killer import Killer
from proxy import Proxy
from scenarios import Scenario, number, settings, through

#: Seconds from one fault to the next.
PACE = 0.05
VIEWS = ("transactional", "autocommitting")


class Faults(object):
    """All faults, each as likely as it is often in ``choices``."""

    def __init__(self, cluster, proxy):
        self.cluster, self.proxy, self.killer = cluster, proxy, Killer(cluster)
        often = [self.terminate_idle, self.terminate_any, self.stall, self.stop_a_process]
        often += [proxy.cut, proxy.reset, self.swallow, self.lose_request, self.lose_answer]
        self.choices = 8 * often + [self.restart, self.restart_at_once, self.crash]

    def inject(self):
        random.choice(self.choices)()

    def terminate_idle(self):
        self.killer.terminate_one(self.cluster.IDLE)

    def terminate_any(self):
        self.killer.terminate_one(self.cluster.ANY)

    def stall(self):
        self.proxy.stall()
        time.sleep(PACE)
        self.proxy.heal()

    def swallow(self):
        # A swallowed request is never answered: cutting the lines ends the wait for its answer.
        self.proxy.swallow()
        time.sleep(PACE)
        self.proxy.cut()

    def stop_a_process(self):
        pid = self.cluster.processes()[-1]
        send(pid, signal.SIGSTOP)
        time.sleep(PACE)
        send(pid, signal.SIGCONT)

    def lose_request(self):
        self.proxy.lose = "request"

    def lose_answer(self):
        self.proxy.lose = "answer"

    def restart(self):
        self.cluster.restart()

    def restart_at_once(self):
        self.cluster.restart(self.cluster.at_once)

    def crash(self):
        self.cluster.crash()


def send(pid, what):
    """Send a signal, if the process is there."""
    try:
        os.kill(pid, what)
    except OSError:
        pass


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def warm_up(scenario, cluster):
    """Open everything that stays open for good."""
    with Workers(scenario.ledger, 4) as workers:
        workers.at_once()
    cluster.ask("SELECT 1")


def is_back_at(before):
    return support.wait_until(lambda: open_descriptors() <= before)


def no_other_session(cluster):
    """Whether all sessions but the one that asks have ended, some time after their clients."""
    return support.wait_until(lambda: cluster.count_sessions() == 1)


def test_a_soak_of_random_faults_leaves_no_wrong_row_and_no_leak(cluster):
    with Scenario("soak: a random fault every 50 ms") as scenario:
        with Proxy(cluster) as proxy, through(proxy), settings(CHECK_TIMEOUT=0.5):
            warm_up(scenario, cluster)
        scenario.require(no_other_session(cluster), cluster.count_sessions(), "sessions at first")
        before = open_descriptors()
        with Proxy(cluster) as proxy, through(proxy), settings(CHECK_TIMEOUT=0.5):
            faults, began = Faults(cluster, proxy), time.time()
            with Clients(
                scenario.ledger, 4, idle=(0, 0.01), views=VIEWS, most=number(20000)
            ) as clients:
                while not (clients.are_done() or scenarios.is_enough(began)):
                    faults.inject()
                    scenario.injected += 1
                    time.sleep(PACE)
            proxy.lose = None
            scenario.require(served(scenario), "the last units were not served")
        cluster.ask("SELECT 1")
        scenario.require(is_back_at(before), open_descriptors(), "descriptors, before", before)
        scenario.require(no_other_session(cluster), cluster.count_sessions(), "sessions at the end")


def served(scenario):
    """Whether new units are served when the faults have ended."""
    with Workers(scenario.ledger, 4) as workers:
        return all(unit.is_acknowledged for unit in workers.at_once())
