"""Connecting to a server that is away, starting, full, or does not want us."""

from __future__ import absolute_import

import contextlib
import os
import signal
import threading
import time

import pytest
import support
from django.db import connection
from django.db.backends.signals import connection_created
from proxy import Proxy, error_response
from support import end_of_work, pid, settings_as, wait_until

import persistconn
from persistconn import compat


@pytest.fixture
def proxy():
    """Between Django and the server; its lines are gone after the test."""
    with Proxy(support.server) as proxy:
        with support.database_as(HOST="127.0.0.1", PORT=str(proxy.port)):
            yield proxy
            persistconn.drain()


def tried(work):
    """How long it took until it failed."""
    started = time.time()
    with pytest.raises(support.database_errors()):
        work()
    return time.time() - started


@contextlib.contextmanager
def receiver(function):
    """Of connection_created, which is sent when a connection is all but ready."""
    connection_created.connect(function)
    try:
        yield
    finally:
        connection_created.disconnect(function)


def heal_after_tries(proxy, number):
    """In another thread, which is returned."""

    def heal():
        if wait_until(lambda: proxy.accepted >= number):
            proxy.answer = None

    thread = threading.Thread(target=heal)
    thread.start()
    return thread


PASSING = [
    ("57P03", "the database system is starting up"),
    ("57P03", "the database system is shutting down"),
    ("57P03", "the database system is in recovery mode"),
    ("57P03", "the database system is not yet accepting connections"),
    ("53300", "sorry, too many clients already"),
    ("53300", "remaining connection slots are reserved for non-replication superuser connections"),
    ("08P01", "pgbouncer cannot connect to server"),
]


ANSWERS = [error_response(code, text) for code, text in PASSING] + [b""]
ANSWER_IDS = [text for code, text in PASSING] + ["it hangs up"]


@pytest.mark.parametrize("answer", ANSWERS, ids=ANSWER_IDS)
def test_a_server_that_lets_nobody_in_yet_is_tried_again(proxy, answer):
    proxy.answer = answer
    healer = heal_after_tries(proxy, 3)
    assert pid() in support.backends()
    healer.join()
    assert proxy.accepted >= 3
    end_of_work()


NOT_PASSING = [
    ("28P01", 'password authentication failed for user "postgres"'),
    ("28000", 'no pg_hba.conf entry for host "127.0.0.1", user "postgres"'),
    ("28000", 'role "nobody" does not exist'),
    ("3D000", 'database "nothing" does not exist'),
    ("22023", 'invalid value for parameter "search_path"'),
]


@pytest.mark.parametrize("code, text", NOT_PASSING)
def test_a_server_that_does_not_want_us_is_asked_once(proxy, code, text):
    proxy.answer = error_response(code, text)
    tried(pid)
    assert proxy.accepted == 1


def test_a_database_that_does_not_exist_is_asked_for_once(proxy):
    with support.database_as(NAME="nothing"):
        tried(pid)
    assert proxy.accepted == 1


def test_an_option_that_the_driver_does_not_know_fails_at_once():
    with support.database_as(OPTIONS={"no_such_option": 1}):
        assert tried(pid) < 1


def test_a_server_that_stays_away_fails_at_the_deadline(proxy):
    proxy.close()
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=0.3):
        assert tried(pid) < 0.3 + 1


def test_a_connect_deadline_of_0_is_one_try(proxy):
    proxy.answer = error_response(*PASSING[0])
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=0):
        tried(pid)
    assert proxy.accepted == 1


def test_a_server_that_does_not_answer_ends_with_the_deadline(proxy):
    proxy.deaf = True
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=2):
        assert tried(pid) < 2 + 1.5


@pytest.mark.parametrize(
    "options, host, seconds, each",
    [
        ({}, "db", 5, 5),
        ({}, "db", 4.999, 5),
        ({}, "db", 4.9, 4),
        ({}, "db", 0.3, 1),
        ({}, "one,two", 5, 2),
        ({"host": "one,two,three"}, "", 5, 1),
        ({"connect_timeout": 2}, "db", 5, 2),
        ({"connect_timeout": "20"}, "db", 5, 5),
        ({"connect_timeout": 0}, "db", 5, 5),
        ({"connect_timeout": "soon"}, "db", 5, "soon"),
    ],
)
def test_the_time_of_a_try_is_shared_by_its_hosts_and_never_more_than_the_user_gives_it(
    options, host, seconds, each
):
    from persistconn import drivers

    driver = drivers.of_module(support.driver)
    assert driver.connect_options(options, host, seconds) == {"connect_timeout": each}


def test_the_settings_are_as_they_were_after_connecting():
    database = connection.settings_dict
    before = dict(database, OPTIONS=dict(database["OPTIONS"]))
    pid()
    assert connection.settings_dict is database
    assert database == before
    end_of_work()


def test_a_connection_lost_while_it_is_set_up_is_opened_again():
    killed = []

    def kill(connection, **kwargs):
        if not killed:
            killed.append(connection.connection)
            support.kill_backends()
            connection.cursor().execute("SELECT 1")

    with receiver(kill):
        assert pid() in support.backends()
    assert killed[0] is not connection.connection
    end_of_work()
    assert persistconn.stats()["default"]["in_use"] == 0


def test_what_a_receiver_raises_is_raised_at_once():
    calls = []

    def fail(**kwargs):
        calls.append(kwargs)
        raise ValueError("no time zone")

    with receiver(fail):
        with pytest.raises(ValueError):
            pid()
    assert len(calls) == 1
    connection.close()


@pytest.mark.skipif(compat.FORKS_IN_C_KEEP_LOCKS, reason="no watchdog runs while connecting")
def test_a_server_that_hangs_while_a_connection_is_set_up_ends_with_the_deadline():
    hanging = []

    def hang(connection, **kwargs):
        hanging.append(connection.connection.info.backend_pid)
        os.kill(hanging[-1], signal.SIGSTOP)
        connection.cursor().execute("SELECT 1")

    try:
        with receiver(hang), settings_as(PERSISTCONN_CONNECT_DEADLINE=0.3):
            assert tried(pid) < 0.3 + 1
    finally:
        for backend in hanging:
            os.kill(backend, signal.SIGCONT)
    assert len(hanging) == 1


def test_a_slot_is_free_again_after_a_failure(proxy):
    proxy.answer = error_response(*NOT_PASSING[0])
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        tried(pid)
        proxy.answer = None
        pid()
        end_of_work()


def test_a_new_password_is_for_a_new_connection(proxy):
    first = pid()
    end_of_work()
    with support.database_as(PASSWORD="new"):
        assert pid() != first
        assert connection.connection.info.password == "new"
        end_of_work()
