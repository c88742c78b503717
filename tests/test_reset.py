"""RESET: what a unit of work has left in its session is undone before the next one gets it."""

from __future__ import absolute_import

import logging

import django
import pytest
import support
from django.db import connection, connections
from proxy import Proxy
from support import (
    BEFORE_1_6,
    DATABASE,
    database_as,
    end_of_work,
    fetch,
    get,
    only_on,
    unit_of_work,
)

import persistconn

on_postgresql = only_on("postgresql", "only PostgreSQL can undo what a session was told")
on_mariadb = only_on("mariadb", "PostgreSQL resets instead")

TIMES = 100


@pytest.fixture(autouse=True)
def objects():
    """A sequence and a role, to be poisoned."""
    if support.databases.NAME == "postgresql":
        support.ask("CREATE SEQUENCE numbers; CREATE ROLE guest", database=DATABASE)
    yield
    if support.databases.NAME == "postgresql":
        support.ask("DROP SEQUENCE numbers; DROP ROLE guest", database=DATABASE)


def resetting(value="session", **settings):
    return database_as(PERSISTCONN=dict(settings, RESET=value))


def do(sql, alias="default"):
    """Execute SQL of the user's, and commit it before 1.6."""
    cursor = connections[alias].cursor()
    cursor.execute(sql)
    cursor.close()
    commit(alias)


def commit(alias="default"):
    if BEFORE_1_6:
        connections[alias]._commit()


def tell(sql):
    """Return the answer to a statement in a unit of work of its own, or that it fails."""
    try:
        return fetch(sql)
    except support.database_errors():
        return "fails"
    finally:
        end_of_work()


def discarded(reason):
    return persistconn.stats()["default"]["discarded"].get(reason, 0)


def opened():
    return persistconn.stats()["default"]["opened"]


#: What a request can leave: statements, and the question that tells.
POISON = {
    "parameter": (["SET work_mem = '77kB'"], "SHOW work_mem"),
    "custom parameter": (
        ["SET app.tenant = 'blue'"],
        "SELECT coalesce(current_setting('app.tenant', true), '')",
    ),
    "role": (["SET ROLE guest"], "SELECT current_user"),
    "session authorization": (["SET SESSION AUTHORIZATION guest"], "SELECT session_user"),
    "search_path": (["SET search_path = pg_catalog"], "SHOW search_path"),
    "temporary table": (["CREATE TEMP TABLE mine (name text)"], "SELECT to_regclass('mine')"),
    "advisory lock": (
        ["SELECT 1 FROM (SELECT pg_advisory_lock(7), pg_advisory_lock_shared(8)) held"],
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "LISTEN": (["LISTEN news"], "SELECT count(*) FROM pg_listening_channels()"),
    "sequence": (["SELECT nextval('numbers')"], "SELECT lastval()"),
    "PREPARE": (
        ['PREPARE "one; two" AS SELECT 1', "PREPARE three AS SELECT 3"],
        "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
    ),
    "cursor WITH HOLD": (
        ["DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 9)"],
        "SELECT count(*) FROM pg_cursors WHERE is_holdable",
    ),
    "time zone": (["SET TIME ZONE 'Asia/Tokyo'"], "SHOW TimeZone"),
    "characteristics": (
        ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"],
        "SHOW default_transaction_read_only",
    ),
    "quoting of strings": (
        ["SET standard_conforming_strings = off"],
        "SHOW standard_conforming_strings",
    ),
}


@on_postgresql
@pytest.mark.parametrize("kind", sorted(POISON))
def test_the_next_unit_of_work_never_sees_what_the_last_one_left(kind):
    statements, question = POISON[kind]
    with resetting():
        clean, before = tell(question), opened()
        for _time in range(TIMES):
            for statement in statements:
                do(statement)
            assert fetch(question) != clean  # else the poison is none
            end_of_work()
            assert tell(question) == clean
        assert opened() == before
    assert discarded("reset failed") == 0


@on_postgresql
@pytest.mark.parametrize("kind", sorted(POISON))
def test_without_reset_the_next_unit_of_work_sees_it(kind):
    statements, question = POISON[kind]
    clean = tell(question)
    for statement in statements:
        do(statement)
    end_of_work()
    assert tell(question) != clean
