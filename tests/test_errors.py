import pickle

import pytest

from xpuqlib import errors


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n.endswith("Error")])
def test_every_error_names_cause_and_mend_and_survives_pickling(name):
    kind = getattr(errors, name)
    error = pickle.loads(pickle.dumps(kind("It broke.", "Mend it so.")))
    assert isinstance(error, errors.XpuqError)
    assert type(error) is kind
    assert str(error) == "It broke.\n  Mend: Mend it so."
