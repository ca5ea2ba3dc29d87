"""The way to the scheduler: enrolment, the session that comes back by itself, and the tasks that arrive in it."""
