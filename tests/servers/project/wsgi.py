from __future__ import absolute_import

import os

from project import sessions

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

try:
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
except ImportError:
    from django.core.handlers.wsgi import WSGIHandler

    application = WSGIHandler()

if "SERVERS_QUERY_AT_IMPORT" in os.environ:
    sessions.set_up()
    getattr(sessions, os.environ["SERVERS_QUERY_AT_IMPORT"])()
