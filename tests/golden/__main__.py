"""Write the golden files anew."""

from tests.golden.capture import HERE, capture

for name, text in capture().items():
    (HERE / name).write_text(text, "utf-8")
