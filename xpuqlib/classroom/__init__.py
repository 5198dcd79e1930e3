"""Who learns, and did they: exercises, courses, grading, caches for a room."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exercises": ["check"],
        "course": ["Exercise", "course_page", "make_course", "read_exercises", "read_guide"],
        "quiz": ["Guess"],
        "grading": ["answered", "grade_name", "prove", "wrong_answers"],
        "reading": ["reader_copy"],
        "caches": ["missing", "prefetch"],
    },
)
