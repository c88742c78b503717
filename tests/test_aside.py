"""Cases that persistconn leaves to Django, where connections behave as in stock Django."""

from __future__ import absolute_import

import unittest

import django
import pytest
import support
from databases import chosen
from django.db import connection, connections
from support import backends, end_of_work, get, pid, settings_as, wait_until

import persistconn
from persistconn import lease


def stock_closes():
    """True if the connection is really closed at the end of work, and nothing is kept."""
    pid()
    end_of_work()
    return connection.connection is None and wait_until(lambda: backends() == [])


def test_max_age_0_is_off_for_all_databases():
    with settings_as(PERSISTCONN_MAX_AGE=0):
        assert stock_closes()


def test_max_age_0_is_off_for_one_database():
    with support.database_as("other", PERSISTCONN={"MAX_AGE": 0}):
        get("/both/")
        assert wait_until(lambda: len(backends()) == 1)


def test_max_age_0_closes_a_kept_connection_at_its_next_use():
    pid()
    end_of_work()
    with settings_as(PERSISTCONN_MAX_AGE=0):
        assert stock_closes()


def test_max_age_0_in_mid_work_leaves_the_end_of_work_to_django():
    pid()
    with settings_as(PERSISTCONN_MAX_AGE=0):
        end_of_work()
    assert wait_until(lambda: backends() == [])


@pytest.mark.skipif(django.VERSION < (1, 4), reason="override_settings came with 1.4")
def test_override_settings_of_max_age_works_at_once():
    from django.test.utils import override_settings

    with override_settings(PERSISTCONN_MAX_AGE=0):
        assert stock_closes()
    pid()
    end_of_work()
    assert len(backends()) == 1


@pytest.mark.skipif(django.VERSION < (1, 7), reason="INSTALLED_APPS is loaded anew since 1.7")
def test_installed_apps_may_be_overridden():
    from django.test.utils import override_settings

    before = pid()
    end_of_work()
    with override_settings(INSTALLED_APPS=["persistconn"]):
        assert pid() == before
        end_of_work()
    assert support.patches_in_force() == support.all_patches


def test_a_setting_changed_at_run_time_counts_at_the_next_checkout(monkeypatch):
    from django.conf import settings

    pid()
    end_of_work()
    monkeypatch.setattr(settings, "PERSISTCONN_MAX_AGE", 0)
    pid()
    assert not lease.of(connections["default"]).database_now(connections["default"]).is_kept
    end_of_work()
    assert wait_until(lambda: support.backends() == [])
    monkeypatch.undo()


def test_a_database_with_djangos_own_pool_is_left_to_that_pool():
    with support.database_as("other", OPTIONS={"pool": True}):
        assert not lease.of(connections["other"]).database_now(connections["other"]).is_kept


@pytest.mark.skipif(
    django.VERSION < (5, 1) or support.driver.__name__ != "psycopg",
    reason="Django has a pool since 5.1, for psycopg 3",
)
def test_djangos_own_pool_works_beside_persistconn():
    pytest.importorskip("psycopg_pool")
    before = persistconn.stats()
    with support.database_as("other", OPTIONS={"pool": {"min_size": 1, "max_size": 1}}):
        connections["other"].close()
        first, second = [pid("other"), end_of_work()][0], pid("other")
        end_of_work()
        connections["other"].close_pool()
    assert first == second
    assert persistconn.stats() == before


def sqlite(name):
    from django.db.utils import load_backend

    values = dict(connections["default"].settings_dict, NAME=name, USER="", OPTIONS={})
    values["ENGINE"] = "django.db.backends.sqlite3"
    return load_backend("django.db.backends.sqlite3").DatabaseWrapper(values, "lite")


def test_an_sqlite_database_in_memory_is_not_lost():
    with support.wrapper_as(sqlite(":memory:"), "other") as wrapper:
        wrapper.cursor().execute("CREATE TABLE item (name text)")
        end_of_work()
    assert wrapper.cursor().execute("SELECT count(*) FROM item").fetchone() == (0,)
    assert "lite" not in persistconn.stats()


def test_stats_has_every_alias_of_databases_with_all_counts():
    stats = persistconn.stats()
    assert set(stats) >= set(connections)
    assert all(set(counts) == set(stats["default"]) for counts in stats.values())


def test_stats_has_zeros_for_an_alias_that_has_had_no_connection(monkeypatch):
    monkeypatch.setitem(connections.databases, "lite", {"ENGINE": "django.db.backends.sqlite3"})
    counts = persistconn.stats()["lite"]
    assert counts.pop("discarded") == {}
    assert set(counts.values()) == set([0])


def test_no_connection_of_sqlite_takes_part_in_a_pool():
    wrapper = sqlite(":memory:")
    wrapper.cursor().close()
    assert not lease.of(wrapper).database_now(wrapper).is_kept
    wrapper.connection.close()


def test_an_sqlite_file_is_closed_at_the_end_of_work(tmpdir):
    with support.wrapper_as(sqlite(str(tmpdir.join("database"))), "other") as wrapper:
        wrapper.cursor().execute("CREATE TABLE item (name text)")
        end_of_work()
    assert wrapper.connection is None


