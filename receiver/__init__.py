"""Receive, store, fetch, export and browse calls: a package for each.

In: webhooks, Retell's API, the command line. Out: tables, pages and files.
"""
