"""What agents ask for at run time: what is offered, what is granted at once, and what people answer."""
