"""RESET: what a unit of work has left in its session is undone before the next one gets it."""

from __future__ import absolute_import

import contextlib
import logging
from functools import partial

import django
import pytest
import support
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from proxy import Proxy
from support import (
    BEFORE_1_6,
    DATABASE,
    database_as,
    end_of_work,
    fetch,
    only_on,
    unit_of_work,
)

import persistconn

on_postgresql = only_on("postgresql", "only PostgreSQL can undo what a session was told")
on_mariadb = only_on("mariadb", "PostgreSQL resets instead")

#: Whether the driver takes several statements at once.
TAKES_SEVERAL = support.databases.NAME == "postgresql" or (
    "pymysql" not in support.driver.__name__ and support.driver.version_info >= (2,)
)

TIMES = 100


_before = {}


@pytest.fixture(autouse=True)
def objects():
    """A sequence and a role, to be poisoned; the counts so far."""
    _before.update(persistconn.stats()["default"]["discarded"])
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
    """Return how many connections this test has lost for a reason."""
    return persistconn.stats()["default"]["discarded"].get(reason, 0) - _before.get(reason, 0)


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


# What was set at the opening.


def created(receive):
    """A context manager: a receiver of connection_created, and no earlier connections."""
    from django.db.backends.signals import connection_created

    return connected(connection_created, receive)


@contextlib.contextmanager
def connected(signal, receive):
    persistconn.drain()
    signal.connect(receive, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receive)
        persistconn.drain()


@on_postgresql
@pytest.mark.parametrize("name", ["TimeZone", "client_encoding", "DateStyle"])
def test_a_reset_leaves_what_django_has_set(name):
    with resetting():
        djangos = tell("SHOW " + name)
        do("SET TIME ZONE 'Asia/Tokyo'")
        do("SET client_encoding TO latin1; SET DateStyle TO german")
        end_of_work()
        assert tell("SHOW " + name) == djangos
    assert discarded("reset failed") == 0


@on_postgresql
def test_a_reset_leaves_what_a_receiver_of_connection_created_has_set():
    name = "it's a \\ name"

    def receive(connection, **kwargs):
        cursor = connection.cursor()
        cursor.execute("SET application_name = %s", [name])
        cursor.execute("SELECT set_config(%s, 'blue', false)", ["app.tenant"])
        cursor.execute("SET ROLE guest")

    questions = ["SHOW application_name", "SHOW app.tenant", "SELECT current_user", "SELECT user"]
    with created(receive):
        with resetting():
            backend = unit_of_work()
            do("RESET ROLE; SET standard_conforming_strings = off")
            do("SET application_name = other; SET app.tenant = red")
            end_of_work()
            assert [tell(question) for question in questions] == [name, "blue", "guest", "guest"]
            assert unit_of_work() == backend


@on_postgresql
@pytest.mark.parametrize("encoding", ["latin1", "sjis", "euc_jp", "sql_ascii"])
def test_a_reset_restores_letters_beyond_ascii_from_any_encoding_of_the_client(encoding):
    city = b"Z\xc3\xbcrich \xe2\x82\xac\\x".decode("utf-8")

    def receive(connection, **kwargs):
        connection.cursor().execute("SELECT set_config('app.city', %s, false)", [city])

    with created(receive), resetting():
        backend = unit_of_work()
        do("SET client_encoding TO %s" % encoding)
        end_of_work()
        assert tell("SHOW app.city") == city
        assert unit_of_work() == backend


@on_postgresql
def test_sql_of_the_users_own_beyond_ascii_may_meet_any_encoding_of_the_client():
    city = b"\xe2\x82\xac".decode("utf-8")
    with resetting("SELECT set_config('app.city', '%s', false)" % city):
        for encoding in ("latin1", "utf8"):
            do("SET client_encoding TO %s" % encoding)
            end_of_work()
            assert tell("SHOW client_encoding") in ("UTF8", "LATIN1")
    assert discarded("reset failed") == 1


def executed(cursor, connection):
    cursor.execute("SELECT set_config(%s, 'blue', false)", ["app.tenant"])


