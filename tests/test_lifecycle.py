"""Checkout, use, end of work and close, outside of requests."""

from __future__ import absolute_import

import threading

import pytest
import support
from django.db import connection, connections
from support import backends, end_of_work, kill_backends, orm_pid, pid, wait_until

import persistconn

since_1_6 = pytest.mark.skipif(support.BEFORE_1_6, reason="Django has it since 1.6")


def idle():
    return persistconn.stats()["default"]["idle"]


def test_the_end_of_work_gives_the_connection_back():
    before = pid()
    end_of_work()
    assert connection.connection is None
    assert backends() == [before]


def test_the_next_unit_of_work_takes_the_connection_given_back():
    before = pid()
    end_of_work()
    assert pid() == before
    end_of_work()


def test_an_end_of_work_without_work_does_nothing():
    end_of_work()
    end_of_work()
    assert backends() == []


def test_close_really_closes():
    pid()
    connection.close()
    assert wait_until(lambda: backends() == [])
    assert idle() == 0


def test_close_is_counted_as_closed_by_the_caller():
    pid()
    before = persistconn.stats()["default"]["discarded"].get("closed by caller", 0)
    connection.close()
    stats = persistconn.stats()["default"]
    assert stats["discarded"]["closed by caller"] == before + 1
    assert stats["in_use"] == 0


@since_1_6
def test_close_old_connections_imported_before_install_gives_the_connection_back():
    from django import db

    stock = db.close_old_connections.__wrapped__
    before = pid()
    stock()
    assert idle() == 1
    assert pid() == before
    end_of_work()


@since_1_6
def test_close_if_unusable_or_obsolete_gives_the_connection_back():
    before = pid()
    connection.close_if_unusable_or_obsolete()
    assert (connection.connection, backends()) == (None, [before])


def test_a_backends_own_close_is_called_when_a_connection_is_given_back(monkeypatch):
    wrapper_class = connections["default"].__class__
    stock, seen = wrapper_class.close, []

    def close(self):
        seen.append(support.chosen.is_open(self.connection))
        return stock(self)

    monkeypatch.setattr(wrapper_class, "close", close)
    before = pid()
    end_of_work()
    assert seen == [True]
    assert backends() == [before]


def test_a_backends_own_close_that_closes_the_raw_connection_does_not_end_the_session(monkeypatch):
    wrapper_class = connections["default"].__class__
    stock = wrapper_class.close

    def close(self):
        if self.connection is not None:
            self.connection.close()
        return stock(self)

    monkeypatch.setattr(wrapper_class, "close", close)
    before = pid()
    end_of_work()
    assert (idle(), backends()) == (1, [before])


@pytest.mark.parametrize("statement", ["BEGIN", "SELECT 1"])
def test_a_backends_own_close_may_query_and_leaves_no_transaction_open(monkeypatch, statement):
    wrapper_class = connections["default"].__class__
    stock = wrapper_class.close

    def close(self):
        self.connection.cursor().execute(statement)
        return stock(self)

    before = pid()
    monkeypatch.setattr(wrapper_class, "close", close)
    end_of_work()
    assert (backends(), support.states()) == ([before], ["idle"])


@since_1_6
def test_an_adopting_wrapper_has_the_attributes_that_opening_would_have_set():
    def noted():
        seen = dict((name, getattr(connections["default"], name)) for name in names)
        end_of_work()
        return seen

    pid()
    # On MySQL there is no isolation_level before Django 2.0.
    names = [n for n in ("close_at", "isolation_level") if hasattr(connections["default"], n)]
    opened = noted()
    assert support.in_thread(lambda: (pid(), noted())[1]) == opened


def noting_backend():
    """A backend that sets attributes on its wrapper while it opens a connection."""

    class DatabaseWrapper(connections["default"].__class__):
        def init_connection_state(self):
            super(DatabaseWrapper, self).init_connection_state()
            self.note()

        def _cursor(self, *args, **kwargs):
            is_new = self.connection is None
            cursor = super(DatabaseWrapper, self)._cursor(*args, **kwargs)
            if is_new and support.BEFORE_1_6:
                self.note()
            return cursor

        def note(self):
            cursor = self.connection.cursor()
            cursor.execute(support.chosen.PID)
            self.noted_pid = cursor.fetchone()[0]
            self._search_path = ["tenant", "public"]
            self.flavour = "always the same"
            cursor.close()
            self.connection.commit()  # 1.6 switches autocommit on after this

    return DatabaseWrapper


