from __future__ import absolute_import

from django.db import models


class Session(models.Model):
    """The session that answers."""

    pid = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "project"
        db_table = "session"
        managed = False
