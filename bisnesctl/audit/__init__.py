"""The audit trail: who did what, when, from where, and with which outcome.

Every source (commands, the API, the guard, the manager) leaves a file in the spool; the guard, or a command while no
guard runs, delivers the files to the table `audit_record`. So nothing that is recorded waits for the database.
"""
