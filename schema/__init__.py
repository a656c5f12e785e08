"""What a call is: events, the merge rule, rows and tables. Pure: no I/O, no Flask, no database."""
