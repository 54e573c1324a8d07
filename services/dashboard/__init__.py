"""The dashboard: pages for operators and support people, made on the server.

`service` serves them and their live updates, `access` knows who may open what, `rendering` and `texts` make the HTML,
`sources` collects what the pages show, `command_runs` runs the tool for what they change. Each page is a module of
`pages` and a template.
"""
