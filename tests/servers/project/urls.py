from __future__ import absolute_import

import logging

import django
from django import http

from project import views

try:
    from django.urls import re_path
except ImportError:
    try:
        from django.conf.urls import url as re_path
    except ImportError:
        from django.conf.urls.defaults import url as re_path

handler404, handler500 = views.handler404, views.handler500

urlpatterns = [
    re_path("^ready/$", views.ready),
    re_path("^who/$", views.who),
    re_path("^slow/$", views.slow),
    re_path("^stats/$", views.stats),
    re_path("^fork/$", views.fork),
    re_path("^multiprocess/$", views.multiprocess),
]

if hasattr(http, "StreamingHttpResponse"):
    from project import streams

    urlpatterns += [
        re_path("^events/$", streams.stream),
        re_path("^events/allow/$", streams.allow),
        re_path("^file/$", streams.file),
    ]

if django.VERSION >= (3, 1):
    from project import async_cancelled, async_storm, async_streams, async_views, cancelled, storm

    urlpatterns += [
        re_path("^async/who/$", async_views.who),
        re_path("^async/stats/$", async_views.stats),
        re_path("^async/slow/$", async_views.slow),
        re_path("^async/nap/$", async_views.nap),
        re_path("^async/stream/$", async_views.stream),
        re_path("^stream/$", async_views.sync_stream),
        re_path("^async/events/$", async_streams.stream),
    ]
    storm_views = dict(storm.VIEWS, **async_storm.VIEWS)
    urlpatterns.append(re_path("^storm/$", lambda request: views.answer(sorted(storm_views))))
    urlpatterns.append(re_path("^storm/collect/$", storm.collect))
    urlpatterns += [re_path("^storm/%s/$" % name, storm_views[name]) for name in storm_views]

    slow_views = dict(storm_views, **dict(cancelled.VIEWS, **async_cancelled.VIEWS))
    urlpatterns.append(re_path("^cancelled/$", lambda request: views.answer(sorted(slow_views))))
    logging.getLogger("django.request").addHandler(async_cancelled.AskingHandler())
    urlpatterns += [
        re_path("^at/once/$", async_cancelled.at_once),
    ]
    names = "missing refused holds_a_transaction holds_a_cursor reads_on".split()
    urlpatterns += [re_path("^async/%s/$" % name, getattr(async_cancelled, name)) for name in names]
    urlpatterns += [
        re_path("^cancelled/%s/$" % name, cancelled.counted(slow_views[name]))
        for name in slow_views
    ]
