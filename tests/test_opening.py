"""Connecting to a server that is away, starting, full, or rejects the client."""

from __future__ import absolute_import

import contextlib
import gc
import logging
import socket
import threading
import time

import databases
import pytest
import support
from databases import chosen
from django.db import connection, connections
from django.db.backends.signals import connection_created
from proxy import Proxy
from support import end_of_work, pid, settings_as, wait_until

import persistconn
from persistconn import compat, conf


@pytest.fixture
def proxy():
    """A proxy between Django and the server; no connection through it outlives the test."""
    with Proxy(support.server) as proxy:
        with support.database_as(HOST="127.0.0.1", PORT=str(proxy.port)):
            yield proxy
            persistconn.drain()


def tried(work, errors=None):
    """Do work that must fail with a database error. Return the seconds that it took."""
    started = time.time()
    with pytest.raises(errors or support.database_errors()):
        work()
    return time.time() - started


@contextlib.contextmanager
def receiver(function):
    """Connect a receiver of connection_created, which comes when a connection is all but ready."""
    connection_created.connect(function)
    try:
        yield
    finally:
        connection_created.disconnect(function)


def heal_after_tries(proxy, number):
    """Let clients in after ``number`` tries, from another thread. Return that thread."""

    def heal():
        if wait_until(lambda: proxy.accepted >= number):
            proxy.answer = None

    thread = threading.Thread(target=heal)
    thread.start()
    return thread


PASSING, NOT_PASSING = chosen.PASSING, chosen.NOT_PASSING

ANSWERS = [chosen.refusal(code, text) for code, text in PASSING] + [b""]
ANSWER_IDS = [text for code, text in PASSING] + ["it hangs up"]

#: What a driver raises if it does not know one of OPTIONS.
BAD_OPTION = (TypeError, ValueError)
if databases.NAME == "postgresql":
    BAD_OPTION = support.database_errors()


@pytest.mark.parametrize("answer", ANSWERS, ids=ANSWER_IDS)
def test_a_server_that_lets_nobody_in_yet_is_tried_again(proxy, answer):
    proxy.answer = answer
    healer = heal_after_tries(proxy, 3)
    assert pid() in support.backends()
    healer.join()
    assert proxy.accepted >= 3
    end_of_work()


@pytest.mark.parametrize("code, text", NOT_PASSING)
def test_a_server_that_rejects_the_client_for_good_is_tried_once(proxy, code, text):
    proxy.answer = chosen.refusal(code, text)
    tried(pid)
    assert proxy.accepted == 1


def test_a_database_that_does_not_exist_is_tried_once(proxy):
    with support.database_as(NAME="nothing"):
        tried(pid)
    assert proxy.accepted == 1


def test_an_option_that_the_driver_does_not_know_fails_at_once():
    with support.database_as(OPTIONS={"no_such_option": 1}):
        assert tried(pid, BAD_OPTION) < 1


def test_an_option_called_timeout_fails_at_once():
    with support.database_as(OPTIONS={"timeout": 10}):
        assert tried(pid, BAD_OPTION) < 1


def test_a_connect_timeout_that_the_driver_refuses_fails_at_once(proxy):
    try:
        support.driver.connect(connect_timeout="5s", **support.server.parameters).close()
    except BAD_OPTION:
        with support.database_as(OPTIONS={"connect_timeout": "5s"}):
            assert tried(pid, BAD_OPTION) < 1
        assert proxy.accepted <= 1  # libpq 16 reads it only once it has connected
    else:
        pytest.skip("libpq before 12 reads it as 5")


@pytest.mark.parametrize("name", ["timed out", "timeout expired", "Is the server running"])
def test_a_name_that_reads_like_an_outage_fails_at_once(name):
    with support.database_as(NAME=name):
        assert tried(pid) < 1


@support.only_on("postgresql", "MySQL's drivers ignore such an option, or know none")
def test_an_option_that_reads_like_an_outage_fails_at_once():
    with support.database_as(OPTIONS={"sslmode": "timeout expired"}):
        assert tried(pid) < 1


def test_connecting_to_a_server_that_stays_away_fails_at_the_deadline(proxy):
    proxy.close()
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=0.3):
        assert tried(pid) < 0.3 + 1


def test_a_connect_deadline_of_0_allows_one_try(proxy):
    proxy.answer = chosen.refusal(*PASSING[0])
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=0):
        tried(pid)
    assert proxy.accepted == 1


def test_connecting_to_a_server_that_does_not_answer_fails_at_the_deadline(proxy):
    proxy.deaf = True
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=2):
        assert tried(pid) < 2 + 1.5


