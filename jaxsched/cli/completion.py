"""`jaxsched completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import contextlib
import io
from typing import Literal

_FILES = """
# A word that is no option is a file, or a folder.
_jaxsched() {
  _tyro_jaxsched "$@"
  local word="${COMP_WORDS[COMP_CWORD]}"
  case "${COMP_WORDS[1]}" in
    sweep | find | convert | report | resume)
      if [[ $COMP_CWORD -gt 1 && $word != -* && ( -z "${COMPREPLY[*]}" || "${COMPREPLY[0]}" == -* ) ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
      fi
      ;;
  esac
}
complete -F _jaxsched jaxsched
"""
"""For bash: tyro completes the options and their values only."""


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print the completion script of a shell, which completes commands, options and choices.

    For bash write it to ~/.local/share/bash-completion/completions/jaxsched, for zsh to a file _jaxsched in a folder of
    $fpath, and for tcsh source it.

    Examples:
      jaxsched completion bash
      jaxsched completion zsh

    Args:
        shell: The shell.
    """
    from . import run

    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        run(["--tyro-print-completion", shell])
    print(script.getvalue() + (_FILES if shell == "bash" else ""), end="")
