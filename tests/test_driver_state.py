"""State that a user sets on the driver's connection, and errors that must not be swallowed."""

from __future__ import absolute_import

import os
import signal
import sys
import types

import pytest
import support
from django.db import connection
from support import end_of_work, pid, settings_as, wait_until

import persistconn
from persistconn import drivers

PSYCOPG_3 = support.driver.__name__ == "psycopg"
psycopg_3_only = pytest.mark.skipif(not PSYCOPG_3, reason="only psycopg 3 has such a thing")
psycopg2_only = pytest.mark.skipif(
    support.driver.__name__ != "psycopg2", reason="only psycopg2 has such a thing"
)
with_listen = support.only_on("postgresql", "no other has LISTEN")
with_last_query = support.only_on("postgresql", "MariaDB does not tell the last query of a session")


def raw():
    """The driver's connection of this unit of work."""
    connection.cursor().close()
    return connection.connection


def next_raw():
    """End the unit of work. Return the driver's connection of the next unit, which is the same."""
    before = connection.connection
    end_of_work()
    assert raw() is before
    return before


@pytest.fixture(autouse=True)
def ended():
    yield
    end_of_work()


@pytest.fixture
def at_the_opening():
    """Have a function called with each new connection, by a connection_created receiver."""
    from django.db.backends.signals import connection_created

    receivers = []

    def connect(function):
        def receiver(connection, **kwargs):
            function(connection.connection)

        receivers.append(receiver)
        connection_created.connect(receiver)

    yield connect
    for receiver in receivers:
        connection_created.disconnect(receiver)
    end_of_work()
    persistconn.drain()


def commit():
    """Commit before 1.6, where the end of work rolls back a transaction with LISTEN in it."""
    if support.BEFORE_1_6:
        connection._commit()


def notice():
    connection.cursor().execute("DO $$ BEGIN RAISE NOTICE 'for one request only'; END $$")


def notify(entry):
    """Send a notification, and return when it has come to the socket of a connection."""
    support.query("NOTIFY news", support.DATABASE)
    assert wait_until(entry.poll)


# psycopg 3


@psycopg_3_only
def test_the_row_factory_is_reset_for_the_next_user():
    from psycopg.rows import dict_row

    before = raw().row_factory
    raw().row_factory = dict_row
    assert next_raw().row_factory is before


@psycopg_3_only
@pytest.mark.parametrize("name", ["cursor_factory", "server_cursor_factory"])
def test_the_cursor_factories_of_psycopg_3_are_reset_for_the_next_user(name):
    before = getattr(raw(), name)
    setattr(raw(), name, type("Special", (before,), {}))
    assert getattr(next_raw(), name) is before


@psycopg_3_only
def test_an_added_notice_handler_is_removed_for_the_next_user():
    heard = []
    raw().add_notice_handler(heard.append)
    next_raw()
    notice()
    assert heard == []


@psycopg_3_only
def test_a_removed_notice_handler_of_the_opening_is_added_again_for_the_next_user(at_the_opening):
    heard = []
    at_the_opening(lambda raw: raw.add_notice_handler(heard.append))
    raw().remove_notice_handler(heard.append)
    next_raw()
    notice()
    assert len(heard) == 1


@psycopg_3_only
def test_an_added_notify_handler_is_removed_for_the_next_user():
    heard = []
    raw().add_notify_handler(heard.append)
    next_raw()
    connection.cursor().execute("LISTEN news")
    connection.cursor().execute("NOTIFY news")
    assert heard == []
    connection.cursor().execute("UNLISTEN news")


@psycopg_3_only
def test_prepare_threshold_is_reset_for_the_next_user():
    before = raw().prepare_threshold
    raw().prepare_threshold = 0
    assert next_raw().prepare_threshold == before


@psycopg_3_only
@pytest.mark.parametrize("value", [3, None])
def test_prepared_max_is_reset_for_the_next_user(value):
    before = raw().prepared_max
    raw().prepared_max = value
    assert next_raw().prepared_max == before


def oid_of(name):
    return support.ask("SELECT %s::regtype::oid::int", None, name)


