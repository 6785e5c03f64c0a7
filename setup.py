"""Everything is in setup.cfg; this file is for the pip of Python 3.6."""

from setuptools import setup

setup()
