"""The project's settings. Its database and persistconn's settings come from the environment."""

from __future__ import absolute_import

import json
import os

database = json.loads(os.environ["SERVERS_DATABASE"])
if "SERVERS_NAMED" in os.environ:
    # Without --preload each worker imports this.
    database["OPTIONS"] = dict(database["OPTIONS"], application_name="worker %d" % os.getpid())
# Two aliases of one database, each with sessions of its own.
DATABASES = {"default": database, "other": dict(database)}
INSTALLED_APPS = ["persistconn"]
MIDDLEWARE = []
MIDDLEWARE_CLASSES = ["persistconn.middleware.Install"]
ROOT_URLCONF = "project.urls"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "not secret"
TIME_ZONE = "America/Chicago"
USE_TZ = False
USE_I18N = False
DEBUG = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

globals().update(json.loads(os.environ.get("SERVERS_SETTINGS", "{}")))
