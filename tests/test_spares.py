"""Connections that are opened in the background: MIN_CONNS, and successors ahead of MAX_AGE."""

from __future__ import absolute_import

import contextlib
import logging
import os
import threading

import django
import pytest
import support
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.db.backends.signals import connection_created
from proxy import Proxy
from support import (
    backends,
    database_as,
    end_of_work,
    in_child,
    in_thread,
    kill,
    pid,
    pids_at_once,
    settings_as,
    together,
    unit_of_work,
    wait_until,
)

import persistconn
from persistconn import compat, conf, databases, problems
from persistconn.errors import PoolTimeout
from persistconn.pool import housekeeper, spares
from persistconn.pool.pool import Pool

OPENER = "persistconn opener"
PAUSE = 0.3


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Rounds and pauses of a second would make the tests slow, as would those that others left."""
    for pool in databases.pools.all():
        pool.spare_pause = pool.next_spare_at = 0
    monkeypatch.setattr(housekeeper, "INTERVAL", 0.05)
    monkeypatch.setattr(spares, "FIRST_PAUSE", PAUSE)


def stats(alias="default"):
    return persistconn.stats()[alias]


def discarded(reason):
    return stats()["discarded"].get(reason, 0)


def the_pool():
    (pool,) = [p for p in databases.pools.all() if p.alias == "default" and p.slots()]
    return pool


def openers():
    return [thread for thread in threading.enumerate() if thread.name == OPENER]


def are_idle(number):
    """Whether so many connections come to lie in the pool, and nothing more is opened."""
    return wait_until(lambda: (stats()["idle"], openers()) == (number, []))


class Received(object):
    """A receiver of connection_created: it notes each opening, and how many were there at once."""

    def __init__(self):
        self.aliases, self.threads, self.wrappers = [], [], []
        self.now = self.at_once = 0
        self.error = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, sender, connection, **kwargs):
        name = threading.current_thread().name
        self.aliases.append(connection.alias)
        self.threads.append(name)
        self.wrappers.append(connection)
        if name == OPENER:
            self.now += 1
            self.at_once = max(self.at_once, self.now)
            threading.Event().wait(0.01)
            self.may_go_on.wait(10)
            self.now -= 1
            if self.error is not None:
                raise self.error

    def in_background(self):
        return self.threads.count(OPENER)


@pytest.fixture
def received():
    receiver = Received()
    connection_created.connect(receiver)
    yield receiver
    receiver.may_go_on.set()
    persistconn.drain()
    assert wait_until(lambda: openers() == [])
    connection_created.disconnect(receiver)


class Log(logging.Handler):
    def __init__(self):
        logging.Handler.__init__(self, logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture
def log():
    handler, logger = Log(), logging.getLogger("persistconn")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


# MIN_CONNS.


def test_min_conns_are_opened_after_the_first_unit_of_work():
    with settings_as(PERSISTCONN_MIN_CONNS=3):
        unit_of_work()
        assert are_idle(3)
        assert not wait_until(lambda: len(backends()) != 3, seconds=0.3)


def test_min_conns_are_not_opened_before_the_first_unit_of_work_ends():
    with settings_as(PERSISTCONN_MIN_CONNS=3):
        pid()
        assert not wait_until(lambda: len(backends()) > 1, seconds=0.3)
        end_of_work()
        assert are_idle(3)


@pytest.mark.skipif(support.BEFORE_1_6, reason="connect() came with 1.6")
def test_min_conns_are_opened_after_a_test_that_may_use_no_database():
    wrapper = connections["default"]
    wrapper.connect = wrapper.connect  # as Django's SimpleTestCase leaves it
    try:
        with settings_as(PERSISTCONN_MIN_CONNS=2):
            unit_of_work()
            assert are_idle(2)
    finally:
        del wrapper.connect


def test_min_conns_are_kept_where_no_session_can_become_too_old():
    with settings_as(PERSISTCONN_MIN_CONNS=2, PERSISTCONN_MAX_AGE=None):
        unit_of_work()
        assert are_idle(2)


def test_requests_find_the_connections_that_were_opened_in_the_background():
    with settings_as(PERSISTCONN_MIN_CONNS=3):
        unit_of_work()
        assert are_idle(3)
        opened = stats()["opened"]
        assert len(set(pids_at_once(3))) == 3
        assert stats()["opened"] == opened


def test_a_connection_opened_in_the_background_counts_as_opened_only():
    before = unit_of_work() and stats()
    with settings_as(PERSISTCONN_MIN_CONNS=3):
        unit_of_work()
        assert are_idle(3)
    after = stats()
    assert after["opened"] == before["opened"] + 2
    assert after["reused"] == before["reused"] + 1


def test_min_conns_are_opened_again_after_sessions_were_lost():
    with settings_as(PERSISTCONN_MIN_CONNS=3):
        unit_of_work()
        assert are_idle(3)
        lost = backends()
        kill(*lost)
        unit_of_work()
        assert are_idle(3)
        assert not set(lost) & set(backends())


def test_max_idle_closes_none_of_min_conns():
    with settings_as(PERSISTCONN_MIN_CONNS=2, PERSISTCONN_MAX_IDLE=0.1):
        pids_at_once(3)
        assert wait_until(lambda: len(backends()) == 2)
        assert not wait_until(lambda: len(backends()) != 2, seconds=0.3)


def test_a_session_of_min_conns_that_was_idle_for_max_idle_is_pinged_and_used(clock, pings):
    settings = {"MIN_CONNS": 1, "MAX_IDLE": 50, "CHECK_AFTER": None}
    with database_as(PERSISTCONN=settings):
        before = unit_of_work()
        del pings[:]
        clock.forward(51)
        assert unit_of_work() == before
        assert pings == [True]


def test_min_conns_are_replaced_at_max_age_without_traffic():
    with settings_as(PERSISTCONN_MIN_CONNS=2, PERSISTCONN_MAX_AGE=0.5):
        unit_of_work()
        assert are_idle(2)
        before = set(backends())
        assert wait_until(lambda: len(backends()) == 2 and not before & set(backends()))


def test_a_drain_closes_min_conns_and_the_next_unit_of_work_has_them_opened_again():
    with settings_as(PERSISTCONN_MIN_CONNS=3):
        unit_of_work()
        assert are_idle(3)
        persistconn.drain()
        assert wait_until(lambda: backends() == [])
        assert not wait_until(backends, seconds=0.3)
        unit_of_work()
        assert are_idle(3)


def test_a_connection_is_not_kept_if_the_pool_is_drained_while_it_is_opened(received):
    received.may_go_on.clear()
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(received.in_background)
        persistconn.drain()
        received.may_go_on.set()
        assert wait_until(lambda: backends() == [] and openers() == [])


def test_none_is_opened_if_the_pool_is_drained_just_before(received, monkeypatch):
    reserve = Pool.reserve

    def reserve_and_drain(pool, old=None):
        try:
            return reserve(pool, old)
        finally:
            pool.drain()

    monkeypatch.setattr(Pool, "reserve", reserve_and_drain)
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(lambda: backends() == [] and openers() == [])
        assert received.in_background() == 0
        assert stats()["in_use"] == 0


def test_disable_closes_min_conns_and_none_is_opened():
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert are_idle(2)
        persistconn.disable()
        assert wait_until(lambda: backends() == [])
        unit_of_work()
        assert wait_until(lambda: backends() == [])
        assert not wait_until(backends, seconds=0.3)
        persistconn.enable()


def test_disable_while_a_connection_is_opened_leaves_none(received):
    received.may_go_on.clear()
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(received.in_background)
        persistconn.disable()
        received.may_go_on.set()
        assert wait_until(lambda: backends() == [] and openers() == [])
        assert stats()["in_use"] == 0
        persistconn.enable()


def test_none_is_opened_with_settings_that_have_changed():
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert are_idle(2)
        with database_as(NAME=support.OTHER):
            unit_of_work()
            assert are_idle(2)
            assert wait_until(lambda: len(backends()) == 2)
            assert not wait_until(lambda: len(backends()) != 2, seconds=0.3)
        persistconn.drain()


def test_a_child_has_min_conns_of_its_own_after_its_first_unit_of_work():
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert are_idle(2)
        ours = set(backends())

        def work():
            support.close_sessions()
            assert not wait_until(lambda: len(backends()) > 2, seconds=0.3)
            unit_of_work()
            assert wait_until(lambda: len(set(backends()) - ours) == 2)
            assert ours <= set(backends())

        support.close_sessions()
        assert in_child(work, seconds=20) == 0
        assert wait_until(lambda: set(backends()) == ours)
        assert set(pids_at_once(2)) == ours


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="Python 3.7 has it")
def test_a_fork_waits_for_a_connection_that_is_being_opened(received):
    def work():
        assert received.now == 0

    received.may_go_on.clear()
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(lambda: received.now == 1)
        with support.later(0.2, received.may_go_on.set):
            assert in_child(work, seconds=20) == 0
        assert are_idle(2)


@pytest.mark.skipif(django.VERSION < (1, 4), reason="they cannot make one with this psycopg2")
def test_a_test_database_can_be_made_and_dropped_while_connections_are_opened(received):
    wrapper = connections["default"]
    real = wrapper.settings_dict["NAME"]
    with settings_as(PERSISTCONN_MIN_CONNS=4):
        unit_of_work()
        wrapper.creation.create_test_db(verbosity=0, autoclobber=True)
        try:
            unit_of_work()
            assert wait_until(received.in_background)
        finally:
            wrapper.creation.destroy_test_db(real, verbosity=0)
            wrapper.settings_dict["NAME"] = real
        assert unit_of_work()


def test_who_drops_a_database_waits_for_a_connection_that_is_being_opened(received):
    received.may_go_on.clear()
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(received.in_background)
        with support.later(0.3, received.may_go_on.set):
            databases.pools.vacate()
            assert received.now == 0
            assert stats()["idle"] == 0


# How a connection is opened in the background.


def test_one_connection_is_opened_at_a_time(received):
    with settings_as(PERSISTCONN_MIN_CONNS=4):
        together(lambda: unit_of_work("default"), lambda: unit_of_work("other"))
        unit_of_work("default"), unit_of_work("other")
        assert wait_until(lambda: received.in_background() >= 6 and openers() == [])
        assert [stats("default")["idle"], stats("other")["idle"]] == [4, 4]
        assert received.at_once == 1


def test_receivers_get_a_wrapper_of_the_alias_that_is_not_in_connections(received):
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work("other")
        assert wait_until(received.in_background)
        assert wait_until(lambda: openers() == [])
    assert received.aliases == ["other", "other"]
    theirs, ours = received.wrappers
    assert theirs is connections["other"]
    assert ours is not theirs
    assert type(ours) is type(theirs)
    assert ours.connection is None


def test_a_receiver_may_use_another_connection(received):
    def use_another(sender, connection, **kwargs):
        if threading.current_thread().name == OPENER and connection.alias == "default":
            pid("other")

    connection_created.connect(use_another)
    try:
        with settings_as(PERSISTCONN_MIN_CONNS=2):
            unit_of_work()
            assert are_idle(2)
            assert wait_until(lambda: stats("other")["idle"] == 2)
    finally:
        connection_created.disconnect(use_another)


@contextlib.contextmanager
def opened(receive):
    """Have a function called for each connection that is opened in the background."""

    def receiver(connection, **kwargs):
        if threading.current_thread().name == OPENER and connection.alias == "default":
            receive(connection)

    connection_created.connect(receiver)
    try:
        yield
    finally:
        persistconn.drain()
        assert wait_until(lambda: openers() == [])
        connection_created.disconnect(receiver)
        for pool in databases.pools.all():
            pool.needs_requests = False


def test_none_is_opened_where_a_receiver_sets_up_djangos_own_connection_instead(received, log):
    def set_up(its_argument):
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        cursor.close()

    with opened(set_up), settings_as(PERSISTCONN_MIN_CONNS=2):
        first = unit_of_work()
        assert wait_until(lambda: log.messages)
        assert wait_until(lambda: stats()["idle"] == 1)
        assert not wait_until(lambda: received.in_background() > 2, seconds=0.5)
        assert unit_of_work() == first
    assert "receiver of connection_created uses django.db.connection" in log.messages[0]


def test_a_receiver_that_waits_for_a_second_connection_in_vain_is_told_so_at_once(received, log):
    is_taken = threading.Event()

    def set_up(its_argument):
        is_taken.wait(10)
        support.fetch("SELECT 1")

    with database_as(PERSISTCONN={"MAX_CONNS": 2, "MIN_CONNS": 2, "TIMEOUT": 60}):
        with opened(set_up):
            unit_of_work()
            pid()
            is_taken.set()
            assert wait_until(lambda: "uses django.db.connection" in "".join(log.messages))
            end_of_work()


def test_none_is_opened_by_a_class_that_cannot_be_made_as_django_makes_it(log):
    wrapper = connections["default"]

    class Special(wrapper.__class__):
        def __init__(self, settings, alias, more):
            super(Special, self).__init__(settings, alias)

    with support.wrapper_as(Special(wrapper.settings_dict, "default", 1)):
        with settings_as(PERSISTCONN_MIN_CONNS=2):
            first = unit_of_work()
            assert wait_until(lambda: log.messages)
            assert unit_of_work() == first
            assert are_idle(1)
    assert "cannot be opened in the background" in log.messages[0]


def test_a_connection_whose_opening_changes_its_settings_is_not_opened_over_and_over(received):
    def change(wrapper):
        wrapper.settings_dict["OPTIONS"] = dict(wrapper.settings_dict["OPTIONS"], token=1)

    with opened(change), settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(received.in_background)
        assert not wait_until(lambda: received.in_background() > 1, seconds=0.2)


def test_a_connection_that_is_being_opened_is_not_in_use(received):
    received.may_go_on.clear()
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(received.in_background)
        now = stats()
        assert (now["idle"], now["in_use"], now["oldest_in_use"]) == (1, 0, 0)


def test_a_connection_that_is_being_opened_is_no_holder_of_a_pool_timeout(received):
    received.may_go_on.clear()
    with settings_as(PERSISTCONN_MIN_CONNS=2, PERSISTCONN_MAX_CONNS=2, PERSISTCONN_TIMEOUT=0):
        unit_of_work()
        assert wait_until(received.in_background)
        pid()
        with pytest.raises(PoolTimeout) as error:
            in_thread(pid)
        end_of_work()
    assert len(error.value.holders) == 1
    assert "there are 1 in use and 0 idle" in str(error.value)
    assert "One more is being opened in the background." in str(error.value)


def test_a_waiting_thread_gets_the_connection_that_was_opened_in_the_background(received):
    received.may_go_on.clear()
    with settings_as(PERSISTCONN_MIN_CONNS=2, PERSISTCONN_MAX_CONNS=2, PERSISTCONN_TIMEOUT=10):
        unit_of_work()
        assert wait_until(received.in_background)
        mine = pid()
        with support.later(0.2, received.may_go_on.set):
            assert in_thread(unit_of_work) != mine
        end_of_work()
        assert len(backends()) == 2


# Errors.


def test_an_error_in_the_background_is_logged_once_and_tried_again_later(received, log):
    received.error = ValueError("not now")
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(lambda: received.in_background() >= 2)
        received.error = None
        assert are_idle(2)
    (message,) = log.messages
    assert "'default' could not be opened in the background: not now" in message


def test_after_an_error_there_is_a_pause(received, log):
    received.error = ValueError("not now")
    with settings_as(PERSISTCONN_MIN_CONNS=4):
        unit_of_work()
        assert wait_until(received.in_background)
        assert not wait_until(lambda: received.in_background() > 1, seconds=0.2)
        persistconn.drain()


def test_a_connection_that_cannot_be_kept_is_not_opened_over_and_over(received, monkeypatch):
    from persistconn import transactions

    def fail(wrapper, entry, held):
        return "error" if threading.current_thread().name == OPENER else None

    monkeypatch.setattr(transactions, "finish", fail)
    with settings_as(PERSISTCONN_MIN_CONNS=2):
        unit_of_work()
        assert wait_until(received.in_background)
        assert not wait_until(lambda: received.in_background() > 1, seconds=0.2)
        persistconn.drain()


def test_an_opening_that_is_interrupted_leaks_no_slot(received):
    received.error = SystemExit()
    with settings_as(PERSISTCONN_MIN_CONNS=2, PERSISTCONN_MAX_CONNS=2, PERSISTCONN_TIMEOUT=0):
        unit_of_work()
        assert wait_until(received.in_background)
        received.error = None
        assert are_idle(2)
        assert len(set(pids_at_once(2))) == 2


def test_a_server_that_is_away_gets_one_try_and_then_a_pause(log):
    with Proxy(support.server) as proxy:
        at_proxy = {"HOST": proxy.host, "PORT": str(proxy.port)}
        with database_as(PERSISTCONN={"MIN_CONNS": 2}, **at_proxy):
            proxy_pid = unit_of_work()
            assert are_idle(2)
            proxy.answer = b""
            accepted = proxy.accepted
            persistconn.drain()
            # A session that is kept has the fill begin again.
            proxy.answer = None
            assert unit_of_work() != proxy_pid
            proxy.answer = b""
            assert wait_until(lambda: proxy.accepted > accepted + 1)
            tries = proxy.accepted
            assert not wait_until(lambda: proxy.accepted > tries + 1, seconds=0.2)
            proxy.answer = None
            assert are_idle(2)
            persistconn.drain()


def test_a_server_that_does_not_answer_has_a_slot_of_max_conns_only_for_part_of_the_timeout(log):
    with Proxy(support.server) as proxy:
        at_proxy = {"HOST": proxy.host, "PORT": str(proxy.port)}
        bounds = {"MIN_CONNS": 2, "MAX_CONNS": 2, "TIMEOUT": 2}
        with database_as(PERSISTCONN=bounds, **at_proxy):
            pid()
            proxy.deaf = True
            accepted = proxy.accepted
            end_of_work()
            assert wait_until(lambda: proxy.accepted > accepted)
            assert wait_until(lambda: openers() == [], seconds=10)
            proxy.heal()
            persistconn.drain()


# Successors ahead of MAX_AGE.


@contextlib.contextmanager
def near_max_age(clock, **settings):
    """The connections that are there come near to their end. Yields the idle ones' backends."""
    settings.setdefault("MAX_AGE", 600)
    with database_as(PERSISTCONN=settings):
        before = unit_of_work()
        come_near_max_age(clock)
        yield before


