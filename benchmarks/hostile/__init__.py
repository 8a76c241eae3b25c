"""Hostile inputs by name, sent to a real server while another client asks small questions beside them."""
