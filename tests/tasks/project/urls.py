from __future__ import absolute_import

from django.http import HttpResponse

from project import units

try:
    from django.urls import re_path
except ImportError:
    from django.conf.urls import url as re_path


def ready(request):
    return HttpResponse("ready")


def unit(request, number, seconds):
    units.unit(int(number), float(seconds))
    return HttpResponse("done")


urlpatterns = [re_path(r"^ready/$", ready), re_path(r"^(\d+)/([\d.]+)/$", unit)]
