"""uvicorn: requests in threads that end, views in the event loop, and clients that hang up."""

from __future__ import absolute_import

import signal
import sys
import threading
import time

import django
import pytest
import support
from processes import DatabaseLog, Samples, environment, program, run_script, serving
from support import wait_until

pytestmark = pytest.mark.skipif(not program("uvicorn"), reason="uvicorn is not installed")

since_3_1 = pytest.mark.skipif(django.VERSION < (3, 1), reason="Django has async views since 3.1")
since_4_0 = pytest.mark.skipif(
    django.VERSION < (4, 0), reason="before 4.0 every request waits for one thread"
)
since_4_2 = pytest.mark.skipif(
    django.VERSION < (4, 2), reason="before 4.2 a stream under ASGI cannot use the database"
)
since_5_0 = pytest.mark.skipif(django.VERSION < (5, 0), reason="it hears of hanging up since 5.0")

COMMAND = [program("uvicorn"), "project.asgi:application", "--port=PORT", "--no-access-log"]

WHO = ["/who/", pytest.param("/async/who/", marks=since_3_1)]


@pytest.fixture
def server(tmpdir):
    with serving(COMMAND, environment(), str(tmpdir)) as server:
        yield server


@pytest.fixture
def bounded(tmpdir):
    env = environment(settings={"MAX_CONNS": 2, "TIMEOUT": 20})
    with serving(COMMAND, env, str(tmpdir)) as server:
        yield server


def gives_all_back(server, seconds=1):
    return wait_until(lambda: server.stats("in_use") == (0,), seconds)


@pytest.fixture
def has_asked():
    """Whether the server's views have sent their query since the test began."""
    began = support.ask("SELECT clock_timestamp()")
    asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND query_start > %s"
    return lambda line: support.ask(asked, None, "SELECT CAST%", began) > 0


@pytest.mark.parametrize("path", WHO)
def test_forty_requests_in_turn_use_one_session(server, path):
    backends = set()
    for _request in range(40):
        backends.add(server.get(path)["backend"])
        # The answer arrives a little before the session is given back.
        assert gives_all_back(server)
    assert len(backends) == 1


@pytest.mark.parametrize("path", WHO)
def test_forty_requests_at_once_use_at_most_forty_sessions_however_often(server, path):
    sessions = []
    for _turn in range(5):
        paths = [path + "?seconds=0.02&tag=%d" % number for number in range(40)]
        answers = server.get_many(paths, 40)
        assert [answer["tag"] for answer in answers] == [str(number) for number in range(40)]
        assert gives_all_back(server)
        sessions.append(len(support.backends()))
    # Under load not all forty requests overlap, and some turn needs one session more than those
    # before.
    assert max(sessions) <= 40


HUNG_UP = [
    # path, seconds until the view itself is over
    ("/slow/?seconds=1", 1),
    ("/who/?seconds=1", 1),
    pytest.param("/async/who/?seconds=1", 1, marks=since_3_1),
    pytest.param("/async/slow/?seconds=1", 1, marks=since_3_1),
    pytest.param("/async/slow/?seconds=60", 0, marks=since_5_0),
]


@pytest.mark.parametrize("path, seconds", HUNG_UP)
def test_a_client_that_hangs_up_keeps_no_session(server, has_asked, path, seconds):
    server.hang_up(path, after=has_asked)
    assert gives_all_back(server, seconds + 1)


@pytest.mark.parametrize("path", WHO)
def test_twenty_clients_that_hang_up_keep_no_session(server, path):
    before = server.get_many([path + "?seconds=0.1"] * 20, 20) and len(support.backends())
    for _turn in range(20):
        server.hang_up(path + "?seconds=0.1", after=lambda line: True)
    assert gives_all_back(server, 20 * 0.1 + 1)
    assert len(support.backends()) <= before


@since_4_2
@pytest.mark.parametrize(
    "path, seconds",
    [
        ("/stream/?count=10", 0.5),
        ("/async/stream/?count=10", 0.5),
        pytest.param("/async/stream/?count=1000", 0, marks=since_5_0),
    ],
)
def test_a_client_that_hangs_up_in_the_middle_of_a_stream_keeps_no_session(
    server, has_asked, path, seconds
):
    server.hang_up(path, after=has_asked)
    assert gives_all_back(server, seconds + 1)


@since_4_2
@pytest.mark.parametrize("path", ["/stream/?count=5", "/async/stream/?count=5"])
def test_a_stream_that_is_read_to_its_end_gives_its_session_back(server, path):
    assert len(server.get(path).split()) == 5
    assert gives_all_back(server)


def test_all_requests_are_answered_while_some_wait_for_a_session(bounded):
    with Samples() as samples:
        answers = bounded.get_many(["/who/?seconds=0.05&tag=%d" % n for n in range(40)], 20)
    assert [answer["tag"] for answer in answers] == [str(number) for number in range(40)]
    assert samples.most <= 2


@since_4_0
def test_requests_that_wait_for_a_session_do_not_block_the_event_loop(bounded):
    """A request that only sleeps is answered while all others wait for a session."""
    waits, ends = [], time.time() + 2
    hold = ["/who/?seconds=0.3"] * 16
    holders = in_background(lambda: bounded.get_many(hold, 16))
    while time.time() < ends:
        began = time.time()
        bounded.get("/async/nap/")
        waits.append(time.time() - began)
    holders.join()
    print("%d naps, the longest %.3f s" % (len(waits), max(waits)))
    assert max(waits) < 0.3


def in_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_session_used_at_startup_serves_the_requests(server):
    assert server.stats("opened", "in_use") == (1, 0)
    server.get("/who/")
    assert server.stats("opened", "in_use", "idle") == (1, 0, 1)


def test_uvicorn_ends_promptly_and_leaves_no_unexpected_eof(server):
    log = DatabaseLog()
    server.get_many(["/who/?seconds=0.05"] * 20, 10)
    seconds, code = server.terminate()
    # From 0.29 on uvicorn ends by the signal itself.
    assert code in (0, -signal.SIGTERM), server.log()
    assert seconds < 5
    assert wait_until(lambda: support.backends() == [], 1)
    assert log.bad_leaves() == []
    assert "Traceback" not in server.log()
    assert "ResourceWarning" not in server.log()


@since_3_1
def test_the_async_test_client_uses_one_session():
    report, errors = run_script("async_client", "40")
    assert len(report["backends"]) == 40
    assert len(set(report["backends"])) == 1
    # At the exit of Python 3.12, psycopg warns of the connection that is idle.
    if sys.version_info[:2] != (3, 12):
        assert errors == ""
