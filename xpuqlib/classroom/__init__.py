"""For workshops: nbgrader courses made from the lessons, the proof that they grade, the caches."""
