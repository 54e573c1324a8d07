"""The people who may sign in to the dashboard: roles, passwords, one-time codes, invitations and sign-ins.

They are in a file of the deployment, so that an operator can sign in while PostgreSQL is down (`docs/decisions`).
"""
