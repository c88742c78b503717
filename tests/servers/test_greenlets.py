"""Many greenlets over few sessions, monkey patched before Django."""

from __future__ import absolute_import

import json
import os

import pytest
import support
from processes import HERE, DatabaseLog, Samples, environment, run_script

pytest.importorskip("gevent")

GREENLETS, MAX_CONNS, SECONDS = 200, 8, 0.01


@pytest.fixture(scope="module", params=["run", "kill", "leave"])
def run(request):
    """The report of 200 units of work, and what the server saw of them.

    They run without others before them, after as many units that were killed, or after as many that
    never ended their work.
    """
    log = DatabaseLog()
    env = environment(settings={"MAX_CONNS": MAX_CONNS, "TIMEOUT": 60})
    with Samples() as samples:
        report, errors = run_script(
            "greenlets", request.param, str(GREENLETS), str(SECONDS), env=env
        )
    left = not support.wait_until(lambda: support.backends() == [])
    return dict(report, how=request.param, most=samples.most, errors=errors, left=left, log=log)


def test_every_unit_of_work_is_answered_with_its_own_tags(run):
    tags = [[answer["tag"] for answer in unit or ()] for unit in run["answers"]]
    assert tags == [["%d/%d" % (n, turn) for turn in range(3)] for n in range(GREENLETS)]


def test_a_unit_of_work_keeps_its_session(run):
    assert [unit for unit in run["answers"] if len(set(a["backend"] for a in unit)) > 1] == []


def test_there_are_never_more_sessions_than_allowed(run):
    if run["how"] == "kill":
        pytest.skip("the server hears late of connections that were cut while it opened them")
    assert run["most"] <= MAX_CONNS
    if run["how"] == "run":
        assert run["stats"]["opened"] == MAX_CONNS


def test_the_event_loop_runs_on_while_greenlets_wait(run):
    assert run["most_waiting"] > GREENLETS / 2
    # The units alone take GREENLETS / MAX_CONNS * 3 * SECONDS, 0.75 s, and a tick 0.002 s.
    print("%(ticks)d ticks, the longest gap %(longest_gap).3f s" % run)
    assert run["ticks"] > 50
    assert run["longest_gap"] < 0.5


def test_greenlets_leave_no_session_no_waiter_and_no_error_behind(run):
    assert run["stats"]["in_use"] == run["stats"]["waiting"] == 0
    assert not run["left"]
    assert run["errors"] == ""
    if run["how"] != "kill":
        assert run["log"].bad_leaves() == []


def test_a_check_ends_in_time_without_psycogreen():
    env = environment(settings={"CHECK_AFTER": 0, "CHECK_TIMEOUT": 0.5})
    patience = 6
    report, errors = run_script("stopped", str(patience), env=env)
    assert report["is_another"]
    assert report["seconds"] < patience / 2.0
    assert errors == ""


# MariaDB with PyMySQL, which knows nothing of gevent, and needs not.


@pytest.fixture(scope="module")
def mariadb():
    pytest.importorskip("pymysql")
    from demo_project.mariadb import NoMariaDB, PrivateMariaDB

    try:
        server = PrivateMariaDB().start()
    except NoMariaDB as error:
        pytest.skip(str(error))
    yield server
    server.stop()


def on(server, **settings):
    """The variables of a process whose database is MariaDB."""
    database = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": server.database,
        "USER": server.user,
        "HOST": server.host,
        "PORT": str(server.port),
    }
    return environment(settings=settings, SERVERS_DATABASE=json.dumps(database))


@pytest.fixture(scope="module")
def run_on_mariadb(mariadb):
    """The report of 200 units of work over MariaDB, and the most sessions that it ever had."""
    env = on(mariadb, MAX_CONNS=MAX_CONNS, TIMEOUT=60)
    report, errors = run_script("greenlets", "run", str(GREENLETS), str(SECONDS), env=env)
    return dict(report, how="run", errors=errors, most=most_sessions(mariadb))


def most_sessions(server):
    import pymysql

    session = pymysql.connect(**server.parameters)
    cursor = session.cursor()
    cursor.execute("SHOW STATUS LIKE 'Max_used_connections'")
    ((_name, most),) = cursor.fetchall()
    session.close()
    return int(most)


def test_on_mariadb_every_unit_of_work_is_answered_with_its_own_tags(run_on_mariadb):
    test_every_unit_of_work_is_answered_with_its_own_tags(run_on_mariadb)


def test_on_mariadb_a_unit_of_work_keeps_its_session(run_on_mariadb):
    test_a_unit_of_work_keeps_its_session(run_on_mariadb)


def test_on_mariadb_there_are_never_more_sessions_than_allowed(run_on_mariadb):
    test_there_are_never_more_sessions_than_allowed(run_on_mariadb)


def test_on_mariadb_the_event_loop_runs_on_while_greenlets_wait(run_on_mariadb):
    test_the_event_loop_runs_on_while_greenlets_wait(run_on_mariadb)


def test_on_mariadb_greenlets_leave_no_session_no_waiter_and_no_error_behind(run_on_mariadb):
    stats = run_on_mariadb["stats"]
    assert stats["in_use"] == stats["waiting"] == 0
    assert run_on_mariadb["errors"] == ""


def test_on_mariadb_a_check_ends_in_time(mariadb):
    env = on(mariadb, CHECK_AFTER=0, CHECK_TIMEOUT=0.5)
    # The script uses the proxy of the tests.
    env["PYTHONPATH"] += os.pathsep + os.path.dirname(HERE)
    env["PERSISTCONN_TEST_DATABASE"] = "mariadb"
    report, errors = run_script("stalled", env=env)
    assert report["is_another"]
    assert 0.5 <= report["seconds"] < 3
    assert errors == ""
