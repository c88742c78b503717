"""Streams that are open for long: hundreds of them over a few sessions, and what one of them holds."""

from __future__ import absolute_import

import contextlib
import os
import socket

import django
import pytest
import support
from processes import PATIENCE, Samples, environment, program, serving
from support import wait_until

pytestmark = pytest.mark.skipif(django.VERSION < (1, 5), reason="Django has streams since 1.5")

STREAMS, MAX_CONNS = 200, 4

GUNICORN = [program("gunicorn"), "project.wsgi", "--bind=127.0.0.1:PORT", "--workers=1"]
GUNICORN += ["--worker-class=gthread", "--threads=%d" % (STREAMS + 10)]
UVICORN = [program("uvicorn"), "project.asgi:application", "--port=PORT", "--no-access-log"]

SERVERS = [
    pytest.param(
        (GUNICORN, "/events/"),
        marks=pytest.mark.skipif(not program("gunicorn"), reason="gunicorn is not installed"),
        id="gunicorn",
    ),
    pytest.param(
        (UVICORN, "/async/events/"),
        marks=pytest.mark.skipif(
            not program("uvicorn") or django.VERSION < (4, 2),
            reason="uvicorn is not installed, or Django has no asynchronous streams",
        ),
        id="uvicorn",
    ),
]
by_server = pytest.mark.parametrize("server", SERVERS)


@pytest.fixture(autouse=True)
def view():
    """A view of the database that tells the ORM its session."""
    support.ask("CREATE VIEW stream_session AS SELECT pg_backend_pid() AS pid", support.DATABASE)
    yield
    support.ask("DROP VIEW stream_session", support.DATABASE)


class Client(object):
    """A client that reads one stream of events."""

    def __init__(self, port, path):
        self._line = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._line.sendall(("GET %s HTTP/1.0\r\nHost: testserver\r\n\r\n" % path).encode())
        self._file = self._line.makefile("rb")

    def read_event(self):
        """Wait for the next event. Return its text, the session that served it."""
        for line in iter(self._file.readline, b""):
            if line.startswith(b"data: "):
                return line[len(b"data: ") :].strip()

    def read_line(self):
        return self._file.readline()

    def close(self):
        self._file.close()
        self._line.close()


@contextlib.contextmanager
def clients(server, path, number):
    opened = []
    try:
        for _number in range(number):
            opened.append(Client(server.port, path))
        yield opened
    finally:
        for client in opened:
            client.close()


def holds_nothing(server):
    return wait_until(lambda: server.stats("in_use") == (0,), PATIENCE)


@by_server
def test_two_hundred_open_streams_hold_no_session_and_each_gets_all_its_events(server, tmpdir):
    command, path = server
    settings = {"MAX_CONNS": MAX_CONNS, "TIMEOUT": 20, "RELEASE_BEFORE_STREAMING": True}
    with serving(command, environment(settings=settings), str(tmpdir)) as server:
        with Samples() as samples, clients(server, path, STREAMS) as streams:
            for _turn in range(3):
                sessions = [stream.read_event() for stream in streams]
                assert None not in sessions
                assert len(set(sessions)) <= MAX_CONNS
                assert holds_nothing(server)
                server.get("/events/allow/")
            assert [stream.read_event() for stream in streams] == [b"end"] * STREAMS
        assert samples.most <= MAX_CONNS
        assert holds_nothing(server)
        assert "Traceback" not in server.log()


@by_server
def test_without_the_setting_open_streams_hold_sessions_and_one_warning_names_the_view(
    server, tmpdir
):
    command, path = server
    with serving(command, environment(SERVERS_WARN_AFTER="1"), str(tmpdir)) as server:
        with clients(server, path, 8) as streams:
            sessions = [stream.read_event() for stream in streams]
            assert len(set(sessions)) == 8
            assert wait_until(lambda: "has streamed" in server.log(), PATIENCE)
            assert server.stats("in_use") == (8,)
            server.get("/events/allow/")
            assert [stream.read_event() for stream in streams] == sessions
        warnings = [line for line in server.log().splitlines() if "has streamed" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(NAMES[path])


NAMES = {
    "/events/": "project.streams." + ("stream" if django.VERSION >= (1, 8) else "events"),
    "/async/events/": "project.async_streams.stream",
}


@pytest.mark.skipif(
    not program("gunicorn") or django.VERSION < (1, 8),
    reason="gunicorn is not installed, or Django has no FileResponse",
)
def test_a_file_that_gunicorn_sends_to_a_slow_client_holds_no_session(tmpdir):
    path = os.path.join(str(tmpdir), "large")
    with open(path, "wb") as large:
        large.truncate(64 * 1024 * 1024)
    env = environment(settings={"RELEASE_BEFORE_STREAMING": True})
    with serving(GUNICORN, env, str(tmpdir)) as server:
        with clients(server, "/file/?path=" + path, 3) as slow:
            # The head of the answer is here, and the rest does not fit into the buffers.
            assert [client.read_line().split()[1] for client in slow] == [b"200"] * 3
            assert holds_nothing(server)
            assert server.stats("opened") > (0,)
