"""Passwords and tokens that change while connections are kept."""

from __future__ import absolute_import

import contextlib
import logging
import os
import random
import threading
import time

import pytest
import support
from databases import chosen
from django.db import connections
from proxy import Proxy
from support import database_as, end_of_work, settings_as, unit_of_work, wait_until

import persistconn
from persistconn import drivers

ROLE, OTHER_ROLE = "rotating", "alternating"

since_1_6 = pytest.mark.skipif(support.BEFORE_1_6, reason="there is no get_connection_params()")


@pytest.fixture
def role():
    """A role whose password is "first", and Django's settings for it."""
    with support.role_with_password(ROLE, "first"), database_as(USER=ROLE, PASSWORD="first"):
        yield ROLE
        end_of_work()
        persistconn.drain()


@pytest.fixture
def proxy(role):
    """A proxy between Django and the server, which counts the tries."""
    with Proxy(support.server) as proxy:
        with database_as(HOST="127.0.0.1", PORT=str(proxy.port)):
            yield proxy
            end_of_work()
            persistconn.drain()


def change_password(password, role=ROLE):
    chosen.change_password(support.query, role, password)


def refusal(work=unit_of_work):
    """Do work that the server must refuse. Return the error."""
    with pytest.raises(support.database_errors()) as caught:
        work()
    assert chosen.REFUSED in str(caught.value)
    return caught.value


def own_settings():
    return connections["default"].settings_dict


class Read(dict):
    """Settings that call ``read()`` each time that Django reads the password."""

    def __getitem__(self, name):
        if name == "PASSWORD":
            self.read()
        return dict.__getitem__(self, name)


@contextlib.contextmanager
def at_each_try(proxy, work):
    """Call ``work(number)`` each time that Django reads the password; 0 in the first try."""
    wrapper, before = connections["default"], own_settings()
    wrapper.settings_dict = Read(before)
    # Another object is other settings, whose pool has not opened a connection yet.
    wrapper.settings_dict.read = lambda: None
    unit_of_work()
    persistconn.drain()
    accepted = proxy.accepted
    wrapper.settings_dict.read = lambda: work(proxy.accepted - accepted)
    try:
        yield wrapper.settings_dict
    finally:
        end_of_work()
        wrapper.settings_dict = before


# Traffic.


class Traffic(object):
    """``with Traffic() as traffic:`` threads that work independently, at random moments."""

    THREADS = 4

    def __init__(self):
        self.errors, self.roles = [], []
        self.served = 0
        self._ended = threading.Event()
        self._met = [threading.Event() for _ in range(self.THREADS)]
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(self.THREADS)
        ]

    def _run(self, number):
        try:
            self._meet(number)
            while not self._ended.is_set():
                self._work()
                self._ended.wait(random.uniform(0, 0.01))
        except Exception as error:
            self.errors.append(error)
            self._met[number].set()
        finally:
            connections["default"].close()

    def _meet(self, number):
        # Each thread has a connection of its own from the beginning.
        support.pid()
        self._met[number].set()
        for met in self._met:
            met.wait()
        end_of_work()

    def _work(self):
        try:
            support.pid()
            if random.random() < 0.5:
                time.sleep(random.uniform(0, 0.01))
                support.pid()
            self.served += 1
        except Exception as error:
            self.errors.append(error)
        finally:
            end_of_work()

    def has_all_sessions(self):
        """Return when no unit of work needs another session than those that are kept."""
        assert wait_until(lambda: len(support.backends()) == self.THREADS)

    def go_on(self, units=20):
        """Return when that many more units of work have been served."""
        wanted = self.served + units
        assert wait_until(lambda: self.served >= wanted or self.errors)
        assert self.errors == []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if exception == (None, None, None):
            assert self.errors == []


PASSWORDS = ["second", "third", "fourth"]
#: The lifetime of connections, in seconds, under which each unit of work soon needs another one.
SHORT = 0.03


def are_gone(sessions):
    return wait_until(lambda: not set(sessions) & set(support.backends()))


def test_settings_changed_in_place_after_the_role_cost_no_request(role):
    with Traffic() as traffic:
        for password in PASSWORDS:
            traffic.has_all_sessions()
            before = support.backends()
            change_password(password)
            own_settings()["PASSWORD"] = password
            traffic.go_on()
            assert are_gone(before)


