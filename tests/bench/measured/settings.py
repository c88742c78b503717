"""The settings of one contender, which is chosen by an environment variable."""

from __future__ import absolute_import

import json
import os

CONTENDER = json.loads(os.environ["BENCH_CONTENDER"])

SECRET_KEY = "nothing here is secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "measured.urls"
USE_TZ = True
DATABASES = {"default": CONTENDER["database"]}
INSTALLED_APPS = ["measured"] + CONTENDER["apps"]
MIDDLEWARE = []
MIDDLEWARE_CLASSES = CONTENDER["middleware"]
globals().update(CONTENDER["settings"])

try:
    import pymysql
except ImportError:
    pass
else:
    # It is installed only where it takes the place of MySQLdb.
    pymysql.install_as_MySQLdb()
