"""Migrations, views and rollups as SQL files, and the macros written into them."""
