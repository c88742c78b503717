"""PgBouncer in its three modes: right answers, bounded connections, errors as in stock Django."""

from __future__ import absolute_import

import contextlib

import pytest
import scenarios
import support
from clients import Clients, Workers
from comparing import error_of, in_stock_and_here
from middlemen import PgBouncer, pgbouncer_version
from scenarios import Scenario, number, through
from watching import Console, Holder, PoolerClients, ServerSessions

import persistconn

THREADS, SERVERS = 4, 2
PASSWORD = "not secret"

#: What the views need to work in each mode.
VIEWS = {
    "session": ("answering", "transactional", "written_and_read", "autocommitting"),
    "transaction": ("answering", "transactional", "written_and_read", "autocommitting"),
    "statement": ("without_transactions", "autocommitting"),
}
#: In session mode a client has a server's session for itself.
POOL = {"session": THREADS, "transaction": SERVERS, "statement": SERVERS}

# Before 1.6 every statement is in a transaction, unless OPTIONS ask for autocommit.
AUTOCOMMIT = {"autocommit": True} if support.BEFORE_1_6 else {}
only_psycopg3 = pytest.mark.skipif(
    support.driver.__name__ != "psycopg", reason="psycopg2 prepares no statements"
)
only_named_cursors = pytest.mark.skipif(
    not support.HAS_SERVER_SIDE_CURSORS, reason="iterator() uses cursors of the server since 1.11"
)


MAPS_STATEMENTS = pgbouncer_version() >= (1, 21)


def bouncer_of(cluster, mode, **settings):
    return PgBouncer(cluster, pool_mode=mode, default_pool_size=POOL[mode], **settings)


@pytest.mark.parametrize("mode", sorted(VIEWS))
def test_requests_get_right_answers_over_bounded_connections(cluster, mode):
    with Scenario("PgBouncer, %s mode" % mode) as scenario:
        with bouncer_of(cluster, mode) as bouncer, through(bouncer, **AUTOCOMMIT):
            with ServerSessions(cluster) as servers, PoolerClients(bouncer) as clients:
                with Clients(scenario.ledger, THREADS, views=VIEWS[mode], most=number(5000)):
                    wait_for(scenario, number(5000))
            scenario.note = "%d clients, %d server sessions" % (clients.number, servers.number)
            assert servers.taken > 10 and clients.taken > 10
            assert 0 < clients.number <= THREADS
            assert 0 < servers.number <= POOL[mode]
        scenario.require_success()


def wait_for(scenario, units):
    assert support.wait_until(lambda: len(scenario.ledger.units) >= units, 120)


def test_a_transaction_in_statement_mode_fails_as_in_stock(cluster):
    with bouncer_of(cluster, "statement") as bouncer, through(bouncer, **AUTOCOMMIT):
        stock, ours = in_stock_and_here(error_of_a_transaction)
    # The text tells of the transaction or of the connection's end, whichever the driver sees first.
    assert stock[0] is ours[0] is not None, (stock, ours)
    assert issubclass(ours[0], support.database_errors()), ours


def test_a_request_is_served_after_one_that_failed_in_statement_mode(cluster):
    with Scenario("PgBouncer, statement mode, a transaction") as scenario:
        with bouncer_of(cluster, "statement") as bouncer, through(bouncer, **AUTOCOMMIT):
            with Workers(scenario.ledger) as workers:
                for _ in range(number(100)):
                    assert not workers.do("transactional").is_acknowledged
                    assert workers.do("without_transactions").is_acknowledged


def error_of_a_transaction():
    from site_urls import in_a_transaction

    @in_a_transaction(using="default")
    def work():
        support.fetch("SELECT 1")

    return error_of(work)


# auth_query


@contextlib.contextmanager
def with_auth_query(cluster):
    """A PgBouncer that asks the server for the passwords of its clients."""
    users = {"auth_type": "scram-sha-256", "auth_user": "postgres"}
    cluster.create_role("locked", PASSWORD)
    bouncer = PgBouncer(cluster, database="auth_user=postgres", auth_file="users", **users)
    with open(bouncer.path("users"), "w") as file:
        file.write('"postgres" ""\n')
    try:
        with bouncer, through(bouncer):
            yield
    finally:
        cluster.drop_role("locked")


def test_a_role_that_pgbouncer_asks_the_server_about_is_served(cluster):
    with Scenario("PgBouncer, auth_query and SCRAM") as scenario, with_auth_query(cluster):
        with support.database_as(USER="locked", PASSWORD=PASSWORD):
            before = opened()
            with Workers(scenario.ledger, THREADS) as workers:
                for _ in range(number(200)):
                    workers.at_once()
            assert opened() - before == THREADS
        scenario.require_success()


def opened():
    return persistconn.stats()["default"]["opened"]


