"""nbgrader's settings for this course."""

c = get_config()  # noqa: F821  nbgrader gives it

c.CourseDirectory.course_id = "xpuqlib"
# An open exercise must not stop the lesson, so the stub raises nothing.
c.ClearSolutions.code_stub = {"python": "pass  # YOUR ANSWER HERE"}
c.Execute.timeout = 900  # seconds for one cell; the first run also compiles and trains
c.LimitOutput.max_lines = 2000
