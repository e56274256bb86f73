"""data: images of patients and where they come from: files, fetched sets, a generator.

Readers yield `Images` (`konsil.knowledge.data.images`), numpy only. Nothing here imports torch,
but for `images.as_rows` when it is called; nothing executes what a file holds.
"""
