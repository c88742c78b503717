"""A session serves only the alias and the settings that it was opened by."""

from __future__ import absolute_import

import gc
import logging
import threading

import django
import pytest
import support
from databases import chosen
from django.db import connection, connections
from django.db.backends.signals import connection_created
from support import (
    backends,
    database_as,
    end_of_work,
    fetch,
    get,
    in_thread,
    kill_backends,
    pid,
    settings_as,
    unit_of_work,
    wait_until,
)

import persistconn
from persistconn import databases
from persistconn.pool import pools

ROLE, PASSWORD = "checked", "open sesame"


def stats(alias="default"):
    return persistconn.stats().get(alias, {"in_use": 0, "idle": 0, "discarded": {}})


def made_by_hand(alias="default", **more):
    settings_dict = dict(connections[alias].settings_dict, **more)
    return connections[alias].__class__(settings_dict, alias)


# Passwords.


@pytest.fixture
def checked_role():
    """An idle session of a role whose password the server checks."""
    with support.role_with_password(ROLE, PASSWORD):
        with database_as(USER=ROLE, PASSWORD=PASSWORD):
            unit_of_work()
            assert fetch(chosen.ROLE) == ROLE
            end_of_work()
            yield
        persistconn.drain()
        assert wait_until(lambda: backends() == [])


def refused(work):
    with pytest.raises(support.database_errors()) as error:
        work()
    return chosen.REFUSED in str(error.value)


def test_a_wrong_password_is_refused_after_the_right_password_was_used(checked_role):
    with database_as(PASSWORD="WRONG"):
        assert refused(pid)


def test_a_wrong_password_of_another_alias_is_refused(checked_role):
    database = connections["default"].settings_dict
    with database_as("other", NAME=database["NAME"], USER=ROLE, PASSWORD="WRONG"):
        assert refused(lambda: pid("other"))


def test_a_wrong_password_of_a_wrapper_made_by_hand_is_refused(checked_role):
    wrapper = made_by_hand(PASSWORD="WRONG")
    assert refused(wrapper.cursor)
    assert wrapper.connection is None


def test_a_refused_password_leaves_nothing_in_use(checked_role):
    with database_as(PASSWORD="WRONG"):
        assert refused(pid)
        end_of_work()
    assert stats()["in_use"] == 0


def test_the_right_password_still_gets_the_kept_session(checked_role):
    assert unit_of_work() == unit_of_work()


SECRET = "hunter2-and-then-some"

SECRETS = [
    {"PASSWORD": SECRET},
    {"TOKEN": SECRET},
    {"OPTIONS": {"password": SECRET}},
    {"TENANT": {"keys": [SECRET]}},
]


def of_persistconn():
    """All living objects of persistconn's classes."""
    found = []
    for candidate in gc.get_objects():
        # Not by isinstance(): a proxy answers for its target there.
        if str(getattr(type(candidate), "__module__", "")).startswith("persistconn"):
            found.append(candidate)
    return found


def objects():
    gc.collect()
    return len(of_persistconn())


def attributes(candidate):
    names = list(getattr(candidate, "__dict__", ()))
    for cls in type(candidate).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return [getattr(candidate, name, None) for name in names]


def keys_and_names():
    """The reprs and the keys of persistconn's objects, without the settings that they are given."""
    for candidate in of_persistconn():
        yield repr(candidate)
        for value in attributes(candidate):
            if isinstance(value, dict):
                yield repr(list(value))
            elif isinstance(value, (tuple, frozenset, str, bytes)):
                yield repr(value)


@pytest.mark.parametrize("settings", SECRETS, ids=lambda settings: list(settings)[0])
def test_no_key_and_no_repr_shows_a_secret(settings):
    with database_as(**settings):
        assert unit_of_work() in backends()
        assert [text for text in keys_and_names() if SECRET in text] == []


@pytest.mark.parametrize("settings", SECRETS, ids=lambda settings: list(settings)[0])
def test_no_log_line_shows_a_secret(settings, caplog):
    caplog.set_level(logging.DEBUG, "persistconn")
    with database_as(**settings):
        unit_of_work()
        kill_backends()
        unit_of_work()
        persistconn.drain()
    assert caplog.records
    assert SECRET not in caplog.text


# Aliases.


@pytest.fixture
def twins():
    """Two aliases of one database."""
    with database_as("other", NAME=connections["default"].settings_dict["NAME"]):
        yield


def test_two_aliases_of_one_database_share_no_session(twins):
    first = unit_of_work("default")
    assert unit_of_work("other") != first
    assert unit_of_work("default") == first


def test_a_parameter_that_a_receiver_sets_by_alias_is_seen_by_that_alias_only(twins):
    def set_tenant(sender, connection, **kwargs):
        connection.cursor().execute(chosen.SET_TENANT % ("of_" + connection.alias))

    def tenant(alias):
        try:
            return fetch(chosen.TELL_TENANT, alias)
        finally:
            end_of_work()

    connection_created.connect(set_tenant)
    try:
        seen = [tenant(alias) for alias in ("default", "other", "default", "other")]
    finally:
        connection_created.disconnect(set_tenant)
    assert seen == ["of_default", "of_other"] * 2


