"""How calls are received, stored, fetched, exported and browsed. A room for each.

In: webhooks, Retell's API, the command line. Out: tables, pages and files.
"""
