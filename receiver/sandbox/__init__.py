"""A local Retell to develop against: its API, and webhooks about invented calls.

In: requests to the API, a seed, and the data files. Out: responses and signed webhooks.
"""
