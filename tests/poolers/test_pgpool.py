"""Pgpool-II: its cache of sessions, the share of reads that it sends to a standby, its restarts."""

from __future__ import absolute_import

import signal

import pytest
import support
from clients import Clients, Workers
from comparing import error_of, in_stock_and_here
from middlemen import Pgpool
from scenarios import Scenario, number, repeat, settings, through
from watching import ServerSessions, count_clients

import persistconn

THREADS = 4
VIEWS = ("answering", "transactional", "written_and_read", "autocommitting")


def serve(scenario, units):
    with Clients(scenario.ledger, THREADS, views=VIEWS, most=units):
        assert support.wait_until(lambda: len(scenario.ledger.units) >= units, 120)
    scenario.require_success()


def test_requests_get_right_answers_over_bounded_connections(cluster):
    with Scenario("Pgpool-II, one server") as scenario:
        with Pgpool(cluster, num_init_children=THREADS, max_pool=1) as pooler, through(pooler):
            with ServerSessions(cluster) as servers:
                serve(scenario, number(3000))
            scenario.note = "%d server sessions" % servers.number
            assert servers.taken > 10
            # One more is Pgpool's own, which looks after the server.
            assert 0 < servers.number <= THREADS + 1


def test_requests_get_right_answers_with_reads_on_a_standby(pair):
    primary, standby = pair
    with Scenario("Pgpool-II, load balancing over a primary and a standby") as scenario:
        scenario.cluster = primary
        balanced = {"load_balance_mode": "on", "weights": [0, 1]}
        before = reads(standby)
        with Pgpool(primary, standby, **balanced) as pooler, through(pooler):
            serve(scenario, number(3000))
        # Sessions count what they read at their end.
        assert support.wait_until(lambda: reads(standby) > before)


def reads(server):
    """How many rows of the ledger a server has read for queries."""
    return server.ask("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'ledger'")


def test_a_session_of_the_primary_seems_read_only_while_a_standby_answers(pair):
    """Why persistconn may not ask by SHOW whether a session can write."""
    with Pgpool(*pair, load_balance_mode="on", weights=[0, 1]) as pooler, through(pooler):
        shown = support.in_thread(lambda: ask_and_end("SHOW transaction_read_only"))
        functions = "SELECT current_setting('transaction_read_only')"
        asked = support.in_thread(lambda: ask_and_end("/*NO LOAD BALANCE*/ " + functions))
    assert (shown, asked) == ("on", "off")


def ask_and_end(sql):
    try:
        return support.fetch(sql)
    finally:
        support.end_of_work()


@pytest.mark.parametrize("end", ["SIGINT", "SIGQUIT"])
def test_a_restart_while_all_sessions_are_idle_costs_no_request(cluster, end):
    with Scenario("Pgpool-II, %s and start" % end) as scenario:
        with Pgpool(cluster) as pooler, through(pooler):
            with Workers(scenario.ledger, THREADS) as workers:
                for _ in repeat(20):
                    workers.at_once()
                    pooler.down(getattr(signal, end))
                    scenario.injected += 1
                    pooler.up()
                    workers.at_once()
        scenario.require_success()


def test_clients_that_pgpool_closes_for_their_idleness_cost_no_request(cluster):
    with Scenario("Pgpool-II, client_idle_limit") as scenario:
        with Pgpool(cluster, client_idle_limit=1) as pooler, through(pooler):
            with Workers(scenario.ledger, THREADS) as workers:
                for _ in repeat(10):
                    workers.at_once()
                    opened = persistconn.stats()["default"]["opened"]
                    assert support.wait_until(lambda: count_clients(pooler.port) == 0)
                    workers.at_once()
                    assert persistconn.stats()["default"]["opened"] == opened + THREADS
                    scenario.injected += THREADS
        scenario.require_success()


def test_max_conns_keeps_more_threads_than_children_from_waiting_at_pgpool(cluster):
    with Scenario("Pgpool-II, 8 threads over 2 children") as scenario:
        with Pgpool(cluster, num_init_children=2) as pooler, through(pooler):
            with settings(MAX_CONNS=2, TIMEOUT=30):
                with Clients(scenario.ledger, 8, views=VIEWS, most=number(2000)):
                    assert support.wait_until(
                        lambda: len(scenario.ledger.units) >= number(2000), 120
                    )
        scenario.require_success()


only_psycopg3 = pytest.mark.skipif(
    support.driver.__name__ != "psycopg", reason="psycopg2 makes cursors of the server by SQL alone"
)


@only_psycopg3
def test_a_server_side_cursor_of_psycopg_3_fails_as_in_stock(cluster):
    with Pgpool(cluster) as pooler, through(pooler):
        stock, ours = in_stock_and_here(lambda: error_of(iterate))
    assert stock == ours
    assert "unable to execute Describe" in ours[1], ours


def iterate():
    from pooler_urls import Row

    list(Row.objects.all().iterator(chunk_size=10))


@pytest.mark.skipif(
    not support.HAS_SERVER_SIDE_CURSORS, reason="iterator() uses cursors of the server since 1.11"
)
def test_iterators_without_server_side_cursors_read_all_rows(cluster):
    with Scenario("Pgpool-II, iterator(), no server-side cursors") as scenario:
        with Pgpool(cluster) as pooler, through(pooler):
            with support.database_as(DISABLE_SERVER_SIDE_CURSORS=True):
                with Workers(scenario.ledger, THREADS) as workers:
                    for _ in repeat(50):
                        workers.at_once("iterating")
        scenario.require_success()
    cluster.query("TRUNCATE ledger")


@pytest.fixture
def deferred(cluster):
    """A table whose constraint is looked at by COMMIT."""
    cluster.query(
        "CREATE TABLE deferred (name text PRIMARY KEY,"
        " other text REFERENCES deferred DEFERRABLE INITIALLY DEFERRED)"
    )
    yield
    cluster.query("DROP TABLE deferred")


def requests_after_refused_commits(cluster):
    with Scenario("Pgpool-II, COMMIT refused by a constraint") as scenario:
        with Pgpool(cluster) as pooler, through(pooler), Workers(scenario.ledger) as workers:
            refused = [workers.do("refused_at_commit") for _ in repeat(10)]
            after = [workers.do("reading")]
        assert not any(unit.is_acknowledged for unit in refused)
        return after


def test_after_a_refused_commit_pgpool_wants_a_rollback_that_the_driver_does_not_know_of(
    cluster, deferred
):
    with Pgpool(cluster) as pooler:
        session = support.driver.connect(
            host=pooler.host, port=pooler.port, user="postgres", dbname="postgres"
        )
        cursor = session.cursor()
        cursor.execute("INSERT INTO deferred VALUES ('one', 'nothing')")
        with pytest.raises(support.driver.IntegrityError):
            session.commit()
        with pytest.raises(support.driver.Error):
            cursor.execute("SELECT 1")
        session.close()


def test_a_request_after_a_refused_commit_is_served(cluster, deferred):
    (after,) = requests_after_refused_commits(cluster)
    assert after.is_acknowledged, after
