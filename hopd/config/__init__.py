"""The configuration: a YAML file becomes validated, frozen values, or a list of everything that is wrong with it.

source → environment → model        bytes → nodes with marks → ${VAR} filled in → settings
"""
