"""A server takes no writes any more, and no option tells which server the site wants."""

from __future__ import absolute_import

import itertools
import sys
import traceback

import django
import pytest
import support
from django.db import connection, connections, transaction
from proxy import Proxy
from support import database_as, end_of_work, orm_pid, pid, pids_at_once, settings_as

import persistconn
from persistconn import drivers, failures

on_postgresql = support.only_on("postgresql", "here a session can write, and another one cannot")
since_1_6 = pytest.mark.skipif(support.BEFORE_1_6, reason="Django converts errors since 1.6")

in_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success
numbers = itertools.count(1)


class PostgreSQL(object):
    """Becomes read-only for the sessions that are open, and for new ones until relieve()."""

    SET = "SET default_transaction_read_only = %s"

    def __init__(self):
        support.query(self.SET % "off")  # in the tests' own session

    def demote(self):
        self._reload(self.SET % "on")

    def relieve(self):
        """Let new sessions write, as those of another server that has become the primary."""
        support.query("ALTER DATABASE %s %s" % (support.DATABASE, self.SET % "off"))

    def reset(self):
        support.query("ALTER DATABASE %s RESET ALL" % support.DATABASE)
        self._reload("RESET default_transaction_read_only")

    def _reload(self, change):
        before = self._loaded_at()
        support.query("ALTER SYSTEM " + change)
        support.query("SELECT pg_reload_conf()")
        # The server tells its backends before it lets another client in.
        assert support.wait_until(lambda: self._loaded_at() > before)

    def _loaded_at(self):
        return support.ask("SELECT pg_conf_load_time()", support.DATABASE)


class MariaDB(object):
    def __init__(self):
        # read_only does not concern root.
        support.query("CREATE USER writer@'%'")
        support.query("GRANT SELECT, INSERT ON *.* TO writer@'%'")

    def demote(self):
        support.query("SET GLOBAL read_only = 1")

    def reset(self):
        support.query("SET GLOBAL read_only = 0")
        support.query("DROP USER writer@'%'")


@pytest.fixture
def server(rows):
    is_mariadb = support.databases.NAME == "mariadb"
    server = (MariaDB if is_mariadb else PostgreSQL)()
    # Options of its own, because a pool remembers whether it could ever write.
    own = {"OPTIONS": support.chosen.own_option("failover %d" % next(numbers))}
    if is_mariadb:
        own["USER"] = "writer"
    with database_as(**own):
        yield server
        end_of_work()
        persistconn.drain()
    server.reset()


@pytest.fixture
def moved(server):
    """Demote the server at the call, and have another primary behind its address."""

    def move():
        server.demote()
        server.relieve()

    return move


@pytest.fixture
def questions(monkeypatch):
    """The answers to the question whether a session is read-only; each is really asked."""
    stock, answers = drivers.Driver.ask_read_only, []

    def ask(self, raw, timeout):
        answers.append(stock(self, raw, timeout))
        return answers[-1]

    monkeypatch.setattr(drivers.Driver, "ask_read_only", ask)
    return answers


def insert():
    """Write a row by the ORM. Return whether it was written."""
    from site_app.models import Item

    try:
        Item.objects.create(name=str(next(numbers)))
        return True
    except support.database_errors():
        support.end_transaction()
        return False


def write():
    """The same as a unit of work."""
    try:
        return insert()
    finally:
        end_of_work()


def write_by_cursor():
    try:
        execute_insert()
        support.BEFORE_1_6 and connection._commit()
        return True
    except support.database_errors():
        return False
    finally:
        end_of_work()


def execute_insert():
    connection.cursor().execute("INSERT INTO item (name) VALUES ('%d')" % next(numbers))


def write_at_once(number):
    """Write in ``number`` units of work at the same time. Return what was written."""
    if number == 0:
        return []
    first = insert()
    others = support.in_thread(lambda: write_at_once(number - 1))
    end_of_work()
    return [first] + others


def stats(name):
    return persistconn.stats()["default"][name]


def discarded():
    return stats("discarded").get("read only", 0)


# Another server takes the writes


