"""A backend of Django that asks for a token for each connection, as backends of clouds do."""
