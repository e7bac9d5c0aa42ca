pytest_plugins = [  # each after those that it imports
    "fixtures.options",
    "fixtures.launched",
    "fixtures.parametrize",
    "fixtures.model",
    "fixtures.planned",
    "fixtures.exclusive",
    "fixtures.progress",
    "fixtures.measure",
    "fixtures.history",
    "fixtures.summary",
    "fixtures.harness",
]