def executed_many(cursor, connection):
    cursor.executemany("SELECT set_config('app.tenant', %s, false)", [["red"], ["blue"]])


def called(cursor, connection):
    cursor.callproc("set_config", ["app.tenant", "blue", False])


def composed(cursor, connection):
    sql = __import__(support.driver.__name__ + ".sql").sql
    name = sql.SQL(".").join([sql.Identifier("app"), sql.Identifier("tenant")])
    cursor.execute(sql.SQL("SET {} = 'blue'").format(name))


@on_postgresql
@pytest.mark.parametrize("way", [executed, executed_many, called, composed])
def test_a_reset_leaves_a_parameter_of_the_users_own_however_it_was_set(way):
    if way is called and (support.driver.__name__ == "psycopg" or django.VERSION < (1, 7)):
        pytest.skip("there is no callproc()")

    with created(lambda connection, **kwargs: way(connection.cursor(), connection)), resetting():
        unit_of_work()
        do("SET app.tenant = red")
        end_of_work()
        assert tell("SHOW app.tenant") == "blue"


@on_postgresql
def test_a_session_with_operators_of_its_own_is_noted_and_reset():
    def receive(connection, **kwargs):
        cursor = connection.cursor()
        cursor.execute("CREATE SCHEMA IF NOT EXISTS odd")
        cursor.execute(
            "CREATE OR REPLACE FUNCTION odd.never(text, text) RETURNS boolean LANGUAGE sql"
            " AS 'SELECT false'"
        )
        for operator in ("=", "~", "!~", "!~~"):
            cursor.execute("DROP OPERATOR IF EXISTS odd.%s (text, text)" % operator)
            cursor.execute(
                "CREATE OPERATOR odd.%s (LEFTARG = text, RIGHTARG = text, FUNCTION = odd.never)"
                % operator
            )
        cursor.execute("SET search_path = odd, public, pg_catalog")

    with created(receive), resetting():
        try:
            backend = unit_of_work()
            do("SET search_path = public")
            end_of_work()
            assert tell("SHOW search_path") == "odd, public, pg_catalog"
            assert unit_of_work() == backend
        finally:
            end_of_work()
            support.ask("DROP SCHEMA odd CASCADE", database=DATABASE)


@on_postgresql
def test_a_session_that_was_opened_in_the_background_is_restored_as_any_other():
    with resetting(MIN_CONNS=2):
        first = unit_of_work()
        assert support.wait_until(lambda: persistconn.stats()["default"]["idle"] == 2)
        before = tell("SHOW work_mem")
        assert support.pid() != first
        do("SET work_mem = '77kB'")
        end_of_work()
        assert tell("SHOW work_mem") == before
    assert discarded("reset") == discarded("reset failed") == 0


@on_postgresql
@pytest.mark.skipif(django.VERSION < (4, 2), reason="assume_role came with 4.2")
def test_a_reset_leaves_the_role_that_django_assumes():
    with resetting(), database_as(OPTIONS={"assume_role": "guest"}):
        backend = unit_of_work()
        do("RESET ROLE")
        end_of_work()
        assert tell("SELECT current_user") == "guest"
        assert unit_of_work() == backend


@on_postgresql
@pytest.mark.parametrize("threshold", [0, 1])
@pytest.mark.skipif(support.driver.__name__ != "psycopg", reason="psycopg2 prepares nothing")
def test_the_drivers_own_prepared_statements_stay_in_use(threshold):
    plans = (
        "SELECT coalesce(sum(generic_plans + custom_plans), 0), count(DISTINCT name)"
        " FROM pg_prepared_statements WHERE NOT from_sql AND statement LIKE 'SELECT \"session%'"
    )
    options = {"server_side_binding": True, "prepare_threshold": threshold}

    def count():
        with connection.cursor() as cursor:
            cursor.execute(plans)
            return tuple(map(int, cursor.fetchone()))

    with resetting(), database_as(OPTIONS=options):
        backends = set(support.orm_pid() for _time in range(threshold + 1))
        uses, names = count()
        end_of_work()
        for _time in range(5):
            do("PREPARE mine AS SELECT 1")
            backends.add(support.orm_pid())
            end_of_work()
        assert names == 1
        assert count() == (uses + 5, 1)
        end_of_work()
    assert len(backends) == 1
    assert discarded("reset failed") == 0