def test_a_wrong_password_behind_auth_query_raises_the_error_of_stock(cluster):
    with with_auth_query(cluster), support.database_as(USER="locked", PASSWORD="wrong"):
        stock, ours = in_stock_and_here(lambda: error_of(lambda: support.fetch("SELECT 1")))
    assert stock == ours
    assert "authentication failed" in ours[1], ours


# What a client leaves in a server's session, and another session does not have


PREPARING = {"prepare_threshold": 1, "server_side_binding": True}


@only_psycopg3
def test_a_prepared_statement_in_transaction_mode_fails_as_in_stock(cluster):
    off = {"max_prepared_statements": 0} if MAPS_STATEMENTS else {}
    with bouncer_of(cluster, "transaction", **off) as bouncer, through(bouncer, **PREPARING):
        stock, ours = in_stock_and_here(lambda: error_of(lambda: prepare_and_move(bouncer)))
    # The name of a prepared statement counts them.
    assert stock[0] is ours[0] is not None, (stock, ours)
    assert "prepared statement" in stock[1] and "prepared statement" in ours[1], (stock, ours)


@only_psycopg3
@pytest.mark.skipif(not MAPS_STATEMENTS, reason="max_prepared_statements needs PgBouncer 1.21")
def test_prepared_statements_follow_a_client_with_max_prepared_statements(cluster):
    on = {"max_prepared_statements": 100}
    with Scenario("PgBouncer, max_prepared_statements") as scenario:
        with bouncer_of(cluster, "transaction", **on) as bouncer, through(bouncer, **PREPARING):
            assert in_stock_and_here(lambda: error_of(lambda: prepare_and_move(bouncer))) == (
                (None, "no error"),
                (None, "no error"),
            )
            views, units = VIEWS["transaction"], number(5000)
            with Clients(scenario.ledger, THREADS, views=views, most=units):
                wait_for(scenario, units)
        scenario.require_success()


def prepare_and_move(bouncer):
    for _ in range(3):
        support.fetch("SELECT 'prepared'")
    with Holder(bouncer):
        support.fetch("SELECT 'prepared'")


@only_psycopg3
@pytest.mark.parametrize("options", [{}, {"prepare_threshold": 1}, {"server_side_binding": True}])
def test_django_prepares_no_statements_without_both_options(cluster, options):
    with bouncer_of(cluster, "transaction") as bouncer, through(bouncer, **options):
        assert in_stock_and_here(lambda: error_of(lambda: prepare_and_move(bouncer))) == (
            (None, "no error"),
            (None, "no error"),
        )


@only_named_cursors
def test_iterators_without_server_side_cursors_read_all_rows_in_transaction_mode(cluster):
    with Scenario("PgBouncer, iterator(), no server-side cursors") as scenario:
        with bouncer_of(cluster, "transaction") as bouncer, through(bouncer):
            with support.database_as(DISABLE_SERVER_SIDE_CURSORS=True):
                units = number(1000)
                with Clients(scenario.ledger, THREADS, views=("iterating",), most=units):
                    wait_for(scenario, units)
        scenario.require_success()
    scenarios.cluster.query("TRUNCATE ledger")


@only_named_cursors
def test_a_server_side_cursor_outside_a_transaction_is_lost_in_transaction_mode_as_in_stock(
    cluster,
):
    cluster.query("INSERT INTO ledger SELECT 'row-' || n FROM generate_series(1, 100) AS n")
    try:
        with bouncer_of(cluster, "transaction") as bouncer, through(bouncer):
            stock, ours = in_stock_and_here(lambda: error_of(lambda: iterate_and_move(bouncer)))
    finally:
        cluster.query("TRUNCATE ledger")
    assert stock[0] is ours[0] is not None, (stock, ours)
    assert "cursor" in stock[1] and "cursor" in ours[1], (stock, ours)


def iterate_and_move(bouncer):
    from pooler_urls import Row

    rows = Row.objects.all().iterator(chunk_size=10)
    next(rows)
    with Holder(bouncer):
        list(rows)


def test_a_held_session_is_the_one_that_pgbouncer_gives_out_next(cluster):
    """The tests above need that."""

    def work():
        before = support.fetch(support.chosen.PID)
        again = support.fetch(support.chosen.PID)
        with Holder(bouncer):
            other = support.fetch(support.chosen.PID)
        support.end_of_work()
        return before, again, other

    with bouncer_of(cluster, "transaction") as bouncer, through(bouncer, **AUTOCOMMIT):
        before, again, other = support.in_thread(
            work
        )  # before 1.6 threads have OPTIONS of their own
    assert before == again != other


def test_a_kept_connection_has_another_session_after_reconnect(cluster):
    with bouncer_of(cluster, "transaction") as bouncer, through(bouncer):
        before, clients = support.unit_of_work(), opened()
        with Console(bouncer) as console:
            console.tell("RECONNECT")
        assert support.unit_of_work() != before
        assert opened() == clients
