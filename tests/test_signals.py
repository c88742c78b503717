"""The signals connection_checked_out and connection_checked_in: when they are sent, and errors."""

from __future__ import absolute_import

import contextlib

import pytest
import support
from django.db import connection, connections
from django.db.backends.signals import connection_created
from support import BEFORE_1_6, database_as, end_of_work, fetch, get, unit_of_work

import persistconn
from persistconn.signals import connection_checked_in, connection_checked_out

SET_TENANT, TELL_TENANT = support.chosen.SET_TENANT, support.chosen.TELL_TENANT


class Oops(Exception):
    pass


@contextlib.contextmanager
def received(signal, receive):
    signal.connect(receive, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receive)


@contextlib.contextmanager
def noted(*signals):
    """Note the signals that are sent inside, as pairs of a signal and an alias."""
    sent = []

    def receive(signal, connection, **kwargs):
        sent.append((signal, kwargs.get("alias", connection.alias)))

    for signal in signals:
        signal.connect(receive, weak=False)
    try:
        yield sent
    finally:
        for signal in signals:
            signal.disconnect(receive)


def numbers():
    stats = persistconn.stats()["default"]
    return stats["in_use"], stats["idle"]


def discarded(reason):
    return persistconn.stats()["default"]["discarded"].get(reason, 0)


def execute(wrapper, sql):
    cursor = wrapper.cursor()
    cursor.execute(sql)
    cursor.close()


def setting_tenant(name):
    return lambda connection, **kwargs: execute(connection, SET_TENANT % name)


# When they are sent.


def test_each_unit_of_work_gets_both_signals_with_a_new_and_with_a_kept_connection():
    with noted(connection_checked_out, connection_checked_in) as sent:
        for _time in range(2):
            assert get("/both/").status == 200
    out, back = (connection_checked_out, connection_checked_in)
    each = [(out, "default"), (out, "other"), (back, "default"), (back, "other")]
    assert sorted(sent, key=each.index) == sorted(each + each, key=each.index)
    assert sent[:2] == sent[4:6] == each[:2]


def test_receivers_get_djangos_connection_its_class_and_alias():
    got = []
    with received(connection_checked_out, lambda **kwargs: got.append(kwargs)):
        with received(connection_checked_in, lambda **kwargs: got.append(kwargs)):
            unit_of_work()
    mine = connections["default"]
    for kwargs in got:
        assert kwargs["connection"] is mine
        assert (kwargs["sender"], kwargs["alias"]) == (mine.__class__, "default")
    assert len(got) == 2


def test_a_receiver_can_be_connected_for_one_class_of_connections():
    got = []

    def receive(**kwargs):
        got.append(kwargs)

    connection_checked_out.connect(receive, sender=object)
    unit_of_work()
    assert got == []
    connection_checked_out.connect(receive, sender=connections["default"].__class__)
    unit_of_work()
    assert len(got) == 1


def test_a_new_connection_is_set_up_before_it_is_checked_out():
    with noted(connection_created, connection_checked_out) as sent:
        unit_of_work()
    assert [signal for signal, _alias in sent] == [connection_created, connection_checked_out]


def test_a_connection_that_is_opened_in_the_background_is_neither_checked_out_nor_in():
    with support.settings_as(PERSISTCONN_MIN_CONNS=3):
        with noted(connection_checked_out, connection_checked_in) as sent:
            unit_of_work()
            assert support.wait_until(lambda: numbers() == (0, 3))
    assert len(sent) == 2


def test_the_replacement_of_a_dead_connection_is_checked_out_too():
    with noted(connection_checked_out) as sent:
        before = support.orm_pid()
        support.kill_backends()
        assert support.orm_pid() != before
        end_of_work()
    assert len(sent) == 2


def test_no_unit_of_work_without_a_query_is_checked_out_or_in():
    with noted(connection_checked_out, connection_checked_in) as sent:
        assert get("/none/").status == 200
    assert sent == []


def test_a_connection_that_is_not_kept_is_not_checked_in(clock):
    with noted(connection_checked_in) as sent:
        support.pid()
        connection.close()
        end_of_work()
        with database_as(PERSISTCONN={"MAX_AGE": 10}):
            support.pid()
            clock.forward(11)
            end_of_work()
    assert sent == []


def test_no_signal_is_sent_while_persistconn_is_off():
    with noted(connection_checked_out, connection_checked_in) as sent:
        with database_as(PERSISTCONN={"MAX_AGE": 0}):
            unit_of_work()
        persistconn.disable()
        try:
            unit_of_work()
        finally:
            persistconn.enable()
    assert sent == []


# What receivers of connection_checked_out do.


def test_what_a_receiver_sets_is_there_for_the_work():
    with received(connection_checked_out, setting_tenant("blue")):
        for _time in range(2):
            assert get("/tenant/").text == "blue"


def test_what_a_receiver_sets_survives_a_rollback_of_the_work():
    with received(connection_checked_out, setting_tenant("blue")):
        support.orm_pid()
        connection._rollback()
        assert fetch(TELL_TENANT) == "blue"
        end_of_work()


