"""The work of a request: one row read, ten rows read one by one, one row written."""

from __future__ import absolute_import

import itertools

from django.db import transaction
from django.http import HttpResponse

from measured.models import Good

ROWS = 1000
QUERIES = 10

_numbers = itertools.count()
# Before 1.6 atomic() has another name.
_atomic = getattr(transaction, "atomic", None) or transaction.commit_on_success


def _next_key():
    # Clients that write at the same time must not wait for each other's row.
    return next(_numbers) % ROWS + 1


def _answer(text):
    response = HttpResponse(text)
    # Without it a server would have to send the body in chunks.
    response["Content-Length"] = str(len(response.content))
    return response


def one(request):
    return _answer(Good.objects.get(pk=_next_key()).name)


def ten(request):
    return _answer(" ".join(Good.objects.get(pk=_next_key()).name for _turn in range(QUERIES)))


def write(request):
    with _atomic():
        Good.objects.filter(pk=_next_key()).update(sold=next(_numbers) % 1000000)
    return _answer("written")
