"""Retell's API: the client, placing calls, sync and coverage, webhook URLs.

In: settings, call lists, API responses. Out: observations for the store, and reports.
"""
