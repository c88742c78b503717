import argparse
import os
import sys

import django

from demo_project.mariadb import NoDriver, PrivateMariaDB, use_driver
from demo_project.postgres import PrivatePostgres

try:
    from urllib.parse import parse_qsl, unquote, urlsplit
except ImportError:  # Python 2
    from urllib import unquote

    from urlparse import parse_qsl, urlsplit

WANTED = (
    "DATABASE_URL must be postgres://user:password@host:port/name or"
    " mysql://user:password@host:port/name"
)
APPLICATION_NAME = "persistconn-demo-{}".format(os.getpid())
POSTGRESQL, MYSQL = "django.db.backends.postgresql", "django.db.backends.mysql"
if django.VERSION < (1, 9):
    POSTGRESQL += "_psycopg2"
ENGINES = {"postgres": POSTGRESQL, "postgresql": POSTGRESQL, "mysql": MYSQL}
#: By the values of the demo's option --database.
SERVERS = {"postgresql": PrivatePostgres, "mariadb": PrivateMariaDB}


def database_from_url(url):
    parts = urlsplit(url)
    try:
        port = str(parts.port or "")
    except ValueError:
        raise SystemExit(WANTED)
    if parts.scheme not in ENGINES:
        raise SystemExit(WANTED)
    engine, options = ENGINES[parts.scheme], dict(parse_qsl(parts.query))
    if engine == MYSQL:
        # Its drivers take no text for a number.
        options = {n: int(v) if v.isdigit() else v for n, v in options.items()}
    else:
        # The demo ends its own connections by this name, and no others.
        options["application_name"] = APPLICATION_NAME
    return {
        "ENGINE": engine,
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": port,
        "OPTIONS": options,
    }


def server_and_database(arguments, url):
    """Return the private server to start, if any, and Django's settings for the database.

    Django before 1.4 loads the backend when it is imported, long before it reads the demo's options.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--database")
    server = SERVERS.get(parser.parse_known_args(arguments)[0].database)
    if url and not server:
        return None, database_from_url(url)
    server = server or PrivatePostgres
    # The rest follows when the server has started.
    return server, database_from_url(server.scheme + ":")


PRIVATE_SERVER, DATABASE = server_and_database(sys.argv[1:], os.environ.get("DATABASE_URL"))
DATABASES = {"default": DATABASE}
if DATABASE["ENGINE"] == MYSQL:
    try:
        use_driver()
    except NoDriver as error:
        raise SystemExit(str(error))

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
