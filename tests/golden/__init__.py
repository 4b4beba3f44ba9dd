"""What programs and people outside capx rely on, byte for byte but for ids, keys and times.

`python -m tests.golden` writes the files anew; a change of one is a change that others see. After a
release it belongs in CHANGELOG.
"""
