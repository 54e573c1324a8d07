"""Simulators of the networks that the product sends through: `bisnesctl start --multiprocess --sandbox`.

Each simulated network has a room: `meta` for Meta's Graph API and 360dialog, `web` for WhatsApp Web. The rooms import
nothing from each other. A room has the same parts under the same names:

- `schema`: the tables of its SQLite file, in which its state survives a SIGKILL;
- `blueprints.register`: adds its HTTP routes to the application, those of the provider's API as well as its controls
  below /_sandbox/, with which people and tests inject messages and faults;
- `page`: the page for people, below /_sandbox/ too;
- a class that holds its state: `meta.simulator.Simulator`, `web.network.Network`.

Shared modules lie beside the rooms: `database`, `rules` for injected faults, `control_requests`, `control_page`.
`__main__` builds the networks, `app` makes one application of them, `server` serves it. Another network is a new room,
a line in `__main__` and a line in `app`.
"""
