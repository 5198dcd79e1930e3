import pickle

import pytest

from xpuqlib import errors


def test_what_a_library_raised_follows_the_cause():
    with (
        pytest.raises(errors.RunError, match=r"read: no disk\n  Fix: Buy one\.") as caught,
        errors.explained(OSError, "It cannot be read", "Buy one."),
    ):
        raise OSError("no disk")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(KeyError), errors.explained(OSError, "It cannot be read", "Buy one."):
        raise KeyError


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n.endswith("Error")])
def test_every_error_names_cause_and_fix_and_survives_pickling(name):
    kind = getattr(errors, name)
    error = pickle.loads(pickle.dumps(kind("It broke.", "Fix it so.")))
    assert isinstance(error, errors.XpuqError)
    assert type(error) is kind
    assert str(error) == "It broke.\n  Fix: Fix it so."