@on_postgresql
@pytest.mark.skipif(support.driver.__name__ != "psycopg2", reason="psycopg 3 reads the server's")
def test_a_reset_restores_the_encoding_that_the_driver_uses():
    with resetting():
        backend = unit_of_work()
        connection.cursor()
        connection.connection.set_client_encoding("LATIN1")
        end_of_work()
        assert tell("SHOW client_encoding") == "UTF8"
        accented = b"\xc3\xa9".decode("utf-8")
        assert tell("SELECT length('%s')" % accented) == 1
        assert unit_of_work() == backend


# The cost.


@pytest.fixture
def line():
    """A proxy between Django and the server. No line has TLS."""
    settings = {"HOST": "127.0.0.1", "OPTIONS": support.chosen.WITHOUT_TLS}
    with Proxy(support.server) as proxy:
        with database_as(PORT=str(proxy.port), **settings):
            yield proxy
            persistconn.drain()


@contextlib.contextmanager
def wrapper_with(autocommit):
    """A new wrapper, because one of Django 1.6 goes by the AUTOCOMMIT that it had first."""
    with database_as(AUTOCOMMIT=autocommit):
        wrapper = connections["default"]
        with support.wrapper_as(wrapper.__class__(wrapper.settings_dict, "default")):
            yield


def round_trips(line, work):
    work()
    end_of_work()
    before = line.round_trips
    work()
    end_of_work()
    return line.round_trips - before


@pytest.mark.parametrize("autocommit", [True, False])
def test_work_of_the_orm_alone_costs_nothing_more(line, autocommit):
    with wrapper_with(autocommit):
        without = round_trips(line, support.orm_pid)
        with resetting():
            persistconn.drain()
            assert round_trips(line, support.orm_pid) == without


@on_postgresql
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_reset_costs_one_round_trip(line, autocommit):
    def work():
        fetch("SELECT 1")

    with wrapper_with(autocommit):
        without = round_trips(line, work)
        with resetting():
            persistconn.drain()
            assert round_trips(line, work) == without + 1
    assert discarded("reset failed") == 0


@on_postgresql
def test_noting_the_state_costs_one_round_trip_at_the_opening(line):
    def opening():
        persistconn.drain()
        assert support.wait_until(lambda: support.backends() == [])
        before = line.round_trips
        unit_of_work()
        return line.round_trips - before

    opening()
    without = opening()
    with resetting():
        assert opening() == without + 2  # and one for the reset


# Failures.


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "persistconn")
    return lambda: [record.getMessage() for record in caplog.records]


def assert_it_is_discarded(reason):
    """Check that the next end of work discards its connection, and that nothing leaks."""
    before = discarded(reason)
    backend = unit_of_work()
    assert discarded(reason) == before + 1
    assert persistconn.stats()["default"]["in_use"] == 0
    assert unit_of_work() != backend


@pytest.mark.parametrize("sql", ["SELECT nothing FROM nowhere", "SELECT 1; SELECT nothing"])
def test_a_reset_that_fails_discards_the_connection(sql, warnings):
    with resetting(sql):
        assert_it_is_discarded("reset failed")
    assert "A connection is not kept: resetting its session failed." in warnings()


def test_a_reset_that_takes_too_long_discards_the_connection():
    with resetting(support.chosen.SLEEP % 30, CHECK_TIMEOUT=0.2):
        unit_of_work()
    assert discarded("reset failed") == 1
    support.kill_backends()  # it sleeps on


@on_postgresql
def test_the_reset_of_a_session_is_bounded_too(line):
    with resetting(CHECK_TIMEOUT=0.2):
        unit_of_work()
        do("SELECT 1")
        line.stall()
        end_of_work()
    assert discarded("reset failed") == 1


