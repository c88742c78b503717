from __future__ import absolute_import

from measured import views

try:
    from django.urls import re_path
except ImportError:
    from django.conf.urls import url as re_path

urlpatterns = [
    re_path("^one/$", views.one),
    re_path("^ten/$", views.ten),
    re_path("^write/$", views.write),
]
