"""RECONNECT: a unit of work never changes its session unnoticed."""

from __future__ import absolute_import

import django
import pytest
import support
from django.db import connection, transaction
from support import (
    backends,
    database_as,
    end_of_work,
    end_transaction,
    fetch,
    get,
    kill_backends,
    orm_pid,
    orm_session,
    pid,
    settings_as,
)

import persistconn

since_1_6 = pytest.mark.skipif(support.BEFORE_1_6, reason="Django has it since 1.6")

in_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success


def reconnect(value):
    return settings_as(PERSISTCONN_RECONNECT=value)


def item():
    from site_app.models import Item

    return Item


def own_pid():
    """The backend, asked by a user's cursor. Leaves no transaction."""
    before = pid()
    end_transaction()
    return before


def raises_once(work):
    """Whether ``work()`` first raises the loss, and then is served by another session."""
    with pytest.raises(support.database_errors()):
        work()
    return work() in backends()


@pytest.fixture(autouse=True)
def ended(rows):
    yield
    end_of_work()


# Sessions that only the ORM has used: there is no state to lose.


def test_a_unit_of_work_of_the_orm_alone_survives_ten_kills():
    pids = []
    for _turn in range(10):
        pids.append(orm_pid())
        assert kill_backends() == 1
    assert len(set(pids)) == 10


def create():
    item().objects.create(name="created")


def save_again():
    found = item()(name="saved")
    found.save()
    found.save()


def update():
    item().objects.filter(name="nobody").update(name="renamed")


def delete():
    create()
    item().objects.get(name="created").delete()


def get_or_create():
    item().objects.get_or_create(name="got")
    item().objects.get_or_create(name="got")


def count():
    item().objects.count()


def exists():
    item().objects.filter(name="nobody").exists()


def iterate():
    list(item().objects.iterator())


def values():
    list(item().objects.values_list("name"))


def bulk_create():
    item().objects.bulk_create([item()(name="one"), item()(name="two")])


def atomic():
    in_transaction(create)()


def atomic_in_atomic():
    in_transaction(in_transaction(create))()


def atomic_that_rolls_back():
    def fail():
        create()
        raise ValueError("rolled back")

    with pytest.raises(ValueError):
        in_transaction(fail)()


def on_commit():
    with transaction.atomic():
        transaction.on_commit(count)
        create()


OF_THE_ORM = [
    create,
    save_again,
    update,
    delete,
    get_or_create,
    count,
    exists,
    iterate,
    values,
    atomic,
    atomic_in_atomic,
    atomic_that_rolls_back,
]
if hasattr(transaction, "on_commit"):
    OF_THE_ORM.append(on_commit)
if django.VERSION >= (1, 4):
    OF_THE_ORM.append(bulk_create)


@pytest.mark.parametrize("use", OF_THE_ORM, ids=lambda use: use.__name__)
def test_after_work_of_the_orm_a_lost_session_is_replaced(use):
    use()
    end_transaction()
    assert kill_backends() == 1
    assert orm_pid() in backends()


@pytest.mark.parametrize("use", OF_THE_ORM, ids=lambda use: use.__name__)
def test_work_of_the_orm_goes_on_in_a_new_session_when_its_session_is_lost(use):
    orm_pid()
    assert kill_backends() == 1
    use()


def test_a_users_cursor_opened_after_the_orms_session_was_lost_gets_a_new_session():
    before = orm_pid()
    assert kill_backends() == 1
    assert own_pid() != before


def test_a_loss_inside_a_transaction_of_the_orm_is_raised(rows):
    def lose():
        create()
        kill_backends()
        item().objects.create(name="half")

    with pytest.raises(support.database_errors()):
        in_transaction(lose)()
    assert rows() == []


# Sessions that the user has used directly: nobody knows what state they hold.


def a_cursor():
    own_pid()


def a_cursor_in_a_transaction():
    in_transaction(own_pid)()


def a_cursor_before_the_orm():
    own_pid()
    orm_pid()


def a_raw_query():
    list(item().objects.raw("SELECT name FROM item"))


def a_schema_editor():
    with connection.schema_editor() as editor:
        editor.execute("SELECT 1")


def the_connection_itself():
    connection.ensure_connection()
    connection.connection.cursor().execute("SELECT 1")


def the_connection_itself_after_the_orm():
    orm_pid()
    the_connection_itself()


