"""The passes: one module for each, found by themselves.

A pass has `FEATURES`, what it supplies in the words of `features_of` and of the engines' profiles; `ORDER`, its place
among the others; and `rewrite(draft)`. It runs where a request has one of its features and the engine lacks it.
A feature that native profiles name as `rewritten` has its mark in `MARKS`: bytes that no request with it is without.
Such a pass meets requests that nobody has validated.
"""
