"""The jobs that run beside the receiver, each also a command.

In: the database, Retell's API, and files that calls link to. Out: kept recordings, and rows that
say where they are. A job's unit of work is small and may be repeated; none holds the write lock
longer than 100 ms.
"""