def test_two_roles_that_alternate_in_the_settings_cost_no_request_however_often_it_connects(role):
    with support.role_with_password(OTHER_ROLE, "other"), settings_as(PERSISTCONN_MAX_AGE=SHORT):
        with Traffic() as traffic:
            for turn, password in enumerate(PASSWORDS):
                idle_one = (OTHER_ROLE, ROLE)[turn % 2]
                change_password(password, idle_one)
                own_settings().update(USER=idle_one, PASSWORD=password)
                traffic.go_on()
        persistconn.drain()


class Tokens(object):
    """Tokens of which the server accepts only the last one. None is issued while it changes."""

    def __init__(self):
        self.issued, self._now = 0, "first"
        self._lock = threading.Lock()

    def issue(self):
        with self._lock:
            self.issued += 1
            return self._now

    def renew(self, token):
        with self._lock:
            change_password(token)
            self._now = token


@pytest.fixture
def tokens(proxy):
    """Have the database "default" served by a backend that asks for tokens, in all threads."""
    from token_backend import base

    tokens = Tokens()
    base.issue = tokens.issue
    with database_as(ENGINE="token_backend", PASSWORD=""):
        with support.wrapper_as(base.DatabaseWrapper(own_settings(), "default")):
            yield tokens
            end_of_work()
            persistconn.drain()


@since_1_6
def test_a_backend_whose_tokens_expire_costs_no_request_and_one_token_for_each_try(proxy, tokens):
    with settings_as(PERSISTCONN_MAX_AGE=SHORT):
        with Traffic() as traffic:
            for token in PASSWORDS:
                tokens.renew(token)
                traffic.go_on()
    assert tokens.issued == proxy.accepted
    assert tokens.issued > traffic.THREADS + len(PASSWORDS)


@since_1_6
def test_a_backend_that_writes_its_tokens_into_the_settings_costs_no_request(proxy, tokens):
    from token_backend import base

    def issue():
        own_settings()["PASSWORD"] = token = tokens.issue()
        return token

    base.issue = issue
    with Traffic() as traffic:
        for token in PASSWORDS:
            tokens.renew(token)
            persistconn.drain()
            traffic.go_on()
        assert own_settings()["PASSWORD"] == PASSWORDS[-1]
    numbers = persistconn.stats()["default"]
    assert (numbers["in_use"], numbers["reused"] > 0) == (0, True)


@since_1_6
def test_a_kept_connection_asks_for_no_token(proxy, tokens):
    for _ in range(5):
        unit_of_work()
    assert tokens.issued == proxy.accepted == 1


@since_1_6
def test_a_token_that_expires_between_its_issue_and_its_use_costs_no_request(proxy, tokens):
    from token_backend import base

    unit_of_work()
    persistconn.drain()

    def issue():
        token = tokens.issue()
        if tokens.issued == 2:
            tokens.renew("second")
        return token

    base.issue = issue
    unit_of_work()
    assert tokens.issued == proxy.accepted == 3


# A password file, which libpq reads for each connection.


@pytest.fixture
def password_file(role, tmpdir, monkeypatch):
    path = str(tmpdir.join("passwords"))

    def write(password):
        with open(path + ".new", "w") as lines:
            lines.write("*:*:*:%s:%s\n" % (ROLE, password))
        os.chmod(path + ".new", 0o600)
        os.rename(path + ".new", path)

    write("first")
    monkeypatch.setenv("PGPASSFILE", path)
    with database_as(PASSWORD=""):
        yield write
        end_of_work()
        persistconn.drain()


reads_password_files = support.only_on("postgresql", "MySQL's drivers have no password file")


@reads_password_files
@pytest.mark.parametrize("first", ["file", "role"])
def test_a_password_file_that_changes_costs_no_request(password_file, first):
    with Traffic() as traffic:
        for password in PASSWORDS:
            # Between the two steps no new session can be opened.
            traffic.has_all_sessions()
            steps = [password_file, change_password]
            for step in steps if first == "file" else reversed(steps):
                step(password)
                traffic.go_on()
            before = support.backends()
            persistconn.drain()
            traffic.go_on()
            assert are_gone(before)


