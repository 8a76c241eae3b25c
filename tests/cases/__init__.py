"""Cases from public bug reports, over the real host: what an upstream sent, and what its client must get.

A test is an entry: its docstring says why and where it was reported, `said` what the upstream answers. The other
values are the same engine's neighbours. All are tried whole and streamed, and natively where the endpoint may
be native.
"""