def autocommit_off_and_on():
    transaction.set_autocommit(False)
    count()
    transaction.commit()
    transaction.set_autocommit(True)


OF_ONES_OWN = [a_cursor, a_cursor_in_a_transaction, a_cursor_before_the_orm, a_raw_query]
if hasattr(connection, "schema_editor"):
    OF_ONES_OWN.append(a_schema_editor)
if not support.BEFORE_1_6:
    OF_ONES_OWN += [
        the_connection_itself,
        the_connection_itself_after_the_orm,
        autocommit_off_and_on,
    ]

of_ones_own = pytest.mark.parametrize("use", OF_ONES_OWN, ids=lambda use: use.__name__)


@of_ones_own
def test_the_loss_of_a_session_that_the_user_used_directly_is_raised_once(use):
    use()
    end_transaction()
    assert kill_backends() == 1
    assert raises_once(orm_pid)


@of_ones_own
def test_direct_use_of_a_session_does_not_count_in_the_next_unit_of_work(use):
    use()
    end_of_work()
    orm_pid()
    assert kill_backends() == 1
    assert orm_pid() in backends()


@of_ones_own
def test_the_end_of_work_raises_nothing_if_its_session_was_lost(use):
    use()
    end_transaction()
    assert kill_backends() == 1
    end_of_work()
    assert orm_pid() in backends()


@since_1_6
def test_a_loss_while_autocommit_is_off_is_raised():
    transaction.set_autocommit(False)
    count()
    transaction.commit()
    assert kill_backends() == 1
    with pytest.raises(support.database_errors()):
        count()


def test_the_loss_of_a_session_with_a_users_cursor_is_raised_to_the_next_users_cursor():
    own_pid()
    assert kill_backends() == 1
    assert raises_once(own_pid)


def test_the_session_after_a_raised_loss_counts_as_used_by_the_orm_alone():
    own_pid()
    assert kill_backends() == 1
    assert raises_once(orm_pid)
    assert kill_backends() == 1
    assert orm_pid() in backends()


def test_a_users_cursor_counts_again_in_the_session_after_a_raised_loss():
    own_pid()
    assert kill_backends() == 1
    assert raises_once(own_pid)
    assert kill_backends() == 1
    assert raises_once(own_pid)


def test_a_users_cursor_in_a_request_does_not_count_after_that_request():
    assert get("/pid/").status == 200
    orm_pid()
    assert kill_backends() == 1
    assert orm_pid() in backends()


@pytest.mark.skipif(support.BEFORE_1_6, reason="a block that lost its session stays dirty there")
def test_a_loss_between_transactions_is_raised_once_in_the_next_transaction(rows):
    own_pid()
    assert kill_backends() == 1
    with pytest.raises(support.database_errors()):
        in_transaction(create)()
    in_transaction(create)()
    assert rows() == ["created"]


def test_a_users_cursor_on_one_database_does_not_affect_another_database():
    own_pid()
    orm_pid("other")
    assert kill_backends() == 2
    assert orm_pid("other") in backends()
    with pytest.raises(support.database_errors()):
        orm_pid()


# State that would otherwise be lost without an error.


@pytest.fixture
def limited():
    support.query("CREATE ROLE limited")
    support.query("GRANT SELECT ON session TO limited", support.DATABASE)
    yield
    end_of_work()
    persistconn.drain()
    support.query("REVOKE ALL ON session FROM limited", support.DATABASE)
    support.query("DROP ROLE limited")


def execute(sql):
    connection.cursor().execute(sql)
    if support.BEFORE_1_6:
        connection._commit()


with_views_of_the_session = support.only_on("postgresql", "MariaDB's views cannot show it")


@with_views_of_the_session
def test_the_loss_of_a_session_with_a_set_role_is_raised(limited):
    execute("SET ROLE limited")
    assert orm_session().role == "limited"
    assert kill_backends() == 1
    with pytest.raises(support.database_errors()):
        orm_session()


@with_views_of_the_session
def test_the_loss_of_a_session_with_a_set_parameter_is_raised():
    execute("SET app.tenant = 'mine'")
    assert orm_session().tenant == "mine"
    assert kill_backends() == 1
    with pytest.raises(support.database_errors()):
        orm_session()


