"""Celery's workers keep their connections from one task to the next."""

from __future__ import absolute_import

import collections
import contextlib

import pytest
import support
import systems
import workers
from workers import PERSISTCONN, STOCK, Opened, Result, environment, run, units, working

pytestmark = pytest.mark.skipif(not systems.SOLO.is_installed(), reason="Celery is not installed")

# The event loop of Kombu 4 is not safe from threads, and ends a worker of threads now and then.
HAS_THREADS = workers.has("celery.concurrency.thread") and not workers.is_before("kombu", 5)
POOLS = [systems.PREFORKED, systems.THREADED, systems.GREEN]
if not HAS_THREADS:
    POOLS.remove(systems.THREADED)


def in_pools(function):
    return pytest.mark.parametrize("system", POOLS, ids=repr)(function)


@in_pools
def test_a_thousand_tasks_open_one_connection_per_slot_at_the_most(system, request):
    tasks = request.config.getoption("--tasks")
    result = Result(system, tasks)
    assert [unit.number for unit in sorted(result.units)] == list(range(tasks))
    assert result.failed == []
    assert 1 <= result.opened <= system.slots, result.opened
    assert "idle in transaction" not in result.states


def test_stock_celery_opens_a_connection_for_each_task():
    assert Result(systems.PREFORKED, 100, STOCK).opened >= 100


@in_pools
def test_a_kill_of_all_sessions_fails_no_task_that_was_not_running(system):
    result = Result(system.slow(), 30 * system.slots, kills=True)
    assert result.numbers == list(range(30 * system.slots))
    assert result.innocent == []
    assert result.opened > system.slots


@pytest.mark.skipif(not HAS_THREADS, reason="Kombu before 5 is not safe from threads")
def test_threads_share_one_connection_although_conn_max_age_is_set():
    result = Result(systems.THREADED, 100, TASKS_MAX_CONNS="1")
    assert result.failed == []
    assert result.opened == 1


@contextlib.contextmanager
def solo(contender=PERSISTCONN, **options):
    """A worker with one slot, and a function that has it do tasks and returns their units."""
    env, done = environment(contender, **options), []

    def do(*calls):
        for call in calls:
            run(["project.call"] + [str(word) for word in call], env)
        done.extend(calls)
        worker.has_done(len(done))
        return units()[-len(calls) :]

    with working(systems.SOLO.command(0), env) as worker:
        yield do
        worker.terminate()


def pids_of(tasks):
    return [task.pid for task in tasks]


def test_close_in_a_task_closes_the_connection():
    with solo() as do:
        (closed,) = do(("close", 0))
        before, after = closed.pid
        assert before != after
        assert support.wait_until(lambda: before not in support.backends())
        assert pids_of(do(("unit", 1))) == [after]


def test_a_pool_timeout_names_the_task_that_holds_the_connection():
    with solo(TASKS_MAX_CONNS="1", TASKS_TIMEOUT="0") as do:
        do(("unit", 0))
        (exhausted,) = do(("exhaust", 1))
    assert "MainThread (exhaust) for " in exhausted.error


@pytest.mark.parametrize(
    "off, on", [("uninstall", "install"), ("disable", "enable")], ids=["uninstall", "disable"]
)
def test_a_task_can_switch_back_to_stock_celery(off, on):
    with solo() as do:
        kept = pids_of(do(("unit", 1), ("unit", 2)))
        do(("switch", 3, off))
        stock = pids_of(do(("unit", 4), ("unit", 5), ("unit", 6)))
        do(("switch", 7, on))
        again = pids_of(do(("unit", 8), ("unit", 9)))
    assert [len(set(pids)) for pids in (kept, stock, again)] == [1, 3, 1]


def test_connections_are_closed_after_as_many_tasks_as_with_stock_celery():
    groups = [grouped(contender, TASKS_REUSE_MAX="5") for contender in (STOCK, PERSISTCONN)]
    assert groups == [[5, 5, 5, 5], [5, 5, 5, 5]]


def grouped(contender, **options):
    """How many tasks in a row had the same session."""
    result = Result(systems.SOLO, 20, contender, **options)
    pids = pids_of(result.units)
    return list(collections.OrderedDict((pid, pids.count(pid)) for pid in pids).values())


@pytest.mark.parametrize("contender", [STOCK, PERSISTCONN])
def test_forked_children_leave_the_connection_of_their_parent_alone(contender):
    system = systems.celery("prefork", systems.PREFORK)
    system._command.append(systems.MAX_TASKS_PER_CHILD % 5)
    opened = Opened()
    env = environment(contender, TASKS_PARENT_ASKS="1")
    with working(system.command(0), env) as worker:
        worker.has_done(1)
        system.enqueue(40, env)
        worker.has_done(41)
        worker.terminate()
        done = units()
    parents = [unit for unit in done if unit.number < 0]
    children = [unit for unit in done if unit.number >= 0]
    assert len(children) == 40 and len(parents) == 2
    assert len(set(unit.process for unit in children)) >= 8
    assert [unit.error for unit in done] == [None] * 42
    assert len(set((unit.pid, unit.process) for unit in parents)) == 1
    assert not set(pids_of(parents)) & set(pids_of(children))
    if contender == PERSISTCONN:
        processes = len(set(unit.process for unit in done))
        assert opened.count() == processes


@pytest.mark.skipif(
    not workers.has("django_celery_results"), reason="this cell has no django-celery-results"
)
def test_results_in_the_database_open_no_more_connections():
    system = systems.celery("prefork", systems.PREFORK, apps=["django_celery_results"])
    result = Result(system, 200, TASKS_RESULTS="1")
    stored = "SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"
    assert result.opened <= systems.PREFORK
    assert support.ask(stored, support.DATABASE) == 200


@pytest.mark.skipif(
    not workers.has("django_celery_beat"), reason="this cell has no django-celery-beat"
)
def test_beat_with_its_schedule_in_the_database_keeps_one_connection():
    env = environment(apps=["django_celery_beat"])
    run(["project.schedule"], env)
    opened = Opened()
    with working(systems.SOLO.command(0), env) as worker, working(systems.BEAT, env) as beat:
        assert workers.wait_until(lambda: len(units()) >= 3, workers.PATIENCE), beat.log()
        beat.terminate()
        worker.terminate()
    assert opened.count() <= 2
