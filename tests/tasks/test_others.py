"""What other task systems, schedulers and commands do with their connections, with persistconn."""

from __future__ import absolute_import

import socket

import pytest
import workers
from systems import (
    APSCHEDULER,
    CHANNELS,
    COMMAND,
    DJANGO_Q,
    DJANGO_TASKS,
    DRAMATIQ,
    HUEY,
    HUEY_PLAIN,
    RQ_FORKS,
    RQ_SIMPLE,
    SHELL,
)
from workers import PERSISTCONN, STOCK, Opened, Result, environment, working

try:
    from urllib.request import urlopen
except ImportError:
    from urllib2 import urlopen

UNITS = 60

#: They end each unit of work by close_old_connections().
ENDING = [HUEY, DRAMATIQ, DJANGO_TASKS, CHANNELS]
#: They never do, or only when the next one begins.
NOT_ENDING = [RQ_SIMPLE, HUEY_PLAIN, DJANGO_Q, APSCHEDULER, COMMAND]
THREADED = [HUEY_PLAIN, APSCHEDULER]
#: A kill can meet their workers in a transaction of their own, which no reconnection can save.
QUEUE_IN_DATABASE = [DJANGO_TASKS, DJANGO_Q]


def of(names):
    return pytest.mark.parametrize("system", names, ids=repr)


@of(ENDING + NOT_ENDING + [SHELL])
def test_no_more_connections_are_opened_than_units_run_at_once(system):
    result = Result(system, UNITS)
    assert result.failed == []
    assert result.numbers == list(range(UNITS))
    assert 1 <= result.opened <= system.slots + system.more
    assert "idle in transaction" not in result.states


@of([HUEY, DRAMATIQ, DJANGO_TASKS, DJANGO_Q, CHANNELS])
def test_stock_django_opens_a_connection_for_each_unit(system):
    assert Result(system, UNITS, STOCK).opened >= UNITS


@pytest.mark.parametrize("contender", [STOCK, PERSISTCONN])
def test_a_fork_for_each_job_opens_a_connection_for_each_job(contender):
    result = Result(RQ_FORKS, 20, contender)
    assert result.failed == []
    assert result.opened == len(set(unit.process for unit in result.units)) == 20
    assert result.states == []


@of([one for one in ENDING + NOT_ENDING if one not in QUEUE_IN_DATABASE] + [RQ_FORKS, SHELL])
def test_a_kill_of_all_sessions_fails_no_unit_that_was_not_running(system):
    result = Result(system.slow(), UNITS, kills=True)
    assert result.numbers == list(range(UNITS))
    assert result.innocent == []


@of(ENDING)
def test_a_system_that_ends_its_work_leaves_no_transaction_open(system):
    result = Result(system, UNITS, TASKS_LEAVES="1")
    assert result.failed == []
    assert "idle in transaction" not in result.states


@of(NOT_ENDING)
def test_a_system_that_does_not_end_its_work_leaves_a_transaction_open(system):
    result = Result(system, UNITS, settles=2, TASKS_LEAVES="1")
    assert "idle in transaction" in result.states


@of(NOT_ENDING)
def test_unit_of_work_leaves_no_transaction_open(system):
    result = Result(system.ended(), UNITS, TASKS_LEAVES="1")
    assert result.failed == []
    assert "idle in transaction" not in result.states


@of(THREADED)
def test_threads_that_do_not_end_their_work_hold_their_connections(system):
    result = Result(system.slow(), UNITS, TASKS_MAX_CONNS="1")
    assert [unit for unit in result.failed if "PoolTimeout" in unit.error]


@of(THREADED)
def test_threads_that_end_their_work_by_unit_of_work_share_one_connection(system):
    result = Result(system.ended().slow(), UNITS, TASKS_MAX_CONNS="1")
    assert result.failed == []
    assert result.opened == 1


@pytest.mark.parametrize("reloads", [False, True], ids=["--noreload", "reloading"])
def test_runserver_keeps_its_connection(reloads):
    assert opened_by_runserver(PERSISTCONN, reloads) == 1


def test_runserver_of_stock_django_opens_a_connection_for_each_request():
    assert opened_by_runserver(STOCK, False) == UNITS


def opened_by_runserver(contender, reloads):
    """How many connections runserver opens for requests in turn, without those of its checks."""
    port, env = free_port(), environment(contender)
    command = workers.manage("runserver", "127.0.0.1:%d" % port)
    with working(command + ([] if reloads else ["--noreload"]), env) as server:
        assert workers.wait_until(lambda: answers(port), workers.PATIENCE), server.log()
        opened = Opened()
        for number in range(UNITS):
            get(port, "/%d/0/" % number)
        server.has_done(UNITS)
        server.terminate()
    assert [unit.error for unit in workers.units()] == [None] * UNITS
    return opened.count()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    try:
        return get(port, "/ready/") == b"ready"
    except OSError:
        return False


def get(port, path):
    with urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=workers.PATIENCE) as response:
        return response.read()