def test_an_sqlite_wrapper_made_by_hand_is_not_closed_at_the_end_of_work(tmpdir):
    wrapper = sqlite(str(tmpdir.join("database")))
    wrapper.cursor().execute(chosen.TEMPORARY_TABLE)
    end_of_work()
    get("/none/")
    assert wrapper.cursor().execute("SELECT count(*) FROM mine").fetchone() == (0,)
    wrapper.close()


def test_an_sqlite_wrapper_needs_no_settings_of_a_server(tmpdir):
    wrapper = sqlite(str(tmpdir.join("database")))
    for name in ("HOST", "PORT", "USER", "PASSWORD"):
        del wrapper.settings_dict[name]
    with support.wrapper_as(wrapper, "other"):
        assert wrapper.cursor().execute("SELECT 1").fetchone() == (1,)
        end_of_work()
    assert wrapper.connection is None


def test_the_dummy_backend_is_left_alone():
    from django.db.utils import load_backend

    values = dict(connections["default"].settings_dict, ENGINE="django.db.backends.dummy")
    wrapper = load_backend("django.db.backends.dummy").DatabaseWrapper(values, "none")
    with pytest.raises(Exception) as error:
        wrapper.cursor()
    assert "ENGINE" in str(error.value)
    end_of_work()


def run_test_case(method, base="TestCase", **attributes):
    """Run method as the one test of a django.test.TestCase; return its unittest result."""
    import django.test

    attributes = dict({"test": method, "databases": {"default"}}, **attributes)
    case = type("Case", (getattr(django.test, base),), attributes)
    result = unittest.TestResult()
    unittest.TestSuite([case("test")]).run(result)
    connection.close()
    assert result.testsRun == 1, result.errors
    return result


@pytest.fixture
def supports_transactions():
    # Before 1.3 Django's test runner sets this, and these tests do not use that runner.
    with support.database_as("default", SUPPORTS_TRANSACTIONS=True):
        with support.database_as("other", SUPPORTS_TRANSACTIONS=True):
            yield


def test_a_test_case_keeps_its_transaction_over_client_requests(rows, supports_transactions):
    seen = []

    def test(self):
        seen.append(pid())
        connection.cursor().execute("INSERT INTO item VALUES ('in test')")
        seen.append(int(self.client.get("/pid/").content))
        seen.append(support.fetch("SELECT count(*) FROM item"))

    result = run_test_case(test)
    assert result.wasSuccessful(), result.failures + result.errors
    assert seen[0] == seen[1]
    assert seen[2] == 1
    assert rows() == []


@pytest.mark.skipif(django.VERSION < (1, 3), reason="assertNumQueries came with 1.3")
def test_a_check_is_not_counted_by_assert_num_queries(clock, supports_transactions):
    def test(self):
        end_of_work()
        pid()
        end_of_work()
        clock.forward(10)
        self.assertNumQueries(1, pid)
        end_of_work()

    result = run_test_case(test, "TransactionTestCase")
    assert result.wasSuccessful(), result.failures + result.errors


def ask_by_a_real_handler():
    # The view answers 500 where stock Django has closed the connection by then.
    return get("/pid/").status


def outcome_of(test, base, **attributes):
    """The errors of a test of one of Django's TestCases, and the counts of errors and failures."""
    result = run_test_case(test, base, **attributes)
    errors = [text.splitlines()[-1] for case, text in result.errors + result.failures]
    return errors, len(result.errors), len(result.failures)


def use_atomic(self):
    from django.db import transaction

    with transaction.atomic():
        pass


def use_a_cursor(self):
    connection.cursor().execute("SELECT 1")


@pytest.mark.skipif(django.VERSION < (1, 6), reason="atomic() came with 1.6")
@pytest.mark.parametrize("use", [use_atomic, use_a_cursor], ids=lambda use: use.__name__)
@pytest.mark.parametrize("is_kept", [False, True], ids=["none kept", "one kept"])
def test_a_simple_test_case_bans_databases_as_stock_django_does(use, is_kept):
    persistconn.disable()
    stocks = outcome_of(use, "SimpleTestCase", databases=set())
    persistconn.enable()
    if is_kept:
        pid()
        end_of_work()
    assert outcome_of(use, "SimpleTestCase", databases=set()) == stocks
    assert persistconn.stats().get("default", {}).get("in_use", 0) == 0


@pytest.mark.parametrize("act", [end_of_work, ask_by_a_real_handler])
def test_an_end_of_work_inside_a_test_case_acts_as_in_stock_django(act, supports_transactions):
    def work(self):
        pid()
        try:
            outcome = act()
        except Exception as stocks:
            outcome = type(stocks)
        closed = connection.connection is None or connection.closed_in_transaction
        return outcome, closed, getattr(connection, "in_atomic_block", None)

    def outcome():
        seen = []
        result = run_test_case(lambda self: seen.append(work(self)))
        return seen, len(result.errors), len(result.failures)

    ours = outcome()
    persistconn.disable()
    stocks = outcome()
    persistconn.enable()
    assert ours == stocks