def loader(answer):
    from psycopg.adapt import Loader

    class Fixed(Loader):
        def load(self, data):
            return answer

    return Fixed


def dumper(text, oid=0):
    from psycopg.adapt import Dumper

    class Fixed(Dumper):
        def dump(self, value):
            return text

    Fixed.oid = oid
    return Fixed


class Animal(object):
    pass


@psycopg_3_only
def test_a_registered_loader_is_removed_for_the_next_user():
    raw().adapters.register_loader("date", loader("spoilt"))
    assert support.fetch("SELECT DATE '2020-02-02'") == "spoilt"
    next_raw()
    assert support.fetch("SELECT DATE '2020-02-02'") != "spoilt"


@psycopg_3_only
def test_a_registered_dumper_is_removed_for_the_next_user():
    import psycopg

    raw().adapters.register_dumper(Animal, dumper(b"cat"))
    cursor = next_raw().cursor()
    with pytest.raises(psycopg.ProgrammingError):
        cursor.execute("SELECT %s", [Animal()])


@psycopg_3_only
def test_a_dumper_registered_for_an_oid_is_removed_for_the_next_user():
    from psycopg.pq import Format

    oid = oid_of("point")
    raw().adapters.register_dumper(None, dumper(b"(0,0)", oid))
    with pytest.raises(support.driver.ProgrammingError):
        next_raw().adapters.get_dumper_by_oid(oid, Format.TEXT)


@psycopg_3_only
def test_a_registered_type_is_removed_for_the_next_user():
    from psycopg.types import TypeInfo

    TypeInfo("animal", 987654, 987655).register(raw())
    assert next_raw().adapters.types.get("animal") is None


@psycopg_3_only
def test_a_registered_loader_is_removed_after_each_of_several_units_of_work():
    # No cursor comes between the two: it would have the adapters share their tables again.
    for answer in ("first", "second"):
        connection.ensure_connection()
        connection.connection.adapters.register_loader("date", loader(answer))
        end_of_work()
    assert support.fetch("SELECT DATE '2020-02-02'") not in ("first", "second")


@psycopg_3_only
def test_a_loader_registered_at_the_opening_stays(at_the_opening):
    at_the_opening(lambda raw: raw.adapters.register_loader("date", loader("of the opening")))
    raw().adapters.register_loader("date", loader("spoilt"))
    next_raw()
    assert support.fetch("SELECT DATE '2020-02-02'") == "of the opening"


@psycopg_3_only
def test_a_type_registered_at_the_opening_stays(at_the_opening):
    from psycopg.types import TypeInfo

    at_the_opening(TypeInfo("animal", 987654, 987655).register)
    raw().adapters.register_loader("date", loader("spoilt"))
    assert next_raw().adapters.types["animal"].oid == 987654


@psycopg_3_only
def test_a_loader_of_one_connection_does_not_change_the_global_adapters():
    import psycopg

    before = psycopg.adapters.get_loader(oid_of("date"), psycopg.pq.Format.TEXT)
    raw().adapters.register_loader("date", loader("spoilt"))
    next_raw()
    assert psycopg.adapters.get_loader(oid_of("date"), psycopg.pq.Format.TEXT) is before
    end_of_work()
    persistconn.drain()
    assert support.fetch("SELECT DATE '2020-02-02'") != "spoilt"


@psycopg_3_only
def test_an_untouched_connection_counts_as_unchanged():
    driver, flags = drivers.of(raw()), connection._persistconn.entry.flags
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::text, now(), %s::jsonb", ["one", "{}"])
        cursor.fetchall()
    assert not driver.has_changed(connection.connection, flags)


@psycopg_3_only
def test_a_restored_connection_counts_as_unchanged():
    raw().adapters.register_loader("date", loader("spoilt"))
    raw().add_notice_handler(list)
    raw().prepared_max = 3
    driver, flags = drivers.of(next_raw()), connection._persistconn.entry.flags
    assert not driver.has_changed(connection.connection, flags)


@psycopg_3_only
def test_a_connection_with_an_unfinished_generator_does_not_reach_the_next_user():
    # The generator holds the connection's lock, for which the next statement would wait for ever.
    listen()
    notify(connection._persistconn.entry)
    before = connection.connection
    notifications = before.notifies()
    next(notifications)
    end_of_work()
    assert support.in_thread(lambda: (raw(), end_of_work())[0]) is not before


