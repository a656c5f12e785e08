"""The model of a call: events, the merge rule, rows and tables. Pure: no I/O, no Flask, no
database."""
