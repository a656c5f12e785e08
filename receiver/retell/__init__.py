"""Talk to Retell: the API client, placing calls, sync and coverage, webhook URLs.

In: settings, call lists and API responses. Out: observations for the store, and reports.
"""
