"""What is quantized, and on which images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["Batches", "load_batches"],
        "data": [
            "DEFAULT_NORMALIZATION",
            "NORMALIZATION",
            "ImageData",
            "digits_split",
            "enlarge",
            "load_data",
        ],
        "factory": [
            "call_factory",
            "check_weights",
            "factory_file",
            "find_factory",
            "find_file",
            "find_own_model",
            "is_factory",
            "is_own_model",
        ],
        "rescaled": ["FACTORS", "rescale_channels"],
        "models": [
            "check_name",
            "classifiers",
            "digits_weights",
            "least_size",
            "load_model",
            "sha256",
        ],
        "text": ["LENGTH", "WORDS", "TextClassifier", "reviews", "spell"],
        "transformers": ["VIT", "build_transformer", "train_transformer"],
        "own": ["check_model", "load_own_model", "load_weights", "read_weights"],
    },
)
