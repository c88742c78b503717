"""The main job: what a site's requests do to its connections."""

from __future__ import absolute_import

from contextlib import closing

import pytest
import support
from django.db import connection, connections
from support import ask_for_pids, backends, get, kill_backends, wait_until

import persistconn


def test_five_requests_use_one_backend():
    assert len(set(ask_for_pids(5))) == 1


def test_the_wrapper_is_closed_after_a_request():
    get("/pid/")
    assert support.open_wrappers() == []


def test_the_request_after_a_kill_is_a_200_on_a_new_backend():
    (before,) = ask_for_pids(1)
    assert kill_backends() == 1
    response = get("/pid/")
    assert response.status == 200
    assert int(response.text) != before


def test_a_request_is_served_after_all_idle_backends_have_died():
    get("/both/")
    assert kill_backends() == 2
    assert get("/both/").status == 200


def test_after_max_age_there_is_a_new_backend(clock):
    (before,) = ask_for_pids(1)
    clock.forward(600)
    (after,) = ask_for_pids(1)
    assert after != before
    assert wait_until(lambda: backends() == [after])


def test_before_max_age_the_backend_stays_the_same(clock):
    (before,) = ask_for_pids(1)
    clock.forward(560)
    assert ask_for_pids(1) == [before]


def test_while_disabled_each_request_has_a_new_backend_as_in_stock_django():
    persistconn.disable()
    try:
        assert len(set(ask_for_pids(5))) == 5
        assert wait_until(lambda: backends() == [])
    finally:
        persistconn.enable()


def test_connections_are_kept_again_after_enable():
    persistconn.disable()
    ask_for_pids(1)
    persistconn.enable()
    assert len(set(ask_for_pids(5))) == 1


@pytest.mark.skipif(support.BEFORE_1_6, reason="connections are in autocommit since Django 1.6")
def test_autocommit_is_kept_if_persistconn_is_switched_on_while_django_connects(monkeypatch):
    persistconn.disable()
    ask_for_pids(1)  # from here on the wrapper's autocommit is that of its last connection
    connect = connection.get_new_connection

    def connect_and_switch_on(params):
        raw = connect(params)
        persistconn.enable()
        return raw

    # Not by setattr(), which would leave a method on the wrapper.
    monkeypatch.setitem(vars(connections["default"]), "get_new_connection", connect_and_switch_on)
    found = []
    for _ in range(3):
        with closing(connection.cursor()) as cursor:
            cursor.execute("SELECT 1")
            found.append(support.chosen.is_in_autocommit(connection.connection))
        support.end_of_work()
    assert found == [True, True, True]


@support.only_on("postgresql", "Django sets the time zone of sessions of PostgreSQL only")
def test_the_time_zone_is_kept_throughout():
    zones = [get("/zone/").text]
    get("/raising/")
    get("/uncommitted/")
    zones += [get("/zone/").text, get("/zone/").text]
    kill_backends()
    zones += [get("/zone/").text, get("/zone/").text]
    assert zones == ["America/Chicago"] * 5


def test_a_request_of_the_test_client_in_between_keeps_the_same_backend():
    from django.test.client import Client

    before = ask_for_pids(2)
    assert int(Client().get("/pid/").content) == before[0]
    support.end_of_work()
    assert set(ask_for_pids(3)) == set(before)


def test_a_request_whose_view_raises_gives_its_connection_back():
    before = ask_for_pids(1)
    assert get("/raising/").status == 500
    assert ask_for_pids(1) == before


def test_a_row_that_a_view_left_uncommitted_is_rolled_back(rows):
    before = ask_for_pids(1)
    assert get("/uncommitted/").status == 200
    assert wait_until(lambda: support.states() == ["idle"])
    assert ask_for_pids(1) == before
    assert rows() == []


def test_each_database_keeps_a_connection_of_its_own():
    first, second = get("/both/").text, get("/both/").text
    assert first == second
    assert len(set(first.split())) == 2


def test_a_request_without_a_query_takes_no_connection():
    get("/none/")
    assert backends() == []


def test_stats_counts_opened_reused_idle_and_used_connections():
    before = persistconn.stats()["default"]
    ask_for_pids(4)
    after = persistconn.stats()["default"]
    assert after["opened"] - before["opened"] == 1
    assert after["reused"] - before["reused"] == 3
    assert (after["idle"], after["in_use"]) == (1, 0)


@pytest.mark.parametrize("path", ["/pid/", "/raising/"])
def test_a_session_is_idle_after_a_request(path):
    get(path)
    assert wait_until(lambda: support.states() == ["idle"])