def test_stats_count_each_alias_for_itself(twins):
    before = stats("other").get("opened", 0)
    unit_of_work("default")
    assert (stats("default")["idle"], stats("other")["idle"]) == (1, 0)
    assert stats("other").get("opened", 0) == before


def test_an_alias_with_max_age_0_leaves_the_sessions_of_another_alias_alone(twins):
    kept = unit_of_work("default")
    with database_as("other", PERSISTCONN={"MAX_AGE": 0}):
        assert unit_of_work("other") != kept
    assert unit_of_work("default") == kept


def test_a_wrapper_made_by_hand_with_max_age_0_leaves_the_sessions_of_its_alias_alone():
    kept = unit_of_work()
    wrapper = made_by_hand(PERSISTCONN={"MAX_AGE": 0})
    wrapper.cursor().close()
    wrapper.close()
    assert unit_of_work() == kept


# Settings.

REACHES_THE_SERVER = [
    {"OPTIONS": chosen.own_option("mine")},
    {"PASSWORD": SECRET},
    {"SCHEMA": "tenant"},
    {"TOKEN": "another"},
]


@pytest.mark.parametrize("settings", REACHES_THE_SERVER, ids=lambda settings: list(settings)[0])
def test_a_session_opened_by_other_settings_is_not_used(settings):
    before = unit_of_work()
    with database_as(**settings):
        assert unit_of_work() != before


@pytest.mark.skipif(django.VERSION < (1, 4), reason="USE_TZ came with 1.4")
def test_a_session_opened_under_another_use_tz_is_not_used():
    def forget_zones():
        for name in ("timezone", "timezone_name"):
            connections["default"].__dict__.pop(name, None)

    before = unit_of_work()
    with settings_as(USE_TZ=True):
        forget_zones()
        assert unit_of_work() != before
    forget_zones()


STAYS_IN_DJANGO = [
    {"TEST": {"NAME": "another"}},
    {"TEST_NAME": "another"},
    {"CONN_MAX_AGE": 60},
    {"CONN_HEALTH_CHECKS": True},
    {"ATOMIC_REQUESTS": True},
    {"PERSISTCONN": {"CHECK_AFTER": 5}},
]


@pytest.mark.parametrize("settings", STAYS_IN_DJANGO, ids=lambda settings: list(settings)[0])
def test_a_setting_that_does_not_reach_the_server_leaves_the_session_usable(settings):
    before = unit_of_work()
    with database_as(**settings):
        assert unit_of_work() == before


# Settings that change leave nothing behind.

ROTATIONS = 20


@pytest.fixture
def roles():
    names = ["rotating_%d" % number for number in range(ROTATIONS)]
    for name in names:
        chosen.create_role(support.query, name)
    yield names
    persistconn.drain()
    for name in names:
        chosen.drop_role(support.query, name)


def test_credentials_that_rotate_leave_at_most_one_idle_session(roles):
    for role in roles:
        with database_as(USER=role):
            unit_of_work()
            last = fetch(chosen.ROLE)
            end_of_work()
            assert last == role
            assert wait_until(lambda: len(backends()) <= 1)
    assert stats()["idle"] <= 1


def named(name):
    """Settings that no thread of another test has had."""
    return database_as(OPTIONS=chosen.own_option(name))


def test_databases_that_take_turns_leave_at_most_one_idle_session():
    with named("taking turns"):
        for _turn in range(5):
            for name in (support.OTHER, support.DATABASE):
                with database_as(NAME=name):
                    unit_of_work()
                    assert wait_until(lambda: len(backends()) <= 1)
    unit_of_work()
    assert wait_until(lambda: len(backends()) <= 1)


def test_settings_that_no_wrapper_has_any_more_are_forgotten():
    def change(number):
        with named("number %d" % number):
            unit_of_work()

    for number in range(3):
        change(number)
    before = objects()
    for number in range(ROTATIONS):
        change(3 + number)
    assert wait_until(lambda: objects() <= before, seconds=2)


def test_aliases_of_dropped_wrappers_are_forgotten():
    def use(number):
        settings_dict = dict(connection.settings_dict)
        wrapper = connections["default"].__class__(settings_dict, "tenant %d" % number)
        wrapper.cursor().close()
        wrapper.close()

    for number in range(3):
        use(number)
    before = objects()
    for number in range(ROTATIONS):
        use(3 + number)
    assert wait_until(lambda: objects() <= before, seconds=2)


def test_a_thread_that_comes_while_its_settings_are_being_forgotten_is_counted(monkeypatch):
    unit_of_work()
    persistconn.drain()
    stock, taken, given = pools._has_users, threading.Event(), threading.Event()

    def work():
        pid()
        taken.set()
        given.wait()
        end_of_work()

    def look(pool):
        found = stock(pool)
        if not thread.is_alive() and not taken.is_set():
            thread.start()
            taken.wait()
        return found

    thread = threading.Thread(target=work)
    # Other settings of the project, so that the pool has no users.
    with settings_as(PERSISTCONN_MAX_CONNS=2):
        monkeypatch.setattr(pools, "_has_users", look)
        databases.pools.expire()
        monkeypatch.undo()
        in_use = stats()["in_use"]
        given.set()
        thread.join()
        assert (in_use, stats()["in_use"]) == (1, 0)


