"""A Django project for the servers: it answers which process and which session served a request."""
