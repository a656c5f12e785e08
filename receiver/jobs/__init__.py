"""The background process `callhouse work` and its jobs, each also a command.

In: settings, the database, Retell's API, and files that calls link to. Out: a database that is
rolled up, complete and backed up, kept recordings, and forwarded events. `schedule` says when a job
is due, `worker` runs it, `status` and `doctor` say how all is. A job's unit of work is small and
may be repeated; none holds the write lock longer than 100 ms.
"""
