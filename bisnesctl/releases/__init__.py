"""Releases: numbered virtual environments side by side below the home, one of which is current.

    releases/0007/          a virtual environment with `release.json` and `lock.txt`
    releases/current        a link to the one that runs
    releases/state.json     what became of each
    releases/switch.json    the switch that is under way

Without the link, a checkout runs: it counts as release 0. Programs run by the path of their own release, never by the
link, so one that is restarted while a switch is under way does not change its release by that. The link is for everyone
else: systemd, cron and the operator's PATH. It is moved when everything runs the new release and works.
"""
