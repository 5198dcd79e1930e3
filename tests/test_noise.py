import logging
import warnings

from xpuqlib.noise import LOG_MESSAGES, WARNINGS, filter_known_noise


def test_every_filter_has_a_reason():
    assert all(len(reason) > 20 for *_, reason in WARNINGS + LOG_MESSAGES)


def test_known_messages_go_and_others_stay(caplog):
    logger = logging.getLogger("torch.utils.cpp_extension")
    logger.addHandler(caplog.handler)
    try:
        filter_known_noise()
        logger.warning("No CUDA runtime is found, using CUDA_HOME=x")
        logger.warning("Something else")
    finally:
        logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"Something else"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filter_known_noise()
        warnings.warn("To copy construct from a tensor, it is recommended …", stacklevel=1)
        warnings.warn("To copy something else", stacklevel=1)
    assert [str(w.message) for w in caught] == ["To copy something else"]
