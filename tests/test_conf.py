"""Settings: where they may be set, their defaults, and how bad values are reported."""

from __future__ import absolute_import

import posixpath

import django
import pytest
import support
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from support import settings_as

import persistconn
from persistconn import compat, conf, databases, problems


def problem():
    (found,) = problems.find_problems()
    return found


def test_a_setting_of_the_project_counts_for_all_databases():
    with settings_as(PERSISTCONN_CHECK_AFTER=7):
        assert conf.of({}).check_after == 7


def test_a_setting_of_a_database_overrides_the_setting_of_the_project():
    with settings_as(PERSISTCONN_CHECK_AFTER=7):
        assert conf.of({"PERSISTCONN": {"CHECK_AFTER": None}}).check_after is None


def test_a_setting_that_nobody_sets_has_its_default():
    assert conf.of({}).check_after == 1


def test_a_changed_setting_of_a_database_is_seen():
    database = {"PERSISTCONN": {"CHECK_AFTER": 1}}
    assert conf.of(database).check_after == 1
    database["PERSISTCONN"]["CHECK_AFTER"] = 2
    assert conf.of(database).check_after == 2


def test_a_connect_deadline_that_nobody_sets_is_known_as_not_set():
    assert not conf.of({}).connect_deadline_is_set


def test_a_connect_deadline_that_the_user_sets_is_known_as_set():
    default = conf.SETTINGS["CONNECT_DEADLINE"].default
    assert conf.of({"PERSISTCONN": {"CONNECT_DEADLINE": default}}).connect_deadline_is_set
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=default):
        assert conf.of({}).connect_deadline_is_set


@pytest.mark.parametrize(
    "project, database, age",
    [
        (600, {}, 600),
        (None, {}, None),
        (600, {"CONN_MAX_AGE": 0}, 600),
        (600, {"CONN_MAX_AGE": 60}, 60),
        (600, {"CONN_MAX_AGE": None}, None),
        (600, {"CONN_MAX_AGE": 60, "PERSISTCONN": {"MAX_AGE": 5}}, 5),
        (600, {"CONN_MAX_AGE": 60, "PERSISTCONN": {"CHECK_AFTER": 5}}, 60),
        (600, {"PERSISTCONN": {"MAX_AGE": 0}}, 0),
        (0, {}, 0),
        (0, {"CONN_MAX_AGE": 60}, 0),
        (0, {"PERSISTCONN": {"MAX_AGE": 5}}, 5),
    ],
)
def test_max_age_and_conn_max_age_have_an_order_of_precedence(project, database, age):
    with settings_as(PERSISTCONN_MAX_AGE=project):
        assert conf.of(database).max_age == age


def test_conn_max_age_limits_the_age_on_every_django(clock):
    with support.database_as(CONN_MAX_AGE=60):
        before = support.ask_for_pids(2)
        assert len(set(before)) == 1
        clock.forward(60)
        assert support.ask_for_pids(1) != before[:1]


@pytest.mark.parametrize("value", ["600", -1, True, [], float("nan")])
def test_a_bad_value_is_reported_with_its_setting_and_the_allowed_values(value):
    with settings_as(PERSISTCONN_MAX_AGE=value):
        message = problem().message
        assert "PERSISTCONN_MAX_AGE is %r" % (value,) in message
        assert "a number of seconds, 0 (off) or None (no limit)" in message


NUMERIC = [name for name in conf.NAMES if name != "RECONNECT"]


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("name", NUMERIC)
def test_a_number_that_is_not_finite_is_refused_by_the_check(name, value):
    with settings_as(**{"PERSISTCONN_" + name: value}):
        assert problem().message.startswith("PERSISTCONN_%s is %r; allowed: " % (name, value))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", NUMERIC)
def test_a_number_that_is_not_finite_is_refused_when_it_is_used(name, value):
    with pytest.raises(ImproperlyConfigured) as raised:
        conf.of({"PERSISTCONN": {name: value}})
    assert "PERSISTCONN['%s'] is %r; allowed: " % (name, value) in str(raised.value)


def test_a_conn_max_age_of_infinity_is_no_limit_as_in_stock_django():
    assert conf.of({"CONN_MAX_AGE": float("inf")}).max_age is None


def test_a_lost_session_is_replaced_for_the_orm_by_default():
    assert conf.of({}).reconnect == "orm"


@pytest.mark.parametrize("value", ["orm", "always", "never"])
def test_reconnect_is_set_for_the_project_or_for_a_database(value):
    with settings_as(PERSISTCONN_RECONNECT=value):
        assert list(problems.find_problems()) == []
        assert conf.of({}).reconnect == value
    assert conf.of({"PERSISTCONN": {"RECONNECT": value}}).reconnect == value


@pytest.mark.parametrize("value", ["ORM", "", None, True, 0, ["orm"]])
def test_a_bad_value_of_reconnect_is_reported_with_the_allowed_values(value):
    with settings_as(PERSISTCONN_RECONNECT=value):
        found = problem()
        with pytest.raises(ImproperlyConfigured):
            conf.of({})
    said = "PERSISTCONN_RECONNECT is %r; allowed: 'orm', 'always' or 'never'." % (value,)
    assert (found.message, found.hint) == (said, "Leave it out for the default, 'orm'.")


def test_a_bad_value_of_a_database_is_reported_with_its_alias():
    with support.database_as(PERSISTCONN={"MAX_AGE": "x"}):
        assert "DATABASES['default']['PERSISTCONN']['MAX_AGE'] is 'x'" in problem().message


def test_nothing_is_reset_by_default():
    assert conf.of({}).reset is None