@psycopg_3_only
def test_public_attributes_are_restored_if_psycopg_has_other_private_names(monkeypatch):
    from psycopg.rows import dict_row

    def unknown(self, raw):
        raise AttributeError("_prepared")

    monkeypatch.setattr(drivers.Psycopg3, "_private_flags", unknown)
    before = raw().row_factory
    assert not drivers.of(raw()).has_changed(raw(), connection._persistconn.entry.flags)
    raw().row_factory = dict_row
    assert next_raw().row_factory is before
    end_of_work()
    persistconn.drain()


# psycopg2


@psycopg2_only
def test_the_cursor_factory_of_psycopg2_is_reset_for_the_next_user():
    from psycopg2.extras import DictCursor

    before = raw().cursor_factory
    raw().cursor_factory = DictCursor
    assert next_raw().cursor_factory is before


@psycopg2_only
def test_notices_do_not_reach_the_next_user():
    notice()
    before = raw()
    assert len(before.notices) == 1
    end_of_work()
    assert before.notices == []


@psycopg2_only
@pytest.mark.parametrize("name", ["notices", "notifies"])
def test_the_drivers_list_of_messages_is_put_back_if_a_user_replaced_it(name):
    before, mine = getattr(raw(), name), []
    setattr(raw(), name, mine)
    assert getattr(next_raw(), name) is before


@psycopg2_only
def test_a_list_of_messages_set_at_the_opening_stays_and_is_emptied(at_the_opening):
    import collections

    kept = collections.deque(maxlen=10)
    at_the_opening(lambda raw: setattr(raw, "notices", kept))
    raw()
    notice()
    assert len(kept) == 1
    assert next_raw().notices is kept
    assert len(kept) == 0


@psycopg2_only
def test_a_registered_typecaster_is_removed_for_the_next_user():
    from psycopg2.extensions import new_type, register_type

    register_type(new_type((oid_of("date"),), "DATE", lambda value, cursor: "spoilt"), raw())
    assert support.fetch("SELECT DATE '2020-02-02'") == "spoilt"
    next_raw()
    assert support.fetch("SELECT DATE '2020-02-02'") != "spoilt"


@psycopg2_only
def test_a_typecaster_registered_at_the_opening_stays(at_the_opening):
    from psycopg2.extensions import new_type, register_type

    def typecaster(answer):
        return new_type((oid_of("date"),), "DATE", lambda value, cursor: answer)

    at_the_opening(lambda raw: register_type(typecaster("of the opening"), raw))
    register_type(typecaster("spoilt"), raw())
    next_raw()
    assert support.fetch("SELECT DATE '2020-02-02'") == "of the opening"


@psycopg2_only
def test_an_untouched_psycopg2_connection_counts_as_unchanged():
    support.fetch("SELECT now()")
    if support.BEFORE_1_6:
        connection._rollback()
    assert not drivers.of(raw()).has_changed(raw(), connection._persistconn.entry.flags)


# Notifications


def listen():
    connection.cursor().execute("LISTEN news")
    commit()
    if PSYCOPG_3 and not hasattr(connection.connection, "_notifies_backlog"):
        pytest.skip("this psycopg 3 drops notifications that nobody waits for")


def messages(raw):
    """The notifications that the driver has received and nobody has read."""
    if PSYCOPG_3:
        return list(raw.notifies(timeout=0.1))
    raw.poll()
    return list(raw.notifies)


@with_listen
def test_an_unread_notification_does_not_reach_the_next_user():
    listen()
    notify(connection._persistconn.entry)
    pid()
    before = connection.connection
    end_of_work()
    assert messages(before) == []


@with_listen
def test_a_notification_that_came_while_idle_does_not_reach_the_next_user():
    listen()
    entry = connection._persistconn.entry
    end_of_work()
    notify(entry)
    pid()
    assert messages(connection.connection) == []


