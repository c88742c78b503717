from __future__ import absolute_import

import json
import os
import time
import traceback

from django.http import HttpResponse

from project import forks, sessions


def answer(values):
    return HttpResponse(json.dumps(values), content_type="application/json")


def ready(request):
    return answer({"process": os.getpid()})


def who(request):
    return answer(sessions.ask(request.GET.get("tag", ""), request.GET.get("seconds", 0)))


def slow(request):
    """Hold a session without a query that could be cancelled."""
    values = sessions.ask(request.GET.get("tag", ""))
    time.sleep(float(request.GET["seconds"]))
    return answer(values)


def stats(request):
    import persistconn

    return answer(persistconn.stats().get("default", {}))


def fork(request):
    """Fork in the middle of a request, and use the database on both sides."""
    before = sessions.backend()
    childs, code = forks.fork(forks.children_use_it, "os._exit")
    return answer({"before": before, "after": sessions.backend(), "child": childs})


def multiprocess(request):
    before = sessions.backend()
    pool = forks.context.Pool(2)
    try:
        children = pool.map(ask_in_child, range(8))
    finally:
        pool.close()
        pool.join()
    return answer({"before": before, "after": sessions.backend(), "children": children})


def ask_in_child(number):
    try:
        return sessions.ask(str(number))
    finally:
        sessions.end_of_work()


def handler500(request, *args):
    traceback.print_exc()
    return HttpResponse("failed", status=500)


def handler404(request, *args, **kwargs):
    if "asks" in request.GET:
        sessions.ask()
    return HttpResponse("not found", status=404)