@pytest.mark.parametrize(
    "theirs, seconds, each",
    [
        (None, 5, 5),
        (None, 4.999, 5),
        (None, 4.9, 4),
        (None, 0.3, 1),
        (2, 5, 2),
        ("20", 5, 5),
        (0, 5, 5),
        ("soon", 5, "soon"),
    ],
)
def test_a_try_never_gets_more_time_than_the_users_connect_timeout_and_the_rest_of_the_deadline(
    theirs, seconds, each
):
    params = {} if theirs is None else {"connect_timeout": theirs}
    assert driver().connect_options(params, seconds)["connect_timeout"] == each


def driver():
    from persistconn import drivers

    return drivers.of_module(support.driver)


def connect_timeout():
    """The connect_timeout that the open connection was given."""
    raw = connection.connection
    if hasattr(raw, "get_dsn_parameters"):
        return int(raw.get_dsn_parameters().get("connect_timeout", 0))
    return int(raw.info.get_parameters().get("connect_timeout", 0))


tells_its_timeout = support.only_on(
    "postgresql", "MySQL's drivers do not tell which timeout they were given"
)


@tells_its_timeout
@pytest.mark.parametrize(
    "options, deadline, timeout",
    [
        ({}, {}, 30),
        ({"connect_timeout": 40}, {}, 40),
        ({"connect_timeout": 3}, {}, 3),
        ({}, {"CONNECT_DEADLINE": 7}, 7),
        ({"connect_timeout": 40}, {"CONNECT_DEADLINE": 7}, 7),
        ({"connect_timeout": 3}, {"CONNECT_DEADLINE": 7}, 3),
        ({}, {"CONNECT_DEADLINE": 0}, 0),
        ({"connect_timeout": 3}, {"CONNECT_DEADLINE": 0}, 3),
    ],
)
def test_connect_timeout_reaches_the_driver(options, deadline, timeout):
    with support.database_as(HOST="127.0.0.1", OPTIONS=options, PERSISTCONN=deadline):
        pid()
        assert connect_timeout() == timeout
        end_of_work()


@support.only_on("postgresql", "MySQL's drivers know one host")
def test_the_time_of_a_try_is_divided_among_the_hosts():
    hosts = "127.0.0.1,127.0.0.1"
    with support.database_as(HOST=hosts, PORT=",".join([str(support.server.port)] * 2)):
        pid()
        assert connect_timeout() == 15
        end_of_work()


@pytest.mark.parametrize("deadline, timeout", [({"CONNECT_DEADLINE": 9}, 3), ({}, 30)])
def test_only_a_deadline_set_by_the_user_is_divided_among_the_addresses_of_a_host(
    monkeypatch, deadline, timeout
):
    # A stand-in: a real name with several addresses would need a name server.
    found = [(2, 1, 6, "", ("10.0.0.%d" % number, 0)) for number in (1, 2, 3)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: found)
    opening = opening_of(connections["default"], PERSISTCONN=deadline)
    opening._ends_at = compat.monotonic() + min(opening.seconds if deadline else 30, 30)
    assert opening._time_limit({"host": "db"})[LIMIT] == timeout


#: A parameter of connect() that has no default.
LIMIT = "read_timeout" if "pymysql" in support.driver.__name__ else "connect_timeout"


def opening_of(wrapper, **settings):
    from persistconn import databases
    from persistconn.connecting.opening import Opening

    with support.database_as(**settings):
        return Opening(wrapper, databases.of(wrapper, None), lambda: None)


def test_an_error_before_the_first_try_is_not_transient():
    assert not opening_of(connections["default"]).is_transient(KeyboardInterrupt())


@pytest.fixture
def short_default(monkeypatch):
    """Give CONNECT_DEADLINE a default of 0.5 seconds, which does not count as set by the user."""
    short = conf.SETTINGS["CONNECT_DEADLINE"]._replace(default=0.5)
    monkeypatch.setitem(conf.SETTINGS, "CONNECT_DEADLINE", short)
    wrapper = connections["default"]
    wrapper._persistconn_database = None
    yield
    wrapper._persistconn_database = None


def heal_after(proxy, seconds):
    threading.Timer(seconds, proxy.heal).start()


def in_threads(number, work):
    """Do work in ``number`` threads. Return (result or error, seconds) for each of them."""
    results = []

    def run():
        started = time.time()
        try:
            result = work()
        except Exception as error:
            result = error
        results.append((result, time.time() - started))
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)  # not all at once, as requests come
    for thread in threads:
        thread.join()
    return results


def test_a_server_that_needs_longer_than_the_default_deadline_to_wake_is_waited_for(
    proxy, short_default
):
    proxy.deaf = True
    proxy.accepted = 0
    heal_after(proxy, 3)
    assert pid() in support.backends()
    assert proxy.accepted == 1
    end_of_work()