@with_listen
def test_a_listener_keeps_its_notifications_over_a_ping(clock):
    listen()
    notify(connection._persistconn.entry)
    clock.forward(10)
    pid()
    assert len(messages(connection.connection)) == 1


# The ping


class Unknown(object):
    """A real connection of a driver that drivers/ does not know."""

    Error = None

    def __init__(self, raw):
        self._raw = raw

    def __getattr__(self, name):
        return getattr(self._raw, name)


class WithPing(Unknown):
    def __init__(self, raw):
        Unknown.__init__(self, raw)
        self.pings = []

    def ping(self, reconnect=True):
        self.pings.append(reconnect)
        self._raw.cursor().execute("SELECT 'its own ping'")


class WithBarePing(WithPing):
    def ping(self):
        WithPing.ping(self, None)


@pytest.fixture
def unknown_driver(monkeypatch):
    """A PEP 249 module "unknowndb", and a function that opens its connections, of a given class."""
    module = types.ModuleType("unknowndb")
    module.Error = support.driver.Error
    monkeypatch.setitem(sys.modules, "unknowndb", module)
    opened = []

    def connect(cls):
        real = support.driver.connect(**dict(support.server.parameters))
        if callable(real.autocommit):
            real.autocommit(True)
        else:
            real.autocommit = True
        opened.append(real)
        cls.__module__ = "unknowndb"
        return cls(real)

    yield connect
    for real in opened:
        if support.chosen.is_open(real):
            real.close()
    drivers._by_class.clear()


def last_statement(connection):
    backend = connection._raw.info.backend_pid if PSYCOPG_3 else connection._raw.get_backend_pid()
    return support.ask("SELECT query FROM pg_stat_activity WHERE pid = %s", None, backend)


@with_last_query
def test_the_ping_of_an_unknown_driver_is_the_statement_that_its_backend_needs(unknown_driver):
    unknown = unknown_driver(Unknown)
    assert drivers.of(unknown).ping(unknown, 5, "SELECT 1 AS dual")
    assert last_statement(unknown) == "SELECT 1 AS dual"


@with_last_query
def test_a_driver_with_a_ping_of_its_own_is_checked_by_that_ping(unknown_driver):
    unknown = unknown_driver(WithBarePing)
    assert drivers.of(unknown).ping(unknown, 5, "SELECT 1 AS dual")
    assert last_statement(unknown) == "SELECT 'its own ping'"


def test_a_ping_does_not_reconnect(unknown_driver):
    unknown = unknown_driver(WithPing)
    assert drivers.of(unknown).ping(unknown, 5)
    assert unknown.pings == [False]


@pytest.mark.parametrize("cls", [Unknown, WithPing])
def test_an_error_of_an_unknown_driver_fails_the_ping(unknown_driver, cls):
    unknown = unknown_driver(cls)
    unknown._raw.close()
    assert drivers.of(unknown).ping(unknown, 5) is False


def test_an_error_that_is_not_the_drivers_passes_through_a_ping(unknown_driver):
    class Odd(Unknown):
        def cursor(self):
            raise KeyError("not the driver's")

        ping = None  # MySQL's drivers have one

    unknown = unknown_driver(Odd)
    with pytest.raises(KeyError):
        drivers.of(unknown).ping(unknown, 5)


def test_an_error_that_is_not_the_drivers_passes_through_a_close(unknown_driver):
    class Odd(Unknown):
        def close(self):
            raise KeyError("not the driver's")

    unknown = unknown_driver(Odd)
    with pytest.raises(KeyError):
        drivers.of(unknown).close(unknown)


@pytest.mark.parametrize("error, passes", [(support.driver.Error, False), (KeyError, True)])
def test_only_an_error_that_is_not_the_drivers_passes_through_a_cancel(error, passes):
    # A stand-in: the server cannot be made to refuse a cancel for real here.
    class Cancelling(drivers.Driver):
        def _cancel(self, raw):
            raise error("not now")

    if passes:
        with pytest.raises(error):
            Cancelling().cancel(raw())
    else:
        Cancelling().cancel(raw())


def test_a_timeout_error_of_the_user_is_no_error_of_the_driver():
    # TimeoutError is an OSError.
    assert not drivers.of(raw()).is_its_error(raw(), OSError("three seconds are over"))