@on_postgresql
@pytest.mark.parametrize("write", [write, write_by_cursor])
def test_one_write_fails_of_a_thread_whose_pool_has_four_idle_sessions(moved, write):
    before = pids_at_once(4)
    moved()
    assert [write() for _ in range(6)] == [False] + 5 * [True]
    assert not set(pids_at_once(4)) & set(before)


@on_postgresql
def test_each_session_of_the_old_server_is_discarded_as_read_only(moved):
    pids_at_once(4)
    before = discarded()
    moved()
    write(), write()
    assert discarded() == before + 4


@on_postgresql
def test_at_most_two_writes_fail_of_two_threads(moved):
    pids_at_once(4)
    moved()
    outcomes = support.together(*2 * [lambda: [write() for _ in range(5)]])
    assert sum(outcomes, []).count(False) <= 2
    assert [each[-1] for each in outcomes] == [True, True]


@on_postgresql
def test_in_a_loop_of_the_orm_without_requests_the_second_write_succeeds(moved):
    assert insert()
    moved()
    assert [insert(), insert()] == [False, True]
    end_of_work()


@on_postgresql
def test_with_reconnect_never_the_next_unit_of_work_writes(moved):
    with settings_as(PERSISTCONN_RECONNECT="never"):
        assert insert()
        moved()
        assert [insert(), insert()] == [False, False]
        end_of_work()
        assert write()


def test_a_session_of_a_unit_with_a_cursor_of_its_own_stays_until_the_end_of_the_unit(server):
    before = pid()
    support.end_transaction()
    server.demote()
    assert not insert()
    assert pid() == before
    end_of_work()
    assert pid() != before


@pytest.mark.parametrize("write", [write, write_by_cursor])
def test_a_session_is_replaced_after_its_first_refused_write(server, write):
    before, opened = pid(), stats("opened")
    end_of_work()
    server.demote()
    assert not write()
    assert pid() != before
    assert stats("opened") == opened + 1


def test_a_refused_write_in_a_transaction_replaces_its_session_after_it(server):
    before = orm_pid()
    server.demote()
    with pytest.raises(support.database_errors()):
        in_transaction(refused)()
    if django.VERSION < (1, 4) and support.databases.NAME == "mariadb":
        end_of_work()  # the ORM raises the driver's own error, so the session stays until then
    assert orm_pid() != before


def test_a_refused_write_by_a_cursor_in_a_transaction_replaces_its_session_at_the_end(server):
    before = orm_pid()
    server.demote()
    with pytest.raises(support.database_errors()):
        in_transaction(execute_insert)()
    end_of_work()
    assert orm_pid() != before
    end_of_work()


@pytest.mark.skipif(
    django.VERSION < (1, 4) and support.databases.NAME == "mariadb",
    reason="the ORM raises the driver's own error, so the session stays until the end of the work",
)
def test_a_refused_write_in_autocommit_without_a_rollback_replaces_its_session(server):
    wrapper = connections["default"]
    if support.BEFORE_1_6 and support.databases.NAME == "postgresql":
        # A wrapper of these Djangos reads OPTIONS["autocommit"] when it is made.
        wrapper.settings_dict["OPTIONS"]["autocommit"] = True
        wrapper = type(wrapper)(wrapper.settings_dict, "default")
    with support.wrapper_as(wrapper):
        before = orm_pid()
        server.demote()
        with pytest.raises(support.database_errors()):
            refused()
        assert orm_pid() != before
        end_of_work()


def refused():
    from site_app.models import Item

    Item.objects.create(name="refused")


@on_postgresql
def test_no_write_fails_after_the_first_session_that_can_write(clock, server):
    assert write()
    server.demote()
    assert not write()
    assert not write()
    clock.forward(1)
    write_at_once(3)  # one session is old enough to be replaced, the others are not
    server.relieve()
    while True not in write_at_once(3):
        clock.forward(0.2)
    assert write_at_once(3) == 3 * [True]


@on_postgresql
def test_drain_makes_the_next_write_reach_the_server_that_takes_writes(server):
    assert write()
    server.demote()
    assert [write(), write()] == [False, False]
    server.relieve()
    persistconn.drain()
    assert write()


