"""The door before Django 1.7: INSTALLED_APPS, for management commands and whatever loads models."""

from __future__ import absolute_import

from persistconn import control, django_versions

if django_versions.APPS_ARE_MERELY_IMPORTED:
    control.install()
