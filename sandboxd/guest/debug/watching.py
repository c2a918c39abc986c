"""Which of a module's variables a run looks at: those that its code names, not the whole session's."""

from typing import Any

from sandboxd.guest.debug.frames import FrameState, is_hidden_name
from sandboxd.guest.debug.plan import CodePlan


def watch_present(state: FrameState, plans: list[CodePlan], variables: dict[str, Any]) -> None:
    """Looks also at variables of earlier executions, as far as this program names them."""
    known = set(state.watch)
    for plan in plans:
        for name in sorted(plan.used_globals):
            if name in variables and name not in known and not is_hidden_name(name):
                known.add(name)
                state.watch.append(name)


def watch_all(state: FrameState, variables: dict[str, Any]) -> None:
    """Looks at every variable there is: the program can bind what it does not name."""
    known = set(state.watch)
    state.watch += [name for name in list(variables) if name not in known and not is_hidden_name(name)]