@pytest.fixture
def backend():
    """Give a wrapper of noting_backend() to this thread, and to others that call the fixture."""
    backend, settings_dict = noting_backend(), connections["default"].settings_dict

    def put():
        # In 1.2 and 1.3 one wrapper, a threading.local, serves all threads.
        if not isinstance(connections["default"], threading.local):
            support.put_wrapper(backend(settings_dict, "default"), "default")

    with support.wrapper_as(backend(settings_dict, "default")):
        yield put
        connections["default"].close()


def noted():
    """The session's backend, and the attributes that its opening has set on the wrapper."""
    before = pid()
    wrapper = connections["default"]
    names = ("noted_pid", "_search_path", "flavour")
    seen = [before] + [getattr(wrapper, name, "missing") for name in names]
    end_of_work()
    return seen


def in_another_thread(put):
    return support.in_thread(lambda: (put(), noted())[1])


def test_attributes_that_a_backend_sets_while_opening_reach_an_adopting_wrapper(backend):
    opened = noted()
    assert opened == [opened[0], opened[0], ["tenant", "public"], "always the same"]
    assert in_another_thread(backend) == opened


def test_attributes_that_a_backend_sets_at_a_second_opening_reach_an_adopting_wrapper(backend):
    noted()
    persistconn.drain()
    opened = noted()
    assert in_another_thread(backend) == opened


def test_attributes_that_a_backend_sets_go_with_their_session(backend):
    def other():
        backend()
        seen = noted()
        return seen

    own = pid()
    others = support.in_thread(other)
    end_of_work()
    assert others[0] != own
    support.kill(own)
    assert noted() == others


def test_an_attribute_that_a_user_sets_on_a_wrapper_stays_on_that_wrapper(backend):
    pid()
    connections["default"].mine = "kept"
    end_of_work()
    support.in_thread(lambda: (backend(), noted()))
    pid()
    assert connections["default"].mine == "kept"
    end_of_work()


def test_the_drivers_connection_is_not_wrapped_or_replaced():
    pid()
    raw = connection.connection
    assert type(raw).__module__.split(".")[0] == support.driver.__name__
    end_of_work()
    pid()
    assert connection.connection is raw
    end_of_work()


def test_a_loop_without_requests_survives_ten_kills():
    pids = []
    for _turn in range(10):
        pids.append(orm_pid())
        assert kill_backends() == 1
    assert len(set(pids)) == 10
    end_of_work()


def test_a_loop_of_transactions_survives_ten_kills(rows):
    from django.db import transaction
    from site_app.models import Item

    in_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success
    for turn in range(10):
        in_transaction(Item.objects.create)(name=str(turn))
        assert kill_backends() == 1
    assert rows() == [str(turn) for turn in range(10)]
    end_of_work()


def test_a_connection_that_dies_inside_a_transaction_is_not_replaced(rows):
    from django.db import transaction

    in_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success

    @in_transaction
    def work():
        connection.cursor().execute("INSERT INTO item VALUES ('lost')")
        kill_backends()
        connection.cursor().execute("INSERT INTO item VALUES ('half')")

    with pytest.raises(support.database_errors()):
        work()
    end_of_work()
    assert rows() == []


def test_the_next_unit_of_work_is_served_after_a_loss_inside_a_transaction():
    from django.db import transaction

    in_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success

    @in_transaction
    def work():
        pid()
        kill_backends()
        pid()

    with pytest.raises(support.database_errors()):
        work()
    end_of_work()
    assert pid() in backends()
    end_of_work()


@since_1_6
def test_a_connection_is_not_replaced_while_autocommit_is_off():
    from django.db import transaction

    transaction.set_autocommit(False)
    before = pid()
    connection.rollback()
    kill_backends()
    with pytest.raises(support.database_errors()):
        pid()
    end_of_work()
    assert pid() != before
    end_of_work()


