"""The site to which the tests send requests."""

from __future__ import absolute_import

import support
import transaction_views
from django.http import HttpResponse

import persistconn

try:
    from django.urls import re_path
except ImportError:
    try:
        from django.conf.urls import url as re_path
    except ImportError:
        from django.conf.urls.defaults import url as re_path


def pid(request):
    return HttpResponse("%d" % support.pid())


def zone(request):
    return HttpResponse(support.fetch("SHOW TimeZone"))


def tenant(request):
    return HttpResponse(support.fetch(support.chosen.TELL_TENANT))


def both(request):
    return HttpResponse("%d %d" % (support.pid(), support.pid("other")))


def none(request):
    return HttpResponse("no query")


def with_a_unit_inside(request):
    before = support.pid()
    persistconn.unit_of_work()(support.pid)()
    return HttpResponse("closed" if support.is_idle() else "kept %d" % (support.pid() - before))


def raising(request):
    support.fetch("INSERT INTO item VALUES ('raised') RETURNING name")
    raise ValueError("a view that fails")


def uncommitted(request):
    from django.db import connection, transaction

    if not support.BEFORE_1_6:
        transaction.set_autocommit(False)
    connection.cursor().execute("INSERT INTO item VALUES ('uncommitted')")
    return HttpResponse("done")


def handler500(request, *args):
    return HttpResponse("failed", status=500)


def handler404(request, *args, **kwargs):
    return HttpResponse("not found", status=404)


urlpatterns = [
    re_path("^pid/$", pid),
    re_path("^zone/$", zone),
    re_path("^tenant/$", tenant),
    re_path("^both/$", both),
    re_path("^none/$", none),
    re_path("^with_a_unit_inside/$", with_a_unit_inside),
    re_path("^raising/$", raising),
    re_path("^uncommitted/$", uncommitted),
]

for name, view in transaction_views.VIEWS.items():
    urlpatterns.append(re_path("^%s/$" % name, view))
