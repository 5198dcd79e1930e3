"""What is here: versions and tracks, devices, the doctor, whole files, the noise of libraries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "environment": [
            "PACKAGES",
            "RESULTS",
            "TRACKS",
            "Track",
            "cache_dir",
            "current_track",
            "installed_version",
            "ipex_mismatch",
            "pt2e_home",
            "requirement_problems",
            "results_folder",
            "triton_packages",
            "versions",
        ],
        "device": [
            "DeviceInfo",
            "choose_device",
            "cpu_has_bf16",
            "cpu_has_vnni",
            "describe_device",
            "synchronize",
        ],
        "doctor": ["Check", "diagnose"],
        "files": ["write_whole"],
        "noise": ["filter_known_noise", "without_native_messages"],
    },
)
