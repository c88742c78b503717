"""What mysqlclient and PyMySQL have of their own: numbers of errors, and descriptors gone stale."""

from __future__ import absolute_import

import contextlib
import gc
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import partial

import pytest
import support
from databases import chosen
from django.db import connection, connections, transaction
from proxy import Proxy
from support import (
    BEFORE_1_6,
    backends,
    database_as,
    end_of_work,
    end_transaction,
    fetch,
    in_child,
    in_thread,
    later,
    orm_pid,
    pid,
    settings_as,
    unit_of_work,
    wait_until,
)

import persistconn
from persistconn import drivers

pytestmark = support.only_on("mariadb", "these are the drivers of MySQL")

since_1_6 = pytest.mark.skipif(BEFORE_1_6, reason="Django is in autocommit since 1.6")


@pytest.fixture(autouse=True)
def ended():
    yield
    end_of_work()


def raw():
    """The driver's connection of this unit of work."""
    connection.cursor().close()
    return connection.connection


def discarded(reason):
    return persistconn.stats()["default"]["discarded"].get(reason, 0)


# Transactions that the driver does not show.


def without_autocommit(statement):
    """Run a statement with autocommit off; leave the transaction open at the end of the work."""
    if not BEFORE_1_6:
        transaction.set_autocommit(False)
    fetch(statement)
    end_of_work()


def is_free():
    """Whether no transaction has read or locked the table."""
    support.ask(chosen.LOCK, support.DATABASE)
    return True


def test_a_transaction_that_a_read_began_ends_with_its_unit_of_work(rows):
    support.query("INSERT INTO item VALUES ('locked')", support.DATABASE)
    without_autocommit("SELECT name FROM item FOR UPDATE")
    assert is_free()


def test_a_write_that_answers_with_rows_is_not_committed_at_the_end_of_work(rows):
    without_autocommit("INSERT INTO item VALUES ('written') RETURNING name")
    assert rows() == []
    assert is_free()


def test_a_transaction_with_an_error_alone_ends_with_its_unit_of_work(rows):
    support.query("INSERT INTO item VALUES ('there')", support.DATABASE)
    with pytest.raises(support.database_errors()):
        without_autocommit("INSERT INTO item VALUES ('there')")
    end_of_work()
    assert is_free()


@pytest.fixture
def procedure():
    text = (
        "CREATE PROCEDURE begin_and_write() BEGIN START TRANSACTION;"
        " INSERT INTO item VALUES ('by a procedure'); SELECT 1; END"
    )
    support.query(text, support.DATABASE)
    yield
    support.query("DROP PROCEDURE begin_and_write", support.DATABASE)


@pytest.mark.parametrize("how", ["read", "closed", "left open", "dropped"])
def test_a_transaction_that_a_procedure_began_ends_with_its_unit_of_work(rows, procedure, how):
    cursor = connection.cursor()
    cursor.execute("CALL begin_and_write()")
    assert cursor.fetchone() == (1,)
    if how == "read":
        while cursor.nextset():
            pass
    elif how == "closed":
        cursor.close()
    elif how == "dropped":
        del cursor
        gc.collect()
    end_of_work()
    assert is_free()
    assert rows() == []


@pytest.mark.parametrize("value", [True, False])
def test_autocommit_is_restored_for_the_next_user(rows, value):
    before = raw()
    usual = before.get_autocommit()
    before.autocommit(value)
    fetch("INSERT INTO item VALUES ('uncommitted') RETURNING name")
    end_of_work()
    assert raw() is before
    assert before.get_autocommit() == usual
    assert rows() == (["uncommitted"] if value else [])


def test_autocommit_that_a_statement_switched_off_is_restored_for_the_next_user(rows):
    before = raw()
    usual = before.get_autocommit()
    connection.cursor().execute("SET autocommit = %d" % (not usual))
    end_of_work()
    assert raw() is before
    assert before.get_autocommit() == usual


# Descriptors. After a loss mysqlclient has closed its socket, but keeps the number.