@reads_password_files
def test_a_password_file_that_changes_a_moment_after_the_try_costs_no_request(proxy, password_file):
    def change(tries):
        if tries == 1:
            password_file("second")

    with at_each_try(proxy, change):
        accepted = proxy.accepted
        change_password("second")
        unit_of_work()
        assert proxy.accepted - accepted == 2


@reads_password_files
def test_a_password_file_that_is_empty_for_a_moment_costs_no_request(proxy, password_file):
    def fill(tries):
        if tries == 1:
            password_file("first")

    with at_each_try(proxy, fill):
        with open(os.environ["PGPASSFILE"], "w"):
            pass
        unit_of_work()


# Old sessions.


def test_the_session_of_an_old_password_serves_until_max_age(role, clock):
    before = unit_of_work()
    change_password("second")
    assert unit_of_work() == before
    clock.forward(601)
    assert wait_until(lambda: support.backends() == [])


def test_drain_ends_the_sessions_of_an_old_password(role):
    unit_of_work()
    change_password("second")
    persistconn.drain()
    assert wait_until(lambda: support.backends() == [])
    refusal()


# How many tries.


def test_a_password_that_is_wrong_from_the_start_is_tried_once(proxy):
    with database_as(PASSWORD="wrong"):
        refusal()
    assert proxy.accepted == 1


def test_a_password_that_has_worked_and_stays_wrong_is_tried_twice(proxy):
    unit_of_work()
    persistconn.drain()
    change_password("second")
    refusal()
    assert proxy.accepted == 1 + 2


def test_the_error_of_the_second_try_is_the_one_of_stock_django(proxy):
    unit_of_work()
    persistconn.drain()
    change_password("second")
    ours = refusal()
    persistconn.disable()
    try:
        stock = refusal()
    finally:
        persistconn.enable()
    assert (type(ours), ours.args) == (type(stock), stock.args)
    causes = [getattr(error, "__cause__", None) for error in (ours, stock)]
    assert type(causes[0]) is type(causes[1])
    assert getattr(ours, "__context__", None) is causes[0]


def new_after(password):
    """Give Django the new password from the second try on."""

    def change(tries):
        if tries >= 1:
            dict.__setitem__(own_settings(), "PASSWORD", password)

    return change


@pytest.mark.parametrize("deadline", [0, 0.5, 5])
def test_a_password_that_changes_a_moment_after_the_try_costs_no_request(proxy, deadline):
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=deadline):
        with at_each_try(proxy, new_after("second")):
            accepted = proxy.accepted
            change_password("second")
            unit_of_work()
            assert proxy.accepted - accepted == 2


@since_1_6
def test_settings_that_change_in_place_a_moment_after_the_try_cost_no_request(proxy, tokens):
    from token_backend import base

    unit_of_work()
    persistconn.drain()

    def issue():
        if proxy.accepted == 2:
            own_settings()["PASSWORD"] = "second"
        return own_settings()["PASSWORD"] or "first"

    base.issue = issue
    change_password("second")
    support.pid()
    assert proxy.accepted == 3
    end_of_work()
    assert persistconn.stats()["default"]["in_use"] == 0


def test_a_transient_error_of_the_second_try_leads_to_no_third_password(proxy):
    numbers = []

    def answer(tries):
        numbers.append(tries)
        proxy.answer = chosen.refusal(*chosen.PASSING[0]) if tries == 1 else None

    with at_each_try(proxy, answer):
        accepted = proxy.accepted
        change_password("second")
        refusal()
        assert proxy.accepted - accepted == 3


def test_the_second_try_gets_the_time_that_the_first_has_left(proxy, clock):
    def fall_silent(tries):
        if tries == 0:
            clock.ahead = 6
        proxy.deaf = tries == 1

    with settings_as(PERSISTCONN_CONNECT_DEADLINE=8), at_each_try(proxy, fall_silent):
        change_password("second")
        began = time.time()
        with pytest.raises(support.database_errors()):
            unit_of_work()
        assert time.time() - began < 2 + 2.5
        proxy.heal()


def test_there_is_no_second_try_after_the_deadline(proxy, clock):
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=5):
        with at_each_try(proxy, lambda tries: clock.forward(6)):
            accepted = proxy.accepted
            change_password("second")
            refusal()
            assert proxy.accepted - accepted == 1


