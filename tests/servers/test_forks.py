"""A parent and its forked children, each with sessions of its own, however the children end."""

from __future__ import absolute_import

import pytest
import support
from processes import DatabaseLog, environment, program, run_script, serving

WAYS = ["sys.exit", "os._exit", "exception", "multiprocessing"]


def run(use, how, **options):
    report, errors = run_script("forks", use, how, **options)
    before = report["before"]
    assert report["after"] == {"in_use": before["in_use"], "idle": before["idle"]}
    assert set(report["childs"]).isdisjoint([before["in_use"], before["idle"]])
    assert report["code"] == (1 if how == "exception" else 0)
    return errors


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("use", ["use", "end", "collect"])
def test_the_parents_sessions_survive_its_children(use, how):
    errors = run(use, how)
    assert ("Expected" in errors) == (how == "exception")
    assert errors.count("Traceback") == (how == "exception")
    # psycopg 3 warns of an open connection that is collected, whoever opened it.
    assert ("ResourceWarning" in errors) <= (use == "collect")
    assert support.wait_until(lambda: support.backends() == [])


@pytest.mark.parametrize("how", WAYS)
def test_the_parents_sessions_survive_its_children_under_tls(tls, how):
    run("use", how, options=tls)


def test_forked_processes_cause_no_protocol_error_and_no_unexpected_eof():
    log = DatabaseLog()
    run("use", "sys.exit")
    assert log.bad_leaves() == []


@pytest.fixture
def tls():
    if support.ask("SHOW ssl") != "on":
        pytest.skip("this PostgreSQL or this machine has no TLS")
    return {"sslmode": "require"}


@pytest.fixture
def gunicorn(tmpdir):
    if not program("gunicorn"):
        pytest.skip("gunicorn is not installed")
    command = [program("gunicorn"), "project.wsgi", "--bind=127.0.0.1:PORT", "--workers=1"]
    with serving(command, environment(), str(tmpdir)) as server:
        yield server


def test_a_child_forked_in_the_middle_of_a_request_does_not_use_the_requests_session(gunicorn):
    answer = gunicorn.get("/fork/")
    assert answer["after"] == answer["before"]
    assert answer["before"] not in answer["child"]
    assert gunicorn.get("/who/")["backend"] == answer["before"]


def test_children_of_multiprocessing_in_the_middle_of_a_request_share_no_session(gunicorn):
    answer = gunicorn.get("/multiprocess/")
    children = answer["children"]
    assert [child["tag"] for child in children] == [str(number) for number in range(8)]
    assert answer["before"] == answer["after"]
    assert answer["before"] not in [child["backend"] for child in children]
    # Each child has one session, and no two children share one.
    pairs = set((child["process"], child["backend"]) for child in children)
    assert len(pairs) == len(set(child["process"] for child in children))
    assert len(pairs) == len(set(child["backend"] for child in children))
