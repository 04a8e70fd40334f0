"""The command line: one command for each entry point, with the options of ``kdops.config``.

It imports nothing heavy, so ``kdops --help`` and the answer to a mistake come at once. A mistake is reported in
one line on stderr and ends with exit code 2; any other failure ends with 1.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from kdops import __version__
from kdops.cli import browse, check_data, outputs, probe, register
from kdops.cli import registry as care
from kdops.cli import ship as shipping
from kdops.cli.launch import fix_environment, launch, working_folder
from kdops.cli.process import configure_process
from kdops.cli.signals import end_with_parent, interruptible
from kdops.cli.standard_streams import lasting_output
from kdops.config.parameters import ENTRY_POINTS, MAIN, Parameter
from kdops.config.parsing import whole
from kdops.config.settings import Settings
from kdops.errors import KdopsError, UsageError, plain_line
from kdops.store.liveness import note_error
from kdops.utils.quiet import ASKED_IN_A_STUDY, server_patience
from kdops.utils.secrets import redact_secrets


class Command(TyperCommand):
    """A command that takes ``--fresh`` for ``--fresh true``, and refuses an option that is given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; of an option given twice the last would silently win."""
        args = self._with_values(args)
        values, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            if option.name != "help" and given.count(option) > 1:
                advice = f"is given more than once; give it once (with mlflow run, as -P {option.name}=...)"
                raise UsageError(option.name, values[option.name], advice)
        return super().parse_args(ctx, args)

    def _with_values(self, args: list[str]) -> list[str]:
        """Return the arguments with ``true`` after each switch that stands without a value."""
        switches = {name for option in self.params if option.default in ("true", "false") for name in option.opts}
        takes_words = any(option.param_type_name == "argument" for option in self.params)
        written: list[str] = []
        for argument, following in zip_longest(args, args[1:], fillvalue="--"):
            written.append(argument)
            is_file = takes_words and os.path.exists(following)
            if argument in switches and (following.startswith("--") or is_file):
                written.append("true")
        return written


def _application() -> typer.Typer:
    # Plain text rather than boxes: quick, and each option stays on lines that grep finds.
    return typer.Typer(name="kdops", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add(application: typer.Typer, entry_point: str, body: Callable[[dict[str, str]], object], name: str = "") -> None:
    """Add a command whose options are the parameters of the entry point, all of them text."""
    found = ENTRY_POINTS[entry_point]
    _add_command(application, name or entry_point, found.help, found.parameters(), body)


def _add_command(
    application: typer.Typer,
    name: str,
    about: str,
    parameters: Iterable[Parameter],
    body: Callable[[dict[str, str]], object],
    arguments: Iterable[tuple[Parameter, str]] = (),
) -> None:
    """Add a command.

    Args:
        application: what it is added to.
        name: what it is called.
        parameters: its options.
        body: called with the text of each argument and option.
        arguments: what is given without a name, each with the word that the help has for it.
    """

    def command(**given: str) -> object:
        return body(given)

    command.__doc__ = about
    places = {p.name: typer.Argument(help=p.help, metavar=word) for p, word in arguments}
    places |= {p.name: typer.Option(p.default, _dashed(p.name), help=p.help, metavar="TEXT") for p in parameters}
    vars(command)["__signature__"] = inspect.Signature(
        [
            inspect.Parameter(own, inspect.Parameter.KEYWORD_ONLY, default=place, annotation=str)
            for own, place in places.items()
        ]
    )
    application.command(name, cls=Command)(command)


def _launcher(entry_point: str) -> Callable[[dict[str, str]], int]:
    return lambda given: launch(entry_point, given)


def add_commands(application: typer.Typer, bodies: Sequence[Callable[..., None]]) -> None:
    """Add commands that launch nothing to an application; each is called as its function is."""
    for body in bodies:
        application.command(body.__name__.replace("_", "-"), cls=Command)(body)


app = _application()
for _name in ENTRY_POINTS:
    _add(app, _name, _launcher(_name))
_add(app, MAIN, _launcher(MAIN), "main")


@app.command(cls=Command)
def ui(
    host: str = typer.Option("127.0.0.1", "--host", help="address to listen on"),
    port: str = typer.Option("5000", "--port", help="port to listen on"),
) -> None:
    """Show the runs of this folder's store, or of MLFLOW_TRACKING_URI, in the browser."""
    port = str(whole("port", port, 1, 65535))
    fix_environment(working_folder())
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if re.match(r"https?:", uri):
        raise UsageError("MLFLOW_TRACKING_URI", uri, "is a server with a page of its own; open it in a browser")
    from kdops.store.database import ensure_experiment, ensure_store
    from kdops.store.experiment import experiment_name

    ensure_store(uri)
    experiment = ensure_experiment(experiment_name())
    # The page opens on language-model work unless its address asks for another.
    print(f"Runs: http://{host}:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning", flush=True)
    # By the environment, not by an argument: everybody may read arguments, and an address may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    arguments = ["--host", host, "--port", port]
    # For one person's browser one worker is quick to start and enough; MLflow's four, and its job runners
    # for language-model evaluations, take a small machine a minute.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [sys.executable, "-m", "mlflow", "ui", *arguments, "--workers", "1"]
    sys.stdout.flush()
    if os.name == "nt":
        # There exec starts another process and returns to the shell.
        raise typer.Exit(subprocess.call(command))
    # It becomes mlflow ui, so that signals reach that directly.
    os.execv(sys.executable, command)


