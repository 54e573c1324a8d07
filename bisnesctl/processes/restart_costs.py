"""The costs of a restart or reload: the service that is missing meanwhile."""

#: By the program of the instance.
COSTS = {
    "api": "no request is refused; with one instance, requests wait until it is back",
    "meta": "no webhook is refused; they wait until it is back",
    "meta-worker": "it finishes its messages; others send meanwhile, or messages wait a few seconds",
    "events": "it finishes its calls; events wait a few seconds",
    "wwebjs": "the sessions continue; requests about them wait until it is back",
    "wwebjs-session": "its messages wait until its browser is back; there are never two sessions of a number",
    "legacy": "no request is refused; everything waits until it is back",
    "dashboard": "its pages load again when it is back",
    "alerts": "incidents are noticed when it is back",
    "guard": "a process that ends meanwhile is started again when it is back",
    "postgres": "the API answers 503 and nothing is sent until it is back",
    "redis": "messages leave up to a second later until it is back",
    "sandbox": "the simulated messages are lost",
}
