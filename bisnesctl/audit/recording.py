"""Records a command of the tool: at its beginning, so that one that is killed is recorded too, and at its end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from bisnesctl.audit import masking, trail
from bisnesctl.audit.origin import actor, origin
from bisnesctl.audit.record import AuditRecord, Outcome, Source
from bisnesctl.errors import BisnesError, ExitCode
from bisnesctl.health import guard_file
from bisnesctl.masking import MASK
from bisnesctl.settings import Settings, load_partly


@contextlib.contextmanager
def recording(context: typer.Context) -> Iterator[None]:
    """Records the command that runs within it. A record that cannot be stored never prevents the command."""
    record = ended = _record(context)
    home = _settings().home
    file = trail.add(home, record) if home.is_dir() else None  # `init`, and a command in a wrong folder, have no home
    try:
        yield
        ended = record.ended(Outcome.OK)
    except BaseException as error:
        ended = record.ended(*_outcome(error))
        raise
    finally:
        _finish(file, ended)


def _record(context: typer.Context) -> AuditRecord:
    name = context.command_path.partition(" ")[2]
    company = context.params.get("company")
    return AuditRecord(
        *(Source.CLI, actor(), origin(), name, _words(context)),
        company=company if isinstance(company, str) else None,
        outcome=Outcome.UNFINISHED,
    )


def _words(context: typer.Context) -> list[str]:
    """The options and arguments that were given, without secrets."""
    words: list[str] = []
    for parameter in context.command.get_params(context):
        name = parameter.name or ""
        source, value = context.get_parameter_source(name), context.params.get(name)
        if source is not None and source.name == "COMMANDLINE" and value is not None:
            words.extend(_words_of(parameter, value))
    return words


def _words_of(parameter: Any, value: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return [str(masking.masked(_plain(each))) for each in _several(value)]
    option = parameter.opts[-1]
    if parameter.is_flag:
        return [option if value or not parameter.secondary_opts else parameter.secondary_opts[-1]]
    name = option.removeprefix("--")
    secret = masking.is_secret(name) and name != "code"  # the code of an error, not of a signup
    shown = (MASK if secret else str(masking.masked(_plain(each))) for each in _several(value))
    return [word for each in shown for word in (option, each)]


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))


def _outcome(error: BaseException) -> tuple[Outcome, str, str]:
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Outcome.INTERRUPTED, ExitCode.INTERRUPTED.name.lower(), ""
    if isinstance(error, typer.Exit | SystemExit):
        status = error.exit_code if isinstance(error, typer.Exit) else error.code
        return (Outcome.OK, "", "") if not status else (Outcome.FAILED, _code(status), "")
    if isinstance(error, BisnesError):
        return Outcome.FAILED, _code(error.exit_code), masking.text(str(error))
    if isinstance(error, typer.BadParameter):
        return Outcome.FAILED, ExitCode.USAGE.name.lower(), masking.text(error.format_message())
    return Outcome.FAILED, ExitCode.FAILED.name.lower(), masking.text(f"{type(error).__name__}: {error}")


def _code(status: Any) -> str:
    try:
        return ExitCode(status).name.lower()
    except ValueError:
        return ExitCode.FAILED.name.lower()


def _finish(file: Path | None, ended: AuditRecord) -> None:
    settings = _settings()
    stored = trail.replace(file, ended) if file else _add(settings, ended)
    if not stored:
        _store_directly(settings, ended)
    elif not guard_file.is_beating(settings):  # otherwise the guard delivers it
        import psycopg2

        from bisnesctl.audit import delivery

        with contextlib.suppress(BisnesError, psycopg2.Error, OSError):
            delivery.deliver(settings)


def _add(settings: Settings, ended: AuditRecord) -> bool:
    return not _is_deployment(settings) or trail.add(settings.home, ended) is not None


def _is_deployment(settings: Settings) -> bool:
    """Whether there is something here that the command could have changed."""
    return settings.home.is_dir() or settings.env_file.exists()


def _store_directly(settings: Settings, ended: AuditRecord) -> None:
    """Stores a record for which the spool has no place, such as on a full disk."""
    import psycopg2

    from bisnesctl.audit import delivery, store
    from bisnesctl.database import postgres

    try:
        with postgres.connected(settings.database_dsn, timeout=delivery.DATABASE_TIMEOUT_SECONDS) as connection:
            store.insert(connection, [ended])
    except (BisnesError, psycopg2.Error):
        if ended.outcome == Outcome.FAILED:  # its own error says that nothing can be written
            return
        spool = settings.home / trail.FOLDER
        typer.echo(f"warning: this command is not in the audit trail: {spool} cannot be written", err=True)


def _settings() -> Settings:
    return load_partly().with_defaults()