def test_an_error_of_the_operating_system_counts_as_an_error_of_the_driver():
    assert drivers.of(raw()).is_its_error(raw(), OSError(9, "bad file descriptor"))


@support.only_on("postgresql", "MySQL has no cursors with names")
def test_a_cursor_with_a_name_is_server_side():
    driver = drivers.of(raw())
    raw().rollback()
    named, plain = raw().cursor("named"), raw().cursor()
    assert driver.is_server_side(named)
    assert not driver.is_server_side(plain)
    named.close()


# Exceptions that are not the driver's


class SoftTimeLimit(Exception):
    """An exception like that of Celery's time limit, raised in a signal handler."""


@pytest.fixture
def time_limit():
    """Raise SoftTimeLimit after some seconds, wherever the main thread is then."""

    def out_of_time(number, frame):
        raise SoftTimeLimit

    before = signal.signal(signal.SIGALRM, out_of_time)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def stopped():
    """Stop the backend of a session, as when its machine hangs. It goes on after the test."""
    if support.databases.NAME != "postgresql":
        pytest.skip("sessions of MariaDB are threads of one process")
    pids = []

    def stop(pid):
        os.kill(pid, signal.SIGSTOP)
        pids.append(pid)

    yield stop
    for stopped_pid in pids:
        os.kill(stopped_pid, signal.SIGCONT)


def connections_of_the_pool():
    import gc

    gc.collect()
    stats = persistconn.stats()["default"]
    return stats["idle"], stats["in_use"]


def test_a_time_limit_passes_through_the_ping_of_an_idle_connection(clock, stopped, time_limit):
    backend = pid()
    end_of_work()
    stopped(backend)
    clock.forward(10)
    time_limit(0.2)
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=1):
        with pytest.raises(SoftTimeLimit):
            pid()
    end_of_work()
    assert wait_until(lambda: connections_of_the_pool() == (0, 0))


@pytest.fixture
def reconnect_always():
    """Have sessions checked in the middle of work even if the user has cursors in them."""
    with settings_as(PERSISTCONN_RECONNECT="always"):
        yield


def test_a_time_limit_passes_through_the_ping_within_a_unit_of_work(
    clock, stopped, time_limit, reconnect_always
):
    backend = pid()
    if support.BEFORE_1_6:
        connection._rollback()
    stopped(backend)
    clock.forward(10)
    time_limit(0.2)
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=1):
        with pytest.raises(SoftTimeLimit):
            pid()
        end_of_work()
    assert wait_until(lambda: connections_of_the_pool() == (0, 0))


@pytest.mark.skipif(support.BEFORE_1_6, reason="every query is in a transaction before 1.6")
def test_a_connection_is_not_used_after_a_ping_that_was_interrupted(
    clock, stopped, time_limit, monkeypatch, reconnect_always
):
    # A stand-in for a driver that does not tell whether an answer is still to come.
    backend = pid()
    monkeypatch.setattr(type(drivers.of(raw())), "status", lambda self, raw: None)
    stopped(backend)
    clock.forward(10)
    time_limit(0.2)
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=1):
        with pytest.raises(SoftTimeLimit):
            pid()
        assert pid() != backend
    end_of_work()
    monkeypatch.undo()
    persistconn.drain()


@psycopg_3_only
def test_the_rollback_at_the_end_of_work_does_not_wait_for_an_unfinished_generator(time_limit):
    listen()
    notify(connection._persistconn.entry)
    connection.cursor().execute("BEGIN")
    notifications = connection.connection.notifies()
    time_limit(5)
    next(notifications)
    end_of_work()
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0


def test_a_time_limit_passes_through_the_rollback_at_the_end_of_work(stopped, time_limit):
    connection.cursor().execute("SELECT 1" if support.BEFORE_1_6 else "BEGIN")
    stopped(pid())
    time_limit(0.2)
    with settings_as(PERSISTCONN_CHECK_TIMEOUT=1):
        with pytest.raises(SoftTimeLimit):
            end_of_work()
    assert wait_until(lambda: connections_of_the_pool() == (0, 0))
