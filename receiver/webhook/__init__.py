"""Receive webhooks over HTTP: routes, signature, limits, health, metrics, counters and logs.

In: signed request bodies. Out: responses, after the store has committed the event.
"""
