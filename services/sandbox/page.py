"""The simulator's page for people: conversations as the recipients would see them, and the behaviours in force."""

import time
from collections import defaultdict
from typing import Any

from jinja2 import Environment

from services.sandbox.behaviour import Behaviour

_PAGE = Environment(autoescape=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sandbox: Graph API</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 0 0 .5rem }
section { border: 1px solid #8886; border-radius: .6rem; padding: .8rem 1rem; margin: 1rem 0 }
.chats { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem }
.chats section { margin: 0 }
p.text { background: #25d36622; border-radius: .5rem; padding: .4rem .6rem; margin: .5rem 0 0;
         white-space: pre-wrap; overflow-wrap: anywhere }
p.refused { background: #e0444422 }
small { opacity: .7 } code { font-size: .85rem; overflow-wrap: anywhere }
details { margin: 1rem 0 } dt { float: left; clear: left; width: 11rem } dd { margin-left: 12rem }
</style>
</head>
<body>
<h1>Graph API simulator</h1>
<p>The last {{ total }} messages, newest first in each chat. {{ waiting }} status reports are not delivered yet.
The same as JSON: <a href="messages">messages</a>, <a href="behaviour">behaviours</a>.</p>
{% if behaviours %}
<section><h2>Behaviours in force</h2>
{% for rule in behaviours %}<div><code>{{ rule }}</code></div>{% endfor %}
</section>
{% endif %}
<details><summary>How to make it misbehave</summary>
<p>Put a rule in force: <code>curl -d '{"error_code": 131056, "times": 3}' {{ url }}behaviour</code><br>
Take all rules back: <code>curl -X DELETE {{ url }}behaviour</code><br>
Forget the messages as well: <code>curl -X POST {{ url }}reset</code></p>
<dl>
{% for name, field in fields.items() %}<dt><code>{{ name }}</code></dt><dd>{{ field.description }}</dd>
{% endfor %}
</dl>
</details>
<div class="chats">
{% for (number, recipient), messages in chats.items() %}
<section><h2>+{{ recipient or "?" }} <small>from number {{ number }}</small></h2>
{% for each in messages %}
<p class="text{{ '' if each.wamid else ' refused' }}">{{ each.text or "(not readable)" }}</p>
<small>{{ each.clock }} · {{ each.reported or ("taken" if each.wamid else "answered with " + each.answer) }}</small>
{% endfor %}
</section>
{% else %}
<p>Nothing came yet. Send a message: <code>bisnesctl send --help</code></p>
{% endfor %}
</div>
</body>
</html>
""")


def render(url: str, latest: list[dict[str, Any]], behaviours: list[Behaviour], waiting: int) -> str:
    """The page at `url`, as HTML. `latest`: messages as the store lists them; `waiting`: reports not yet delivered."""
    chats = defaultdict(list)
    for message in latest:
        clock = time.strftime("%H:%M:%S", time.localtime(message["at"]))
        chats[message["phone_number_id"], message["to"]].append(message | {"clock": clock})
    rules = [rule.model_dump_json(exclude_defaults=True) for rule in behaviours]
    fields = Behaviour.model_fields
    return _PAGE.render(url=url, chats=chats, behaviours=rules, waiting=waiting, total=len(latest), fields=fields)
