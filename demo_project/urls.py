from demo_project import views

try:
    from django.urls import re_path
except ImportError:  # before Django 2.0
    try:
        from django.conf.urls import url as re_path
    except ImportError:  # before Django 1.4
        from django.conf.urls.defaults import url as re_path

handler500 = "demo_project.views.server_error"

urlpatterns = [
    re_path(r"^product/(\d+)$", views.product),
    re_path(r"^order/([\w-]+)$", views.order),
    re_path(r"^refused/([\w-]+)$", views.refused),
]
