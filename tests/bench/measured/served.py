"""The application that gunicorn serves."""

from __future__ import absolute_import

from measured.wsgi import make_application

application = make_application()