@on_postgresql
def test_a_connection_that_is_discarded_anyway_is_not_reset(clock):
    called = []
    with resetting(called.append, MAX_AGE=10):
        unit_of_work()
        assert called == [connection]
        fetch("SELECT 1")
        clock.forward(11)
        end_of_work()
    assert called == [connection]


def test_a_session_from_before_the_setting_was_switched_on_is_discarded():
    backend = unit_of_work()
    with resetting():
        before = discarded("reset")
        assert support.orm_pid() == backend
        end_of_work()
        assert discarded("reset") == before + 1


@on_postgresql
@pytest.mark.skipif(support.driver.__name__ != "psycopg", reason="psycopg2 prepares nothing")
def test_where_statements_cannot_be_deallocated_a_session_that_was_used_is_discarded():
    support.ask("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", database=DATABASE)
    support.chosen.create_role(support.ask, "clerk")
    try:
        with resetting(), database_as(USER="clerk"):
            assert_it_is_discarded("reset")
    finally:
        support.ask("GRANT USAGE ON LANGUAGE plpgsql TO PUBLIC", database=DATABASE)
        support.chosen.drop_role(support.ask, "clerk")


@on_postgresql
@pytest.mark.parametrize("settings", [{"USER": "clerk"}, {"OPTIONS": support.chosen.READ_ONLY}])
def test_a_reset_needs_no_rights(settings):
    support.chosen.create_role(support.ask, "clerk")
    try:
        with resetting(), database_as(**settings):
            backend = unit_of_work()
            do("SET work_mem = '77kB'")
            end_of_work()
            assert tell("SHOW work_mem") != "77kB"
            assert unit_of_work() == backend
    finally:
        support.chosen.drop_role(support.ask, "clerk")


# The user's own SQL and functions.


def test_sql_of_the_users_own_runs_after_work_of_the_orm_too():
    with resetting(support.chosen.SET_TENANT % "nobody"):
        backend = support.orm_pid()
        end_of_work()
        assert fetch(support.chosen.TELL_TENANT) == "nobody"
        assert unit_of_work() == backend


@on_postgresql
def test_sql_of_the_users_own_can_be_discard_all():
    with resetting("DISCARD ALL"):
        backend = unit_of_work()
        do("SET work_mem = '77kB'")
        end_of_work()
        assert tell("SHOW work_mem") != "77kB"
        assert unit_of_work() == backend


@pytest.mark.skipif(not TAKES_SEVERAL, reason="this driver of MySQL takes one statement at a time")
def test_sql_of_the_users_own_can_have_several_statements():
    with resetting("SELECT 1; " + support.chosen.SET_TENANT % "nobody"):
        backend = unit_of_work()
        assert fetch(support.chosen.TELL_TENANT) == "nobody"
        assert unit_of_work() == backend


def test_a_transaction_that_sql_of_the_users_own_begins_is_rolled_back():
    with resetting("START TRANSACTION READ ONLY"):
        backend = unit_of_work()
        assert support.states() == ["idle"]
        assert unit_of_work() == backend


def set_tenant(wrapper):
    wrapper.cursor().execute(support.chosen.SET_TENANT % "called")
    commit(wrapper.alias)


@pytest.mark.parametrize("reset", [set_tenant, "test_reset.set_tenant"])
def test_a_function_gets_djangos_connection(reset):
    with resetting(reset):
        backend = support.orm_pid()
        end_of_work()
        assert fetch(support.chosen.TELL_TENANT) == "called"
        assert unit_of_work() == backend
    stats = persistconn.stats()["default"]
    assert (stats["in_use"], stats["idle"]) == (0, 1)


def test_what_a_function_leaves_open_is_closed_and_rolled_back(rows):
    left = []

    def reset(wrapper):
        left.append(wrapper.cursor())
        left[-1].execute("BEGIN")
        left[-1].execute("INSERT INTO item VALUES ('uncommitted')")

    with resetting(reset):
        backend = unit_of_work()
        assert support.states() == ["idle"]
        assert unit_of_work() == backend
        with pytest.raises(support.database_errors()):
            left[0].execute("SELECT 1")
        end_of_work()  # Django 1.6 and 1.7 have opened a connection before they failed
    assert rows() == []


