"""HTTP towards clients, the same on every port: limits, deadlines, the bridge to WSGI, shares of the threads."""
