"""What is quantized, and on which images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data": [
            "DEFAULT_NORMALIZATION",
            "NORMALIZATION",
            "ImageData",
            "digits_split",
            "enlarge",
            "load_data",
        ],
        "models": ["digits_weights", "load_model", "sha256"],
    },
)