@on_postgresql
def test_a_session_too_young_to_be_replaced_is_replaced_once_another_one_can_write(server):
    assert write()
    server.demote()
    assert not write()
    first, young = pids_at_once(2)
    server.relieve()

    def work():
        assert orm_pid() == young  # it has been asked
        assert support.in_thread(write)
        return write()

    assert not insert()
    assert support.in_thread(work)
    end_of_work()


@on_postgresql
def test_an_old_server_that_does_not_report_is_asked(monkeypatch, moved):
    # A stand-in for a PostgreSQL before 14.
    monkeypatch.setattr(type(drivers.of_module(support.driver)), "parameter", lambda *args: None)
    pids_at_once(4)
    moved()
    assert [write() for _ in range(6)] == [False] + 5 * [True]


@on_postgresql
def test_a_server_that_cannot_be_asked_serves(monkeypatch, server):
    from persistconn.drivers import postgresql

    monkeypatch.setattr(type(drivers.of_module(support.driver)), "parameter", lambda *args: None)
    monkeypatch.setattr(postgresql, "IS_READ_ONLY", "SELECT nonsense")
    assert pid()
    end_of_work()


# No server takes writes


def test_a_replica_is_sent_no_statement_more_after_a_refused_write_than_after_any_error(server):
    server.demote()
    with Proxy(support.server) as proxy, database_as(HOST=proxy.host, PORT=str(proxy.port)):
        orm_pid()
        end_of_work()
        assert round_trips(proxy, write_by_cursor) == round_trips(proxy, fail)
        persistconn.drain()


def round_trips(proxy, work, times=5):
    work(), orm_pid(), end_of_work()
    before = proxy.round_trips
    for _ in range(times):
        work()
        orm_pid()
        end_of_work()
    return proxy.round_trips - before


def fail():
    cursor = connection.cursor()
    try:
        cursor.execute("INSERT INTO nothing VALUES (1)")
    except support.database_errors():
        pass
    finally:
        end_of_work()


def test_a_replica_keeps_its_session_and_is_not_asked_whether_it_takes_writes(server, questions):
    server.demote()
    before, opened = orm_pid(), stats("opened")
    end_of_work()
    assert [write() for _ in range(5)] == 5 * [False]
    assert orm_pid() == before
    assert (stats("opened"), questions) == (opened, [])
    end_of_work()


@pytest.mark.parametrize(
    "check_after, at_once, later", [(1, 1, 1), (None, 1, 1), (60, 1, 0), (0, 5, 5)]
)
def test_a_session_is_replaced_at_most_once_in_check_after(
    clock, server, check_after, at_once, later
):
    with settings_as(PERSISTCONN_CHECK_AFTER=check_after):
        assert write()
        server.demote()
        assert not write()
        before = stats("opened")
        assert [write() for _ in range(5)] == 5 * [False]
        assert stats("opened") == before + at_once
        clock.forward(1)
        before = stats("opened")
        assert [write() for _ in range(5)] == 5 * [False]
        assert stats("opened") == before + later


@on_postgresql
def test_behind_a_middleman_with_old_reports_it_is_the_same(monkeypatch, clock, server):
    # A stand-in for a pooler that reports what another server told it.
    monkeypatch.setattr(type(drivers.of_module(support.driver)), "parameter", lambda *args: "off")
    assert write_at_once(3) == 3 * [True]
    server.demote()
    clock.forward(1)
    before = stats("opened")
    for _ in range(5):
        assert not any(write_at_once(3))
    assert stats("opened") <= before + 3


# No failover


def test_a_session_in_use_is_never_asked_without_a_refused_write(clock, server, questions):
    assert write()
    for work in (write, fail, write):
        clock.forward(1)
        work()
    assert questions == []


@on_postgresql
@on_postgresql
def test_sessions_that_their_users_make_read_only_are_replaced_once_in_check_after(clock):
    def browse():
        connection.cursor().execute("SET default_transaction_read_only = on")
        support.BEFORE_1_6 and connection._commit()
        return write()

    with database_as(OPTIONS=support.chosen.own_option("browser %d" % next(numbers))):
        assert write()
        opened = stats("opened")
        assert not any([browse() for _ in range(10)])
        assert stats("opened") <= opened + 1
        clock.forward(2)
        assert not any([browse() for _ in range(10)])
        assert stats("opened") <= opened + 2