def test_idle_sessions_that_ended_threads_left_under_old_settings_are_closed():
    def work():
        pid()
        wait_until(lambda: len(backends()) == 3)
        end_of_work()

    with named("old"):
        support.together(work, work, work)
        assert len(backends()) == 3
        gc.collect()  # collects the threads' wrappers
        unit_of_work()
    with named("new"):
        now = unit_of_work()
        assert wait_until(lambda: backends() == [now])


@pytest.mark.skipif(django.VERSION < (1, 4), reason="all threads share their wrappers before 1.4")
def test_a_session_under_old_settings_is_kept_as_long_as_a_wrapper_uses_them():
    moved, looked = threading.Event(), []

    def stay():
        support.put_wrapper(made_by_hand(), "default")
        looked.append(unit_of_work())
        moved.wait()
        looked.append(unit_of_work())

    thread = threading.Thread(target=stay)
    thread.start()
    try:
        assert wait_until(lambda: len(looked) == 1)
        with named("new"):
            unit_of_work()
    finally:
        moved.set()
        thread.join()
    assert looked[0] == looked[1]


def test_a_session_in_use_under_old_settings_is_closed_at_the_end_of_its_work():
    with named("old"):
        before = pid()
    with named("new"):
        end_of_work()
        assert wait_until(lambda: backends() == [])
        assert unit_of_work() != before


# Wrappers made by hand belong to the code that made them.


def by_class():
    return made_by_hand()


def by_copy():
    return connections["default"].copy()


def by_create_connection():
    return connections.create_connection("default")


MAKERS = [by_class]
if hasattr(connection, "copy"):
    MAKERS.append(by_copy)
if hasattr(connections, "create_connection"):
    MAKERS.append(by_create_connection)

all_makers = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def ask(wrapper, sql=support.chosen.PID):
    cursor = wrapper.cursor()
    try:
        cursor.execute(sql)
        return cursor.fetchone()[0]
    finally:
        cursor.close()


def a_request():
    get("/pid/")


@all_makers
@pytest.mark.parametrize("end", [end_of_work, a_request], ids=["end of work", "request"])
def test_a_wrapper_made_by_hand_keeps_its_session_when_other_work_ends(make, end):
    wrapper = make()
    wrapper.cursor().execute(chosen.TEMPORARY_TABLE)
    before = ask(wrapper)
    end()
    assert pid() != before
    assert ask(wrapper, "SELECT count(*) FROM mine") == 0
    assert ask(wrapper) == before
    end_of_work()
    wrapper.close()


@all_makers
def test_a_wrapper_made_by_hand_keeps_its_transaction_when_other_work_ends(make, rows):
    wrapper = make()
    if not support.BEFORE_1_6:
        wrapper.cursor().execute("BEGIN")
    wrapper.cursor().execute("INSERT INTO item VALUES ('mine')")
    a_request()
    wrapper.cursor().execute("COMMIT")
    assert rows() == ["mine"]
    wrapper.close()


@all_makers
def test_the_session_of_a_wrapper_made_by_hand_is_given_to_nobody_else(make):
    wrapper = make()
    own = ask(wrapper)
    end_of_work()
    assert own not in [unit_of_work(), in_thread(unit_of_work)]
    assert stats()["in_use"] == 1
    wrapper.close()


@all_makers
def test_a_wrapper_made_by_hand_gets_a_session_that_is_alive(make):
    before = unit_of_work()
    kill_backends()
    wrapper = make()
    assert ask(wrapper) != before
    wrapper.close()


@all_makers
def test_the_loss_of_a_session_of_a_wrapper_made_by_hand_is_raised_once_though_other_work_ended(
    make,
):
    wrapper = make()
    ask(wrapper)
    end_of_work()
    kill_backends()
    with pytest.raises(support.database_errors()):
        ask(wrapper)
    assert ask(wrapper) in backends()
    wrapper.close()


@all_makers
def test_a_wrapper_made_by_hand_really_closes(make):
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        wrapper = make()
        own = ask(wrapper)
        wrapper.close()
        assert wait_until(lambda: own not in backends())
        assert in_thread(unit_of_work) != own


@all_makers
def test_a_dropped_wrapper_made_by_hand_frees_its_slot(make):
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        wrapper = make()
        own = ask(wrapper)
        end_of_work()
        assert own in backends()
        del wrapper
        gc.collect()
        assert in_thread(unit_of_work)
        assert wait_until(lambda: stats()["in_use"] == 0)


@all_makers
def test_a_wrapper_made_by_hand_reopens_after_its_close(make):
    wrapper = make()
    before = ask(wrapper)
    wrapper.close()
    assert ask(wrapper) != before
    wrapper.close()
    assert wait_until(lambda: stats()["in_use"] == 0)