def come_near_max_age(clock):
    be_slow()
    clock.forward(570 - 60)


def be_slow():
    for slot in the_pool().slots():
        slot.created_seconds = 50  # the server needs so long, and so the lead is 100 s or more


def test_a_session_near_max_age_is_replaced_while_there_is_traffic(clock, received):
    with near_max_age(clock) as before:
        assert unit_of_work() == before
        assert wait_until(lambda: backends() and before not in backends())
        assert are_idle(1)
        assert unit_of_work() != before
    assert received.in_background() == 1
    assert discarded("age") >= 1


def test_a_session_near_max_age_is_not_replaced_without_traffic(clock, received):
    with near_max_age(clock) as before:
        assert not wait_until(lambda: backends() != [before], seconds=0.3)
    assert received.in_background() == 0


def test_a_successor_is_replaced_in_turn_only_if_somebody_has_used_it(clock, received, monkeypatch):
    monkeypatch.setattr(spares, "LEAST", 10000)  # all of this is a short time ago
    with near_max_age(clock) as before:
        unit_of_work()
        assert wait_until(lambda: backends() and before not in backends())
        assert are_idle(1)
        come_near_max_age(clock)
        assert not wait_until(lambda: received.in_background() > 1, seconds=0.3)
        unit_of_work()
        assert wait_until(lambda: received.in_background() > 1)