@pytest.mark.parametrize("value", [None, "session", "DISCARD ALL", "SELECT 1;SELECT 2", len])
def test_a_reset_is_set_for_the_project_or_for_a_database(value):
    with settings_as(PERSISTCONN_RESET=value):
        assert list(problems.find_problems()) == []
        assert conf.of({}).reset == value
    assert conf.of({"PERSISTCONN": {"RESET": value}}).reset == value


def test_a_reset_by_a_dotted_path_is_the_function_there():
    for path in ("posixpath.join", b"posixpath.join".decode("ascii")):
        assert conf.of({"PERSISTCONN": {"RESET": path}}).reset is posixpath.join


@pytest.mark.parametrize(
    "value", ["sesion", "session ", "", " ", ".a", "a.", "a.b\n", "a.1", 1, []]
)
def test_a_bad_value_of_reset_is_reported_with_the_allowed_values(value):
    with settings_as(PERSISTCONN_RESET=value):
        found = problem()
        with pytest.raises(ImproperlyConfigured):
            conf.of({})
    said = "PERSISTCONN_RESET is %r; allowed: 'session', SQL of two words or more, a function" % (
        value,
    )
    assert found.message.startswith(said)
    assert (found.id, found.hint) == ("persistconn.E001", "Leave it out for the default, None.")


@pytest.mark.skipif(not compat.HAS_COROUTINES, reason="Python 2 has no coroutines")
def test_a_coroutine_function_is_no_reset():
    namespace = {}
    exec("async def reset(connection): pass", namespace)
    with settings_as(PERSISTCONN_RESET=namespace["reset"]):
        assert "allowed: 'session', SQL" in problem().message


#: Paths to no function, and why.
NO_FUNCTIONS = [
    ("no_module.function", "importing it failed: "),
    ("posixpath.nothing", "importing it failed: AttributeError: "),
    ("posixpath.sep", "it is no function"),
]


@pytest.mark.parametrize("path, why", NO_FUNCTIONS)
def test_a_path_to_no_function_is_reported_when_it_is_used(path, why):
    with settings_as(PERSISTCONN_RESET=path):
        # At start, the project may not be ready to be imported.
        assert list(problems.find_problems()) == []
        with pytest.raises(ImproperlyConfigured) as raised:
            conf.of({})
    assert str(raised.value).startswith("PERSISTCONN_RESET is %r, and %s" % (path, why))
    assert "; allowed: 'session', SQL " in str(raised.value)


@support.only_on("postgresql", "MySQL's own checks connect, which a bad value forbids")
@pytest.mark.skipif(django.VERSION < (1, 7), reason="system checks came with 1.7")
@pytest.mark.parametrize("path, why", NO_FUNCTIONS)
def test_a_system_check_reports_a_path_to_no_function(path, why):
    from django.core import checks

    with settings_as(PERSISTCONN_RESET=path):
        (error,) = [e for e in checks.run_checks() if e.id.startswith("persistconn")]
    assert error.id == "persistconn.E001"
    assert error.msg.startswith("PERSISTCONN_RESET is %r, and %s" % (path, why))


def test_an_unknown_setting_is_reported_with_the_known_settings():
    with settings_as(PERSISTCONN_MAXAGE=5):
        assert problem().message == "PERSISTCONN_MAXAGE is not a setting of persistconn."
        assert "CHECK_AFTER" in problem().hint


def test_a_persistconn_of_a_database_that_is_no_dict_is_reported():
    with support.database_as(PERSISTCONN=600):
        assert "DATABASES['default']['PERSISTCONN'] is 600" in problem().message


@pytest.mark.parametrize("value", [0, None, -1, "2"])
def test_a_time_out_must_be_above_0(value):
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=value):
        assert problem().message.endswith("allowed: a number of seconds above 0.")


def test_installing_with_a_bad_value_raises_and_patches_nothing():
    persistconn.uninstall()
    try:
        with settings_as(PERSISTCONN_MAX_AGE="x"):
            with pytest.raises(ImproperlyConfigured):
                persistconn.install()
        assert support.patches_in_force() == set()
        assert not persistconn.is_enabled()
    finally:
        persistconn.install()


def test_a_bad_value_set_later_raises_an_error_when_it_is_used():
    with settings_as(PERSISTCONN_CHECK_AFTER="x"):
        with pytest.raises(ImproperlyConfigured):
            conf.of({})


@support.only_on("postgresql", "MySQL's own checks connect, which a bad value forbids")
@pytest.mark.skipif(django.VERSION < (1, 7), reason="system checks came with 1.7")
def test_a_system_check_reports_a_bad_value():
    from django.core import checks

    with settings_as(PERSISTCONN_MAX_AGE="x"):
        (error,) = [e for e in checks.run_checks() if e.id.startswith("persistconn")]
    assert (error.id, error.hint) == ("persistconn.E001", "Leave it out for the default, 600.")


@pytest.mark.skipif(django.VERSION < (1, 7), reason="system checks came with 1.7")
def test_good_settings_pass_the_system_checks():
    from django.core import checks

    assert [e for e in checks.run_checks() if str(e.id).startswith("persistconn")] == []


def test_a_setting_removed_while_another_setting_is_added_counts_as_a_change(monkeypatch):
    given, wrapper = conf.holder().__dict__, connections["default"]
    monkeypatch.setitem(given, "PERSISTCONN_TIMEOUT", 1)
    database = databases.Database(wrapper)
    assert database.is_of(wrapper.settings_dict)
    monkeypatch.delitem(given, "PERSISTCONN_TIMEOUT")
    monkeypatch.setitem(given, "SOMETHING_ELSE", 1)
    assert not database.is_of(wrapper.settings_dict)
