"""An exception before each step of persistconn's code: one step in each run of a unit of work."""

from __future__ import absolute_import

import threading
import time

import pytest
import support
from django.db import connection
from interrupts import Helper, check_all_is_well, walk
from support import end_of_work, fetch, wait_until

import persistconn

SLOTS = 2

#: If at least this many random shots are asked for, all walks take every step.
FULL = 100000


@pytest.fixture(autouse=True)
def few_slots():
    with support.settings_as(PERSISTCONN_MAX_CONNS=SLOTS, PERSISTCONN_TIMEOUT=3):
        yield


@pytest.fixture
def stride(request):
    """The stride of walks that open a connection in each run, which takes ten times as long."""
    return 1 if request.config.getoption("--shots") >= FULL else 13


@pytest.fixture
def check():
    helpers = [Helper() for _ in range(SLOTS - 1)]
    return lambda: check_all_is_well(helpers)


def nothing():
    pass


def unit_of_work():
    try:
        assert fetch("SELECT 1") == 1
    finally:
        end_of_work()


def test_a_shot_at_any_step_of_work_on_an_idle_connection_does_no_harm(check):
    walk(nothing, unit_of_work, check)


def test_a_shot_at_any_step_of_work_that_connects_does_no_harm(check, stride):
    walk(persistconn.drain, unit_of_work, check, stride=stride)


def test_a_shot_at_any_step_of_work_that_finds_its_connection_dead_does_no_harm(check, stride):
    walk(kill_sessions, unit_of_work, check, stride=stride)


def kill_sessions():
    # With a time-out, as in support.kill_backends(), each of them takes a tenth of a second.
    sql = "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid"
    support.query(sql, None, support.backends())
    assert wait_until(lambda: support.backends() == [])


@pytest.fixture
def asking():
    """Each checkout sends SELECT 1, with a limit of time, and each checkin rolls back."""
    with support.settings_as(PERSISTCONN_CHECK_AFTER=0):
        yield


def transaction():
    try:
        connection.cursor().execute("BEGIN")
    finally:
        end_of_work()


def test_a_shot_at_any_step_of_work_with_a_check_and_a_rollback_does_no_harm(check, asking):
    walk(nothing, transaction, check)


class SoftLimit(Exception):
    """A shot that ``except Exception`` catches."""


def test_a_soft_time_limit_is_never_swallowed(check, asking):
    fired, caught = [], []

    def fire():
        fired.append(True)
        raise SoftLimit

    def unit():
        try:
            transaction()
        except SoftLimit:
            caught.append(True)

    def check_all():
        assert len(caught) == len(fired)
        check()

    walk(nothing, unit, check_all, act=fire)


def test_a_shot_at_any_step_of_close_does_no_harm(check):
    walk(lambda: fetch("SELECT 1"), lambda: connection.close(), check)


def test_a_shot_at_any_step_of_drain_does_no_harm(check, stride):
    walk(nothing, persistconn.drain, check, stride=stride)


def test_a_shot_at_any_step_of_disable_and_enable_does_no_harm(check, stride):
    def off_and_on():
        persistconn.disable()
        persistconn.enable()

    def check_when_on():
        persistconn.enable()
        check()

    walk(nothing, off_and_on, check_when_on, stride=stride)


@pytest.fixture
def one_slot():
    with support.settings_as(PERSISTCONN_MAX_CONNS=1):
        yield


def somebody_waits():
    return persistconn.stats()["default"]["waiting"] == 1


def test_a_shot_at_any_step_of_the_end_of_work_while_a_thread_waits_does_no_harm(one_slot):
    waiter = Helper()

    def setup():
        fetch("SELECT 1")
        waiter.begin(unit_of_work)
        assert wait_until(somebody_waits)

    def check():
        end_of_work()
        waiter.end()
        check_all_is_well([])

    walk(setup, end_of_work, check)


def test_a_shot_at_any_step_of_a_wait_for_a_connection_does_no_harm(one_slot):
    holder, has_it, is_over = Helper(), threading.Event(), threading.Event()

    def hold():
        try:
            fetch("SELECT 1")
            has_it.set()
            while not is_over.is_set() and not somebody_waits():
                time.sleep(0.0005)
        finally:
            end_of_work()

    def setup():
        has_it.clear()
        is_over.clear()
        holder.begin(hold)
        has_it.wait()

    def check():
        is_over.set()
        holder.end()
        check_all_is_well([])

    walk(setup, unit_of_work, check)
