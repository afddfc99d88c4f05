"""The steps of one pass, in the order in which `mirror.run` takes them; `plan` is the value between them."""
