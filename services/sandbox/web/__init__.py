"""A simulated WhatsApp Web: a page on which the real wa-js runs, and the network behind the page."""
