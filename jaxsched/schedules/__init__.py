"""step -> value, and nothing else: pure functions of the step."""
