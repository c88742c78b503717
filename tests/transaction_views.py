"""Views that leave transactions in every way a view can. Those that write insert their name."""

from __future__ import absolute_import

from databases import NAME, chosen
from django.db import connection, transaction
from django.http import Http404, HttpResponse

VIEWS = {}


def view(function):
    VIEWS[function.__name__] = function
    return function


def sql(statement):
    cursor = connection.cursor()
    cursor.execute(statement)
    return cursor


def read():
    from site_app.models import Item

    return list(Item.objects.all())


def write(name):
    from site_app.models import Item

    Item.objects.create(name=name)


def raw_read():
    return sql("SELECT * FROM item").fetchall()


def raw_write(name):
    sql("INSERT INTO item VALUES ('%s')" % name)


def respond():
    return HttpResponse("done")


# Outside of any block, on every Django.


@view
def reads(request):
    read()
    return respond()


@view
def reads_raw(request):
    raw_read()
    return respond()


@view
def reads_and_finds_nothing(request):
    read()
    raise Http404("nothing")


@view
def locks_rows(request):
    sql("SELECT * FROM item FOR UPDATE").fetchall()
    return respond()


@view
def writes(request):
    write("writes")
    return respond()


@view
def writes_then_reads(request):
    write("writes_then_reads")
    read()
    return respond()


@view
def writes_raw(request):
    raw_write("writes_raw")
    return respond()


@view
def writes_raw_and_raises(request):
    raw_write("writes_raw_and_raises")
    raise ValueError("a view that fails")


@view
def writes_and_raises(request):
    write("writes_and_raises")
    raise ValueError("a view that fails")


@view
def swallows_an_error(request):
    try:
        sql("SELECT nonsense")
    except Exception:
        pass
    return respond()


# Other drivers have no such attributes.

if NAME == "postgresql":

    @view
    def changes_isolation_level(request):
        connection.cursor()
        connection.connection.set_isolation_level(3)
        raw_read()
        return respond()

    @view
    def turns_read_only(request):
        connection.cursor()
        raw = connection.connection
        setattr(raw, "read_only" if hasattr(raw, "read_only") else "readonly", True)
        raw_read()
        return respond()


@view
def streams(request):
    def body():
        raw_read()
        yield "done"

    try:
        from django.http import StreamingHttpResponse
    except ImportError:
        return HttpResponse(body())
    return StreamingHttpResponse(body())


# In managed blocks, 1.2 to 1.7.

if hasattr(transaction, "commit_on_success"):

    @view
    @transaction.commit_on_success
    def success_reads(request):
        read()
        return respond()

    @view
    @transaction.commit_on_success
    def success_reads_raw(request):
        raw_read()
        return respond()

    @view
    @transaction.commit_on_success
    def success_locks_rows(request):
        sql("SELECT * FROM item FOR UPDATE").fetchall()
        return respond()

    @view
    @transaction.commit_on_success
    def success_writes(request):
        write("success_writes")
        return respond()

    @view
    @transaction.commit_on_success
    def success_writes_raw(request):
        raw_write("success_writes_raw")
        return respond()

    @view
    @transaction.commit_on_success
    def success_writes_raw_and_raises(request):
        raw_write("success_writes_raw_and_raises")
        raise ValueError("a view that fails")

    @view
    @transaction.commit_on_success
    def success_swallows_an_error(request):
        return swallows_an_error(request)

    @view
    def reads_then_empty_success(request):
        read()
        transaction.commit_on_success(lambda: None)()
        return respond()

    @view
    def success_writes_then_reads(request):
        transaction.commit_on_success(write)("success_writes_then_reads")
        read()
        return respond()

    @view
    @transaction.commit_on_success
    def success_in_success(request):
        raw_write("success_in_success")
        transaction.commit_on_success(read)()
        return respond()

    @view
    @transaction.commit_manually
    def manually_reads(request):
        read()
        return respond()

    @view
    @transaction.commit_manually
    def manually_writes(request):
        write("manually_writes")
        return respond()

    @view
    @transaction.commit_manually
    def manually_commits(request):
        write("manually_commits")
        transaction.commit()
        return respond()

    @view
    @transaction.commit_manually
    def manually_rolls_back(request):
        raw_write("manually_rolls_back")
        transaction.rollback()
        return respond()

    @view
    @transaction.autocommit
    def autocommit_reads(request):
        read()
        return respond()

    @view
    @transaction.autocommit
    def autocommit_writes(request):
        write("autocommit_writes")
        return respond()

    @view
    def enters_and_never_leaves(request):
        transaction.enter_transaction_management()
        raw_read()
        return respond()

    @view
    def enters_without_a_query(request):
        transaction.enter_transaction_management()
        return respond()

    @view
    def enters_managed_and_never_leaves(request):
        transaction.enter_transaction_management()
        transaction.managed(True)
        raw_write("enters_managed_and_never_leaves")
        return respond()


# With atomic() and autocommit, from 1.6 on.

if hasattr(transaction, "atomic"):

    @view
    @transaction.atomic
    def atomic_reads(request):
        read()
        return respond()

    @view
    @transaction.atomic
    def atomic_writes_raw(request):
        raw_write("atomic_writes_raw")
        return respond()

    @view
    @transaction.atomic
    def atomic_writes_and_raises(request):
        write("atomic_writes_and_raises")
        raise ValueError("a view that fails")

    @view
    def atomic_in_atomic(request):
        with transaction.atomic():
            raw_write("atomic_in_atomic")
            try:
                with transaction.atomic():
                    raw_write("inner")
                    raise ValueError("a block that fails")
            except ValueError:
                pass
        return respond()

    @view
    def autocommit_off_writes(request):
        transaction.set_autocommit(False)
        raw_write("autocommit_off_writes")
        return respond()

    @view
    def autocommit_off_commits(request):
        transaction.set_autocommit(False)
        raw_write("autocommit_off_commits")
        transaction.commit()
        return respond()

    @view
    def begins_by_hand(request):
        sql("BEGIN")
        raw_write("begins_by_hand")
        return respond()

    @view
    def enters_atomic_and_never_leaves(request):
        transaction.atomic().__enter__()
        raw_write("enters_atomic_and_never_leaves")
        return respond()


@view
def tells_of_its_session(request):
    """Tell in what state a request finds its session."""

    def ask(statement):
        return sql(statement).fetchone()[0]

    seen = [chosen.isolation(ask), "read only" if chosen.is_read_only(ask) else "read write"]
    seen.append("stack %d" % len(getattr(connection, "transaction_state", ())))
    in_transaction = chosen.is_in_transaction(connection.connection)
    seen.append("in a transaction" if in_transaction else "autocommit")
    return HttpResponse(", ".join(seen))
