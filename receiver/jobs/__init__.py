"""The background process `callhouse work` and its jobs, each also a command.

In: settings, the database, Retell's API, and files that calls link to. Out: a rolled-up, complete
and backed-up database, stored recordings, and forwarded events. `schedule` computes when a job is
due, `worker` runs it, `status` and `doctor` report. A job's unit of work is small and can be
repeated. No unit holds the write lock longer than 100 ms.
"""
