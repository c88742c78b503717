from __future__ import absolute_import

from django.db import models


class Good(models.Model):
    name = models.CharField(max_length=50)
    sold = models.IntegerField()

    class Meta:
        app_label = "measured"
