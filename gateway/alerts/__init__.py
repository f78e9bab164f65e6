"""Alerts: which troubles become one, how long they last, and who has been told of them."""