def test_threads_that_wait_for_a_try_connect_when_that_try_succeeds(proxy, short_default):
    proxy.answer = chosen.refusal(*PASSING[0])
    tried(pid)  # from now on one thread at a time tries
    proxy.answer, proxy.deaf = None, True
    heal_after(proxy, 3)
    results = in_threads(5, pid)
    assert [result for result, seconds in results if isinstance(result, Exception)] == []


def test_threads_that_wait_for_one_of_max_conns_are_served_when_the_server_has_woken_up(proxy):
    proxy.deaf = True
    heal_after(proxy, 1)
    with settings_as(PERSISTCONN_MAX_CONNS=2, PERSISTCONN_TIMEOUT=20):
        results = in_threads(6, pid)
    assert [result for result, seconds in results if isinstance(result, Exception)] == []


def test_a_session_that_fell_silent_is_replaced_when_the_server_has_woken_up(proxy):
    before = support.unit_of_work()
    proxy.stall()
    proxy.deaf = True
    heal_after(proxy, 1)
    with settings_as(PERSISTCONN_CHECK_AFTER=0, PERSISTCONN_CHECK_TIMEOUT=0.3):
        assert support.unit_of_work() != before


def test_a_deadline_set_by_the_user_limits_a_single_try(proxy):
    proxy.deaf = True
    heal_after(proxy, 5)
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=2):
        assert tried(pid) < 2 + 1
    proxy.heal()


@pytest.mark.parametrize("known", [False, True], ids=["at first", "in an outage"])
def test_many_threads_that_get_no_answer_fail_at_the_deadline_set_by_the_user(proxy, known):
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=3):
        proxy.deaf = True
        if known:
            tried(pid)
        results = in_threads(50, pid)
    assert all(isinstance(result, support.database_errors()) for result, seconds in results)
    assert max(seconds for result, seconds in results) < 3 + 0.9


def test_each_thread_gets_the_drivers_error_with_its_cause(proxy):
    proxy.answer = chosen.refusal(*PASSING[0])
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=0.5):
        errors = [error for error, seconds in in_threads(10, pid)]
    assert set(type(error) for error in errors) == set([type(errors[0])])
    for error in errors:
        cause = error if support.BEFORE_1_6 else error.__cause__
        assert isinstance(cause, support.driver.OperationalError)
        assert PASSING[0][1] in str(error) and error.args == cause.args


def test_connecting_leaves_the_settings_as_they_were():
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


OWN_ERRORS = [ValueError("no time zone"), socket.timeout("timed out"), Exception("timed out")]


@pytest.mark.parametrize("error", OWN_ERRORS, ids=repr)
def test_an_error_of_a_receiver_is_raised_at_once_and_unchanged(error):
    calls = []

    def fail(**kwargs):
        calls.append(kwargs)
        raise error

    with receiver(fail):
        with pytest.raises(type(error)) as caught:
            pid()
    assert caught.value is error
    assert len(calls) == 1
    connection.close()


class Computed(dict):
    """Settings of a project whose password comes from elsewhere and changes."""

    password = staticmethod(lambda: "")

    def __getitem__(self, name):
        return self.password() if name == "PASSWORD" else dict.__getitem__(self, name)


@contextlib.contextmanager
def computed_password(function):
    before = connection.settings_dict
    connection.settings_dict = Computed(before)
    connection.settings_dict.password = function
    try:
        yield
    finally:
        connection.settings_dict = before


def test_a_password_that_the_settings_compute_reaches_the_driver():
    with support.role_with_password("computing", "computed"):
        with support.database_as(USER="computing", PASSWORD="wrong"):
            with computed_password(lambda: "computed"):
                assert support.fetch(chosen.ROLE) == "computing"
                connection.close()


@pytest.mark.parametrize("error", OWN_ERRORS, ids=repr)
def test_an_error_while_computing_a_password_is_raised_at_once_and_unchanged(error):
    calls = []

    def fail():
        calls.append(1)
        raise error

    with computed_password(fail):
        with pytest.raises(type(error)) as caught:
            pid()
    assert caught.value is error
    assert len(calls) == 1


def test_a_drivers_error_that_connecting_did_not_raise_is_raised_at_once():
    calls = []

    def ask_another_database(*args, **kwargs):
        calls.append(1)
        raise support.driver.OperationalError("timeout expired")

    with receiver(ask_another_database):
        assert tried(pid) < 1
    connection.close()
    with computed_password(ask_another_database):
        assert tried(pid) < 1
    assert len(calls) == 2


def test_a_setting_that_a_receiver_writes_stays():
    def write(connection, **kwargs):
        connection.settings_dict["ROLE"] = "reader"

    with support.database_as():
        with receiver(write):
            pid()
        assert connection.settings_dict["ROLE"] == "reader"
        connection.close()