def test_a_session_in_use_near_max_age_ends_at_its_checkin(clock, received):
    with near_max_age(clock) as before:
        assert pid() == before
        assert wait_until(lambda: len(backends()) == 2)
        assert are_idle(1)
        assert pid() == before
        end_of_work()
        assert wait_until(lambda: len(backends()) == 1 and before not in backends())
        assert not wait_until(lambda: len(backends()) > 1, seconds=0.3)
    assert received.in_background() == 1


def test_where_max_conns_leaves_no_slot_an_idle_session_gives_up_its_own(clock, received):
    received.may_go_on.clear()
    with near_max_age(clock, MAX_CONNS=1) as before:
        unit_of_work()
        assert wait_until(received.in_background)
        assert len(the_pool().slots()) == 1
        received.may_go_on.set()
        assert wait_until(lambda: len(backends()) == 1 and before not in backends())
        assert are_idle(1)


def test_where_max_conns_leaves_no_slot_a_session_in_use_is_left_alone(clock, received):
    with near_max_age(clock, MAX_CONNS=1) as before:
        assert pid() == before
        assert not wait_until(lambda: backends() != [before], seconds=0.3)
        end_of_work()
    assert received.in_background() == 0


def test_no_successor_is_opened_that_max_kept_would_close(clock, received):
    with database_as(PERSISTCONN={"MAX_KEPT": 1}):
        before = unit_of_work()
        clock.forward(510)
        assert pid() == before
        in_thread(unit_of_work)
        assert stats()["idle"] == 1
        be_slow()
        assert not wait_until(received.in_background, seconds=0.3)
        end_of_work()


