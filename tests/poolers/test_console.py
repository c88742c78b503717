"""Commands on PgBouncer's console while clients work, and what they cost."""

from __future__ import absolute_import

import random
import signal
import time

import support
from clients import Clients, Workers
from middlemen import PgBouncer
from outages import Outages
from scenarios import Scenario, repeat, through
from watching import Console

import persistconn

THREADS, SERVERS = 4, 2


VIEWS = ("transactional", "autocommitting")


def under_traffic(scenario, cluster, mode, strike, times, views=VIEWS, **settings):
    """Strike so many times at random moments. Return when each strike began and ended."""
    outages = Outages()
    # Session mode gives a client a server's session for itself.
    size = THREADS if mode == "session" else SERVERS
    settings = dict(settings, pool_mode=mode, default_pool_size=size)
    with PgBouncer(cluster, **settings) as bouncer, through(bouncer):
        with Clients(scenario.ledger, THREADS, pause=0.002, idle=(0, 0.01), views=views) as clients:
            for _ in repeat(times):
                scenario.require(clients.have_served(15), "no unit is served any more")
                time.sleep(random.uniform(0, 0.02))
                began = time.time()
                strike(bouncer)
                outages.add(began, time.time())
                scenario.injected += 1
            scenario.require(clients.have_served(15), "no unit is served any more")
    return outages


def tell(bouncer, *commands):
    with Console(bouncer) as console:
        for command in commands:
            console.tell(command)
            time.sleep(random.uniform(0, 0.05))


def reconnect(bouncer):
    with Console(bouncer) as console:
        # PgBouncer drops sessions that are logging in, and then may close the clients that wait for them.
        assert support.wait_until(lambda: not is_logging_in(console))
        console.tell("RECONNECT")


def is_logging_in(console):
    return any(int(pool["sv_login"]) for pool in console.tell("SHOW POOLS"))


def pause(bouncer):
    tell(bouncer, "PAUSE", "RESUME")


def suspend(bouncer):
    tell(bouncer, "SUSPEND", "RESUME")


def kill(bouncer):
    tell(bouncer, "KILL postgres", "RESUME postgres")


def shut_down(bouncer):
    with Console(bouncer) as console:
        try:
            console.tell("SHUTDOWN")
        except support.driver.Error:
            pass  # it ends its console, too
    bouncer.wait_for_its_end()
    bouncer.up()


def test_reconnect_in_transaction_mode_costs_only_units_whose_session_was_in_use(cluster):
    with Scenario("PgBouncer, RECONNECT, transaction mode") as scenario:
        outages = under_traffic(scenario, cluster, "transaction", reconnect, 200)
        scenario.require_in_use(outages)


def test_reconnect_while_all_sessions_are_idle_costs_no_request(cluster):
    with Scenario("PgBouncer, RECONNECT, idle sessions") as scenario:
        while_idle(scenario, cluster, reconnect)
        scenario.require_success()


def test_reconnect_in_session_mode_costs_no_request(cluster):
    with Scenario("PgBouncer, RECONNECT, session mode") as scenario:
        under_traffic(scenario, cluster, "session", reconnect, 200)
        scenario.require_success()


def test_reconnect_in_session_mode_is_done_at_the_drain(cluster):
    size = {"pool_mode": "session", "default_pool_size": 1}
    with PgBouncer(cluster, **size) as bouncer, through(bouncer):
        before = support.unit_of_work()
        reconnect(bouncer)
        assert support.unit_of_work() == before
        persistconn.drain()
        assert support.unit_of_work() != before


def test_pause_and_resume_cost_no_request(cluster):
    with Scenario("PgBouncer, PAUSE and RESUME") as scenario:
        under_traffic(scenario, cluster, "transaction", pause, 100)
        scenario.require_success()