class Oops(Exception):
    pass


def raising(wrapper):
    raise Oops()


def test_a_function_that_raises_discards_the_connection(warnings):
    with resetting(raising):
        assert_it_is_discarded("reset failed")
    assert "A connection is not kept: resetting its session failed." in warnings()


def test_an_interrupt_in_a_function_is_raised_and_discards_the_connection():
    def interrupted(wrapper):
        raise KeyboardInterrupt()

    with resetting(interrupted):
        before = discarded("error")
        with pytest.raises(KeyboardInterrupt):
            unit_of_work()
        assert discarded("error") == before + 1
    assert persistconn.stats()["default"]["in_use"] == 0


def test_a_function_may_close_the_connection_or_end_the_work():
    for reset in (lambda wrapper: wrapper.close(), lambda wrapper: end_of_work()):
        with resetting(reset):
            unit_of_work()
            unit_of_work()
            assert persistconn.stats()["default"]["in_use"] == 0
            assert support.is_idle()


def test_a_function_may_use_another_database_and_its_connection_is_given_back():
    def use_another(wrapper):
        fetch("SELECT 1", "other")

    with resetting(use_another):
        unit_of_work()
    assert persistconn.stats()["other"]["in_use"] == 0
    assert persistconn.stats()["other"]["idle"] == 1


def test_a_wrapper_that_a_function_makes_by_hand_stays_its_own():
    made = []

    def make(wrapper):
        if not made:
            made.append(wrapper.__class__(dict(wrapper.settings_dict), "default"))
            made[0].cursor().close()

    with resetting(make):
        unit_of_work()
        try:
            assert made[0].connection is not None
        finally:
            made[0].close()


def test_a_function_that_closes_the_connection_and_takes_another_holds_none_afterwards():
    def close_and_use(wrapper):
        wrapper.close()
        wrapper.cursor().execute("SELECT 1")

    with resetting(close_and_use):
        unit_of_work()
        assert support.wait_until(lambda: support.backends() == [])
        assert persistconn.stats()["default"]["in_use"] == 0


@pytest.mark.skipif(BEFORE_1_6, reason="atomic() came with 1.6")
def test_an_atomic_block_that_a_function_leaves_open_is_not_the_next_ones():
    from django.db import transaction

    def begin(wrapper):
        transaction.atomic().__enter__()

    with resetting(begin):
        backend = unit_of_work()
        assert not connection.in_atomic_block
        assert unit_of_work() == backend


def test_a_receiver_of_connection_created_may_replace_the_method_cursor():
    def receive(connection, **kwargs):
        connection.cursor = traced = partial(connection.cursor)
        replaced.append(traced)

    replaced = []
    with created(receive), resetting():
        unit_of_work()
        try:
            assert connections["default"].__dict__["cursor"] is replaced[0]
        finally:
            del connections["default"].cursor


@pytest.mark.parametrize("path", ["test_reset.nothing", "no_module.function", "test_reset.TIMES"])
def test_a_path_to_no_function_raises_an_error_before_anything_is_taken(path):
    with resetting(path):
        for _time in range(2):
            with pytest.raises(ImproperlyConfigured) as raised:
                unit_of_work()
            assert "RESET'] is %r" % path in str(raised.value)
    stats = persistconn.stats()["default"]
    assert (stats["in_use"], support.backends()) == (0, [])


def test_each_database_has_its_own_reset():
    with resetting(support.chosen.SET_TENANT % "nobody"):
        unit_of_work()
        unit_of_work("other")
        assert fetch(support.chosen.TELL_TENANT) == "nobody"
        assert fetch(support.chosen.TELL_TENANT, "other") != "nobody"
        end_of_work()


# MySQL and MariaDB.


@on_mariadb
def test_a_session_that_was_used_without_the_orm_is_discarded():
    with resetting():
        assert_it_is_discarded("reset")


@on_mariadb
def test_a_session_that_only_the_orm_has_used_is_kept():
    with resetting():
        backends = set()
        for _time in range(3):
            backends.add(support.orm_pid())
            end_of_work()
    assert len(backends) == 1
