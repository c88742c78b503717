"""The faults' views, and views that read through the ORM. Each view tells its unit how far it came."""

from __future__ import absolute_import

from django.db import connection, models
from site_urls import (
    handler404,  # noqa: F401
    handler500,  # noqa: F401
    in_a_transaction,
    re_path,
    urlpatterns,
    view_of,
)


class Row(models.Model):
    name = models.TextField(primary_key=True)

    class Meta:
        db_table = "ledger"
        managed = False
        app_label = "poolers"


def checked(wanted, found):
    if found != wanted:
        raise AssertionError("read %r, not %r" % (found, wanted))


def answering(unit):
    """The server's answer is that to this request, in and out of a transaction."""
    cursor = connection.cursor()
    cursor.execute("SELECT %s", [unit.key])
    checked(unit.key, cursor.fetchone()[0])

    @in_a_transaction(using="default")
    def work():
        cursor = connection.cursor()
        cursor.execute("SET LOCAL application_name = '%s'" % unit.key)
        cursor.execute("SELECT current_setting('application_name')")
        checked(unit.key, cursor.fetchone()[0])

    work()


def written_and_read(unit):
    """What a request has committed, its next query reads."""

    @in_a_transaction(using="default")
    def work():
        Row(name=unit.key).save(force_insert=True)

    work()
    checked([unit.key], [row.name for row in Row.objects.filter(name=unit.key)])


def without_transactions(unit):
    cursor = connection.cursor()
    cursor.execute("INSERT INTO ledger VALUES (%s)", [unit.key])
    checked([unit.key], [row.name for row in Row.objects.filter(name=unit.key)])


def iterating(unit):
    """Reads 100 rows by parts of 10."""
    names = ["%s-%d" % (unit.key, number) for number in range(100)]
    Row.objects.bulk_create([Row(name=name) for name in names])
    rows = Row.objects.filter(name__startswith=unit.key + "-")
    checked(sorted(names), sorted(row.name for row in rows.iterator(chunk_size=10)))


def refused_at_commit(unit):
    """Breaks a constraint that is looked at when the transaction is committed."""

    @in_a_transaction(using="default")
    def work():
        cursor = connection.cursor()
        cursor.execute("INSERT INTO deferred VALUES (%s, 'nothing')", [unit.key])

    work()


urlpatterns = urlpatterns + [
    re_path("^%s/(.+)/$" % work.__name__, view_of(work))
    for work in (answering, written_and_read, without_transactions, iterating, refused_at_commit)
]
