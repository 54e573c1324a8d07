"""`bisnesctl users`: the people who may sign in to the dashboard."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, reads
from bisnesctl.cli.app import USE, AnyCompany, AsJson, Commands, app, example, usable_settings
from bisnesctl.errors import UsageError
from bisnesctl.people.roles import Role

if TYPE_CHECKING:
    from rich.text import Text

    from bisnesctl.people.store import PeopleStore, Person
    from bisnesctl.settings import Settings

users = typer.Typer(cls=Commands, no_args_is_help=True, help="Invite, list and remove the people of the dashboard.")
app.add_typer(users, name="users", rich_help_panel=USE)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name with which the person signs in.")]
_ROLE_HELP = (
    "viewer sees everything; operator also changes; administrator also sees keys, settings and the audit trail."
)


@users.command(
    epilog=example("bisnesctl users add aisha --role operator", "bisnesctl users add shop --role viewer --company 0128")
)
@changes
def add(
    name: Name,
    role: Annotated[Role, typer.Option("--role", help=_ROLE_HELP)] = Role.VIEWER,
    company: AnyCompany = None,
    json: AsJson = False,
) -> None:
    """Add a person and print the invitation with which the person sets a password. It is valid for 48 hours, once."""
    settings, store, known = _open(name)
    code = store.add(known, _checked(role, company), company)
    _print_invitation(settings, known, code, json)


@users.command(epilog=example("bisnesctl users invite aisha"))
@changes
def invite(name: Name, json: AsJson = False) -> None:
    """Print a new invitation for a person, whose password or one-time codes were lost."""
    settings, store, known = _open(name)
    _print_invitation(settings, known, store.invite(known), json)


@users.command("list", epilog=example("bisnesctl users list", "bisnesctl users list --json"))
@reads
def list_users(json: AsJson = False) -> None:
    """List the people, their roles, and when they signed in last."""
    from bisnesctl.people.store import PeopleStore
    from bisnesctl.terminal import output, tables
    from bisnesctl.terminal.tables import Column

    people = PeopleStore(usable_settings().home).people()
    if json:
        output.print_json([_plain(each) for each in people])
        return
    if not people:
        output.say("there is nobody yet: [b]bisnesctl users add NAME --role administrator[/] invites somebody")
        return
    columns = [Column(each) for each in ("name", "role", "company", "one-time codes", "last sign-in")]
    tables.show(output.out(), columns, [_row(each) for each in people])


@users.command("change", epilog=example("bisnesctl users change aisha --role viewer"))
@changes
def change(
    name: Name,
    role: Annotated[Role | None, typer.Option("--role", help=_ROLE_HELP, show_default=False)] = None,
    company: AnyCompany = None,
    all_companies: Annotated[bool, typer.Option("--all-companies", help="Let the person see every company.")] = False,
) -> None:
    """Give a person another role or company. It counts at once."""
    from bisnesctl.terminal import output

    if role is None and company is None and not all_companies:
        raise UsageError("say what changes: --role, --company or --all-companies")
    if company is not None and all_companies:
        raise UsageError("--company and --all-companies contradict each other")
    _, store, known = _open(name)
    person = store.get(known)
    wanted = None if all_companies else company or person.company_id
    store.change(known, _checked(role or person.role, wanted), wanted)
    output.say(f"{known} is {(role or person.role).value} for {_seen(wanted)}")


@users.command(epilog=example("bisnesctl users remove aisha"))
@changes
def remove(name: Name) -> None:
    """Remove a person, who is signed out at once."""
    from bisnesctl.terminal import output

    _, store, known = _open(name)
    store.remove(known)
    output.say(f"removed {known}")


@users.command("sign-out", epilog=example("bisnesctl users sign-out aisha"))
@changes
def sign_out(name: Name) -> None:
    """Sign a person out in every browser."""
    from bisnesctl.terminal import output

    _, store, known = _open(name)
    store.get(known)
    ended = store.end_all(known)
    output.say(f"{known} was signed out in {ended} {'browser' if ended == 1 else 'browsers'}")


@users.command(epilog=example("bisnesctl users unlock aisha"))
@changes
def unlock(name: Name) -> None:
    """Let a person try again at once after too many wrong passwords."""
    from bisnesctl.terminal import output

    _, store, known = _open(name)
    store.get(known)
    store.forget_failures(known)
    output.say(f"{known} may sign in again")


def _open(name: str) -> "tuple[Settings, PeopleStore, str]":
    from bisnesctl.people.store import PeopleStore, normal_name

    settings = usable_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    return settings, PeopleStore(settings.home), normal_name(name)


def _checked(role: Role, company: str | None) -> Role:
    if company is not None and role is Role.ADMINISTRATOR:
        raise UsageError("an administrator sees every company: leave --company out, or choose --role operator")
    return role


def _seen(company: str | None) -> str:
    return "all companies" if company is None else f"company {company}"


def _print_invitation(settings: "Settings", name: str, code: str, json: bool) -> None:
    from bisnesctl.people.store import INVITATION_HOURS
    from bisnesctl.terminal import output

    # The code is behind the #, which a browser sends to no server, so that it is in no log.
    link = f"{settings.dashboard_address}/invitation#{code}"
    if json:
        output.print_json({"name": name, "link": link, "code": code, "hours": INVITATION_HOURS})
    else:
        output.result(link)
    output.say(f"give this link to {name}: it is valid once, for {INVITATION_HOURS} hours")
    if not settings.enable_dashboard:
        output.say("the dashboard is off: set ENABLE_DASHBOARD=true in .env and run [b]bisnesctl start[/]")


def _row(person: "Person") -> "list[Text]":
    from rich.text import Text

    from bisnesctl import moments

    last = "never"
    if person.signed_in_at is not None:
        last = moments.shown(person.signed_in_at)
    elif person.invited_until is not None:
        last = f"invited until {moments.shown(person.invited_until)}"
    codes = "yes" if person.has_codes else "no"
    return [Text(each) for each in (person.name, person.role.value, person.company_id or "all", codes, last)]


def _plain(person: "Person") -> dict[str, object]:
    from bisnesctl import moments

    def moment(seconds: float | None) -> str | None:
        return None if seconds is None else moments.iso(seconds)

    return {
        "name": person.name, "role": person.role.value, "company": person.company_id,
        "has_password": person.has_password, "one_time_codes": person.has_codes,
        "created_at": moment(person.created_at), "signed_in_at": moment(person.signed_in_at),
        "invited_until": moment(person.invited_until),
    }  # fmt: skip
