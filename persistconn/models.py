"""The entry point before Django 1.7 for management commands and other code that loads all models:
Django then imports this module, as the app is in INSTALLED_APPS.
"""

from persistconn import control, django_versions

if django_versions.APPS_ARE_MERELY_IMPORTED:
    control.install()