def test_max_conns_holds_while_sessions_are_replaced():
    most, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            unit_of_work()

    settings = {"MAX_AGE": 0.5, "MAX_CONNS": 2, "MIN_CONNS": 2}
    with database_as(PERSISTCONN=settings):
        threads = [threading.Thread(target=work) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            assert wait_until(backends)
            begin = discarded("age")
            pool = the_pool()
            while discarded("age") < begin + 3:
                most.append(len([slot for slot in pool.slots() if slot.is_taken]))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert max(most) <= 2


def test_the_session_that_ends_first_is_replaced_first(clock, monkeypatch):
    def refuse(pool, entry, before_release):
        pool.remove(entry, "error")
        return False

    monkeypatch.setattr(databases.pools, "open_spare", refuse)
    with near_max_age(clock):
        pids_at_once(3)
        entries = [slot.entry() for slot in the_pool().slots()]
        for entry, jitter in zip(entries, [0.99, 0.95, 0.97]):
            entry.opened_at, entry.jitter = entries[0].opened_at, jitter
        be_slow()
        the_pool().next_spare_at = 0
        assert spares.find_due(the_pool(), compat.monotonic()) is entries[1]


# The setting.


@pytest.mark.parametrize("value", [None, -1, 1.5, "2", True])
def test_a_bad_number_of_min_conns_is_reported_with_what_is_allowed(value):
    with settings_as(PERSISTCONN_MIN_CONNS=value):
        (problem,) = problems.find_problems()
    said = "PERSISTCONN_MIN_CONNS is %r; allowed: a whole number from 0 on." % (value,)
    assert problem.message == said


@pytest.mark.parametrize("bound", ["MAX_CONNS", "MAX_KEPT"])
def test_min_conns_above_a_bound_is_reported_with_both_values(bound):
    with settings_as(**{"PERSISTCONN_MIN_CONNS": 5, "PERSISTCONN_" + bound: 3}):
        (problem,) = problems.find_problems()
        assert problem.id == "persistconn.E001"
        said = "PERSISTCONN_MIN_CONNS is 5, but PERSISTCONN_%s is 3; allowed: at most that."
        assert problem.message == said % bound
        with pytest.raises(ImproperlyConfigured):
            conf.of({})


def test_min_conns_of_the_project_above_a_bound_of_a_database_is_reported_with_its_alias():
    with settings_as(PERSISTCONN_MIN_CONNS=5):
        with database_as(PERSISTCONN={"MAX_CONNS": 3}):
            (problem,) = problems.find_problems()
    assert problem.message.startswith("DATABASES['default']: PERSISTCONN_MIN_CONNS is 5, but ")
    assert "PERSISTCONN['MAX_CONNS'] is 3" in problem.message


def test_a_database_may_have_min_conns_within_its_own_bound():
    with settings_as(PERSISTCONN_MAX_CONNS=2):
        with database_as(PERSISTCONN={"MIN_CONNS": 3, "MAX_CONNS": 3}):
            assert list(problems.find_problems()) == []
            assert conf.of(connections["default"].settings_dict).min_conns == 3
