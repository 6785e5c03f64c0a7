"""The RPMs: what the spec says, and what was built from it. `make rpm-test` runs these, `make test` does not."""
