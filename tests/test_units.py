"""unit_of_work(): units of work that are no requests."""

from __future__ import absolute_import

import functools
import os
import pickle
import sys

import django.core.signals
import pytest
import support
from django.db import connection
from support import backends, get, in_thread, is_idle, kill_backends, pid, query, together

import persistconn
from persistconn import unit_of_work

since_1_6 = pytest.mark.skipif(support.BEFORE_1_6, reason="atomic() came with 1.6")
asynchronous_orm = pytest.mark.skipif(
    django.VERSION < (3, 1), reason="coroutines call the ORM in their own thread"
)
python_3 = pytest.mark.skipif(sys.version_info < (3,), reason="Python 2 has no coroutines")


def insert(name):
    cursor = connection.cursor()
    cursor.execute("INSERT INTO item VALUES (%s)", [name])
    cursor.close()


def items():
    return support.ask("SELECT count(*) FROM item", support.DATABASE)


def begin():
    """Begin a transaction that no block will end."""
    if support.BEFORE_1_6:
        return  # each statement begins one
    from django.db import transaction

    transaction.set_autocommit(False)


@pytest.fixture(autouse=True)
def no_items():
    query("DELETE FROM item", support.DATABASE)


def test_at_the_end_the_connection_is_idle_in_the_pool():
    with unit_of_work():
        session = pid()
    assert is_idle() and backends() == [session]


def test_within_one_unit_of_work_the_session_stays():
    with unit_of_work():
        pid()
        assert not is_idle()


@unit_of_work()
def decorated(work=pid):
    """What it does."""
    return work()


def test_a_decorated_function_returns_its_result_and_gives_its_connection_back():
    assert [decorated()] == backends()
    assert is_idle()


def test_a_decorated_function_keeps_its_name_and_its_docstring():
    assert (decorated.__name__, decorated.__doc__) == ("decorated", "What it does.")


def test_a_decorated_function_can_be_pickled():
    assert pickle.loads(pickle.dumps(decorated)) is decorated


def test_the_decorator_works_without_parentheses():
    assert [unit_of_work(pid)()] == backends()
    assert is_idle()


def test_a_decorated_method_gets_its_object():
    class Job(object):
        number = 7

        @unit_of_work()
        def run(self):
            return self.number

    assert Job().run() == 7


ERRORS = [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit]


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_is_raised_is_raised_on_and_the_connection_given_back(error):
    with pytest.raises(error):
        with unit_of_work():
            pid()
            raise error()
    assert is_idle() and len(backends()) == 1


def test_what_is_left_open_is_rolled_back():
    with unit_of_work():
        begin()
        insert("left open")
    assert items() == 0
    assert support.states() == ["idle"]


@since_1_6
def test_an_atomic_block_that_was_never_left_is_rolled_back():
    from django.db import transaction

    with unit_of_work():
        transaction.atomic().__enter__()
        insert("left open")
    assert items() == 0 and not connection.in_atomic_block
    assert is_idle()


@since_1_6
def test_a_block_around_the_unit_of_work_is_left_alone():
    from django.db import transaction

    with transaction.atomic():
        insert("around")
        decorated()
        assert not is_idle()
    assert items() == 1
    support.end_of_work()


def test_after_its_session_was_killed_it_ends_without_an_error():
    with unit_of_work():
        pid()
        kill_backends()
    assert is_idle() and backends() == []


def test_a_nested_one_ends_with_the_outermost():
    with unit_of_work():
        first = pid()
        with unit_of_work():
            pid()
        assert not is_idle()
        decorated()
        assert not is_idle() and pid() == first
    assert is_idle()


def test_after_a_nested_one_that_raised_the_outermost_still_ends():
    with unit_of_work():
        with pytest.raises(ValueError):
            with unit_of_work():
                raise ValueError
        pid()
        assert not is_idle()
    assert is_idle()


def test_within_a_request_it_ends_with_the_request():
    assert get("/with_a_unit_inside/").text == "kept 0"
    assert is_idle()


def test_after_a_request_it_ends_by_itself_again():
    get("/pid/")
    decorated()
    assert is_idle()


def test_after_a_request_in_which_persistconn_was_off_it_ends_by_itself_again():
    begun = support.environ("/")
    django.core.signals.request_started.send(sender=object, environ=begun)
    persistconn.disable()
    support.end_request()
    persistconn.enable()
    decorated()
    assert is_idle()


def test_two_threads_end_their_own_work_only():
    with unit_of_work():
        mine = pid()
        assert in_thread(lambda: (decorated(), is_idle()))[1]
        assert not is_idle() and pid() == mine


def test_eight_threads_that_share_a_decorated_function_leave_nothing_open():
    def work():
        return [(decorated(), is_idle())[1] for _turn in range(20)]

    assert together(*[work] * 8) == [[True] * 20] * 8


def test_one_object_serves_one_unit_of_work_after_another():
    unit = unit_of_work()
    for _turn in range(2):
        with unit:
            pid()
        assert is_idle()


def test_an_object_that_is_in_use_refuses_to_begin_again():
    unit = unit_of_work()
    with unit:
        with pytest.raises(RuntimeError) as refused:
            unit.__enter__()
        pid()
    assert "call unit_of_work() again" in str(refused.value)
    assert is_idle()


def test_while_disabled_it_closes_the_connection_as_django_does():
    persistconn.disable()
    try:
        decorated()
        assert is_idle() and support.wait_until(lambda: backends() == [])
    finally:
        persistconn.enable()


def test_when_not_installed_it_closes_the_connection_as_django_does():
    persistconn.uninstall()
    try:
        decorated()
        assert is_idle() and support.wait_until(lambda: backends() == [])
    finally:
        persistconn.install()


