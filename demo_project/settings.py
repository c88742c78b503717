import os

import django

try:
    from urllib.parse import parse_qsl, unquote, urlsplit
except ImportError:  # Python 2
    from urllib import unquote

    from urlparse import parse_qsl, urlsplit

WANTED = "DATABASE_URL must be postgres://user:password@host:port/name"
APPLICATION_NAME = "persistconn-demo-{}".format(os.getpid())
ENGINE = "django.db.backends.postgresql"
if django.VERSION < (1, 9):
    ENGINE += "_psycopg2"


def database_from_url(url):
    parts = urlsplit(url)
    try:
        port = str(parts.port or "")
    except ValueError:
        raise SystemExit(WANTED)
    if url and parts.scheme not in ("postgres", "postgresql"):
        raise SystemExit(WANTED)
    return {
        "ENGINE": ENGINE,
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": port,
        # The demo ends its own connections by this name, and no others.
        "OPTIONS": dict(parse_qsl(parts.query), application_name=APPLICATION_NAME),
    }


DATABASES = {"default": database_from_url(os.environ.get("DATABASE_URL", ""))}

INSTALLED_APPS = ["persistconn", "demo_project.shop"]
PERSISTCONN_MAX_AGE = 600

MIDDLEWARE = []
if django.VERSION < (1, 10):
    # Needed before 1.7, where nothing calls an app when Django starts.
    MIDDLEWARE_CLASSES = ["persistconn.middleware.Install"]

ROOT_URLCONF = "demo_project.urls"
ALLOWED_HOSTS = ["127.0.0.1"]
SECRET_KEY = "for this demo only"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

# One view raises on purpose.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"null": {"class": "logging.NullHandler"}},
    "loggers": {"django.request": {"handlers": ["null"], "propagate": False}},
}
