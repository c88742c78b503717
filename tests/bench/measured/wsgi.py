"""Django as its users start it, with the changes of the contender."""

from __future__ import absolute_import

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "measured.settings")


def load():
    """Import all apps. Django before 1.7 does so when somebody first asks for all models."""
    import django

    if hasattr(django, "setup"):
        django.setup()
    else:
        from django.db.models import loading

        loading.get_models()


def hand_patch():
    """Do what people do by hand: keep the connection open at the end of a request, and no more."""
    from django import db
    from django.core import signals

    receiver = getattr(db, "close_old_connections", None) or db.close_connection
    for signal in (signals.request_started, signals.request_finished):
        signal.disconnect(receiver)


def make_application():
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler

    load()
    if settings.CONTENDER["hand_patch"]:
        hand_patch()
    return WSGIHandler()