def descriptors():
    """By number: the device and the inode of each open file of this process."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            status = os.fstat(int(number))
        except OSError:
            continue  # it was that of the listing
        found[int(number)] = status.st_dev, status.st_ino
    return found


def lose():
    """Have the driver meet the loss of its session. Return its connection, and its old number."""
    lost, fd = raw(), chosen.fileno(raw())
    support.kill(pid())
    with pytest.raises(support.database_errors()):
        pid()
    return lost, fd


@contextlib.contextmanager
def stranger_at(fd):
    """A pair of healthy sockets that have nothing to do with the database; the first has ``fd``."""
    mine, peer = socket.socketpair()
    if peer.fileno() == fd:
        mine, peer = peer, mine
    if mine.fileno() != fd:
        os.dup2(mine.fileno(), fd)
    stranger = os.fstat(fd).st_ino
    try:
        yield mine, peer
        assert os.fstat(fd).st_ino == os.fstat(mine.fileno()).st_ino == stranger
        mine.sendall(b"still")
        assert peer.recv(10) == b"still"
        peer.sendall(b"open")
        assert mine.recv(10) == b"open"
    finally:
        if mine.fileno() != fd:
            os.close(fd)
        mine.close(), peer.close()


TOUCHES = {
    "poll": lambda driver, lost: driver.fileno(lost),
    "detach": lambda driver, lost: driver.detach(lost),
    "shut down": lambda driver, lost: driver.shut_down(lost),
    "abandon": lambda driver, lost: driver.abandon(lost),
    "close": lambda driver, lost: driver.close(lost),
    "ping": lambda driver, lost: driver.ping(lost, 0.1),
    "keep alive": lambda driver, lost: driver.keep_alive(lost, {}),
}


@pytest.mark.parametrize("touch", sorted(TOUCHES))
def test_a_socket_that_got_a_lost_number_is_left_alone(touch):
    lost, fd = lose()
    with stranger_at(fd) as (mine, peer):
        before = mine.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        TOUCHES[touch](drivers.of(lost), lost)
        assert mine.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == before


def test_the_watchdog_leaves_a_socket_alone_that_got_a_lost_number():
    lost, fd = lose()
    with stranger_at(fd):
        with drivers.of(lost).limit(lost, 0.05):
            time.sleep(0.5)


def test_a_lost_connection_is_not_handed_out_though_its_number_is_that_of_a_healthy_socket():
    lost, fd = lose()
    # As if nobody had noticed: the entry is in use, and its descriptor shows a healthy socket.
    with stranger_at(fd):
        assert drivers.of(lost).is_closed(lost)
        end_of_work()
        assert pid() in backends()
        assert connection.connection is not lost


def test_a_lost_connection_that_gave_its_error_away_is_not_handed_out():
    lost, fd = lose()
    lost.get_autocommit()
    with stranger_at(fd):
        end_of_work()
        assert pid() in backends()


@pytest.mark.parametrize("end", [end_of_work, connection.close, persistconn.drain, gc.collect])
def test_a_child_leaves_a_socket_alone_that_got_a_lost_number(end):
    lost, fd = lose()
    with stranger_at(fd) as (mine, peer):

        def work():
            end()
            mine.sendall(b"child")

        assert in_child(work) == 0
        assert peer.recv(10) == b"child"


def test_a_hundred_forks_after_a_hundred_losses_leave_every_other_descriptor_intact():
    kept = pid("other")
    kept_fd = chosen.fileno(connections["other"].connection)
    end_of_work()
    listeners = []
    try:
        for _turn in range(100):
            fd = lose()[1]
            listeners.append(listen())
            assert listeners[-1].fileno() == fd
            support.close_sessions()
            before = descriptors()
            # The child points its parent's live connection at /dev/null.
            others = [number for number in before if number != kept_fd]
            assert in_child(partial(use_and_compare, before, others), 60) == 0
            assert descriptors() == before
            end_of_work()
        assert [serves(listener) for listener in listeners] == [True] * 100
    finally:
        for listener in listeners:
            listener.close()
    assert pid("other") == kept


def use_and_compare(before, others):
    """Use and end the database in a child. Its descriptors must still be those of its parent."""
    assert pid() in backends()
    end_of_work()
    persistconn.drain()
    gc.collect()
    now = descriptors()
    assert [number for number in others if now.get(number) != before[number]] == []


def listen():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    return listener


def serves(listener):
    """Whether a client that connects to the listener gets through."""
    client = socket.create_connection(listener.getsockname(), 5)
    served = listener.accept()[0]
    try:
        client.sendall(b"served")
        return served.recv(10) == b"served"
    finally:
        client.close(), served.close()


# Other lines to the server: TLS, unix sockets.

SIGN = "openssl req -new -x509 -nodes -days 2 -subj /CN=localhost -out %s -keyout %s"


@pytest.fixture(scope="module")
def other_server():
    """A server with TLS, and a limit on the sessions of each user."""
    folder = tempfile.mkdtemp()
    files = [os.path.join(folder, name) for name in ("server.crt", "server.key")]
    with open(os.devnull, "w") as null:
        subprocess.check_call((SIGN % tuple(files)).split(), stdout=null, stderr=null)
    os.chmod(folder, 0o755)
    if os.geteuid() == 0:
        for path in files:
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    server = chosen.Server(ssl_cert=files[0], ssl_key=files[1], max_user_connections=50).start()
    session = support.driver.connect(**server.parameters)
    server.tell = session.cursor().execute
    server.tell("CREATE DATABASE %s" % support.DATABASE)
    server.tell("USE %s" % support.DATABASE)
    for statement in chosen.TABLES:
        server.tell(statement)
    server.is_there = lambda pid: server.tell(
        "SELECT 1 FROM information_schema.processlist WHERE id = %d" % pid
    )
    server.over_tls = {"ssl": {"ca": files[0], "check_hostname": False}}
    yield server
    session.close()
    server.stop()
    shutil.rmtree(folder)


def socket_path(server):
    session = support.driver.connect(**server.parameters)
    cursor = session.cursor()
    cursor.execute("SELECT @@socket")
    (path,) = cursor.fetchone()
    session.close()
    return path


LINES = ["TLS", "unix socket in HOST", "unix socket in OPTIONS"]


@pytest.fixture(params=LINES)
def line(request, other_server):
    """The name of the line by which Django connects to the other server."""
    settings = {"HOST": other_server.host, "PORT": str(other_server.port)}
    if request.param == "TLS":
        settings["OPTIONS"] = other_server.over_tls
    elif request.param == "unix socket in HOST":
        settings = {"HOST": socket_path(other_server), "PORT": ""}
    else:
        settings = {"HOST": "", "OPTIONS": {"unix_socket": socket_path(other_server)}}
    with database_as(**settings):
        yield request.param
        end_of_work()
        persistconn.drain()


def kill_on(server, pid):
    server.tell("KILL %d" % pid)
    assert wait_until(lambda: not server.is_there(pid))


def test_the_line_is_of_the_kind_that_the_settings_ask_for(line):
    if line == "TLS":
        cursor = connection.cursor()
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchone()[1]
    else:
        copy = socket.fromfd(chosen.fileno(raw()), socket.AF_UNIX, socket.SOCK_STREAM)
        assert not isinstance(copy.getpeername(), tuple)
        copy.close()


def test_a_session_is_reused_on_every_kind_of_line(line, pings):
    assert len(set(unit_of_work() for _turn in range(5))) == 1
    assert pings == []


def test_an_idle_connection_has_nothing_to_read_on_any_kind_of_line(line):
    for _turn in range(3):
        pid()
        entry = connection._persistconn.entry
        end_of_work()
        time.sleep(0.1)
        assert list(entry.poll()) == []


def test_a_session_killed_while_idle_is_replaced_on_every_kind_of_line(line, other_server):
    killed, before = unit_of_work(), discarded("dead")
    kill_on(other_server, killed)
    assert pid() != killed
    assert discarded("dead") == before + 1


def test_a_session_killed_during_work_is_replaced_on_every_kind_of_line(line, other_server):
    killed = orm_pid()
    kill_on(other_server, killed)
    assert orm_pid() != killed


def test_a_check_passes_on_every_kind_of_line(line, clock, pings):
    before = unit_of_work()
    clock.forward(10)
    assert pid() == before
    assert pings == [True]


def test_a_child_ends_no_session_of_its_parent_on_any_kind_of_line(line):
    idle = unit_of_work()

    def work():
        assert pid() != idle
        end_of_work()
        persistconn.drain()

    assert in_child(work, 60) == 0
    assert pid() == idle
    assert in_child(connection.close, 60) == 0
    end_transaction()
    assert orm_pid() == idle


# Keepalives.


def test_a_kept_connection_over_tcp_has_keepalives():
    copy = socket.fromfd(chosen.fileno(raw()), socket.AF_INET, socket.SOCK_STREAM)
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    try:
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        values = [copy.getsockopt(socket.IPPROTO_TCP, name) for name in names]
    finally:
        copy.close()
    assert values == [30, 10, 3]


# A server that lets nobody in, or not this user.


@pytest.fixture
def proxy():
    """A proxy between Django and the server; no connection through it outlives the test."""
    with Proxy(support.server) as proxy:
        with database_as(HOST="127.0.0.1", PORT=str(proxy.port)):
            yield proxy
            end_of_work()
            persistconn.drain()


def refused(work, code):
    """Do work that must fail with this error. Return the seconds that it took."""
    began = time.time()
    with pytest.raises(support.database_errors()) as caught:
        work()
    assert chosen.code_of(caught.value) == code
    return time.time() - began


def test_a_wrong_password_is_raised_at_once(proxy):
    with support.role_with_password("locked", "right"):
        with database_as(USER="locked", PASSWORD="wrong"):
            refused(pid, 1045)
    assert proxy.accepted == 1


def test_an_unknown_database_is_raised_at_once(proxy):
    with database_as(NAME="nowhere"):
        refused(pid, 1049)
    assert proxy.accepted == 1


def test_a_server_that_comes_back_on_its_port_is_waited_for(proxy):
    proxy.close()
    back = []
    try:
        with later(0.5, lambda: back.append(Proxy(support.server, proxy.port))):
            assert pid() in backends()
        end_of_work()
        persistconn.drain()
    finally:
        for again in back:
            again.close()


def test_a_server_that_comes_back_on_its_unix_socket_is_waited_for(other_server):
    path = os.path.join(tempfile.mkdtemp(), "socket")
    try:
        with database_as(HOST=path, PORT=""):
            with later(0.5, lambda: os.symlink(socket_path(other_server), path)):
                assert other_server.is_there(pid())
            end_of_work()
            persistconn.drain()
    finally:
        shutil.rmtree(os.path.dirname(path))


@pytest.mark.parametrize("where", ["TCP", "unix socket"])
def test_connecting_to_a_server_that_stays_away_fails_at_the_deadline(proxy, where):
    proxy.close()
    settings = {} if where == "TCP" else {"HOST": "/nowhere/socket"}
    with database_as(**settings), settings_as(PERSISTCONN_CONNECT_DEADLINE=1):
        began = time.time()
        with pytest.raises(support.database_errors()) as caught:
            pid()
        assert chosen.code_of(caught.value) in (2002, 2003)
        assert 0.5 < time.time() - began < 1 + 1


@pytest.fixture
def plain_user():
    """A user without the privileges that give root a slot of its own."""
    support.query("CREATE USER plain@'%'")
    support.query("GRANT ALL ON %s.* TO plain@'%%'" % support.DATABASE)
    with database_as(USER="plain"):
        yield "plain"
        end_of_work()
        persistconn.drain()
    support.query("DROP USER plain@'%'")


def sessions_of(user, server=None):
    """Open sessions for a user until the server refuses the next one; return them."""
    opened = []
    while True:
        try:
            opened.append(
                support.driver.connect(**dict((server or support.server).parameters, user=user))
            )
        except support.driver.Error:
            return opened


def close_all(opened):
    for session in opened:
        session.close()


@pytest.fixture
def few_connections():
    (before,) = support.query("SELECT @@max_connections")[0]
    support.query("SET GLOBAL max_connections = 10")
    yield
    support.query("SET GLOBAL max_connections = %d" % before)


@pytest.fixture(params=["1040", "1226", "1203"])
def full(request, plain_user, other_server):
    """The server has no slot left for the user: because of all users, or of the user's own limit.

    Yields the sessions that fill it, and the error's number.
    """
    server, settings = support.server, {}
    if request.param == "1040":
        request.getfixturevalue("few_connections")
    elif request.param == "1226":
        support.query("ALTER USER plain@'%' WITH MAX_USER_CONNECTIONS 3")
    else:
        server = other_server
        server.tell("CREATE USER plain@'%'")
        server.tell("GRANT ALL ON %s.* TO plain@'%%'" % support.DATABASE)
        settings = {"PORT": str(server.port)}
    opened = sessions_of("plain", server)
    with database_as(**settings):
        yield opened, int(request.param)
        end_of_work()
        persistconn.drain()
    close_all(opened)
    if server is other_server:
        server.tell("DROP USER plain@'%'")


def test_a_full_server_is_tried_until_a_slot_is_free(full):
    opened, _code = full
    with later(0.5, lambda: opened.pop().close()):
        assert pid()
    end_of_work()


def test_a_server_that_stays_full_is_given_up_at_the_deadline(full):
    _opened, code = full
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=1):
        assert 0.5 < refused(pid, code) < 1 + 1


# Sessions that the server ends because they idle.


@pytest.fixture
def demoted():
    """Make the server a replica, and take that back after the test."""
    yield lambda: support.query("SET GLOBAL read_only = 1")
    support.query("SET GLOBAL read_only = 0")


@pytest.fixture
def writer():
    """A user whom read_only concerns: root may write all the same."""
    support.query("CREATE USER writer@'%'")
    support.query("GRANT SELECT, INSERT ON *.* TO writer@'%'")
    with database_as(USER="writer"):
        yield
    persistconn.drain()
    support.query("DROP USER writer@'%'")


def write(name):
    from site_app.models import Item

    try:
        Item.objects.create(name=name)
    finally:
        end_of_work()


@since_1_6  # before it there is no atomic()
def test_a_transaction_that_the_server_refused_makes_its_session_answer(writer, demoted):
    before = unit_of_work()
    demoted()
    with pytest.raises(support.database_errors()):
        with transaction.atomic():
            write("refused")
    end_of_work()
    assert unit_of_work() != before


def test_a_session_whose_server_takes_no_writes_any_more_fails_one_of_them(writer, demoted, rows):
    before, known = unit_of_work(), discarded("read only")
    demoted()
    with pytest.raises(support.database_errors()):
        write("refused")
    assert unit_of_work() != before
    assert discarded("read only") == known + 1
    assert rows() == []


def test_one_write_fails_of_four_idle_sessions_when_a_proxy_leads_to_another_server(
    writer, demoted, other_server
):
    other_server.tell("CREATE USER writer@'%'")
    other_server.tell("GRANT SELECT, INSERT ON *.* TO writer@'%'")
    with Proxy(support.server) as proxy, database_as(HOST=proxy.host, PORT=str(proxy.port)):
        support.pids_at_once(4)
        known = discarded("read only")
        demoted()
        proxy.lead_to(other_server)
        with pytest.raises(support.database_errors()):
            write("refused")
        for number in range(5):
            write("written %d" % number)
        persistconn.drain()
    other_server.tell("DROP USER writer@'%'")
    assert discarded("read only") == known + 4


def test_a_check_replaces_a_session_whose_server_takes_no_writes_any_more(writer, demoted):
    with settings_as(PERSISTCONN_CHECK_AFTER=0):
        before = unit_of_work()
        assert unit_of_work() == before
        demoted()
        assert unit_of_work() != before


def test_a_server_that_does_not_know_the_question_is_pinged(monkeypatch, pings):
    from persistconn.drivers import mysql

    # As a proxy may be that speaks the protocol.
    monkeypatch.setattr(mysql, "IS_READ_ONLY", "SELECT @@global.no_such_variable")
    with settings_as(PERSISTCONN_CHECK_AFTER=0):
        before = unit_of_work()
        del pings[:]
        assert unit_of_work() == before
        assert len(pings) == 1


def test_a_replica_keeps_its_sessions(writer, demoted):
    demoted()
    with settings_as(PERSISTCONN_CHECK_AFTER=0):
        before = unit_of_work()
        with pytest.raises(support.database_errors()):
            write("refused")
        assert unit_of_work() == before


def test_the_request_after_wait_timeout_is_served(rows):
    with database_as(OPTIONS={"init_command": "SET SESSION wait_timeout = 1"}):
        ended, before = unit_of_work(), discarded("dead")
        assert wait_until(lambda: ended not in backends())
        assert pid() in backends()
        assert discarded("dead") == before + 1
        end_of_work()
        persistconn.drain()


def test_work_of_the_orm_goes_on_after_wait_timeout():
    with database_as(OPTIONS={"init_command": "SET SESSION wait_timeout = 1"}):
        ended = orm_pid()
        assert wait_until(lambda: ended not in backends())
        assert orm_pid() in backends()
        end_of_work()
        persistconn.drain()


# Answers that nobody has read, and transactions that nobody saw begin.

FAILING = "CREATE PROCEDURE fails() BEGIN %s; SIGNAL SQLSTATE '45000'; END"


@pytest.fixture(params=["START TRANSACTION", "SET autocommit = 0"])
def failing_procedure(request):
    support.query(FAILING % request.param, support.DATABASE)
    yield "CALL fails()"
    support.query("DROP PROCEDURE fails", support.DATABASE)


@pytest.mark.parametrize("queries", [0, 1], ids=["at once", "after a query"])
def test_a_write_after_a_procedure_that_failed_in_its_transaction_is_kept(
    failing_procedure, rows, queries
):
    with pytest.raises(support.database_errors()):
        fetch(failing_procedure)
    for _query in range(queries):
        fetch("SELECT 1")
    end_of_work()
    write("kept")
    assert rows() == ["kept"]


class TimeIsUp(Exception):
    pass


@contextlib.contextmanager
def interrupted_after(seconds):
    """Raise TimeIsUp from a signal handler, as a task's time limit does. The block must end by it.

    With mysqlclient the cursor cannot be closed then, and that error takes the place of TimeIsUp.
    """

    def raise_it(*args):
        raise TimeIsUp()

    before = signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises((TimeIsUp,) + support.database_errors()):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def slow_query_of_the_orm():
    from site_app.models import Item

    list(Item.objects.extra(where=["sleep(0.2) = 0"]).values_list("name", flat=True))


def slow_query_of_the_users():
    fetch("SELECT sleep(0.2)")


def slow_write_of_the_users():
    connection.cursor().execute("DO sleep(0.2)")


@pytest.mark.parametrize(
    "work", [slow_query_of_the_orm, slow_query_of_the_users, slow_write_of_the_users]
)
def test_the_answer_to_an_interrupted_statement_is_given_to_nobody_else(work, rows):
    from site_app.models import Item

    support.query("INSERT INTO item VALUES ('one')", support.DATABASE)
    for _round in range(3):
        with interrupted_after(0.1):
            work()
        end_of_work()
        for _request in range(2):
            assert list(Item.objects.values_list("name", flat=True)) == ["one"]
            assert Item.objects.count() == 1
            end_of_work()


@pytest.mark.skipif(
    "pymysql" not in support.driver.__name__, reason="mysqlclient's commands are not in Python"
)
def test_work_that_ends_within_a_command_of_the_driver_leaves_its_session_to_nobody():
    first, others = pid(), []
    raw = connection.connection
    send = raw._execute_command

    def interrupted(*args):
        raw._execute_command = send
        end_of_work()
        others.append(in_thread(unit_of_work))
        send(*args)

    raw._execute_command = interrupted
    with pytest.raises(support.database_errors() + (AttributeError,)):
        fetch("SELECT 1")
    end_of_work()
    assert others != [first]


def test_the_rollback_at_the_end_of_work_begins_no_transaction(rows):
    fetch("SELECT @@session.completion_type")
    connection.cursor().execute("SET SESSION completion_type = 'CHAIN'")
    end_of_work()
    write("kept")
    assert rows() == ["kept"]
    persistconn.drain()