@pytest.mark.skipif(support.driver.__name__ != "psycopg", reason="psycopg 3 has such a copy()")
def test_a_refused_copy_in_a_transaction_is_noted(moved):
    before = orm_pid()
    moved()
    with pytest.raises(support.driver.Error):
        in_transaction(copy_a_row)()
    end_of_work()
    assert pid() != before


def copy_a_row():
    with connection.cursor() as cursor:
        with cursor.copy("COPY item (name) FROM STDIN") as copy:
            copy.write_row(["one"])


def test_a_read_only_transaction_of_the_users_own_costs_no_session(server):
    before = orm_pid()

    @in_transaction
    def work():
        connection.cursor().execute("SET TRANSACTION READ ONLY")
        refused()

    with pytest.raises(support.database_errors()):
        work()
    end_of_work()
    assert orm_pid() == before
    end_of_work()
    assert write()


@on_postgresql
@since_1_6  # before it, the server's report tells that the session can write
def test_the_other_sessions_are_asked_once_after_a_refused_write(clock, server, questions):
    kept = set(pids_at_once(3))

    @in_transaction
    def work():
        connection.cursor().execute("SET TRANSACTION READ ONLY")
        refused()

    with pytest.raises(support.database_errors()):
        work()
    end_of_work()
    for _ in range(2):
        assert set(pids_at_once(3)) == kept
        clock.forward(1)
    assert questions == 3 * ["off"]


# The error itself


def caught():
    try:
        refused()
    except support.database_errors() as error:
        frames = traceback.extract_tb(sys.exc_info()[2])
        return error, [frame[2] for frame in frames if "/persistconn/" not in frame[0]]
    finally:
        end_of_work()


@pytest.mark.parametrize("off", [persistconn.disable, persistconn.uninstall])
def test_the_error_is_the_one_of_stock_django_and_passes_through_the_same_functions(server, off):
    server.demote()
    ours, frames = caught()
    off()
    try:
        stock, frames_of_stock = caught()
    finally:
        persistconn.install()
        persistconn.enable()
    assert (type(ours), ours.args) == (type(stock), stock.args)
    cause, cause_of_stock = [getattr(error, "__cause__", None) for error in (ours, stock)]
    assert type(cause) is type(cause_of_stock)
    assert getattr(cause, "pgcode", None) == getattr(cause_of_stock, "pgcode", None)
    assert frames == frames_of_stock


@since_1_6
def test_while_persistconn_is_off_no_error_is_noted(monkeypatch, server):
    noted = []
    monkeypatch.setattr(failures, "statement_failed", lambda *args: noted.append(args))
    server.demote()
    persistconn.disable()
    try:
        assert not write()
    finally:
        persistconn.enable()
    assert noted == []


@since_1_6
def test_without_an_error_a_replacement_of_another_library_is_called():
    from django.db import utils

    from persistconn import patching, wrappers

    calls = []
    # A function of this module is not Django's.
    ours = wrappers.raising_djangos_errors(lambda *args: calls.append(args), patching.Switch())
    converter = utils.DatabaseErrorWrapper(connection)
    ours(converter, None, None, None)
    assert calls == [(converter, None, None, None)]


@support.only_on("mariadb", "the code of the error is one of MySQL")
@pytest.mark.parametrize(
    "code, option, cannot",
    [
        (1290, "--read-only", True),
        (1290, "--super-read-only", True),
        (1290, "--secure-file-priv", False),
        (1290, "--skip-grant-tables", False),
        (1062, "--read-only", False),
    ],
)
def test_of_the_options_that_prevent_a_statement_only_read_only_counts(code, option, cannot):
    # Made by hand, because a server has most of these options from its start.
    text = "The MariaDB server is running with the %s option so it cannot execute this statement"
    driver = drivers.of_module(support.driver)
    assert driver.cannot_write(support.driver.OperationalError(code, text % option)) is cannot


class Odd(Exception):
    """An error whose attributes are of no use."""

    args = None

    @property
    def sqlstate(self):
        raise ValueError("asked")

    pgcode = sqlstate


@since_1_6
def test_an_error_that_is_not_the_drivers_passes_as_it_is():
    pid()
    with pytest.raises(Odd):
        with connection.wrap_database_errors:
            raise Odd()
    end_of_work()
