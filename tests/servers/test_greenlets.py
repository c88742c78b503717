"""Many greenlets over few sessions, monkey patched before Django."""

from __future__ import absolute_import

import pytest
import support
from processes import DatabaseLog, Samples, environment, run_script

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
