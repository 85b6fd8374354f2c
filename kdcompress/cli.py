"""The command line: errors become one sentence and an exit code. Every heavy import is inside its command.

Exit codes: 0 done, 1 an error that the message explains, 2 wrong usage, 3 a check failed, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kdcompress import __version__, console
from kdcompress.commands import (
    aligning,
    decoding,
    evaluating,
    exporting,
    labelling,
    packing,
    preparing,
    preparing_lines,
    preparing_phones,
    senones,
    shrinking,
    training,
    using,
)
from kdcompress.commands.options import FAILED, INTERRUPTED
from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="kdcompress",
    help="Distil CTC models, export them with proof, stream them on a CPU, report honestly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
preparing_phones.register(preparing.app)
preparing_lines.register(preparing.app)
app.add_typer(preparing.app, name="prepare")
app.add_typer(decoding.lm_app, name="lm")
for stage in (packing, aligning, senones, training, labelling, shrinking, exporting, decoding, using, evaluating):
    app.add_typer(stage.app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; errors become one sentence on stderr."""
    # threads that wait for each other by spinning make small models many times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with console.remarks():
            app(args=None if argv is None else list(argv))
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
        if code == INTERRUPTED:
            console.info("interrupted; nothing is half done, repeat the command to go on")
        return code
    except BrokenPipeError:
        # whoever read our output has gone; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KdcompressError as problem:
        console.error(str(problem))
        return FAILED
    except ModuleNotFoundError as problem:
        console.error(
            f"{problem.name} is not installed; install what this command needs: pip install 'kdcompress[all]'"
        )
        return FAILED
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        console.error(f"{where}{problem.strerror or problem}; free space or correct the path, then repeat the command")
        return FAILED
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        console.stdout().print(f"kdcompress {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distil CTC models, export them with proof, stream them on a CPU, report honestly."""
