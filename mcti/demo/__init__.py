"""The demo: a cohort of public tables with painted slides, and the complete run up to a promoted champion."""
