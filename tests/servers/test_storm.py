"""A storm of requests of every kind under uvicorn, from clients that hang up at random moments.

`--storm=20000` makes a long one, `--stock` shows Django without persistconn.
"""

from __future__ import absolute_import

import re
import time

import django
import pytest
import support
from clients import NUMBERS, Storm
from processes import environment, program, serving, without_persistconn
from support import wait_until

pytestmark = [
    pytest.mark.skipif(not program("uvicorn"), reason="uvicorn is not installed"),
    pytest.mark.skipif(django.VERSION < (3, 1), reason="Django has async views since 3.1"),
]

COMMAND = [program("uvicorn"), "project.storm_asgi:application", "--port=PORT", "--no-access-log"]

#: The share of the requests on which clients hang up, and whether the server then cancels the
#: application.
KINDS = {"nobody hangs up": (0, False), "hang-ups": (0.4, False), "cancelled": (0.4, True)}

#: Lines that uvicorn always writes, and asyncio about a stream whose client is gone.
EXPECTED = r"INFO: .*\n|socket.send\(\) raised exception.\n"
if (5, 0) <= django.VERSION < (6, 1):
    # Django leaves its listener alone when the server cancels a request.
    EXPECTED += r"|Task was destroyed .*\ntask: .*listen_for_disconnect.*\n"
    EXPECTED += r"|Task exception .*\nfuture: .*listen_for_disconnect(.*\n)+?.*RequestAborted\n"


@pytest.fixture(scope="module", autouse=True)
def tables():
    database = support.DATABASE
    support.ask("CREATE TABLE storm_row (number integer PRIMARY KEY)", database)
    support.ask("INSERT INTO storm_row SELECT generate_series(0, %d)" % NUMBERS[-1], database)
    support.ask("CREATE TABLE storm_note (tag text PRIMARY KEY)", database)
    yield
    support.ask("DROP TABLE storm_row, storm_note", database)


@pytest.fixture(scope="module", params=sorted(KINDS))
def storm(request, tables, tmpdir_factory):
    """A storm that is over, with its pool's counts, its sessions and its log a second later."""
    option = request.config.getoption
    env = environment(PYTHONWARNINGS="ignore")
    if option("--stock"):
        env = without_persistconn(env)
    with serving(COMMAND, env, str(tmpdir_factory.mktemp("storm"))) as server:
        storm = Storm(server, option("--storm"), *KINDS[request.param])
        began = time.time()
        storm.run()
        print("%s: %d answers in %.1f s" % (storm, storm.answers, time.time() - began))
        if storm.end is None:
            wait_until(lambda: is_calm(server, storm), 1)
            storm.stats, storm.sessions = server.get("/async/stats/"), support.sessions()
            print(storm.stats)
        storm.log = server.log()
        yield storm


def is_calm(server, storm):
    if storm.cancels:
        # The cursors of a cancelled request are in reference cycles with its task.
        server.get("/storm/collect/")
    return server.stats("in_use") in [(0,), (None,)]


@pytest.fixture
def afterwards(storm):
    """The storm, unless its server hangs or has died."""
    if storm.end is not None:
        pytest.skip(storm.end)
    return storm


def test_every_complete_request_is_answered(storm):
    assert storm.end is None, storm.log[-20000:]
    assert dict(storm.failures) == {}, storm.log[-20000:]


def test_no_connection_is_in_use_a_second_after_the_storm(afterwards):
    assert afterwards.stats.get("in_use", 0) == 0


def test_every_open_session_is_in_the_counts_of_the_pool(afterwards):
    if afterwards.stats:
        known = afterwards.stats["idle"] + afterwards.stats["in_use"]
        assert wait_until(lambda: len(support.backends()) == known, 1)


def test_no_session_is_left_in_a_transaction(afterwards):
    assert [session for session in afterwards.sessions if session[1] != "idle"] == []


def test_a_write_before_an_exception_is_not_committed(afterwards):
    assert support.ask("SELECT count(*) FROM storm_note", support.DATABASE) == 0


def test_no_request_that_ends_normally_loses_its_connection(afterwards):
    # Django sends no request_finished for a cancelled request.
    cancelled = afterwards.requests - afterwards.answers if afterwards.cancels else 0
    assert afterwards.stats.get("discarded", {}).get("lost", 0) <= cancelled


def test_the_server_writes_no_errors(afterwards):
    assert re.sub(EXPECTED, "", afterwards.log) == ""