@since_1_6
def test_autocommit_is_reset_to_the_settings_at_the_next_checkout():
    from django.db import transaction

    transaction.set_autocommit(False)
    before = pid()
    end_of_work()
    assert pid() == before
    assert connection.get_autocommit() is True
    assert support.chosen.is_in_autocommit(connection.connection)
    end_of_work()


def test_a_session_that_is_alive_is_never_taken_away_in_the_middle_of_work(clock):
    support.fetch(support.chosen.TAKE_LOCK)
    before = pid()
    clock.forward(601)
    assert pid() == before
    assert support.ask(support.chosen.COUNT_LOCKS) == 1
    end_of_work()
    assert wait_until(lambda: backends() == [])


def test_a_connection_that_grew_too_old_in_use_is_closed_when_given_back(clock):
    pid()
    clock.forward(601)
    end_of_work()
    assert wait_until(lambda: backends() == [])
    assert persistconn.stats()["default"]["discarded"]["age"]


def test_a_connection_whose_opening_failed_half_way_is_not_kept():
    from django.db.backends.signals import connection_created

    def refuse(sender, connection, **kwargs):
        raise ValueError("no role")

    connection_created.connect(refuse)
    try:
        with pytest.raises(ValueError):
            pid()
    finally:
        connection_created.disconnect(refuse)
    (half_open,) = backends()
    assert pid() != half_open
    end_of_work()
    assert wait_until(lambda: half_open not in backends())


def test_a_parameter_that_a_receiver_of_connection_created_sets_stays_set():
    from django.db.backends.signals import connection_created

    def receiver(sender, connection, **kwargs):
        connection.cursor().execute(support.chosen.SET_TENANT % "mine")

    connection_created.connect(receiver)
    try:
        pid()
    finally:
        connection_created.disconnect(receiver)
    if support.BEFORE_1_6:
        connection._rollback()
    end_of_work()
    assert support.fetch(support.chosen.TELL_TENANT) == "mine"
    end_of_work()


def test_a_connection_is_not_used_under_other_settings():
    def database():
        name = support.fetch(support.chosen.CURRENT_DATABASE)
        end_of_work()
        return name

    assert database() == support.DATABASE
    with support.database_as(NAME=support.OTHER):
        assert database() == support.OTHER
    assert database() == support.DATABASE


with_time_zone = support.only_on(
    "postgresql", "Django sets the time zone of sessions of PostgreSQL only"
)


@with_time_zone
def test_a_session_opened_under_another_time_zone_is_not_used():
    pid()
    end_of_work()
    with support.settings_as(TIME_ZONE="Asia/Tokyo"), support.database_as(TIME_ZONE="Asia/Tokyo"):
        for name in ("timezone", "timezone_name"):
            connections["default"].__dict__.pop(name, None)
        if not support.BEFORE_1_6 and hasattr(connection, "timezone_name"):
            connections["default"].settings_dict["TIME_ZONE"] = None
        assert support.fetch("SHOW TimeZone") == "Asia/Tokyo"
        end_of_work()
    for name in ("timezone", "timezone_name"):
        connections["default"].__dict__.pop(name, None)
    assert support.fetch("SHOW TimeZone") == "America/Chicago"
    end_of_work()


@with_time_zone
@pytest.mark.skipif(not hasattr(connection, "ensure_timezone"), reason="it came with 1.11")
def test_a_session_whose_time_zone_was_changed_in_use_is_not_kept():
    def forget():
        for name in ("timezone", "timezone_name"):
            connections["default"].__dict__.pop(name, None)

    pid()
    with support.settings_as(TIME_ZONE="Asia/Tokyo"):
        forget()
        connection.ensure_timezone()
        assert support.fetch("SHOW TimeZone") == "Asia/Tokyo"
        end_of_work()
    forget()
    assert support.fetch("SHOW TimeZone") == "America/Chicago"
    end_of_work()


def test_drain_closes_idle_connections_at_once_and_the_others_when_given_back():
    pid()
    support.in_thread(lambda: (pid(), end_of_work()))
    assert len(backends()) == 2
    persistconn.drain()
    assert wait_until(lambda: len(backends()) == 1)
    end_of_work()
    assert wait_until(lambda: backends() == [])