add_commands(app, (*browse.COMMANDS, *shipping.COMMANDS, *probe.COMMANDS, *care.COMMANDS))
for _name, _module in {"check-data": check_data, "outputs": outputs, "register": register}.items():
    _shared = [p for p in ENTRY_POINTS["students"].parameters() if p.name in _module.SHARED]
    _add_command(app, _name, _module.HELP, [*_shared, *_module.OWN], _module.run, _module.ARGUMENTS)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    """How knowledge moves between neural networks under distillation: tracked, repeatable, with verdicts."""
    if version:
        typer.echo(f"kdops {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return _run(app, "kdops", arguments)


def pipeline_main(entry_point: str, body: Callable[..., object], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one entry point in this process and exit: what ``python -m pipelines.NAME`` does.

    Args:
        entry_point: a key of ``ENTRY_POINTS``.
        body: called with the checked settings, which are of the entry point's own class.
        arguments: the command line; the process's own if left out.
    """

    def checked(given: dict[str, str]) -> None:
        settings = Settings.parse(entry_point, **given)
        if "MLFLOW_RUN_ID" in os.environ:
            end_with_parent()
        with interruptible(), server_patience(ASKED_IN_A_STUDY):
            # What every pipeline imports first of all, which brings MLflow.
            configure_process("kdops.study.open")
            body(settings)

    application = _application()
    _add(application, entry_point, checked)
    sys.exit(_run(application, f"python -m pipelines.{entry_point}", arguments, on_error=note_error))


def _run(
    application: typer.Typer,
    name: str,
    arguments: Sequence[str] | None,
    on_error: Callable[[str], object] = lambda message: None,
) -> int:
    """Run an application; report whatever it raises in one line, and call ``on_error`` with that line."""
    # Figures go into files; a backend that a notebook names for its own pages need not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    with lasting_output():
        return _answered(application, name, arguments, on_error)


def _answered(
    application: typer.Typer, name: str, arguments: Sequence[str] | None, on_error: Callable[[str], object]
) -> int:
    command = typer.main.get_command(application)
    try:
        code = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except KdopsError as error:
        on_error(str(error))
        return _complain(name, str(error), error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        help_of = context.command_path if context else name
        message = f"{_advice(error, arguments)}; see {help_of} --help"
        on_error(message)
        return _complain(name, message, error.exit_code)
    except Exception as error:
        # Only now: it brings MLflow.
        from kdops.store.faults import explained

        fault = explained(error, os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
        if fault is None:
            raise
        on_error(str(fault))
        return _complain(name, str(fault), fault.exit_code)
    return code or 0


def _advice(error: typer.TyperException, arguments: Sequence[str] | None) -> str:
    """Return Typer's message; for an unknown option its value and what there is instead."""
    option = getattr(error, "option_name", "")
    if not option or not error.format_message().startswith("No such option"):
        return error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    known = [option.name for option in context.command.params] if context else []
    spelled = option.replace("_", "-")
    if spelled != option and spelled in map(_dashed, known):
        return f"No such option: {option}; write {spelled}"
    given = list(sys.argv[1:] if arguments is None else arguments)
    after = given[given.index(option) + 1 : given.index(option) + 2] if option in given else []
    value = f"={after[0]}" if after and not after[0].startswith("--") else ""
    return f"{option.lstrip('-')}{value}: no such parameter; there are {', '.join(known)}"


def _complain(name: str, message: str, code: int) -> int:
    program = name.rpartition(".")[2]
    print(f"{program}: {plain_line(redact_secrets(message))}", file=sys.stderr)
    return code
