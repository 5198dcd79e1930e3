import logging
import os
import warnings

from xpuqlib.machine.noise import KNOWN, filter_known_noise, without_native_messages


def test_every_filter_has_a_reason():
    assert set(KNOWN) == {"warnings", "log_messages", "native_lines"}
    assert all(len(known["reason"]) > 20 for section in KNOWN.values() for known in section)


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


def test_lines_of_the_profiler_go_and_others_stay(capfd):
    with without_native_messages():
        os.write(2, b"USDT:2026 1:1 SyncActivityProfilerHandler.cpp:39] profiler_start\n")
        os.write(2, b"something else\n")
    os.write(2, b"afterwards\n")
    assert sorted(capfd.readouterr().err.splitlines()) == ["afterwards", "something else"]


def test_lines_come_through_when_the_profiled_code_fails(capfd):
    try:
        with without_native_messages():
            os.write(2, b"the reason\n")
            raise RuntimeError
    except RuntimeError:
        pass
    assert capfd.readouterr().err == "the reason\n"
