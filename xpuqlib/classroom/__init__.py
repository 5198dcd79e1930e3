"""Who learns, and did they: exercises, courses, grading, caches for a room."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exercises": ["check"],
        "quiz": ["Guess"],
        "course": ["Exercise", "make_course", "read_exercises"],
        "grading": ["answered", "grade_name", "prove", "wrong_answers"],
        "caches": ["missing", "prefetch"],
    },
)
