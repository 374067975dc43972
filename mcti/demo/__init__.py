"""The demo: a cohort of public tables with synthetic slides, and a complete run up to the promotion of a champion."""
