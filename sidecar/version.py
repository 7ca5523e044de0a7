"""The version of this code.

This is the version of a checkout and of the images. The build of a wheel writes the tag's version here.
"""

__version__ = "0.2.0"
