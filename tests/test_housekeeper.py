"""Idle sessions are closed without traffic: at MAX_AGE, and after MAX_IDLE."""

from __future__ import absolute_import

import threading

import pytest
import support
from django.db import connections
from support import (
    backends,
    database_as,
    end_of_work,
    in_child,
    in_thread,
    pid,
    settings_as,
    unit_of_work,
    wait_until,
)

import persistconn
from persistconn import threads


def discarded(reason, alias="default"):
    return persistconn.stats()[alias]["discarded"].get(reason, 0)


def housekeepers():
    return [t for t in threading.enumerate() if t.name == "persistconn housekeeper"]


def nothing_is_watched():
    return wait_until(lambda: housekeepers() == [])


# MAX_IDLE.


def test_a_session_idle_for_max_idle_is_closed_without_traffic():
    with settings_as(PERSISTCONN_MAX_IDLE=0.2):
        unit_of_work()
        assert len(backends()) == 1
        assert wait_until(lambda: backends() == [])
        assert wait_until(lambda: discarded("idle"))
    assert nothing_is_watched()


def test_a_session_idle_for_max_idle_is_not_used(clock):
    with settings_as(PERSISTCONN_MAX_IDLE=50):
        before = unit_of_work()
        clock.forward(51)
        assert unit_of_work() != before


# MAX_AGE.


def test_an_idle_session_is_closed_at_max_age_without_traffic():
    before = discarded("age") if "default" in persistconn.stats() else 0
    with settings_as(PERSISTCONN_MAX_AGE=1):
        unit_of_work()
        assert len(backends()) == 1
        # Of a MAX_AGE so short, one use is traffic, and the session may have had a successor.
        assert wait_until(lambda: backends() == [], seconds=2 * 1 + 2)
        assert wait_until(lambda: discarded("age") > before)


def test_an_idle_session_is_not_closed_before_max_age():
    with settings_as(PERSISTCONN_MAX_AGE=3):
        unit_of_work()
        assert not wait_until(lambda: backends() == [], seconds=1.5)


def test_use_does_not_make_an_idle_session_younger():
    with settings_as(PERSISTCONN_MAX_AGE=1.5):
        first = unit_of_work()
        assert wait_until(lambda: unit_of_work() != first, seconds=1.5 + 2)
        assert wait_until(lambda: backends() == [], seconds=2 * 1.5 + 2)


def test_an_idle_session_is_closed_at_max_age_though_max_idle_is_longer():
    with settings_as(PERSISTCONN_MAX_AGE=1, PERSISTCONN_MAX_IDLE=600):
        unit_of_work()
        assert wait_until(lambda: backends() == [], seconds=2 * 1 + 2)


def test_each_database_has_a_max_age_of_its_own():
    with database_as("other", PERSISTCONN={"MAX_AGE": 1}):
        kept = unit_of_work("default")
        unit_of_work("other")
        assert wait_until(lambda: backends() == [kept], seconds=2 * 1 + 2)


def test_a_short_max_age_is_seen_although_the_housekeeper_waits_for_a_longer_max_age():
    kept = unit_of_work("default")
    assert wait_until(housekeepers)
    with database_as("other", PERSISTCONN={"MAX_AGE": 1}):
        unit_of_work("other")
        assert wait_until(lambda: backends() == [kept], seconds=2 * 1 + 2)


def test_a_session_in_use_is_not_closed_at_max_age():
    with settings_as(PERSISTCONN_MAX_AGE=1):
        before = pid()
        assert not wait_until(lambda: backends() == [], seconds=1.5)
        assert pid() == before
        end_of_work()
        assert wait_until(lambda: backends() == [])


OF_THEIR_OWN = [{"MAX_AGE": 0}, {"MAX_AGE": 1}, {"MAX_IDLE": 0.2}]


@pytest.mark.parametrize("own", OF_THEIR_OWN, ids=str)
def test_a_wrapper_made_by_hand_does_not_change_when_its_alias_closes_idle_sessions(own):
    settings_dict = dict(connections["default"].settings_dict, PERSISTCONN=own)
    wrapper = connections["default"].__class__(settings_dict, "default")
    wrapper.cursor().close()
    kept = unit_of_work()
    in_thread(unit_of_work)
    end_of_work()
    wrapper.close()
    assert not wait_until(lambda: kept not in backends(), seconds=1.5)


@pytest.mark.parametrize("own", OF_THEIR_OWN, ids=str)
def test_an_alias_does_not_change_when_another_alias_of_its_database_closes_idle_sessions(own):
    with database_as("other", NAME=support.DATABASE, PERSISTCONN=own):
        kept = unit_of_work("default")
        unit_of_work("other")
        assert not wait_until(lambda: kept not in backends(), seconds=1.5)


# The housekeeper's thread.


def test_no_housekeeper_runs_where_no_session_can_become_too_old():
    assert nothing_is_watched()
    with settings_as(PERSISTCONN_MAX_AGE=None):
        unit_of_work()
        assert housekeepers() == []


def test_one_housekeeper_watches_all_databases():
    unit_of_work("default"), unit_of_work("other")
    in_thread(unit_of_work)
    assert wait_until(lambda: len(housekeepers()) == 1)
    unit_of_work("default"), unit_of_work("other")
    assert len(housekeepers()) == 1


def test_the_housekeeper_ends_when_the_last_idle_session_was_too_old():
    with settings_as(PERSISTCONN_MAX_AGE=1):
        unit_of_work()
        assert wait_until(housekeepers)
        assert wait_until(lambda: backends() == [])
        assert nothing_is_watched()


@pytest.mark.parametrize("stop", [persistconn.drain, persistconn.disable])
def test_the_housekeeper_ends_when_all_idle_sessions_are_closed(stop):
    unit_of_work()
    assert wait_until(housekeepers)
    stop()
    assert nothing_is_watched()
    persistconn.enable()


def test_the_housekeeper_starts_although_its_first_start_was_interrupted(monkeypatch):
    persistconn.drain()
    assert nothing_is_watched()
    start, interrupts = threads.start_named_thread, [KeyboardInterrupt()]

    def interrupted(name, function):
        if interrupts:
            raise interrupts.pop()
        return start(name, function)

    monkeypatch.setattr(threads, "start_named_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unit_of_work()
    assert wait_until(lambda: unit_of_work() and housekeepers(), seconds=1 + 2)


def test_the_housekeeper_starts_again_for_the_next_idle_session():
    with settings_as(PERSISTCONN_MAX_AGE=1):
        for _turn in range(2):
            unit_of_work()
            assert wait_until(lambda: backends() == [], seconds=2 * 1 + 2)
            assert nothing_is_watched()


@pytest.mark.parametrize("settings", [{"MAX_IDLE": 0.2}, {"MAX_AGE": 1}], ids=str)
def test_the_housekeeper_starts_again_after_a_fork(settings):
    with database_as(PERSISTCONN=settings):
        unit_of_work()

        def work():
            mine = unit_of_work()
            assert wait_until(lambda: mine not in backends())

        assert in_child(work) == 0
        assert wait_until(lambda: backends() == [])
    assert nothing_is_watched()
