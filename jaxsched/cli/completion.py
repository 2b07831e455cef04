"""`jaxsched completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

from typing import Literal


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

    run(["--tyro-print-completion", shell])