def test_the_settings_are_untouched_while_connecting(proxy):
    seen = []

    def look(connection, **kwargs):
        seen.append((connection.settings_dict, dict(connection.settings_dict["OPTIONS"])))

    before = connection.settings_dict, dict(connection.settings_dict["OPTIONS"])
    with receiver(look):
        pid()
    assert seen[0][0] is before[0]
    assert seen[0][1] == before[1]
    end_of_work()


def test_connecting_leaves_no_get_new_connection_on_the_wrapper():
    pid()
    assert "get_new_connection" not in connections["default"].__dict__
    end_of_work()


@pytest.mark.skipif(support.BEFORE_1_6, reason="Django before 1.6 has no get_new_connection()")
def test_a_wrappers_own_get_new_connection_is_used_and_kept():
    wrapper, given = connections["default"], []
    original = wrapper.get_new_connection

    def own(params):
        given.append(params["connect_timeout"])
        return original(params)

    wrapper.get_new_connection = own
    try:
        pid()
        wrapper.close()
        assert given == [driver().connect_options({}, 30)["connect_timeout"]]
        assert wrapper.__dict__["get_new_connection"] is own
    finally:
        del wrapper.get_new_connection


@tells_its_timeout
def test_threads_that_connect_at_the_same_time_have_timeouts_of_their_own(proxy):
    proxy.deaf = True
    with support.database_as(PERSISTCONN={"CONNECT_DEADLINE": 2}):
        waiting = threading.Thread(target=lambda: tried(pid))
        waiting.start()
        assert wait_until(lambda: proxy.accepted == 1)
        pid("other")
        raw = connections["other"].connection
        given = raw.get_dsn_parameters if hasattr(raw, "get_dsn_parameters") else None
        given = given() if given is not None else raw.info.get_parameters()
        end_of_work()
        waiting.join()
    assert given["connect_timeout"] == "30"


class QueryingHandler(logging.Handler):
    """Uses the database at each record, like django-db-logger. A careful one hides the errors."""

    def __init__(self, careful):
        logging.Handler.__init__(self)
        self.careful, self.calls = careful, 0
        self.depth = self.most_deep = 0

    def emit(self, record):
        self.calls += 1
        self.depth += 1
        self.most_deep = max(self.depth, self.most_deep)
        try:
            pid()
        except support.database_errors():
            if not self.careful:
                raise
        finally:
            self.depth -= 1


@pytest.fixture(params=[True, False], ids=["careful", "careless"])
def handler(request):
    handler = QueryingHandler(request.param)
    logging.getLogger("persistconn").addHandler(handler)
    yield handler
    logging.getLogger("persistconn").removeHandler(handler)


def test_a_logging_handler_that_queries_the_database_does_not_extend_the_deadline(proxy, handler):
    proxy.answer = chosen.refusal(*PASSING[0])
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=1):
        results = in_threads(8, pid)
    assert all(isinstance(error, support.database_errors()) for error, seconds in results)
    assert max(seconds for error, seconds in results) < 1 + 1
    assert handler.calls == 1


@pytest.fixture
def debug():
    logger = logging.getLogger("persistconn")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(before)


def test_a_logging_handler_that_queries_the_database_is_not_called_recursively(
    proxy, handler, debug
):
    handler.careful = True
    proxy.answer = chosen.refusal(*PASSING[0])
    with settings_as(PERSISTCONN_CONNECT_DEADLINE=0.2):
        tried(pid)
    assert handler.calls > 0
    assert handler.most_deep == 1


def test_a_logging_handler_that_queries_the_database_makes_no_request_fail(proxy, handler):
    proxy.answer = chosen.refusal(*PASSING[0])
    healer = heal_after_tries(proxy, 5)
    assert pid() in support.backends()
    healer.join()
    end_of_work()
    gc.collect()  # the errors' tracebacks keep connections
    assert persistconn.stats()["default"]["in_use"] == 0


@pytest.mark.skipif(compat.FORKS_IN_C_KEEP_LOCKS, reason="no watchdog runs while connecting")
def test_the_setup_of_a_connection_whose_server_hangs_fails_at_the_deadline(proxy):
    hanging = []

    def hang(connection, **kwargs):
        hanging.append(1)
        proxy.stall()
        connection.cursor().execute("SELECT 1")

    with receiver(hang), settings_as(PERSISTCONN_CONNECT_DEADLINE=0.3):
        assert tried(pid) < 0.3 + 1
    assert len(hanging) == 1


def test_a_slot_is_free_again_after_a_failure_to_connect(proxy):
    proxy.answer = chosen.refusal(*NOT_PASSING[0])
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        tried(pid)
        proxy.answer = None
        pid()
        end_of_work()


def test_a_new_password_opens_a_new_connection(proxy):
    first = pid()
    end_of_work()
    with support.database_as(PASSWORD="hunter2-and-then-some"):
        assert pid() != first
        end_of_work()
