"""The demo: a cohort of public tables with painted slides, and the run from nothing to a promoted champion."""
