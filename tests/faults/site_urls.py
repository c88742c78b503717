"""The site: a view for each kind of unit of work. Each view tells its unit how far it came."""

from __future__ import absolute_import

import time

import ledger
import support
from databases import chosen
from django.db import connections, transaction
from django.http import HttpResponse

try:
    from django.urls import re_path
except ImportError:
    try:
        from django.conf.urls import url as re_path
    except ImportError:
        from django.conf.urls.defaults import url as re_path

in_a_transaction = getattr(transaction, "atomic", None) or transaction.commit_on_success


def note_pid(unit):
    unit.pid = chosen.backend_pid(connections[unit.alias].connection)


def cursor_for(unit):
    cursor = connections[unit.alias].cursor()
    note_pid(unit)
    return cursor


def insert(unit, cursor):
    unit.sent = unit.sent or time.time()
    cursor.execute("INSERT INTO ledger VALUES (%s)", [unit.key])


def transactional(unit):
    @in_a_transaction(using=unit.alias)
    def work():
        cursor = cursor_for(unit)
        unit.stage = ledger.STATEMENT
        insert(unit, cursor)
        if unit.pause:
            cursor.execute(chosen.SLEEP, [unit.pause])
        if unit.on_hold:
            unit.on_hold()
        unit.stage = ledger.COMMIT

    if chosen.BEGIN_IS_SENT:
        # The session is in use from the beginning of the block, and not from its first statement.
        connections[unit.alias].ensure_connection()
        note_pid(unit)
        unit.sent = time.time()
    work()


def autocommitting(unit):
    cursor = cursor_for(unit)
    # Before 1.6 the code that executes a statement must have it committed.
    unit.stage = ledger.STATEMENT if support.BEFORE_1_6 else ledger.COMMIT
    insert(unit, cursor)
    unit.stage = ledger.COMMIT
    if support.BEFORE_1_6:
        transaction.commit_unless_managed(using=unit.alias)
    if unit.on_hold:
        unit.on_hold()


def twice(unit):
    """Outside a transaction: a statement that may fail, and the next one of the same request."""
    try:
        support.fetch(unit.first, unit.alias)
    except support.database_errors() as error:
        unit.error = error
    autocommitting(unit)


def unfinished(unit):
    """Writes, and leaves the end of the transaction to the end of the request."""
    if not support.BEFORE_1_6:
        transaction.set_autocommit(False, using=unit.alias)
    unit.stage = ledger.STATEMENT
    insert(unit, cursor_for(unit))
    unit.on_hold()


def reading(unit):
    support.fetch(unit.first, unit.alias)
    note_pid(unit)


VIEWS = [transactional, autocommitting, twice, unfinished, reading]


def view_of(work):
    def view(request, key):
        unit = ledger.under_way[key]
        unit.checked = time.time()
        try:
            work(unit)
        except Exception as error:
            unit.error = error
            raise
        unit.stage = ledger.DONE
        return HttpResponse(key)

    return view


def handler500(request, *args):
    return HttpResponse("failed", status=500)


def handler404(request, *args, **kwargs):
    return HttpResponse("not found", status=404)


urlpatterns = [re_path("^%s/(.+)/$" % work.__name__, view_of(work)) for work in VIEWS]
