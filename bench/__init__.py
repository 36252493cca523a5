"""Side by side with other executors: ``make bench`` measures, ``python -m bench.report`` writes the page.

Speed is measured here and never asserted in a test.
"""
