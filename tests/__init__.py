"""The tests mirror the package. They run on real daemons, below a root of their own."""
