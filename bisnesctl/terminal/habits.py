"""The words of other process managers, and their meaning here."""

#: Commands of other process managers → ours with the same purpose. Those that a group has are suggested.
HABITS = {
    "dash": ("monit", "status"),
    "dashboard": ("monit", "status"),
    "delete": ("remove",),
    "desc": ("describe",),
    "describe": ("list",),
    "event": ("events",),
    "history": ("events", "audit"),
    "info": ("describe", "list"),
    "inspect": ("describe", "list"),
    "ls": ("list",),
    "log": ("logs",),
    "htop": ("monit", "status"),
    "rm": ("remove", "revoke"),
    "run": ("start",),
    "show": ("list",),
    "tail": ("logs",),
    "top": ("monit", "status"),
    "up": ("start",),
    "down": ("stop",),
    "version": ("--version",),
}
#: Commands of PM2 that ours do not need, in small letters → what to type instead, and why.
ANSWERS = {
    "attach": "`{path} logs NAME -f` follows a program; none of ours reads what is typed.",
    "cleardump": "No list is saved, so none can be cleared: `.env` says what `{path} start` starts.",
    "deepupdate": "`{path} reload` replaces what runs by the release on the disk, and refuses no request.",
    "delete": "`{path} stop NAME` stops a program until you start it, and `{path} bots remove` removes a number.",
    "dump": "Nothing needs saving: `{path} save` says why.",
    "ecosystem": "`{path} init` writes `.env`, which replaces ecosystem.config.js.",
    "env": "`{path} describe NAME --env` shows the variables of a process, with secrets masked.",
    "flush": "Logs are rotated and limited by themselves: 20 MB and 5 files each. `{path} logs --since 10m` skips what "
    "is older.",
    "gracefulreload": "`{path} reload` replaces one instance after the other, and refuses no request.",
    "id": "Processes have names instead of ids: `{path} status` lists them.",
    "kill": "`{path} stop` stops everything, supervisord included.",
    "imonit": "`{path} monit` shows processes, bots, events and logs.",
    "pid": "`{path} describe NAME` shows the pid of a process, and `{path} status --columns name,pid` that of each.",
    "ping": "`{path} health` says whether everything works, and starts nothing.",
    "reloadlogs": "supervisord rotates the logs, so no program opens its log again; `{path} logs -f` follows them all.",
    "report": "`{path} doctor` checks the machine, the servers and the settings.",
    "reset": "Restarts are counted by time, so nothing is reset: `{path} status` shows those of ten minutes, "
    "`{path} events NAME` each with its reason.",
    "resurrect": "`{path} start` starts everything as it was started last, and `{path} startup` does so at boot.",
    "sendsignal": "Programs need no signals: `{path} reload NAME` uses new settings, `{path} log-level NAME debug` "
    "changes the log level, `{path} stop NAME` ends it.",
    "serve": "`{path} render --nginx` prints the configuration of a reverse proxy, which can serve files too.",
    "startorreload": "`{path} reload` replaces what runs by the release and the settings on the disk.",
    "startorrestart": "`{path} start` starts what is not running, and `{path} restart NAME` restarts a program.",
    "sysinfos": "`{path} status` shows load, memory and disks above its table.",
    "unstartup": "`{path} startup --remove` ends the start at boot.",
    "update": "`{path} reload` uses a new release; the supervisor itself needs `{path} stop` and `{path} start`.",
    "updatepm2": "`{path} reload` uses a new release; the supervisor itself needs `{path} stop` and `{path} start`.",
    "web": "`{path} status --json` and the metrics of the HTTP API replace a page: `{path} help monitor` says more.",
}
#: Commands of PM2 with the meaning of one of ours → the words to run.
ALIASES = {
    "l": ("status",),
    "list": ("status",),
    "ls": ("status",),
    "ps": ("status",),
    "jlist": ("status", "--json"),
    "prettylist": ("status", "--json"),
    "slist": ("status", "--json"),
}
#: Options of PM2's `logs` that ours does not need → what to type instead, and why.
LOG_OPTION_ANSWERS = {
    "--format": "lines are printed as they are stored; `bisnesctl logs --json` prints JSON",
    "--highlight": "`bisnesctl logs --grep REGEX` finds lines",
    "--merge-logs": "`bisnesctl logs` merges the logs of all instances by time",
    "--nostream": "it is not needed: `bisnesctl logs` prints the last lines and ends; `-f` follows",
    "--out": "`bisnesctl logs` shows both outputs, `bisnesctl logs --err` standard error alone",
    "--raw": "it is not needed: lines are printed as the program wrote them; `bisnesctl logs --json` has their parts",
    "--timestamp": "lines have their times already",
}
#: The same for the commands that begin and end programs.
PROGRAM_OPTION_ANSWERS = {
    "--attach": "`bisnesctl logs NAME -f` follows a program",
    "--cron": "programs run on; for jobs at fixed times see `bisnesctl cron show`",
    "--cron-restart": "programs run on; for jobs at fixed times see `bisnesctl cron show`",
    "--env": "`.env` has the settings; BISNES_ENV names another file",
    "--force": "it is not needed: a start begins what does not run, and nothing twice",
    "-f": "it is not needed: a start begins what does not run, and nothing twice",
    "--instances": "`bisnesctl scale api=4` changes the number of instances, and remembers it",
    "-i": "`bisnesctl scale api=4` changes the number of instances, and remembers it",
    "--interpreter": "programs run with the Python of this installation",
    "--log": "`bisnesctl describe NAME` names the files of a program's log",
    "--max-memory-restart": "each program has a limit: `bisnesctl status` shows it",
    "--name": "programs have fixed names: `bisnesctl status` lists them",
    "-n": "programs have fixed names: `bisnesctl status` lists them",
    "--no-autorestart": "`bisnesctl stop NAME` keeps a program stopped until you start it",
    "--no-daemon": "`bisnesctl start --multiprocess --foreground` stays in the foreground",
    "--silent": "redirect standard error: results alone go to standard output",
    "-s": "redirect standard error: results alone go to standard output",
    "--time": "lines have their times already",
    "--update-env": "it is not needed: a start, a restart and a reload use the settings of this moment",
    "--watch": "`bisnesctl reload` uses a changed release, without an interruption",
}
#: Command → its answers to options of PM2.
OPTION_ANSWERS = {
    "logs": LOG_OPTION_ANSWERS,
    **dict.fromkeys(("start", "stop", "restart", "reload", "scale"), PROGRAM_OPTION_ANSWERS),
}
#: How similar a command must be to a misspelt one, or an option, to be suggested, from 0 to 1.
SIMILARITY = 0.7