def test_suspend_and_resume_cost_only_units_whose_session_was_in_use(cluster):
    # PgBouncer closes clients, of stock Django as well, that it cannot suspend within the timeout.
    with Scenario("PgBouncer, SUSPEND and RESUME") as scenario:
        timeout = {"suspend_timeout": 1}
        outages = under_traffic(scenario, cluster, "transaction", suspend, 50, **timeout)
        scenario.require_in_use(outages)


def test_suspend_while_all_sessions_are_idle_costs_no_request(cluster):
    with Scenario("PgBouncer, SUSPEND and RESUME, idle sessions") as scenario:
        while_idle(scenario, cluster, suspend)
        scenario.require_success()


def test_kill_costs_only_units_whose_session_was_in_use(cluster):
    with Scenario("PgBouncer, KILL and RESUME of the database") as scenario:
        outages = under_traffic(scenario, cluster, "transaction", kill, 100)
        scenario.require_in_use(outages)


def test_kill_while_all_sessions_are_idle_costs_no_request(cluster):
    with Scenario("PgBouncer, KILL and RESUME, idle sessions") as scenario:
        while_idle(scenario, cluster, kill)
        scenario.require_success()


def while_idle(scenario, cluster, strike):
    with PgBouncer(cluster) as bouncer, through(bouncer):
        with Workers(scenario.ledger, THREADS) as workers:
            for _ in repeat(50):
                workers.at_once()
                strike(bouncer)
                scenario.injected += 1
                workers.at_once()


def test_shutdown_and_start_cost_only_units_whose_session_was_in_use(cluster):
    with Scenario("PgBouncer, SHUTDOWN and start") as scenario:
        outages = under_traffic(scenario, cluster, "transaction", shut_down, 50)
        scenario.require_in_use(outages)


def test_a_pool_emptied_by_server_lifetime_costs_no_request(cluster):
    with Scenario("PgBouncer, server_lifetime 0") as scenario:
        size = {"default_pool_size": SERVERS, "server_lifetime": 0}
        with PgBouncer(cluster, **size) as bouncer, through(bouncer):
            with Clients(scenario.ledger, THREADS) as clients:
                scenario.require(clients.have_served(100), "no unit is served")
        scenario.require_success()


def test_clients_that_pgbouncer_closes_for_their_idleness_cost_no_request(cluster):
    with Scenario("PgBouncer, client_idle_timeout") as scenario:
        with PgBouncer(cluster, client_idle_timeout=1) as bouncer, through(bouncer):
            with Workers(scenario.ledger, THREADS) as workers:
                for _ in repeat(10):
                    workers.at_once()
                    with Console(bouncer) as console:
                        assert support.wait_until(lambda: console.clients() == 0)
                    scenario.injected += THREADS
                    workers.at_once()
        scenario.require_success()


def test_a_reload_with_another_target_moves_all_sessions(pair):
    primary, standby = pair
    with PgBouncer(primary, default_pool_size=SERVERS) as bouncer, through(bouncer):
        with Scenario("PgBouncer, RELOAD with another target") as scenario:
            scenario.cluster = standby
            with Clients(scenario.ledger, THREADS, pause=0.002, idle=(0, 0.01)) as clients:
                scenario.require(clients.have_served(50), "no unit is served")
                tell(bouncer, "PAUSE")
                primary.down("fast")
                standby.promote()
                assert support.wait_until(lambda: not standby.ask("SELECT pg_is_in_recovery()"))
                bouncer.targets = [standby]
                bouncer.configure()
                scenario.injected = 1
                tell(bouncer, "RELOAD", "RESUME")
                scenario.require(clients.have_served(50), "no unit is served any more")
            scenario.require_success()


def test_a_kill_of_pgbouncer_s_process_costs_only_units_whose_session_was_in_use(cluster):
    def crash(bouncer):
        bouncer.down(signal.SIGKILL)
        bouncer.up()

    with Scenario("PgBouncer, kill -9 and start, statement after statement") as scenario:
        views = ("autocommitting", "twice")
        outages = under_traffic(scenario, cluster, "session", crash, 50, views)
        scenario.require_in_use(outages)