def test_the_loss_of_a_session_with_an_advisory_lock_is_raised(clock):
    fetch(support.chosen.TAKE_LOCK)
    end_transaction()
    clock.forward(10)
    assert kill_backends() == 1
    with pytest.raises(support.database_errors()):
        count()


# Checks.


@of_ones_own
def test_no_check_is_sent_in_the_middle_of_work_that_uses_the_session_directly(use, clock, pings):
    use()
    end_transaction()
    clock.forward(10)
    orm_pid()
    own_pid()
    assert pings == []


def test_a_session_used_by_the_orm_alone_is_checked_in_the_middle_of_work(clock, pings):
    orm_pid()
    clock.forward(10)
    orm_pid()
    assert pings == [True]


def test_a_slow_check_cannot_cost_a_session_its_advisory_lock(clock, monkeypatch):
    # A stand-in for a server that answers too late: a real one would need a session that hangs.
    from persistconn import drivers

    fetch(support.chosen.TAKE_LOCK)
    end_transaction()
    driver = drivers.of(connection.connection)
    monkeypatch.setattr(type(driver), "ping", lambda self, *args: False)
    clock.forward(10)
    count()
    assert support.ask(support.chosen.COUNT_LOCKS) == 1


# Loops that end their units of work themselves.


def test_a_loop_that_ends_its_work_survives_ten_kills():
    pids = []
    for _turn in range(10):
        pids.append(pid())
        end_of_work()
        assert kill_backends() == 1
    assert len(set(pids)) == 10


def test_a_loop_that_ends_its_work_survives_kills_at_its_end():
    for _turn in range(10):
        pid()
        assert kill_backends() == 1
        end_of_work()


# The setting.


@pytest.mark.parametrize("value", ["orm", "always", "never"])
@pytest.mark.parametrize("ask", [orm_pid, own_pid])
def test_a_dead_idle_session_is_replaced_at_checkout_under_every_reconnect(value, ask):
    with reconnect(value):
        before = ask()
        end_of_work()
        assert kill_backends() == 1
        assert ask() != before


def test_reconnect_always_replaces_a_lost_session_with_a_users_cursor():
    with reconnect("always"):
        pids = []
        for _turn in range(10):
            pids.append(own_pid())
            assert kill_backends() == 1
        assert len(set(pids)) == 10


def test_reconnect_always_checks_a_session_with_a_users_cursor(clock, pings):
    with reconnect("always"):
        own_pid()
        clock.forward(10)
        own_pid()
        assert pings == [True]


@since_1_6
def test_reconnect_always_replaces_no_session_inside_a_transaction():
    with reconnect("always"):
        with pytest.raises(support.database_errors()):
            with transaction.atomic():
                own_pid()
                kill_backends()
                own_pid()


@pytest.mark.parametrize("ask", [orm_pid, own_pid])
def test_reconnect_never_leaves_a_lost_session_lost_until_the_work_ends(ask):
    with reconnect("never"):
        ask()
        assert kill_backends() == 1
        for _attempt in range(3):
            with pytest.raises(support.database_errors()):
                ask()
        assert backends() == []
        end_of_work()
        assert ask() in backends()


def test_reconnect_never_sends_no_check_in_the_middle_of_work(clock, pings):
    with reconnect("never"):
        orm_pid()
        clock.forward(10)
        orm_pid()
        assert pings == []


def test_one_database_can_have_a_reconnect_of_its_own():
    with database_as("other", PERSISTCONN={"RECONNECT": "always"}):
        own_pid()
        pid("other")
        end_transaction("other")
        assert kill_backends() == 2
        assert pid("other") in backends()
        with pytest.raises(support.database_errors()):
            own_pid()


def test_the_reconnect_of_a_database_overrides_the_reconnect_of_the_project():
    with reconnect("always"), database_as(PERSISTCONN={"RECONNECT": "never"}):
        orm_pid()
        assert kill_backends() == 1
        with pytest.raises(support.database_errors()):
            orm_pid()


@pytest.mark.parametrize("value", ["sometimes", True, None, 1])
def test_a_bad_value_of_reconnect_is_reported_with_the_allowed_values(value):
    from persistconn import problems

    with reconnect(value):
        (problem,) = problems.find_problems()
    assert problem.id == "persistconn.E001"
    assert problem.message.startswith("PERSISTCONN_RECONNECT is %r; allowed: " % (value,))
    assert all(rule in problem.message for rule in ("orm", "always", "never"))
