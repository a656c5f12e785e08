"""A local Retell to develop against: invented calls, reported the way Retell reports real ones."""
