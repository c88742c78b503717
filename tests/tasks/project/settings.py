"""The project's settings. Its database, its apps and its broker come from the environment."""

from __future__ import absolute_import

import json
import os

import django

DATABASES = {"default": json.loads(os.environ["TASKS_DATABASE"])}
REDIS = os.environ["TASKS_REDIS"]
APPS = os.environ["TASKS_APPS"].split()


def can_be_imported(name):
    try:
        __import__(name)
    except ImportError:
        return False
    except Exception:
        pass  # it needs these settings
    return True


if "all" in APPS:
    APPS = ["django_celery_results", "django_celery_beat", "django_q", "django_tasks_db"]
    APPS = [name for name in APPS + ["django_dramatiq"] if can_be_imported(name)]

INSTALLED_APPS = ["django.contrib.contenttypes", "project"] + APPS
MIDDLEWARE = []
MIDDLEWARE_CLASSES = ["persistconn.middleware.Install"] if "persistconn" in APPS else []
ROOT_URLCONF = "project.urls"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "not secret"
USE_TZ = True
USE_I18N = False
DEBUG = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

if "TASKS_MAX_CONNS" in os.environ:
    PERSISTCONN_MAX_CONNS = int(os.environ["TASKS_MAX_CONNS"])
PERSISTCONN_TIMEOUT = float(os.environ.get("TASKS_TIMEOUT", 5))

RQ_QUEUES = {"default": {"URL": REDIS + "/1"}}
HUEY = {
    "huey_class": "huey.RedisHuey",
    "name": "project",
    "immediate": False,
    "url": REDIS + "/2",
    "consumer": {"workers": 4, "worker_type": "thread"},
}
DRAMATIQ_BROKER = {
    "BROKER": "dramatiq.brokers.redis.RedisBroker",
    "OPTIONS": {"url": REDIS + "/3"},
    # The middleware of django_dramatiq's own example.
    "MIDDLEWARE": [
        "dramatiq.middleware.AgeLimit",
        "dramatiq.middleware.TimeLimit",
        "dramatiq.middleware.Callbacks",
        "dramatiq.middleware.Retries",
        "django_dramatiq.middleware.DbConnectionsMiddleware",
    ],
}
DRAMATIQ_AUTODISCOVER_MODULES = ["dramatiq_jobs"]
Q_CLUSTER = {"name": "project", "workers": 2, "orm": "default", "poll": 0.05, "bulk": 10}
# A task whose delivery a kill has interrupted is delivered again after so many seconds.
Q_CLUSTER.update({"timeout": 5, "retry": 10})
if "django_tasks_db" in APPS:
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

if django.VERSION < (1, 6):
    USE_TZ = False