def test_after_its_receivers_a_session_can_still_be_replaced_for_the_orm():
    with received(connection_checked_out, setting_tenant("blue")):
        for _time in range(2):  # new, and kept
            before = support.orm_session()
            support.kill_backends()
            after = support.orm_session()
            end_of_work()
            assert after.pid != before.pid


@support.only_on("postgresql", "MySQL discards the session")
@pytest.mark.parametrize("is_new", [True, False])
def test_the_reset_of_sessions_undoes_what_a_receiver_set(is_new):
    with database_as(PERSISTCONN={"RESET": "session"}):
        if not is_new:
            unit_of_work()
        with received(connection_checked_out, setting_tenant("blue")):
            backend = support.orm_pid()
            end_of_work()
        assert support.orm_session().tenant == ""
        assert unit_of_work() == backend


@pytest.mark.parametrize("is_new", [True, False])
def test_an_error_of_a_receiver_goes_to_the_user_and_its_connection_is_discarded(is_new):
    def receive(**kwargs):
        raise Oops()

    if not is_new:
        unit_of_work()
    before = discarded("error")
    with received(connection_checked_out, receive):
        with pytest.raises(Oops):
            support.orm_pid()
        end_of_work()
    assert discarded("error") == before + 1
    assert numbers() == (0, 0)
    assert unit_of_work()


def test_after_an_error_of_a_receiver_the_same_work_gets_another_connection():
    raised = []

    def receive(**kwargs):
        if not raised:
            raised.append(support.driver)
            raise Oops()

    backend = unit_of_work()
    with received(connection_checked_out, receive):
        with pytest.raises(Oops):
            support.orm_pid()
        assert support.orm_pid() != backend
        end_of_work()
    assert numbers() == (0, 1)


# What receivers of connection_checked_in do.


def test_a_receiver_at_the_checkin_can_use_the_connection(rows):
    def receive(connection, **kwargs):
        execute(connection, "INSERT INTO item VALUES ('receiver')")
        if BEFORE_1_6:
            connection._commit()

    with received(connection_checked_in, receive):
        backend = unit_of_work()
    assert rows() == ["receiver"]
    assert unit_of_work() == backend
    assert numbers() == (0, 1)


def test_at_the_checkin_the_transaction_of_the_work_is_rolled_back(rows):
    seen = []

    def receive(connection, **kwargs):
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM item")
        seen.append(cursor.fetchone()[0])

    with received(connection_checked_in, receive):
        assert get("/uncommitted/").status == 200
    assert seen == [0]


def test_what_a_receiver_leaves_open_at_the_checkin_is_closed_and_rolled_back(rows):
    left = []

    def receive(connection, **kwargs):
        left.append(connection.cursor())
        left[-1].execute("BEGIN")
        left[-1].execute("INSERT INTO item VALUES ('uncommitted')")

    with received(connection_checked_in, receive):
        backend = unit_of_work()
        assert support.states() == ["idle"]
        assert unit_of_work() == backend
    with pytest.raises(support.database_errors()):
        left[0].execute("SELECT 1")
    end_of_work()  # Django 1.6 and 1.7 have opened a connection before they failed
    assert rows() == []


@support.only_on("postgresql", "MySQL discards the session")
def test_the_reset_of_sessions_comes_after_the_receivers():
    with database_as(PERSISTCONN={"RESET": "session"}):
        with received(connection_checked_in, setting_tenant("blue")):
            backend = support.orm_pid()
            end_of_work()
        assert support.orm_session().tenant == ""
        assert unit_of_work() == backend


def test_an_error_of_a_receiver_at_the_checkin_is_raised_and_discards_the_connection():
    def receive(**kwargs):
        raise Oops()

    before = discarded("error")
    with received(connection_checked_in, receive):
        with pytest.raises(Oops):
            unit_of_work()
    assert discarded("error") == before + 1
    assert numbers() == (0, 0)
    assert support.is_idle()


@pytest.mark.parametrize("how", ["close", "end of work", "close and use", "unit of work"])
def test_a_receiver_may_close_the_connection_or_end_the_work(how):
    def receive(connection, **kwargs):
        if how.startswith("close"):
            connection.close()
        if how == "close and use":
            connection_checked_in.disconnect(receive)
            fetch("SELECT 1")
        if how == "end of work":
            end_of_work()
        if how == "unit of work":
            persistconn.unit_of_work()(support.pid)()

    before = discarded("closed by caller")
    with received(connection_checked_in, receive):
        unit_of_work()
    assert discarded("closed by caller") - before == (1 if how.startswith("close") else 0)
    unit_of_work()
    assert numbers() == (0, 1)
    assert support.is_idle()


# Without receivers.


def test_without_receivers_nothing_is_sent(monkeypatch):
    def send(*args, **kwargs):
        raise AssertionError("sent")

    monkeypatch.setattr(connection_checked_out, "send", send)
    monkeypatch.setattr(connection_checked_in, "send", send)
    assert unit_of_work() == unit_of_work()
