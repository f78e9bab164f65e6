"""`storefront`: run a command, and end with the exit code that says what went wrong.

| code | meaning                                                        |
|------|----------------------------------------------------------------|
| 0    | done                                                           |
| 1    | done, and what was looked at is not in order (verify, doctor)  |
| 2    | the command line is wrong                                      |
| 65   | the input cannot be understood                                 |
| 69   | something needed is not there now                              |
| 74   | the journal cannot be read or written                          |
| 78   | the configuration is wrong                                     |
| 130  | ended by Ctrl-C                                                |
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.errors import ConfigError, JournalError, ProtocolError, Rejected, StorefrontError, Unavailable

EXIT_CODES: dict[type[StorefrontError], int] = {
    ConfigError: 78,
    Rejected: 65,
    ProtocolError: 65,
    Unavailable: 69,
    JournalError: 74,
}


def main() -> int:
    """The console command; returns the exit code (see the module's docstring)."""
    try:
        result = _command(sys.argv[1:])
    except StorefrontError as error:
        print(f"storefront: {error.operation}: {error.subject}: {error.reason}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"  what to do: {error.hint}", file=sys.stderr)  # noqa: T201
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `storefront events | head`
        sys.stderr.close()
        return 0
    except Exception as error:
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if callable(show) and isinstance(code, int):  # typer's own errors: a wrong option, a missing argument
            show()
            return code
        if type(error).__name__ == "Abort":  # typer's name for Ctrl-C at a prompt
            return 130
        raise
    return result if isinstance(result, int) else 0


def _command(arguments: list[str]) -> object:
    """Run what the arguments ask for.

    `run` as the service has it is read here: the library of the command line would stay in the daemon for years, 13 MB
    and a tenth of a second of its start. Any other way to write it, its mistakes and its help are that library's.
    """
    match arguments:
        case ["run"]:
            config = None
        case ["run", "--config" | "-c", file] if not file.startswith("-"):
            config = Path(file)
        case _:
            from gateway.cli import app

            return app(arguments, standalone_mode=False)
    from gateway.commands import running

    return running.run(config)


if __name__ == "__main__":
    sys.exit(main())