def test_a_refused_password_makes_no_thread_wait(proxy, caplog):
    def work():
        refusal()
        connections["default"].close()

    unit_of_work()
    persistconn.drain()
    change_password("second")
    with caplog.at_level(logging.WARNING, logger="persistconn"):
        support.together(work, work, work, work)
    assert proxy.accepted == 1 + 2 * 4
    assert caplog.records == []


def test_threads_that_wait_for_a_server_that_is_away_try_a_refused_password_twice_each(proxy):
    def work():
        refusal()
        connections["default"].close()

    def come_back():
        assert wait_until(lambda: proxy.accepted > 1 + 4 + 2)
        away.append(proxy.accepted)
        proxy.answer = None

    unit_of_work()
    persistconn.drain()
    change_password("second")
    away, proxy.answer = [], chosen.refusal(*chosen.PASSING[0])
    began = time.time()
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=30):
        support.together(come_back, work, work, work, work)
    assert time.time() - began < 30
    # One try may have been under way when the server came back.
    assert abs(proxy.accepted - away[0] - 2 * 4) <= 1


# Other settings, other pool.


@since_1_6
def test_a_session_opened_by_settings_that_changed_meanwhile_serves_nobody_else(proxy, tokens):
    from token_backend import base

    assert support.fetch(chosen.ROLE) == ROLE  # this thread goes on using the pool
    end_of_work()
    persistconn.drain()
    settings = dict(own_settings())

    def issue():
        if settings["USER"] == OTHER_ROLE:
            return "other"
        settings["USER"] = OTHER_ROLE
        return "wrong"

    def work():
        support.put_wrapper(base.DatabaseWrapper(settings, "default"), "default")
        roles = support.fetch(chosen.ROLE)
        end_of_work()
        return roles

    with support.role_with_password(OTHER_ROLE, "other"):
        base.issue = issue
        assert support.in_thread(work) == OTHER_ROLE
        base.issue = tokens.issue
        assert support.fetch(chosen.ROLE) == ROLE
        end_of_work()
        assert persistconn.stats()["default"]["in_use"] == 0
        assert wait_until(lambda: len(support.backends()) == 1)
        persistconn.drain()


# What a driver tells.

REFUSALS = {
    "postgresql": [
        'FATAL:  password authentication failed for user "anna"',
        'connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  password'
        ' authentication failed for user "anna"\nconnection to server at "db" (10.0.0.1),'
        ' port 5432 failed: FATAL:  no pg_hba.conf entry for host "10.0.0.2"',
        'FATAL:  PAM authentication failed for user "anna"',
        'FATAL:  LDAP authentication failed for user "anna"',
        'FATAL:  RADIUS authentication failed for user "anna"',
        'FATAL:  OAuth bearer authentication failed for user "anna"',
        'FATAL:  Cloud SQL IAM user authentication failed for user "anna"',
        "FATAL:  SASL authentication failed",
        "ERROR:  Auth failed",
        "fe_sendauth: no password supplied",
    ],
    "mariadb": [
        (1045, "Access denied for user 'anna'@'10.0.0.2' (using password: YES)"),
        (1698, "Access denied for user 'anna'@'10.0.0.2'"),
    ],
}
OTHER_ERRORS = {
    "postgresql": [
        'FATAL:  database "password authentication failed" does not exist',
        'FATAL:  role "Auth failed" does not exist',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "anna"',
        'FATAL:  Peer authentication failed for user "anna"',
        "FATAL:  the database system is starting up",
    ],
    "mariadb": [
        (1044, "Access denied for user 'anna'@'10.0.0.2' to database 'secrets'"),
        (1049, "Unknown database '1045'"),
        (2003, "Can't connect to MySQL server on '10.0.0.1:1045'"),
    ],
}


def drivers_error(what):
    return support.driver.OperationalError(*(what if isinstance(what, tuple) else (what,)))


@pytest.mark.parametrize("what", REFUSALS[support.databases.NAME])
def test_a_refused_password_is_known_by_the_servers_words(what):
    assert drivers.of_module(support.driver).is_refused_password(drivers_error(what))


@pytest.mark.parametrize("what", OTHER_ERRORS[support.databases.NAME])
def test_other_errors_of_connecting_are_not_about_the_password(what):
    assert not drivers.of_module(support.driver).is_refused_password(drivers_error(what))
