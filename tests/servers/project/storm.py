"""The storm's views: they read in chunks, stream, and leave transactions by an exception.

Each view answers with the tag of its request and the sum of the rows that it read, so that the
client can check that the answer is right and its own.
"""

from __future__ import absolute_import

import gc
from itertools import islice

import django
from django.db import models, transaction
from django.http import Http404, StreamingHttpResponse

from project.views import answer

#: The rows that one FETCH gets.
CHUNK = 20


class Row(models.Model):
    number = models.IntegerField(primary_key=True)

    class Meta:
        db_table = "storm_row"
        managed = False
        app_label = "project"


class Note(models.Model):
    """Written only in transactions that an exception rolls back."""

    tag = models.TextField(primary_key=True)

    class Meta:
        db_table = "storm_note"
        managed = False
        app_label = "project"


class Failed(Exception):
    pass


VIEWS = {}


def view(function):
    VIEWS[function.__name__] = function
    return function


def collect(request):
    return answer(gc.collect())


def rows():
    """All rows, by a server-side cursor."""
    return Row.objects.order_by("number").iterator(chunk_size=CHUNK)


def total(some):
    return sum(row.number for row in some)


def tagged(request, value):
    return answer({"tag": request.GET["tag"], "total": value})


def note(request):
    Note.objects.create(tag=request.GET["tag"])


@view
def reads(request):
    return tagged(request, total(Row.objects.all()))


@view
def iterates(request):
    return tagged(request, total(rows()))


@view
def iterates_in_atomic(request):
    with transaction.atomic():
        return tagged(request, total(rows()))


@view
def stops_iterating(request):
    return tagged(request, total(islice(rows(), CHUNK + 1)))


@view
def leaves_an_iterator_to_the_garbage_collector(request):
    some = rows()
    request.kept = [request, some]
    return tagged(request, total(islice(some, CHUNK + 1)))


@view
def raises_in_atomic(request):
    with transaction.atomic():
        note(request)
        raise Http404("nothing")


@view
def raises_while_iterating_in_atomic(request):
    with transaction.atomic():
        note(request)
        some = rows()
        for _row in some:
            raise Http404("nothing")


@view
def keeps_the_error_of_an_iteration(request):
    """The error's frames keep the open cursor, and are in a reference cycle with the request."""
    try:
        with transaction.atomic():
            note(request)
            some = rows()
            for _row in some:
                raise Failed()
    except Failed as error:
        request.error = error
    return tagged(request, total(Row.objects.all()))


if django.VERSION >= (4, 2):

    @view
    def streams(request):
        """Before 4.2 the body runs in the event loop, where it cannot use the database."""

        def body():
            for row in rows():
                yield b"%d\n" % row.number

        return StreamingHttpResponse(body())
