"""A plugin: what it adds, as data. Nothing is imported before it is used."""

from vprism_pipelines.plugins import Entry, Plugin

plugin = Plugin(
    interface=1,
    providers={
        "csv_example": Entry(
            "CSV files of example.com",
            "vprism_example.provider:CsvProvider",
            markets=("us",),
            hosts=("prices.example.com",),
        )
    },
    commands="vprism_example.commands:add_to",
)
