"""The cost of a request, counted where the network is: the round trips between client and server."""

from __future__ import absolute_import

import django
import pytest
import support
from proxy import Proxy
from support import BEFORE_1_6, get

import persistconn

since_1_6 = pytest.mark.skipif(BEFORE_1_6, reason="every statement is in a transaction before 1.6")
before_1_6 = pytest.mark.skipif(not BEFORE_1_6, reason="Django is in autocommit since 1.6")

#: Whether the driver knows, without asking, that a session is in no transaction.
KNOWS = support.databases.NAME == "postgresql" or "pymysql" in support.driver.__name__
#: The round trips by which the driver begins a transaction.
BEGIN = 1 if support.databases.NAME == "postgresql" else 0


@pytest.fixture
def round_trips(rows):
    """Return the round trips of a request with a kept connection. No line has TLS."""
    settings = {"HOST": "127.0.0.1", "OPTIONS": support.chosen.WITHOUT_TLS}
    with Proxy(support.server) as proxy:
        with support.database_as(PORT=str(proxy.port), **settings):
            assert get("/reads/").status == 200

            def of(path):
                before = proxy.round_trips
                assert get(path).status == 200
                return proxy.round_trips - before

            yield of
            persistconn.drain()
    assert proxy.accepted == 1


@since_1_6
def test_a_request_with_one_query_of_the_orm_costs_one_round_trip(round_trips):
    assert [round_trips("/reads/") for _request in range(3)] == [1, 1, 1]


@pytest.mark.skipif(django.VERSION < (2, 2), reason="Django sends a transaction around it")
def test_a_request_with_one_write_of_the_orm_costs_one_round_trip(round_trips):
    assert round_trips("/writes/") == 1


@since_1_6
def test_after_a_users_cursor_only_a_driver_that_does_not_know_of_transactions_asks(round_trips):
    assert round_trips("/reads_raw/") == (1 if KNOWS else 2)
    assert round_trips("/reads/") == 1


@since_1_6
def test_an_atomic_request_costs_only_what_django_sends(round_trips):
    # BEGIN, SELECT, COMMIT; or autocommit off, SELECT, COMMIT, autocommit on.
    on_postgresql = 4 if django.VERSION < (1, 7) else 3
    djangos = {"postgresql": on_postgresql, "mariadb": 4}[support.databases.NAME]
    with support.database_as(ATOMIC_REQUESTS=True):
        assert round_trips("/reads/") == djangos


@before_1_6
def test_the_end_of_a_request_costs_a_rollback_if_the_request_did_not_commit(round_trips):
    assert round_trips("/reads/") == BEGIN + 2


@before_1_6
def test_the_end_of_a_request_costs_nothing_after_a_commit(round_trips):
    # INSERT and COMMIT
    assert round_trips("/writes/") == BEGIN + 2