@since_1_6
@pytest.mark.parametrize("switch", [persistconn.disable, persistconn.uninstall])
def test_switched_off_it_leaves_a_block_around_it_alone(switch):
    from django.db import transaction

    switch()
    try:
        with transaction.atomic():
            insert("around")
            decorated()
        connection.close()
    finally:
        persistconn.install()
        persistconn.enable()
    assert items() == 1


@since_1_6
def test_a_generator_that_another_thread_closes_leaves_the_work_of_that_thread_alone():
    from django.db import transaction

    def suspended():
        with unit_of_work():
            yield pid()

    def begun():
        generator = suspended()
        next(generator)
        support.end_of_work()
        return generator

    generator = in_thread(begun)
    with transaction.atomic():
        insert("mine")
        generator.close()
        assert connection.in_atomic_block and not is_idle()
    assert items() == 1
    support.end_of_work()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
def test_in_a_forked_child_of_a_unit_the_childs_own_units_end():
    def work():
        decorated()
        assert is_idle()

    with unit_of_work():
        pid()
        assert support.in_child(work) == 0


class Callable(object):
    def __call__(self):
        return pid()


@pytest.mark.parametrize(
    "function",
    [functools.partial(pid, "default"), Callable(), Callable().__call__],
    ids=["partial", "object", "method"],
)
def test_every_callable_can_be_decorated(function):
    assert [unit_of_work()(function)()] == backends()
    assert is_idle()


def test_a_function_of_c_can_be_decorated():
    assert unit_of_work()(str.upper)("a") == "A"


@pytest.mark.parametrize("name", [1, b"bytes" if sys.version_info > (3,) else 2, staticmethod])
def test_what_is_neither_a_name_nor_a_function_is_refused(name):
    value = name(pid) if name is staticmethod and sys.version_info < (3, 10) else name
    if callable(value):
        value = []
    with pytest.raises(TypeError) as refused:
        unit_of_work(value)
    assert "a name or a function" in str(refused.value)


@pytest.fixture
def executor():
    executors = pytest.importorskip("persistconn.executors", reason="Python 2 has no executors")
    executor = executors.UnitOfWorkExecutor(4)
    yield executor
    executor.shutdown()


def in_use():
    return persistconn.stats()["default"]["in_use"]


def test_work_items_of_the_executor_give_their_connections_back(executor):
    found = list(executor.map(lambda number: pid(), range(20)))
    assert len(found) == 20 and in_use() == 0
    assert set(backends()) == set(found)


def test_a_work_item_that_raises_gives_its_connection_back(executor):
    future = executor.submit(lambda number: pid() and 1 // number, number=0)
    assert isinstance(future.exception(), ZeroDivisionError)
    assert in_use() == 0


def test_a_work_item_may_have_arguments_of_any_name(executor):
    assert executor.submit(dict, function=1).result() == {"function": 1}


@python_3
def test_as_the_loops_default_executor_it_ends_what_other_threads_do(executor):
    import asyncio

    loop = asyncio.new_event_loop()
    loop.set_default_executor(executor)
    try:
        loop.run_until_complete(loop.run_in_executor(None, pid))
        assert in_use() == 0
    finally:
        loop.close()


def run(function, *args):
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(function(*args))
    finally:
        if hasattr(loop, "shutdown_default_executor"):
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def coroutines():
    import async_units

    return async_units


@python_3
def test_async_with_keeps_the_session_inside_and_gives_it_back_at_its_end(coroutines):
    assert run(coroutines.in_a_context) == (True, 0)


@python_3
def test_a_decorated_async_function_gives_its_connection_back(coroutines):
    assert run(coroutines.after, coroutines.decorated) == (1, 0)


@python_3
def test_a_decorated_async_function_that_raises_gives_its_connection_back(coroutines):
    error = ValueError()
    assert run(coroutines.after, coroutines.decorated, error) == (error, 0)


@python_3
def test_a_decorated_async_function_is_one_for_djangos_eyes(coroutines):
    import asyncio

    assert asyncio.iscoroutinefunction(coroutines.decorated)


@python_3
def test_a_nested_async_one_ends_with_the_outermost(coroutines):
    assert run(coroutines.after, coroutines.nested) == ((1, True), 0)


@python_3
def test_one_of_a_function_in_the_thread_ends_with_the_async_one_around_it(coroutines):
    assert run(coroutines.after, coroutines.with_a_sync_one_inside) == (1, 0)


@python_3
def test_a_task_that_outlives_the_unit_that_started_it_ends_its_own(coroutines):
    assert run(coroutines.outlived) == 0


@python_3
def test_a_cancelled_coroutine_gives_its_connection_back(coroutines):
    assert run(coroutines.cancelled) == 0


@python_3
def test_after_a_cancellation_at_its_beginning_the_next_one_ends(coroutines):
    assert run(coroutines.cancelled_at_the_start) == 0


@python_3
def test_one_in_an_executor_ends_by_itself(coroutines):
    assert run(coroutines.in_an_executor) == 0


@asynchronous_orm
def test_a_unit_that_is_cancelled_at_its_end_gives_its_connection_back(coroutines):
    assert run(coroutines.cancelled_at_the_end) == 0


@asynchronous_orm
def test_a_coroutine_whose_unit_ends_leaves_the_transaction_of_another_alone(coroutines):
    assert run(coroutines.in_another_transaction) == [True, 0]
    assert items() == 0


@python_3
def test_after_the_cancellation_of_its_tasks_a_unit_ends(coroutines):
    assert run(coroutines.cancels_its_tasks) == 0


@python_3
def test_twenty_coroutines_at_once_leave_nothing_open(coroutines):
    assert run(coroutines.at_once, 20) == 0
